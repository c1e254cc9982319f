//! What becomes of an error: the end, or a line of a list.

use super::Error;

/// Where what is wrong with data goes: an end at the first, or a list of all.
pub(crate) trait Sink {
    fn take(&mut self, error: Error) -> Result<(), Error>;
}

/// Ends at the first that is more than a warning.
pub(crate) struct Strict;

impl Sink for Strict {
    fn take(&mut self, error: Error) -> Result<(), Error> {
        if error.is_warning() {
            Ok(())
        } else {
            Err(error)
        }
    }
}
