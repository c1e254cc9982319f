//! Angular loss.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, Error, Evaluated, Kind, Loss, Pairs, Part, Positive, Reducer, Rng, Terms,
};
use nearfar_kernels::{
    Base, Row, RowFunctional, RowSum, TINY_NORM, hinge, l2_normalize, masked_log_sum_exp, rows,
    softplus,
};
use serde::{Deserialize, Serialize};

use crate::compat::Compat;
use crate::family::BatchLoss;
use crate::over::known::{blockwise, host};
use crate::over::mining::{Mining, remembers_mining};
use crate::over::reduced;
use crate::over::rows::{AllRows, Way, Where, evaluate};
use crate::{Compares, Join, Reads};

/// Bounds the angle at the negative of the triangle that each positive pair makes with a negative.
///
/// ```text
/// batch    l(a, p)    = log(1 + Σ_n exp(4 tan²α (a + p)·n − 2 (1 + tan²α) a·p))
/// triplet  l(a, p, n) = max(0, ‖a − p‖² − 4 tan²α ‖n − c‖²),   c = (a + p)/2
/// ```
///
/// All rows are divided by their length first, so the scale of the input does not matter. The batch form is averaged over the
/// ordered positive pairs, the triplet form over the triplets above zero; in both, every negative of the anchor counts. A miner
/// chooses the positive pairs. With one class, or all classes distinct, there is nothing to learn. `a = p` is no trouble.
///
/// Under the reducers `mean`, `sum` and (triplets) `avg_nonzero` it works on a block of pairs at a time: `O(#P n)` time, and
/// memory for one block; and over whole batches a class at a time, in `O(n d)` memory for small classes.
///
/// `compat = "pml"` leaves the negatives of the batch form as they are, as pytorch-metric-learning does: then the value depends
/// on the scale of the input.
///
/// Source: Wang, Zhou, Wen, Liu, Lin, "Deep metric learning with angular loss", ICCV 2017,
/// <https://arxiv.org/abs/1708.01682>, equations 5 and 8. Agrees with `AngularLoss` of pytorch-metric-learning 2.9 with
/// `compat`. The paper adds it, times 2, to the N-pair loss; that is the list `[[losses]]` of a run file.
///
/// ```
/// # use nearfar_losses::LossConfig;
/// let config: LossConfig = toml::from_str("angular = { angle = 0.8 }")?;
/// assert!(config.check().is_ok());
/// let config: LossConfig = toml::from_str("angular = { angle = 40 }")?; // Degrees.
/// assert!(config.check().unwrap_err().to_string().contains("40 must be below"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Angular {
    /// The bound `α`, in radians.
    pub angle: Positive,
    /// Smooth over the batch, or a hinge for each triplet.
    pub form: AngularForm,
    /// Whose convention it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
}

/// How the angular loss sees a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AngularForm {
    /// All negatives of a pair in one log-sum-exp.
    #[default]
    Batch,
    /// Each on its own.
    Triplet,
}

impl Default for Angular {
    /// 40 degrees, which is in the middle of the paper's range of 36 to 55, in the batch form.
    fn default() -> Self {
        Self {
            angle: Positive::literal(40.0 * std::f64::consts::PI / 180.0),
            form: AngularForm::Batch,
            compat: None,
        }
    }
}

impl BatchLoss for Angular {
    fn reads(&self) -> Reads {
        Reads::ClassesOrPairs
    }

    fn compares(&self) -> Compares {
        Compares::Own
    }

    fn reducer(&self) -> Reducer {
        match self.form {
            AngularForm::Batch => Reducer::Mean {},
            AngularForm::Triplet => Reducer::AvgNonzero {},
        }
    }

    fn check(&self) -> std::result::Result<(), Error> {
        let angle = self.angle.get();
        if angle >= std::f64::consts::FRAC_PI_2 {
            return Err(Error::Settings(format!(
                "angular: `angle` is in radians, and {angle} must be below π/2"
            )));
        }
        if self.compat.is_some() && self.form == AngularForm::Triplet {
            return Err(Error::Settings(
                "angular: no other library has the triplet form; leave `compat` out".into(),
            ));
        }
        Ok(())
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "angles between rows")?;
        join.refuse_own(name, "angles between rows")?;
        Ok(Box::new(OverAngular {
            name,
            settings: self.clone(),
            reducer: join.reducer.take().unwrap_or_else(|| self.reducer()),
            mining: join.mining(),
        }))
    }
}

