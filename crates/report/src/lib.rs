#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))] // A test that panics fails, which is what it is for.

// The page, from the whole to its parts.
mod page;

mod chart;
mod scatter;
mod sprite;

mod escape;

mod tensorboard;

mod error;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use nearfar_eval::Report;

pub use error::{Error, Result};
pub use page::{LARGEST_PAGE, page as html};
pub use tensorboard::{Event, EventWriter, Value, ValueKind, read_events};

/// Writes [`html`] of a report to a file: beside its place, synced and renamed.
///
/// # Errors
/// When it cannot be written. What was there before then still is.
pub fn write_html(path: &Path, report: &Report) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.tmp-{}", std::process::id()));
    let page = html(report);
    let written = File::create(&aside)
        .and_then(|mut file| {
            file.write_all(page.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| std::fs::rename(&aside, path));
    written.map_err(|source| {
        std::fs::remove_file(&aside).ok();
        Error::Write {
            path: path.display().to_string(),
            source,
        }
    })
}
