//! The idx format of MNIST: bytes behind a header of sizes.

use crate::{
    Error,
    error::{Fault, IdxFault},
};

/// The sizes and the bytes of an idx file of unsigned bytes with `N` dimensions. Its header is not believed: it claims as
/// many bytes as follow, or the file is refused.
///
/// Format: <http://yann.lecun.com/exdb/mnist/>: two zero bytes, 8 for unsigned bytes, the number of dimensions, each size
/// as 32 bits with the highest byte first, then the bytes, the last dimension fastest.
pub(crate) fn read<'a, const N: usize>(
    bytes: &'a [u8],
    path: &str,
) -> Result<([usize; N], &'a [u8]), Error> {
    let bad = |fault| Error::bad(path, None, Fault::Idx(fault));
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(bad(IdxFault::Header));
    };
    if magic[..3] != [0, 0, 8] {
        return Err(bad(IdxFault::Magic(*magic)));
    }
    if usize::from(magic[3]) != N {
        return Err(bad(IdxFault::Dimensions {
            found: magic[3],
            expected: N as u8,
        }));
    }
    let Some((header, values)) = rest.split_at_checked(4 * N) else {
        return Err(bad(IdxFault::Header));
    };
    let mut sizes = [0; N];
    let mut claimed = 1u128;
    for (size, word) in sizes.iter_mut().zip(header.as_chunks::<4>().0) {
        let value = u32::from_be_bytes(*word);
        *size = value as usize;
        claimed = claimed.saturating_mul(u128::from(value));
    }
    if claimed != values.len() as u128 {
        return Err(bad(IdxFault::Length {
            found: values.len() as u64,
            claimed,
        }));
    }
    Ok((sizes, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IMAGES: [u8; 4 + 12 + 4] = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4];

    #[test]
    fn sizes_and_bytes_are_read() -> Result<(), Error> {
        assert_eq!(read::<3>(&IMAGES, "a")?, ([1, 2, 2], &[1, 2, 3, 4][..]));
        assert_eq!(read::<1>(&[0, 0, 8, 1, 0, 0, 0, 0], "a")?, ([0], &[][..]));
        Ok(())
    }

    #[test]
    fn headers_are_not_believed() {
        let fails = |bytes: &[u8], part: &str| {
            let error = read::<3>(bytes, "train.gz").expect_err("bad").to_string();
            assert!(
                error.starts_with("train.gz: ") && error.contains(part),
                "{error}"
            );
        };
        fails(&IMAGES[..19], "3 bytes follow the header, which claims 4");
        fails(&IMAGES[..15], "ends within its header");
        fails(&IMAGES[..3], "ends within its header");
        fails(&[0x1f, 0x8b, 8, 3], "begins with [1f, 8b, 08, 03]");
        fails(&[0, 0, 8, 1, 0, 0, 0, 0], "1 dimensions, not 3");
        let mut huge = IMAGES;
        huge[4..16].fill(0xff);
        fails(&huge, "claims 79228162458924105385300197375");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read::<3>(&bytes, "a");
            let _ = read::<1>(&bytes, "a");
        }
    }
}
