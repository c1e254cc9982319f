//! One encoder for all inputs, or one for each.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{
    Batch, BoxError, EmbeddingTable, Embeddings, Encoded, Encoder, Error, Input, Mode, Parameter,
};

use crate::named::{copies, put};

/// One encoder for all inputs of a batch, or one for each of them.
///
/// The sides of a Siamese network are inputs of one tower. Where they have one shape they are stacked and encoded in one pass, so
/// that layers with batch statistics see both sides together.
pub struct Towers(Vec<Box<dyn Encoder>>);

impl Towers {
    /// One tower or several.
    ///
    /// # Errors
    /// [`Error::Settings`] for none at all.
    pub fn new(towers: Vec<Box<dyn Encoder>>) -> std::result::Result<Self, Error> {
        if towers.is_empty() {
            return Err(Error::Settings("there is no tower to train".into()));
        }
        Ok(Self(towers))
    }

    /// The inputs, each to its embeddings.
    ///
    /// # Errors
    /// When there are several towers and not one for each input, or a tower cannot read its input.
    pub fn encode(&self, inputs: &[Input], mut mode: Mode<'_>) -> Result<Vec<Encoded>> {
        if let [tower] = &self.0[..] {
            if inputs.len() > 1
                && let Some(stacked) = Input::stacked(inputs)?
            {
                let rows = inputs.iter().map(Input::rows).collect::<Result<Vec<_>>>()?;
                return split(tower.encode(&stacked, mode)?, &rows);
            }
            return inputs
                .iter()
                .map(|input| tower.encode(input, mode.reborrow()))
                .collect();
        }
        if self.0.len() != inputs.len() {
            Err(Error::Shape(format!(
                "a batch has {} inputs for {} towers; there must be one for each",
                inputs.len(),
                self.0.len()
            )))?;
        }
        self.0
            .iter()
            .zip(inputs)
            .map(|(tower, input)| match input.rows()? {
                // What a side without rows would be cannot be told from it: it may be of the kind of the other side.
                0 => {
                    let first = tower.parameters().into_iter().next();
                    let (dtype, device) = first.map_or((DType::F32, Device::Cpu), |it| {
                        (it.var.dtype(), it.var.device().clone())
                    });
                    Ok(Tensor::zeros((0, tower.width()), dtype, &device)?.into())
                }
                _ => tower.encode(input, mode.reborrow()),
            })
            .collect()
    }

    /// One of several towers by itself; none where there is no such one.
    pub fn only(self, index: usize) -> Option<Self> {
        let tower = self.0.into_iter().nth(index)?;
        Some(Self(vec![tower]))
    }

    /// The dimension of the embeddings; of the first tower where there are several.
    pub fn width(&self) -> usize {
        self.0[0].width()
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty)] // There is at least one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One of them.
    pub fn get(&self, index: usize) -> Option<&dyn Encoder> {
        self.0.get(index).map(|tower| &**tower)
    }

    /// The tensors of all. One tower's have the names that it gives them, those of several begin with `towers.0.`, `towers.1.`, …
    pub fn parameters(&self) -> Vec<Parameter> {
        if let [tower] = &self.0[..] {
            return tower.parameters();
        }
        let mut parameters = Vec::new();
        for (index, tower) in self.0.iter().enumerate() {
            parameters.extend(tower.parameters().into_iter().map(|parameter| Parameter {
                name: format!("towers.{index}.{}", parameter.name),
                ..parameter
            }));
        }
        parameters
    }

    /// Takes a tensor out of training, or back into it, and says whether its encoder could: see [`Encoder::freeze`].
    pub(crate) fn freeze(&self, name: &str, frozen: bool) -> bool {
        if let [tower] = &self.0[..] {
            return tower.freeze(name, frozen);
        }
        let place = name
            .strip_prefix("towers.")
            .and_then(|it| it.split_once('.'));
        let found = place.and_then(|(index, name)| Some((index.parse().ok()?, name)));
        found.is_some_and(|(index, name): (usize, &str)| {
            self.get(index)
                .is_some_and(|tower| tower.freeze(name, frozen))
        })
    }

    /// Copies of all tensors on the host, by name: the model, as it is saved.
    ///
    /// # Errors
    /// Those of candle.
    pub fn model(&self) -> Result<BTreeMap<String, Tensor>> {
        copies(self.parameters())
    }

    /// Takes back what [`model`](Self::model) gave, such as [`Checkpoint::model`](crate::Checkpoint).
    ///
    /// # Errors
    /// [`Misfit`](crate::Error::Misfit) with the name of a tensor that is missing, unknown, or of another shape; then nothing was
    /// changed.
    pub fn set_model(
        &self,
        model: &BTreeMap<String, Tensor>,
    ) -> std::result::Result<(), crate::Error> {
        put("model", self.parameters(), model)
    }

    /// The rows of a batch in [`Mode::Eval`], without a graph.
    ///
    /// # Errors
    /// When a tower cannot read its input, or the classes and ids do not fit.
    pub fn embed(&self, batch: &Batch) -> Result<Vec<Embeddings>> {
        let encoded = self.encode(&batch.inputs, Mode::Eval)?;
        let mut sides = batch.rows(encoded)?;
        for side in &mut sides {
            side.vectors = side.vectors.detach();
            for tensor in side.extra.values_mut() {
                *tensor = tensor.detach();
            }
        }
        Ok(sides)
    }

    /// Batches as one table in [`Mode::Eval`], side after side.
    ///
    /// # Errors
    /// Those of the batches, and of [`embed`](Self::embed).
    pub fn table(
        &self,
        batches: impl Iterator<Item = std::result::Result<Batch, BoxError>>,
    ) -> std::result::Result<EmbeddingTable, BoxError> {
        let mut table = EmbeddingTable::new(self.width());
        for batch in batches {
            for side in self.embed(&batch?)? {
                table.append(&side.vectors, &side.labels, &side.ids)?;
            }
        }
        Ok(table)
    }

    /// Where the parameters are; the CPU when there are none.
    pub fn device(&self) -> Device {
        self.parameters()
            .first()
            .map_or(Device::Cpu, |parameter| parameter.var.device().clone())
    }
}

/// One encoding of stacked inputs as one for each.
fn split(encoded: Encoded, rows: &[usize]) -> Result<Vec<Encoded>> {
    let total: usize = rows.iter().sum();
    let whole = |name: &str, tensor: &Tensor| -> Result<()> {
        let found = tensor.dims().first().copied().unwrap_or(0);
        if found != total {
            Err(Error::Shape(format!(
                "the tower gave {found} rows of `{name}` for {total} samples; they must agree"
            )))?;
        }
        Ok(())
    };
    whole("embedding", &encoded.embedding)?;
    for (name, tensor) in &encoded.extra {
        whole(name, tensor)?;
    }
    let mut sides = Vec::with_capacity(rows.len());
    let mut start = 0;
    for &count in rows {
        let mut extra = BTreeMap::new();
        for (name, tensor) in &encoded.extra {
            extra.insert(name.clone(), tensor.narrow(0, start, count)?);
        }
        sides.push(Encoded {
            embedding: encoded.embedding.narrow(0, start, count)?,
            extra,
        });
        start += count;
    }
    Ok(sides)
}
