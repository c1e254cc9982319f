//! A list of files of images or sounds with their labels.

use std::path::{Path, PathBuf};

use nearfar_catalogue::Column;

use crate::{
    Error,
    data::Roles,
    error::{Fault, Sink},
    formats::{
        image_files::ImageFile,
        lines::Lines,
        said::{SaidColumns, SaidRows},
        texts::flag,
    },
    rows::{Rows, RowsBuilder},
    split::part_of,
};

/// The columns of open-metric-learning beyond `path` and that of the label; each may be left out. Boxes are those of images.
const SPLIT: &str = "split";
const IS_QUERY: &str = "is_query";
const IS_GALLERY: &str = "is_gallery";
const SEQUENCE: &str = "sequence";
const CORNERS: [&str; 4] = ["x_1", "y_1", "x_2", "y_2"];

/// What a list says.
pub(crate) struct FileList {
    pub(crate) files: Vec<ImageFile>,
    pub(crate) rows: Rows,
    /// Whether the row asks and is searched, and its sequence; where the list says so.
    pub(crate) roles: Option<Vec<Roles>>,
    /// What the rows say beside a label, or in place of one.
    pub(crate) said: SaidRows,
}

/// Which columns of a list are what, where it is not fixed.
pub(crate) struct ListColumns<'a> {
    pub(crate) label: &'a Column,
    /// What is said beside the label, or in place of it.
    pub(crate) said: SaidColumns,
}

