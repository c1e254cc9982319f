//! Square matrices as they are written: lists of rows.

use nearfar_core::Error;

/// Rows of one length, one after another.
pub(crate) fn flat(place: &str, name: &str, rows: &[Vec<f64>]) -> Result<Vec<f64>, Error> {
    let columns = rows.first().map_or(0, Vec::len);
    match rows.iter().position(|row| row.len() != columns) {
        None => Ok(rows.concat()),
        Some(row) => Err(Error::Settings(format!(
            "{place}: row {row} of `{name}` has {} numbers, row 0 has {columns}; they must agree",
            rows[row].len()
        ))),
    }
}

/// All numbers are finite.
pub(crate) fn finite(place: &str, name: &str, numbers: &[f64], dim: usize) -> Result<(), Error> {
    match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::Settings(format!(
            "{place}: `{name}` has {} in row {}, column {}; all must be finite numbers",
            numbers[at],
            at / dim,
            at % dim
        ))),
    }
}

/// There are as many numbers as a square has.
pub(crate) fn square(place: &str, name: &str, numbers: &[f64], dim: usize) -> Result<(), Error> {
    if dim > 0 && numbers.len() == dim * dim {
        return Ok(());
    }
    Err(Error::Settings(format!(
        "{place}: `{name}` has {} numbers; a square one of {dim} columns has {}",
        numbers.len(),
        dim * dim
    )))
}
