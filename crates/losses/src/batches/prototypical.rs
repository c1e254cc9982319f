//! Softmax over distances to the means of classes.

use std::num::NonZeroUsize;

use candle_core::Result;
use nearfar_core::{Comparison, Distance, Loss, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::log_softmax;
use serde::{Deserialize, Serialize};

use super::prototypes::Prototypes;
use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole};
use crate::{Compares, Join, Reads};

/// Wants each query nearer to the prototype of its class than to those of all other classes of the batch.
///
/// ```text
/// l = −log( e^(−D(x, c_own)) / Σ_k e^(−D(x, c_k)) ),   c_k = mean of the support of class k
/// ```
///
/// `D` is the squared Euclidean distance unless another is named. With `support = s` the first `s` rows of each class in the batch
/// are its support and the others the queries: an episode. Without it every row is a query, and the prototype of its own class is
/// the mean of the others of its class, so that nothing depends on the order of the rows. Of two sides the anchors are the queries
/// and the references the support. A query whose class has no support is left out; with one class there is nothing to learn. Reads
/// classes; takes no miner.
///
/// Source: Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, <https://arxiv.org/abs/1703.05175>,
/// equation 2. Rows are taken as they are, as in the paper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prototypical {
    /// How many rows of each class are its support; where it is left out, all others are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support: Option<NonZeroUsize>,
}

impl BatchLoss for Prototypical {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Distance("squared_euclidean")
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "distances to the means of classes")?;
        join.refuse_miner(name)?;
        let formula = Episode {
            name,
            support: self.support,
            distance: join.distance(name, "squared_euclidean")?,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Episode {
    name: &'static str,
    support: Option<NonZeroUsize>,
    distance: Box<dyn Distance>,
}

impl Stateful for Episode {}

impl Formula for Episode {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let Some(it) = Prototypes::of(self.name, comparison, self.support)? else {
            return Ok(vec![Terms::none("query", comparison)]);
        };
        let all = self.distance.matrix(&it.rows, &it.means)?.neg()?;
        let own = self.distance.paired(&it.rows, &it.own_means)?.neg()?;
        let (logits, mask) = it.with_own(&all, &own)?;
        let log_p = log_softmax(&logits)?;
        let values = mask
            .where_cond(&log_p, &log_p.zeros_like()?)?
            .sum(1)?
            .neg()?;
        Ok(vec![Terms::of_anchors(
            "query", values, it.queries, comparison,
        )?])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use nearfar_core::{Axioms, Embeddings, Purpose, Seed};
    use nearfar_kernels::squared_euclidean;

    use super::*;

    #[derive(Debug)]
    struct Squared;

    impl Distance for Squared {
        fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            squared_euclidean(x, y)
        }
        fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            (x - y)?.sqr()?.sum(1)
        }
        fn axioms(&self) -> Axioms {
            Axioms::METRIC
        }
    }

    fn value(support: Option<usize>, rows: &[[f64; 1]], labels: &[u32]) -> Result<Option<f64>> {
        let support = support.and_then(NonZeroUsize::new);
        let join = Join {
            distance: Some(Box::new(Squared)),
            ..Join::default()
        };
        let loss = Prototypical { support }.build("prototypical", join)?;
        let vectors = Tensor::from_slice(rows.as_flattened(), (rows.len(), 1), &Device::Cpu)?;
        let rows = Embeddings::labeled(vectors, labels.to_vec())?;
        let within = Comparison::within(&rows);
        let total = loss
            .evaluate(&within, &mut Seed(0).rng(Purpose::Mining, 0))?
            .total()?;
        total.map(|it| it.to_scalar::<f64>()).transpose()
    }

    #[test]
    fn a_query_is_1_from_its_prototype_and_4_from_the_other() -> Result<()> {
        let found = value(Some(1), &[[0.0], [1.0], [3.0]], &[0, 0, 1])?.expect("row 1 is a query");
        assert!((found - (1.0 + (-3f64).exp()).ln()).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn without_support_a_row_is_not_in_its_own_prototype() -> Result<()> {
        // Row 0: 1 from row 1, 9 from row 2; row 1: 1 and 4. Row 2 has no other of its class.
        let found = value(None, &[[0.0], [1.0], [3.0]], &[0, 0, 1])?.expect("two queries");
        let wanted = ((1.0 + (-8f64).exp()).ln() + (1.0 + (-3f64).exp()).ln()) / 2.0;
        assert!((found - wanted).abs() < 1e-12);
        assert_eq!(value(None, &[[0.0], [1.0]], &[0, 0])?, None, "one class");
        assert_eq!(value(None, &[[0.0], [1.0]], &[0, 1])?, None, "no support");
        Ok(())
    }
}
