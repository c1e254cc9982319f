//! Dynamic soft margin loss.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use nearfar_core::{
    Comparison, Distance, EmbeddingTable, Error, Evaluated, Finite, Fraction, Kind, Loss, Purpose,
    Reducer, Rng, Seed, Span, Stateful, Terms, Triplets,
};
use serde::{Deserialize, Serialize};

use crate::compat::Compat;
use crate::family::BatchLoss;
use crate::over::known::{host, known_from};
use crate::over::mining::Mining;
use crate::over::reduced;
use crate::{Compares, Join, Reads, prefix};

/// Weighs each triplet by how hard it is among those that were seen lately.
///
/// ```text
/// v = d(a, p) − d(a, n)
/// L = mean over triplets of CDF(v) · v
/// ```
///
/// `CDF` is the cumulative histogram of `v` over the batches so far; it has no gradient. It spans from `low` to `−low` in
/// `bins` equal bins, and each `v` is split between its bin and the next one by where it is between them. The first batch fills
/// it; to `1 − momentum` of it each later one adds `momentum` for each triplet, and then it is divided by its sum. The histogram is
/// state and part of a checkpoint; a batch that is evaluated before any was absorbed takes its own.
///
/// `negatives = "all"` takes all triplets (or those that a miner chooses); `"hardest"` takes of each positive pair the nearest
/// negative of either of its rows, which for the two sides of a batch without classes is the paper's form. The value may be
/// below zero. With one class, or all classes distinct, there is nothing to learn. No list is made: `O(T)` time, `O(n²)`
/// memory. The batch is one term, which reducers leave as it is.
///
/// `compat = "pml"` lets the gradient flow through the histogram of the current batch too.
///
/// Source: Zhang, Rusinkiewicz, "Learning local descriptors with a CDF-based dynamic soft margin", ICCV 2019. Agrees with
/// `DynamicSoftMarginLoss` of pytorch-metric-learning 2.9, its gradient with `compat`.
///
/// Choose it where a good margin is not known: it has none to tune.
///
/// ```
/// # use nearfar_losses::{Family, LossConfig};
/// let config: LossConfig = toml::from_str("dynamic_soft_margin = { bins = 20 }")?;
/// assert_eq!(config.family(), Family::Batches);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamicSoftMargin {
    /// The lowest gap that the histogram holds, below zero; for rows of length 1 it is −2.
    pub low: Finite,
    /// How many bins there are.
    pub bins: usize,
    /// What a triplet of a later batch counts.
    pub momentum: Fraction,
    /// Which negatives are taken.
    pub negatives: GapNegatives,
    /// Whose convention it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
}

/// Which negatives make the gaps of a dynamic soft margin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapNegatives {
    /// Every one of the anchor.
    #[default]
    All,
    /// Of each positive pair, the nearest of the anchor or of the positive.
    Hardest,
}

impl Default for DynamicSoftMargin {
    /// The paper's, for rows of length 1.
    fn default() -> Self {
        Self {
            low: Finite::literal(-2.0),
            bins: 10,
            momentum: Fraction::literal(0.01),
            negatives: GapNegatives::All,
            compat: None,
        }
    }
}

impl BatchLoss for DynamicSoftMargin {
    fn reads(&self) -> Reads {
        Reads::ClassesOrPairs
    }

    fn compares(&self) -> Compares {
        Compares::Distance("euclidean")
    }

    fn check(&self) -> std::result::Result<(), Error> {
        if self.low.get() >= 0.0 {
            return Err(Error::Settings(format!(
                "dynamic_soft_margin: `low` is {}, and must be below 0",
                self.low
            )));
        }
        if self.bins < 2 {
            return Err(Error::Settings(format!(
                "dynamic_soft_margin: {} `bins` are no histogram; give it 2 or more",
                self.bins
            )));
        }
        Ok(())
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "distances of triplets")?;
        let distance = join.distance(name, "euclidean")?;
        if self.negatives == GapNegatives::Hardest {
            crate::over::matrix::refuse_miner(name, &join)?;
        }
        Ok(Box::new(OverGaps {
            name,
            settings: self.clone(),
            distance,
            reducer: join.reducer.take().unwrap_or_else(|| self.reducer()),
            mining: join.mining(),
            histogram: Histogram::default(),
        }))
    }
}

/// What was seen.
#[derive(Clone, Debug, Default)]
struct Histogram {
    /// The share of each bin; empty before the first batch.
    shares: Vec<f64>,
    /// What one triplet of the last batch added.
    share: f64,
}

