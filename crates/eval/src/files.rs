//! Embeddings in files: safetensors, npy and CSV.
//!
//! Files are written beside their place, synced and renamed, so that nobody ever sees half of one. What is read is checked
//! before memory is taken for it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use nearfar_core::EmbeddingTable;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};

/// The value of `format` in the metadata of a safetensors file.
pub const FORMAT: &str = "nearfar-embeddings/1";

/// Where embeddings are from. Only safetensors files keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// SHA-256 of the model's weights.
    pub model: Option<String>,
    /// The data set.
    pub data: Option<String>,
    /// The part of it.
    pub split: Option<String>,
    /// Whether rows have length 1.
    pub normalized: Option<bool>,
}

/// Kinds of files, by their extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SafeTensors,
    Npy,
    Csv,
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        match extension.as_str() {
            "safetensors" => Ok(Self::SafeTensors),
            "npy" => Ok(Self::Npy),
            "csv" => Ok(Self::Csv),
            _ => Err(format_error(
                path,
                "embeddings are kept in files that end in `.safetensors`, `.npy` or `.csv`",
            )),
        }
    }
}

fn format_error(path: &Path, problem: impl Into<String>) -> Error {
    Error::Format {
        path: path.display().to_string(),
        problem: problem.into(),
    }
}

/// Writes embeddings in the format that the file's extension names.
///
/// - `.safetensors`: `vectors` (n, d) f32, `labels` (n) i64 if there are any, `ids` (n) i64, and `origin` in the metadata.
/// - `.npy`: the same three as `NAME.npy`, `NAME.labels.npy` and `NAME.ids.npy`. The vectors are renamed last; labels that an
///   earlier table left there are removed.
/// - `.csv`: `id,label,x0,x1,…`, with numbers that read back to the same bits.
///
/// # Errors
/// For another extension, an id beyond 63 bits, or when it cannot be written. What was there before then still is.
pub fn write_embeddings(path: &Path, table: &EmbeddingTable, origin: &Origin) -> Result<()> {
    if table.vectors.len() != table.len() * table.dim
        || !(table.labels.is_empty() || table.labels.len() == table.len())
    {
        return Err(Error::Lengths {
            left: "the values of the table",
            left_length: table.vectors.len(),
            right: "its rows times its dimensions",
            right_length: table.len() * table.dim,
        });
    }
    let ids = table
        .ids
        .iter()
        .map(|&id| {
            i64::try_from(id)
                .map_err(|_| format_error(path, format!("the id {id} does not fit into 63 bits")))
        })
        .collect::<Result<Vec<i64>>>()?;
    let labels: Vec<i64> = table.labels.iter().map(|&label| i64::from(label)).collect();
    let parts = |path: &Path| (with_part(path, "labels"), with_part(path, "ids"));
    match Kind::of(path)? {
        Kind::SafeTensors => {
            let vectors: Vec<u8> = table.vectors.iter().flat_map(|x| x.to_le_bytes()).collect();
            let integers = |values: &[i64]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let (labels, ids): (Vec<u8>, Vec<u8>) = (integers(&labels), integers(&ids));
            let view = |dtype, shape: Vec<usize>, bytes| {
                TensorView::new(dtype, shape, bytes)
                    .map_err(|error| format_error(path, error.to_string()))
            };
            let n = table.len();
            let mut tensors = BTreeMap::from([
                ("vectors", view(Dtype::F32, vec![n, table.dim], &vectors)?),
                ("ids", view(Dtype::I64, vec![n], &ids)?),
            ]);
            if !table.labels.is_empty() {
                tensors.insert("labels", view(Dtype::I64, vec![n], &labels)?);
            }
            let mut metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
            let entries = [
                ("model", origin.model.clone()),
                ("data", origin.data.clone()),
                ("split", origin.split.clone()),
                ("normalized", origin.normalized.map(|it| it.to_string())),
            ];
            for (name, value) in entries {
                metadata.extend(value.map(|value| (name.to_owned(), value)));
            }
            let bytes = safetensors::serialize(tensors, Some(metadata))
                .map_err(|error| format_error(path, error.to_string()))?;
            publish(path, |file| file.write_all(&bytes))
        }
        Kind::Npy => {
            let (labels_path, ids_path) = parts(path);
            publish(&ids_path, |file| {
                write_npy(file, "<i8", &[ids.len()], &ids, i64::to_le_bytes)
            })?;
            if table.labels.is_empty() {
                match std::fs::remove_file(&labels_path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::Write {
                            path: labels_path.display().to_string(),
                            source,
                        });
                    }
                    _ => {}
                }
            } else {
                publish(&labels_path, |file| {
                    write_npy(file, "<i8", &[labels.len()], &labels, i64::to_le_bytes)
                })?;
            }
            publish(path, |file| {
                write_npy(
                    file,
                    "<f4",
                    &[table.len(), table.dim],
                    &table.vectors,
                    f32::to_le_bytes,
                )
            })
        }
        Kind::Csv => publish(path, |file| {
            write!(file, "id,label")?;
            (0..table.dim).try_for_each(|column| write!(file, ",x{column}"))?;
            writeln!(file)?;
            for row in 0..table.len() {
                write!(file, "{},", table.ids[row])?;
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
        }),
    }
}

