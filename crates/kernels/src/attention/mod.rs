//! Attention of several heads.
//!
//! | tensors | version |
//! |---|---|
//! | `f32` on a CPU | `cpu.rs`, one custom operation on the kernels of `slices` |
//! | any other device or type | `reference.rs`, candle operations and [`softmax`](crate::softmax) |

mod cpu;
mod reference;

use candle_core::{DType, Result, Tensor, bail};

pub use reference::{reference, weights};

/// How weights are changed, and by how many heads they are made.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// How many there are; they divide the width.
    pub count: usize,
    /// Which keys a query may look at: 0 where it may not, of any number type, in a shape that broadcasts to `(b, heads, t, s)`. None
    /// keeps all.
    pub keep: Option<&'a Tensor>,
    /// Factors of the weights, `(b, heads, t, s)`: those of a dropout. None leaves them.
    pub factors: Option<&'a Tensor>,
}

/// What several heads take of values, side by side:
///
/// ```text
/// head_h = (F_h ∘ softmax(q_h k_hᵀ / √d)) v_h        d = width / heads
/// ```
///
/// `q` is `(b, t, width)`, `k` and `v` are `(b, s, width)`, the result is `(b, t, width)`. A query that may look at no key gets zeros
/// and no gradient. Neither keys that are left out nor factors have a gradient.
///
/// In `f32` on a CPU it is one operation of the graph: no head is copied to a tensor of its own and no weights are kept, and the result has
/// the same bits for any number of threads.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_kernels::{Heads, attention};
///
/// let q = Tensor::new(&[[[0f32, 0.0]]], &Device::Cpu)?; // Looks at both keys alike, with either head.
/// let k = Tensor::new(&[[[1f32, 2.0], [3.0, 4.0]]], &Device::Cpu)?;
/// let heads = Heads { count: 2, keep: None, factors: None };
/// assert_eq!(attention(&q, &k, &k, heads)?.to_vec3::<f32>()?, [[[2.0, 3.0]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// Source: Vaswani et al., "Attention is all you need", NeurIPS 2017, <https://arxiv.org/abs/1706.03762>, section 3.2.
///
/// # Errors
///
/// If the shapes do not fit one another, the number types differ, or the heads do not divide the width.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads<'_>) -> Result<Tensor> {
    checked(q, k, v, heads)?;
    let serves = q.device().is_cpu() && q.dtype() == DType::F32;
    if serves && q.elem_count() * k.elem_count() > 0 {
        cpu::attention(q, k, v, heads)
    } else {
        reference(q, k, v, heads)
    }
}

