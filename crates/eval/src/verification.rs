//! Scores of verification: are two rows of one class?

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use nearfar_core::{EmbeddingTable, Purpose, Seed};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::exact::{self, Rows};
use crate::rerank::{ByPairs, ScorePairs};
use crate::search::Measure;

/// Distances of pairs of one class, and of pairs of two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairDistances {
    /// Distances of pairs of one class.
    pub positive: Vec<f64>,
    /// Distances of pairs of two classes.
    pub negative: Vec<f64>,
    /// How many pairs of one class the table has; more than are listed when they were drawn.
    pub all_positive: u64,
    /// How many pairs of two classes the table has.
    pub all_negative: u64,
}

impl PairDistances {
    /// Whether the pairs were drawn, and are not all there are.
    pub fn sampled(&self) -> bool {
        (self.positive.len() as u64) < self.all_positive
            || (self.negative.len() as u64) < self.all_negative
    }
}

/// Distances of pairs of a table's rows.
///
/// All pairs of a kind, positive or negative, in the order of rows, as long as there are no more than `limit` of them;
/// otherwise `limit` pairs of that kind, drawn with replacement and each with the same probability. The scores of
/// verification are shares of each kind alone, so that drawing the two separately does not change what they estimate.
/// Rows that are not finite are left out.
///
/// # Errors
/// When the table has no labels, or the distance fails.
pub fn pair_distances(
    table: &EmbeddingTable,
    measure: Measure<'_>,
    limit: usize,
    seed: Seed,
) -> Result<PairDistances> {
    distances_of(table, limit, seed, &|pairs| {
        listed(table, table, pairs, measure)
    })
}

/// The same pairs as [`pair_distances`] by what a scorer says of them: their distances are the negative of its scores.
///
/// # Errors
/// When the table has no labels, or the scorer fails.
pub fn scored_pairs(
    table: &EmbeddingTable,
    scorer: ByPairs<'_>,
    limit: usize,
    seed: Seed,
) -> Result<PairDistances> {
    distances_of(table, limit, seed, &|pairs| {
        let id = |row: u32| table.ids[row as usize];
        let pairs: Vec<(u64, u64)> = pairs.iter().map(|&(a, b)| (id(a), id(b))).collect();
        Ok((scorer.score)(&pairs)?.into_iter().map(|it| -it).collect())
    })
}

type OfPairs<'a> = &'a ScorePairs<'a, u32>;

fn distances_of(
    table: &EmbeddingTable,
    limit: usize,
    seed: Seed,
    distances: OfPairs<'_>,
) -> Result<PairDistances> {
    if table.labels.is_empty() && !table.is_empty() {
        return Err(Error::NoLabels {
            what: "verification".into(),
            table: "table",
        });
    }
    let rows: Vec<u32> = (0..table.len() as u32)
        .filter(|&index| {
            table
                .row(index as usize)
                .iter()
                .all(|value| value.is_finite())
        })
        .collect();
    let label = |place: usize| table.labels[rows[place] as usize];
    // Places among the rows, class by class.
    let mut classes = BTreeMap::<u32, Vec<usize>>::new();
    for place in 0..rows.len() {
        classes.entry(label(place)).or_default().push(place);
    }
    let pairs = |count: usize| (count as u64) * (count as u64).saturating_sub(1) / 2;
    let all_positive: u64 = classes.values().map(|class| pairs(class.len())).sum();
    let all_negative = pairs(rows.len()) - all_positive;
    let mut rng = seed.rng(Purpose::Evaluation, PAIRS);

    let positive: Vec<(usize, usize)> = if all_positive <= limit as u64 {
        let within = |class: &Vec<usize>| -> Vec<(usize, usize)> {
            let firsts = class.iter().enumerate();
            firsts
                .flat_map(|(i, &left)| class[i + 1..].iter().map(move |&right| (left, right)))
                .collect()
        };
        classes.values().flat_map(within).collect()
    } else {
        // A class is drawn as often as it has pairs.
        let ends = running(classes.values().map(|class| pairs(class.len())));
        let classes: Vec<&Vec<usize>> = classes.values().collect();
        let draw = |_| {
            let drawn = rng.below(all_positive as usize) as u64;
            let class = classes[ends.partition_point(|end| *end <= drawn)];
            let left = rng.below(class.len());
            let right = rng.below(class.len() - 1);
            (class[left], class[right + usize::from(right >= left)])
        };
        (0..limit).map(draw).collect()
    };
    let negative: Vec<(usize, usize)> = if all_negative <= limit as u64 {
        let firsts = 0..rows.len();
        firsts
            .flat_map(|left| (left + 1..rows.len()).map(move |right| (left, right)))
            .filter(|&(left, right)| label(left) != label(right))
            .collect()
    } else {
        // A row is drawn as often as it has others of another class, and the draw also says which of these it is.
        let ends = running(
            (0..rows.len()).map(|place| (rows.len() - classes[&label(place)].len()) as u64),
        );
        let draw = |_| {
            let drawn = rng.below(2 * all_negative as usize) as u64;
            let left = ends.partition_point(|end| *end <= drawn);
            let other = (drawn - if left == 0 { 0 } else { ends[left - 1] }) as usize;
            // The place of the row that is number `other` of those that are not of its class.
            let same = &classes[&label(left)];
            let before = partition(same.len(), |i| same[i] - i <= other);
            (left, other + before)
        };
        (0..limit).map(draw).collect()
    };
    let of_rows = |pairs: Vec<(usize, usize)>| -> Vec<(u32, u32)> {
        pairs
            .into_iter()
            .map(|(left, right)| (rows[left], rows[right]))
            .collect()
    };
    Ok(PairDistances {
        positive: distances(&of_rows(positive))?,
        negative: distances(&of_rows(negative))?,
        all_positive,
        all_negative,
    })
}

