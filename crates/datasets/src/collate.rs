//! Samples to batches.

use candle_core::{Device, Tensor};
use nearfar_core::{Batch, Input, Pairs, SignedPairs, Supervision};

use crate::{Annotation, Error, Sample, Value};

/// A batch on the host, before it becomes tensors.
#[derive(Debug)]
pub(crate) struct HostBatch {
    inputs: Vec<HostInput>,
    supervision: Supervision,
    ids: Vec<Vec<u64>>,
}

#[derive(Debug)]
enum HostInput {
    Dense {
        values: Vec<f32>,
        shape: Vec<usize>,
    },
    Tokens {
        values: Vec<u32>,
        length: usize,
        lengths: Vec<u32>,
    },
}

/// What is known of the samples of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// What the data set says.
    Annotation(Annotation),
    /// Consecutive samples are pairs, positive where their classes agree.
    Consecutive,
}

/// One row of a batch: the sample and what is known of it.
pub(crate) struct Row {
    pub(crate) sample: Sample,
    pub(crate) label: u32,
    pub(crate) target: f32,
    /// The id of its first input; those of the others differ in bits 40 to 43.
    pub(crate) id: u64,
    /// What the sample is called in messages.
    pub(crate) name: String,
}

/// Bits of a row's id before those of the input.
pub(crate) const INPUT_BIT: u32 = 40;

impl HostBatch {
    /// Packs rows, which must be alike in number and shape of inputs.
    pub(crate) fn pack(mut rows: Vec<Row>, known: Known) -> Result<Self, Error> {
        let sides = rows.first().map_or(0, |row| row.sample.inputs.len());
        if let Some(row) = rows.iter().find(|row| row.sample.inputs.len() != sides) {
            return Err(Error::Settings(format!(
                "{} has {} inputs, {} has {sides}; all samples of a data set must have as many",
                row.name,
                row.sample.inputs.len(),
                rows[0].name
            )));
        }
        let supervision = supervision(&rows, known, sides);
        let ids = (0..sides as u64)
            .map(|side| {
                rows.iter()
                    .map(|row| row.id | (side << INPUT_BIT))
                    .collect()
            })
            .collect();
        let mut inputs = Vec::with_capacity(sides);
        for side in 0..sides {
            let values = rows.iter_mut().map(|row| {
                let value = &mut row.sample.inputs[side];
                (
                    std::mem::replace(value, Value::Features(Vec::new())),
                    row.name.as_str(),
                )
            });
            inputs.push(HostInput::pack(values)?);
        }
        Ok(Self {
            inputs,
            supervision,
            ids,
        })
    }

    /// The same as tensors.
    pub(crate) fn onto(self, device: &Device) -> Result<Batch, Error> {
        let inputs = self
            .inputs
            .into_iter()
            .map(|input| input.onto(device))
            .collect::<Result<_, _>>()?;
        Ok(Batch {
            inputs,
            supervision: self.supervision,
            ids: self.ids,
        })
    }
}

fn supervision(rows: &[Row], known: Known, sides: usize) -> Supervision {
    let count = rows.len() as u32;
    match known {
        Known::Annotation(Annotation::Classes) => {
            Supervision::Classes(vec![rows.iter().map(|row| row.label).collect(); sides])
        }
        Known::Annotation(Annotation::LabeledPairs) => {
            let mut pairs = SignedPairs::default();
            for (index, row) in (0..count).zip(rows) {
                let list = if row.label == 0 {
                    &mut pairs.negative
                } else {
                    &mut pairs.positive
                };
                list.push(index, index);
            }
            Supervision::Pairs(pairs)
        }
        Known::Annotation(Annotation::ScoredPairs) => Supervision::Scored {
            pairs: (0..count).map(|index| (index, index)).collect::<Pairs>(),
            targets: rows.iter().map(|row| row.target).collect(),
        },
        Known::Consecutive => {
            let mut pairs = SignedPairs::default();
            for (index, pair) in (0..count).step_by(2).zip(rows.chunks_exact(2)) {
                let list = if pair[0].label == pair[1].label {
                    &mut pairs.positive
                } else {
                    &mut pairs.negative
                };
                list.push(index, index + 1);
            }
            Supervision::Pairs(pairs)
        }
    }
}

