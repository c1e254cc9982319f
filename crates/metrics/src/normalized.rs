//! Distances of rows divided by their length.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Axioms, Distance, Form, Similarity};
use nearfar_kernels::{TINY_NORM, absolute, l2_normalize};

use crate::{Chebyshev, Euclidean, Exponent, Minkowski};

/// A distance or similarity of the rows divided by their length.
///
/// A row of zeros stays where it is and has gradient 0. Rows of one direction are one point to it, so it does not separate
/// them; the other axioms are those of what it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalized<T> {
    inner: T,
    length: Length,
}

/// What is called the length of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// `√Σ x²`
    #[default]
    Euclidean,
    /// `Σ |x|`
    Manhattan,
    /// `(Σ |x|^p)^{1/p}`
    Minkowski(Exponent),
    /// `max |x|`
    Chebyshev,
}

impl<T> Normalized<T> {
    /// Of rows of Euclidean length 1.
    pub const fn new(inner: T) -> Self {
        Self {
            inner,
            length: Length::Euclidean,
        }
    }

    /// Of rows of length 1 in another sense. `LpDistance(p=1)` of pytorch-metric-learning divides by the sum of absolute
    /// values.
    pub const fn by(length: Length, inner: T) -> Self {
        Self { inner, length }
    }

    fn both(&self, x: &Tensor, y: &Tensor) -> Result<(Tensor, Tensor)> {
        let rows = self.length.divided(x)?;
        let others = if x.id() == y.id() {
            rows.clone()
        } else {
            self.length.divided(y)?
        };
        Ok((rows, others))
    }

    fn form(&self, inner: Form) -> Form {
        match (inner, self.length) {
            (Form::Gram { kind, .. }, Length::Euclidean) => Form::Gram {
                kind,
                unit_rows: true,
            },
            _ => Form::General,
        }
    }
}

impl Length {
    /// The length of each row: `(n, d) → (n, 1)`.
    fn of(self, x: &Tensor) -> Result<Tensor> {
        let distance: &dyn Distance = match self {
            Self::Euclidean => &Euclidean {},
            Self::Manhattan => return absolute(x)?.sum_keepdim(D::Minus1),
            Self::Minkowski(p) => &Minkowski {
                p,
                ..Minkowski::default()
            },
            Self::Chebyshev => &Chebyshev {},
        };
        distance.paired(x, &x.zeros_like()?)?.unsqueeze(D::Minus1)
    }

    /// The rows divided by it.
    fn divided(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Euclidean => l2_normalize(x),
            _ => {
                let length = self.of(x)?;
                let tiny = length.lt(TINY_NORM)?;
                let divided = x.broadcast_div(&tiny.where_cond(&length.ones_like()?, &length)?)?;
                let still = (x.detach() / TINY_NORM)?;
                tiny.broadcast_as(x.shape())?.where_cond(&still, &divided)
            }
        }
    }
}

impl<T: Distance> Distance for Normalized<T> {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (x, y) = self.both(x, y)?;
        self.inner.matrix(&x, &y)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (x, y) = self.both(x, y)?;
        self.inner.paired(&x, &y)
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            separates: false,
            ..self.inner.axioms()
        }
    }

    fn form(&self) -> Form {
        self.form(self.inner.form())
    }
}

impl<T: Similarity> Similarity for Normalized<T> {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (x, y) = self.both(x, y)?;
        self.inner.matrix(&x, &y)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (x, y) = self.both(x, y)?;
        self.inner.paired(&x, &y)
    }

    fn form(&self) -> Form {
        self.form(self.inner.form())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use nearfar_core::Gram;

    use super::*;
    use crate::Manhattan;

    #[test]
    fn rows_are_divided_by_their_length_first() -> Result<()> {
        let x = Tensor::new(&[[3f64, 0.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[0f64, 0.5], [7.0, 0.0], [0.0, 0.0]], &Device::Cpu)?;
        let distances = Normalized::new(Euclidean {})
            .matrix(&x, &y)?
            .to_vec2::<f64>()?;
        assert_eq!(distances, [[2f64.sqrt(), 0.0, 1.0]]);
        let y = Tensor::new(&[[1f64, -3.0]], &Device::Cpu)?;
        let distances = Normalized::by(Length::Manhattan, Manhattan {}).matrix(&x, &y)?;
        assert_eq!(distances.to_vec2::<f64>()?, [[1.5]]); // (1, 0) to (1/4, −3/4).
        let form = Distance::form(&Normalized::new(Euclidean {}));
        let unit_rows = true;
        assert_eq!(
            form,
            Form::Gram {
                kind: Gram::Euclidean,
                unit_rows
            }
        );
        Ok(())
    }

    #[test]
    fn a_row_of_zeros_has_gradient_zero_in_every_length() -> Result<()> {
        let p = Length::Minkowski(Exponent::new(3.0)?);
        for length in [Length::Euclidean, Length::Manhattan, p, Length::Chebyshev] {
            let x = Var::new(&[[0f64, 0.0], [1.0, 2.0]], &Device::Cpu)?;
            let distances = Normalized::by(length, Manhattan {}).matrix(&x, &x)?;
            let gradients = distances.backward()?;
            let gradient = gradients.get(&x).expect("it depends on its rows");
            let gradient = gradient.to_vec2::<f64>()?;
            assert_eq!(gradient[0], [0.0, 0.0], "{length:?}");
            assert!(gradient[1].iter().all(|g| g.is_finite()), "{length:?}");
        }
        Ok(())
    }
}
