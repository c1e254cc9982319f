//! N-pair loss of rows with several labels.

use candle_core::Result;
use nearfar_core::{Comparison, Loss, Rng, Terms};
use serde::{Deserialize, Serialize};

use super::soft_targets::SoftTargets;
use crate::family::BatchLoss;
use crate::over::matrix::{self, MatrixLoss, View};
use crate::over::relations::{by_sets, common_labels, own};
use crate::{Compares, Join, Reads};

/// A softmax over all other rows, whose targets are the rows with common labels, in proportion to how many.
///
/// ```text
/// l(i) = −Σ_j t(i, j) (s(i, j) − log Σ_{a ≠ i} exp(s(i, a))),   t(i, j) = |A_i ∩ A_j| / Σ_{a ≠ i} |A_i ∩ A_a|
/// ```
///
/// Averaged over the anchors that share a label with another row; a row without labels shares none. With one label for each row it is
/// a softmax whose targets are all rows of the class. Of two sides the anchors are compared with the references, their own partners
/// among them.
///
/// Source: Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NIPS 2016, with the targets of
/// `NpairsMultilabelLoss` of TensorFlow Addons, which has rows of a batch beside their partners, and fails where no label is shared.
///
/// ```
/// # use nearfar_losses::{Compares, LossConfig, Reads};
/// let config: LossConfig = toml::from_str("n_pair_sets = {}")?;
/// assert_eq!((config.reads(), config.defaults().compares), (Reads::Sets, Compares::Similarity("dot")));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NPairSets {}

impl BatchLoss for NPairSets {
    fn reads(&self) -> Reads {
        Reads::Sets
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("dot")
    }

    fn build(&self, name: &'static str, join: Join) -> Result<Box<dyn Loss>> {
        matrix::join(name, self, join)
    }
}

impl MatrixLoss for NPairSets {
    fn parts(&self) -> &'static [&'static str] {
        &["list"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        by_sets(name, comparison)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (n, m) = view.size();
        let common = common_labels(view.name, view.comparison)?;
        let own = own(view.comparison);
        let mut targets = SoftTargets::none((n, m));
        for row in 0..n {
            let share = |place: usize| {
                let common = common[place].0;
                (common > 0).then_some(f64::from(common))
            };
            targets.push(row, &own, share, |shares| shares.iter().sum());
        }
        targets.terms(view, &view.matrix.neg()?) // Distances are negative similarities.
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use nearfar_core::{Embeddings, Purpose, Relation, Seed};

    use super::*;

    #[derive(Debug)]
    struct Dot;

    impl nearfar_core::Similarity for Dot {
        fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            x.matmul(&y.t()?)
        }
        fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            (x * y)?.sum(1)
        }
    }

    #[test]
    fn it_is_the_number_on_paper() -> Result<()> {
        let rows = Tensor::new(&[[1f64], [2.0], [3.0], [0.0]], &Device::Cpu)?;
        let rows = Embeddings::labeled(rows, vec![0; 4])?;
        let sets = [vec![1, 2, 3], vec![1, 2], vec![3, 9], vec![]];
        let comparison = Comparison {
            relation: Relation::Sets {
                anchors: &sets,
                references: &sets,
            },
            ..Comparison::within(&rows)
        };
        let join = Join {
            similarity: Some(Box::new(Dot)),
            ..Join::default()
        };
        let loss = NPairSets {}.build("n_pair_sets", join)?;
        let terms = loss.terms(&comparison, &mut Seed(0).rng(Purpose::Mining, 0))?;
        let values = terms[0].values.as_ref().expect("labels are shared");
        let values = values.to_vec1::<f64>()?;
        assert_eq!(terms[0].anchors, [0, 1, 2], "the last has no label");
        // The first has two labels in common with the second and one with the third, at products 2, 3 and 0.
        let wanted = (2f64.exp() + 3f64.exp() + 1.0).ln() - (2.0 * 2.0 + 3.0) / 3.0;
        assert!((values[0] - wanted).abs() < 1e-12, "{} {wanted}", values[0]);
        Ok(())
    }
}
