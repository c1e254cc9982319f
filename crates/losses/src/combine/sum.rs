//! A weighted sum of losses.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, EmbeddingTable, Evaluated, Loss, NonNegative, Parameter, Part, Purpose, Rng, Seed,
    Span, Stateful, Terms,
};

use crate::prefix;

/// A weighted sum of losses, each with its own distance, miner and reducer: the list `[[losses]]` of a run file.
///
/// Its parts are those of the losses in their order, times the weight; each keeps its name. A loss with nothing to learn adds
/// nothing. Parameters and state of the `k`-th loss are named `losses.k/…`. Each loss has its own stream of random numbers,
/// so that what one miner draws does not depend on another.
#[derive(Debug, Default)]
pub struct Sum {
    /// In the order of the parts.
    pub losses: Vec<Weighed>,
}

/// A loss and what it counts.
#[derive(Debug)]
pub struct Weighed {
    /// Its values are multiplied by it; its counts of terms are not.
    pub weight: NonNegative,
    /// The loss.
    pub loss: Box<dyn Loss>,
}

impl Sum {
    /// What comes before the names of the `index`-th loss's parameters and state, and where a
    /// [`Join`](crate::Join) stands.
    pub fn place(index: usize) -> String {
        format!("losses.{index}/")
    }

    /// Adds one.
    pub fn push(&mut self, weight: NonNegative, loss: Box<dyn Loss>) {
        self.losses.push(Weighed { weight, loss });
    }

    /// Each loss with its weight and its stream.
    fn with_streams(&self, rng: &mut Rng) -> impl Iterator<Item = (&Weighed, Rng)> {
        let seeds: Vec<u64> = self.losses.iter().map(|_| rng.next_u64()).collect();
        self.losses
            .iter()
            .zip(seeds)
            .map(|(weighed, seed)| (weighed, Seed(seed).rng(Purpose::Mining, 0)))
    }
}

/// Times a weight; a weight of 1 changes no bit and makes no node.
fn times(value: Option<Tensor>, weight: NonNegative) -> Result<Option<Tensor>> {
    match value {
        Some(value) if weight.get() != 1.0 => Ok(Some((value * weight.get())?)),
        value => Ok(value),
    }
}

impl Loss for Sum {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        let mut parts = Vec::new();
        for (Weighed { weight, loss }, mut rng) in self.with_streams(rng) {
            for part in loss.evaluate(comparison, &mut rng)?.parts {
                let value = times(part.value, *weight)?;
                parts.push(Part { value, ..part });
            }
        }
        Ok(Evaluated { parts })
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let mut all = Vec::new();
        for (Weighed { weight, loss }, mut rng) in self.with_streams(rng) {
            for terms in loss.terms(comparison, &mut rng)? {
                let values = times(terms.values, *weight)?;
                all.push(Terms { values, ..terms });
            }
        }
        Ok(all)
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        self.losses
            .iter_mut()
            .try_for_each(|weighed| weighed.loss.absorb(comparison))
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for (index, weighed) in self.losses.iter().enumerate() {
            parameters.extend(prefix::name(&Self::place(index), weighed.loss.parameters()));
        }
        parameters
    }
}

impl Stateful for Sum {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let losses = self.losses.iter().enumerate();
        losses
            .flat_map(|(index, weighed)| {
                prefix::put(&Self::place(index), weighed.loss.state()).collect::<Vec<_>>()
            })
            .collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let places: Vec<String> = (0..self.losses.len()).map(Self::place).collect();
        prefix::refuse_others(state, |name| {
            places.iter().any(|place| name.starts_with(place))
        })?;
        for (weighed, place) in self.losses.iter_mut().zip(&places) {
            weighed.loss.restore(&prefix::take(place, state))?;
        }
        Ok(())
    }

    /// The shortest of the losses' own; one in steps is shorter than one in epochs.
    fn interval(&self) -> Option<Span> {
        self.losses
            .iter()
            .filter_map(|weighed| weighed.loss.interval())
            .min_by_key(|span| match span {
                Span::Steps(steps) => (0, *steps),
                Span::Epochs(epochs) => (1, *epochs),
            })
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        for weighed in &mut self.losses {
            let mut rng = Seed(rng.next_u64()).rng(Purpose::Refresh, 0);
            if weighed.loss.interval().is_some() {
                weighed.loss.refresh(table, &mut rng)?;
            }
        }
        Ok(())
    }
}
