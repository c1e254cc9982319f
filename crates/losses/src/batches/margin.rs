//! Margin loss.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};

use candle_core::{DType, Result, Tensor, Var};
use nearfar_core::{
    Comparison, Distance, Error, Evaluated, Finite, Kind, Loss, NonNegative, Parameter, Part,
    Reducer, Relation, Rng, Terms,
};
use nearfar_kernels::{Row, RowFunctional, RowSum, hinge};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::known::{host, known_from};
use crate::over::mining::{Mining, remembers_mining};
use crate::over::reduced;
use crate::over::rows::{AllRows, Way, Where, evaluate};
use crate::{Compares, Join, Reads};

/// Wants positives nearer than a boundary, and negatives farther, each by a margin.
///
/// ```text
/// l(a, p, n) = max(0, d(a, p) − β + margin) + max(0, β − d(a, n) + margin)
/// ```
///
/// Its sum over all triplets is divided by the number of sides above zero, so a pair counts as often as triplets have it. The
/// boundary `β` is one number, or with `per_class` one for the class of each anchor; with `learn_beta` it is a parameter,
/// `beta`, which `nu` pushes down: `nu · β` is added, with `per_class` summed over the triplets and divided as the rest.
///
/// The parts are `triplet`, and `beta` where it is learned. With one class, or all classes distinct, there is no triplet and
/// nothing to learn. All triplets are taken without a list under the reducers `divisor`, `mean` and `sum`: by the matrix, or
/// where the CPU's engine serves row by row, in `O(n² d)` time and `O(n d)` memory.
///
/// Source: Wu, Manmatha, Smola, Krähenbühl, "Sampling matters in deep embedding learning", ICCV 2017,
/// <https://arxiv.org/abs/1706.07567>, equation 5. Agrees with `MarginLoss` of pytorch-metric-learning 2.9.
///
/// Choose it with distance-weighted sampling of negatives, as the paper does.
///
/// ```
/// # use nearfar_losses::{Family, LossConfig};
/// let config: LossConfig = toml::from_str("margin = { learn_beta = true, nu = 0.1 }")?;
/// assert_eq!(config.family(), Family::Batches);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Margin {
    /// How far from the boundary each side must be.
    pub margin: NonNegative,
    /// The boundary, or where it starts.
    pub beta: Finite,
    /// Whether the boundary is learned.
    pub learn_beta: bool,
    /// Whether each class has its own.
    pub per_class: bool,
    /// What a learned boundary costs.
    pub nu: NonNegative,
}

impl Default for Margin {
    /// The paper's, for rows of length 1, with the boundary fixed.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.2),
            beta: Finite::literal(1.2),
            learn_beta: false,
            per_class: false,
            nu: NonNegative::literal(0.0),
        }
    }
}

impl BatchLoss for Margin {
    fn reads(&self) -> Reads {
        if self.per_class {
            Reads::Classes
        } else {
            Reads::ClassesOrPairs
        }
    }

    fn compares(&self) -> Compares {
        Compares::Distance("euclidean")
    }

    fn reducer(&self) -> Reducer {
        Reducer::Divisor {}
    }

    fn check(&self) -> std::result::Result<(), Error> {
        if self.nu.get() > 0.0 && !self.learn_beta {
            return Err(Error::Settings(format!(
                "margin: `nu` is {}, but `beta` is not learned; set `learn_beta` or leave `nu` out",
                self.nu
            )));
        }
        Ok(())
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "distances of triplets")?;
        let distance = join.distance(name, "euclidean")?;
        let count = match (self.per_class, join.classes) {
            (false, _) => 1,
            (true, Some(classes)) if classes > 0 => classes,
            (true, _) => Err(Error::Settings(format!(
                "{name} needs to know how many classes there are; give it data with classes, or set `per_class = false`"
            )))?,
        };
        let start = Tensor::full(self.beta.get(), count, &join.device)?.to_dtype(join.dtype)?;
        Ok(Box::new(OverMargin {
            name,
            settings: self.clone(),
            beta: Var::from_tensor(&start)?,
            distance,
            reducer: join.reducer.take().unwrap_or_else(|| self.reducer()),
            mining: join.mining(),
        }))
    }
}

#[derive(Debug)]
struct OverMargin {
    name: &'static str,
    settings: Margin,
    /// `(1)` or `(c)`
    beta: Var,
    distance: Box<dyn Distance>,
    reducer: Reducer,
    mining: Mining,
}

/// Sums over all triplets.
struct Sums {
    value: Tensor,
    /// How many there are of each boundary.
    triplets: Vec<f64>,
    /// Sides above zero.
    above: f64,
    /// Triplets with such a side.
    active: usize,
}

