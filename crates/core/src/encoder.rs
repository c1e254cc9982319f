//! Maps from inputs to embeddings.

use std::collections::BTreeMap;
use std::fmt::Debug;

use candle_core::{Result, Tensor, Var};

use crate::{Embeddings, Error, Pairs, Parse, Rng};

/// A map from inputs to embeddings.
pub trait Encoder: Send + Sync {
    /// `b` inputs to embeddings `(b, d)`.
    ///
    /// # Errors
    /// When the input is not of the kind or size that it reads.
    fn encode(&self, input: &Input, mode: Mode<'_>) -> Result<Encoded>;
    /// The `d` of its embeddings.
    fn width(&self) -> usize;
    /// Its tensors, in the order of their names.
    fn parameters(&self) -> Vec<Parameter>;
    /// Takes a tensor out of training, or back into it, and says whether it could. A frozen parameter leaves the graph, so that
    /// nothing is computed for its gradient; a frozen running statistic stays as it is, and training goes by it.
    ///
    /// By default nothing can be frozen here; a trainer then leaves parameters alone that it should not move, at the price of
    /// gradients that nobody needs.
    fn freeze(&self, name: &str, frozen: bool) -> bool {
        let _ = (name, frozen);
        false
    }
}

/// A named tensor that a checkpoint keeps. Running statistics are kept but not trained.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// As in published weights where there are any: `layer1.0.conv1.weight`.
    pub name: String,
    /// The tensor.
    pub var: Var,
    /// Whether an optimizer changes it.
    pub trained: bool,
}

/// Embeddings, and beside them named tensors for the losses that ask for them: `part.0`, `hidden.2`, `dense`.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// `(b, d)`
    pub embedding: Tensor,
    /// By name.
    pub extra: BTreeMap<String, Tensor>,
}

impl From<Tensor> for Encoded {
    fn from(embedding: Tensor) -> Self {
        Self {
            embedding,
            extra: BTreeMap::new(),
        }
    }
}

/// A learned score of two rows: a head on their embeddings, or a network that must see both inputs at once.
pub trait PairScorer: Debug + Send + Sync {
    /// A score for each listed pair, `(t)`: larger is closer.
    ///
    /// # Errors
    /// When a row is not there, or what it reads is not in `extra`.
    fn score(
        &self,
        left: &Embeddings,
        right: &Embeddings,
        pairs: &Pairs,
        mode: Mode<'_>,
    ) -> Result<Tensor>;
    /// Its tensors, in the order of their names. By default none.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }
}

/// Whether an encoder is being trained, and with which randomness.
#[derive(Debug)]
pub enum Mode<'a> {
    /// Nothing is random, statistics are the learned ones.
    Eval,
    /// Dropout draws, batch statistics are taken and learned.
    Train(&'a mut Rng),
}

impl Mode<'_> {
    /// Whether it is training.
    pub fn trains(&self) -> bool {
        matches!(self, Self::Train(_))
    }

    /// The same for a part: a mode is lent on, layer by layer.
    pub fn reborrow(&mut self) -> Mode<'_> {
        match self {
            Self::Eval => Mode::Eval,
            Self::Train(rng) => Mode::Train(rng),
        }
    }
}

/// What an encoder reads: `b` samples.
#[derive(Clone, Debug)]
pub enum Input {
    /// Images `(b, channels, height, width)` or vectors `(b, features)`.
    Dense(Tensor),
    /// Token ids `(b, length)` of u32, or frames `(b, length, features)`, padded, with the true lengths.
    Sequence {
        /// The padded values.
        values: Tensor,
        /// How many of each row are true; each from 1 to `length`.
        lengths: Vec<u32>,
    },
    /// Sentences with how their words depend on one another. Whoever does not look at that reads them as any sequence.
    Parsed {
        /// Token ids `(b, length)` of u32, padded.
        values: Tensor,
        /// How many of each row are true; each from 1 to `length`.
        lengths: Vec<u32>,
        /// The tree of each row, of as many words.
        parses: Vec<Parse>,
    },
}

