//! A loss of the first numbers of each embedding, for several lengths.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, EmbeddingTable, Embeddings, Error, Evaluated, Loss, NonNegative, Parameter, Part,
    Purpose, Rng, Seed, Span, Stateful, Terms,
};
use nearfar_kernels::l2_normalize;
use serde::{Deserialize, Serialize};

use super::changed::changed;
use crate::prefix;

/// The lengths at which embeddings shall be usable: `matryoshka = { dims = [64, 32, 16] }` of a run file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nesting {
    /// How many of the first numbers of an embedding are looked at, falling; the first is the whole embedding or less.
    pub dims: Vec<NonZeroUsize>,
    /// What each length counts; 1 each where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<NonNegative>,
}

impl Nesting {
    /// The lengths with their weights.
    ///
    /// # Errors
    /// [`Error::Settings`] when there is none, they do not fall, are more than the embeddings have, or there is not one weight for each.
    pub fn lengths(&self, width: usize) -> std::result::Result<Vec<(usize, NonNegative)>, Error> {
        let dims: Vec<usize> = self.dims.iter().map(|it| it.get()).collect();
        let wrong = |what: String| Err(Error::Settings(format!("matryoshka: {what}")));
        match dims.first() {
            None => return wrong("`dims` is empty; name a length, such as 32".into()),
            Some(&first) if first > width => {
                return wrong(format!(
                    "`dims` begins with {first}, but embeddings have {width} numbers"
                ));
            }
            Some(_) => {}
        }
        if let Some(pair) = dims.windows(2).find(|pair| pair[0] <= pair[1]) {
            return wrong(format!(
                "`dims` has {} before {}; let them fall",
                pair[0], pair[1]
            ));
        }
        let one = NonNegative::literal(1.0);
        let weights = match self.weights.len() {
            0 => vec![one; dims.len()],
            count if count == dims.len() => self.weights.clone(),
            count => {
                return wrong(format!(
                    "there are {count} `weights` for {} `dims`",
                    dims.len()
                ));
            }
        };
        Ok(dims.into_iter().zip(weights).collect())
    }
}

/// The same loss of embeddings cut to several lengths, so that a shorter embedding is the beginning of a longer one.
///
/// ```text
/// L = Σ_d weight_d · L_d(x_1..d / ‖x_1..d‖)
/// ```
///
/// Rows that are cut are divided by their length. Each length has a loss of its own, so that class centers and memories are as wide as
/// what they meet. Its parts are those of all of them, longest first. Parameters and state of the loss of length `d` are named
/// `matryoshka.d/…`.
///
/// Source: Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022, <https://arxiv.org/abs/2205.13147>, equation 1;
/// `MatryoshkaLoss` of sentence-transformers.
#[derive(Debug)]
pub struct Matryoshka {
    nested: Vec<Nested>,
}

#[derive(Debug)]
struct Nested {
    dim: usize,
    weight: NonNegative,
    loss: Box<dyn Loss>,
}

impl Matryoshka {
    /// A loss for each length that the settings name, as `build` makes it of the length and its [place](Self::place).
    ///
    /// # Errors
    /// [`Error::Settings`] when the lengths do not fit embeddings of this width, and those of `build`.
    pub fn new<E: From<Error>>(
        settings: &Nesting,
        width: usize,
        mut build: impl FnMut(usize, String) -> std::result::Result<Box<dyn Loss>, E>,
    ) -> std::result::Result<Self, E> {
        let lengths = settings.lengths(width)?.into_iter();
        let nested = lengths.map(|(dim, weight)| {
            let loss = build(dim, Self::place(dim))?;
            Ok(Nested { dim, weight, loss })
        });
        Ok(Self {
            nested: nested.collect::<std::result::Result<_, E>>()?,
        })
    }

    /// What comes before the names of the parameters and state of the loss of a length, and where a [`Join`](crate::Join) stands.
    pub fn place(dim: usize) -> String {
        format!("matryoshka.{dim}/")
    }

    /// Each loss with its stream of random numbers.
    fn with_streams(&self, rng: &mut Rng) -> Vec<(&Nested, Rng)> {
        let nested = self.nested.iter();
        nested
            .map(|it| (it, Seed(rng.next_u64()).rng(Purpose::Mining, 0)))
            .collect()
    }
}

/// The first numbers of each row, at length 1.
fn cut(rows: &Embeddings, dim: usize) -> Result<Embeddings> {
    let width = rows.vectors.dim(1)?;
    if dim > width {
        Err(Error::Shape(format!(
            "matryoshka: a loss is of {dim} numbers, but embeddings have {width}"
        )))?;
    }
    let vectors = l2_normalize(&rows.vectors.narrow(1, 0, dim)?.contiguous()?)?;
    Ok(Embeddings {
        vectors,
        ..rows.clone()
    })
}

