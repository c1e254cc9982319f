//! Two margins, against the hardest answer of a large batch.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Comparison, Finite, Loss, Reducer, Rng, Similarity, Stateful, Terms};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, views};
use crate::{Compares, Join, Reads};

/// Wants the answer of each row similar to it, and the most similar other answer not.
///
/// ```text
/// l_i = [ positive_margin − s(a_i, p_i) ]₊ + [ max_{j ≠ i} s(a_i, p_j) − negative_margin ]₊
/// ```
///
/// Of several most similar answers the first is taken. With one row there is no other answer, and the second part is not there. Its
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

impl BatchLoss for MegaBatchMargin {
    fn reads(&self) -> Reads {
        Reads::Views
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "similarities of all rows of a batch")?;
        join.refuse_miner(name)?;
        let formula = Margins {
            name,
            settings: self.clone(),
            similarity: join.similarity(name, "cosine")?,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Margins {
    name: &'static str,
    settings: MegaBatchMargin,
    similarity: Box<dyn Similarity>,
}

impl Stateful for Margins {}

impl Formula for Margins {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (first, second) = views(self.name, comparison)?;
        let n = first.dim(0)?;
        let none = |part| Terms::none(part, comparison);
        if n == 0 {
            return Ok(vec![none("positive"), none("negative")]);
        }
        let similarity = self.similarity.matrix(first, second)?;
        let column = |rows: Vec<u32>| Tensor::from_vec(rows, (n, 1), first.device());
        let own = similarity.gather(&column((0..n as u32).collect())?, 1)?;
        let positive = own
            .squeeze(1)?
            .affine(-1.0, self.settings.positive_margin.get())?;
        let anchors = || (0..n as u32).collect::<Vec<u32>>();
        let positive = Terms::of_anchors("positive", hinge(&positive)?, anchors(), comparison)?;
        if n == 1 {
            return Ok(vec![positive, none("negative")]);
        }
        let eye = Tensor::eye(n, DType::U8, &Device::Cpu)?.to_device(first.device())?;
        let hidden = (similarity.detach().zeros_like()? + nearfar_kernels::EMPTY)?;
        let nearest = eye
            .where_cond(&hidden, &similarity.detach())?
            .argmax_keepdim(1)?;
        let negative = similarity.contiguous()?.gather(&nearest, 1)?.squeeze(1)?;
        let negative = hinge(&(negative - self.settings.negative_margin.get())?)?;
        let negative = Terms::of_anchors("negative", negative, anchors(), comparison)?;
        Ok(vec![positive, negative])
    }
}
