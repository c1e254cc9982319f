//! Loss of an anchor with several positives and several negatives.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Finite, Kind, NonNegative, Positive, Relation, Rng, Terms};
use nearfar_kernels::{hinge, masked_log_sum_exp, softplus};
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::matrix::{MatrixLoss, View};

/// Compares each of a few positives of an anchor with each of a few negatives.
///
/// ```text
/// hinge_mean  l(a) = 1/(A B) Σ_p Σ_n max(0, d(a, p)² − d(a, n)² + margin)
/// soft        l(a) = 1/γ log(1 + Σ_p Σ_n exp(γ (d(a, p)² − d(a, n)² + margin)))
/// + intra · mean_p d(a, p)²
/// + inter · mean_n max(0, inter_margin − d(a, n)²)
/// ```
///
/// Of each anchor the `A` nearest positives are taken, or that many at random, and `B` negatives from as many classes: of each
/// class the nearest row, of these the nearest, or the farthest of a pool of the nearest while the network is young. Where
/// there are fewer, all are. Pairs that are listed without classes count as a class each. Averaged over the anchors that have both;
/// with one class, or all classes distinct, there is none. The soft form takes `O(A + B)` for each anchor.
///
/// Source: the mixed loss of Chen, He, "Dress fashionably: learn fashion collocation with deep mixed-category metric learning",
/// AAAI 2018, with three of each, for any number of them.
///
/// ```
/// # use nearfar_losses::LossConfig;
/// let text = "multi_tuple = { form = { soft = { gamma = 10 } }, negatives = { easiest_of = 12 } }";
/// let config: LossConfig = toml::from_str(text)?;
/// assert_eq!(config.name(), "multi_tuple");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiTuple {
    /// How the differences become a value.
    pub form: TupleForm,
    /// Wanted gap between the squared distances.
    pub margin: Finite,
    /// Which positives.
    pub positives: TuplePositives,
    /// How many of them, `A`.
    pub positive_count: NonZeroU32,
    /// Which negatives.
    pub negatives: TupleNegatives,
    /// How many of them, `B`.
    pub negative_count: NonZeroU32,
    /// What the mean squared distance to the positives counts besides.
    pub intra: NonNegative,
    /// What negatives within their own margin count besides.
    pub inter: NonNegative,
    /// That margin, of squared distances.
    pub inter_margin: NonNegative,
}

/// How the differences of a tuple become a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TupleForm {
    /// The mean of hinges.
    #[default]
    HingeMean,
    /// A smooth maximum.
    Soft {
        /// How sharp.
        gamma: Positive,
    },
}

/// Which positives of an anchor make a tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuplePositives {
    /// Its nearest: classes may have several clusters.
    #[default]
    Nearest,
    /// Any.
    Random,
}

/// Which negatives of an anchor make a tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TupleNegatives {
    /// The nearest.
    #[default]
    Hardest,
    /// The farthest of so many nearest: for the first epochs.
    EasiestOf(NonZeroU32),
}

impl Default for MultiTuple {
    /// Three of each, as the paper, and the margin of FaceNet for squared distances of rows of length 1; no further terms.
    fn default() -> Self {
        let three = NonZeroU32::MIN.saturating_add(2);
        Self {
            form: TupleForm::HingeMean,
            margin: Finite::literal(0.2),
            positives: TuplePositives::Nearest,
            positive_count: three,
            negatives: TupleNegatives::Hardest,
            negative_count: three,
            intra: NonNegative::literal(0.0),
            inter: NonNegative::literal(0.0),
            inter_margin: NonNegative::literal(1.0),
        }
    }
}

batch_loss!(MultiTuple, ClassesOrPairs, "euclidean");

/// An anchor with what it is compared with, by column.
struct Tuple {
    anchor: usize,
    positives: Vec<usize>,
    negatives: Vec<usize>,
}

