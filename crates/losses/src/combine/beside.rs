//! Losses of what the encoder gives beside the embeddings.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use nearfar_core::{
    Comparison, EmbeddingTable, Embeddings, Error, Evaluated, Loss, NonNegative, Parameter, Part,
    Purpose, Rng, Seed, Span, Stateful, Terms, shape,
};
use serde::{Deserialize, Serialize};

use super::changed::changed;
use crate::prefix;

/// A loss of the embeddings, and beside it losses of other vectors of the same rows: parts of an image, or hidden layers.
///
/// ```text
/// L = L(embeddings) + Σ_k weight_k · L_k(vectors of that name)
/// ```
///
/// Vectors are found by name among [`Embeddings::extra`]: `(n, d)`, or a map `(n, d, height, width)`, which is averaged over its
/// places. They have the labels and ids of their rows. A weight can fade to 0 over the first steps, which are counted in
/// [`absorb`](Loss::absorb) and are state. Parts keep their names, those of the embeddings first. Parameters and state are named
/// `main/…` and `beside.k/…`. The embedding table that a loss is refreshed from is that of the embeddings.
///
/// Sources: hidden layers: Lee et al., "Deeply-supervised nets", AISTATS 2015, <https://arxiv.org/abs/1409.5185>; parts: Sun et
/// al., "Beyond part models", ECCV 2018, <https://arxiv.org/abs/1711.09349>.
#[derive(Debug)]
pub struct Beside {
    /// That of the embeddings.
    pub main: Box<dyn Loss>,
    /// The others.
    pub others: Vec<Other>,
    /// How many batches were absorbed.
    steps: u64,
}

/// What losses of parts count: `parts = {}` of a run file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PartSupervision {
    /// What all parts count together, beside the whole.
    pub weight: NonNegative,
}

impl Default for PartSupervision {
    /// As much as the whole.
    fn default() -> Self {
        Self {
            weight: NonNegative::literal(1.0),
        }
    }
}

impl PartSupervision {
    /// What a vector `part.k` begins with.
    pub const NAME: &'static str = "part.";
}

/// What losses of hidden layers count: `deep_supervision = {}` of a run file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HiddenSupervision {
    /// What each layer counts, beside the embedding.
    pub weight: NonNegative,
    /// After how many steps that has faded to 0; never where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fades: Option<u64>,
}

impl Default for HiddenSupervision {
    /// The weight that is usual for layers beside the last.
    fn default() -> Self {
        Self {
            weight: NonNegative::literal(0.3),
            fades: None,
        }
    }
}

impl HiddenSupervision {
    /// What a vector `hidden.k` begins with.
    pub const NAME: &'static str = "hidden.";
}

/// A loss of other vectors, and what it counts.
#[derive(Debug)]
pub struct Other {
    /// What the encoder calls the vectors: `part.0`, `hidden.2`.
    pub name: String,
    /// Its values are multiplied by it.
    pub weight: NonNegative,
    /// After how many steps the weight has faded to 0; never where there is none.
    pub fades: Option<u64>,
    /// The loss.
    pub loss: Box<dyn Loss>,
}

impl Beside {
    /// With these others.
    pub fn new(main: Box<dyn Loss>, others: Vec<Other>) -> Self {
        Self {
            main,
            others,
            steps: 0,
        }
    }

    /// The vectors `part.0`, `part.1`, … with a loss each, which count as much as the embeddings together.
    pub fn parts(main: Box<dyn Loss>, parts: Vec<Box<dyn Loss>>) -> Self {
        let weight = NonNegative::new(1.0 / parts.len().max(1) as f64).expect("a share is above 0");
        Self::numbered(main, "part", weight, None, parts)
    }

    /// The vectors `hidden.0`, `hidden.1`, … with a loss each, which counts 0.3, and less and less until `fades` steps are done.
    pub fn hidden_layers(
        main: Box<dyn Loss>,
        layers: Vec<Box<dyn Loss>>,
        fades: Option<u64>,
    ) -> Self {
        Self::numbered(main, "hidden", NonNegative::literal(0.3), fades, layers)
    }