/// Reads embeddings in the format that the file's extension names: see [`write_embeddings`].
///
/// Safetensors files must say that they hold embeddings. An npy file may stand alone: then there are no labels, and ids are
/// numbers of rows. Its vectors may be f64, and then are rounded.
///
/// # Errors
/// When the file cannot be read, or is not what it should be. Nothing is allocated beyond the size of the file.
pub fn read_embeddings(path: &Path) -> Result<(EmbeddingTable, Origin)> {
    match Kind::of(path)? {
        Kind::SafeTensors => parse_safetensors(path, &read(path)?),
        Kind::Npy => {
            let (shape, vectors) = parse_npy(path, &read(path)?)?;
            let Numbers::Floats(vectors) = vectors else {
                return Err(format_error(
                    path,
                    "vectors are floating-point numbers; these are integers",
                ));
            };
            let [n, d] = shape[..] else {
                return Err(format_error(
                    path,
                    format!("vectors have the shape (rows, dimensions); this has {shape:?}"),
                ));
            };
            let list = |part: &str| -> Result<Option<Vec<i64>>> {
                let path = with_part(path, part);
                if !path.exists() {
                    return Ok(None);
                }
                match parse_npy(&path, &read(&path)?)? {
                    (shape, Numbers::Integers(list)) if shape == [n] => Ok(Some(list)),
                    (shape, _) => Err(format_error(
                        &path,
                        format!(
                            "{part} are {n} integers, one for each row; this has the shape {shape:?}"
                        ),
                    )),
                }
            };
            let (labels, ids) = (list("labels")?, list("ids")?);
            let ids = ids.unwrap_or_else(|| (0..n as i64).collect());
            table(path, (n, d), vectors, &labels.unwrap_or_default(), &ids)
                .map(|table| (table, Origin::default()))
        }
        Kind::Csv => parse_csv(path, &read(path)?).map(|table| (table, Origin::default())),
    }
}

/// `a.npy` and `labels` to `a.labels.npy`.
fn with_part(path: &Path, part: &str) -> PathBuf {
    path.with_extension(format!("{part}.npy"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|source| Error::Read {
            path: path.display().to_string(),
            source,
        })?;
    Ok(bytes)
}

/// Writes beside the place, syncs, renames.
fn publish(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.tmp-{}", std::process::id()));
    let written = (|| {
        let mut file = BufWriter::new(File::create(&aside)?);
        write(&mut file)?;
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()?;
        std::fs::rename(&aside, path)?;
        // The new name is on the disk when its folder is. Not every system can open a folder.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
            folder.sync_all().ok();
        }
        Ok(())
    })();
    written.map_err(|source| {
        std::fs::remove_file(&aside).ok();
        Error::Write {
            path: path.display().to_string(),
            source,
        }
    })
}

