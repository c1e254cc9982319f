//! The pictures of the guide, drawn by an example of `nearfar-conformance`, which sees all crates.

use std::path::Path;

use crate::{Error, program};

/// Draws them with the program at that path, or with `check` fails where one would change.
pub(crate) fn run(root: &Path, pictures: &str, check: bool) -> Result<(), Error> {
    let check = check.then_some("--check");
    program::run(
        pictures,
        ["docs/images/guide"].into_iter().chain(check),
        root,
    )
}
