//! `cargo xtask fetch-data`: data sets by name.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use nearfar_catalogue::{
    Catalogue, DataSet, Status, data_folder,
    fetch::{self, Event, Options, Outcome, Source},
    status,
};

use crate::{Error, chain};

#[derive(Debug, Args)]
#[command(after_help = "Without a name it is all of them. Mind the license of each data set.")]
pub(crate) struct FetchData {
    /// Names of data sets
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Take them from a mirror: a folder, or the address of one (https://, file://)
    #[arg(long, value_name = "DIR|URL", conflicts_with = "list")]
    from: Option<OsString>,
    /// Say what there is and what of it is here, by the sizes of files
    #[arg(long)]
    list: bool,
    /// Folder of the data sets [default: NEARFAR_DATASETS, or `data` in the repository]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl FetchData {
    pub(crate) fn run(&self, root: &Path) -> Result<(), Error> {
        let catalogue = Catalogue::builtin();
        let sets: Vec<&DataSet> = if self.names.is_empty() {
            catalogue.iter().collect()
        } else {
            self.names
                .iter()
                .map(|name| catalogue.get(name))
                .collect::<Result<_, _>>()?
        };
        let data = self
            .data
            .clone()
            .unwrap_or_else(|| root.join(data_folder()));
        if self.list {
            print!("{}", table(&sets, &data));
            return Ok(());
        }
        let source = self
            .from
            .as_deref()
            .map_or(Ok(Source::Upstream), Source::try_from)?;
        let (mut failed, mut worst) = (Vec::new(), 0);
        for set in sets {
            match fetch::fetch(
                set,
                &data,
                &source,
                &Options::default(),
                &mut Progress::default().watcher(),
            ) {
                Ok(files) => println!("{}", done(set, &data, &files)),
                Err(error) => {
                    let error = Error::from(error);
                    eprintln!("error: {}: {}", set.name, chain(&error));
                    failed.push(set.name.clone());
                    worst = worst.max(error.exit_code());
                }
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Error::Sets {
                names: failed,
                code: worst,
            })
        }
    }
}

/// Lines on the standard error for what happens; of a transfer at most one each second.
#[derive(Default)]
struct Progress {
    last: Option<Instant>,
}

impl Progress {
    fn watcher(mut self) -> impl FnMut(Event<'_>) {
        move |event| match event {
            Event::Bytes { file, done, total } => {
                let last = *self.last.get_or_insert_with(Instant::now);
                if last.elapsed() >= Duration::from_secs(1) {
                    self.last = Some(Instant::now());
                    match total {
                        Some(total) => eprintln!("  {file}: {} of {}", size(done), size(total)),
                        None => eprintln!("  {file}: {}", size(done)),
                    }
                }
            }
            other => eprintln!("  {other}"),
        }
    }
}

/// One line for a data set that is here.
fn done(set: &DataSet, data: &Path, files: &[(String, Outcome)]) -> String {
    if files.is_empty() {
        return format!(
            "{}: inside nearfar, nothing to fetch ({})",
            set.name, set.license
        );
    }
    let count = |wanted: fn(&Outcome) -> bool| files.iter().filter(|(_, it)| wanted(it)).count();
    let fetched = count(|it| matches!(it, Outcome::Fetched(_)));
    let present = count(|it| matches!(it, Outcome::Present(_)));
    let skipped = count(|it| matches!(it, Outcome::Skipped(_)));
    let mut line = format!("{}: {fetched} fetched, {present} there before, ", set.name);
    if skipped > 0 {
        line.push_str(&format!("{skipped} left out, "));
    }
    let terms = if set.commercial_use {
        ""
    } else {
        "; not for commercial use"
    };
    line.push_str(&format!(
        "all verified, in {} ({}{terms})",
        data.join(&set.name).display(),
        set.license
    ));
    line
}

/// The data sets in columns.
fn table(sets: &[&DataSet], data: &Path) -> String {
    let here = |set: &DataSet| match status(data, set) {
        Status::Present if set.files.is_empty() => "inside nearfar".to_owned(),
        Status::Present => "present".to_owned(),
        Status::Missing { files }
            if files.len() < set.files.iter().filter(|it| !it.optional).count() =>
        {
            format!("incomplete: lacks {}", files.join(", "))
        }
        Status::Missing { .. } => "not here".to_owned(),
        Status::Damaged { faults } => format!("damaged: {}", faults.join("; ")),
    };
    let head = ["name", "title", "size", "license", "status"].map(str::to_owned);
    let rows: Vec<[String; 5]> = sets
        .iter()
        .map(|set| {
            [
                set.name.clone(),
                set.title.clone(),
                size(set.bytes()),
                set.license.clone(),
                here(set),
            ]
        })
        .collect();
    let widths: [usize; 5] = std::array::from_fn(|column| {
        std::iter::once(&head)
            .chain(&rows)
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[column] - cell.chars().count());
            // Numbers end at one line, words begin at one.
            line.push_str(&if column == 2 {
                format!("{gap}{cell}  ")
            } else {
                format!("{cell}{gap}  ")
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Bytes for a person.
fn size(bytes: u64) -> String {
    match bytes {
        0 => "-".to_owned(),
        1..10_240 => format!("{bytes} B"),
        10_240..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_set_and_says_what_is_here() {
        let catalogue = Catalogue::builtin();
        let sets: Vec<_> = catalogue.iter().collect();
        let table = table(&sets, Path::new("no such folder"));
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), sets.len() + 1);
        assert!(
            lines[0].starts_with("name  ") && lines[0].ends_with("status"),
            "{}",
            lines[0]
        );
        let line = |name: &str| {
            lines
                .iter()
                .find(|it| it.starts_with(name))
                .copied()
                .unwrap_or_default()
        };
        assert!(line("digits ").ends_with("inside nearfar"), "{table}");
        assert!(
            line("mnist ").contains("11.1 MiB  CC-BY-SA-3.0")
                && line("mnist ").ends_with("not here"),
            "{table}"
        );
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [0, 999, 20_480, 11_594_722].map(size),
            ["-", "999 B", "20.0 KiB", "11.1 MiB"]
        );
    }
}
