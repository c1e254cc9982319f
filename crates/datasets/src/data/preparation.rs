//! What inputs go through before a model sees them, and what they are then.

use std::{path::Path, sync::Arc};

use nearfar_core::Positive;
use serde::{Deserialize, Serialize};

use crate::{
    Annotation, Color, Dataset, Error, FrontEnd, Limits, LineFormat, LogMel, Size, Standardization,
    Tokenizer, Value, Vocabulary,
    error::{Fault, Strict, shown},
    formats::{
        arrays::{ArrayFiles, Arrays},
        conllu::Sentences,
        file_bytes,
        folder::{self, Wanted},
        image_files::{Alike, ImageFile, ImageFiles},
        lines::{Lines, Reading},
        said::SaidColumns,
        sounds::{Origin, Sounds},
        table::{Table, TableColumns, Vectors},
        texts::{RawText, RawTexts, TextColumns, Texts, ValueOf},
        view_files::{self, ViewFiles},
    },
    rows::{Rows, RowsBuilder},
};

/// What one input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Images.
    Image {
        /// 1 or 3.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// Volumes.
    Volume {
        /// Numbers at each place.
        channels: usize,
        /// Slices.
        depth: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// Several images of one thing.
    Views {
        /// How many.
        views: usize,
        /// 1 or 3.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// Vectors.
    Features {
        /// How long.
        count: usize,
    },
    /// Frames of sounds, or the points of sets.
    Frames {
        /// Numbers in a frame or point.
        features: usize,
    },
    /// Texts.
    Tokens {
        /// Words or tokens that have a number, `<unk>` among them.
        vocabulary: usize,
        /// How many a text has at most.
        length: usize,
    },
    /// Parsed sentences.
    Parsed {
        /// Words that have a number, `<unk>` among them.
        vocabulary: usize,
        /// How many a sentence has at most.
        length: usize,
    },
}

/// What inputs go through before a model sees them. A run stores it, as JSON, and opens new files by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Preparation {
    /// Images are made alike.
    Images {
        /// Height and width.
        size: Size,
        /// Channels.
        color: Color,
        /// Whether files have dark ink on light paper, so that they are inverted.
        dark_ink: bool,
    },
    /// Numbers are put on one scale.
    Features {
        /// Columns, in their order.
        names: Vec<String>,
        /// The text in a cell that has no value.
        missing: Option<String>,
        /// The scale, if there is one.
        standardization: Option<Standardization>,
    },
    /// Volumes are as they are.
    Volumes {
        /// Channels, depth, height and width.
        shape: [usize; 4],
    },
    /// Points are as they are.
    Points {
        /// Numbers of a point.
        features: usize,
        /// Points of a set at most.
        most: usize,
    },
    /// Views are made alike, as images.
    Views {
        /// How many a thing has.
        views: usize,
        /// Height and width.
        size: Size,
        /// Channels.
        color: Color,
        /// Whether files have dark ink on light paper, so that they are inverted.
        dark_ink: bool,
    },
    /// Two kinds of inputs, each prepared by itself.
    Kinds {
        /// What asks.
        first: Box<Preparation>,
        /// What is searched.
        second: Box<Preparation>,
    },
    /// Sounds become frames.
    Sounds {
        /// How.
        log_mel: Box<LogMel>,
        /// Seconds of a sound at most.
        seconds: Positive,
    },
    /// Words become numbers.
    Texts {
        /// Which.
        vocabulary: Vocabulary,
        /// Words of a text at most.
        length: usize,
    },
    /// Words of parsed sentences become numbers.
    Parsed {
        /// Which.
        vocabulary: Vocabulary,
        /// Words of a sentence at most.
        length: usize,
        /// By which relations to a root a word is of the basic part.
        basic: Vec<String>,
    },
    /// Texts become tokens as a file says.
    Tokenized {
        /// The file, as it was read: the run does not need it any more.
        tokenizer: Tokenizer,
    },
}

impl Preparation {
    /// The shapes of what comes out: one for all inputs of a batch, or of two kinds of inputs one for each.
    pub fn shapes(&self) -> Vec<Shape> {
        match self {
            Self::Kinds { first, second } => vec![first.shape(), second.shape()],
            one => vec![one.shape()],
        }
    }

    /// The preparation of one of the inputs of a batch.
    pub fn of_input(&self, input: usize) -> &Self {
        match self {
            Self::Kinds { first, .. } if input == 0 => first,
            Self::Kinds { second, .. } => second,
            one => one,
        }
    }

    /// The shape of what comes out; of two kinds of inputs that of the first.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Kinds { first, .. } => first.shape(),
            Self::Images { size, color, .. } => Shape::Image {
                channels: color.channels(),
                height: size.height,
                width: size.width,
            },
            &Self::Volumes {
                shape: [channels, depth, height, width],
            } => Shape::Volume {
                channels,
                depth,
                height,
                width,
            },
            &Self::Points { features, .. } => Shape::Frames { features },
            Self::Views {
                views, size, color, ..
            } => Shape::Views {
                views: *views,
                channels: color.channels(),
                height: size.height,
                width: size.width,
            },
            Self::Features { names, .. } => Shape::Features { count: names.len() },
            Self::Sounds { log_mel, .. } => Shape::Frames {
                features: log_mel.mels,
            },
            Self::Texts { vocabulary, length } => Shape::Tokens {
                vocabulary: vocabulary.len(),
                length: *length,
            },
            Self::Parsed {
                vocabulary, length, ..
            } => Shape::Parsed {
                vocabulary: vocabulary.len(),
                length: *length,
            },
            Self::Tokenized { tokenizer } => Shape::Tokens {
                vocabulary: tokenizer.vocabulary(),
                length: tokenizer.length(),
            },
        }
    }

    /// What makes numbers of a text, of texts.
    pub(super) fn value_of(&self) -> Option<Box<ValueOf<'_>>> {
        match self {
            Self::Texts { vocabulary, length } => Some(Box::new(|text| {
                Ok(Value::Tokens(vocabulary.tokens(text.text(), *length)))
            })),
            Self::Tokenized { tokenizer } => Some(Box::new(|text| {
                Ok(Value::Tokens(tokenizer.tokens(text.text())?))
            })),
            Self::Parsed {
                vocabulary, length, ..
            } => Some(Box::new(|text| match text {
                RawText::Parsed(sentence) => {
                    let parse = sentence.parse.cut((*length).max(1));
                    let words = sentence.words.iter().take(parse.len());
                    let words = words.map(|word| vocabulary.number(word)).collect();
                    Ok(Value::Parsed { words, parse })
                }
                RawText::Plain(text) => Err(Error::Settings(format!(
                    "the run was trained on parsed sentences, but `{text}` has no parse; give the data `parses`"
                ))),
            })),
            Self::Images { .. }
            | Self::Volumes { .. }
            | Self::Points { .. }
            | Self::Views { .. }
            | Self::Kinds { .. }
            | Self::Features { .. }
            | Self::Sounds { .. } => None,
        }
    }

    /// What is prepared, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Images { .. } => "images",
            Self::Volumes { .. } => "volumes",
            Self::Points { .. } => "sets of points",
            Self::Views { .. } => "views",
            Self::Kinds { .. } => "two kinds of inputs",
            Self::Features { .. } => "features",
            Self::Sounds { .. } => "sounds",
            Self::Texts { .. } | Self::Tokenized { .. } => "texts",
            Self::Parsed { .. } => "parsed sentences",
        }
    }

    /// New inputs, prepared the same way: an image, a sound, or an array of NumPy, or a folder with them at any depth; a folder of views, or
    /// one with such folders at any depth; a table (`.csv`, `.tsv`,
    /// `.jsonl`) whose columns are those that were trained on; a table of texts with a column `text`, or a `.txt` file with
    /// a text a line; of parsed sentences a file in CoNLL-U.
    ///
    /// The class of an image or sound is its first folder below `path`; that of a row stands in a column `label`, if there is one.
    /// Where there is none, all are of one class without a name.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place. Images and sounds are decoded when they are asked for.
    pub fn open(&self, path: &Path) -> Result<Arc<dyn Dataset>, Error> {
        let limits = Limits::DEFAULT;
        match self {
            Self::Images {
                size,
                color,
                dark_ink,
            } => {
                let (files, rows) = folder::read_any(path, Wanted::Images, &limits, &mut Strict)?;
                let files = files.into_iter().map(ImageFile::whole).collect();
                let alike = Alike {
                    size: *size,
                    color: *color,
                    dark_ink: *dark_ink,
                    resize: true,
                };
                Ok(Arc::new(ImageFiles::new(files, alike, &rows, &limits)))
            }
            Self::Kinds { first, second } => Err(Error::Settings(format!(
                "{} can be {} or {}; say which of the two it is, and open it by that",
                shown(path),
                first.kind(),
                second.kind()
            ))),
            Self::Volumes { .. } | Self::Points { .. } => {
                let (files, rows) = folder::read_any(path, Wanted::Arrays, &limits, &mut Strict)?;
                let kind = match *self {
                    Self::Points { features, most } => Arrays::Points { features, most },
                    Self::Volumes { shape } => Arrays::Volumes(shape),
                    _ => return Err(other_kind(self, "arrays")),
                };
                Ok(Arc::new(ArrayFiles::new(files, kind, &rows, &limits)))
            }
            Self::Views {
                views,
                size,
                color,
                dark_ink,
            } => {
                let (files, rows) = folder::read_any(path, Wanted::Images, &limits, &mut Strict)?;
                let files: Vec<_> = files.into_iter().map(ImageFile::whole).collect();
                let place = shown(path);
                let (files, rows, _) =
                    view_files::things(files, &rows, Some(*views), &place, &mut Strict)?;
                let alike = Alike {
                    size: *size,
                    color: *color,
                    dark_ink: *dark_ink,
                    resize: true,
                };
                let images = ImageFiles::new(files, alike, &Rows::default(), &limits);
                Ok(Arc::new(ViewFiles::new(images, *views, &rows)))
            }
            Self::Sounds { log_mel, seconds } => {
                let (files, rows) = folder::read_any(path, Wanted::Sounds, &limits, &mut Strict)?;
                let origins = files.into_iter().map(Origin::File).collect();
                let front_end = FrontEnd::new(log_mel)?;
                let sounds = Sounds::new(origins, front_end, seconds.get(), &rows, &limits);
                Ok(Arc::new(sounds))
            }
            Self::Features {
                names,
                missing,
                standardization,
            } => {
                let lines = self.lines(path, &limits)?;
                let features = names
                    .iter()
                    .map(|name| lines.column(&nearfar_catalogue::Column::Name(name.clone())))
                    .collect::<Result<_, _>>()?;
                let columns = TableColumns {
                    label: lines.find("label"),
                    said: SaidColumns::default(),
                    split: None,
                    features,
                    missing: missing.as_deref(),
                };
                let mut rows = RowsBuilder::default();
                let mut table = Table::new(&lines, &columns);
                table.add(&lines, &columns, "all", &mut rows, &mut Strict)?;
                standardize(&mut table, standardization.as_ref())?;
                Ok(Arc::new(Vectors::new(table, &rows.finish())))
            }
            Self::Parsed { basic, .. } => {
                let sentences = Sentences::read(
                    &shown(path),
                    &file_bytes(path, &limits)?,
                    basic,
                    &mut Strict,
                )?;
                let mut rows = RowsBuilder::default();
                let raw = RawTexts::of_sentences(sentences, &mut rows);
                self.texts(path, raw, &rows.finish())
            }
            Self::Texts { .. } | Self::Tokenized { .. } => {
                let lines = self.lines(path, &limits)?;
                let columns = TextColumns {
                    texts: vec![lines.column(&nearfar_catalogue::Column::Name("text".into()))?],
                    label: lines.find("label"),
                    said: SaidColumns::default(),
                    score: None,
                    split: None,
                };
                let (mut raw, mut rows) = (RawTexts::default(), RowsBuilder::default());
                raw.add(&lines, &columns, "all", &|_| None, &mut rows, &mut Strict)?;
                self.texts(path, raw, &rows.finish())
            }
        }
    }

    /// New texts as numbers.
    fn texts(&self, path: &Path, raw: RawTexts, rows: &Rows) -> Result<Arc<dyn Dataset>, Error> {
        if raw.texts.is_empty() {
            let fault = Fault::Empty { wanted: "texts" };
            return Err(Error::bad(shown(path), None, fault));
        }
        let Some(value) = self.value_of() else {
            return Err(other_kind(self, "texts"));
        };
        let texts = Texts::new(raw, rows, Annotation::Classes, &*value)?;
        Ok(Arc::new(texts))
    }

    /// The lines of a new file.
    fn lines(&self, path: &Path, limits: &Limits) -> Result<Lines, Error> {
        let bytes = file_bytes(path, limits)?;
        let label = shown(path);
        let reading = |format, header| Reading {
            format,
            header,
            more_columns: false,
        };
        let of_texts = matches!(self, Self::Texts { .. } | Self::Tokenized { .. });
        if of_texts && path.extension().is_some_and(|it| it == "txt") {
            // A text a line: with one column there is nothing between columns.
            return Lines::of_texts(&label, &bytes, &mut Strict);
        }
        let format = LineFormat::of(path)?;
        // Columns that were trained on by number come without a header.
        let header = match self {
            Self::Features { names, .. } => !names.iter().all(|name| name.parse::<usize>().is_ok()),
            _ => true,
        };
        let lines = Lines::read(&label, &bytes, reading(format, header), &mut Strict)?;
        if lines.rows.is_empty() {
            return Err(Error::bad(label, None, Fault::Empty { wanted: "rows" }));
        }
        Ok(lines)
    }
}

pub(super) fn standardize(table: &mut Table, scale: Option<&Standardization>) -> Result<(), Error> {
    if let Some(scale) = scale {
        let width = table.names.len().max(1);
        for row in table.values.chunks_exact_mut(width) {
            scale.apply(row)?;
        }
    }
    Ok(())
}

pub(super) fn other_kind(stored: &Preparation, found: &'static str) -> Error {
    Error::Settings(format!(
        "the run was trained on {} of the shape {:?}, but the data are {found} of another; evaluate it on data like those",
        stored.kind(),
        stored.shape()
    ))
}
