//! Lines of cells: CSV, TSV, columns between spaces, JSON lines.

use std::path::Path;

use nearfar_catalogue::Column;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    error::{Fault, Sink, shown},
};

/// How a file of lines is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineFormat {
    /// Commas between cells, which may be quoted.
    Csv,
    /// Tabs between cells; a quote is a letter like any other.
    Tsv,
    /// Any number of spaces between cells.
    Spaces,
    /// A JSON object a line, its keys the columns.
    JsonLines,
}

impl LineFormat {
    /// The format that the end of a file's name says; one more `.gz` does not count.
    ///
    /// # Errors
    /// [`Error::Settings`] for an end that says nothing.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        match plain.rsplit_once('.').map(|(_, end)| end) {
            Some("csv") => Ok(Self::Csv),
            Some("tsv" | "tab") => Ok(Self::Tsv),
            Some("jsonl" | "ndjson") => Ok(Self::JsonLines),
            _ => Err(Error::Settings(format!(
                "{}: the end of the name does not say how the file is written; rename it to .csv, .tsv or .jsonl, or set \
                 `format` to `csv`, `tsv`, `spaces` or `json_lines`",
                shown(path)
            ))),
        }
    }
}

/// How lines are to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) format: LineFormat,
    /// Whether the first line names the columns. (Of JSON the keys do.)
    pub(crate) header: bool,
    /// Whether lines may have more columns than the first.
    pub(crate) more_columns: bool,
}

/// The cells of a file.
#[derive(Debug, PartialEq)]
pub(crate) struct Lines {
    pub(crate) path: String,
    /// Names of the columns, or their numbers where there is no header.
    pub(crate) names: Vec<String>,
    pub(crate) rows: Vec<Line>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Line {
    /// Counted from 1, the header too.
    pub(crate) number: u64,
    /// As many as there are names; or more, where that is allowed.
    pub(crate) cells: Cells,
}

/// The cells of a line, in one text: a table of millions of cells has two allocations a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cells {
    text: String,
    /// Where each cell ends.
    ends: Vec<usize>,
}

impl Cells {
    fn push(&mut self, cell: &str) {
        self.text += cell.trim();
        self.ends.push(self.text.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| &self[index])
    }
}

impl std::ops::Index<usize> for Cells {
    type Output = str;

    fn index(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }
}

impl<'a> FromIterator<&'a str> for Cells {
    fn from_iter<I: IntoIterator<Item = &'a str>>(cells: I) -> Self {
        let mut list = Self::default();
        cells.into_iter().for_each(|cell| list.push(cell));
        list
    }
}