fn checked(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads<'_>) -> Result<()> {
    let ((b, t, width), (_, s, _)) = (q.dims3()?, k.dims3()?);
    if k.dims() != [b, s, width] || k.dims() != v.dims() {
        bail!(
            "attention: `q` has shape {:?}, `k` {:?} and `v` {:?}; (b, t, width) and twice (b, s, width) are wanted",
            q.dims(),
            k.dims(),
            v.dims()
        );
    }
    if heads.count == 0 || !width.is_multiple_of(heads.count) {
        bail!(
            "attention: {} heads do not divide a width of {width}",
            heads.count
        );
    }
    for (name, other) in [("k", Some(k)), ("v", Some(v)), ("factors", heads.factors)] {
        if let Some(other) = other.filter(|it| it.dtype() != q.dtype()) {
            bail!(
                "attention: `q` is of {:?}, and `{name}` of {:?}; they must agree",
                q.dtype(),
                other.dtype()
            );
        }
    }
    let full = [b, heads.count, t, s];
    if let Some(factors) = heads.factors.filter(|it| it.dims() != full) {
        bail!(
            "attention: `factors` has shape {:?}; (b, heads, t, s) = {full:?} is wanted",
            factors.dims()
        );
    }
    let fits = |(have, want): (&usize, &usize)| *have == 1 || have == want;
    if let Some(keep) = heads
        .keep
        .filter(|it| it.rank() != 4 || !it.dims().iter().zip(&full).all(fits))
    {
        bail!(
            "attention: the mask is for (rows, heads, queries, keys) = {:?}, where 1 is any number; there are {full:?}",
            keep.dims()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::test_util::{check_agreement, check_gradient, noise};

    fn heads(count: usize) -> Heads<'static> {
        Heads {
            count,
            keep: None,
            factors: None,
        }
    }

    /// 1 where it is kept: two of three, at other places in each row.
    fn kept(shape: [usize; 4]) -> Result<Tensor> {
        let count = shape.iter().product::<usize>() as u32;
        let bytes: Vec<u8> = (0..count)
            .map(|it| u8::from(it * 7 % 11 % 3 != 0))
            .collect();
        Tensor::from_vec(bytes, &shape, &Device::Cpu)
    }

    #[test]
    fn it_is_the_composition_of_any_shape() -> Result<()> {
        // (b, t, s, heads, width of a head): below, at and above whole vectors and panels.
        let shapes = [
            (1, 1, 1, 1, 1),
            (2, 3, 5, 2, 3),
            (3, 16, 16, 2, 16),
            (2, 7, 70, 3, 20),
            (1, 65, 130, 1, 80),
            (2, 64, 64, 4, 32),
        ];
        for (b, t, s, count, head) in shapes {
            let single = |x: Tensor| x.to_dtype(DType::F32);
            let q = single((noise((b, t, count * head), 1)? * 2.0)?)?;
            let k = single(noise((b, s, count * head), 2)?)?;
            let v = single(noise((b, s, count * head), 3)?)?;
            let factors = single((noise((b, count, t, s), 4)? + 1.0)?)?;
            let masks = [
                None,
                Some((kept([b, 1, t, s])?.to_dtype(DType::F32)? * 0.5)?),
                Some(kept([b, 1, 1, s])?),
                Some(kept([1, 1, t, s])?),
                Some(kept([b, count, t, s])?),
                Some(kept([1, count, 1, 1])?),
            ];
            for keep in &masks {
                for factors in [None, Some(&factors)] {
                    let heads = Heads {
                        count,
                        keep: keep.as_ref(),
                        factors,
                    };
                    check_agreement(
                        |x| attention(&x[0], &x[1], &x[2], heads),
                        |x| reference(&x[0], &x[1], &x[2], heads),
                        &[q.clone(), k.clone(), v.clone()],
                        1e-5,
                    )?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_gradient_of_the_reference_is_right() -> Result<()> {
        let parts = [
            noise((2, 3, 4), 1)?,
            noise((2, 5, 4), 2)?,
            noise((2, 5, 4), 3)?,
        ];
        let (keep, factors) = (kept([2, 1, 3, 5])?, (noise((2, 2, 3, 5), 4)? + 1.0)?);
        let heads = Heads {
            count: 2,
            keep: Some(&keep),
            factors: Some(&factors),
        };
        check_gradient(|x| attention(&x[0], &x[1], &x[2], heads), &parts, 1e-6)
    }

    #[test]
    fn a_query_without_keys_takes_nothing_and_has_no_gradient() -> Result<()> {
        let q = Var::new(&[[[1f32, 2.0], [3.0, 4.0]]], &Device::Cpu)?;
        let keep = Tensor::new(&[[[[0u8, 0], [1, 0]]]], &Device::Cpu)?;
        let heads = Heads {
            keep: Some(&keep),
            ..heads(1)
        };
        let v = Tensor::new(&[[[5f32, 6.0], [7.0, 8.0]]], &Device::Cpu)?;
        let y = attention(&q, &q, &v, heads)?;
        assert_eq!(y.to_vec3::<f32>()?, [[[0.0, 0.0], [5.0, 6.0]]]);
        let gradients = y.sqr()?.backward()?;
        let gradient = gradients.get(&q).expect("it depends on its input");
        assert_eq!(gradient.to_vec3::<f32>()?, [[[0.0, 0.0], [0.0, 0.0]]]);
        Ok(())
    }

    #[test]
    fn huge_scores_do_not_overflow_and_nan_is_seen() -> Result<()> {
        // Below and above whole vectors of every instruction set.
        for keys in [3, 36] {
            for hidden in [f32::NAN, 1e30] {
                let q = Tensor::new(&[[[1e30f32]]], &Device::Cpu)?;
                let k = (0..keys).map(|i| match i {
                    1 => hidden,
                    2 => 1.0,
                    _ => -1.0,
                });
                let k = Tensor::from_vec(k.collect::<Vec<f32>>(), (1, keys, 1), &Device::Cpu)?;
                let v = Tensor::arange(0f32, keys as f32, &Device::Cpu)?.reshape((1, keys, 1))?;
                let y = attention(&q, &k, &v, heads(1))?.to_vec3::<f32>()?;
                assert!(y[0][0][0].is_nan()); // The score of the second is infinite, or NaN itself.
                // Without it, all is of the third: its score is far above the others.
                let keep: Vec<u8> = (0..keys).map(|i| u8::from(i != 1)).collect();
                let keep = Tensor::from_vec(keep, (1, 1, 1, keys), &Device::Cpu)?;
                let masked = Heads {
                    keep: Some(&keep),
                    ..heads(1)
                };
                if hidden.is_finite() {
                    let y = attention(&q, &k, &v, masked)?.to_vec3::<f32>()?;
                    assert_eq!(y, [[[2.0]]]);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_told() -> Result<()> {
        let (q, k) = (noise((2, 3, 4), 1)?, noise((2, 5, 4), 2)?);
        let error = attention(&q, &k, &k, heads(3)).expect_err("3 and 4");
        assert!(
            error.to_string().contains("3 heads do not divide"),
            "{error}"
        );
        assert!(attention(&q, &k, &q, heads(2)).is_err());
        let keep = Tensor::ones((2, 1, 1, 3), DType::U8, &Device::Cpu)?;
        let masked = Heads {
            keep: Some(&keep),
            ..heads(2)
        };
        let error = attention(&q, &k, &k, masked).expect_err("3 and 5");
        assert!(
            error.to_string().contains("keys) = [2, 1, 1, 3]"),
            "{error}"
        );
        let empty = k.narrow(1, 0, 0)?;
        assert_eq!(attention(&q, &empty, &empty, heads(2))?.dims(), [2, 3, 4]);
        Ok(())
    }
}