    fn numbered(
        main: Box<dyn Loss>,
        name: &str,
        weight: NonNegative,
        fades: Option<u64>,
        losses: Vec<Box<dyn Loss>>,
    ) -> Self {
        let others = losses.into_iter().enumerate();
        let others = others.map(|(index, loss)| Other {
            name: format!("{name}.{index}"),
            weight,
            fades,
            loss,
        });
        Self::new(main, others.collect())
    }

    /// What comes before the names of the main loss's parameters: they start by their full names, as those of
    /// [`Sum`](crate::Sum) do.
    pub const MAIN: &'static str = MAIN;

    /// The same for the loss of other vectors at a place.
    pub fn place(index: usize) -> String {
        place(index)
    }

    fn weight(&self, other: &Other) -> f64 {
        let left = match other.fades {
            None => 1.0,
            Some(0) => 0.0,
            // The first step, which is absorbed before it is evaluated, has the whole weight.
            Some(steps) => 1.0 - self.steps.saturating_sub(1) as f64 / steps as f64,
        };
        other.weight.get() * left.max(0.0)
    }

    /// A stream for each loss, the first for the embeddings'.
    fn streams(&self, rng: &mut Rng) -> Vec<Rng> {
        let streams = (0..=self.others.len()).map(|_| Seed(rng.next_u64()));
        streams.map(|seed| seed.rng(Purpose::Mining, 0)).collect()
    }
}

/// What comes before the names of the main loss's parameters and state.
const MAIN: &str = "main/";
/// The name of the counter.
const STEPS: &str = "steps";

fn place(index: usize) -> String {
    format!("beside.{index}/")
}

/// The rows with other vectors.
fn seen(rows: &Embeddings, name: &str) -> Result<Embeddings> {
    let Some(vectors) = rows.extra.get(name) else {
        Err(Error::Input(format!(
            "a loss learns from `{name}`, which the encoder does not give; it gives {:?}",
            rows.extra.keys().collect::<Vec<_>>()
        )))?
    };
    let vectors = match vectors.rank() {
        4 => vectors.mean((2, 3))?,
        _ => vectors.clone(),
    };
    let (n, _) = shape::matrix("beside", (name, &vectors))?;
    shape::length("beside", (name, n), ("embeddings", rows.len()))?;
    Ok(Embeddings {
        vectors,
        extra: BTreeMap::new(),
        ..rows.clone()
    })
}

/// Calls `f` with the comparison of other vectors.
fn with<T>(
    comparison: &Comparison<'_>,
    name: &str,
    f: impl FnOnce(&Comparison<'_>) -> Result<T>,
) -> Result<T> {
    changed(comparison, |rows| seen(rows, name), f)
}

fn times(value: Option<Tensor>, weight: f64) -> Result<Option<Tensor>> {
    value.map(|value| value * weight).transpose()
}

impl Loss for Beside {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        let mut streams = self.streams(rng).into_iter();
        let mut stream = || streams.next().expect("one for each loss");
        let mut parts = self.main.evaluate(comparison, &mut stream())?.parts;
        for other in &self.others {
            let mut stream = stream();
            let evaluated = with(comparison, &other.name, |it| {
                other.loss.evaluate(it, &mut stream)
            })?;
            for part in evaluated.parts {
                let value = times(part.value, self.weight(other))?;
                parts.push(Part { value, ..part });
            }
        }
        Ok(Evaluated { parts })
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let mut streams = self.streams(rng).into_iter();
        let mut stream = || streams.next().expect("one for each loss");
        let mut all = self.main.terms(comparison, &mut stream())?;
        for other in &self.others {
            let mut stream = stream();
            let found = with(comparison, &other.name, |it| {
                other.loss.terms(it, &mut stream)
            })?;
            for terms in found {
                let values = times(terms.values, self.weight(other))?;
                all.push(Terms { values, ..terms });
            }
        }
        Ok(all)
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        self.steps += 1;
        self.main.absorb(comparison)?;
        for Other { name, loss, .. } in &mut self.others {
            with(comparison, name, |it| loss.absorb(it))?;
        }
        Ok(())
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters: Vec<_> = prefix::name(MAIN, self.main.parameters()).collect();
        for (index, other) in self.others.iter().enumerate() {
            parameters.extend(prefix::name(&place(index), other.loss.parameters()));
        }
        parameters
    }
}

