//! Layer normalization.
//!
//! | tensors | version |
//! |---|---|
//! | `f32` on a CPU | `cpu.rs`, one custom operation on the kernels of `slices` |
//! | any other device or type | `reference.rs`, on [`standardize`](crate::standardize) |

mod cpu;
mod reference;

use candle_core::{D, DType, Result, Tensor, bail};

pub use reference::reference;

/// Rows, along the last dimension, shifted and scaled to mean 0 and variance 1, and then scaled and shifted by column:
///
/// ```text
/// y = weight (x − mean) / √(variance + eps) + bias
/// ```
///
/// with the biased variance. `x` is `(…, c)`, `weight` and `bias` are `(c)`. A constant row becomes the bias, with a finite gradient. In
/// `f32` on a CPU it is one operation of the graph, with the same bits for any number of threads.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 3.0], [5.0, 5.0]], &Device::Cpu)?;
/// let (weight, bias) = (Tensor::new(&[2f32, 4.0], &Device::Cpu)?, Tensor::new(&[0f32, 1.0], &Device::Cpu)?);
/// let y = nearfar_kernels::layer_norm(&x, &weight, Some(&bias), 3.0)?; // Variance 1, and 1 + 3 = 2².
/// assert_eq!(y.to_vec2::<f32>()?, [[-1.0, 3.0], [0.0, 1.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// Source: Ba, Kiros, Hinton, "Layer normalization", 2016, <https://arxiv.org/abs/1607.06450>.
///
/// # Errors
///
/// If the shapes do not fit one another, the number types differ, or `eps` is not greater than 0.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?; // A scalar has no rows.
    for (name, parameter) in [("weight", Some(weight)), ("bias", bias)] {
        let Some(parameter) = parameter else { continue };
        if parameter.dims() != [width] {
            bail!(
                "layer_norm: `{name}` has shape {:?}, rows of `x` have {width} numbers",
                parameter.dims()
            );
        }
        if parameter.dtype() != x.dtype() {
            bail!(
                "layer_norm: `x` is of {:?}, and `{name}` of {:?}; they must agree",
                x.dtype(),
                parameter.dtype()
            );
        }
    }
    if !(eps > 0.0 && eps.is_finite()) {
        bail!(
            "layer_norm: `eps` is {eps}; it must be greater than 0, or a constant row has no gradient"
        );
    }
    let serves = x.device().is_cpu() && x.dtype() == DType::F32;
    if serves && x.elem_count() > 0 {
        cpu::layer_norm(x, weight, bias, eps)
    } else {
        reference(x, weight, bias, eps)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::test_util::{check_agreement, check_gradient, noise};

    #[test]
    fn it_is_the_composition_of_any_shape() -> Result<()> {
        // Whole vectors of every instruction set and rests; one task and several.
        for shape in [&[1, 1][..], &[3, 2], &[2, 3, 16], &[5, 37], &[300, 130]] {
            let width = shape[shape.len() - 1];
            let single = |x: Tensor| x.to_dtype(DType::F32);
            let x = single((noise(shape, 1)? + 3.0)?)?;
            let (weight, bias) = (single(noise(width, 2)?)?, single(noise(width, 3)?)?);
            let parts = [x, weight, bias];
            check_agreement(
                |x| layer_norm(&x[0], &x[1], Some(&x[2]), 1e-3),
                |x| reference(&x[0], &x[1], Some(&x[2]), 1e-3),
                &parts,
                2e-5,
            )?;
            check_agreement(
                |x| layer_norm(&x[0], &x[1], None, 1e-3),
                |x| reference(&x[0], &x[1], None, 1e-3),
                &parts[..2],
                2e-5,
            )?;
        }
        Ok(())
    }

    #[test]
    fn the_gradient_of_the_reference_is_right() -> Result<()> {
        let parts = [noise((3, 4), 1)?, noise(4, 2)?, noise(4, 3)?];
        check_gradient(
            |x| layer_norm(&x[0], &x[1], Some(&x[2]), 1e-3),
            &parts,
            1e-6,
        )
    }

    #[test]
    fn a_constant_row_becomes_the_bias_with_a_finite_gradient() -> Result<()> {
        let weight = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)?;
        let bias = Tensor::new(&[4f32, 5.0, 6.0], &Device::Cpu)?;
        let x = Var::new(&[[1e6f32, 1e6, 1e6], [0.0, 0.0, 0.0]], &Device::Cpu)?;
        let y = layer_norm(&x, &weight, Some(&bias), 1e-12)?;
        assert_eq!(y.to_vec2::<f32>()?, [[4.0, 5.0, 6.0]; 2]);
        let gradients = y.sqr()?.backward()?;
        let gradient = gradients.get(&x).expect("it depends on its input");
        let sum = gradient.abs()?.sum_all()?.to_scalar::<f32>()?;
        assert!(sum.is_finite());
        Ok(())
    }

    #[test]
    fn rows_far_from_zero_and_huge_ones_keep_their_digits_and_nan_is_seen() -> Result<()> {
        // Below and above whole vectors of every instruction set.
        for width in [4, 36] {
            let ones = Tensor::ones(width, DType::F32, &Device::Cpu)?;
            let row = |low: f32, high: f32| (0..width).map(move |i| [low, high][i % 2]);
            let far = row(65537.0, 65539.0);
            let huge = row(-1e25, 1e25);
            let nan = (0..width).map(|i| if i == 1 { f32::NAN } else { i as f32 });
            let x: Vec<f32> = far.chain(huge).chain(nan).collect();
            let x = Tensor::from_vec(x, (3, width), &Device::Cpu)?;
            let y = layer_norm(&x, &ones, None, 1e-12)?.to_vec2::<f32>()?;
            let wanted = row(-1.0, 1.0).chain(row(-1.0, 1.0));
            for (y, wanted) in y[..2].iter().flatten().zip(wanted) {
                assert!((y - wanted).abs() < 1e-6, "{y} {wanted}");
            }
            assert!(y[2].iter().all(|y| y.is_nan()));
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_told() -> Result<()> {
        let (x, weight) = (noise((2, 3), 1)?, noise(2, 1)?);
        let error = layer_norm(&x, &weight, None, 1e-5).expect_err("3 and 2");
        assert!(
            error
                .to_string()
                .contains("`weight` has shape [2], rows of `x` have 3"),
            "{error}"
        );
        let weight = noise(3, 1)?;
        assert!(layer_norm(&x, &weight, None, 0.0).is_err());
        let bias = weight.to_dtype(DType::F32)?;
        assert!(layer_norm(&x, &weight, Some(&bias), 1e-5).is_err());
        let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?;
        assert_eq!(layer_norm(&empty, &bias, None, 1e-5)?.dims(), [0, 3]);
        Ok(())
    }
}
