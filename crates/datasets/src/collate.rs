//! Samples to batches.

use candle_core::{Device, Tensor};
use nearfar_core::{Batch, Input, Pairs, Parse, SignedPairs, Supervision};

use crate::{Annotation, Error, Frames, Mask, Sample, Value};

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
        /// The tree of each row, of parsed sentences.
        parses: Option<Vec<Parse>>,
    },
    /// Frames of each row, to be padded.
    Frames {
        rows: Vec<Frames>,
        width: usize,
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
    /// Its first input before it was changed, where pairs that share it have one anchor: augmentation makes two of one text.
    pub(crate) unchanged: Option<Value>,
    pub(crate) label: u32,
    pub(crate) target: f32,
    /// Its labels, where it has several.
    pub(crate) set: Vec<u32>,
    /// Its domain, 0 or 1.
    pub(crate) domain: u32,
    /// The instances of its pixels.
    pub(crate) mask: Option<Mask>,
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
        if known == Known::Annotation(Annotation::Domains) {
            return Self::of_domains(rows, sides);
        }
        let supervision = supervision(&mut rows, known, sides)?;
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

    /// The rows of each domain as a side of its own.
    fn of_domains(rows: Vec<Row>, inputs: usize) -> Result<Self, Error> {
        if let (Some(row), true) = (rows.first(), inputs != 1) {
            return Err(Error::Settings(format!(
                "{} has {inputs} inputs; a sample of one of two domains has one",
                row.name
            )));
        }
        let (first, second): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| row.domain == 0);
        let mut labels: Vec<Vec<u32>> = Vec::with_capacity(2);
        let mut ids: Vec<Vec<u64>> = Vec::with_capacity(2);
        let mut inputs = Vec::with_capacity(2);
        for (side, mut rows) in (0u64..).zip([first, second]) {
            labels.push(rows.iter().map(|row| row.label).collect());
            let of_rows = rows.iter().map(|row| row.id | (side << INPUT_BIT));
            ids.push(of_rows.collect());
            let values = rows.iter_mut().map(|row| {
                let value = &mut row.sample.inputs[0];
                (
                    std::mem::replace(value, Value::Features(Vec::new())),
                    row.name.as_str(),
                )
            });
            inputs.push(HostInput::pack(values)?);
        }
        // A side without rows is of the shape of the other.
        for side in 0..2 {
            if ids[side].is_empty() {
                inputs[side] = inputs[1 - side].emptied();
            }
        }
        Ok(Self {
            inputs,
            supervision: Supervision::Classes(labels),
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
        let supervision = match self.supervision {
            Supervision::Masks(masks) => Supervision::Masks(masks.to_device(device)?),
            on_host => on_host,
        };
        Ok(Batch {
            inputs,
            supervision,
            ids: self.ids,
        })
    }
}

fn supervision(rows: &mut [Row], known: Known, sides: usize) -> Result<Supervision, Error> {
    let count = rows.len() as u32;
    Ok(match known {
        // Domains were packed before.
        Known::Annotation(Annotation::Classes | Annotation::Domains) => {
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
            pairs: anchors(rows).into_iter().zip(0..count).collect::<Pairs>(),
            targets: rows.iter().map(|row| row.target).collect(),
        },
        Known::Annotation(Annotation::Targets) => {
            Supervision::Targets(vec![rows.iter().map(|row| row.target).collect(); sides])
        }
        Known::Annotation(Annotation::Sets) => {
            let sets = rows.iter_mut().map(|row| std::mem::take(&mut row.set));
            Supervision::Sets(vec![sets.collect(); sides])
        }
        Known::Annotation(Annotation::Masks) => Supervision::Masks(masks(rows)?),
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
    })
}

/// Of each pair its anchor: its own first input, or that of the first pair of the batch with the same one before it was changed.
fn anchors(rows: &[Row]) -> Vec<u32> {
    let mut anchors: Vec<u32> = Vec::with_capacity(rows.len());
    for (row, index) in rows.iter().zip(0u32..) {
        let first = first_of(row);
        let same = |&earlier: &u32| {
            anchors[earlier as usize] == earlier && first_of(&rows[earlier as usize]) == first
        };
        let anchor = (0..index).find(same).unwrap_or(index);
        anchors.push(anchor);
    }
    anchors
}

/// A row's first input as the data set has it.
fn first_of(row: &Row) -> Option<&Value> {
    row.unchanged.as_ref().or(row.sample.inputs.first())
}

/// `(b, height, width)`
fn masks(rows: &[Row]) -> Result<Tensor, Error> {
    let mut instances = Vec::new();
    let mut first: Option<(&Mask, &str)> = None;
    for row in rows {
        let Some(mask) = &row.mask else {
            return Err(Error::Settings(format!(
                "{} has no mask, though its data set is one with masks",
                row.name
            )));
        };
        let (like, name) = *first.get_or_insert((mask, &row.name));
        if (mask.height, mask.width) != (like.height, like.width)
            || mask.instances.len() != mask.height * mask.width
        {
            return Err(Error::Settings(format!(
                "the mask of {} is {} by {} with {} pixels, that of {name} {} by {}; resize images to one `size`",
                row.name,
                mask.width,
                mask.height,
                mask.instances.len(),
                like.width,
                like.height
            )));
        }
        instances.extend_from_slice(&mask.instances);
    }
    let (height, width) = first.map_or((0, 0), |(mask, _)| (mask.height, mask.width));
    Ok(Tensor::from_vec(
        instances,
        (rows.len(), height, width),
        &Device::Cpu,
    )?)
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
                Value::Tokens(_) | Value::Parsed { .. } => vec![],
                Value::Array(array) => array.shape.clone(),
                Value::Frames(frames) => vec![frames.width],
                Value::Sound(_) => {
                    return Err(Error::Settings(format!(
                        "{name} is a sound, of which a `FrontEnd` must make frames before it can be in a batch"
                    )));
                }
            };
            let (input, first) = packed.get_or_insert_with(|| {
                let input = match &value {
                    Value::Tokens(_) | Value::Parsed { .. } => Self::Tokens {
                        values: Vec::new(),
                        length: 0,
                        lengths: Vec::new(),
                        parses: matches!(value, Value::Parsed { .. }).then(Vec::new),
                    },
                    Value::Frames(frames) => Self::Frames {
                        rows: Vec::new(),
                        width: frames.width,
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
                    | Value::Features(of_this)
                    | Value::Array(crate::Array {
                        values: of_this, ..
                    }),
                ) if *expected == shape => values.extend_from_slice(&of_this),
                (Self::Tokens { parses: None, .. }, Value::Tokens(of_this)) => tokens.push(of_this),
                (
                    Self::Tokens {
                        parses: Some(parses),
                        ..
                    },
                    Value::Parsed { words, parse },
                ) => {
                    tokens.push(words);
                    parses.push(parse);
                }
                (Self::Frames { rows, width }, Value::Frames(of_this))
                    if of_this.width == *width && of_this.count > 0 =>
                {
                    rows.push(of_this);
                }
                (Self::Frames { width, .. }, Value::Frames(of_this)) => {
                    return Err(Error::Settings(format!(
                        "{name} has {} frames of {} numbers, {first} has frames of {width}; all samples need one or more frames of one width",
                        of_this.count, of_this.width
                    )));
                }
                (Self::Frames { .. }, other) => {
                    return Err(Error::Settings(format!(
                        "{name} is of {}, {first} of frames of sounds",
                        other.kind()
                    )));
                }
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
                (Self::Tokens { parses, .. }, other) => {
                    let what = match parses {
                        None => "a text",
                        Some(_) => "a parsed sentence",
                    };
                    return Err(Error::Settings(format!(
                        "{name} is of {}, {first} is {what}",
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
            Some((Self::Tokens { parses, .. }, _)) => padded(&tokens, parses),
            Some((frames @ Self::Frames { .. }, _)) => frames,
            None => Self::Dense {
                values: Vec::new(),
                shape: vec![0],
            },
        })
    }

    /// None of such inputs.
    fn emptied(&self) -> Self {
        match self {
            Self::Dense { shape, .. } => {
                let mut shape = shape.clone();
                shape[0] = 0;
                let values = Vec::new();
                Self::Dense { values, shape }
            }
            Self::Tokens { parses, .. } => Self::Tokens {
                values: Vec::new(),
                length: 0,
                lengths: Vec::new(),
                parses: parses.as_ref().map(|_| Vec::new()),
            },
            Self::Frames { width, .. } => Self::Frames {
                rows: Vec::new(),
                width: *width,
            },
        }
    }

    fn onto(self, device: &Device) -> candle_core::Result<Input> {
        Ok(match self {
            Self::Dense { values, shape } => Input::Dense(Tensor::from_vec(values, shape, device)?),
            Self::Tokens {
                values,
                length,
                lengths,
                parses,
            } => {
                let values = Tensor::from_vec(values, (lengths.len(), length), device)?;
                match parses {
                    None => Input::Sequence { values, lengths },
                    Some(parses) => Input::Parsed {
                        values,
                        lengths,
                        parses,
                    },
                }
            }
            Self::Frames { rows, width } => {
                let length = rows.iter().map(|it| it.count).max().unwrap_or(0);
                let mut values = Vec::with_capacity(rows.len() * length * width);
                for row in &rows {
                    values.extend_from_slice(&row.values);
                    values.resize(values.len() + (length - row.count) * width, 0.0);
                }
                Input::Sequence {
                    values: Tensor::from_vec(values, (rows.len(), length, width), device)?,
                    lengths: rows.iter().map(|it| it.count as u32).collect(),
                }
            }
        })
    }
}

/// Token ids of one length, with zeros behind.
fn padded(rows: &[Vec<u32>], parses: Option<Vec<Parse>>) -> HostInput {
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
        parses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    fn row(inputs: Vec<Value>, label: u32, id: u64) -> Row {
        Row {
            sample: Sample { inputs },
            unchanged: None,
            label,
            target: 0.5,
            set: vec![label],
            domain: label % 2,
            mask: None,
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
    fn parsed_sentences_keep_their_trees() -> Result<(), Box<dyn std::error::Error>> {
        let parsed = |words: &[u32]| Value::Parsed {
            words: words.to_vec(),
            parse: Parse::chain(words.len()),
        };
        let classes = Known::Annotation(Annotation::Classes);
        let rows = vec![
            row(vec![parsed(&[1, 2])], 0, 0),
            row(vec![parsed(&[3])], 1, 1),
        ];
        let batch = HostBatch::pack(rows, classes)?.onto(&Device::Cpu)?;
        let (values, parses) = batch.inputs[0].parsed("test")?;
        assert_eq!(values.to_vec2::<u32>()?, [[1, 2], [3, 0]]);
        assert_eq!(parses, [Parse::chain(2), Parse::chain(1)]);
        let mixed = vec![
            row(vec![parsed(&[1])], 0, 0),
            row(vec![Value::Tokens(vec![1])], 1, 1),
        ];
        let error = HostBatch::pack(mixed, classes).expect_err("not alike");
        assert_eq!(
            error.to_string(),
            "row 1 is of texts, row 0 is a parsed sentence"
        );
        Ok(())
    }

    #[test]
    fn frames_are_padded_and_sounds_are_refused() -> Result<(), Box<dyn std::error::Error>> {
        let frames = |count: usize, width: usize| {
            Value::Frames(Frames {
                count,
                width,
                values: vec![count as f32; count * width],
            })
        };
        let pack = |values: Vec<Value>| {
            let rows = values
                .into_iter()
                .zip(0..)
                .map(|(value, id)| row(vec![value], 0, id));
            HostBatch::pack(rows.collect(), Known::Annotation(Annotation::Classes))
        };
        let batch = pack(vec![frames(1, 2), frames(3, 2)])?.onto(&Device::Cpu)?;
        let (values, lengths) = batch.inputs[0].sequence("test")?;
        let expected = [[[1.0, 1.0], [0.0; 2], [0.0; 2]], [[3.0f32; 2]; 3]];
        assert_eq!(values.to_vec3::<f32>()?, expected);
        assert_eq!(lengths, [1, 3]);
        let refused = |values| pack(values).expect_err("not alike").to_string();
        let widths = refused(vec![frames(1, 2), frames(1, 3)]);
        assert!(
            widths.starts_with("row 1 has 1 frames of 3 numbers, row 0 has frames of 2;"),
            "{widths}"
        );
        let none = refused(vec![frames(1, 2), frames(0, 2)]);
        assert!(
            none.starts_with("row 1 has 0 frames of 2 numbers"),
            "{none}"
        );
        assert!(refused(vec![frames(1, 2), Value::Tokens(vec![1])]).contains("of texts"));
        let sound = crate::Sound {
            rate: 8_000,
            samples: vec![0.0],
        };
        assert!(refused(vec![Value::Sound(sound)]).contains("FrontEnd"));
        Ok(())
    }

    #[test]
    fn pairs_with_one_first_input_have_one_anchor() -> Result<(), Box<dyn std::error::Error>> {
        let tokens = |ids: &[u32]| Value::Tokens(ids.to_vec());
        let pair =
            |first: u32, id: u64| row(vec![tokens(&[first]), tokens(&[9, id as u32])], 0, id);
        let rows = vec![pair(3, 0), pair(4, 1), pair(3, 2)];
        let batch = HostBatch::pack(rows, Known::Annotation(Annotation::ScoredPairs))?
            .onto(&Device::Cpu)?;
        let Supervision::Scored { pairs, .. } = &batch.supervision else {
            panic!("no scores")
        };
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [(0, 0), (1, 1), (0, 2)]);

        // Words that were left out make neither two anchors of one nor one of two.
        let changed = |first: u32, id: u64| Row {
            unchanged: Some(tokens(&[first])),
            ..pair(if first == 3 { 7 + id as u32 } else { 7 }, id)
        };
        let rows = vec![changed(3, 0), changed(4, 1), changed(3, 2)];
        let batch = HostBatch::pack(rows, Known::Annotation(Annotation::ScoredPairs))?
            .onto(&Device::Cpu)?;
        let Supervision::Scored { pairs, .. } = &batch.supervision else {
            panic!("no scores")
        };
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [(0, 0), (1, 1), (0, 2)]);
        Ok(())
    }

    #[test]
    fn sets_targets_domains_and_masks_are_packed() -> Result<(), Box<dyn std::error::Error>> {
        let rows = || {
            let image = |value| vec![Value::Image(Image::filled(1, 1, 2, value))];
            vec![
                row(image(1.0), 2, 0),
                row(image(2.0), 1, 1),
                row(image(3.0), 4, 2),
            ]
        };
        let pack = |rows, annotation| -> Result<Batch, Error> {
            HostBatch::pack(rows, Known::Annotation(annotation))?.onto(&Device::Cpu)
        };
        let Supervision::Sets(sets) = pack(rows(), Annotation::Sets)?.supervision else {
            panic!("no sets")
        };
        assert_eq!(sets, [[[2], [1], [4]]]);
        let Supervision::Targets(targets) = pack(rows(), Annotation::Targets)?.supervision else {
            panic!("no targets")
        };
        assert_eq!(targets, [[0.5; 3]]);

        let batch = pack(rows(), Annotation::Domains)?;
        assert_eq!(batch.inputs[0].dense("test")?.dims(), [2, 1, 1, 2]);
        assert_eq!(batch.inputs[1].dense("test")?.dims(), [1, 1, 1, 2]);
        assert_eq!(batch.ids, [vec![0, 2], vec![1 | (1 << INPUT_BIT)]]);
        assert!(
            matches!(&batch.supervision, Supervision::Classes(it) if it == &[vec![2, 4], vec![1]])
        );
        let one_domain = rows().into_iter().filter(|row| row.domain == 0).collect();
        let batch = pack(one_domain, Annotation::Domains)?;
        assert_eq!(batch.inputs[1].dense("test")?.dims(), [0, 1, 1, 2]);

        let masked = |height| {
            let mut rows = rows();
            for row in &mut rows {
                let instances = vec![row.label; 2];
                row.mask = Some(Mask {
                    height: 1,
                    width: 2,
                    instances,
                });
            }
            if let Some(mask) = &mut rows[1].mask {
                mask.height = height;
            }
            rows
        };
        let Supervision::Masks(masks) = pack(masked(1), Annotation::Masks)?.supervision else {
            panic!("no masks")
        };
        assert_eq!(masks.flatten_all()?.to_vec1::<u32>()?, [2, 2, 1, 1, 4, 4]);
        let error = pack(masked(3), Annotation::Masks)
            .expect_err("too few pixels")
            .to_string();
        assert!(
            error.starts_with("the mask of row 1 is 2 by 3 with 2 pixels"),
            "{error}"
        );
        let error = pack(rows(), Annotation::Masks)
            .expect_err("none")
            .to_string();
        assert!(error.starts_with("row 0 has no mask"), "{error}");
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
