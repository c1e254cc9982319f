//! Negatives at all distances.

use nearfar_core::{Candidates, Kind, Miner, Positive, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

/// For each pair of anchor and positive, a negative drawn so that all distances are seen alike.
///
/// On the unit sphere of `D` dimensions nearly all rows are √2 apart, and an even draw sees nothing else. Here a negative
/// counts the inverse of how common its distance is:
///
/// ```text
/// w(d) ∝ 1 / q(d),   q(d) = d^(D−2) (1 − d²/4)^((D−3)/2),   d = max(‖a − n‖, cutoff),   w = 0 for d ≥ nonzero_loss_cutoff
/// ```
///
/// It looks at the rows themselves, each divided by its length, whatever distance the loss has. Weights are compared
/// within their anchor, so that no anchor loses its negatives to rounding because another has nearer ones. An anchor none
/// of whose negatives has a weight gives nothing. Each positive is taken once.
///
/// Source: Wu, Manmatha, Smola, Krähenbühl, "Sampling matters in deep embedding learning", ICCV 2017,
/// <https://arxiv.org/abs/1706.07567>, section 4.1. The weights agree with `DistanceWeightedMiner` of
/// pytorch-metric-learning 2.9 where that one does not underflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistanceWeighted {
    /// Nearer negatives count as if they were this far, which bounds their weight.
    pub cutoff: Positive,
    /// Negatives from here on are not drawn: a loss with a margin has nothing to say to them.
    pub nonzero_loss_cutoff: Positive,
}

impl Default for DistanceWeighted {
    /// The paper's values.
    fn default() -> Self {
        Self {
            cutoff: Positive::literal(0.5),
            nonzero_loss_cutoff: Positive::literal(1.4),
        }
    }
}

impl DistanceWeighted {
    /// The probability with which each reference is drawn as the negative of an anchor, `(m)`: they sum to 1, or all are 0
    /// where there is nothing to draw.
    pub fn probabilities(&self, candidates: &Candidates, anchor: u32) -> Vec<f64> {
        let row = unit(candidates.anchor(anchor));
        let mut logarithms = vec![f64::NEG_INFINITY; candidates.references().len()];
        for (reference, logarithm) in candidates.references().zip(&mut logarithms) {
            if candidates.kind(anchor, reference) == Kind::Negative {
                *logarithm = self.logarithm(&row, &unit(candidates.reference(reference)));
            }
        }
        normalized(logarithms)
    }

    /// The logarithm of a negative's weight; −∞ where it is not drawn.
    fn logarithm(&self, anchor: &[f64], negative: &[f64]) -> f64 {
        let squared: f64 = anchor
            .iter()
            .zip(negative)
            .map(|(a, n)| (a - n).powi(2))
            .sum();
        let distance = squared.sqrt().max(self.cutoff.get());
        let dim = anchor.len() as f64;
        let logarithm = (2.0 - dim) * distance.ln()
            - (dim - 3.0) / 2.0 * (1.0 - distance * distance / 4.0).ln();
        if distance < self.nonzero_loss_cutoff.get() && logarithm.is_finite() {
            logarithm
        } else {
            f64::NEG_INFINITY
        }
    }
}

impl Stateful for DistanceWeighted {}

impl Miner for DistanceWeighted {
    fn mine(&self, candidates: &Candidates, rng: &mut Rng) -> Tuples {
        let units: Vec<Vec<f64>> = candidates
            .references()
            .map(|reference| unit(candidates.reference(reference)))
            .collect();
        let mut triplets = Triplets::default();
        for anchor in candidates.anchors() {
            if candidates.positives(anchor).next().is_none() {
                continue;
            }
            let row = unit(candidates.anchor(anchor));
            let negatives: Vec<u32> = candidates.negatives(anchor).map(|it| it.index).collect();
            let logarithms = negatives
                .iter()
                .map(|&negative| self.logarithm(&row, &units[negative as usize]))
                .collect();
            let mut total = 0.0;
            let up_to: Vec<f64> = normalized(logarithms)
                .into_iter()
                .map(|probability| {
                    total += probability;
                    total
                })
                .collect();
            if total == 0.0 {
                continue;
            }
            for positive in candidates.positives(anchor) {
                // The first whose sum is above the draw: one of weight 0 never is.
                let drawn = rng.uniform() * total;
                let place = up_to.partition_point(|&sum| sum <= drawn);
                triplets.push(anchor, positive.index, negatives[place]);
            }
        }
        Tuples::Triplets(triplets)
    }
}

/// A row divided by its length; a row of zeros stays.
fn unit(row: &[f64]) -> Vec<f64> {
    let length = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
    row.iter().map(|x| x / length).collect()
}

