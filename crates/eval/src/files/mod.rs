//! Embeddings in files: safetensors, npy and CSV.
//!
//! Files are written beside their place, synced and renamed, so that nobody ever sees half of one. What is read is checked
//! before memory is taken for it.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::Path;

use nearfar_core::EmbeddingTable;

use crate::error::{Error, Result};

mod csv;
mod npy;
mod safetensors;

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

/// Headers longer than this are not ours: there are three tensors and five entries of metadata.
const LONGEST_HEADER: u64 = 1 << 20;

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
    match Kind::of(path)? {
        Kind::SafeTensors => safetensors::write(path, table, origin),
        Kind::Npy => npy::write(path, table),
        Kind::Csv => csv::write(path, table),
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
        Kind::SafeTensors => safetensors::read(path, &bytes(path)?),
        Kind::Npy => npy::read(path).map(|table| (table, Origin::default())),
        Kind::Csv => csv::read(path, &bytes(path)?).map(|table| (table, Origin::default())),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
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

/// The numbers that stand for ids in files.
fn ids_of(path: &Path, table: &EmbeddingTable) -> Result<Vec<i64>> {
    let id = |&id: &u64| {
        i64::try_from(id)
            .map_err(|_| format_error(path, format!("the id {id} does not fit into 63 bits")))
    };
    table.ids.iter().map(id).collect()
}

/// The numbers that stand for labels in files.
fn labels_of(table: &EmbeddingTable) -> Vec<i64> {
    table.labels.iter().map(|&label| i64::from(label)).collect()
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
            npy::write_numbers(file, "<f8", &[2, 1], &[0.5, 1.5], f64::to_le_bytes)
        })
        .unwrap();
        let (table, _) = read_embeddings(&path).unwrap();
        assert_eq!(
            (table.vectors, table.labels, table.ids),
            (vec![0.5, 1.5], vec![], vec![0, 1])
        );
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[..8], npy::MAGIC);
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
            npy::MAGIC,
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