/// A table from what a file says, after checking that labels and ids are what they must be.
fn table(
    path: &Path,
    (n, d): (usize, usize),
    vectors: Vec<f32>,
    labels: &[i64],
    ids: &[i64],
) -> Result<EmbeddingTable> {
    let lengths = [
        ("values", vectors.len(), n.checked_mul(d)),
        ("ids", ids.len(), Some(n)),
    ];
    for (what, length, wanted) in lengths {
        if Some(length) != wanted {
            return Err(format_error(
                path,
                format!("{length} {what} for {n} rows of {d} dimensions"),
            ));
        }
    }
    if !labels.is_empty() && labels.len() != n {
        return Err(format_error(
            path,
            format!("{} labels for {n} rows", labels.len()),
        ));
    }
    let labels = labels.iter().enumerate().map(|(row, &label)| {
        u32::try_from(label).map_err(|_| {
            let problem = format!(
                "row {row} has the label {label}; labels are numbers from 0 to {}",
                u32::MAX
            );
            format_error(path, problem)
        })
    });
    let ids = ids.iter().enumerate().map(|(row, &id)| {
        u64::try_from(id).map_err(|_| {
            format_error(
                path,
                format!("row {row} has the id {id}; ids are 0 or more"),
            )
        })
    });
    Ok(EmbeddingTable {
        vectors,
        dim: d,
        labels: labels.collect::<Result<_>>()?,
        ids: ids.collect::<Result<_>>()?,
    })
}

/// Headers longer than this are not ours: there are three tensors and five entries of metadata.
const LONGEST_HEADER: u64 = 1 << 20;

fn parse_safetensors(path: &Path, bytes: &[u8]) -> Result<(EmbeddingTable, Origin)> {
    let wrong = |problem: String| format_error(path, problem);
    let header = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    if header.is_some_and(|length| length > LONGEST_HEADER) {
        return Err(wrong(
            "the header says that it is longer than 1 MiB; this is not a file of embeddings".into(),
        ));
    }
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| wrong(error.to_string()))?;
    let entry = |name: &str| {
        metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(name).cloned())
    };
    match entry("format").as_deref() {
        Some(FORMAT) => {}
        Some(other) if other.starts_with("nearfar-embeddings/") => {
            return Err(wrong(format!(
                "the format is `{other}`, and this version reads `{FORMAT}`; use the version that wrote it, or a newer one"
            )));
        }
        _ => {
            return Err(wrong(format!(
                "the metadata does not say `format = {FORMAT}`; this is another kind of safetensors file"
            )));
        }
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| wrong(error.to_string()))?;
    let view = |name: &str, dtype: Dtype, rank: usize| {
        let view = tensors
            .tensor(name)
            .map_err(|_| wrong(format!("there is no tensor `{name}`")))?;
        if view.dtype() != dtype || view.shape().len() != rank {
            return Err(wrong(format!(
                "`{name}` is {:?} of shape {:?}; {dtype:?} of {rank} dimensions is wanted",
                view.dtype(),
                view.shape()
            )));
        }
        Ok(view)
    };
    let vectors = view("vectors", Dtype::F32, 2)?;
    let shape = (vectors.shape()[0], vectors.shape()[1]);
    let integers = |view: &TensorView<'_>| -> Vec<i64> {
        let (values, _) = view.data().as_chunks();
        values
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes))
            .collect()
    };
    let ids = integers(&view("ids", Dtype::I64, 1)?);
    let labels = if tensors.names().contains(&"labels") {
        integers(&view("labels", Dtype::I64, 1)?)
    } else {
        Vec::new()
    };
    let (values, _) = vectors.data().as_chunks();
    let vectors = values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let normalized = match entry("normalized").as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => {
            return Err(wrong(format!(
                "`normalized` is `{other}`; `true` or `false` is wanted"
            )));
        }
    };
    let origin = Origin {
        model: entry("model"),
        data: entry("data"),
        split: entry("split"),
        normalized,
    };
    Ok((table(path, shape, vectors, &labels, &ids)?, origin))
}

const NPY_MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

fn write_npy<T: Copy, const N: usize>(
    file: &mut impl Write,
    descr: &str,
    shape: &[usize],
    values: &[T],
    bytes: fn(T) -> [u8; N],
) -> std::io::Result<()> {
    let shape: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let header = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}",
        shape.join(" ")
    );
    // Magic, length and header together are a multiple of 64, and end with a new line.
    let padded =
        (NPY_MAGIC.len() + 2 + header.len() + 1).next_multiple_of(64) - NPY_MAGIC.len() - 2;
    let length = u16::try_from(padded).expect("the header is short");
    file.write_all(NPY_MAGIC)?;
    file.write_all(&length.to_le_bytes())?;
    writeln!(file, "{header:<width$}", width = padded - 1)?;
    values
        .iter()
        .try_for_each(|&value| file.write_all(&bytes(value)))
}