impl Lines {
    /// Reads all lines; `path` names them in messages. What is wrong with a line goes to the sink, and the line is left
    /// out.
    pub(crate) fn read(
        path: &str,
        bytes: &[u8],
        reading: Reading,
        sink: &mut dyn Sink,
    ) -> Result<Self, Error> {
        // Spreadsheets put a byte order mark in front.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match reading.format {
            LineFormat::Csv => Self::separated(path, bytes, b',', true, reading, sink),
            LineFormat::Tsv => Self::separated(path, bytes, b'\t', false, reading, sink),
            LineFormat::Spaces => Self::spaced(path, bytes, reading, sink),
            LineFormat::JsonLines => Self::json(path, bytes, sink),
        }
    }

    /// A column `text` with every line that is not blank.
    pub(crate) fn of_texts(path: &str, bytes: &[u8], sink: &mut dyn Sink) -> Result<Self, Error> {
        let mut lines = Self {
            path: path.to_owned(),
            names: vec!["text".to_owned()],
            rows: Vec::new(),
        };
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            match std::str::from_utf8(line) {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => lines.rows.push(Line {
                    number,
                    cells: [text].into_iter().collect(),
                }),
                Err(_) => sink.take(Error::bad(path, number, Fault::NotUtf8))?,
            }
        }
        Ok(lines)
    }

    /// Where a column is.
    pub(crate) fn column(&self, column: &Column) -> Result<usize, Error> {
        let found = match column {
            Column::Index(index) => Some(*index).filter(|&it| it < self.names.len()),
            Column::Name(name) => self.names.iter().position(|it| it == name),
        };
        found.ok_or_else(|| {
            let column = match column {
                Column::Index(index) => index.to_string(),
                Column::Name(name) => name.clone(),
            };
            Error::bad(
                &self.path,
                1,
                Fault::NoColumn {
                    column,
                    known: self.names.clone(),
                },
            )
        })
    }

    /// Where a column is, if it is there at all.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|it| it == name)
    }

    pub(crate) fn bad(&self, line: &Line, fault: Fault) -> Error {
        Error::bad(&self.path, line.number, fault)
    }

    fn separated(
        path: &str,
        bytes: &[u8],
        delimiter: u8,
        quoting: bool,
        reading: Reading,
        sink: &mut dyn Sink,
    ) -> Result<Self, Error> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .quoting(quoting)
            .has_headers(false)
            .flexible(true)
            .from_reader(bytes);
        let mut builder = Builder::new(path, reading);
        let mut record = csv::ByteRecord::new();
        // Reading from memory cannot fail, and a flexible reader takes any bytes.
        while reader.read_byte_record(&mut record).unwrap_or(false) {
            // The reader counts the ends of lines that it has passed, blank lines too, but it stands before blank ones
            // when it names the place of a record.
            let number = line_of(bytes, record.position());
            let cells: Option<Cells> = record
                .iter()
                .map(|cell| std::str::from_utf8(cell).ok())
                .collect();
            builder.push(number, cells, sink)?;
        }
        Ok(builder.lines)
    }

    fn spaced(
        path: &str,
        bytes: &[u8],
        reading: Reading,
        sink: &mut dyn Sink,
    ) -> Result<Self, Error> {
        let mut builder = Builder::new(path, reading);
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            let cells: Option<Cells> = std::str::from_utf8(line)
                .ok()
                .map(|line| line.split_whitespace().collect());
            if cells.as_ref().is_none_or(|cells| cells.len() > 0) {
                builder.push(number, cells, sink)?;
            }
        }
        Ok(builder.lines)
    }

    fn json(path: &str, bytes: &[u8], sink: &mut dyn Sink) -> Result<Self, Error> {
        let mut lines = Self {
            path: path.to_owned(),
            names: Vec::new(),
            rows: Vec::new(),
        };
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match json_cells(line, &mut lines.names) {
                Ok(cells) => {
                    let cells = cells.iter().map(String::as_str).collect();
                    lines.rows.push(Line { number, cells });
                }
                Err(message) => sink.take(Error::bad(path, number, Fault::Json { message }))?,
            }
        }
        let columns = lines.names.len();
        for line in &mut lines.rows {
            while line.cells.len() < columns {
                line.cells.push("");
            }
        }
        Ok(lines)
    }
}

/// The line in which the first byte of a record stands.
fn line_of(bytes: &[u8], position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 1 };
    let from = (position.byte() as usize).min(bytes.len());
    let blank = bytes[from..]
        .iter()
        .take_while(|byte| matches!(byte, b'\n' | b'\r'))
        .filter(|&&byte| byte == b'\n')
        .count();
    position.line() + blank as u64
}

/// The cells of one JSON object in the order of the names, which grow by those that are new.
fn json_cells(line: &[u8], names: &mut Vec<String>) -> Result<Vec<String>, String> {
    use serde_json::Value;
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let mut cells = vec![String::new(); names.len()];
    for (key, value) in object {
        let cell = match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(format!("`{key}` holds a list or an object"));
            }
        };
        let column = names.iter().position(|it| *it == key).unwrap_or_else(|| {
            names.push(key);
            cells.push(String::new());
            names.len() - 1
        });
        cells[column] = cell;
    }
    Ok(cells)
}

struct Builder {
    lines: Lines,
    reading: Reading,
    begun: bool,
}

impl Builder {
    fn new(path: &str, reading: Reading) -> Self {
        let lines = Lines {
            path: path.to_owned(),
            names: Vec::new(),
            rows: Vec::new(),
        };
        Self {
            lines,
            reading,
            begun: false,
        }
    }

    /// Takes a line; without cells it was not UTF-8.
    fn push(
        &mut self,
        number: u64,
        cells: Option<Cells>,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let Some(cells) = cells else {
            return sink.take(Error::bad(&self.lines.path, number, Fault::NotUtf8));
        };
        if !self.begun {
            self.begun = true;
            if self.reading.header {
                self.lines.names = cells.iter().map(str::to_owned).collect();
                return Ok(());
            }
            self.lines.names = (0..cells.len()).map(|it| it.to_string()).collect();
        }
        let (found, expected) = (cells.len(), self.lines.names.len());
        if found < expected || (found > expected && !self.reading.more_columns) {
            return sink.take(Error::bad(
                &self.lines.path,
                number,
                Fault::Columns { found, expected },
            ));
        }
        self.lines.rows.push(Line { number, cells });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::Problems, error::Strict};
    use proptest::prelude::*;

    const CSV: Reading = Reading {
        format: LineFormat::Csv,
        header: true,
        more_columns: false,
    };

    fn cells(lines: &Lines) -> Vec<(u64, Vec<&str>)> {
        lines
            .rows
            .iter()
            .map(|line| (line.number, line.cells.iter().collect()))
            .collect()
    }

