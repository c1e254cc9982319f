//! Data that are ready to be learned from.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use nearfar_core::{Positive, Seed};
use serde::{Deserialize, Serialize};

use crate::{
    Annotation, Color, Dataset, Error, FrontEnd, Limits, LineFormat, LogMel, Size, Standardization,
    Subset, TextUnit, Tokenizer, Vocabulary,
    error::{Fault, Sink, Strict, shown},
    formats::{
        arrays::{ArrayFiles, Arrays},
        file_bytes,
        folder::{self, Wanted},
        image_files::{Alike, ImageFile, ImageFiles},
        lines::{Lines, Reading},
        said::{Annotated, Said, SaidColumns},
        sounds::{Origin, Sounds},
        table::{Table, TableColumns, Vectors},
        texts::{RawTexts, TextColumns, Texts, TokensOf},
        two_kinds::TwoKinds,
        view_files::{self, ViewFiles},
    },
    rows::{Rows, RowsBuilder},
    split::{Division, Wishes, divide},
};

/// A data set, divided: what is trained on and what is looked at.
///
/// One numbering of classes serves all parts: those that are trained on come first, in the order of their names, then
/// those that are only looked at.
pub struct Data {
    /// Its name in a run file.
    pub name: &'static str,
    /// What is trained on.
    pub train: Arc<dyn Dataset>,
    /// What is looked at: `validation`, `test`, `unseen`, as far as they are there.
    pub evaluation: Vec<Evaluation>,
    /// Names of all classes, by label.
    pub classes: Arc<[String]>,
    /// How many classes are trained on: labels of the training part are below it. Of sets of labels, all labels.
    pub train_classes: usize,
    /// Least and greatest score of a pair, where they are known.
    pub range: Option<[f64; 2]>,
    /// What inputs go through before a model sees them.
    pub preparation: Preparation,
}

/// A part that is looked at.
pub struct Evaluation {
    /// `validation`, `test` or `unseen`.
    pub name: &'static str,
    /// Its samples.
    pub dataset: Arc<dyn Dataset>,
    /// Who asks and who is searched, where the data say so; else all do and are.
    pub roles: Option<Vec<Roles>>,
}

/// What a sample is in retrieval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Whether it asks.
    pub query: bool,
    /// Whether it is searched.
    pub gallery: bool,
    /// A sample is not found by those of its own sequence, where it has one.
    pub sequence: Option<String>,
}

impl Data {
    /// What is known of its samples.
    pub fn annotation(&self) -> Annotation {
        self.train.annotation()
    }

    /// The shape of an input; of two kinds of inputs that of the first.
    pub fn shape(&self) -> Shape {
        self.preparation.shape()
    }

    /// The shapes of the inputs: one for all, or of two kinds of inputs one for each.
    pub fn shapes(&self) -> Vec<Shape> {
        self.preparation.shapes()
    }

    /// The part of this name that is looked at, or `train`.
    ///
    /// # Errors
    /// [`Error::Settings`] with the names there are.
    pub fn part(&self, name: &str) -> Result<&Arc<dyn Dataset>, Error> {
        if name == crate::split::TRAIN {
            return Ok(&self.train);
        }
        let found = self.evaluation.iter().find(|part| part.name == name);
        found.map(|part| &part.dataset).ok_or_else(|| {
            let names: Vec<&str> = std::iter::once(crate::split::TRAIN)
                .chain(self.evaluation.iter().map(|part| part.name))
                .collect();
            Error::Settings(format!(
                "`data.{}` has no part `{name}`; there are `{}`",
                self.name,
                names.join("`, `")
            ))
        })
    }
}

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
            Self::Tokenized { tokenizer } => Shape::Tokens {
                vocabulary: tokenizer.vocabulary(),
                length: tokenizer.length(),
            },
        }
    }

    /// What makes numbers of a text, of texts.
    fn tokens_of(&self) -> Option<Box<TokensOf<'_>>> {
        match self {
            Self::Texts { vocabulary, length } => {
                Some(Box::new(|text| Ok(vocabulary.tokens(text, *length))))
            }
            Self::Tokenized { tokenizer } => Some(Box::new(|text| tokenizer.tokens(text))),
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
        }
    }

    /// New inputs, prepared the same way: an image, a sound, or an array of NumPy, or a folder with them at any depth; a folder of views, or
    /// one with such folders at any depth; a table (`.csv`, `.tsv`,
    /// `.jsonl`) whose columns are those that were trained on; a table of texts with a column `text`, or a `.txt` file with
    /// a text a line.
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
                let rows = rows.finish();
                let Some(tokens) = self.tokens_of() else {
                    return Err(other_kind(self, "texts"));
                };
                let texts = Texts::new(raw, &rows, Annotation::Classes, &*tokens)?;
                Ok(Arc::new(texts))
            }
        }
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

