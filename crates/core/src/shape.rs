//! Checks of shapes at the public edge, with messages that name the argument and both shapes.

use candle_core::{Result, Tensor};

use crate::Error;

/// Both have one shape.
///
/// # Errors
/// [`Error::Shape`]: ``triplet_margin: `positive` has shape [32], `negative` [31]; they must agree``.
pub fn same(
    place: &str,
    (left_name, left): (&str, &Tensor),
    (right_name, right): (&str, &Tensor),
) -> Result<()> {
    if left.dims() == right.dims() {
        return Ok(());
    }
    Err(Error::Shape(format!(
        "{place}: `{left_name}` has shape {:?}, `{right_name}` {:?}; they must agree",
        left.dims(),
        right.dims()
    )))?
}

/// A matrix; gives its two sizes.
///
/// # Errors
/// [`Error::Shape`] for any other rank.
pub fn matrix(place: &str, (name, tensor): (&str, &Tensor)) -> Result<(usize, usize)> {
    match tensor.dims() {
        [rows, columns] => Ok((*rows, *columns)),
        other => Err(Error::Shape(format!(
            "{place}: `{name}` has shape {other:?}; a matrix (rows, dimensions) is wanted"
        )))?,
    }
}

/// Two sets of rows of one width; gives `(n, m, d)`.
///
/// # Errors
/// [`Error::Shape`] when one is no matrix or the widths differ.
pub fn rows_of_one_width(
    place: &str,
    x: (&str, &Tensor),
    y: (&str, &Tensor),
) -> Result<(usize, usize, usize)> {
    let ((n, d), (m, other)) = (matrix(place, x)?, matrix(place, y)?);
    if d != other {
        Err(Error::Shape(format!(
            "{place}: rows of `{}` have {d} dimensions, rows of `{}` {other}; they must agree",
            x.0, y.0
        )))?;
    }
    Ok((n, m, d))
}

/// A list has the wanted length.
///
/// # Errors
/// [`Error::Shape`] with both lengths.
pub fn length(
    place: &str,
    (name, length): (&str, usize),
    (other_name, wanted): (&str, usize),
) -> Result<()> {
    if length == wanted {
        return Ok(());
    }
    Err(Error::Shape(format!(
        "{place}: `{name}` has {length} entries, `{other_name}` {wanted}; they must agree"
    )))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn messages_name_both_shapes() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).expect("small");
        let error = same(
            "triplet_margin",
            ("positive", &zeros(&[32])),
            ("negative", &zeros(&[31])),
        )
        .expect_err("differ");
        assert_eq!(
            error.to_string(),
            "triplet_margin: `positive` has shape [32], `negative` [31]; they must agree"
        );
        let error = rows_of_one_width("euclidean", ("x", &zeros(&[2, 3])), ("y", &zeros(&[2, 4])))
            .expect_err("differ");
        assert_eq!(
            error.to_string(),
            "euclidean: rows of `x` have 3 dimensions, rows of `y` 4; they must agree"
        );
        assert!(matrix("euclidean", ("x", &zeros(&[3]))).is_err());
    }
}
