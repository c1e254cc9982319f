//! Rows with two things of different kinds.

use std::sync::Arc;

use crate::{Annotation, Dataset, Error, FrontEnd, Sample, Sound, Thumbnail, rows::Rows};

/// Two things for each of `n` rows, in two domains: the first of row `i` is sample `i`, the second is sample `n + i`.
pub(crate) struct TwoKinds {
    sides: [Arc<dyn Dataset>; 2],
    count: u32,
    labels: Vec<u32>,
    domains: Vec<u32>,
    classes: Arc<[String]>,
}

impl TwoKinds {
    /// With the classes of the rows; or each row as a class of its own.
    pub(crate) fn new(sides: [Arc<dyn Dataset>; 2], rows: &Rows, numbered: bool) -> Self {
        let count = rows.len() as u32;
        let (of_rows, classes) = match numbered {
            true => {
                let names = (0..count).map(|row| sides[0].describe(row)).collect();
                ((0..count).collect(), names)
            }
            false => (rows.labels.clone(), rows.classes.clone().into()),
        };
        Self {
            sides,
            count,
            labels: of_rows.repeat(2),
            domains: (0..2 * count).map(|it| u32::from(it >= count)).collect(),
            classes,
        }
    }

    /// A data set, and the index there.
    fn of(&self, index: u32) -> (&Arc<dyn Dataset>, u32) {
        match index.checked_sub(self.count) {
            None => (&self.sides[0], index),
            Some(index) => (&self.sides[1], index),
        }
    }
}

impl Dataset for TwoKinds {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        let (side, index) = self.of(index);
        side.sample(index)
    }

    fn annotation(&self) -> Annotation {
        Annotation::Domains
    }

    fn domains(&self) -> &[u32] {
        &self.domains
    }

    fn sound(&self, index: u32) -> Result<Option<(Sound, &FrontEnd)>, Error> {
        let (side, index) = self.of(index);
        side.sound(index)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        let (side, index) = self.of(index);
        side.describe(index)
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        let (side, index) = self.of(index);
        side.thumbnail(index)
    }
}
