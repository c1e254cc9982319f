//! Data through towers, into tables at rest.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Batches, EmbeddingTable, Encoded, Input, Mode};
use nearfar_datasets::{Annotation, Dataset, Loader};
use nearfar_kernels::l2_normalize;
use nearfar_losses::PartSupervision;
use nearfar_trainer::Towers;

use crate::exit::Error;
use crate::run_file::RunFile;

/// Samples encoded at a time. Results do not depend on it: an encoder that is not trained looks at each row alone.
const ROWS: usize = 256;

/// Which vectors of a sample are searched and scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Searched {
    /// Its embedding.
    Whole,
    /// Its parts side by side, each divided by its length, and then all of them together (Sun et al., "Beyond part models", ECCV 2018).
    Parts,
}

impl Searched {
    pub(crate) fn of(run: &RunFile) -> Self {
        match run.evaluation.parts {
            true => Self::Parts,
            false => Self::Whole,
        }
    }

    /// `(b, d)`
    fn vectors(self, encoded: &Encoded) -> Result<Tensor, Error> {
        if self == Self::Whole {
            return Ok(encoded.embedding.clone());
        }
        let parts = encoded.extra.iter();
        let mut parts: Vec<_> = parts
            .filter(|(name, _)| name.starts_with(PartSupervision::NAME))
            .collect();
        if parts.is_empty() {
            return Err(without_parts());
        }
        parts.sort_by_key(|(name, _)| (name.len(), name.as_str())); // `part.10` is after `part.9`.
        let parts = parts.into_iter().map(|(_, part)| l2_normalize(part));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        Ok(l2_normalize(&Tensor::cat(&parts, 1)?)?)
    }
}

/// What a run file is told whose model has no parts to be searched.
pub(crate) fn without_parts() -> Error {
    Error::Usage(
        "`evaluation.parts` wants vectors `part.0`, `part.1`, …, which the model does not give; `model.conv4 = { parts = 3, blocks = 2 }` gives \
         some"
            .into(),
    )
}

/// A data set's embeddings, one table for each input of its samples; labels and the samples' numbers beside them. Samples of two
/// domains are in one table, each encoded by the tower of its own.
pub(crate) fn tables(
    towers: &Towers,
    searched: Searched,
    dataset: &Arc<dyn Dataset>,
    device: &Device,
) -> Result<Vec<EmbeddingTable>, Error> {
    if dataset.annotation() == Annotation::Domains {
        return Ok(vec![of_domains(towers, searched, dataset, device)?]);
    }
    let inputs = dataset.annotation().inputs();
    let mut tables = vec![EmbeddingTable::new(towers.width()); inputs];
    let loader = Loader::in_order(dataset.clone(), ROWS, device.clone());
    let mut first = 0;
    for batch in loader.sweep() {
        let batch = batch.map_err(crate::exit::unboxed)?;
        let encoded = towers.encode(&batch.inputs, Mode::Eval)?;
        let rows = batch.inputs.first().map_or(Ok(0), Input::rows)?;
        let ids: Vec<u64> = (first as u64..(first + rows) as u64).collect();
        let labels = match dataset.annotation() {
            Annotation::Classes => &dataset.labels()[first..first + rows],
            _ => &[],
        };
        for (table, encoded) in tables.iter_mut().zip(encoded) {
            let vectors = searched.vectors(&encoded)?;
            if table.is_empty() {
                table.dim = vectors.dim(1)?;
            }
            table.append(&vectors, labels, &ids)?;
        }
        first += rows;
    }
    Ok(tables)
}

fn of_domains(
    towers: &Towers,
    searched: Searched,
    dataset: &Arc<dyn Dataset>,
    device: &Device,
) -> Result<EmbeddingTable, Error> {
    let count = dataset.len();
    let mut table = EmbeddingTable {
        vectors: Vec::new(),
        dim: towers.width(),
        labels: dataset.labels().to_vec(),
        ids: (0..count as u64).collect(),
    };
    let loader = Loader::in_order(dataset.clone(), ROWS, device.clone());
    for batch in loader.sweep() {
        let batch = batch.map_err(crate::exit::unboxed)?;
        let encoded = towers.encode(&batch.inputs, Mode::Eval)?;
        for (encoded, ids) in encoded.iter().zip(&batch.ids) {
            let vectors = searched.vectors(encoded)?;
            let dim = vectors.dim(1)?;
            if table.vectors.is_empty() {
                (table.vectors, table.dim) = (vec![0.0; count * dim], dim);
            }
            let rows = vectors.to_dtype(DType::F32)?.to_vec2::<f32>()?;
            for (row, id) in rows.iter().zip(ids) {
                let index = (id & SAMPLE) as usize;
                table.vectors[index * dim..][..dim].copy_from_slice(row);
            }
        }
    }
    Ok(table)
}

/// The bits of a row's id that say which sample it is, when every sample is looked at once.
const SAMPLE: u64 = (1 << 40) - 1;

/// Parts of a sound, each as long as the others, whose mean frames stand for it where it must have a fixed size.
const PARTS: usize = 8;

