//! Positions as rotations.

use candle_core::{D, Result, Tensor, bail};

/// Which two numbers of a row are turned together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pairing {
    /// Number `i` of the first half with number `i` of the second, as in GPT-NeoX, LLaMA on Hugging Face and ModernBERT.
    #[default]
    Halves,
    /// Each even number with the one after it, as in the paper and in RoFormer.
    Neighbors,
}

/// Turns pairs of numbers of each row by angles: `(…, t, d), (t, d / 2) → (…, t, d)`.
///
/// ```text
/// (u, v) → (u cos a − v sin a, v cos a + u sin a)
/// ```
///
/// The inner product of two rows so turned depends on the difference of their angles only, which makes positions relative.
/// A rotation keeps lengths, and its gradient is the rotation back. (candle-nn's `rope` has no gradient, and says nothing.)
///
/// Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021,
/// <https://arxiv.org/abs/2104.09864>.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_kernels::{Pairing, rotary};
///
/// let x = Tensor::new(&[[1f64, 0.0, 0.0, 2.0]], &Device::Cpu)?;
/// let quarter = std::f64::consts::FRAC_PI_2;
/// let y = rotary(&x, &Tensor::new(&[[quarter, 0.0]], &Device::Cpu)?, Pairing::Halves)?;
/// assert!((y.to_vec2::<f64>()?[0][2] - 1.0).abs() < 1e-15); // (1, 0) has become (0, 1).
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If `d` is odd or the shapes do not fit.
pub fn rotary(x: &Tensor, angles: &Tensor, pairing: Pairing) -> Result<Tensor> {
    let (steps, width) = (x.dim(D::Minus2)?, x.dim(D::Minus1)?);
    if width % 2 != 0 || angles.dims() != [steps, width / 2] {
        bail!(
            "rotary: `x` has shape {:?} and `angles` {:?}; (…, t, d) and (t, d / 2) are wanted, and d even",
            x.dims(),
            angles.dims()
        );
    }
    // In the type of the angles, which may have digits that that of `x` has not.
    let angles = angles.detach();
    let (cos, sin) = (
        angles.cos()?.to_dtype(x.dtype())?,
        angles.sin()?.to_dtype(x.dtype())?,
    );
    let turned = |u: &Tensor, v: &Tensor| -> Result<(Tensor, Tensor)> {
        let first = (u.broadcast_mul(&cos)? - v.broadcast_mul(&sin)?)?;
        let second = (v.broadcast_mul(&cos)? + u.broadcast_mul(&sin)?)?;
        Ok((first, second))
    };
    let half = width / 2;
    match pairing {
        Pairing::Halves => {
            let (u, v) = turned(
                &x.narrow(D::Minus1, 0, half)?,
                &x.narrow(D::Minus1, half, half)?,
            )?;
            Tensor::cat(&[u, v], D::Minus1)
        }
        Pairing::Neighbors => {
            let mut dims = x.dims().to_vec();
            dims[x.rank() - 1] = half;
            dims.push(2);
            let pairs = x.reshape(dims)?;
            let of = |side: usize| pairs.narrow(D::Minus1, side, 1)?.squeeze(D::Minus1);
            let (u, v) = turned(&of(0)?, &of(1)?)?;
            Tensor::stack(&[u, v], D::Minus1)?.reshape(x.shape())
        }
    }
}
