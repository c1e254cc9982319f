//! Prints what the catalogue knows, and what of it is here.
//!
//! ```text
//! cargo run -p nearfar-catalogue --example list
//! ```

#![allow(clippy::print_stdout)] // An example's results are what it prints.

use nearfar_catalogue::{Catalogue, Status, data_folder, status};

fn main() {
    let data = data_folder();
    for set in Catalogue::builtin().iter() {
        let here = match status(&data, set) {
            Status::Present => "present".to_owned(),
            Status::Missing { files } => format!("lacks {}", files.join(", ")),
            Status::Damaged { faults } => faults.join("; "),
        };
        println!(
            "{}\n  {}\n  {}, {} samples, {:?}: {here}",
            set.name, set.title, set.license, set.samples, set.modality
        );
        for split in &set.splits {
            println!("  split {}: {}", split.name, split.about);
        }
    }
}