impl Stateful for Beside {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state: BTreeMap<_, _> = prefix::put(MAIN, self.main.state()).collect();
        for (index, other) in self.others.iter().enumerate() {
            state.extend(prefix::put(&place(index), other.loss.state()));
        }
        if self.others.iter().any(|other| other.fades.is_some()) {
            let steps = Tensor::new(&[self.steps as i64], &Device::Cpu);
            state.insert(STEPS.into(), steps.expect("one number is a tensor"));
        }
        state
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let places: Vec<String> = (0..self.others.len()).map(place).collect();
        prefix::refuse_others(state, |name| {
            name == STEPS
                || name.starts_with(MAIN)
                || places.iter().any(|place| name.starts_with(place))
        })?;
        if let Some(steps) = state.get(STEPS) {
            prefix::wants_shape("beside", (STEPS, steps), &[1])?;
            self.steps = steps.to_vec1::<i64>()?[0].max(0) as u64;
        }
        self.main.restore(&prefix::take(MAIN, state))?;
        for (other, place) in self.others.iter_mut().zip(&places) {
            other.loss.restore(&prefix::take(place, state))?;
        }
        Ok(())
    }

    /// That of the loss of the embeddings, since the table is of embeddings.
    fn interval(&self) -> Option<Span> {
        self.main.interval()
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        self.main.refresh(table, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BatchLoss, CentroidTriplet, Correlated, Join, Margin};

    #[derive(Debug)]
    struct Manhattan;

    impl nearfar_core::Distance for Manhattan {
        fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            nearfar_kernels::manhattan(x, y)
        }
        fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            nearfar_kernels::absolute(&(x - y)?)?.sum(1)
        }
        fn axioms(&self) -> nearfar_core::Axioms {
            nearfar_core::Axioms::METRIC
        }
    }

    fn join() -> Join {
        Join {
            distance: Some(Box::new(Manhattan)),
            dtype: candle_core::DType::F64,
            ..Join::default()
        }
    }

    #[test]
    fn other_vectors_add_their_losses_and_fade() -> Result<()> {
        let vectors = Tensor::new(&[[0f64], [1.0], [3.0]], &Device::Cpu)?;
        let mut rows = Embeddings::labeled(vectors.clone(), vec![0, 0, 1])?;
        rows.extra
            .insert("hidden.0".into(), vectors.reshape((3, 1, 1, 1))?);
        let loss = |settings: &dyn BatchLoss| settings.build("test", join());
        let within = Comparison::within(&rows);
        let mut rng = Seed(0).rng(Purpose::Mining, 0);
        let correlated = Correlated::default();
        let mut both = Beside::hidden_layers(loss(&correlated)?, vec![loss(&correlated)?], Some(2));
        let mut value = |both: &Beside| -> Result<f64> {
            let total = both.evaluate(&within, &mut rng)?.total()?;
            total.expect("there are pairs").to_scalar()
        };
        both.absorb(&within)?;
        let whole = value(&both)?;
        both.absorb(&within)?;
        let half = value(&both)?;
        let mut later =
            Beside::hidden_layers(loss(&correlated)?, vec![loss(&correlated)?], Some(2));
        later.restore(&both.state())?;
        assert_eq!(value(&later)?, half);
        both.absorb(&within)?;
        let alone = value(&both)?;
        assert!((whole - 1.3 * alone).abs() < 1e-12 && (half - 1.15 * alone).abs() < 1e-12);
        let parts = Beside::parts(loss(&correlated)?, vec![loss(&CentroidTriplet::default())?]);
        let error = parts.evaluate(&within, &mut Seed(0).rng(Purpose::Mining, 0));
        let error = error.expect_err("no parts").to_string();
        assert!(
            error.contains("`part.0`") && error.contains("hidden.0"),
            "{error}"
        );
        let learned = Margin {
            learn_beta: true,
            ..Margin::default()
        };
        let both = Beside::parts(loss(&learned)?, vec![loss(&learned)?]);
        let names: Vec<String> = both.parameters().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["main/beta", "beside.0/beta"]);
        Ok(())
    }
}