#[derive(Debug)]
struct OverAngular {
    name: &'static str,
    settings: Angular,
    reducer: Reducer,
    mining: Mining,
}

/// Anchors, references, and references as negatives: `(n, d)`, `(m, d)`, `(m, d)`.
type Sides = [Tensor; 3];

impl OverAngular {
    fn sides(&self, comparison: &Comparison<'_>) -> Result<Sides> {
        let anchors = l2_normalize(&comparison.anchors.vectors)?;
        let references = if std::ptr::eq(comparison.anchors, comparison.references) {
            anchors.clone()
        } else {
            l2_normalize(&comparison.references.vectors)?
        };
        let negatives = match self.settings.compat {
            Some(Compat::Pml) => {
                let rows = &comparison.references.vectors;
                // A row of zeros has no direction and no gradient, as a negative too.
                let squares = rows.detach().sqr()?.sum_keepdim(1)?;
                let there = squares.ge(TINY_NORM * TINY_NORM)?.to_dtype(rows.dtype())?;
                rows.broadcast_mul(&there)?
            }
            None => references.clone(),
        };
        Ok([anchors, references, negatives])
    }

    /// The positive pairs whose anchor has a negative, those of one class together.
    fn pairs(&self, comparison: &Comparison<'_>, kinds: &[Kind], rng: &mut Rng) -> Result<Pairs> {
        let m = comparison.references.len();
        let own = || {
            let [anchors, references, _] = self.sides(comparison)?;
            anchors.matmul(&references.t()?)?.neg()
        };
        let pairs = self.mining.tuples(self.name, comparison, own, rng)?;
        let pairs = pairs.into_pairs();
        if pairs.negative.is_empty() {
            return Ok(Pairs::default());
        }
        let has_negative: Vec<bool> = kinds
            .chunks(m)
            .map(|kinds| kinds.contains(&Kind::Negative))
            .collect();
        let positives = pairs.positive.iter();
        Ok(positives.filter(|it| has_negative[it.0 as usize]).collect())
    }

    /// The terms of some pairs: `(t)`, or `(t, m)` of triplets, 0 where a reference is no negative.
    fn values(&self, sides: &[Tensor], kinds: &[Kind], pairs: &[(u32, u32)]) -> Result<Tensor> {
        let [anchors, references, negatives] = sides else {
            Err(Error::Input("three sides are wanted".into()))?
        };
        let (m, device) = (negatives.dim(0)?, negatives.device());
        // Products with all negatives once for each row that is in a pair.
        let among = |rows: &Tensor, places: &dyn Fn(&(u32, u32)) -> u32| -> Result<[Tensor; 2]> {
            let known: BTreeSet<u32> = pairs.iter().map(places).collect();
            let known: Vec<u32> = known.into_iter().collect();
            let place =
                |it: &(u32, u32)| known.binary_search(&places(it)).expect("it was put in") as u32;
            let index: Vec<u32> = pairs.iter().map(place).collect();
            let count = known.len();
            let rows = rows.index_select(&Tensor::from_vec(known, count, device)?, 0)?;
            let index = Tensor::from_vec(index, pairs.len(), device)?;
            let products = rows.matmul(&negatives.t()?)?.index_select(&index, 0)?; // (t, m)
            Ok([products, rows.index_select(&index, 0)?])
        };
        let [from_anchors, a] = among(anchors, &|it| it.0)?;
        let [from_positives, p] = among(references, &|it| it.1)?;
        let products = (from_anchors + from_positives)?; // (a + p)·n
        let ap = (&a * &p)?.sum_keepdim(1)?; // (t, 1)
        let mut mask = Vec::with_capacity(pairs.len() * m);
        for (anchor, _) in pairs {
            let kinds = &kinds[*anchor as usize * m..][..m];
            mask.extend(kinds.iter().map(|it| u8::from(*it == Kind::Negative)));
        }
        let mask = Tensor::from_vec(mask, (pairs.len(), m), device)?;
        let tangent = self.settings.angle.get().tan().powi(2);
        match self.settings.form {
            AngularForm::Batch => {
                let products = (products * (4.0 * tangent))?;
                let f = products.broadcast_sub(&(ap * (2.0 * (1.0 + tangent)))?)?;
                softplus(&masked_log_sum_exp(&f, &mask)?)
            }
            AngularForm::Triplet => {
                let squares = ((a.sqr()? + p.sqr()?)?).sum_keepdim(1)?; // ‖a‖² + ‖p‖²
                let apart = (&squares - (&ap * 2.0)?)?;
                let center = ((squares + (ap * 2.0)?)? * 0.25)?; // ‖c‖²
                let own = negatives.sqr()?.sum(1)?.unsqueeze(0)?; // (1, m)
                let from_center = products
                    .neg()?
                    .broadcast_add(&center)?
                    .broadcast_add(&own)?;
                let gap = (from_center * (-4.0 * tangent))?.broadcast_add(&apart)?;
                let values = hinge(&gap)?;
                mask.where_cond(&values, &values.zeros_like()?)
            }
        }
    }