fn standardize(table: &mut Table, scale: Option<&Standardization>) -> Result<(), Error> {
    if let Some(scale) = scale {
        let width = table.names.len().max(1);
        for row in table.values.chunks_exact_mut(width) {
            scale.apply(row)?;
        }
    }
    Ok(())
}

/// What was read, before it is divided.
pub(crate) struct Source {
    pub(crate) rows: Rows,
    pub(crate) division: Division,
    pub(crate) roles: Option<Vec<Roles>>,
    pub(crate) content: Content,
    /// What is known of samples beside their class, or in place of it.
    pub(crate) said: Option<Said>,
    /// Where it is from, in messages.
    pub(crate) place: String,
    /// Whether the parts should share no class.
    pub(crate) disjoint: Disjoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disjoint {
    /// They may.
    No,
    /// By custom they share none.
    Usually,
    /// The settings say so.
    Yes,
}

pub(crate) enum Content {
    /// Images and sounds: nothing is fitted to them.
    Ready {
        dataset: Arc<dyn Dataset>,
        preparation: Preparation,
    },
    Table {
        table: Table,
        missing: Option<String>,
        standardize: bool,
    },
    Texts {
        raw: RawTexts,
        annotation: Annotation,
        range: Option<[f64; 2]>,
        words: Words,
    },
    /// Two things for each row: in the data set there are two samples of it, in two domains.
    TwoKinds {
        sides: Box<[Content; 2]>,
        /// Whether each row is a class of its own.
        numbered: bool,
    },
}

/// What becomes of words.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    pub(crate) unit: TextUnit,
    pub(crate) min_count: u64,
    pub(crate) most: Option<usize>,
    pub(crate) length: usize,
    /// The file of a tokenizer, which then has its own vocabulary.
    pub(crate) tokenizer: Option<PathBuf>,
}

impl Words {
    /// What makes numbers of these texts, those that are trained on.
    fn fitted<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Result<Preparation, Error> {
        let Some(path) = &self.tokenizer else {
            return Ok(Preparation::Texts {
                vocabulary: Vocabulary::of(texts, self.unit, self.min_count, self.most),
                length: self.length,
            });
        };
        if self.unit != TextUnit::Words || self.min_count != 1 || self.most.is_some() {
            return Err(Error::Settings(
                "a `tokenizer` has its own vocabulary; leave out `unit`, `min_count` and `most_words`"
                    .into(),
            ));
        }
        Ok(Preparation::Tokenized {
            tokenizer: Tokenizer::read(path, self.length)?,
        })
    }
}

/// Divides what was read, and fits to its training part what is fitted: or takes what was stored.
pub(crate) fn assemble(
    name: &'static str,
    source: Source,
    wishes: &Wishes<'_>,
    seed: Seed,
    stored: Option<&Preparation>,
    sink: &mut dyn Sink,
) -> Result<Data, Error> {
    let Source {
        rows,
        division,
        roles,
        content,
        said,
        place,
        disjoint,
    } = source;
    let plan = divide(&rows, &division, wishes, seed)?;
    if disjoint != Disjoint::No {
        let required = disjoint == Disjoint::Yes;
        for (part, picked) in &plan.evaluation {
            for class in shared(&plan.labels, plan.train_classes, &rows, picked) {
                let fault = Fault::SharedClass {
                    class: plan.classes[class as usize].clone(),
                    part: (*part).to_owned(),
                    required,
                };
                sink.take(Error::bad(&place, None, fault))?;
            }
        }
    }
    let paired = matches!(content, Content::TwoKinds { .. });
    let numbered = matches!(content, Content::TwoKinds { numbered: true, .. });
    let (base, preparation, range) = prepared(content, &plan.train, &rows, stored)?;
    let mut plan = plan;
    if paired {
        // Both samples of a row are in its part, side by side.
        let both = |picked: &mut Vec<u32>| {
            let count = rows.len() as u32;
            *picked = picked.iter().flat_map(|&row| [row, row + count]).collect();
        };
        both(&mut plan.train);
        plan.evaluation.iter_mut().for_each(|(_, it)| both(it));
    }
    if let Some(stored) = stored
        && stored.shapes() != preparation.shapes()
    {
        return Err(other_kind(stored, preparation.kind()));
    }

    let base: Arc<dyn Dataset> = match said {
        Some(said) => Arc::new(Annotated::new(base, said)),
        None => base,
    };
    // Who asks and who is searched: of two domains the first and the second, where the data do not say it themselves.
    let roles = roles.or_else(|| {
        let role = |&domain: &u32| Roles {
            query: domain == 0,
            gallery: domain == 1,
            sequence: None,
        };
        (base.annotation() == Annotation::Domains)
            .then(|| base.domains().iter().map(role).collect())
    });
    let has_classes = base.annotation().has_classes() && !numbered;
    let classes: Arc<[String]> = if has_classes {
        plan.classes.into()
    } else {
        base.classes().into()
    };
    let part = |picked: Vec<u32>| -> Arc<dyn Dataset> {
        let labels = match has_classes {
            true => picked
                .iter()
                .map(|&row| plan.labels[rows.labels[row as usize % rows.len()] as usize])
                .collect(),
            false => picked
                .iter()
                .map(|&row| base.labels()[row as usize])
                .collect(),
        };
        let subset = Subset::relabeled(Arc::clone(&base), picked, labels, Arc::clone(&classes));
        Arc::new(subset)
    };
    let evaluation = plan
        .evaluation
        .into_iter()
        .map(|(name, picked)| Evaluation {
            name,
            roles: roles.as_ref().map(|roles| {
                picked
                    .iter()
                    .map(|&row| roles[row as usize].clone())
                    .collect()
            }),
            dataset: part(picked),
        })
        .collect();
    Ok(Data {
        name,
        train: part(plan.train),
        evaluation,
        train_classes: match has_classes {
            true => plan.train_classes,
            false => classes.len(),
        },
        classes,
        range,
        preparation,
    })
}

