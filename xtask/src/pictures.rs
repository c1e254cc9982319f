//! The pictures of the guide, drawn by an example of `nearfar-conformance`, which sees all crates.

use std::path::Path;

use crate::{Error, program};

/// Draws them, or with `check` fails where one would change.
pub(crate) fn run(root: &Path, check: bool) -> Result<(), Error> {
    let arguments = [
        "run",
        "--quiet",
        "--package",
        "nearfar-conformance",
        "--example",
        "pictures",
        "--",
        "docs/images/guide",
    ];
    let check = check.then_some("--check");
    program::run(&program::cargo(), arguments.into_iter().chain(check), root)
}