/// What all rows are seen with, and what each leaves behind: a row seen twice leaves the same.
struct Sides {
    margin: f32,
    betas: Vec<f64>,
    /// The boundary of each anchor; none where all have the first.
    labels: Vec<u32>,
    /// Of each anchor.
    counts: Vec<Counts>,
}

/// What is counted of an anchor.
#[derive(Default)]
struct Counts {
    triplets: AtomicU64,
    /// Sides above zero.
    above: AtomicU64,
    /// The derivative of the anchor's sum by its boundary.
    pull: AtomicI64,
}

impl Sides {
    fn boundary(&self, anchor: usize) -> usize {
        self.labels.get(anchor).map_or(0, |&it| it as usize)
    }

    /// The triplets of each boundary, the sum's derivative by it, and all sides above zero.
    fn sums(&self) -> (Vec<f64>, Vec<f64>, f64) {
        let mut triplets = vec![0f64; self.betas.len()];
        let (mut pulls, mut above) = (triplets.clone(), 0f64);
        for (anchor, counts) in self.counts.iter().enumerate() {
            let boundary = self.boundary(anchor);
            triplets[boundary] += counts.triplets.load(Relaxed) as f64;
            pulls[boundary] += counts.pull.load(Relaxed) as f64;
            above += counts.above.load(Relaxed) as f64;
        }
        (triplets, pulls, above)
    }
}

/// All triplets of an anchor: a positive is in as many as there are negatives, and the other way round.
struct ByRow(Arc<Sides>);

impl RowFunctional for ByRow {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let sides = &*self.0;
        let (beta, margin) = (sides.betas[sides.boundary(row.anchor)] as f32, sides.margin);
        let counts = &sides.counts[row.anchor];
        let (positives, negatives) = (row.positives.len(), row.negatives_len());
        let (near, far) = row.split();
        let (mut ours, mut others) = (0f64, 0f64);
        let (mut p, mut q) = (0usize, 0usize);
        for value in near {
            let off = *value - beta + margin;
            let above = off > 0.0;
            ours += f64::from(if above { off } else { 0.0 });
            p += usize::from(above);
            *value = if above { negatives as f32 } else { 0.0 };
        }
        for value in far.into_iter().flatten() {
            let off = beta - *value + margin;
            let above = off > 0.0;
            others += f64::from(if above { off } else { 0.0 });
            q += usize::from(above);
            *value = if above { -(positives as f32) } else { 0.0 };
        }
        let triplets = positives * negatives;
        let above = p * negatives + q * positives;
        counts.triplets.store(triplets as u64, Relaxed);
        counts.above.store(above as u64, Relaxed);
        let pull = (q * positives) as i64 - (p * negatives) as i64;
        counts.pull.store(pull, Relaxed);
        let active = triplets - (positives - p) * (negatives - q);
        let sum = RowSum {
            value: ours * negatives as f64 + others * positives as f64,
            terms: triplets,
            active,
        };
        [sum, RowSum::default()]
    }
}

/// The name of the parameter and of its part.
const BETA: &str = "beta";

impl OverMargin {
    fn check(&self, comparison: &Comparison<'_>) -> Result<()> {
        if self.settings.per_class {
            let Relation::SameClass = comparison.relation else {
                return Err(comparison.cannot_read(self.name, "classes"))?;
            };
        }
        comparison.check()?;
        let classes = self.beta.elem_count();
        let labels = &comparison.anchors.labels;
        if self.settings.per_class
            && let Some(row) = labels.iter().position(|&label| label as usize >= classes)
        {
            Err(Error::Input(format!(
                "{}: row {row} has label {}, but there are {classes} classes, from 0 to {}",
                self.name,
                labels[row],
                classes - 1
            )))?;
        }
        Ok(())
    }

    /// The boundary of each of some anchors, `(t)`.
    fn boundaries(&self, anchors: &[u32], comparison: &Comparison<'_>) -> Result<Tensor> {
        let places: Vec<u32> = if self.settings.per_class {
            let labels = &comparison.anchors.labels;
            anchors.iter().map(|&row| labels[row as usize]).collect()
        } else {
            vec![0; anchors.len()]
        };
        let places = Tensor::from_vec(places, anchors.len(), self.beta.device())?;
        let beta = self.beta.as_tensor();
        if self.settings.learn_beta {
            beta.index_select(&places, 0)
        } else {
            beta.detach().index_select(&places, 0)
        }
    }

