//! Batches, and where they come from.

use candle_core::Result;

use crate::{Embeddings, Encoded, Error, Input, Stateful, Supervision};

/// An error of whoever brings data or watches a run.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One input per side or per tower; the identity of each row of each.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What is encoded.
    pub inputs: Vec<Input>,
    /// What is known of it.
    pub supervision: Supervision,
    /// Identity of each row of each input.
    pub ids: Vec<Vec<u64>>,
}

impl Batch {
    /// The encoded inputs with their classes and ids, one for each input.
    ///
    /// # Errors
    /// When there is not one encoding, and not one label and id for each row, for each input.
    pub fn rows(&self, encoded: Vec<Encoded>) -> Result<Vec<Embeddings>> {
        if encoded.len() != self.ids.len() || encoded.len() != self.inputs.len() {
            Err(Error::Shape(format!(
                "a batch of {} inputs has ids for {} and {} encodings; they must agree",
                self.inputs.len(),
                self.ids.len(),
                encoded.len()
            )))?;
        }
        let labels = match &self.supervision {
            Supervision::Classes(labels) if labels.len() == encoded.len() => labels.clone(),
            Supervision::Classes(labels) => Err(Error::Shape(format!(
                "a batch of {} inputs has classes for {}; they must agree",
                encoded.len(),
                labels.len()
            )))?,
            _ => vec![Vec::new(); encoded.len()],
        };
        let mut sides = Vec::with_capacity(encoded.len());
        for ((encoded, labels), ids) in encoded.into_iter().zip(labels).zip(&self.ids) {
            let mut side = Embeddings::new(encoded.embedding, labels, ids.clone())?;
            side.extra = encoded.extra;
            sides.push(side);
        }
        Ok(sides)
    }
}

/// Where batches come from. An epoch is a function of the seed, its number and what a sampler was last shown.
pub trait Batches: Stateful {
    /// The batches of one epoch, in order, from the `skip`-th on.
    fn epoch(
        &self,
        epoch: u64,
        skip: u64,
    ) -> Box<dyn Iterator<Item = std::result::Result<Batch, BoxError>> + '_>;
    /// Every sample of the training set once, in order, without augmentation: what a refresh is fed from.
    fn sweep(&self) -> Box<dyn Iterator<Item = std::result::Result<Batch, BoxError>> + '_>;
}