/// Logarithms of weights to probabilities; all 0 where no weight is.
fn normalized(logarithms: Vec<f64>) -> Vec<f64> {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return vec![0.0; logarithms.len()];
    }
    let weights: Vec<f64> = logarithms
        .into_iter()
        .map(|logarithm| (logarithm - largest).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use nearfar_core::{Comparison, Embeddings, Purpose, Seed};

    use super::*;
    use crate::test_batches::{candidates, mined_with};

    #[test]
    fn weights_are_the_inverse_of_how_common_a_distance_is() {
        // In 2 dimensions 1/q(d) = √(1 − d²/4): at 60°, d = 1 and √3/2; at 80°, d = 2 sin 40° and cos 40°.
        let at = |degrees: f64| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let rows = [at(0.0), at(5.0), at(60.0), at(-80.0), at(170.0)];
        let vectors = Tensor::new(&rows, &Device::Cpu).expect("small");
        let rows = Embeddings::labeled(vectors, vec![0, 0, 1, 2, 3]).expect("five labels");
        let found = DistanceWeighted::default().probabilities(&candidates(&rows), 0);
        let (one, other) = (0.75f64.sqrt(), 40f64.to_radians().cos());
        let wanted = [0.0, 0.0, one / (one + other), other / (one + other), 0.0];
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
    }

    #[test]
    fn negatives_on_the_sphere_come_out_flat_in_distance() {
        // In 8 dimensions, between the two cutoffs; 10 bins of one width.
        let mut rng = Seed(5).rng(Purpose::Generation, 0);
        let (n, dim) = (4_000, 8);
        let mut pole = vec![0.0; dim];
        pole[0] = 1.0;
        let anchor = Tensor::from_vec(pole, (1, dim), &Device::Cpu).expect("full");
        let anchor = Embeddings::new(anchor, vec![0], vec![n as u64]).expect("one row");
        let numbers: Vec<f64> = (0..n * dim).map(|_| rng.normal()).collect();
        let vectors = Tensor::from_vec(numbers, (n, dim), &Device::Cpu).expect("full");
        let rows = Embeddings::labeled(vectors, vec![1; n]).expect("a label each");
        let unseen = Tensor::zeros((1, n), DType::F64, &Device::Cpu).expect("small");
        let candidates = Candidates::new(&unseen, &Comparison::between(&anchor, &rows), "test")
            .expect("classes");
        let probabilities = DistanceWeighted::default().probabilities(&candidates, 0);
        let x = rows.vectors.to_vec2::<f64>().expect("numbers");
        let mut bins = [0.0; 10];
        for (row, probability) in x.iter().zip(&probabilities) {
            let row = unit(row);
            let distance = (2.0 - 2.0 * row[0]).sqrt();
            if (0.5..1.4).contains(&distance) {
                bins[((distance - 0.5) / 0.09) as usize] += probability;
            }
        }
        // Few rows are near, each with a large weight: the first bins are the noisy ones.
        assert!(bins.iter().all(|bin| (0.04..0.2).contains(bin)), "{bins:?}");
        assert!(
            bins[4..].iter().all(|bin| (0.07..0.13).contains(bin)),
            "{bins:?}"
        );
    }

    #[test]
    fn an_anchor_keeps_its_negatives_although_another_has_far_nearer_ones() {
        // In 4,096 dimensions a weight at 0.5 is over e^1000 times one at 1.3. The peer compares all rows of a batch with the
        // largest weight of any, so that an anchor whose negatives are all far has weights of 0, and NaN for probabilities.
        let dim = 4_096;
        let mut numbers = vec![0.0f64; 5 * dim];
        let mut put = |row: usize, place: usize, degrees: f64| {
            numbers[row * dim + place] = degrees.to_radians().cos();
            numbers[row * dim + place + 1] = degrees.to_radians().sin();
        };
        // Rows 0 and 1 are of one class; 2 is 20° from 0. Row 3 and its one negative that can be drawn, row 4, are 80° apart,
        // and a right angle from all others.
        put(0, 0, 0.0);
        put(1, 0, 10.0);
        put(2, 0, -20.0);
        put(3, 2, 0.0);
        put(4, 2, 80.0);
        let vectors = Tensor::from_vec(numbers, (5, dim), &Device::Cpu).expect("full");
        let rows = Embeddings::labeled(vectors, vec![0, 0, 1, 2, 3]).expect("five labels");
        let miner = DistanceWeighted::default();
        let candidates = candidates(&rows);
        assert_eq!(miner.probabilities(&candidates, 0)[2], 1.0);
        assert_eq!(miner.probabilities(&candidates, 3)[4], 1.0);
    }

    #[test]
    fn draws_follow_the_probabilities_and_nothing_is_drawn_beyond_the_cutoff() {
        let at = |degrees: f64| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let rows = [at(0.0), at(1.0), at(60.0), at(-80.0), at(170.0)];
        let vectors = Tensor::new(&rows, &Device::Cpu).expect("small");
        let rows = Embeddings::labeled(vectors, vec![0, 0, 1, 2, 3]).expect("five labels");
        let miner = DistanceWeighted::default();
        let mut counts = [0; 5];
        for seed in 0..1_000 {
            for (anchor, _, negative) in mined_with(&miner, &rows, seed).into_triplets().iter() {
                counts[negative as usize] += i32::from(anchor == 0);
            }
        }
        let wanted = 1_000.0 * miner.probabilities(&candidates(&rows), 0)[2];
        assert!((f64::from(counts[2]) - wanted).abs() < 80.0, "{counts:?}"); // Five standard deviations.
        assert_eq!(counts[2] + counts[3], 1_000);
    }
}
