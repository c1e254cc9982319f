//! Arrays in files of NumPy.

use std::path::Path;

use super::file_bytes;
use crate::{
    Error, Limits,
    error::{Fault, shown},
};

/// An array in the order of its rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Bytes of a header that is believed.
const LONGEST_HEADER: usize = 64 << 10;
/// What `numpy.load` reads, and is right here.
const SAVED: &str = "save it with `numpy.save`, as numbers in the order of rows";

/// The array of an `.npy` file of versions 1 to 3: booleans, integers of up to 8 bytes and floats of 4 or 8, little-endian, in the
/// order of rows. Numbers are finite, and fit in f32.
pub(crate) fn read(path: &Path, limits: &Limits) -> Result<Numbers, Error> {
    let within = Limits {
        file_bytes: limits.file_bytes.min(limits.image_bytes),
        ..*limits
    };
    let bytes = file_bytes(path, &within)?;
    parse(&bytes, limits).map_err(|what| {
        let fault = Fault::Unknown {
            what,
            expected: SAVED,
        };
        Error::bad(shown(path), None, fault)
    })
}

/// What is wrong is told in words.
fn parse(bytes: &[u8], limits: &Limits) -> Result<Numbers, String> {
    let not_npy = || "it is not an npy file, or it ends too early".to_owned();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(not_npy)?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(not_npy()),
    };
    if length > LONGEST_HEADER || length > rest.len() {
        return Err(not_npy());
    }
    let (header, data) = rest.split_at(length);
    let header = std::str::from_utf8(header).map_err(|_| not_npy())?;
    let after = |name: &str| {
        let (_, after) = header.split_once(&format!("'{name}':"))?;
        Some(after.trim_start())
    };
    let kind = after("descr")
        .and_then(|it| it.strip_prefix('\'')?.split_once('\''))
        .map(|(kind, _)| kind)
        .ok_or("its header does not say a simple kind of number")?;
    if !after("fortran_order").is_some_and(|it| it.starts_with("False")) {
        return Err("its numbers are in the order of columns".into());
    }
    let shape = after("shape")
        .and_then(|it| it.strip_prefix('(')?.split_once(')'))
        .and_then(|(sizes, _)| {
            let sizes = sizes.split(',').map(str::trim);
            let sizes = sizes.filter(|size| !size.is_empty());
            sizes
                .map(|size| size.parse::<usize>().ok())
                .collect::<Option<Vec<_>>>()
        })
        .ok_or("its header does not say a shape")?;
    let count = shape
        .iter()
        .try_fold(1usize, |all, &size| all.checked_mul(size));
    let fits = count.and_then(|count| count.checked_mul(4));
    let Some(count) = count.filter(|_| fits.is_some_and(|it| it as u64 <= limits.image_bytes))
    else {
        return Err(format!(
            "its shape {shape:?} has more than the {} numbers that are read",
            limits.image_bytes / 4
        ));
    };
    let values = values(kind, data, count)?;
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        return Err(format!("number {at} is not finite, or too large for f32"));
    }
    Ok(Numbers { shape, values })
}

fn values(kind: &str, data: &[u8], count: usize) -> Result<Vec<f32>, String> {
    fn of<const N: usize>(
        data: &[u8],
        count: usize,
        number: impl Fn([u8; N]) -> f32,
    ) -> Result<Vec<f32>, String> {
        let (numbers, rest) = data.as_chunks::<N>();
        if numbers.len() != count || !rest.is_empty() {
            return Err(format!(
                "its header says {count} numbers of {N} bytes, but {} bytes follow",
                data.len()
            ));
        }
        Ok(numbers.iter().map(|&bytes| number(bytes)).collect())
    }
    match kind {
        "|b1" => of(data, count, |[byte]| f32::from(u8::from(byte != 0))),
        "|u1" => of(data, count, |[byte]| f32::from(byte)),
        "|i1" => of(data, count, |it| f32::from(i8::from_le_bytes(it))),
        "<u2" => of(data, count, |it| f32::from(u16::from_le_bytes(it))),
        "<i2" => of(data, count, |it| f32::from(i16::from_le_bytes(it))),
        "<u4" => of(data, count, |it| u32::from_le_bytes(it) as f32),
        "<i4" => of(data, count, |it| i32::from_le_bytes(it) as f32),
        "<u8" => of(data, count, |it| u64::from_le_bytes(it) as f32),
        "<i8" => of(data, count, |it| i64::from_le_bytes(it) as f32),
        "<f4" => of(data, count, f32::from_le_bytes),
        "<f8" => of(data, count, |it| f64::from_le_bytes(it) as f32),
        other => Err(format!(
            "its numbers are of the kind `{other}`, which is not read; booleans, integers and floats of 4 or 8 bytes are"
        )),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file as `numpy.save` writes it.
    pub(crate) fn saved(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data);
        bytes
    }

    fn parsed(bytes: &[u8]) -> Result<Numbers, String> {
        parse(bytes, &Limits::DEFAULT)
    }

    #[test]
    fn numbers_of_every_kind_are_read() {
        let cases: [(&str, Vec<u8>); 11] = [
            ("|b1", vec![0, 1]),
            ("|u1", vec![0, 1]),
            ("|i1", vec![0, 1]),
            ("<u2", vec![0, 0, 1, 0]),
            ("<i2", vec![0, 0, 1, 0]),
            ("<u4", [0u32, 1].map(u32::to_le_bytes).concat()),
            ("<i4", [0i32, 1].map(i32::to_le_bytes).concat()),
            ("<u8", [0u64, 1].map(u64::to_le_bytes).concat()),
            ("<i8", [0i64, 1].map(i64::to_le_bytes).concat()),
            ("<f4", [0f32, 1.0].map(f32::to_le_bytes).concat()),
            ("<f8", [0f64, 1.0].map(f64::to_le_bytes).concat()),
        ];
        for (kind, data) in cases {
            let numbers = parsed(&saved(kind, "(1, 2)", &data)).unwrap();
            assert_eq!(numbers.shape, [1, 2], "{kind}");
            assert_eq!(numbers.values, [0.0, 1.0], "{kind}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let says = |bytes: &[u8], what: &str| {
            let error = parsed(bytes).expect_err(what);
            assert!(error.contains(what), "{error}");
        };
        says(b"PK\x03\x04", "not an npy file");
        says(
            &saved("|u1", "(3,)", &[1, 2]),
            "3 numbers of 1 bytes, but 2",
        );
        says(&saved(">f4", "(1,)", &[0; 4]), "`>f4`");
        says(&saved("|O", "(1,)", &[0; 4]), "`|O`");
        says(&saved("|u1", "(999999, 999999)", &[]), "more than the");
        says(
            &saved("|u1", "(99999999999, 99999999999)", &[]),
            "more than the",
        );
        says(&saved("<f4", "(1,)", &f32::NAN.to_le_bytes()), "number 0");
        says(&saved("<f8", "(1,)", &1e300f64.to_le_bytes()), "number 0");
        let columns = saved("|u1", "(1,)", &[1]);
        let columns = String::from_utf8_lossy(&columns[8..]).replace("False", "True ");
        let columns = [&b"\x93NUMPY\x01\x00"[..], columns.as_bytes()].concat();
        says(&columns, "order of columns");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), header in ".{0,80}") {
            let _ = parsed(&bytes);
            let mut named = b"\x93NUMPY\x01\x00".to_vec();
            named.extend((header.len() as u16).to_le_bytes());
            named.extend(header.bytes());
            named.extend(&bytes);
            let _ = parsed(&named);
        }
    }
}
