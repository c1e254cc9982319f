//! Normalization of each row by its size.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Error, Mode, Positive};
use nearfar_kernels::rms_normalize;

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// Divides each row by the root of its mean square, as torch's `RMSNorm` over the last dimension:
///
/// ```text
/// y = x / √(mean of x² + eps) · weight
/// ```
///
/// Its tensor is `weight` `(width)`, which starts at 1.
///
/// Source: Zhang, Sennrich, "Root mean square layer normalization", NeurIPS 2019, <https://arxiv.org/abs/1910.07467>.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Weight,
    eps: f64,
}

impl RmsNorm {
    /// A normalization of rows of `width` numbers. Published networks have `eps` of 1e−5 or 1e−6.
    ///
    /// # Errors
    /// For a width of 0, and those of [`Params::weight`].
    pub fn new(params: &Params, width: usize, eps: Positive) -> Result<Self> {
        size("rms_norm", "width", width)?;
        Ok(Self {
            weight: params.weight("weight", width, Init::Constant(1.0))?,
            eps: eps.get(),
        })
    }

    /// `(…, width)` to the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last dimension is another.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        let width = weight.dim(0)?;
        if x.rank() == 0 || x.dim(D::Minus1)? != width {
            Err(Error::Shape(format!(
                "rms_norm: the input has shape {:?}; (…, {width}) is wanted",
                x.dims()
            )))?;
        }
        rms_normalize(x, self.eps)?.broadcast_mul(&weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn a_row_is_divided_by_its_size_and_not_shifted() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let layer = RmsNorm::new(&params, 2, Positive::literal(7.0))?;
        params.set("weight", &Tensor::new(&[1f64, 2.0], &Device::Cpu)?)?;
        let x = Tensor::new(&[[3f64, 3.0], [0.0, 0.0]], &Device::Cpu)?; // 9 + 7 = 4²
        let y = layer.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.to_vec2::<f64>()?, [[0.75, 1.5], [0.0, 0.0]]);
        let error = layer.forward(&x.narrow(1, 0, 1)?, &mut Mode::Eval);
        let error = error.expect_err("rows of one").to_string();
        assert!(
            error.contains("[2, 1]") && error.contains("(…, 2)"),
            "{error}"
        );
        Ok(())
    }
}