/// Sums up to and with each.
fn running(counts: impl Iterator<Item = u64>) -> Vec<u64> {
    counts
        .scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
        .collect()
}

/// The first of `0..count` for which it does not hold, when it holds up to one and not from there on.
fn partition(count: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// The position of the random numbers that draw pairs, so that k-means beside it has others.
const PAIRS: u64 = u64::MAX;

/// Distances of row `i` of one table and row `i` of the other.
///
/// # Errors
/// When the tables' lengths or widths differ, or the distance fails.
pub fn paired_distances(
    left: &EmbeddingTable,
    right: &EmbeddingTable,
    measure: Measure<'_>,
) -> Result<Vec<f64>> {
    if left.dim != right.dim {
        return Err(Error::Width {
            queries: left.dim,
            gallery: right.dim,
        });
    }
    if left.len() != right.len() {
        return Err(Error::Lengths {
            left: "the left rows",
            left_length: left.len(),
            right: "the right rows",
            right_length: right.len(),
        });
    }
    let pairs: Vec<(u32, u32)> = (0..left.len() as u32).map(|index| (index, index)).collect();
    listed(left, right, &pairs, measure)
}

pub(crate) fn listed(
    left: &EmbeddingTable,
    right: &EmbeddingTable,
    pairs: &[(u32, u32)],
    measure: Measure<'_>,
) -> Result<Vec<f64>> {
    let paired: &dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> = match &measure {
        Measure::Gram { kind, unit_rows } => {
            let x = Rows::new(left, *kind, *unit_rows);
            let y = Rows::new(right, *kind, *unit_rows);
            let key = |&(i, j): &(u32, u32)| exact::key(&x, i as usize, &y, j as usize);
            return Ok(pairs
                .par_iter()
                .map(|pair| exact::distance(*kind, key(pair)))
                .collect());
        }
        Measure::Distance(distance) => &|x, y| distance.paired(x, y),
        Measure::Similarity(similarity) => &|x, y| similarity.paired(x, y)?.neg(),
    };
    let side = |table: &EmbeddingTable, indices: Vec<u32>, dtype| {
        let rows = indices
            .iter()
            .flat_map(|&index| table.row(index as usize).to_vec());
        Tensor::from_vec(rows.collect(), (indices.len(), table.dim), &Device::Cpu)?.to_dtype(dtype)
    };
    let mut distances = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(4096) {
        let of = |dtype| {
            let x = side(left, pairs.iter().map(|pair| pair.0).collect(), dtype)?;
            let y = side(right, pairs.iter().map(|pair| pair.1).collect(), dtype)?;
            paired(&x, &y)
        };
        // A distance with f32 tensors of its own refuses f64 rows.
        let values = of(DType::F64).or_else(|_| of(DType::F32))?;
        distances.extend(
            values
                .to_dtype(DType::F64)?
                .flatten_all()?
                .to_vec1::<f64>()?,
        );
    }
    Ok(distances)
}

/// The errors of accepting every pair whose score is at least a threshold, for every threshold that makes a difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Roc {
    /// From accepting none to accepting all.
    pub points: Vec<RocPoint>,
    /// Pairs of one class.
    pub positives: usize,
    /// Pairs of two classes.
    pub negatives: usize,
    auc: f64,
}

