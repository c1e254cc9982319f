//! From what was read to data: divided, and with what is fitted to the training part.

use std::{path::PathBuf, sync::Arc};

use nearfar_core::Seed;

use super::{
    Data, Evaluation, Preparation, Roles,
    preparation::{other_kind, standardize},
};
use crate::{
    Annotation, Dataset, Error, Parses, Standardization, Subset, TextUnit, Tokenizer, Vocabulary,
    error::{Fault, Sink},
    formats::{
        said::{Annotated, Said},
        table::{Table, Vectors},
        texts::{RawText, RawTexts, Texts},
        two_kinds::TwoKinds,
    },
    rows::Rows,
    split::{Division, Wishes, divide},
};

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
    /// The parses of the texts, which then say what their words are.
    pub(crate) parses: Option<Parses>,
}

impl Words {
    /// What makes numbers of these texts, those that are trained on.
    fn fitted<'a>(
        &self,
        texts: impl IntoIterator<Item = &'a RawText>,
    ) -> Result<Preparation, Error> {
        if let Some(parses) = &self.parses {
            if self.tokenizer.is_some() || self.unit != TextUnit::Words {
                return Err(Error::Settings(
                    "`parses` say what the words of a text are; leave out `unit` and `tokenizer`"
                        .into(),
                ));
            }
            let words = texts.into_iter().flat_map(|text| match text {
                RawText::Parsed(sentence) => &sentence.words[..],
                RawText::Plain(_) => &[],
            });
            let words = words.map(String::as_str);
            return Ok(Preparation::Parsed {
                vocabulary: Vocabulary::of_words(words, self.min_count, self.most),
                length: self.length,
                basic: parses.basic.clone(),
            });
        }
        let Some(path) = &self.tokenizer else {
            let texts = texts.into_iter().map(RawText::text);
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
                    let texts = train.iter().flat_map(|&row| &raw.texts[row as usize]);
                    words.fitted(texts)?
                }
            };
            let texts = {
                let Some(value) = preparation.value_of() else {
                    return Err(other_kind(&preparation, "texts"));
                };
                Texts::new(raw, rows, annotation, &*value)?
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
