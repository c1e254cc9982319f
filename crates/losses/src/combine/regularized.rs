//! A loss with regularizers.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
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

/// A loss to which regularizers of its embeddings, of its class centers, or of both are added.
///
/// Its parts are the loss's own, then `embedding_regularizer` of the anchors and `weight_regularizer` of the loss's class centers
/// (or proxies), as far as they are there. They do not pass through the loss's reducer. An empty batch has
/// neither.
#[derive(Debug)]
pub struct Regularized {
    /// What is regularized.
    loss: Box<dyn Loss>,
    embeddings: Option<Penalty>,
    weights: Option<Penalty>,
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
        })
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
        if let Some(penalty) = &self.weights {
            let mut total: Option<Tensor> = None;
            for parameter in self.loss.parameters().iter().filter(|it| is_of_centers(it)) {
                if let Some(value) = of(penalty, parameter.var.as_tensor())? {
                    total = Some(match total {
                        None => value,
                        Some(total) => (total + value)?,
                    });
                }
            }
            values.push(("weight_regularizer", total));
        }
        Ok(values)
    }
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