/// What a threshold accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RocPoint {
    /// Halfway between the lowest score that is accepted and the next one below; infinite at the ends.
    pub threshold: f64,
    /// False acceptance rate: the share of pairs of two classes that are accepted.
    pub far: f64,
    /// False rejection rate: the share of pairs of one class that are not accepted.
    pub frr: f64,
}

/// Where the two errors are equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EqualError {
    /// The rate of both.
    pub rate: f64,
    /// The score from which on pairs are accepted there.
    pub threshold: f64,
}

/// What errors cost, for [`Roc::min_dcf`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectionCost {
    /// How likely a pair is of one class.
    pub target: f64,
    /// Cost of rejecting it.
    pub miss: f64,
    /// Cost of accepting a pair of two classes.
    pub false_alarm: f64,
}

impl Default for DetectionCost {
    /// That of the VoxCeleb challenges: 0.05, and both costs 1.
    fn default() -> Self {
        Self {
            target: 0.05,
            miss: 1.0,
            false_alarm: 1.0,
        }
    }
}

impl Roc {
    /// From scores, larger for pairs that are more alike, and whether each pair is of one class. Equal scores are accepted
    /// together.
    ///
    /// # Errors
    /// When the lengths differ, a score is not a number, or there are no pairs of one of the two kinds: then no rate is
    /// defined.
    pub fn new(scores: &[f64], same: &[bool]) -> Result<Self> {
        if scores.len() != same.len() {
            return Err(Error::Lengths {
                left: "the scores",
                left_length: scores.len(),
                right: "what is the same",
                right_length: same.len(),
            });
        }
        Self::of(scores.iter().copied().zip(same.iter().copied()).collect())
    }

