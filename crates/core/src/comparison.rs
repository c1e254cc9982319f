//! Who is compared with whom, and who is positive to whom.

use candle_core::{DType, Device, Result, Tensor};

use crate::{Embeddings, Error, Pairs, SignedPairs, Supervision, shape};

/// What a loss compares: every anchor with every reference.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// The rows that are looked from.
    pub anchors: &'a Embeddings,
    /// The rows that are looked at.
    pub references: &'a Embeddings,
    /// What makes two of them belong together.
    pub relation: Relation<'a>,
}

/// What makes two rows belong together.
#[derive(Clone, Copy, Debug)]
pub enum Relation<'a> {
    /// Rows of one class are positives, all others negatives; a row is nothing to itself.
    SameClass,
    /// Exactly the listed pairs.
    Listed(&'a SignedPairs),
    /// The listed pairs, each with the score it should have.
    Scored {
        /// Who is paired.
        pairs: &'a Pairs,
        /// The score of each pair.
        targets: &'a [f32],
    },
    /// Rows are as close as their sets of labels overlap.
    Sets {
        /// Labels of each anchor.
        anchors: &'a [Vec<u32>],
        /// Labels of each reference.
        references: &'a [Vec<u32>],
    },
    /// Rows are as close as their real targets are.
    Targets {
        /// Target of each anchor.
        anchors: &'a [f32],
        /// Target of each reference.
        references: &'a [f32],
    },
    /// Instance of each pixel, `(b, height, width)`.
    Masks(&'a Tensor),
}

/// What two rows are to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Neither; a row to itself, or a pair that is not listed.
    Nothing,
    /// They belong together.
    Positive,
    /// They do not.
    Negative,
}

impl Relation<'_> {
    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SameClass => "classes",
            Self::Listed(_) => "listed pairs",
            Self::Scored { .. } => "scored pairs",
            Self::Sets { .. } => "sets of labels",
            Self::Targets { .. } => "real targets",
            Self::Masks(_) => "masks",
        }
    }
}

impl<'a> Comparison<'a> {
    /// Each row of a batch with each other, by class.
    pub fn within(rows: &'a Embeddings) -> Self {
        Self {
            anchors: rows,
            references: rows,
            relation: Relation::SameClass,
        }
    }

    /// Each query with each document, by class. A row that is in both (by its id) is not compared with itself.
    pub fn between(queries: &'a Embeddings, documents: &'a Embeddings) -> Self {
        Self {
            anchors: queries,
            references: documents,
            relation: Relation::SameClass,
        }
    }

    /// The comparison that a batch's supervision asks for: one side is compared with itself, of two sides the first with the second.
    ///
    /// # Errors
    /// When there are neither one nor two sides, or the supervision does not fit the rows; both lengths are named.
    pub fn of(sides: &'a [Embeddings], supervision: &'a Supervision) -> Result<Self> {
        let (anchors, references) = match sides {
            [one] => (one, one),
            [first, second] => (first, second),
            other => Err(Error::Input(format!(
                "a batch has {} inputs; one or two can be compared",
                other.len()
            )))?,
        };
        let relation = match supervision {
            Supervision::Classes(_) => Relation::SameClass,
            Supervision::Pairs(pairs) => Relation::Listed(pairs),
            Supervision::Scored { pairs, targets } => Relation::Scored { pairs, targets },
            Supervision::Sets(sets) => {
                let (first, last) = ends(sets)?;
                Relation::Sets {
                    anchors: first,
                    references: last,
                }
            }
            Supervision::Targets(targets) => {
                let (first, last) = ends(targets)?;
                Relation::Targets {
                    anchors: first,
                    references: last,
                }
            }
            Supervision::Masks(masks) => Relation::Masks(masks),
        };
        let comparison = Self {
            anchors,
            references,
            relation,
        };
        comparison.check()?;
        Ok(comparison)
    }

    /// Whether the relation fits the rows.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Input`] with both sides of the mismatch.
    pub fn check(&self) -> Result<()> {
        let (n, m) = (self.anchors.len(), self.references.len());
        let within = |name: &str, pairs: &Pairs| -> Result<()> {
            shape::length(
                name,
                ("anchors", pairs.anchors.len()),
                ("references", pairs.references.len()),
            )?;
            for (kind, rows, bound) in [
                ("anchor", &pairs.anchors, n),
                ("reference", &pairs.references, m),
            ] {
                if let Some(row) = rows.iter().find(|&&row| row as usize >= bound) {
                    Err(Error::Input(format!(
                        "{name}: {kind} {row} is listed, but there are {bound} rows"
                    )))?;
                }
            }
            Ok(())
        };
        match self.relation {
            Relation::SameClass => {
                for (name, side) in [("anchors", self.anchors), ("references", self.references)] {
                    if side.labels.len() != side.len() {
                        Err(Error::Input(format!(
                            "{name} have {} rows and {} labels; a comparison by class needs one label for each row",
                            side.len(),
                            side.labels.len()
                        )))?;
                    }
                }
                Ok(())
            }
            Relation::Listed(pairs) => {
                within("positive pairs", &pairs.positive)?;
                within("negative pairs", &pairs.negative)
            }
            Relation::Scored { pairs, targets } => {
                within("scored pairs", pairs)?;
                shape::length(
                    "scored pairs",
                    ("targets", targets.len()),
                    ("pairs", pairs.len()),
                )
            }
            Relation::Sets {
                anchors,
                references,
            } => {
                shape::length("sets of labels", ("anchors", anchors.len()), ("rows", n))?;
                shape::length(
                    "sets of labels",
                    ("references", references.len()),
                    ("rows", m),
                )
            }
            Relation::Targets {
                anchors,
                references,
            } => {
                shape::length("targets", ("anchors", anchors.len()), ("rows", n))?;
                shape::length("targets", ("references", references.len()), ("rows", m))
            }
            Relation::Masks(_) => Ok(()),
        }
    }

