//! A template looked for in a larger map.

use candle_core::{Result, Tensor};
use nearfar_core::Error;
use nearfar_kernels::{Conv, conv};

/// How alike a template is to each place of the map it is searched in: the head of a tracker.
///
/// ```text
/// y(i, j) = Σ_c Σ_u Σ_v z(c, u, v) · x(c, i + u, j + v)
/// ```
///
/// `search` is `(b, c, H, W)`, `template` `(b, c, h, w)`, each of a tower that is shared and does not pad; the result is `(b, H − h + 1, W − w + 1)`,
/// large where the search image looks like the exemplar. Both have gradients. Each sample has a template of its own, so that the batch is
/// one convolution with a group for each sample.
///
/// A tracker learns by the logistic loss of each place, `softplus(−t · y)`, where `t` is 1 near the true place and −1 elsewhere, after a
/// learned scale and shift of `y`.
///
/// Source: Bertinetto et al., "Fully-Convolutional Siamese Networks for Object Tracking", ECCV 2016 workshops,
/// <https://arxiv.org/abs/1606.09549>, equations 1 and 3.
///
/// # Errors
/// [`Error::Shape`] when the two have other samples or channels, or the template is the larger one or empty.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_models::layers::cross_correlation;
///
/// let search = Tensor::new(&[[[[0f32, 0.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 4.0]]]], &Device::Cpu)?;
/// let template = Tensor::new(&[[[[1f32, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
/// let found = cross_correlation(&search, &template)?; // (1, 2, 2)
/// assert_eq!(found.to_vec3::<f32>()?, [[[4.0, 11.0], [14.0, 30.0]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn cross_correlation(search: &Tensor, template: &Tensor) -> Result<Tensor> {
    let fits = match (search.dims(), template.dims()) {
        (&[b, c, rows, columns], &[samples, channels, high, wide]) => {
            b == samples
                && c == channels
                && c > 0
                && (1..=rows).contains(&high)
                && (1..=columns).contains(&wide)
        }
        _ => false,
    };
    if !fits {
        Err(Error::Shape(format!(
            "cross_correlation: `search` has shape {:?}, `template` {:?}; (b, c, H, W) and (b, c, h, w) with 1 ≤ h ≤ H and 1 ≤ w ≤ W are wanted",
            search.dims(),
            template.dims()
        )))?;
    }
    let (b, c, rows, columns) = search.dims4()?;
    let (_, _, high, wide) = template.dims4()?;
    let size = (b, rows - high + 1, columns - wide + 1);
    if b == 0 {
        return Tensor::zeros(size, search.dtype(), search.device());
    }
    let each = Conv::<2> {
        groups: b,
        ..Conv::default()
    };
    conv(
        &search.reshape((1, b * c, rows, columns))?,
        template,
        None,
        &each,
    )?
    .reshape(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn each_sample_has_its_own_template() -> Result<()> {
        let search = Tensor::arange(0f32, 24.0, &Device::Cpu)?.reshape((2, 2, 2, 3))?;
        let template = Tensor::new(&[1f32, 0.0, 0.0, 1.0], &Device::Cpu)?.reshape((2, 2, 1, 1))?;
        let found = cross_correlation(&search, &template)?;
        // The first channel of the first sample, the second of the second.
        assert_eq!(
            found.flatten_all()?.to_vec1::<f32>()?,
            [
                0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0
            ]
        );
        Ok(())
    }

    #[test]
    fn what_cannot_be_searched_is_refused() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        let search = zeros(&[2, 3, 4, 4])?;
        for dims in [
            &[1, 3, 2, 2][..],
            &[2, 2, 2, 2],
            &[2, 3, 5, 2],
            &[2, 3, 0, 2],
            &[3, 2, 2],
        ] {
            let error = cross_correlation(&search, &zeros(dims)?).expect_err("it does not fit");
            assert!(error.to_string().contains(&format!("{dims:?}")), "{error}");
        }
        let none = cross_correlation(&zeros(&[0, 3, 4, 4])?, &zeros(&[0, 3, 2, 2])?)?;
        assert_eq!(none.dims(), [0, 3, 3]);
        Ok(())
    }
}
