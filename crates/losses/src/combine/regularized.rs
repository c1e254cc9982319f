//! A loss with regularizers.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};
use nearfar_core::{
    Comparison, EmbeddingTable, Error, Evaluated, Loss, NonNegative, Parameter, Part, Rng, Span,
    Stateful, Terms,
};
use serde::{Deserialize, Serialize};

use crate::Regularizer;
use crate::over::classes::CENTERS;

/// A regularizer and what it counts: `{ penalty.lp = {}, weight = 0.1 }` of a run file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// Which.
    pub penalty: Regularizer,
    /// Its value is multiplied by it.
    #[serde(default = "one")]
    pub weight: NonNegative,
}

const fn one() -> NonNegative {
    NonNegative::literal(1.0)
}

/// A loss to which regularizers are added: of its embeddings, of its class centers, of linear maps of the model.
///
/// Its parts are the loss's own, then `embedding_regularizer` of the anchors, `weight_regularizer` of the loss's class centers
/// (or proxies) and `head_regularizer` of the maps, as far as they are there. They do not pass through the loss's reducer. An empty
/// batch has none.
#[derive(Debug)]
pub struct Regularized {
    /// What is regularized.
    loss: Box<dyn Loss>,
    embeddings: Option<Penalty>,
    weights: Option<Penalty>,
    maps: Option<(Penalty, Vec<Var>)>,
}

impl Regularized {
    /// A loss with its regularizers.
    ///
    /// # Errors
    /// [`Error::Settings`] when there is a regularizer of weights, and the loss has none.
    pub fn new(
        loss: Box<dyn Loss>,
        embeddings: Option<Penalty>,
        weights: Option<Penalty>,
    ) -> std::result::Result<Self, Error> {
        let has_weights = loss.parameters().iter().any(is_of_centers);
        if weights.is_some() && !has_weights {
            return Err(Error::Settings(
                "`weight_regularizer` stands beside a loss that has no class centers; leave it out"
                    .into(),
            ));
        }
        Ok(Self {
            loss,
            embeddings,
            weights,
            maps: None,
        })
    }

    /// The same with a regularizer of linear maps that a model has over its embeddings: each a matrix with a row for each number that
    /// it gives, or the diagonal of one. They are parameters of the model, which trains them.
    ///
    /// # Errors
    /// [`Error::Settings`] when there is no map, or one has another number of dimensions.
    pub fn with_maps(
        mut self,
        penalty: Penalty,
        maps: Vec<Var>,
    ) -> std::result::Result<Self, Error> {
        if maps.is_empty() {
            return Err(Error::Settings(
                "`head_regularizer` stands beside a model without a `head` that has a matrix; leave it out"
                    .into(),
            ));
        }
        if let Some(map) = maps.iter().find(|map| !matches!(map.rank(), 1 | 2)) {
            return Err(Error::Settings(format!(
                "`head_regularizer` is of matrices and diagonals, and a tensor has shape {:?}",
                map.dims()
            )));
        }
        self.maps = Some((penalty, maps));
        Ok(self)
    }

    /// The regularizers' values, in the order of the parts.
    fn values(&self, comparison: &Comparison<'_>) -> Result<Vec<(&'static str, Option<Tensor>)>> {
        let is_empty = comparison.anchors.is_empty();
        let of = |penalty: &Penalty, rows: &Tensor| -> Result<Option<Tensor>> {
            if is_empty {
                return Ok(None);
            }
            let value = penalty.penalty.value(rows)?;
            value.map(|value| value * penalty.weight.get()).transpose()
        };
        let mut values = Vec::new();
        if let Some(penalty) = &self.embeddings {
            let value = of(penalty, &comparison.anchors.vectors)?;
            values.push(("embedding_regularizer", value));
        }
        let sum_of = |penalty: &Penalty, matrices: &mut dyn Iterator<Item = Result<Tensor>>| {
            let mut total: Option<Tensor> = None;
            for matrix in matrices {
                if let Some(value) = of(penalty, &matrix?)? {
                    total = Some(match total {
                        None => value,
                        Some(total) => (total + value)?,
                    });
                }
            }
            Ok::<_, candle_core::Error>(total)
        };
        if let Some(penalty) = &self.weights {
            let parameters = self.loss.parameters().into_iter().filter(is_of_centers);
            let mut centers = parameters.map(|it| Ok(it.var.as_tensor().clone()));
            values.push(("weight_regularizer", sum_of(penalty, &mut centers)?));
        }
        if let Some((penalty, maps)) = &self.maps {
            let mut maps = maps.iter().map(|map| matrix(map.as_tensor()));
            values.push(("head_regularizer", sum_of(penalty, &mut maps)?));
        }
        Ok(values)
    }
}

/// A matrix, or that with this diagonal.
fn matrix(map: &Tensor) -> Result<Tensor> {
    if map.rank() == 2 {
        return Ok(map.clone());
    }
    let unit = Tensor::eye(map.dim(0)?, map.dtype(), map.device())?;
    unit.broadcast_mul(map)
}

fn is_of_centers(parameter: &Parameter) -> bool {
    parameter.trained && parameter.name.ends_with(CENTERS)
}

impl Loss for Regularized {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        let mut evaluated = self.loss.evaluate(comparison, rng)?;
        for (name, value) in self.values(comparison)? {
            let terms = usize::from(value.is_some());
            evaluated.parts.push(Part {
                name,
                value,
                terms,
                active: terms,
            });
        }
        Ok(evaluated)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let mut terms = self.loss.terms(comparison, rng)?;
        for (name, value) in self.values(comparison)? {
            terms.push(match value {
                None => Terms::none(name, comparison),
                Some(value) => Terms::of_batch(name, &value, comparison)?,
            });
        }
        Ok(terms)
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        self.loss.absorb(comparison)
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.loss.parameters()
    }
}

impl Stateful for Regularized {
    fn state(&self) -> BTreeMap<String, Tensor> {
        self.loss.state()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.loss.restore(state)
    }

    fn interval(&self) -> Option<Span> {
        self.loss.interval()
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        self.loss.refresh(table, rng)
    }
}