enum Numbers {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// Versions 1 and 2 of the format, little-endian, in the order of rows; `f4`, `f8`, `i4` and `i8`.
fn parse_npy(path: &Path, bytes: &[u8]) -> Result<(Vec<usize>, Numbers)> {
    let wrong = |problem: &str| format_error(path, problem);
    let not_npy = || wrong("this is not an npy file, or it ends too early");
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(not_npy)?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(not_npy()),
    };
    if length > LONGEST_HEADER as usize || length > rest.len() {
        return Err(not_npy());
    }
    let (header, data) = rest.split_at(length);
    let header = std::str::from_utf8(header).map_err(|_| not_npy())?;
    let after = |name: &str| {
        let (_, after) = header.split_once(&format!("'{name}':"))?;
        Some(after.trim_start())
    };
    let descr = after("descr")
        .and_then(|it| it.strip_prefix('\'')?.split_once('\''))
        .map(|(descr, _)| descr)
        .ok_or_else(|| wrong("the header does not say a simple kind of number"))?;
    if !after("fortran_order").is_some_and(|it| it.starts_with("False")) {
        return Err(wrong(
            "the numbers are in the order of columns; save `numpy.ascontiguousarray(…)`",
        ));
    }
    let shape = after("shape")
        .and_then(|it| it.strip_prefix('(')?.split_once(')'))
        .and_then(|(sizes, _)| {
            let sizes = sizes
                .split(',')
                .map(str::trim)
                .filter(|size| !size.is_empty());
            sizes
                .map(|size| size.parse::<usize>().ok())
                .collect::<Option<Vec<_>>>()
        })
        .ok_or_else(|| wrong("the header has no shape"))?;
    let width = match descr {
        "<f4" | "<i4" => 4,
        "<f8" | "<i8" => 8,
        other => {
            return Err(wrong(&format!(
                "numbers of kind `{other}`; little-endian f4, f8, i4 and i8 are read"
            )));
        }
    };
    let size = shape
        .iter()
        .try_fold(width as u128, |size, &n| size.checked_mul(n as u128));
    if size != Some(data.len() as u128) {
        return Err(wrong(&format!(
            "the shape {shape:?} needs another number of bytes than the {} that follow the header",
            data.len()
        )));
    }
    let four = || data.as_chunks::<4>().0.iter().copied();
    let eight = || data.as_chunks::<8>().0.iter().copied();
    let numbers = match descr {
        "<f4" => Numbers::Floats(four().map(f32::from_le_bytes).collect()),
        "<f8" => Numbers::Floats(eight().map(|x| f64::from_le_bytes(x) as f32).collect()),
        "<i4" => Numbers::Integers(four().map(|x| i64::from(i32::from_le_bytes(x))).collect()),
        _ => Numbers::Integers(eight().map(i64::from_le_bytes).collect()),
    };
    Ok((shape, numbers))
}