#[derive(Debug)]
struct OverGaps {
    name: &'static str,
    settings: DynamicSoftMargin,
    distance: Box<dyn Distance>,
    reducer: Reducer,
    mining: Mining,
    histogram: Histogram,
}

/// Two places of a matrix: the farther is to be nearer than the nearer.
type Gap = (usize, usize);

/// The gaps of a batch; without a list where all triplets are taken.
enum Gaps {
    All { kinds: Vec<Kind>, m: usize },
    Listed(Vec<Gap>),
}

impl Gaps {
    fn for_each(&self, mut f: impl FnMut(Gap)) {
        match self {
            Self::Listed(gaps) => gaps.iter().copied().for_each(f),
            Self::All { kinds, m } => {
                for (anchor, row) in kinds.chunks(*m).enumerate() {
                    let of = |wanted: Kind| {
                        let row = row.iter().enumerate();
                        let places = row.filter(move |it| *it.1 == wanted);
                        places.map(move |it| anchor * m + it.0)
                    };
                    let negatives: Vec<usize> = of(Kind::Negative).collect();
                    for positive in of(Kind::Positive) {
                        negatives
                            .iter()
                            .for_each(|&negative| f((positive, negative)));
                    }
                }
            }
        }
    }
}

/// Of each positive pair the nearest negative of its row or column; the row's where both are as near.
fn hardest(x: &[f64], kinds: &[Kind], m: usize) -> Vec<Gap> {
    let nearer = |best: Option<usize>, place: usize| match best {
        Some(best) if x[best] <= x[place] => Some(best),
        _ => Some(place),
    };
    let (mut rows, mut columns) = (vec![None; x.len() / m], vec![None; m]);
    for place in (0..x.len()).filter(|&place| kinds[place] == Kind::Negative) {
        let (row, column) = (place / m, place % m);
        rows[row] = nearer(rows[row], place);
        columns[column] = nearer(columns[column], place);
    }
    let positives = (0..x.len()).filter(|&place| kinds[place] == Kind::Positive);
    let gaps = positives.filter_map(|place| {
        let (row, column) = (rows[place / m], columns[place % m]);
        let negative = match (row, column) {
            (Some(row), Some(column)) if x[column] < x[row] => column,
            (row, column) => row.or(column)?,
        };
        Some((place, negative))
    });
    gaps.collect()
}

impl OverGaps {
    /// The distances and the gaps; none where there is nothing to compare.
    fn seen(
        &self,
        comparison: &Comparison<'_>,
        rng: &mut Rng,
    ) -> Result<Option<(Tensor, Vec<f64>, Gaps)>> {
        let kinds = comparison.kinds(self.name)?;
        let (n, m) = (comparison.anchors.len(), comparison.references.len());
        if n == 0 || m == 0 {
            return Ok(None);
        }
        let (anchors, references) = (&comparison.anchors.vectors, &comparison.references.vectors);
        let matrix = self.distance.matrix(anchors, references)?;
        let x = host(&matrix)?;
        let gaps = if self.settings.negatives == GapNegatives::Hardest {
            Gaps::Listed(hardest(&x, &kinds, m))
        } else if self.mining.takes_all() {
            Gaps::All { kinds, m }
        } else {
            let own = || Ok(matrix.clone());
            let tuples = self.mining.tuples(self.name, comparison, own, rng)?;
            let triplets: Triplets = tuples.into_triplets();
            let place = |row: u32, column: u32| row as usize * m + column as usize;
            let gaps = triplets.iter().map(|(a, p, n)| (place(a, p), place(a, n)));
            Gaps::Listed(gaps.collect())
        };
        Ok(Some((matrix, x, gaps)))
    }

    /// The bin of a gap and how far it is on the way to the next.
    fn bin(&self, gap: f64) -> (usize, f64) {
        let (low, bins) = (self.settings.low.get(), self.settings.bins);
        let place = (gap - low) / (2.0 * low.abs() / bins as f64);
        // Beyond the ends counts as the ends; not-a-numbers too, which the value then shows.
        let bin = place.floor().clamp(0.0, (bins - 1) as f64);
        (bin as usize, (place - bin).clamp(0.0, 1.0))
    }