impl Input {
    /// Number of samples, `b`.
    ///
    /// # Errors
    /// For a tensor without dimensions.
    pub fn rows(&self) -> Result<usize> {
        match self {
            Self::Dense(values) | Self::Sequence { values, .. } | Self::Parsed { values, .. } => {
                values.dim(0)
            }
        }
    }

    /// The same samples with other values, such as on another device or of another type. Lengths and parses stay.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn map(&self, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut mapped = self.clone();
        match &mut mapped {
            Self::Dense(values) | Self::Sequence { values, .. } | Self::Parsed { values, .. } => {
                *values = f(values)?;
            }
        }
        Ok(mapped)
    }

    /// Several inputs of one shape as one, so that they are encoded in one pass (batch norm then shares its statistics).
    /// None when their shapes differ in more than the number of samples; sequences are padded to the longest.
    ///
    /// # Errors
    /// Those of candle.
    pub fn stacked(inputs: &[Self]) -> Result<Option<Self>> {
        let mut dense = Vec::new();
        let mut sequences = Vec::new();
        let mut trees = Vec::new();
        for input in inputs {
            match input {
                Self::Dense(values) => dense.push(values),
                Self::Sequence { values, lengths } => sequences.push((values, lengths)),
                Self::Parsed {
                    values,
                    lengths,
                    parses,
                } => {
                    sequences.push((values, lengths));
                    trees.push(parses);
                }
            }
        }
        if !trees.is_empty() && trees.len() != inputs.len() {
            return Ok(None);
        }
        if !dense.is_empty() && sequences.is_empty() {
            if dense
                .iter()
                .any(|values| values.dims()[1..] != dense[0].dims()[1..])
            {
                return Ok(None);
            }
            return Ok(Some(Self::Dense(Tensor::cat(&dense, 0)?)));
        }
        if dense.is_empty() && !sequences.is_empty() {
            let first = sequences[0].0;
            if sequences.iter().any(|(values, _)| {
                values.rank() != first.rank() || values.dims()[2..] != first.dims()[2..]
            }) {
                return Ok(None);
            }
            let mut longest = 0;
            for (values, _) in &sequences {
                longest = longest.max(values.dim(1)?);
            }
            let padded = sequences
                .iter()
                .map(|(values, _)| values.pad_with_zeros(1, 0, longest - values.dim(1)?))
                .collect::<Result<Vec<_>>>()?;
            let values = Tensor::cat(&padded, 0)?;
            let lengths = sequences
                .iter()
                .flat_map(|(_, lengths)| lengths.iter().copied())
                .collect();
            return Ok(Some(match trees.is_empty() {
                true => Self::Sequence { values, lengths },
                false => Self::Parsed {
                    values,
                    lengths,
                    parses: trees.into_iter().flatten().cloned().collect(),
                },
            }));
        }
        Ok(None)
    }

    /// The dense tensor.
    ///
    /// # Errors
    /// [`Error::Input`] for a sequence; `place` is the one that asked.
    pub fn dense(&self, place: &str) -> Result<&Tensor> {
        match self {
            Self::Dense(values) => Ok(values),
            Self::Sequence { .. } | Self::Parsed { .. } => Err(Error::Input(format!(
                "{place} reads images or vectors, but the data are sequences"
            )))?,
        }
    }

    /// The padded values and true lengths.
    ///
    /// # Errors
    /// [`Error::Input`] for a dense input, or when the lengths do not fit; `place` is the one that asked.
    pub fn sequence(&self, place: &str) -> Result<(&Tensor, &[u32])> {
        match self {
            Self::Dense(_) => Err(Error::Input(format!(
                "{place} reads sequences, but the data are images or vectors"
            )))?,
            Self::Sequence { values, lengths }
            | Self::Parsed {
                values, lengths, ..
            } => {
                let (b, length) = (values.dim(0)?, values.dim(1)?);
                crate::shape::length(place, ("lengths", lengths.len()), ("values", b))?;
                if let Some(row) = lengths.iter().position(|&l| l == 0 || l as usize > length) {
                    Err(Error::Input(format!(
                        "{place}: row {row} has length {}; from 1 to {length} is possible",
                        lengths[row]
                    )))?;
                }
                Ok((values, lengths))
            }
        }
    }

    /// The padded token ids, and the tree of each row.
    ///
    /// # Errors
    /// [`Error::Input`] for inputs without parses, or when these do not fit the lengths; `place` is the one that asked.
    pub fn parsed(&self, place: &str) -> Result<(&Tensor, &[Parse])> {
        let (values, lengths) = self.sequence(place)?;
        let Self::Parsed { parses, .. } = self else {
            Err(Error::Input(format!(
                "{place} reads parsed sentences, but the data are sequences without parses"
            )))?
        };
        crate::shape::length(place, ("parses", parses.len()), ("values", lengths.len()))?;
        let fits = |(parse, &length): (&Parse, &u32)| parse.len() == length as usize;
        if let Some(row) = parses.iter().zip(lengths).position(|it| !fits(it)) {
            Err(Error::Input(format!(
                "{place}: row {row} has length {}, but its parse has {} words",
                lengths[row],
                parses[row].len()
            )))?;
        }
        Ok((values, parses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn inputs_of_one_shape_are_stacked() -> Result<()> {
        let dense = |b: usize, f: usize| {
            Input::Dense(Tensor::zeros((b, f), DType::F32, &Device::Cpu).expect("small"))
        };
        assert_eq!(
            Input::stacked(&[dense(2, 3), dense(4, 3)])?
                .expect("one shape")
                .rows()?,
            6
        );
        assert!(Input::stacked(&[dense(2, 3), dense(4, 2)])?.is_none());
        let words = |b: usize, t: usize| Input::Sequence {
            values: Tensor::ones((b, t), DType::U32, &Device::Cpu).expect("small"),
            lengths: vec![t as u32; b],
        };
        let stacked = Input::stacked(&[words(1, 2), words(1, 3)])?.expect("padded");
        let (values, lengths) = stacked.sequence("test")?;
        assert_eq!(values.to_vec2::<u32>()?, [[1, 1, 0], [1, 1, 1]]);
        assert_eq!(lengths, [2, 3]);
        assert!(Input::stacked(&[words(1, 2), dense(1, 2)])?.is_none());
        let parsed = |b: usize, t: usize| Input::Parsed {
            values: Tensor::ones((b, t), DType::U32, &Device::Cpu).expect("small"),
            lengths: vec![t as u32; b],
            parses: vec![Parse::chain(t); b],
        };
        let stacked = Input::stacked(&[parsed(1, 2), parsed(2, 3)])?.expect("padded");
        let (values, parses) = stacked.parsed("test")?;
        assert_eq!(values.dims(), [3, 3]);
        assert_eq!(parses, [Parse::chain(2), Parse::chain(3), Parse::chain(3)]);
        assert!(Input::stacked(&[parsed(1, 2), words(1, 2)])?.is_none());
        Ok(())
    }

    #[test]
    fn a_parse_fits_its_row() -> Result<()> {
        let input = |words: usize, parses: usize| Input::Parsed {
            values: Tensor::ones((1, 3), DType::U32, &Device::Cpu).expect("small"),
            lengths: vec![2],
            parses: vec![Parse::chain(words); parses],
        };
        assert_eq!(input(2, 1).parsed("test")?.1, [Parse::chain(2)]);
        assert_eq!(input(2, 1).sequence("test")?.1, [2]);
        let told = |input: Input| input.parsed("test").expect_err("no fit").to_string();
        assert_eq!(
            told(input(3, 1)),
            "test: row 0 has length 2, but its parse has 3 words"
        );
        assert!(told(input(2, 2)).contains("parses"));
        let plain = Input::Sequence {
            values: Tensor::ones((1, 2), DType::U32, &Device::Cpu)?,
            lengths: vec![2],
        };
        assert!(told(plain).contains("without parses"));
        Ok(())
    }
}
