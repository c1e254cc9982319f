//! Triplets by the angle at the negative.

use nearfar_core::{Candidates, Error, Miner, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

/// Triplets whose negative sees the anchor and the positive under a wide angle.
///
/// ```text
/// atan(‖a − p‖ / (2 ‖n − (a + p)/2‖)) > angle
/// ```
///
/// The angle is what the angular loss bounds, so with the loss's own it takes the triplets that violate it. It looks at the
/// rows as they are, whatever distance the loss has, and needs `‖n − c‖² = ½‖n − a‖² + ½‖n − p‖² − ¼‖a − p‖²` of each
/// triplet, so no list of all triplets is made. A negative in the middle sees an angle of 90°; where all three coincide
/// there is no angle, and the triplet is not taken.
///
/// Source: Wang, Zhou, Wen, Liu, Lin, "Deep metric learning with angular loss", ICCV 2017,
/// <https://arxiv.org/abs/1708.01682>. Agrees with `AngularMiner` of pytorch-metric-learning 2.9, whose angle is in degrees
/// and whose differences have 10⁻⁶ added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Angular {
    /// In radians, from 0 to below π/2.
    pub angle: Angle,
}

/// An angle that a triplet can have: from 0 to below π/2, in radians.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Angle(f64);

impl Angle {
    /// The angle, if it is one that a triplet can have.
    ///
    /// # Errors
    /// [`Error::Settings`] with the number and the bounds.
    pub fn new(radians: f64) -> Result<Self, Error> {
        if (0.0..std::f64::consts::FRAC_PI_2).contains(&radians) {
            Ok(Self(radians))
        } else {
            Err(Error::Settings(format!(
                "{radians} must be an angle from 0 to below π/2, in radians"
            )))
        }
    }

    /// In radians.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Angle {
    type Error = Error;
    fn try_from(radians: f64) -> Result<Self, Error> {
        Self::new(radians)
    }
}

impl From<Angle> for f64 {
    fn from(angle: Angle) -> f64 {
        angle.0
    }
}

impl Default for Angular {
    /// The peer's 20°.
    fn default() -> Self {
        Self {
            angle: Angle(std::f64::consts::PI / 9.0),
        }
    }
}

/// The square of a difference, component by component.
fn squared(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(x, y)| (x - y).powi(2)).sum()
}

impl Stateful for Angular {}

impl Miner for Angular {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let m = candidates.references().len();
        // Between references; those of one anchor's are made with it.
        let mut between = vec![0.0; m * m];
        for one in candidates.references() {
            for other in candidates.references().take(one as usize) {
                let value = squared(candidates.reference(one), candidates.reference(other));
                between[one as usize * m + other as usize] = value;
                between[other as usize * m + one as usize] = value;
            }
        }
        let tangent = self.angle.get().tan();
        let mut from_anchor = vec![0.0; m];
        let mut middle = vec![0.0; candidates.dim()];
        let mut triplets = Triplets::default();
        for anchor in candidates.anchors() {
            let row = candidates.anchor(anchor);
            for (reference, value) in candidates.references().zip(&mut from_anchor) {
                *value = squared(row, candidates.reference(reference));
            }
            for positive in candidates.positives(anchor) {
                let p = positive.index as usize;
                let base = from_anchor[p];
                let other = candidates.reference(positive.index);
                for ((middle, a), p) in middle.iter_mut().zip(row).zip(other) {
                    *middle = 0.5 * (a + p);
                }
                for negative in candidates.negatives(anchor) {
                    let n = negative.index as usize;
                    let around = 0.5 * (from_anchor[n] + between[p * m + n]);
                    let mut height = around - 0.25 * base;
                    if height <= 1e-6 * around {
                        // Near the middle the difference has lost its digits.
                        height = squared(&middle, candidates.reference(negative.index));
                    }
                    // tan(atan(b / 2h)) > tan(angle), without a division by 0.
                    if base.sqrt() > 2.0 * height.sqrt() * tangent {
                        triplets.push(anchor, positive.index, negative.index);
                    }
                }
            }
        }
        Tuples::Triplets(triplets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{f8, mined};
    use candle_core::{Device, Tensor};
    use nearfar_core::Embeddings;

    #[test]
    fn wide_angles_are_taken() {
        // The anchor and the positive at −1 and 1, negatives above their middle: the angle is atan(1 / height).
        let rows = [[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 4.0]];
        let vectors = Tensor::new(&rows, &Device::Cpu).expect("small");
        let rows = Embeddings::labeled(vectors, vec![0, 0, 1, 2, 3]).expect("five labels");
        let of_the_first = |degrees: f64| {
            let angle = Angle::new(degrees.to_radians()).expect("below 90°");
            let triplets = mined(&Angular { angle }, &rows).into_triplets();
            let first = triplets.iter().filter(|it| it.0 == 0);
            first.map(|it| it.2).collect::<Vec<_>>()
        };
        assert_eq!(of_the_first(14.0), [2, 3, 4]); // atan ¼ is 14.04°.
        assert_eq!(of_the_first(15.0), [2, 3]);
        assert_eq!(of_the_first(44.9), [2, 3]);
        assert_eq!(of_the_first(45.1), [3]);
        assert_eq!(of_the_first(89.9), [3], "in the middle it is 90°");
    }

    #[test]
    fn where_all_coincide_there_is_no_angle() {
        let vectors = Tensor::ones((4, 3), candle_core::DType::F64, &Device::Cpu).expect("small");
        let rows = Embeddings::labeled(vectors, vec![0, 0, 1, 1]).expect("four labels");
        assert!(mined(&Angular::default(), &rows).into_triplets().is_empty());
    }

    #[test]
    fn the_peer_counts_as_many_on_the_reference_batch() {
        // The peer looks at raw rows; these are of length 1, as its distance would have them.
        let all = mined(&Angular { angle: Angle(0.0) }, &f8()).into_triplets();
        assert_eq!(all.len(), 72);
        let raw = [
            [0.9, 0.1, 0.2],
            [0.2, 0.7, -0.3],
            [0.8, 0.5, 0.1],
            [-0.1, 0.9, 0.4],
            [0.7, -0.4, 0.6],
            [0.1, 0.3, 0.8],
            [0.5, 0.6, 0.6],
            [-0.3, 0.2, 0.9],
        ];
        let vectors = Tensor::new(&raw, &Device::Cpu).expect("small");
        let rows = Embeddings::labeled(vectors, f8().labels).expect("a label each");
        assert_eq!(mined(&Angular::default(), &rows).into_triplets().len(), 60);
        assert!(Angle::new(2.0).is_err() && Angle::new(-0.1).is_err());
    }
}
