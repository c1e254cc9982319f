//! Correlated metric loss of two domains.

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, Distance, Evaluated, Kind, Loss, NonNegative, Reducer, Rng, Stateful, Terms,
};
use nearfar_kernels::{covariance, hinge};
use serde::{Deserialize, Serialize};

use super::quadruplet::by_class;
use crate::family::BatchLoss;
use crate::over::matrix::refuse_miner;
use crate::over::reduced;
use crate::{Compares, Join, Reads};

/// Separates the classes within each of two domains, and brings the domains together.
///
/// ```text
/// D(f)  = mean of d² over positive pairs of f + mean of max(0, margin − d)² over negative pairs of f
/// C     = mean of d(f, g)² over pairs of a class + push · mean of max(0, margin − d(f, g))² over the others
/// L     = D(f) + D(g) + weight · C
/// coral C = ‖Cov(f) − Cov(g)‖² / (4 D²)
/// ```
///
/// The first side of a batch is `f` (sketches, say) and the second `g` (views of shapes); both have classes. The parts are `first`,
/// `second` and `across`. A side without rows of a kind adds nothing; a part without any pair has nothing to learn. A batch of
/// one side is compared with itself. `push = 0` only aligns. Coral needs two rows on each side.
///
/// Source: Dai, Xie, Fang, "Deep correlated holistic metric learning for sketch-based 3D shape retrieval", IEEE TIP 2018. Coral:
/// Sun, Saenko, "Deep CORAL", 2016, <https://arxiv.org/abs/1607.01719>. The constants are ours.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("correlated = { correlation = \"coral\" }")?;
/// assert_eq!(config.reads(), Reads::Classes);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Correlated {
    /// How far rows of two classes should be; 1.2 for rows of length 1.
    pub margin: NonNegative,
    /// What negative pairs across the domains count.
    pub push: NonNegative,
    /// What bringing the domains together counts.
    pub weight: NonNegative,
    /// How they are brought together.
    pub correlation: Correlation,
}

/// How two domains are brought together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Correlation {
    /// By pairs of rows.
    #[default]
    Pairs,
    /// By the covariances of both, without looking at classes.
    Coral,
}

impl Default for Correlated {
    /// Ours.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(1.0),
            push: NonNegative::literal(1.0),
            weight: NonNegative::literal(1.0),
            correlation: Correlation::Pairs,
        }
    }
}

impl BatchLoss for Correlated {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Distance("euclidean")
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "distances of rows")?;
        refuse_miner(name, &join)?;
        Ok(Box::new(OverDomains {
            name,
            settings: self.clone(),
            distance: join.distance(name, "euclidean")?,
            reducer: join.reducer.take().unwrap_or_else(|| self.reducer()),
        }))
    }
}

#[derive(Debug)]
struct OverDomains {
    name: &'static str,
    settings: Correlated,
    distance: Box<dyn Distance>,
    reducer: Reducer,
}

impl Stateful for OverDomains {}

impl OverDomains {
    /// The mean over positive pairs, and what is pushed of the negative ones; none where there is no pair.
    fn of(&self, comparison: &Comparison<'_>, push: f64) -> Result<Option<Tensor>> {
        let kinds = comparison.kinds(self.name)?;
        let count = |wanted: Kind| kinds.iter().filter(|it| **it == wanted).count();
        let (positives, negatives) = (count(Kind::Positive), count(Kind::Negative));
        if positives == 0 && (negatives == 0 || push == 0.0) {
            return Ok(None);
        }
        let (x, y) = (&comparison.anchors.vectors, &comparison.references.vectors);
        let matrix = self.distance.matrix(x, y)?;
        let (near, far) = comparison.masks(self.name, matrix.dtype(), matrix.device())?;
        let pull = (matrix.sqr()? * (near / positives.max(1) as f64)?)?.sum_all()?;
        let within = hinge(&(matrix.neg()? + self.settings.margin.get())?)?.sqr()?;
        let pushed = ((within * far)?.sum_all()? * (push / negatives.max(1) as f64))?;
        Ok(Some((pull + pushed)?))
    }

    fn across(&self, comparison: &Comparison<'_>) -> Result<Option<Tensor>> {
        if self.settings.correlation == Correlation::Pairs {
            return self.of(comparison, self.settings.push.get());
        }
        let sides = [comparison.anchors, comparison.references];
        if sides.iter().any(|side| side.len() < 2) {
            return Ok(None);
        }
        let width = comparison.anchors.vectors.dim(1)? as f64;
        let off = (covariance(&sides[0].vectors)? - covariance(&sides[1].vectors)?)?;
        // Of the root, so that squares of squares of large rows stay finite.
        let scaled = (off / (2.0 * width))?;
        Ok(Some(scaled.sqr()?.sum_all()?))
    }
}

impl Loss for OverDomains {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        by_class(self.name, comparison)?;
        let part = |name, value: Option<Tensor>| match value {
            None => Ok(Terms::none(name, comparison)),
            Some(value) => Terms::of_batch(name, &value, comparison),
        };
        let first = self.of(&Comparison::within(comparison.anchors), 1.0)?;
        let second = self.of(&Comparison::within(comparison.references), 1.0)?;
        let across = self.across(comparison)?;
        let across = across
            .map(|it| it * self.settings.weight.get())
            .transpose()?;
        Ok(vec![
            part("first", first)?,
            part("second", second)?,
            part("across", across)?,
        ])
    }
}
