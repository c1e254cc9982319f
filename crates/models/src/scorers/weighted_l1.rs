//! Weighted differences of two embeddings.

use candle_core::{Result, Tensor};
use nearfar_core::{Embeddings, Error, Mode, PairScorer, Pairs, Parameter, shape};
use nearfar_kernels::absolute;
use serde::{Deserialize, Serialize};

use super::{Shown, sides};
use crate::Params;
use crate::layers::Linear;

/// The head of the Siamese network of one-shot recognition: a logistic regression on the differences of two embeddings, coordinate by
/// coordinate.
///
/// ```text
/// s(x, y) = Σ_j α_j |x_j − y_j| + b        P(same) = σ(s)
/// ```
///
/// The weights have any sign: the network learns which differences speak for one class and which against it. It is the same for
/// `(y, x)`, and pulls on nothing where two coordinates are equal.
///
/// Compares embeddings of any model; those of `model.koch` are in (0, 1), for which `normalize` is off. Names: `weight` `(1, width)` and
/// `bias` `(1)`, which start as torch's `Linear` does.
///
/// Source: Koch, Zemel, Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition", ICML Deep Learning Workshop 2015,
/// section 3.1, there without a bias, so that a pair of equal images has the probability 1/2.
///
/// Choose it where a pair is to be judged by a probability. For the search in large galleries it orders the first neighbors anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightedL1 {}

#[derive(Debug)]
struct Head {
    map: Linear,
    width: usize,
    params: Params,
}

impl WeightedL1 {
    pub(super) const READS_MAPS: bool = false;

    /// The head for embeddings of a width, with its parameters made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for a width of 0.
    pub fn build(&self, shown: Shown, params: &Params) -> Result<impl PairScorer + use<>> {
        Ok(Head {
            map: Linear::new(params, shown.width, 1, true)?,
            width: shown.width,
            params: params.clone(),
        })
    }
}

impl PairScorer for Head {
    fn score(
        &self,
        left: &Embeddings,
        right: &Embeddings,
        pairs: &Pairs,
        mut mode: Mode<'_>,
    ) -> Result<Tensor> {
        for side in [left, right] {
            let (_, width) = shape::matrix("weighted_l1", ("embeddings", &side.vectors))?;
            if width != self.width {
                Err(Error::Shape(format!(
                    "weighted_l1: embeddings have {width} numbers, and it was built for {}",
                    self.width
                )))?;
            }
        }
        if pairs.is_empty() {
            return Tensor::zeros(0, self.params.dtype(), self.params.device());
        }
        let (x, y) = sides("weighted_l1", &left.vectors, &right.vectors, pairs)?;
        let differences = absolute(&(x - y)?)?; // (t, d)
        self.map.forward(&differences, &mut mode)?.squeeze(1)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let prefix = self.params.prefix().len();
        let named = self.params.parameters().into_iter();
        named
            .map(|it| Parameter {
                name: it.name[prefix..].to_owned(),
                ..it
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn a_score_is_a_weighted_sum_of_differences() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let place = params.at("scorer");
        let shown = Shown {
            width: 2,
            maps: None,
        };
        let head = WeightedL1 {}.build(shown, &place)?;
        place.set("weight", &Tensor::new(&[[-2f64, 0.5]], &Device::Cpu)?)?;
        place.set("bias", &Tensor::new(&[1f64], &Device::Cpu)?)?;
        let rows = |values: &[[f64; 2]]| -> Result<Embeddings> {
            let labels = vec![0; values.len()];
            let vectors = Tensor::from_vec(values.concat(), (values.len(), 2), &Device::Cpu)?;
            Embeddings::labeled(vectors, labels)
        };
        let (left, right) = (
            rows(&[[0.0, 1.0], [3.0, 3.0]])?,
            rows(&[[1.0, 5.0], [3.0, 3.0]])?,
        );
        let score = |pairs: &[(u32, u32)]| {
            let pairs: Pairs = pairs.iter().copied().collect();
            head.score(&left, &right, &pairs, Mode::Eval)
        };
        // 1 − 2 · 1 + 0.5 · 4, then a pair without a difference, which has the bias.
        assert_eq!(score(&[(0, 0), (1, 1)])?.to_vec1::<f64>()?, [1.0, 1.0]);
        assert_eq!(score(&[(0, 1)])?.to_vec1::<f64>()?, [-4.0]);
        assert_eq!(score(&[])?.dims(), [0]);
        let error = score(&[(0, 2)]).expect_err("two rows").to_string();
        assert!(
            error.contains("row 2 of the right side, which has 2"),
            "{error}"
        );
        let names: Vec<String> = head.parameters().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["bias", "weight"]);
        let wide = rows(&[[0.0; 2]])?;
        let narrow =
            Embeddings::labeled(Tensor::zeros((1, 1), DType::F64, &Device::Cpu)?, vec![0])?;
        let one = Pairs::from_iter([(0, 0)]);
        assert!(head.score(&wide, &narrow, &one, Mode::Eval).is_err());
        Ok(())
    }
}