fn parse_csv(path: &Path, bytes: &[u8]) -> Result<EmbeddingTable> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> EmbeddingTable {
        EmbeddingTable {
            vectors: vec![0.1, -2.5e-30, f32::MAX, 1.0, f32::NAN, f32::NEG_INFINITY],
            dim: 3,
            labels: vec![7, u32::MAX],
            ids: vec![5, i64::MAX as u64],
        }
    }

    fn same(a: &EmbeddingTable, b: &EmbeddingTable) -> bool {
        let bits = |table: &EmbeddingTable| {
            table
                .vectors
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>()
        };
        bits(a) == bits(b) && (a.dim, &a.labels, &a.ids) == (b.dim, &b.labels, &b.ids)
    }

    #[test]
    fn every_format_reads_back_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin {
            model: Some("ab".repeat(32)),
            data: Some("omniglot".into()),
            split: Some("test".into()),
            normalized: Some(true),
        };
        let unlabelled = EmbeddingTable {
            labels: Vec::new(),
            ..example()
        };
        let empty = EmbeddingTable::new(3);
        for extension in ["safetensors", "npy", "csv"] {
            let path = folder.path().join(format!("a.b.{extension}"));
            for table in [example(), unlabelled.clone(), empty.clone(), example()] {
                write_embeddings(&path, &table, &origin).unwrap();
                let (read, from) = read_embeddings(&path).unwrap();
                assert!(same(&read, &table), "{extension}: {read:?}");
                assert_eq!(
                    from,
                    if extension == "safetensors" {
                        origin.clone()
                    } else {
                        Origin::default()
                    }
                );
            }
        }
        let left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 5, "no temporary file stays: {left:?}");
    }

    #[test]
    fn an_npy_file_may_stand_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        publish(&path, |file| {
            write_npy(file, "<f8", &[2, 1], &[0.5, 1.5], f64::to_le_bytes)
        })
        .unwrap();
        let (table, _) = read_embeddings(&path).unwrap();
        assert_eq!(
            (table.vectors, table.labels, table.ids),
            (vec![0.5, 1.5], vec![], vec![0, 1])
        );
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..8], NPY_MAGIC);
        assert_eq!((bytes.len() - 16) % 64, 0);
    }

    #[test]
    fn a_table_of_another_kind_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let message = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = read_embeddings(&path).unwrap_err().to_string();
            error
                .strip_prefix(&format!("{}: ", path.display()))
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            message("a.txt", b""),
            "embeddings are kept in files that end in `.safetensors`, `.npy` or `.csv`"
        );
        assert_eq!(
            message("a.csv", b"id,x0\n"),
            "line 1: the columns are not `id,label,x0,x1,\u{2026}`"
        );
        assert_eq!(
            message("a.csv", b"id,label,x0\n1,2,a\n"),
            "line 2: `a` is not a number"
        );
        assert_eq!(
            message("a.csv", b"id,label,x0\n1,2,3\n2,,3\n"),
            "line 3: some rows have a label and some have none; give all rows one, or none"
        );
        assert_eq!(
            message("a.csv", b"id,label,x0\n1,-2,3\n"),
            "row 0 has the label -2; labels are numbers from 0 to 4294967295"
        );
        assert_eq!(
            message("a.npy", b"\x93NUMPY\x01\x00\xff\xff"),
            "this is not an npy file, or it ends too early"
        );
        assert!(message("a.safetensors", &[0xff; 16]).contains("longer than 1 MiB"));
        let header = br#"{"__metadata__":{"format":"nearfar-embeddings/2"}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header].concat();
        assert!(message("a.safetensors", &bytes).contains("reads `nearfar-embeddings/1`"));
        let header = br#"{"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header].concat();
        assert!(message("a.safetensors", &bytes).contains("another kind of safetensors file"));
    }

    #[test]
    fn broken_files_are_errors_and_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        for extension in ["safetensors", "npy", "csv"] {
            let path = folder.path().join(format!("a.{extension}"));
            write_embeddings(&path, &example(), &Origin::default()).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            for end in 0..bytes.len() {
                std::fs::write(&path, &bytes[..end]).unwrap();
                let _ = read_embeddings(&path);
                let mut flipped = bytes.clone();
                flipped[end] ^= 0x55;
                std::fs::write(&path, &flipped).unwrap();
                let _ = read_embeddings(&path);
            }
        }
        // A shape that asks for more memory than any machine has.
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 18446744073709551615), }";
        let bytes = [
            NPY_MAGIC,
            &(header.len() as u16).to_le_bytes(),
            header.as_bytes(),
        ]
        .concat();
        let path = folder.path().join("a.npy");
        std::fs::write(&path, bytes).unwrap();
        assert!(
            read_embeddings(&path)
                .unwrap_err()
                .to_string()
                .contains("another number of bytes")
        );
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/such/a.csv");
        let error = write_embeddings(&missing, &example(), &Origin::default()).unwrap_err();
        assert!(matches!(error, Error::Write { .. }));
        let path = folder.path().join("a.safetensors");
        let beyond = EmbeddingTable {
            ids: vec![1, u64::MAX],
            ..example()
        };
        assert!(
            write_embeddings(&path, &beyond, &Origin::default())
                .unwrap_err()
                .to_string()
                .contains("63 bits")
        );
    }
}
