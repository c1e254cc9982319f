//! Quadruplet loss.

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, Evaluated, Kind, NonNegative, Pairs, Reducer, Relation, Rng, Terms, Triplets,
};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::counting::{quadruplet_hinges, triplet_hinges};
use crate::over::known::host;
use crate::over::matrix::{MatrixLoss, View, counted_part};
use crate::triplets::Power;

/// The two margins of a quadruplet loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum QuadrupletMargins {
    /// As they are, in units of the distance to the power.
    Fixed {
        /// Against negatives of the anchor.
        first: NonNegative,
        /// Against pairs of two other classes.
        second: NonNegative,
    },
    /// Times the gap between the batch's mean negative and mean positive distance, which has no gradient. Below zero where
    /// negatives are nearer than positives.
    Adaptive {
        /// Against negatives of the anchor.
        first: NonNegative,
        /// Against pairs of two other classes.
        second: NonNegative,
    },
}

impl Default for QuadrupletMargins {
    /// The larger for the anchor's own negatives, as in the paper, on squared distances of rows of length 1.
    fn default() -> Self {
        Self::Fixed {
            first: NonNegative::literal(1.0),
            second: NonNegative::literal(0.5),
        }
    }
}

impl QuadrupletMargins {
    /// Both as numbers.
    pub(super) fn of(&self, x: &[f64], kinds: &[Kind], view: &View<'_>) -> [f64; 2] {
        match self {
            Self::Fixed { first, second } => {
                [view.rounded(first.get()), view.rounded(second.get())]
            }
            Self::Adaptive { first, second } => {
                let mean = |wanted: Kind| {
                    let of = || x.iter().zip(kinds).filter(|it| *it.1 == wanted);
                    of().map(|it| it.0).sum::<f64>() / of().count().max(1) as f64
                };
                let gap = mean(Kind::Negative) - mean(Kind::Positive);
                [
                    view.rounded(first.get() * gap),
                    view.rounded(second.get() * gap),
                ]
            }
        }
    }
}

/// Triplets, and beside them each positive pair against each pair of two other classes.
///
/// ```text
/// first   l(i, j, k)    = max(0, d(i, j)² − d(i, k)² + α₁)    i and j of one class, k of another
/// second  l(i, j, l, k) = max(0, d(i, j)² − d(l, k)² + α₂)    l and k of two classes that are not i's
/// ```
///
/// The two parts `first` and `second` are averaged each over its own tuples and added. The second is not there with fewer than
/// three classes. Pairs are ordered. `power = 1` compares distances as they are.
///
/// Neither part makes a list: both are sorted and counted in `O(n² log n + c n²)` with `O(n²)` memory, under the reducers
/// `mean`, `sum` and `avg_nonzero`. Others need each of the `O(n⁴)` terms.
///
/// Source: Chen, Chen, Zhang, Huang, "Beyond triplet loss: a deep quadruplet network for person re-identification", CVPR 2017,
/// <https://arxiv.org/abs/1704.01719>, equations 6 and 10. Its distance is a learned head's; here it is any distance.
///
/// ```
/// # use nearfar_losses::{Family, LossConfig};
/// let config: LossConfig = toml::from_str("quadruplet = { margins = { adaptive = { first = 1, second = 0.5 } } }")?;
/// assert_eq!(config.family(), Family::Batches);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quadruplet {
    /// Fixed, or by the batch.
    pub margins: QuadrupletMargins,
    /// What distances are raised to.
    pub power: Power,
}

impl Default for Quadruplet {
    /// Squared distances, with the larger margin for the anchor's own negatives.
    fn default() -> Self {
        Self {
            margins: QuadrupletMargins::default(),
            power: Power::Two,
        }
    }
}

batch_loss!(Quadruplet, Classes, "euclidean");

/// Refuses all but classes.
pub(crate) fn by_class(name: &str, comparison: &Comparison<'_>) -> Result<()> {
    match comparison.relation {
        Relation::SameClass => comparison.check(),
        _ => Err(comparison.cannot_read(name, "classes"))?,
    }
}

/// Distances to a power.
pub(super) fn raised(matrix: &Tensor, power: Power) -> Result<Tensor> {
    match power {
        Power::One => Ok(matrix.clone()),
        Power::Two => matrix.sqr(),
    }
}

impl MatrixLoss for Quadruplet {
    fn parts(&self) -> &'static [&'static str] {
        &["first", "second"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        by_class(name, comparison)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let comparison = view.comparison;
        let x = raised(&view.matrix, self.power)?;
        let kinds = comparison.kinds(view.name)?;
        let [first, second] = self.margins.of(&host(&x)?, &kinds, view);
        let triplets = Triplets::all(comparison, view.name)?;
        let first = if triplets.is_empty() {
            Terms::none("first", comparison)
        } else {
            let (positive, negative) = triplets.select(&x)?;
            let values = hinge(&((positive - negative)? + first)?)?;
            Terms::tuples("first", values, triplets.anchors().to_vec(), comparison)?
        };
        let m = view.size().1;
        let (anchors, references) = (&comparison.anchors.labels, &comparison.references.labels);
        let of = |wanted: Kind| {
            let kinds = kinds.iter().enumerate();
            kinds.filter(move |it| *it.1 == wanted).map(|it| it.0)
        };
        let (mut ours, mut others) = (Pairs::default(), Pairs::default());
        let negatives: Vec<usize> = of(Kind::Negative).collect();
        for pair in of(Kind::Positive) {
            let class = anchors[pair / m];
            for &other in &negatives {
                if anchors[other / m] != class && references[other % m] != class {
                    ours.push((pair / m) as u32, (pair % m) as u32);
                    others.push((other / m) as u32, (other % m) as u32);
                }
            }
        }
        let second = if ours.is_empty() {
            Terms::none("second", comparison)
        } else {
            let gap = (ours.select(&x)? - others.select(&x)?)?;
            Terms::tuples("second", hinge(&(gap + second)?)?, ours.anchors, comparison)?
        };
        Ok(vec![first, second])
    }

    fn evaluate(&self, view: &View<'_>, reducer: &Reducer) -> Result<Option<Evaluated>> {
        let x = raised(&view.matrix, self.power)?;
        let numbers = host(&x)?;
        let kinds = view.comparison.kinds(view.name)?;
        let m = view.size().1;
        let [first, second] = self.margins.of(&numbers, &kinds, view);
        let first = triplet_hinges(&numbers, &kinds, m, |_, _| first);
        let Some(first) = counted_part("first", &x, first, reducer)? else {
            return Ok(None);
        };
        let labels = (
            &view.comparison.anchors.labels[..],
            &view.comparison.references.labels[..],
        );
        let second = quadruplet_hinges(&numbers, &kinds, labels, second);
        let second = counted_part("second", &x, second, reducer)?;
        Ok(second.map(|second| Evaluated {
            parts: vec![first, second],
        }))
    }
}