/// Calls `f` with the comparison of the first numbers.
fn within<T>(
    comparison: &Comparison<'_>,
    dim: usize,
    f: impl FnOnce(&Comparison<'_>) -> Result<T>,
) -> Result<T> {
    changed(comparison, |rows| cut(rows, dim), f)
}

fn times(value: Option<Tensor>, weight: NonNegative) -> Result<Option<Tensor>> {
    match value {
        Some(value) if weight.get() != 1.0 => Ok(Some((value * weight.get())?)),
        value => Ok(value),
    }
}

impl Loss for Matryoshka {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        let mut parts = Vec::new();
        for (Nested { dim, weight, loss }, mut rng) in self.with_streams(rng) {
            for part in within(comparison, *dim, |it| loss.evaluate(it, &mut rng))?.parts {
                let value = times(part.value, *weight)?;
                parts.push(Part { value, ..part });
            }
        }
        Ok(Evaluated { parts })
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let mut all = Vec::new();
        for (Nested { dim, weight, loss }, mut rng) in self.with_streams(rng) {
            for terms in within(comparison, *dim, |it| loss.terms(it, &mut rng))? {
                let values = times(terms.values, *weight)?;
                all.push(Terms { values, ..terms });
            }
        }
        Ok(all)
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        for Nested { dim, loss, .. } in &mut self.nested {
            within(comparison, *dim, |it| loss.absorb(it))?;
        }
        Ok(())
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for Nested { dim, loss, .. } in &self.nested {
            parameters.extend(prefix::name(&Self::place(*dim), loss.parameters()));
        }
        parameters
    }
}

impl Stateful for Matryoshka {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for Nested { dim, loss, .. } in &self.nested {
            state.extend(prefix::put(&Self::place(*dim), loss.state()));
        }
        state
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let places: Vec<String> = self.nested.iter().map(|it| Self::place(it.dim)).collect();
        prefix::refuse_others(state, |name| {
            places.iter().any(|place| name.starts_with(place))
        })?;
        for (nested, place) in self.nested.iter_mut().zip(&places) {
            nested.loss.restore(&prefix::take(place, state))?;
        }
        Ok(())
    }

    /// That of the loss, which is the same for all lengths.
    fn interval(&self) -> Option<Span> {
        self.nested.first().and_then(|it| it.loss.interval())
    }

    /// Each loss sees the first numbers of each row of the table, at length 1.
    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        for Nested { dim, loss, .. } in &mut self.nested {
            let mut rng = Seed(rng.next_u64()).rng(Purpose::Refresh, 0);
            if loss.interval().is_none() {
                continue;
            }
            let mut vectors = Vec::with_capacity(table.len() * *dim);
            for row in 0..table.len() {
                let row = table.row(row).get(..*dim).unwrap_or_default();
                let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
                let length = squares.sqrt().max(1e-12);
                vectors.extend(row.iter().map(|&x| (f64::from(x) / length) as f32));
            }
            let (labels, ids) = (table.labels.clone(), table.ids.clone());
            let table = EmbeddingTable {
                vectors,
                dim: *dim,
                labels,
                ids,
            };
            loss.refresh(&table, &mut rng)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::{Join, LossConfig};

    fn nesting(text: &str) -> Nesting {
        toml::from_str(text).expect("settings of a test")
    }

    #[test]
    fn each_length_has_a_loss_as_wide_as_it_is() -> Result<()> {
        let config = LossConfig::of_name("normalized_softmax").expect("known");
        let build = |width: usize, place: String| {
            config.build(Join {
                classes: Some(2),
                width,
                place,
                dtype: DType::F64,
                ..Join::default()
            })
        };
        let settings = nesting("dims = [3, 1]\nweights = [1.0, 0.5]");
        let both = Matryoshka::new::<candle_core::Error>(&settings, 3, build)?;
        let parameters = both.parameters();
        let names: Vec<_> = parameters
            .iter()
            .map(|it| (it.name.as_str(), it.var.dims()))
            .collect();
        assert_eq!(names[0], ("matryoshka.3/centers", &[2, 3][..]));
        assert_eq!(names[1], ("matryoshka.1/centers", &[2, 1][..]));
        let rows = Tensor::new(&[[3f64, 4.0, 0.0], [-2.0, 1.0, 2.0]], &Device::Cpu)?;
        let rows = Embeddings::labeled(rows, vec![0, 1])?;
        let stream = || Seed(0).rng(Purpose::Mining, 0);
        let parts = both
            .evaluate(&Comparison::within(&rows), &mut stream())?
            .parts;
        let unit = Tensor::new(&[[1f64], [-1.0]], &Device::Cpu)?;
        let unit = Embeddings::labeled(unit, vec![0, 1])?;
        let alone = build(1, Matryoshka::place(1))?;
        alone.parameters()[0].var.set(&parameters[1].var)?;
        let alone = alone
            .evaluate(&Comparison::within(&unit), &mut stream())?
            .total()?;
        let number = |value: &Option<Tensor>| value.as_ref().expect("rows").to_scalar::<f64>();
        assert!((number(&parts[1].value)? - 0.5 * number(&alone)?).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused_with_both_numbers() {
        let error = |text: &str| nesting(text).lengths(8).expect_err("wrong").to_string();
        assert!(error("dims = [16, 8]").contains("begins with 16, but embeddings have 8"));
        assert!(error("dims = [4, 8]").contains("4 before 8"));
        assert!(error("dims = [4, 4]").contains("4 before 4"));
        assert!(error("dims = []").contains("empty"));
        assert!(error("dims = [4, 2]\nweights = [1.0]").contains("1 `weights` for 2 `dims`"));
    }
}
