//! Linear maps.
//!
//! | tensors | version |
//! |---|---|
//! | `f32` on a CPU | `cpu.rs`, one custom operation on the kernels of `slices` |
//! | any other device or type | `reference.rs`, candle operations |

mod cpu;
mod reference;

use candle_core::{DType, Result, Tensor, bail};

pub use reference::reference;

/// A linear map of rows, `x Wᵀ + b`: `x (n, i)`, `weight (o, i)` and `bias (o)` → `(n, o)`.
///
/// In `f32` on a CPU it is one operation of the graph: neither a turned copy of the weights nor a broadcast bias is made, the gradient of
/// `x` is computed only where something in its graph is a variable, and the result has the same bits for any number of threads.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, -1.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32, 0.5, 0.0], &Device::Cpu)?;
/// let y = nearfar_kernels::linear(&x, &weight, Some(&bias))?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.0, 2.5, -1.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If the shapes do not fit one another, or the number types differ.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((n, inputs), (outputs, expected)) = (x.dims2()?, weight.dims2()?);
    if inputs != expected {
        bail!("linear: `x` has rows of {inputs} numbers, `weight` expects {expected}");
    }
    if let Some(bias) = bias
        && bias.dims() != [outputs]
    {
        bail!(
            "linear: `bias` has shape {:?}, `weight` gives {outputs} numbers",
            bias.dims()
        );
    }
    let types = [Some(x), Some(weight), bias];
    if let Some(other) = types
        .into_iter()
        .flatten()
        .find(|it| it.dtype() != x.dtype())
    {
        bail!(
            "linear: `x` is of {:?}, and a parameter of {:?}; they must agree",
            x.dtype(),
            other.dtype()
        );
    }
    let serves = x.device().is_cpu() && x.dtype() == DType::F32;
    if serves && n * inputs * outputs > 0 {
        cpu::linear(x, weight, bias)
    } else {
        reference(x, weight, bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{check_agreement, check_gradient, noise};

    fn with_bias(
        version: fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>,
    ) -> impl Fn(&[Tensor]) -> Result<Tensor> {
        move |x| version(&x[0], &x[1], Some(&x[2]))
    }

    #[test]
    fn it_is_the_composition_of_any_shape() -> Result<()> {
        // Few rows and many; one block of the inner dimension and several; whole vectors and rests.
        let shapes = [
            (1, 1, 1),
            (5, 3, 7),
            (96, 64, 48),
            (97, 16, 64),
            (130, 37, 21),
            (33, 600, 75),
            (150, 530, 70),
            (3, 300, 520),
            (200, 70, 1100),
        ];
        for (n, inputs, outputs) in shapes {
            let single = |x: Tensor| x.to_dtype(DType::F32);
            let x = single(noise((n, inputs), 1)?)?;
            let weight = single(noise((outputs, inputs), 2)?)?;
            let bias = single(noise(outputs, 3)?)?;
            let parts = [x, weight, bias];
            check_agreement(with_bias(linear), with_bias(reference), &parts, 2e-5)?;
            let without = |x: &[Tensor]| linear(&x[0], &x[1], None);
            let plain = |x: &[Tensor]| reference(&x[0], &x[1], None);
            check_agreement(without, plain, &parts[..2], 2e-5)?;
        }
        Ok(())
    }

    #[test]
    fn the_gradient_of_the_reference_is_right() -> Result<()> {
        // In f64, which the kernel does not serve; it is compared with the reference in the agreement tests.
        let parts = [noise((3, 4), 1)?, noise((5, 4), 2)?, noise(5, 3)?];
        check_gradient(with_bias(linear), &parts, 1e-6)
    }

    #[test]
    fn what_does_not_fit_is_told() -> Result<()> {
        let (x, weight) = (noise((2, 3), 1)?, noise((4, 2), 1)?);
        let error = linear(&x, &weight, None).expect_err("3 and 2").to_string();
        assert!(
            error.contains("rows of 3 numbers, `weight` expects 2"),
            "{error}"
        );
        let weight = noise((4, 3), 1)?;
        let error = linear(&x, &weight, Some(&noise(3, 1)?)).expect_err("3 and 4");
        assert!(error.to_string().contains("gives 4 numbers"), "{error}");
        Ok(())
    }
}