    /// The batch form a class at a time; none where the terms are wanted, or a sum of exponentials might not be held.
    fn by_class(&self, comparison: &Comparison<'_>) -> Result<Option<Evaluated>> {
        let tangent = self.settings.angle.get().tan().powi(2);
        let plain = self.settings.form != AngularForm::Batch || self.settings.compat.is_some();
        if plain || !self.mining.takes_all() || 16.0 * tangent > 80.0 {
            return Ok(None);
        }
        let way = Way {
            form: Base::Dot.into(),
            unit_rows: true,
        };
        let functional = |all: &AllRows<'_>| {
            let mut sizes = BTreeMap::new();
            for label in all.labels() {
                *sizes.entry(label).or_insert(0usize) += 1;
            }
            let small = sizes.values().all(|size| *size <= LARGEST_CLASS);
            Ok((small && all.within()).then(|| {
                Box::new(OfClass {
                    by: (4.0 * tangent) as f32,
                    pull: (2.0 * (1.0 + tangent)) as f32,
                }) as Box<dyn RowFunctional>
            }))
        };
        let (names, reducer) = ([self.part()], &self.reducer);
        let on = Where::Cpu;
        evaluate(&names, Some(way), functional, comparison, reducer, on, true)
    }

    fn part(&self) -> &'static str {
        match self.settings.form {
            AngularForm::Batch => "pair",
            AngularForm::Triplet => "triplet",
        }
    }
}

impl Loss for OverAngular {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        let triplets = self.settings.form == AngularForm::Triplet;
        let counts = matches!(self.reducer, Reducer::Mean {} | Reducer::Sum {})
            || (triplets && self.reducer == Reducer::AvgNonzero {});
        if let Some(evaluated) = self.by_class(comparison)? {
            return Ok(evaluated);
        }
        let kinds = comparison.kinds(self.name)?;
        if !counts || comparison.anchors.is_empty() || comparison.references.is_empty() {
            return reduced(&self.terms(comparison, rng)?, &self.reducer);
        }
        let mut pairs: Vec<_> = self.pairs(comparison, &kinds, rng)?.iter().collect();
        // Pairs of one class share their rows.
        let labels = &comparison.anchors.labels;
        pairs.sort_by_key(|it| (labels.get(it.0 as usize).copied(), *it));
        let m = comparison.references.len();
        let block = (BLOCK / m).clamp(1, 1024);
        let [anchors, references, negatives] = self.sides(comparison)?;
        let (mut terms, mut active) = (0, 0);
        let sides = [&anchors, &references, &negatives];
        let sum = blockwise(&sides, pairs.chunks(block), |sides, pairs| {
            let values = self.values(sides, &kinds, pairs)?;
            terms += if triplets {
                let negatives = |it: &(u32, u32)| {
                    let kinds = &kinds[it.0 as usize * m..][..m];
                    kinds.iter().filter(|it| **it == Kind::Negative).count()
                };
                pairs.iter().map(negatives).sum()
            } else {
                pairs.len()
            };
            active += host(&values)?.iter().filter(|it| **it > 0.0).count();
            Ok(Some(values.sum_all()?))
        })?;
        let divisor = match self.reducer {
            Reducer::Mean {} => terms,
            Reducer::AvgNonzero {} => active,
            _ => 1,
        };
        let value = match sum {
            Some(sum) if divisor > 0 => Some((sum / divisor as f64)?),
            _ => None,
        };
        let name = self.part();
        let part = Part {
            name,
            value,
            terms,
            active,
        };
        Ok(Evaluated { parts: vec![part] })
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let kinds = comparison.kinds(self.name)?;
        let name = self.part();
        let none = || Ok(vec![Terms::none(name, comparison)]);
        if comparison.anchors.is_empty() || comparison.references.is_empty() {
            return none();
        }
        let pairs = self.pairs(comparison, &kinds, rng)?;
        if pairs.is_empty() {
            return none();
        }
        let list: Vec<(u32, u32)> = pairs.iter().collect();
        let values = self.values(&self.sides(comparison)?, &kinds, &list)?;
        if self.settings.form == AngularForm::Batch {
            return Ok(vec![Terms::tuples(
                name,
                values,
                pairs.anchors,
                comparison,
            )?]);
        }
        let m = comparison.references.len();
        let (mut places, mut anchors) = (Vec::new(), Vec::new());
        for (row, (anchor, _)) in list.iter().enumerate() {
            for column in 0..m {
                if kinds[*anchor as usize * m + column] == Kind::Negative {
                    places.push((row * m + column) as u32);
                    anchors.push(*anchor);
                }
            }
        }
        let places = Tensor::from_slice(&places, places.len(), values.device())?;
        let values = values.flatten_all()?.index_select(&places, 0)?;
        Ok(vec![Terms::tuples(name, values, anchors, comparison)?])
    }
}

