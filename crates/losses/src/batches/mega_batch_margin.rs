//! Two margins, against the hardest answer of a large batch.

use candle_core::{Device, Result, Tensor};
use nearfar_core::Finite;
use nearfar_kernels::{EMPTY, hinge};
use serde::{Deserialize, Serialize};

use super::answers::{Seeking, Seen, seeking_loss};

/// Wants the answer of each row similar to it, and the most similar other answer not.
///
/// ```text
/// l_i = [ positive_margin − s(a_i, p_i) ]₊ + [ max_{j ≠ i} s(a_i, p_j) − negative_margin ]₊
/// ```
///
/// Of several most similar answers the first is taken, those that are nobody's (a third view) among them. With one row and one
/// answer there is no other, and the second part is not there. Its
/// parts are `positive` and `negative`. The larger the batch, the harder the negatives. Reads two views of each row; takes no miner.
///
/// Source: Wieting, Gimpel, "ParaNMT-50M", ACL 2018, <https://arxiv.org/abs/1711.05732>; `MegaBatchMarginLoss` of
/// sentence-transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MegaBatchMargin {
    /// The similarity from which an answer is near enough.
    pub positive_margin: Finite,
    /// The similarity below which another answer is far enough.
    pub negative_margin: Finite,
}

impl Default for MegaBatchMargin {
    /// Those of sentence-transformers.
    fn default() -> Self {
        Self {
            positive_margin: Finite::literal(0.8),
            negative_margin: Finite::literal(0.3),
        }
    }
}

seeking_loss!(MegaBatchMargin);

impl Seeking for MegaBatchMargin {
    fn parts(&self) -> &'static [&'static str] {
        &["positive", "negative"]
    }

    fn values(&self, seen: &Seen<'_>) -> Result<Vec<Option<Tensor>>> {
        let similarity = seen
            .similarity
            .matrix(seen.rows, seen.answers)?
            .contiguous()?;
        let (n, m) = similarity.dims2()?;
        let own = similarity.gather(&seen.own()?, 1)?.squeeze(1)?;
        let positive = hinge(&own.affine(-1.0, self.positive_margin.get())?)?;
        if m == 1 {
            return Ok(vec![Some(positive), None]);
        }
        let mut own = vec![0u8; n * m];
        for row in 0..n {
            own[row * m + row] = 1;
        }
        let own = Tensor::from_vec(own, (n, m), &Device::Cpu)?.to_device(seen.rows.device())?;
        let still = similarity.detach();
        let hidden = (still.zeros_like()? + EMPTY)?;
        let nearest = own.where_cond(&hidden, &still)?.argmax_keepdim(1)?;
        let negative = similarity.gather(&nearest, 1)?.squeeze(1)?;
        let negative = hinge(&(negative - self.negative_margin.get())?)?;
        Ok(vec![Some(positive), Some(negative)])
    }
}