    /// What each reference is to each anchor, row-major, `n · m` entries; by class or by list.
    ///
    /// # Errors
    /// [`Error::Input`] where the relation says neither; `place` is the one that asked.
    pub fn kinds(&self, place: &str) -> Result<Vec<Kind>> {
        self.check()?;
        let (n, m) = (self.anchors.len(), self.references.len());
        match self.relation {
            Relation::SameClass => {
                let mut kinds = Vec::with_capacity(n * m);
                for (label, id) in self.anchors.labels.iter().zip(&self.anchors.ids) {
                    kinds.extend(self.references.labels.iter().zip(&self.references.ids).map(
                        |(other, other_id)| match (label == other, id == other_id) {
                            (_, true) => Kind::Nothing,
                            (true, _) => Kind::Positive,
                            (false, _) => Kind::Negative,
                        },
                    ));
                }
                Ok(kinds)
            }
            Relation::Listed(pairs) => {
                let mut kinds = vec![Kind::Nothing; n * m];
                for (kind, pairs) in [
                    (Kind::Positive, &pairs.positive),
                    (Kind::Negative, &pairs.negative),
                ] {
                    for (anchor, reference) in pairs.iter() {
                        let place = &mut kinds[anchor as usize * m + reference as usize];
                        if *place != Kind::Nothing && *place != kind {
                            Err(Error::Input(format!(
                                "the pair of rows {anchor} and {reference} is listed as positive and as negative"
                            )))?;
                        }
                        *place = kind;
                    }
                }
                Ok(kinds)
            }
            _ => Err(self.cannot_read(place, "classes or listed pairs"))?,
        }
    }

    /// Masks of 0 and 1 of the positives and of the negatives, `(n, m)` each.
    ///
    /// # Errors
    /// As [`kinds`](Self::kinds).
    pub fn masks(&self, place: &str, dtype: DType, device: &Device) -> Result<(Tensor, Tensor)> {
        let kinds = self.kinds(place)?;
        let size = (self.anchors.len(), self.references.len());
        let mask = |wanted: Kind| -> Result<Tensor> {
            let ones: Vec<f32> = kinds
                .iter()
                .map(|&kind| f32::from(kind == wanted))
                .collect();
            Tensor::from_vec(ones, size, device)?.to_dtype(dtype)
        };
        Ok((mask(Kind::Positive)?, mask(Kind::Negative)?))
    }

    /// The error of one who cannot read this relation.
    pub fn cannot_read(&self, place: &str, wanted: &str) -> Error {
        Error::Input(format!(
            "{place} learns from {wanted}, but the batch has {}",
            self.relation.name()
        ))
    }
}

/// The lists of the first and of the last side.
fn ends<T>(sides: &[Vec<T>]) -> Result<(&[T], &[T])> {
    match (sides.first(), sides.last()) {
        (Some(first), Some(last)) => Ok((first, last)),
        _ => Err(Error::Input(
            "the supervision has no list for any input".into(),
        ))?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(labels: &[u32]) -> Embeddings {
        let vectors = Tensor::zeros((labels.len(), 2), DType::F32, &Device::Cpu).expect("small");
        Embeddings::labeled(vectors, labels.to_vec()).expect("one label for each row")
    }

    #[test]
    fn a_row_is_nothing_to_itself_even_in_another_set() -> Result<()> {
        let queries = rows(&[0, 1]);
        let mut documents = rows(&[0, 1, 1]);
        documents.ids = vec![9, 1, 7]; // The second document is the second query.
        let kinds = Comparison::between(&queries, &documents).kinds("test")?;
        use Kind::{Negative as N, Nothing as O, Positive as P};
        assert_eq!(kinds, [P, N, N, N, O, P]);
        Ok(())
    }

    #[test]
    fn mismatches_name_both_sides() {
        let one = rows(&[0, 1]);
        let pairs = SignedPairs {
            positive: Pairs {
                anchors: vec![0],
                references: vec![5],
            },
            negative: Pairs::default(),
        };
        let comparison = Comparison {
            anchors: &one,
            references: &one,
            relation: Relation::Listed(&pairs),
        };
        assert_eq!(
            comparison.kinds("x").expect_err("5").to_string(),
            "positive pairs: reference 5 is listed, but there are 2 rows"
        );
        let targets = Relation::Targets {
            anchors: &[1.0, 2.0],
            references: &[1.0, 2.0],
        };
        let comparison = Comparison {
            relation: targets,
            ..comparison
        };
        let message = comparison
            .kinds("triplet_margin")
            .expect_err("targets")
            .to_string();
        assert_eq!(
            message,
            "triplet_margin learns from classes or listed pairs, but the batch has real targets"
        );
        let unlabeled = Embeddings {
            labels: Vec::new(),
            ..rows(&[0, 0])
        };
        assert!(Comparison::within(&unlabeled).check().is_err());
    }
}