impl HostInput {
    fn pack<'a>(rows: impl Iterator<Item = (Value, &'a str)>) -> Result<Self, Error> {
        let mut packed: Option<(Self, &'a str)> = None;
        let mut count = 0;
        let mut tokens = Vec::new();
        for (value, name) in rows {
            let shape = match &value {
                Value::Image(image) => vec![image.channels, image.height, image.width],
                Value::Features(features) => vec![features.len()],
                Value::Tokens(_) => vec![],
            };
            let (input, first) = packed.get_or_insert_with(|| {
                let input = match &value {
                    Value::Tokens(_) => Self::Tokens {
                        values: Vec::new(),
                        length: 0,
                        lengths: Vec::new(),
                    },
                    _ => Self::Dense {
                        values: Vec::new(),
                        shape: shape.clone(),
                    },
                };
                (input, name)
            });
            match (input, value) {
                (
                    Self::Dense {
                        values,
                        shape: expected,
                    },
                    Value::Image(crate::Image {
                        values: of_this, ..
                    })
                    | Value::Features(of_this),
                ) if *expected == shape => values.extend_from_slice(&of_this),
                (Self::Tokens { .. }, Value::Tokens(of_this)) => tokens.push(of_this),
                (
                    Self::Dense {
                        shape: expected, ..
                    },
                    _,
                ) => {
                    return Err(Error::Settings(format!(
                        "{name} has the shape {shape:?}, {first} has {expected:?}; resize images to one `size`"
                    )));
                }
                (Self::Tokens { .. }, other) => {
                    return Err(Error::Settings(format!(
                        "{name} is of {}, {first} is a text",
                        other.kind()
                    )));
                }
            }
            count += 1;
        }
        Ok(match packed {
            Some((Self::Dense { values, mut shape }, _)) => {
                shape.insert(0, count);
                Self::Dense { values, shape }
            }
            Some((Self::Tokens { .. }, _)) => padded(&tokens),
            None => Self::Dense {
                values: Vec::new(),
                shape: vec![0],
            },
        })
    }

    fn onto(self, device: &Device) -> candle_core::Result<Input> {
        Ok(match self {
            Self::Dense { values, shape } => Input::Dense(Tensor::from_vec(values, shape, device)?),
            Self::Tokens {
                values,
                length,
                lengths,
            } => Input::Sequence {
                values: Tensor::from_vec(values, (lengths.len(), length), device)?,
                lengths,
            },
        })
    }
}

/// Token ids of one length, with zeros behind.
fn padded(rows: &[Vec<u32>]) -> HostInput {
    let length = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut values = Vec::with_capacity(rows.len() * length);
    for row in rows {
        values.extend_from_slice(row);
        values.resize(values.len() + length - row.len(), 0);
    }
    HostInput::Tokens {
        values,
        length,
        lengths: rows.iter().map(|row| row.len() as u32).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    fn row(inputs: Vec<Value>, label: u32, id: u64) -> Row {
        Row {
            sample: Sample { inputs },
            label,
            target: 0.5,
            id,
            name: format!("row {id}"),
        }
    }

    #[test]
    fn images_are_stacked_and_texts_padded() -> Result<(), Box<dyn std::error::Error>> {
        let image = |value| Value::Image(Image::filled(1, 2, 3, value));
        let rows = vec![row(vec![image(1.0)], 7, 0), row(vec![image(2.0)], 8, 1)];
        let batch =
            HostBatch::pack(rows, Known::Annotation(Annotation::Classes))?.onto(&Device::Cpu)?;
        assert_eq!(batch.inputs[0].dense("test")?.dims(), [2, 1, 2, 3]);
        assert!(
            matches!(&batch.supervision, Supervision::Classes(labels) if labels == &[vec![7, 8]])
        );

        let tokens = |ids: &[u32]| Value::Tokens(ids.to_vec());
        let rows = vec![
            row(vec![tokens(&[1, 2]), tokens(&[3])], 1, 0),
            row(vec![tokens(&[4]), tokens(&[5, 6, 7])], 0, 1),
        ];
        let batch = HostBatch::pack(rows, Known::Annotation(Annotation::LabeledPairs))?
            .onto(&Device::Cpu)?;
        let (values, lengths) = batch.inputs[0].sequence("test")?;
        assert_eq!(values.to_vec2::<u32>()?, [[1, 2], [4, 0]]);
        assert_eq!(lengths, [2, 1]);
        assert_eq!(batch.ids, [vec![0, 1], vec![1 << 40, 1 | (1 << 40)]]);
        match &batch.supervision {
            Supervision::Pairs(pairs) => {
                assert_eq!(pairs.positive.iter().collect::<Vec<_>>(), [(0, 0)]);
                assert_eq!(pairs.negative.iter().collect::<Vec<_>>(), [(1, 1)]);
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    #[test]
    fn samples_of_other_shapes_are_refused_by_name() {
        let image = |side| Value::Image(Image::filled(1, side, side, 0.0));
        let rows = vec![row(vec![image(2)], 0, 0), row(vec![image(3)], 0, 1)];
        let error = HostBatch::pack(rows, Known::Annotation(Annotation::Classes))
            .expect_err("two sizes")
            .to_string();
        assert_eq!(
            error,
            "row 1 has the shape [1, 3, 3], row 0 has [1, 2, 2]; resize images to one `size`"
        );
        let rows = vec![
            row(vec![Value::Tokens(vec![1])], 0, 0),
            row(vec![image(1)], 0, 1),
        ];
        assert!(HostBatch::pack(rows, Known::Consecutive).is_err());
    }
}