    fn matrix(&self, comparison: &Comparison<'_>) -> Result<Tensor> {
        let (anchors, references) = (&comparison.anchors.vectors, &comparison.references.vectors);
        self.distance.matrix(anchors, references)
    }

    fn none(&self, comparison: &Comparison<'_>) -> Vec<Terms> {
        let mut terms = vec![Terms::none("triplet", comparison)];
        if self.settings.learn_beta {
            terms.push(Terms::none(BETA, comparison));
        }
        terms
    }

    /// All triplets, row by row; none where only the matrix serves.
    fn of_rows(&self, comparison: &Comparison<'_>) -> Result<Option<Sums>> {
        let way = Way::of_distance(self.distance.form());
        if way.is_none() {
            return Ok(None);
        }
        let sides = Sides {
            margin: self.settings.margin.get() as f32,
            betas: host(&self.beta)?,
            labels: match self.settings.per_class {
                true => comparison.anchors.labels.clone(),
                false => Vec::new(),
            },
            counts: std::iter::repeat_with(Counts::default)
                .take(comparison.anchors.len())
                .collect(),
        };
        let sides = Arc::new(sides);
        let functional = |_: &AllRows<'_>| Ok(Some(Box::new(ByRow(sides.clone())) as Box<_>));
        let (names, sum) = (["triplet"], Reducer::Sum {});
        let found = evaluate(&names, way, functional, comparison, &sum, Where::Cpu, true)?;
        let Some(part) = found.and_then(|mut found| found.parts.pop()) else {
            return Ok(None);
        };
        let Some(value) = part.value else {
            return Ok(None);
        };
        let (triplets, pulls, above) = sides.sums();
        let value = match self.settings.learn_beta {
            true => (value + known_from(self.beta.as_tensor(), 0.0, pulls)?)?,
            false => value,
        };
        Ok(Some(Sums {
            value,
            triplets,
            above,
            active: part.active,
        }))
    }

    /// All triplets by the matrix, and the number of times each pair is in one; none without a triplet.
    fn of_matrix(&self, comparison: &Comparison<'_>, kinds: &[Kind]) -> Result<Option<Sums>> {
        let (n, m) = (comparison.anchors.len(), comparison.references.len());
        let mut triplets = vec![0f64; self.beta.elem_count()];
        let (mut ours, mut others) = (vec![0f64; n * m], vec![0f64; n * m]);
        for (anchor, kinds) in kinds.chunks(m.max(1)).enumerate().take(n) {
            let count = |wanted: Kind| kinds.iter().filter(|it| **it == wanted).count();
            let (positives, negatives) = (count(Kind::Positive), count(Kind::Negative));
            let boundary = match self.settings.per_class {
                true => comparison.anchors.labels[anchor] as usize,
                false => 0,
            };
            triplets[boundary] += (positives * negatives) as f64;
            for (column, kind) in kinds.iter().enumerate() {
                match kind {
                    Kind::Positive => ours[anchor * m + column] = negatives as f64,
                    Kind::Negative => others[anchor * m + column] = positives as f64,
                    Kind::Nothing => {}
                }
            }
        }
        if triplets.iter().sum::<f64>() == 0.0 {
            return Ok(None);
        }
        let matrix = self.matrix(comparison)?;
        let like = |numbers: &[f64]| {
            Tensor::from_slice(numbers, (n, m), &candle_core::Device::Cpu)?
                .to_dtype(matrix.dtype())?
                .to_device(matrix.device())
        };
        let anchors: Vec<u32> = (0..n as u32).collect();
        let beta = self.boundaries(&anchors, comparison)?;
        let margin = self.settings.margin.get();
        let beyond = matrix.broadcast_sub(&beta.unsqueeze(1)?)?; // (n, m)
        let near = hinge(&(&beyond + margin)?)?;
        let far = hinge(&(beyond.neg()? + margin)?)?;
        let value = ((near.clone() * like(&ours)?)? + (far.clone() * like(&others)?)?)?;
        // Sides above zero, and triplets with such a side.
        let (near, far) = (host(&near)?, host(&far)?);
        let (mut sides, mut active) = (0f64, 0f64);
        for anchor in 0..n {
            let row = anchor * m..(anchor + 1) * m;
            let above = |weights: &[f64], values: &[f64]| {
                let both = weights[row.clone()].iter().zip(&values[row.clone()]);
                both.filter(|it| *it.0 > 0.0 && *it.1 > 0.0).count() as f64
            };
            let all = |weights: &[f64]| {
                weights[row.clone()].iter().filter(|it| **it > 0.0).count() as f64
            };
            let (p, q) = (above(&ours, &near), above(&others, &far));
            let (positives, negatives) = (all(&ours), all(&others));
            sides += p * negatives + q * positives;
            active += positives * negatives - (positives - p) * (negatives - q);
        }
        Ok(Some(Sums {
            value: value.sum_all()?,
            triplets,
            above: sides,
            active: active as usize,
        }))
    }

