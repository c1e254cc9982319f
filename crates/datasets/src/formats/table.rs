//! Rows of numbers.

use std::sync::Arc;

use crate::{
    Dataset, Error, Sample, Value,
    error::{Fault, Sink},
    formats::{
        lines::Lines,
        said::{SaidColumns, SaidRows},
    },
    rows::{Rows, RowsBuilder},
};

/// Numbers as they are in a file, and what is known of each row.
pub(crate) struct Table {
    /// Row by row; NaN where a value is missing.
    pub(crate) values: Vec<f32>,
    /// Names of the features.
    pub(crate) names: Vec<String>,
    /// Where each row is from.
    pub(crate) places: Vec<(Arc<str>, u64)>,
    /// What rows say beside a label, or in place of one.
    pub(crate) said: SaidRows,
}

/// Which columns are what.
#[derive(Default)]
pub(crate) struct TableColumns<'a> {
    /// The label; without it every row is of the class ``.
    pub(crate) label: Option<usize>,
    /// What is said beside it, or in place of it.
    pub(crate) said: SaidColumns,
    /// The part, in words.
    pub(crate) split: Option<usize>,
    /// The features.
    pub(crate) features: Vec<usize>,
    /// What is written where a value is missing.
    pub(crate) missing: Option<&'a str>,
}

impl Table {
    pub(crate) fn new(lines: &Lines, columns: &TableColumns<'_>) -> Self {
        let names = columns
            .features
            .iter()
            .map(|&column| lines.names[column].clone())
            .collect();
        Self {
            values: Vec::new(),
            names,
            places: Vec::new(),
            said: SaidRows::default(),
        }
    }

    /// Adds the rows of a file. What is wrong with one goes to the sink, and the row is left out.
    pub(crate) fn add(
        &mut self,
        lines: &Lines,
        columns: &TableColumns<'_>,
        part: &str,
        rows: &mut RowsBuilder,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let path: Arc<str> = lines.path.as_str().into();
        let mut row = Vec::with_capacity(columns.features.len());
        for line in &lines.rows {
            row.clear();
            let mut is_good = true;
            for &column in &columns.features {
                let text = &line.cells[column];
                match number(text, columns.missing) {
                    Ok(value) => row.push(value),
                    Err(is_number) => {
                        let (column, text) = (lines.names[column].clone(), text.to_owned());
                        let fault = if is_number {
                            Fault::NotFinite { column, text }
                        } else {
                            Fault::NotANumber { column, text }
                        };
                        sink.take(lines.bad(line, fault))?;
                        is_good = false;
                    }
                }
            }
            let label = columns.label.map_or("", |column| &line.cells[column]);
            if columns.label.is_some() && label.is_empty() {
                sink.take(lines.bad(line, Fault::EmptyLabel))?;
                is_good = false;
            }
            let mut part = part;
            if let Some(column) = columns.split {
                let text = &line.cells[column];
                match crate::split::part_of(text) {
                    Some(found) => part = found,
                    None => {
                        let text = text.to_owned();
                        sink.take(lines.bad(line, Fault::Split { text }))?;
                        is_good = false;
                    }
                }
            }
            let mut faults = Vec::new();
            let said = columns.said.read(lines, line, &mut faults);
            is_good &= faults.is_empty();
            for fault in faults {
                sink.take(lines.bad(line, fault))?;
            }
            if is_good {
                rows.push(label, part);
                self.said.push(said);
                self.values.extend_from_slice(&row);
                self.places.push((Arc::clone(&path), line.number));
            }
        }
        Ok(())
    }

    /// The numbers of a row.
    pub(crate) fn row(&self, index: u32) -> &[f32] {
        let width = self.names.len();
        &self.values[index as usize * width..][..width]
    }
}

/// A number; NaN where it is missing. In the error whether it is one that is not finite.
fn number(text: &str, missing: Option<&str>) -> Result<f32, bool> {
    if missing == Some(text) {
        return Ok(f32::NAN);
    }
    match text.parse::<f64>() {
        Ok(value) if (value as f32).is_finite() => Ok(value as f32),
        Ok(_) => Err(true),
        Err(_) => Err(false),
    }
}

/// Vectors in memory.
pub(crate) struct Vectors {
    table: Table,
    labels: Vec<u32>,
    classes: Arc<[String]>,
}

impl Vectors {
    /// The rows of a table, as they are to be learned from.
    pub(crate) fn new(table: Table, rows: &Rows) -> Self {
        Self {
            table,
            labels: rows.labels.clone(),
            classes: rows.classes.clone().into(),
        }
    }
}

impl Dataset for Vectors {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        Ok(Sample::of(Value::Features(self.table.row(index).to_vec())))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        let (path, row) = &self.table.places[index as usize];
        format!("{path}, row {row}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Problems,
        formats::lines::{LineFormat, Reading},
    };

    #[test]
    fn cells_are_numbers_or_are_named() -> Result<(), Error> {
        let reading = Reading {
            format: LineFormat::Csv,
            header: true,
            more_columns: false,
        };
        let bytes = b"kind,a,b,split\nx,1,2.5,train\ny,?,3,test\nx,one,4,train\n,5,6,train\nx,1e99,nan,later\n";
        let mut problems = Problems::new(10);
        let lines = Lines::read("t.csv", bytes, reading, &mut problems)?;
        let columns = TableColumns {
            label: Some(0),
            said: SaidColumns::default(),
            split: Some(3),
            features: vec![1, 2],
            missing: Some("?"),
        };
        let mut rows = RowsBuilder::default();
        let mut table = Table::new(&lines, &columns);
        table.add(&lines, &columns, "all", &mut rows, &mut problems)?;
        let rows = rows.finish();
        assert_eq!(rows.classes, ["x", "y"]);
        assert_eq!((rows.part(0), rows.part(1)), ("train", "test"));
        assert_eq!(table.row(0), [1.0, 2.5]);
        assert!(table.row(1)[0].is_nan());
        let messages: Vec<String> = problems.errors().map(ToString::to_string).collect();
        assert_eq!(messages.len(), 5, "{messages:?}");
        assert_eq!(
            messages[0],
            "t.csv, row 4: `a` holds `one`, which is not a number"
        );
        assert!(messages[1].starts_with("t.csv, row 5: the label is empty"));
        assert!(messages[2].starts_with("t.csv, row 6: `a` holds `1e99`"));
        assert!(messages[3].starts_with("t.csv, row 6: `b` holds `nan`"));
        assert!(messages[4].starts_with("t.csv, row 6: the split is `later`"));
        let vectors = Vectors::new(table, &rows);
        assert_eq!(vectors.describe(1), "t.csv, row 3");
        Ok(())
    }
}