    /// From distances: a pair's score is its distance, negated, and so are the thresholds.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_distances(distances: &PairDistances) -> Result<Self> {
        let positive = distances.positive.iter().map(|distance| (-distance, true));
        let negative = distances.negative.iter().map(|distance| (-distance, false));
        Self::of(positive.chain(negative).collect())
    }

    fn of(mut pairs: Vec<(f64, bool)>) -> Result<Self> {
        let not_numbers = pairs.iter().filter(|(score, _)| score.is_nan()).count();
        if not_numbers > 0 {
            return Err(Error::Undefined(format!(
                "{not_numbers} of {} scores of pairs are not numbers; remove them, or look where they come from",
                pairs.len()
            )));
        }
        let positives = pairs.iter().filter(|(_, same)| *same).count();
        let negatives = pairs.len() - positives;
        if positives == 0 || negatives == 0 {
            return Err(Error::Undefined(format!(
                "verification needs pairs of one class and pairs of two; there are {positives} and {negatives}"
            )));
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut roc = Self {
            points: vec![RocPoint {
                threshold: f64::INFINITY,
                far: 0.0,
                frr: 1.0,
            }],
            positives,
            negatives,
            auc: 0.0,
        };
        let (mut accepted, mut wrong, mut area) = (0usize, 0usize, 0.0);
        let mut rest = &pairs[..];
        while let Some(&(score, _)) = rest.first() {
            let equal = rest.iter().take_while(|pair| pair.0 == score).count();
            let right = rest[..equal].iter().filter(|(_, same)| *same).count();
            area += (equal - right) as f64 * (accepted as f64 + right as f64 / 2.0);
            accepted += right;
            wrong += equal - right;
            rest = &rest[equal..];
            let threshold = match rest.first() {
                Some(&(next, _)) => score / 2.0 + next / 2.0, // A sum could overflow.
                None => f64::NEG_INFINITY,
            };
            roc.points.push(RocPoint {
                threshold,
                far: wrong as f64 / negatives as f64,
                frr: 1.0 - accepted as f64 / positives as f64,
            });
        }
        roc.auc = area / (positives as f64 * negatives as f64);
        Ok(roc)
    }

    /// The area under the curve: the probability that a pair of one class scores above a pair of two, and half of that
    /// they score the same.
    pub fn auc(&self) -> f64 {
        self.auc
    }

    /// The equal error rate: where false rejections fall to false acceptances, on the straight line between the two
    /// points around it.
    pub fn eer(&self) -> EqualError {
        let next = self
            .points
            .iter()
            .position(|point| point.frr <= point.far)
            .expect("nothing is rejected at the last point");
        let (before, after) = (self.points[next.max(1) - 1], self.points[next]);
        let (gap, end) = (before.frr - before.far, after.frr - after.far);
        let share = if gap > end { gap / (gap - end) } else { 1.0 };
        let threshold = match (before.threshold.is_finite(), after.threshold.is_finite()) {
            (true, true) => before.threshold + share * (after.threshold - before.threshold),
            (true, false) => before.threshold,
            (false, _) => after.threshold,
        };
        EqualError {
            rate: before.far + share * (after.far - before.far),
            threshold,
        }
    }

    /// The largest share of pairs of one class that is accepted with a false acceptance rate of at most `far`. Nothing is
    /// interpolated.
    ///
    /// # Errors
    /// When there are fewer than `1 / far` pairs of two classes: a single one would be too many.
    pub fn tar_at_far(&self, far: f64) -> Result<f64> {
        if !(far > 0.0 && self.negatives as f64 * far >= 1.0 - 1e-9) {
            return Err(Error::Undefined(format!(
                "a false acceptance rate of {far} needs at least {:.0} pairs of two classes; there are {}",
                (1.0 / far).ceil(),
                self.negatives
            )));
        }
        Ok(self.largest_tar(far))
    }

    /// As [`tar_at_far`](Self::tar_at_far), however few pairs there are.
    pub fn largest_tar(&self, far: f64) -> f64 {
        let points = self.points.iter().filter(|point| point.far <= far);
        points.map(|point| 1.0 - point.frr).fold(0.0, f64::max)
    }

    /// The smallest cost of a decision, over that of the better of accepting all and accepting none:
    /// `min (miss · FRR · target + false_alarm · FAR · (1 − target)) / min(miss · target, false_alarm · (1 − target))`.
    pub fn min_dcf(&self, cost: DetectionCost) -> f64 {
        let (miss, false_alarm) = (
            cost.miss * cost.target,
            cost.false_alarm * (1.0 - cost.target),
        );
        let costs = self
            .points
            .iter()
            .map(|point| miss * point.frr + false_alarm * point.far);
        costs.fold(f64::INFINITY, f64::min) / miss.min(false_alarm)
    }

    /// The largest share of pairs that a single threshold judges rightly, and the threshold.
    pub fn best_accuracy(&self) -> (f64, f64) {
        let (positives, negatives) = (self.positives as f64, self.negatives as f64);
        let mut best = (f64::NEG_INFINITY, 0.0);
        for point in &self.points {
            let right = (1.0 - point.frr) * positives + (1.0 - point.far) * negatives;
            if right > best.0 {
                best = (right, point.threshold);
            }
        }
        (best.0 / (positives + negatives), best.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_on_paper() {
        // Of one class: 0.9, 0.8, 0.4. Of two: 0.7, 0.4, 0.1.
        let roc = Roc::new(
            &[0.9, 0.8, 0.4, 0.7, 0.4, 0.1],
            &[true, true, true, false, false, false],
        )
        .unwrap();
        let third = 1.0 / 3.0;
        let rates: Vec<(f64, f64)> = roc
            .points
            .iter()
            .map(|point| (point.far, 1.0 - point.frr))
            .collect();
        assert_eq!(
            rates,
            [
                (0.0, 0.0),
                (0.0, third),
                (0.0, 2.0 * third),
                (third, 2.0 * third),
                (2.0 * third, 1.0),
                (1.0, 1.0)
            ]
            .map(|(far, tar)| (far, 1.0 - (1.0 - tar)))
        );
        assert!((roc.auc() - 7.5 / 9.0).abs() < 1e-12); // Three, three and one and a half of three pairs each.
        assert!((roc.eer().rate - third).abs() < 1e-12);
        assert!((roc.points[3].threshold - 0.55).abs() < 1e-12);
        assert!((roc.tar_at_far(0.4).unwrap() - 2.0 * third).abs() < 1e-12);
        assert!(
            roc.tar_at_far(0.1)
                .unwrap_err()
                .to_string()
                .contains("at least 10 pairs")
        );
        assert_eq!(roc.best_accuracy().0, 5.0 / 6.0);
    }

    #[test]
    fn the_equal_error_is_interpolated() {
        // FRR − FAR goes from 1/2 to −1/2 at once where all scores of a step are equal.
        let roc = Roc::new(&[3.0, 2.0, 2.0, 1.0], &[true, true, false, false]).unwrap();
        let eer = roc.eer();
        assert!((eer.rate - 0.25).abs() < 1e-12, "{eer:?}");
        let perfect = Roc::new(&[2.0, 1.0], &[true, false]).unwrap();
        assert_eq!(
            (perfect.auc(), perfect.eer().rate, perfect.eer().threshold),
            (1.0, 0.0, 1.5)
        );
        let same = Roc::new(&[1.0, 1.0], &[true, false]).unwrap();
        assert_eq!((same.auc(), same.eer().rate), (0.5, 0.5));
    }

    #[test]
    fn one_kind_of_pairs_alone_has_no_curve() {
        let error = Roc::new(&[1.0, 2.0], &[true, true]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "verification needs pairs of one class and pairs of two; there are 2 and 0"
        );
        assert!(Roc::new(&[f64::NAN, 2.0], &[true, false]).is_err());
    }

    fn line(labels: &[u32]) -> EmbeddingTable {
        EmbeddingTable {
            vectors: (0..labels.len()).map(|x| (x * x) as f32).collect(),
            dim: 1,
            labels: labels.to_vec(),
            ids: (0..labels.len() as u64).collect(),
        }
    }

    #[test]
    fn all_pairs_or_a_drawn_part_of_each_kind() {
        let table = line(&[1, 2, 1, 2, 1]); // At 0, 1, 4, 9, 16.
        let all = pair_distances(&table, Measure::EUCLIDEAN, 100, Seed(1)).unwrap();
        assert_eq!(all.positive, [4.0, 16.0, 12.0, 8.0]);
        assert_eq!(all.negative, [1.0, 9.0, 3.0, 15.0, 5.0, 7.0]);
        assert!(!all.sampled());
        let few = pair_distances(&table, Measure::EUCLIDEAN, 3, Seed(1)).unwrap();
        assert_eq!(
            (few.positive.len(), few.negative.len(), few.sampled()),
            (3, 3, true)
        );
        assert!(few.positive.iter().all(|d| all.positive.contains(d)));
        assert!(
            few.negative.iter().all(|d| all.negative.contains(d)),
            "{few:?}"
        );
        assert_eq!(
            few,
            pair_distances(&table, Measure::EUCLIDEAN, 3, Seed(1)).unwrap()
        );
    }

    #[test]
    fn every_pair_is_drawn_equally_often() {
        let labels: Vec<u32> = [vec![0; 30], vec![1; 10], vec![2; 5]].concat();
        let table = line(&labels);
        let drawn = pair_distances(&table, Measure::EUCLIDEAN, 490, Seed(3)).unwrap();
        assert_eq!(
            (drawn.all_positive, drawn.all_negative),
            (435 + 45 + 10, 300 + 150 + 50)
        );
        assert_eq!(drawn.negative.len(), 490);
        // Of 490 draws from 500 pairs with replacement, 1 − 1/e of the pairs are seen: about 312 distances at most.
        let mut seen: Vec<u64> = drawn.negative.iter().map(|d| d.to_bits()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert!((260..350).contains(&seen.len()), "{}", seen.len());
    }
}