/// All pairs of one class. What a pair sees of a negative is a product, `exp(by a·n) exp(by p·n)`: so its sum over the negatives
/// is an inner product of two rows of exponentials.
struct OfClass {
    by: f32,
    pull: f32,
}

impl RowFunctional for OfClass {
    /// Of one row nothing is known.
    fn row(&self, row: Row<'_>) -> [RowSum; 2] {
        row.values.fill(0.0);
        [RowSum::default(); 2]
    }

    fn together(&self) -> bool {
        true
    }

    fn rows(&self, mut rows: Vec<Row<'_>>) -> Vec<[RowSum; 2]> {
        let size = rows.len();
        let mut sums = vec![[RowSum::default(); 2]; size];
        let Some(first) = rows.first() else {
            return sums;
        };
        let (start, ranges) = (first.positives.end - size, first.negatives.clone());
        let count = first.negatives_len();
        if count == 0 || size < 2 {
            rows.iter_mut().for_each(|row| row.values.fill(0.0));
            return sums;
        }
        // Exponentials of all negatives, each row's relative to its largest.
        let mut exponentials = vec![0f32; size * count];
        let mut largest = Vec::with_capacity(size);
        for (row, exponentials) in rows.iter().zip(exponentials.chunks_exact_mut(count)) {
            let (before, after) = exponentials.split_at_mut(ranges[0].len());
            before.copy_from_slice(&row.values[ranges[0].clone()]);
            after.copy_from_slice(&row.values[ranges[1].clone()]);
            let most = self.by * rows::maximum(exponentials);
            rows::exp_sum(exponentials, self.by, -most);
            largest.push(most);
        }
        let of = |row: usize| &exponentials[row * count..][..count];
        // Both orders of a pair are one number: by what each moves the negatives of both rows.
        let mut weights = vec![0f32; size * size];
        for one in 0..size {
            for other in one + 1..size {
                // The other's column: rows are in the order of columns, but a row's own comes first.
                let column = |row: usize, of: usize| if of == 0 { start + row } else { start + of };
                let (here, there) = (column(one, other), column(other, one));
                let sum = rows::product(of(one), of(other));
                let cosine = rows[one].values[here];
                let exponent = sum.ln() + largest[one] + largest[other] - self.pull * cosine;
                let cost = rows::softplus(exponent);
                for place in [one, other] {
                    sums[place][0] += RowSum {
                        value: f64::from(cost.value),
                        terms: 1,
                        active: usize::from(cost.value > 0.0),
                    };
                }
                rows[one].values[here] = -self.pull * cost.slope;
                rows[other].values[there] = -self.pull * cost.slope;
                let weight = 2.0 * self.by * cost.slope / sum;
                weights[one * size + other] = weight;
                weights[other * size + one] = weight;
            }
        }
        let mut moved = vec![0f32; count];
        for (place, row) in rows.iter_mut().enumerate() {
            moved.fill(0.0);
            for (other, weight) in weights[place * size..][..size].iter().enumerate() {
                if other != place {
                    rows::add_times(&mut moved, *weight, of(other));
                }
            }
            let own = of(place);
            let (before, after) = moved.split_at(ranges[0].len());
            let (own_before, own_after) = own.split_at(ranges[0].len());
            let columns = ranges[0].clone().zip(before.iter().zip(own_before));
            let columns = columns.chain(ranges[1].clone().zip(after.iter().zip(own_after)));
            for (column, (moved, own)) in columns {
                row.values[column] = moved * own;
            }
        }
        sums
    }
}

/// Rows of a class that are seen at once.
const LARGEST_CLASS: usize = 512;
/// Numbers of a block of pairs by negatives.
const BLOCK: usize = 1 << 19;

remembers_mining!(OverAngular);