    /// The parts of all triplets, under a reducer that looks at no single one of them.
    fn of_sums(&self, sums: &Sums, comparison: &Comparison<'_>) -> Result<Evaluated> {
        let triplets = sums.triplets.iter().sum::<f64>();
        let divisor = match self.reducer {
            Reducer::Divisor {} => sums.above,
            Reducer::Mean {} => triplets,
            _ => 1.0,
        };
        let part = |name, value: &Tensor, active: usize| -> Result<Part> {
            Ok(Part {
                name,
                value: match divisor > 0.0 {
                    true => Some((value / divisor)?),
                    false => None,
                },
                terms: triplets as usize,
                active,
            })
        };
        let mut parts = vec![part("triplet", &sums.value, sums.active)?];
        if self.settings.learn_beta {
            parts.push(if self.settings.per_class {
                let counts = Tensor::new(&sums.triplets[..], self.beta.device())?;
                let counts = counts.to_dtype(self.beta.dtype())?;
                let cost = (self.beta.as_tensor() * self.settings.nu.get())?;
                let above = host(&cost)?.into_iter().zip(&sums.triplets);
                let active = above.filter(|it| it.0 > 0.0).map(|it| it.1).sum::<f64>();
                part(BETA, &(cost * counts)?.sum_all()?, active as usize)?
            } else {
                self.reducer.reduce(&self.global(comparison)?)?
            });
        }
        Ok(Evaluated { parts })
    }

    /// What the one boundary costs.
    fn global(&self, comparison: &Comparison<'_>) -> Result<Terms> {
        let cost = (self.beta.as_tensor() * self.settings.nu.get())?;
        Terms::of_batch(BETA, &cost, comparison)
    }
}

impl Loss for OverMargin {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        let reducer = &self.reducer;
        let summed = matches!(
            reducer,
            Reducer::Divisor {} | Reducer::Mean {} | Reducer::Sum {}
        );
        if self.mining.takes_all() && summed {
            self.check(comparison)?;
            let sums = match self.of_rows(comparison)? {
                Some(sums) => Some(sums),
                None => self.of_matrix(comparison, &comparison.kinds(self.name)?)?,
            };
            return match sums {
                Some(sums) => self.of_sums(&sums, comparison),
                None => reduced(&self.none(comparison), reducer),
            };
        }
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        self.check(comparison)?;
        if comparison.anchors.is_empty() || comparison.references.is_empty() {
            return Ok(self.none(comparison));
        }
        let matrix = self.matrix(comparison)?;
        let own = || Ok(matrix.clone());
        let tuples = self.mining.tuples(self.name, comparison, own, rng)?;
        let triplets = tuples.into_triplets();
        if triplets.is_empty() {
            return Ok(self.none(comparison));
        }
        let (positive, negative) = triplets.select(&matrix)?;
        let beta = self.boundaries(triplets.anchors(), comparison)?;
        let margin = self.settings.margin.get();
        let near = hinge(&((positive - &beta)? + margin)?)?;
        let far = hinge(&((&beta - negative)? + margin)?)?;
        let sides = |it: &Tensor| -> Result<f64> {
            let above = it.detach().gt(0f64)?.to_dtype(DType::U32)?;
            Ok(f64::from(above.sum_all()?.to_scalar::<u32>()?))
        };
        let divisor = Some(sides(&near)? + sides(&far)?);
        let anchors = triplets.anchors().to_vec();
        let of = |name, values: Tensor| -> Result<Terms> {
            let terms = Terms::tuples(name, values, anchors.clone(), comparison)?;
            Ok(Terms { divisor, ..terms })
        };
        let mut terms = vec![of("triplet", (near + far)?)?];
        if self.settings.learn_beta {
            terms.push(if self.settings.per_class {
                of(BETA, (beta * self.settings.nu.get())?)?
            } else {
                self.global(comparison)?
            });
        }
        Ok(terms)
    }

    fn parameters(&self) -> Vec<Parameter> {
        if !self.settings.learn_beta {
            return Vec::new();
        }
        vec![Parameter {
            name: BETA.into(),
            var: self.beta.clone(),
            trained: true,
        }]
    }
}

remembers_mining!(OverMargin);
