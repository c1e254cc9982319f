//! Triplet loss whose margin grows with the difference of targets.

use candle_core::Result;
use nearfar_core::{
    Comparison, Evaluated, Kind, NonNegative, Positive, Reducer, Rng, Terms, Triplets,
};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::counting::triplet_hinges;
use crate::over::matrix::{MatrixLoss, View, counted_part};
use crate::over::relations::{own, targets};

/// Triplets by real targets: rows within a radius are positives, all others negatives with a margin by how far they are.
///
/// ```text
/// l(a, p, n) = max(0, d(a, p) − d(a, n) + margin · min(1, |t_a − t_n|/reach))
/// |t_a − t_p| ≤ radius < |t_a − t_n|
/// ```
///
/// Averaged over all triplets; under the reducers `mean`, `sum` and `avg_nonzero` without a list of them, `O(n² log n)`. Where all
/// targets are within the radius, or none, there is nothing to learn.
///
/// Source: the margin of Liu, Lu, Feng, Zhou, "Label-sensitive deep metric learning for facial age estimation", IEEE TIFS 2018.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("label_sensitive_triplet = { radius = 2, reach = 10 }")?;
/// assert_eq!(config.reads(), Reads::Targets);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelSensitiveTriplet {
    /// The largest margin.
    pub margin: NonNegative,
    /// How far targets of positives may be from the anchor's.
    pub radius: NonNegative,
    /// From which difference on the margin is the largest.
    pub reach: Positive,
}

impl Default for LabelSensitiveTriplet {
    /// The margin of FaceNet; equal targets are positives, and the margin is full from a difference of 1 on: ours.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.2),
            radius: NonNegative::literal(0.0),
            reach: Positive::literal(1.0),
        }
    }
}

batch_loss!(LabelSensitiveTriplet, Targets, "euclidean");

impl LabelSensitiveTriplet {
    /// What each reference is to each anchor, and the margin it would have.
    fn kinds(&self, view: &View<'_>) -> Result<(Vec<Kind>, Vec<f64>)> {
        let m = view.size().1;
        let (ours, theirs) = targets(view.name, view.comparison)?;
        let own = own(view.comparison);
        let apart = (0..own.len())
            .map(|place| (f64::from(ours[place / m]) - f64::from(theirs[place % m])).abs());
        let apart: Vec<f64> = apart.collect();
        let kind = |(own, apart): (&bool, &f64)| match (*own, *apart <= self.radius.get()) {
            (true, _) => Kind::Nothing,
            (_, true) => Kind::Positive,
            _ => Kind::Negative,
        };
        let kinds = own.iter().zip(&apart).map(kind).collect();
        let margin =
            |apart: &f64| view.rounded(self.margin.get() * (apart / self.reach.get()).min(1.0));
        Ok((kinds, apart.iter().map(margin).collect()))
    }
}

impl MatrixLoss for LabelSensitiveTriplet {
    fn parts(&self) -> &'static [&'static str] {
        &["triplet"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        targets(name, comparison).map(drop)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let m = view.size().1;
        let (kinds, margins) = self.kinds(view)?;
        let mut triplets = Triplets::default();
        let mut chosen = Vec::new();
        for (anchor, kinds) in kinds.chunks(m).enumerate() {
            for positive in (0..m).filter(|&it| kinds[it] == Kind::Positive) {
                for negative in (0..m).filter(|&it| kinds[it] == Kind::Negative) {
                    triplets.push(anchor as u32, positive as u32, negative as u32);
                    chosen.push(margins[anchor * m + negative]);
                }
            }
        }
        if triplets.is_empty() {
            return Ok(vec![Terms::none("triplet", view.comparison)]);
        }
        let (positive, negative) = triplets.select(&view.matrix)?;
        let margins = view.tensor(chosen, triplets.len())?;
        let values = hinge(&((positive - negative)? + margins)?)?;
        let anchors = triplets.anchors().to_vec();
        Ok(vec![Terms::tuples(
            "triplet",
            values,
            anchors,
            view.comparison,
        )?])
    }

    fn evaluate(&self, view: &View<'_>, reducer: &Reducer) -> Result<Option<Evaluated>> {
        let m = view.size().1;
        let (kinds, margins) = self.kinds(view)?;
        let margin = |anchor: usize, column: usize| margins[anchor * m + column];
        let counted = triplet_hinges(&view.host()?, &kinds, m, margin);
        let part = counted_part("triplet", &view.matrix, counted, reducer)?;
        Ok(part.map(|part| Evaluated { parts: vec![part] }))
    }
}