/// Reads the lines of a list; paths are relative to `folder`. What is wrong with a line goes to the sink, and the line is
/// left out.
pub(crate) fn read(
    lines: &Lines,
    folder: &Path,
    columns: &ListColumns<'_>,
    sink: &mut dyn Sink,
) -> Result<FileList, Error> {
    let path = lines.column(&Column::Name("path".into()))?;
    let label = match columns.said.replaces_class() {
        true => None,
        false => Some(lines.column(columns.label)?),
    };
    let split = lines.find(SPLIT);
    let (query, gallery) = (lines.find(IS_QUERY), lines.find(IS_GALLERY));
    let sequence = lines.find(SEQUENCE);
    let corners = CORNERS.map(|name| lines.find(name));

    let (mut files, mut rows, mut roles) = (Vec::new(), RowsBuilder::default(), Vec::new());
    let mut all_said = SaidRows::default();
    for line in &lines.rows {
        let cell = |column: Option<usize>| column.map_or("", |it| &line.cells[it]);
        let mut faults = Vec::new();
        let class = cell(label);
        if label.is_some() && class.is_empty() {
            faults.push(Fault::EmptyLabel);
        }
        let file = found(folder, &line.cells[path]);
        if line.cells[path].is_empty() || !file.is_file() {
            let file = line.cells[path].to_owned();
            faults.push(Fault::NoFile { file });
        }
        let part = match (split, cell(split)) {
            (None, _) => "all",
            (Some(_), text) => part_of(text).unwrap_or_else(|| {
                faults.push(Fault::Split { text: text.into() });
                ""
            }),
        };
        let mut role = |column: Option<usize>, name: &str| match cell(column) {
            // Rows of the training part have no role.
            "" | "nan" | "None" => part != "train",
            text => flag(text).unwrap_or_else(|| {
                faults.push(Fault::NotAFlag {
                    column: name.into(),
                    text: text.into(),
                });
                false
            }),
        };
        let is_query = role(query, IS_QUERY);
        let is_gallery = role(gallery, IS_GALLERY);
        let said = columns.said.read(lines, line, &mut faults);
        let corners = match box_of(corners.map(cell)) {
            Ok(corners) => corners,
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        if faults.is_empty() {
            rows.push(class, part);
            all_said.push(said);
            files.push(ImageFile {
                path: file,
                corners,
            });
            roles.push(Roles {
                query: is_query,
                gallery: is_gallery,
                sequence: sequence.map(|it| line.cells[it].to_owned()),
            });
        }
        for fault in faults {
            sink.take(lines.bad(line, fault))?;
        }
    }
    if files.is_empty() {
        return Err(Error::bad(
            &lines.path,
            None,
            Fault::Empty {
                wanted: "rows that can be used",
            },
        ));
    }
    let says_roles = query.is_some() || gallery.is_some() || sequence.is_some();
    Ok(FileList {
        files,
        rows: rows.finish(),
        roles: says_roles.then_some(roles),
        said: all_said,
    })
}

/// The file of this name; or, where there is none, the one whose name was written with escapes such as `%FF`, as our own
/// messages and lists have names that are not plain UTF-8.
pub(crate) fn found(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(name);
    if name.contains('%')
        && !file.is_file()
        && let Some(plain) = unescaped(name)
    {
        return folder.join(plain);
    }
    file
}

fn unescaped(name: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match (first, behind) {
            (b'%', [high, low, ..]) => {
                rest = &behind[2..];
                let digit = |it: u8| char::from(it).to_digit(16);
                (digit(*high)? * 16 + digit(*low)?) as u8
            }
            (b'%', _) => return None,
            _ => first,
        });
    }
    path_of(bytes)
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Some(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Four corners, or none.
fn box_of(cells: [&str; 4]) -> Result<Option<[f64; 4]>, Fault> {
    if cells.iter().all(|cell| cell.is_empty()) {
        return Ok(None);
    }
    let mut corners = [0.0; 4];
    for ((corner, cell), name) in corners.iter_mut().zip(cells).zip(CORNERS) {
        *corner = match cell.parse::<f64>() {
            Ok(value) if value.is_finite() => value,
            _ => {
                return Err(Fault::NotANumber {
                    column: name.into(),
                    text: cell.into(),
                });
            }
        };
    }
    Ok(Some(corners))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Problems,
        formats::lines::{LineFormat, Reading},
    };

    #[cfg(unix)]
    #[test]
    fn names_with_escapes_are_found() -> Result<(), Box<dyn std::error::Error>> {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir()?;
        let odd = folder
            .path()
            .join(std::ffi::OsStr::from_bytes(b"caf\xe9\n5%.png"));
        std::fs::write(&odd, b"")?;
        let plain = folder.path().join("50%25.png");
        std::fs::write(&plain, b"")?;
        assert_eq!(found(folder.path(), "caf%E9%0A5%25.png"), odd);
        assert_eq!(found(folder.path(), "50%25.png"), plain); // A file that is there is meant.
        for name in ["%", "a%4", "%zz"] {
            assert_eq!(found(folder.path(), name), folder.path().join(name));
        }
        Ok(())
    }

    #[test]
    fn the_columns_of_open_metric_learning_are_read() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("a.png"), b"")?;
        let text = "label,path,split,is_query,is_gallery,category,sequence,x_1,y_1,x_2,y_2\n\
                    3,a.png,train,,,x,,,,,\n\
                    4,a.png,validation,True,False,x,7,1,2,3,4\n\
                    4,b.png,validation,True,perhaps,x,7,1,2,,4\n\
                    ,a.png,later,,,,,,,,\n";
        let reading = Reading {
            format: LineFormat::Csv,
            header: true,
            more_columns: false,
        };
        let mut problems = Problems::new(20);
        let lines = Lines::read("l.csv", text.as_bytes(), reading, &mut problems)?;
        let list = read(
            &lines,
            folder.path(),
            &ListColumns {
                label: &Column::Name("label".into()),
                said: SaidColumns::default(),
            },
            &mut problems,
        )?;
        assert_eq!(list.rows.classes, ["3", "4"]);
        assert_eq!(list.rows.part(1), "validation");
        assert_eq!(list.files[1].corners, Some([1., 2., 3., 4.]));
        let roles = list.roles.expect("there are columns for them");
        assert!(!roles[0].query && roles[1].query && !roles[1].gallery);
        assert_eq!(roles[1].sequence.as_deref(), Some("7"));
        let messages: Vec<String> = problems.errors().map(ToString::to_string).collect();
        let starts = [
            "l.csv, row 4: `b.png` is not there",
            "l.csv, row 4: `is_gallery` holds `perhaps`",
            "l.csv, row 4: `x_2` holds ``",
            "l.csv, row 5: the label is empty",
            "l.csv, row 5: the split is `later`",
        ];
        assert_eq!(messages.len(), starts.len(), "{messages:#?}");
        for (message, start) in messages.iter().zip(starts) {
            assert!(message.starts_with(start), "{message}");
        }
        Ok(())
    }
}