/// A data set with what its inputs go through, and the range of its scores: fitted to these training rows, or as it was stored.
type Prepared = (Arc<dyn Dataset>, Preparation, Option<[f64; 2]>);

fn prepared(
    content: Content,
    train: &[u32],
    rows: &Rows,
    stored: Option<&Preparation>,
) -> Result<Prepared, Error> {
    Ok(match content {
        Content::Ready {
            dataset,
            preparation,
        } => (dataset, preparation, None),
        Content::Table {
            mut table,
            missing,
            standardize: scales,
        } => {
            let has_missing = table.values.iter().any(|value| value.is_nan());
            let preparation = match stored {
                Some(stored @ Preparation::Features { names, .. }) => {
                    if *names != table.names {
                        return Err(Error::Settings(format!(
                            "the run was trained on the columns `{}`, but the data have `{}`; set `features` or `skip` so that \
                             they are the same",
                            names.join("`, `"),
                            table.names.join("`, `")
                        )));
                    }
                    stored.clone()
                }
                Some(stored) => return Err(other_kind(stored, "features")),
                None => Preparation::Features {
                    names: table.names.clone(),
                    missing,
                    standardization: (scales || has_missing).then(|| Standardization {
                        scales,
                        ..Standardization::fit(
                            train.iter().map(|&row| table.row(row)),
                            table.names.len(),
                        )
                    }),
                },
            };
            if let Preparation::Features {
                standardization, ..
            } = &preparation
            {
                standardize(&mut table, standardization.as_ref())?;
            }
            (Arc::new(Vectors::new(table, rows)), preparation, None)
        }
        Content::Texts {
            raw,
            annotation,
            range,
            words,
        } => {
            let preparation = match stored {
                Some(stored) => stored.clone(),
                None => {
                    let texts = train
                        .iter()
                        .flat_map(|&row| &raw.texts[row as usize])
                        .map(String::as_str);
                    words.fitted(texts)?
                }
            };
            let texts = {
                let Some(tokens) = preparation.tokens_of() else {
                    return Err(other_kind(&preparation, "texts"));
                };
                Texts::new(raw, rows, annotation, &*tokens)?
            };
            (Arc::new(texts), preparation, range)
        }
        Content::TwoKinds { sides, numbered } => {
            let [first, second] = *sides;
            let of = |side| stored.map(|stored| stored.of_input(side));
            let (first, of_first, _) = prepared(first, train, rows, of(0))?;
            let (second, of_second, _) = prepared(second, train, rows, of(1))?;
            let preparation = Preparation::Kinds {
                first: Box::new(of_first),
                second: Box::new(of_second),
            };
            let both = TwoKinds::new([first, second], rows, numbered);
            (Arc::new(both), preparation, None)
        }
    })
}

/// The classes of these rows that are trained on, by their new labels.
fn shared(labels: &[u32], train_classes: usize, rows: &Rows, picked: &[u32]) -> Vec<u32> {
    let mut found: Vec<u32> = picked
        .iter()
        .map(|&row| labels[rows.labels[row as usize] as usize])
        .filter(|&label| (label as usize) < train_classes)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn other_kind(stored: &Preparation, found: &'static str) -> Error {
    Error::Settings(format!(
        "the run was trained on {} of the shape {:?}, but the data are {found} of another; evaluate it on data like those",
        stored.kind(),
        stored.shape()
    ))
}
