//! Embeddings as npy: the vectors in one file, labels and ids beside it.

use std::io::Write;
use std::path::{Path, PathBuf};

use nearfar_core::EmbeddingTable;

use super::{LONGEST_HEADER, bytes, format_error, ids_of, labels_of, publish, table};
use crate::error::{Error, Result};

pub(super) fn write(path: &Path, table: &EmbeddingTable) -> Result<()> {
    let (labels, ids) = (labels_of(table), ids_of(path, table)?);
    let (labels_path, ids_path) = (with_part(path, "labels"), with_part(path, "ids"));

    publish(&ids_path, |file| {
        write_numbers(file, "<i8", &[ids.len()], &ids, i64::to_le_bytes)
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
            write_numbers(file, "<i8", &[labels.len()], &labels, i64::to_le_bytes)
        })?;
    }
    publish(path, |file| {
        write_numbers(
            file,
            "<f4",
            &[table.len(), table.dim],
            &table.vectors,
            f32::to_le_bytes,
        )
    })
}

pub(super) fn read(path: &Path) -> Result<EmbeddingTable> {
    let (shape, vectors) = parse(path, &bytes(path)?)?;
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
        match parse(&path, &bytes(&path)?)? {
            (shape, Numbers::Integers(list)) if shape == [n] => Ok(Some(list)),
            (shape, _) => Err(format_error(
                &path,
                format!("{part} are {n} integers, one for each row; this has the shape {shape:?}"),
            )),
        }
    };
    let (labels, ids) = (list("labels")?, list("ids")?);
    let ids = ids.unwrap_or_else(|| (0..n as i64).collect());
    table(path, (n, d), vectors, &labels.unwrap_or_default(), &ids)
}

/// `a.npy` and `labels` to `a.labels.npy`.
fn with_part(path: &Path, part: &str) -> PathBuf {
    path.with_extension(format!("{part}.npy"))
}

/// How a file of version 1.0 begins.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// One array in the order of rows.
pub(super) fn write_numbers<T: Copy, const N: usize>(
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
    let padded = (MAGIC.len() + 2 + header.len() + 1).next_multiple_of(64) - MAGIC.len() - 2;
    let length = u16::try_from(padded).expect("the header is short");
    file.write_all(MAGIC)?;
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
fn parse(path: &Path, bytes: &[u8]) -> Result<(Vec<usize>, Numbers)> {
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