    #[test]
    fn csv_has_quotes_and_rows_are_numbered_as_an_editor_does() -> Result<(), Error> {
        let bytes = b"\xef\xbb\xbfa,b\n1,\"x, \"\"y\"\"\nz\"\n\n 2 ,w\r\n";
        let lines = Lines::read("a.csv", bytes, CSV, &mut Strict)?;
        assert_eq!(lines.names, ["a", "b"]);
        assert_eq!(
            cells(&lines),
            [(2, vec!["1", "x, \"y\"\nz"]), (5, vec!["2", "w"])]
        );
        assert_eq!(lines.column(&Column::Name("b".into()))?, 1);
        assert_eq!(lines.column(&Column::Index(0))?, 0);
        assert!(lines.column(&Column::Index(2)).is_err());
        Ok(())
    }

    #[test]
    fn bad_lines_are_named_and_left_out() -> Result<(), Error> {
        let bytes = b"a,b\n1,2\n3\n4,5,6\n\xff,7\n8,9\n";
        let mut problems = Problems::new(10);
        let lines = Lines::read("a.csv", bytes, CSV, &mut problems)?;
        assert_eq!(cells(&lines), [(2, vec!["1", "2"]), (6, vec!["8", "9"])]);
        let messages: Vec<String> = problems.errors().map(ToString::to_string).collect();
        assert!(messages[0].starts_with("a.csv, row 3: there are 1 columns, not 2"));
        assert!(messages[1].starts_with("a.csv, row 4: there are 3 columns, not 2"));
        assert!(messages[2].starts_with("a.csv, row 5: there are bytes that are not UTF-8"));
        assert!(Lines::read("a.csv", bytes, CSV, &mut Strict).is_err());
        Ok(())
    }

    #[test]
    fn tabs_keep_quotes_and_spaces_run_together() -> Result<(), Error> {
        let tsv = Reading {
            format: LineFormat::Tsv,
            header: false,
            more_columns: true,
        };
        let lines = Lines::read("a.tsv", b"say \"hi\tx\n1\t2\t3\n", tsv, &mut Strict)?;
        assert_eq!(lines.names, ["0", "1"]);
        assert_eq!(
            cells(&lines),
            [(1, vec!["say \"hi", "x"]), (2, vec!["1", "2", "3"])]
        );
        let spaces = Reading {
            format: LineFormat::Spaces,
            ..tsv
        };
        let lines = Lines::read("a.dat", b" 1  2 van \r\n\n3 4 bus\n", spaces, &mut Strict)?;
        assert_eq!(
            cells(&lines),
            [(1, vec!["1", "2", "van"]), (3, vec!["3", "4", "bus"])]
        );
        Ok(())
    }

    #[test]
    fn json_lines_have_their_keys_as_columns() -> Result<(), Error> {
        let json = Reading {
            format: LineFormat::JsonLines,
            header: true,
            more_columns: false,
        };
        let bytes = b"{\"a\":1,\"b\":\"x\"}\n\n{\"c\":true,\"a\":null}\n";
        let lines = Lines::read("a.jsonl", bytes, json, &mut Strict)?;
        assert_eq!(lines.names, ["a", "b", "c"]);
        assert_eq!(
            cells(&lines),
            [(1, vec!["1", "x", ""]), (3, vec!["", "", "true"])]
        );
        let mut problems = Problems::new(10);
        Lines::read("a.jsonl", b"{\"a\":[1]}\n[1]\n{", json, &mut problems)?;
        assert_eq!(problems.errors().count(), 3);
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), letters in "[a,\"{}:\t\n 1]{0,60}") {
            let formats = [LineFormat::Csv, LineFormat::Tsv, LineFormat::Spaces, LineFormat::JsonLines];
            for (format, header, more_columns) in formats.into_iter().flat_map(|it| [(it, true, false), (it, false, true)]) {
                let reading = Reading { format, header, more_columns };
                for bytes in [&bytes[..], letters.as_bytes()] {
                    let lines = Lines::read("a", bytes, reading, &mut Problems::new(3)).expect("problems are kept");
                    for line in &lines.rows {
                        let count = line.cells.len();
                        prop_assert!(count == lines.names.len() || more_columns && count > lines.names.len());
                        prop_assert_eq!(line.cells.iter().count(), count);
                    }
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_name_says_the_format() {
        assert_eq!(
            LineFormat::of(Path::new("a.CSV.gz")).expect("known"),
            LineFormat::Csv
        );
        assert_eq!(
            LineFormat::of(Path::new("a.jsonl")).expect("known"),
            LineFormat::JsonLines
        );
        assert!(LineFormat::of(Path::new("data.txt")).is_err());
    }
}