/// The mean frame of each part of a sound, one after another.
fn in_parts(frames: &nearfar_datasets::Frames) -> Vec<f32> {
    let mut means = Vec::with_capacity(PARTS * frames.width);
    for part in 0..PARTS {
        let start = part * frames.count / PARTS;
        let end = ((part + 1) * frames.count / PARTS).max(start + 1); // Short sounds have frames in several parts.
        let of_part = &frames.values[start * frames.width..end * frames.width];
        means.extend((0..frames.width).map(|band| {
            let of_band = of_part.iter().skip(band).step_by(frames.width);
            of_band.sum::<f32>() / (end - start) as f32
        }));
    }
    means
}

/// Numbers of a volume, or of the views of a thing, that a baseline looks at: it makes a matrix of as many rows and columns.
const NUMBERS: usize = 4096;

/// An array as it is, or where it has more numbers than a baseline looks at the means of blocks of its last two dimensions.
fn in_blocks(array: &nearfar_datasets::Array) -> Vec<f32> {
    let [.., height, width] = array.shape[..] else {
        return array.values.clone();
    };
    let layers = array.values.len() / (height * width).max(1);
    let fits = |side: &usize| layers * height.div_ceil(*side) * width.div_ceil(*side) <= NUMBERS;
    let side = (1..height.max(width))
        .find(fits)
        .unwrap_or(height.max(width));
    if side <= 1 {
        return array.values.clone();
    }
    let columns = width.div_ceil(side);
    let mut means = Vec::with_capacity(layers * height.div_ceil(side) * columns);
    for layer in array.values.chunks_exact(height * width) {
        for rows in layer.chunks(side * width) {
            let mut sums = vec![(0f32, 0u32); columns];
            for row in rows.chunks_exact(width) {
                for (block, sum) in row.chunks(side).zip(&mut sums) {
                    sum.0 += block.iter().sum::<f32>();
                    sum.1 += block.len() as u32;
                }
            }
            means.extend(sums.iter().map(|(sum, count)| sum / *count as f32));
        }
    }
    means
}

/// The samples as they are, for baselines: pixels, features, the mean frames of parts, or how often each word occurs.
pub(crate) fn raw(
    dataset: &Arc<dyn Dataset>,
    limit: Option<usize>,
    vocabulary: usize,
) -> Result<Vec<EmbeddingTable>, Error> {
    use nearfar_datasets::Value;

    let chosen = nearfar_eval::draw(
        dataset.len(),
        limit.unwrap_or(usize::MAX),
        nearfar_core::Seed(0),
    );
    let mut tables: Vec<EmbeddingTable> = Vec::new();
    for index in chosen {
        let sample = dataset.sample(index as u32)?;
        if tables.is_empty() {
            tables = sample
                .inputs
                .iter()
                .map(|_| EmbeddingTable::default())
                .collect();
        }
        for (table, value) in tables.iter_mut().zip(&sample.inputs) {
            let row = match value {
                Value::Image(image) => image.values.clone(),
                Value::Features(features) => features.clone(),
                Value::Array(array) => in_blocks(array),
                Value::Frames(frames) => in_parts(frames),
                // A data set that gives sounds gives their frames when it is asked for a sample.
                Value::Sound(sound) => sound.samples.clone(),
                Value::Tokens(tokens) | Value::Parsed { words: tokens, .. } => {
                    let mut counts = vec![0f32; vocabulary];
                    tokens
                        .iter()
                        .for_each(|&token| counts[token as usize] += 1.0);
                    counts
                }
            };
            if table.is_empty() {
                table.dim = row.len();
            }
            table.vectors.extend(row);
            table.ids.push(index as u64);
            if dataset.annotation().has_classes() {
                table.labels.push(dataset.labels()[index]);
            }
        }
    }
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_array_has_the_means_of_its_blocks() {
        let blocks = |shape: [usize; 4]| {
            let values = (0..shape.iter().product()).map(|it| it as f32).collect();
            let shape = shape.to_vec();
            in_blocks(&nearfar_datasets::Array { shape, values })
        };
        assert_eq!(blocks([1, 2, 2, 2]).len(), 8);
        let means = blocks([1, 32, 32, 32]);
        assert_eq!(means.len(), 32 * 11 * 11); // Sides of 3, the last of which are cut short.
        assert_eq!(means[0], 33.0); // Of columns 0 to 2 in rows 0 to 2.
        assert_eq!(means[10], (30.5 + 62.5 + 94.5) / 3.0);
        assert_eq!(blocks([2000, 3, 2, 5]).len(), 6000); // It cannot be less.
    }

    #[test]
    fn a_sound_of_any_length_has_its_parts() {
        let means = |count: usize| {
            in_parts(&nearfar_datasets::Frames {
                count,
                width: 2,
                values: (0..2 * count).map(|it| it as f32).collect(),
            })
        };
        assert_eq!(means(1), [0.0, 1.0].repeat(8));
        assert_eq!(means(16)[..4], [1.0, 2.0, 5.0, 6.0]);
        assert_eq!(means(3).len(), 16);
    }
}