impl MultiTuple {
    fn tuples(&self, view: &View<'_>, rng: &mut Rng) -> Result<Vec<Tuple>> {
        let (x, kinds) = (view.host()?, view.comparison.kinds(view.name)?);
        let m = view.size().1;
        let labels = match view.comparison.relation {
            Relation::SameClass => Some(&view.comparison.references.labels),
            _ => None,
        };
        let mut tuples = Vec::new();
        for (anchor, (x, kinds)) in x.chunks(m).zip(kinds.chunks(m)).enumerate() {
            let of = |wanted: Kind| -> Vec<usize> {
                let mut columns: Vec<usize> = (0..m).filter(|&it| kinds[it] == wanted).collect();
                columns.sort_by(|&one, &other| x[one].total_cmp(&x[other]));
                columns
            };
            let (mut positives, near) = (of(Kind::Positive), of(Kind::Negative));
            if positives.is_empty() || near.is_empty() {
                continue;
            }
            if self.positives == TuplePositives::Random {
                rng.shuffle(&mut positives);
            }
            positives.truncate(self.positive_count.get() as usize);
            let mut classes = std::collections::BTreeSet::new();
            let first_of_class = |it: &usize| labels.is_none_or(|all| classes.insert(all[*it]));
            let mut negatives: Vec<usize> = near.into_iter().filter(first_of_class).collect();
            let count = self.negative_count.get() as usize;
            if let TupleNegatives::EasiestOf(pool) = self.negatives {
                negatives.truncate(pool.get() as usize);
                negatives.reverse();
            }
            negatives.truncate(count);
            tuples.push(Tuple {
                anchor,
                positives,
                negatives,
            });
        }
        Ok(tuples)
    }
}

impl MatrixLoss for MultiTuple {
    fn parts(&self) -> &'static [&'static str] {
        &["tuple"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        comparison.kinds(name).map(drop)
    }

    fn terms(&self, view: &View<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let tuples = self.tuples(view, rng)?;
        if tuples.is_empty() {
            return Ok(vec![Terms::none("tuple", view.comparison)]);
        }
        let (t, m) = (tuples.len(), view.size().1);
        let anchors: Vec<u32> = tuples.iter().map(|it| it.anchor as u32).collect();
        let index = Tensor::from_slice(&anchors, t, view.matrix.device())?;
        let x = view.matrix.index_select(&index, 0)?.sqr()?; // (t, m)
        // Of each row the shares of its columns: 1 over how many there are.
        let shares = |of: fn(&Tuple) -> &Vec<usize>| -> Result<Tensor> {
            let mut shares = vec![0f64; t * m];
            for (row, tuple) in tuples.iter().enumerate() {
                for &column in of(tuple) {
                    shares[row * m + column] = 1.0 / of(tuple).len() as f64;
                }
            }
            view.tensor(shares, (t, m))
        };
        let (positive, negative) = (shares(|it| &it.positives)?, shares(|it| &it.negatives)?);
        let margin = self.margin.get();
        let mut values = match self.form {
            TupleForm::Soft { gamma } => {
                let gamma = gamma.get();
                let pull = masked_log_sum_exp(&(&x * gamma)?, &positive)?;
                let push = masked_log_sum_exp(&(&x * -gamma)?, &negative)?;
                (softplus(&((pull + push)? + gamma * margin)?)? / gamma)?
            }
            TupleForm::HingeMean => {
                let (mut ours, mut others, mut rows) = (Vec::new(), Vec::new(), Vec::new());
                let mut weights = Vec::new();
                for (row, tuple) in tuples.iter().enumerate() {
                    let pairs = tuple.positives.len() * tuple.negatives.len();
                    for positive in &tuple.positives {
                        for negative in &tuple.negatives {
                            ours.push((row * m + positive) as u32);
                            others.push((row * m + negative) as u32);
                            rows.push(row as u32);
                            weights.push(1.0 / pairs as f64);
                        }
                    }
                }
                let count = rows.len();
                let index = |places| Tensor::from_vec(places, count, x.device());
                let flat = x.flatten_all()?;
                let ours = flat.index_select(&index(ours)?, 0)?;
                let others = flat.index_select(&index(others)?, 0)?;
                let terms = hinge(&((ours - others)? + margin)?)?;
                let terms = (terms * view.tensor(weights, count)?)?;
                let zeros = Tensor::zeros(t, x.dtype(), x.device())?;
                zeros.index_add(&index(rows)?, &terms, 0)?
            }
        };
        if self.intra.get() > 0.0 {
            values = (values + ((&x * &positive)?.sum(1)? * self.intra.get())?)?;
        }
        if self.inter.get() > 0.0 {
            let within = hinge(&(x.neg()? + self.inter_margin.get())?)?;
            values = (values + ((within * &negative)?.sum(1)? * self.inter.get())?)?;
        }
        let terms = Terms::of_anchors("tuple", values, anchors, view.comparison)?;
        Ok(vec![terms])
    }
}
