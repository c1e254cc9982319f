//! What rows say of their samples in place of a class, or beside it: a real target, several labels, a domain.

use std::sync::Arc;

use crate::{
    Annotation, Dataset, Error, FrontEnd, Mask, Sample, Sound, Thumbnail,
    error::Fault,
    formats::lines::{Line, Lines},
    names,
};

/// Which columns say it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SaidColumns {
    /// A real target.
    pub(crate) target: Option<usize>,
    /// Labels, and what stands between them.
    pub(crate) labels: Option<(usize, String)>,
    /// One of two domains.
    pub(crate) domain: Option<usize>,
}

/// What one row says.
#[derive(Debug, Default)]
pub(crate) struct SaidRow {
    target: Option<f32>,
    set: Option<Vec<String>>,
    domain: Option<String>,
}

/// What all rows say.
#[derive(Debug, Default)]
pub(crate) struct SaidRows {
    targets: Vec<f32>,
    sets: Vec<Vec<String>>,
    domains: Vec<String>,
}

impl SaidColumns {
    /// Whether it stands in place of a class.
    pub(crate) fn replaces_class(&self) -> bool {
        self.target.is_some() || self.labels.is_some()
    }

    /// Whether a column is one of these.
    pub(crate) fn has(&self, column: usize) -> bool {
        let labels = self.labels.as_ref().map(|(column, _)| *column);
        [self.target, labels, self.domain].contains(&Some(column))
    }

    pub(crate) fn read(&self, lines: &Lines, line: &Line, faults: &mut Vec<Fault>) -> SaidRow {
        let mut said = SaidRow::default();
        if let Some(column) = self.target {
            let (name, text) = (lines.names[column].clone(), line.cells[column].to_owned());
            match text.parse::<f64>() {
                Ok(value) if (value as f32).is_finite() => said.target = Some(value as f32),
                Ok(_) => faults.push(Fault::NoTarget { column: name, text }),
                Err(_) => faults.push(Fault::NotANumber { column: name, text }),
            }
        }
        if let Some((column, separator)) = &self.labels {
            let labels = line.cells[*column].split(separator.as_str()).map(str::trim);
            let mut labels: Vec<String> = labels
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect();
            labels.sort_unstable();
            labels.dedup();
            said.set = Some(labels);
        }
        if let Some(column) = self.domain {
            let text = line.cells[column].to_owned();
            if text.is_empty() {
                faults.push(Fault::NoDomain {
                    column: lines.names[column].clone(),
                });
            }
            said.domain = Some(text);
        }
        said
    }
}

impl SaidRows {
    pub(crate) fn push(&mut self, row: SaidRow) {
        self.targets.extend(row.target);
        self.sets.extend(row.set);
        self.domains.extend(row.domain);
    }

    /// What is known of the samples, if it is more than their class; `place` is where it stands.
    ///
    /// # Errors
    /// When there are not two domains.
    pub(crate) fn finish(self, place: &str) -> Result<Option<Said>, Error> {
        if !self.domains.is_empty() {
            let (known, domains) = numbered(self.domains.iter().map(std::slice::from_ref));
            if known.len() != 2 {
                return Err(Error::bad(place, None, Fault::Domains { found: known }));
            }
            let domains = domains.into_iter().flatten().collect();
            return Ok(Some(Said::Domains(domains)));
        }
        if !self.sets.is_empty() {
            let (names, sets) = numbered(self.sets.iter().map(Vec::as_slice));
            if names.is_empty() {
                let wanted = "labels in any row";
                return Err(Error::bad(place, None, Fault::Empty { wanted }));
            }
            let names = names.into();
            return Ok(Some(Said::Sets { sets, names }));
        }
        Ok((!self.targets.is_empty()).then_some(Said::Targets(self.targets)))
    }
}

/// The names that there are, in their order, and each list by their numbers.
fn numbered<'a>(lists: impl Iterator<Item = &'a [String]> + Clone) -> (Vec<String>, Vec<Vec<u32>>) {
    let mut known: Vec<String> = lists.clone().flatten().cloned().collect();
    known.sort_by(|one, other| names::order(one, other));
    known.dedup();
    let number = |name: &String| {
        let place = known.binary_search_by(|it| names::order(it, name));
        place.expect("it was counted") as u32
    };
    let numbers = lists
        .map(|list| {
            let mut numbers: Vec<u32> = list.iter().map(number).collect();
            numbers.sort_unstable();
            numbers
        })
        .collect();
    (known, numbers)
}

