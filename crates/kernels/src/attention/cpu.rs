//! Attention as one custom operation, for `f32` on a CPU.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};

use super::Heads;
use crate::host::{give, read, slice, tensor};
use crate::slices::attention::{Changes, Sizes};

pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads<'_>) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let keys = k.dim(1)?;
    let operation = Attention {
        sizes: Sizes {
            batch,
            queries,
            keys,
            heads: heads.count,
            width,
        },
        keep: heads.keep.map(|keep| rows_of(keep, keys)).transpose()?,
        factors: match heads.factors {
            Some(factors) => Some(factors.detach().contiguous()?),
            None => None,
        },
    };
    q.contiguous()?
        .apply_op3(&k.contiguous()?, &v.contiguous()?, operation)
}

/// A mask as bytes, in whole rows.
fn rows_of(keep: &Tensor, keys: usize) -> Result<Tensor> {
    let (b, heads, queries, _) = keep.dims4()?;
    let keep = keep.detach();
    let keep = match keep.dtype() {
        DType::U8 => keep,
        _ => keep.ne(&keep.zeros_like()?)?,
    };
    keep.broadcast_as((b, heads, queries, keys))?.contiguous()
}

struct Attention {
    sizes: Sizes,
    /// `(b or 1, heads or 1, t or 1, s)`
    keep: Option<Tensor>,
    factors: Option<Tensor>,
}

impl Attention {
    /// Calls `f` with what changes the weights.
    fn with_changes<R>(&self, f: impl FnOnce(Changes<'_>) -> R) -> Result<R> {
        let Some(keep) = &self.keep else {
            return self.with_factors(None, f);
        };
        let (b, heads, queries, _) = keep.dims4()?;
        let step = |count: usize, rows: usize| if count == 1 { 0 } else { rows };
        let steps = [
            step(b, heads * queries),
            step(heads, queries),
            step(queries, 1),
        ];
        read::<u8, _>(keep, |bytes| self.with_factors(Some((bytes, steps)), f))
    }

    fn with_factors<R>(
        &self,
        keep: Option<(&[u8], [usize; 3])>,
        f: impl FnOnce(Changes<'_>) -> R,
    ) -> Result<R> {
        let Some(factors) = &self.factors else {
            return Ok(f(Changes {
                keep,
                factors: None,
            }));
        };
        read(factors, |factors| {
            Ok(f(Changes {
                keep,
                factors: Some(factors),
            }))
        })
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        of_q: &Layout,
        k: &CpuStorage,
        of_k: &Layout,
        v: &CpuStorage,
        of_v: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (slice(q, of_q)?, slice(k, of_k)?, slice(v, of_v)?);
        let output = self.with_changes(|changes| self.sizes.forward(q, k, v, changes))?;
        Ok(give(output, of_q.shape()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [for_q, for_k, for_v] = read(q, |of_q| {
            read(k, |of_k| {
                read(v, |of_v| {
                    read(gradient, |gradient| {
                        self.with_changes(|changes| {
                            self.sizes.backward([of_q, of_k, of_v], gradient, changes)
                        })
                    })
                })
            })
        })?;
        Ok((
            Some(tensor(for_q, q)?),
            Some(tensor(for_k, k)?),
            Some(tensor(for_v, v)?),
        ))
    }
}
