//! Embeddings as CSV: `id,label,x0,x1,…`.

use std::io::Write;
use std::path::Path;

use nearfar_core::EmbeddingTable;

use super::{format_error, ids_of, publish, table};
use crate::error::Result;

pub(super) fn write(path: &Path, table: &EmbeddingTable) -> Result<()> {
    let ids = ids_of(path, table)?;
    publish(path, |file| {
        write!(file, "id,label")?;
        (0..table.dim).try_for_each(|column| write!(file, ",x{column}"))?;
        writeln!(file)?;
        for (row, id) in ids.iter().enumerate() {
            write!(file, "{id},")?;
            if let Some(label) = table.labels.get(row) {
                write!(file, "{label}")?;
            }
            // The shortest digits that read back to the same number.
            table
                .row(row)
                .iter()
                .try_for_each(|x| write!(file, ",{x}"))?;
            writeln!(file)?;
        }
        Ok(())
    })
}

pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<EmbeddingTable> {
    let wrong = |line: u64, problem: String| format_error(path, format!("line {line}: {problem}"));
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let headers = reader
        .headers()
        .map_err(|error| format_error(path, error.to_string()))?
        .clone();
    let dim = headers.len().saturating_sub(2);
    let expected = ["id".to_owned(), "label".to_owned()]
        .into_iter()
        .chain((0..dim).map(|column| format!("x{column}")));
    if headers.len() < 2 || !headers.iter().eq(expected) {
        return Err(wrong(1, "the columns are not `id,label,x0,x1,…`".into()));
    }
    let (mut vectors, mut labels, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|error| format_error(path, error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let integer = |field: usize, name: &str| {
            let text = record[field].trim();
            text.parse::<i64>()
                .map_err(|_| wrong(line, format!("the {name} `{text}` is not a whole number")))
        };
        ids.push(integer(0, "id")?);
        if !record[1].trim().is_empty() {
            labels.push(integer(1, "label")?);
        }
        if !(labels.is_empty() || labels.len() == ids.len()) {
            return Err(wrong(
                line,
                "some rows have a label and some have none; give all rows one, or none".into(),
            ));
        }
        for text in record.iter().skip(2) {
            let value = text.trim().parse::<f32>();
            vectors.push(value.map_err(|_| wrong(line, format!("`{text}` is not a number")))?);
        }
    }
    table(path, (ids.len(), dim), vectors, &labels, &ids)
}