/// What is known of all samples, beside their class or in place of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// A number each.
    Targets(Vec<f32>),
    /// Labels of each, ascending, and their names.
    Sets {
        sets: Vec<Vec<u32>>,
        names: Arc<[String]>,
    },
    /// The domain of each, 0 or 1.
    Domains(Vec<u32>),
}

/// Samples of which more is known than their data set says.
pub(crate) struct Annotated {
    base: Arc<dyn Dataset>,
    said: Said,
}

impl Annotated {
    pub(crate) fn new(base: Arc<dyn Dataset>, said: Said) -> Self {
        Self { base, said }
    }
}

impl Dataset for Annotated {
    fn labels(&self) -> &[u32] {
        self.base.labels()
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        self.base.sample(index)
    }

    fn annotation(&self) -> Annotation {
        match self.said {
            Said::Targets(_) => Annotation::Targets,
            Said::Sets { .. } => Annotation::Sets,
            Said::Domains(_) => Annotation::Domains,
        }
    }

    fn targets(&self) -> &[f32] {
        match &self.said {
            Said::Targets(targets) => targets,
            _ => &[],
        }
    }

    fn sets(&self) -> &[Vec<u32>] {
        match &self.said {
            Said::Sets { sets, .. } => sets,
            _ => &[],
        }
    }

    fn domains(&self) -> &[u32] {
        match &self.said {
            Said::Domains(domains) => domains,
            _ => &[],
        }
    }

    fn mask(&self, index: u32) -> Result<Option<Mask>, Error> {
        self.base.mask(index)
    }

    fn sound(&self, index: u32) -> Result<Option<(Sound, &FrontEnd)>, Error> {
        self.base.sound(index)
    }

    fn classes(&self) -> &[String] {
        match &self.said {
            Said::Targets(_) => &[],
            Said::Sets { names, .. } => names,
            Said::Domains(_) => self.base.classes(),
        }
    }

    fn describe(&self, index: u32) -> String {
        self.base.describe(index)
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        self.base.thumbnail(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Problems,
        formats::lines::{LineFormat, Reading},
    };

    fn read(text: &str, columns: &SaidColumns) -> (Result<Option<Said>, Error>, Vec<Fault>) {
        let reading = Reading {
            format: LineFormat::Csv,
            header: true,
            more_columns: false,
        };
        let mut problems = Problems::new(10);
        let lines = Lines::read("t.csv", text.as_bytes(), reading, &mut problems).unwrap();
        let (mut rows, mut faults) = (SaidRows::default(), Vec::new());
        for line in &lines.rows {
            let row = columns.read(&lines, line, &mut faults);
            rows.push(row);
        }
        (rows.finish("t.csv"), faults)
    }

    #[test]
    fn targets_sets_and_domains_are_read_by_column() {
        let text = "t,s,d\n1.5,b; a;b,photo\n-2,,sketch\nnan,c,photo\nx,a,\n";
        let target = SaidColumns {
            target: Some(0),
            ..SaidColumns::default()
        };
        let (said, faults) = read(text, &target);
        assert_eq!(said.unwrap(), Some(Said::Targets(vec![1.5, -2.0])));
        assert!(
            matches!(&faults[0], Fault::NoTarget { column, text } if column == "t" && text == "nan")
        );
        assert!(matches!(&faults[1], Fault::NotANumber { text, .. } if text == "x"));
        let labels = SaidColumns {
            labels: Some((1, ";".into())),
            ..SaidColumns::default()
        };
        let names = ["a", "b", "c"].map(str::to_owned).to_vec().into();
        let sets = vec![vec![0, 1], vec![], vec![2], vec![0]];
        assert_eq!(
            read(text, &labels).0.unwrap(),
            Some(Said::Sets { sets, names })
        );
        let domain = SaidColumns {
            domain: Some(2),
            ..SaidColumns::default()
        };
        let (said, faults) = read(text, &domain);
        assert_eq!(faults, [Fault::NoDomain { column: "d".into() }]);
        let error = said.expect_err("the empty one is a third").to_string();
        assert!(error.contains("two domains"), "{error}");
        let (said, _) = read("a,b,d\n,,photo\n,,sketch\n,,photo\n", &domain);
        assert_eq!(said.unwrap(), Some(Said::Domains(vec![0, 1, 0])));
        assert_eq!(read(text, &SaidColumns::default()).0.unwrap(), None);
        let (said, _) = read("a,s\n,\n,\n", &labels);
        assert!(
            said.expect_err("no label")
                .to_string()
                .contains("no labels")
        );
    }
}