    /// The histogram after a batch.
    fn after(&self, x: &[f64], gaps: &Gaps) -> Histogram {
        let bins = self.settings.bins;
        let first = self.histogram.shares.is_empty();
        let momentum = if first {
            1.0
        } else {
            self.settings.momentum.get()
        };
        let mut added = vec![0f64; bins];
        let mut count = 0usize;
        gaps.for_each(|(positive, negative)| {
            let (bin, part) = self.bin(x[positive] - x[negative]);
            count += 1;
            added[bin] += 1.0 - part;
            added[(bin + 1).min(bins - 1)] += part;
        });
        if count == 0 {
            return self.histogram.clone();
        }
        let mut shares = self.histogram.shares.clone();
        shares.resize(bins, 0.0);
        for (share, added) in shares.iter_mut().zip(added) {
            *share = (1.0 - momentum) * *share + momentum * added;
        }
        let sum: f64 = shares.iter().sum();
        if sum.is_nan() || sum <= 0.0 {
            return self.histogram.clone();
        }
        shares.iter_mut().for_each(|share| *share /= sum);
        Histogram {
            shares,
            share: momentum / sum,
        }
    }

    fn value(&self, matrix: &Tensor, x: &[f64], gaps: &Gaps) -> Result<Option<Tensor>> {
        let own;
        let histogram = if self.histogram.shares.is_empty() {
            own = self.after(x, gaps);
            &own
        } else {
            &self.histogram
        };
        let bins = self.settings.bins;
        let mut cumulative = histogram.shares.clone();
        for bin in 1..cumulative.len() {
            cumulative[bin] += cumulative[bin - 1];
        }
        let mut count = 0usize;
        let mut sums = vec![0f64; bins];
        gaps.for_each(|(positive, negative)| {
            let gap = x[positive] - x[negative];
            count += 1;
            sums[self.bin(gap).0] += gap;
        });
        if count == 0 || cumulative.is_empty() {
            return Ok(None);
        }
        let scale = 1.0 / count as f64;
        let value: f64 = sums
            .iter()
            .zip(&cumulative)
            .map(|(sum, cdf)| sum * cdf)
            .sum();
        // A gap that moves on takes its share out of its bin's cumulative sum, by 1 for each width of a bin.
        let width = 2.0 * self.settings.low.get().abs() / bins as f64;
        let through = match self.settings.compat {
            Some(Compat::Pml) => histogram.share / width,
            None => 0.0,
        };
        let mut gradient = vec![0f64; x.len()];
        gaps.for_each(|(positive, negative)| {
            let bin = self.bin(x[positive] - x[negative]).0;
            // Beyond the last bin both parts stay in it.
            let through = if bin + 1 < bins { through } else { 0.0 };
            let pull = (cumulative[bin] - through * sums[bin]) * scale;
            gradient[positive] += pull;
            gradient[negative] -= pull;
        });
        known_from(matrix, value * scale, gradient).map(Some)
    }
}

impl Loss for OverGaps {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let value = match self.seen(comparison, rng)? {
            None => None,
            Some((matrix, x, gaps)) => self.value(&matrix, &x, &gaps)?,
        };
        Ok(vec![match value {
            None => Terms::none("gap", comparison),
            Some(value) => Terms::of_batch("gap", &value, comparison)?,
        }])
    }

    /// A miner that draws draws here from a stream of its own.
    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        let mut rng = Seed(0).rng(Purpose::Mining, 0);
        if let Some((_, x, gaps)) = self.seen(comparison, &mut rng)? {
            self.histogram = self.after(&x, &gaps);
        }
        Ok(())
    }
}

/// The names of the state.
const HISTOGRAM: &str = "histogram";
const SHARE: &str = "share";

impl Stateful for OverGaps {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = self.mining.state();
        let Histogram { shares, share } = &self.histogram;
        if !shares.is_empty() {
            let numbers = |numbers: &[f64]| {
                Tensor::from_slice(numbers, numbers.len(), &Device::Cpu)
                    .expect("a list is a tensor of its length")
            };
            state.insert(HISTOGRAM.into(), numbers(shares));
            state.insert(SHARE.into(), numbers(&[*share]));
        }
        state
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut rest = state.clone();
        self.histogram = match (rest.remove(HISTOGRAM), rest.remove(SHARE)) {
            (None, None) => Histogram::default(),
            (Some(shares), Some(share)) => {
                prefix::wants_shape(self.name, (HISTOGRAM, &shares), &[self.settings.bins])?;
                prefix::wants_shape(self.name, (SHARE, &share), &[1])?;
                Histogram {
                    shares: host(&shares)?,
                    share: host(&share)?[0],
                }
            }
            (shares, _) => Err(Error::Input(format!(
                "{}: there is state `{}` without `{}`",
                self.name,
                if shares.is_some() { HISTOGRAM } else { SHARE },
                if shares.is_some() { SHARE } else { HISTOGRAM },
            )))?,
        };
        self.mining.restore(&rest)
    }

    fn interval(&self) -> Option<Span> {
        self.mining.interval()
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        self.mining.refresh(table, rng)
    }
}
