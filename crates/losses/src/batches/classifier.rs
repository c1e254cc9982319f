//! A linear classifier.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Comparison, Error, Loss, Parameter, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::log_softmax;
use serde::{Deserialize, Serialize};

use crate::batches::softmax_nli::Layer;
use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, classes};
use crate::{Compares, Join, Reads};

/// Wants a linear layer on the embedding to tell its class: the cross-entropy of a softmax, as networks for classification are trained.
///
/// ```text
/// z = W x + b        l = −log softmax(z)_y
/// ```
///
/// The layer is of the loss, `head.weight` `(c, d)` and `head.bias` `(1, c)`, and is dropped after training. Unlike `normalized_softmax` it sees the
/// lengths of embeddings and has a bias for each class. A label beyond the classes of the training data is an error.
///
/// Beside a loss of distances, as another entry of `[[losses]]`, it is the identification loss of networks for verification. Embeddings are
/// compared by the cosine afterwards, where nothing else is said.
///
/// Source: Sun, Wang, Tang, "Deep Learning Face Representation by Joint Identification-Verification", NeurIPS 2014,
/// <https://arxiv.org/abs/1406.4773>, equation 1. Agrees with torch's `CrossEntropyLoss` after a `Linear`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Classifier {}

impl BatchLoss for Classifier {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Centers
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "a layer of its own")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let (count, _) = join.class_centers(name, 1)?;
        let head = Head {
            name,
            layer: Layer::new(count, 1, name, &join)?,
        };
        Ok(Whole::boxed(head, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Head {
    name: &'static str,
    layer: Layer,
}

impl Stateful for Head {}

impl Formula for Head {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let labels = classes(self.name, comparison)?;
        let count = self.layer.classes();
        if let Some(row) = labels.iter().position(|&label| label as usize >= count) {
            Err(Error::Input(format!(
                "{}: row {row} is of class {}, but the classifier was made for {count} classes, from 0 to {}",
                self.name,
                labels[row],
                count - 1
            )))?;
        }
        if labels.is_empty() {
            return Ok(vec![Terms::none("class", comparison)]);
        }
        let log_p = log_softmax(&self.layer.logits(&comparison.anchors.vectors)?)?; // (n, c)
        let targets = Tensor::from_slice(labels, (labels.len(), 1), &Device::Cpu)?
            .to_dtype(DType::U32)?
            .to_device(log_p.device())?;
        let values = log_p.gather(&targets, 1)?.squeeze(1)?.neg()?;
        let anchors = (0..labels.len() as u32).collect();
        Ok(vec![Terms::of_anchors(
            "class", values, anchors, comparison,
        )?])
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.layer.parameters()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use nearfar_core::{Embeddings, Purpose, Seed};

    use super::*;

    #[test]
    fn it_is_the_cross_entropy_of_a_linear_layer() -> Result<()> {
        let join = Join {
            classes: Some(2),
            width: 2,
            dtype: DType::F64,
            ..Join::default()
        };
        let loss = Classifier {}.build("classifier", join)?;
        let set = |name: &str, values: Tensor| -> Result<()> {
            let parameters = loss.parameters();
            let var: &Var = &parameters
                .iter()
                .find(|it| it.name == name)
                .expect("its own")
                .var;
            var.set(&values)
        };
        set(
            "head.weight",
            Tensor::new(&[[1f64, 0.0], [0.0, 2.0]], &Device::Cpu)?,
        )?;
        set("head.bias", Tensor::new(&[[0f64, 1.0]], &Device::Cpu)?)?;
        let of = |labels: &[u32]| -> Result<f64> {
            let rows = Tensor::new(&[[3f64, 0.5], [0.0, 1.0]], &Device::Cpu)?;
            let rows = Embeddings::labeled(rows, labels.to_vec())?;
            let mut rng = Seed(0).rng(Purpose::Mining, 0);
            let evaluated = loss.evaluate(&Comparison::within(&rows), &mut rng)?;
            evaluated.total()?.expect("two rows").to_scalar::<f64>()
        };
        // Logits (3, 2) and (0, 3): the right ones are 1 below and 3 above the other.
        let softplus = |x: f64| x.exp().ln_1p();
        assert!((of(&[1, 1])? - (softplus(1.0) + softplus(-3.0)) / 2.0).abs() < 1e-12);
        let error = of(&[0, 2]).expect_err("two classes").to_string();
        assert!(error.contains("row 1 is of class 2"), "{error}");
        Ok(())
    }
}
