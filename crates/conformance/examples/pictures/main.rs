//! The pictures of `docs/guide/losses.md`, drawn from what the code does.
//!
//! ```console
//! $ cargo run -p nearfar-conformance --example pictures -- docs/images/guide            writes them
//! $ cargo run -p nearfar-conformance --example pictures -- docs/images/guide --check    fails where one would change
//! ```
//!
//! `cargo xtask docs` does both for the whole of the documentation. The pictures have the same bytes on every run: what they
//! show is computed in f64 and written with one decimal.

#![allow(clippy::print_stdout)] // It says what it wrote.

use std::path::Path;
use std::process::ExitCode;

mod contour;
mod fields;
mod handwriting;
mod miners;
mod panels;
mod pull;
mod samplers;
mod svg;

type Picture = (&'static str, fn() -> candle_core::Result<String>);

const PICTURES: [Picture; 8] = [
    ("reading.svg", fields::reading),
    ("pairs_and_triplets.svg", fields::pairs_and_triplets),
    ("lists.svg", fields::lists),
    ("centers.svg", fields::centers),
    ("several.svg", fields::several),
    ("one_anchor.svg", miners::one_anchor),
    ("miners.svg", miners::plane_of_distances),
    ("samplers.svg", samplers::batches),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, check) = match &arguments[..] {
        [folder] => (Path::new(folder), false),
        [folder, flag] if flag == "--check" => (Path::new(folder), true),
        _ => {
            eprintln!("usage: pictures FOLDER [--check]");
            return ExitCode::from(2);
        }
    };
    match run(folder, check) {
        Ok(changed) if check && !changed.is_empty() => {
            eprintln!("error: not up to date: {}", changed.join(", "));
            ExitCode::FAILURE
        }
        Ok(changed) => {
            if !check {
                changed.iter().for_each(|path| println!("{path}: written"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Draws all; the paths of those that differ from what is there, which are written unless this is a check.
fn run(folder: &Path, check: bool) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut changed = Vec::new();
    for (name, draw) in PICTURES {
        let (path, picture) = (folder.join(name), draw()?);
        if std::fs::read_to_string(&path).is_ok_and(|found| found == picture) {
            continue;
        }
        if !check {
            std::fs::create_dir_all(folder)?;
            std::fs::write(&path, picture)?;
        }
        changed.push(path.display().to_string());
    }
    Ok(changed)
}
