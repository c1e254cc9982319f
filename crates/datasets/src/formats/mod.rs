//! Readers, one file each.

pub(crate) mod archive_images;
pub(crate) mod arrays;
pub(crate) mod conllu;
pub(crate) mod file_list;
pub(crate) mod folder;
pub(crate) mod glyphs;
pub(crate) mod idx;
pub(crate) mod image_files;
pub(crate) mod images;
pub(crate) mod lines;
pub(crate) mod masks;
pub(crate) mod npy;
pub(crate) mod said;
pub(crate) mod scenes;
pub(crate) mod solids;
pub(crate) mod sounds;
pub(crate) mod table;
pub(crate) mod texts;
pub(crate) mod two_kinds;
pub(crate) mod view_files;

use std::{fs::File, io::Read, path::Path};

use nearfar_catalogue::archive;

use crate::{
    Error, Limits,
    error::{Fault, shown},
};

/// Whether a file is a sound rather than an image, by the end of its name; none where it is of neither.
pub fn is_sound(path: &Path) -> Option<bool> {
    let end = path.extension()?.to_ascii_lowercase();
    let is_one_of = |ends: &[&str]| ends.iter().any(|it| end == *it);
    if is_one_of(&crate::sound::EXTENSIONS) {
        Some(true)
    } else {
        is_one_of(&folder::IMAGE_EXTENSIONS).then_some(false)
    }
}

/// All bytes of a file, unpacked if its name ends with `.gz`.
pub(crate) fn file_bytes(path: &Path, limits: &Limits) -> Result<Vec<u8>, Error> {
    if path.extension().is_some_and(|it| it == "gz") {
        return Ok(archive::gunzip(path, &archive_limits(limits))?);
    }
    let read = |source| Error::read(path, source);
    let file = File::open(path).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    let too_large = |found| {
        Error::bad(
            shown(path),
            None,
            Fault::TooLarge {
                found,
                limit: limits.file_bytes,
                unit: "bytes",
            },
        )
    };
    if size > limits.file_bytes {
        return Err(too_large(size));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // The file may be something that grows.
    file.take(limits.file_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    if bytes.len() as u64 > limits.file_bytes {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// What an archive may hold; within the limits of the catalogue.
pub(crate) fn archive_limits(limits: &Limits) -> archive::Limits {
    let default = archive::Limits::default();
    archive::Limits {
        member_bytes: default.member_bytes.min(limits.file_bytes),
        total_bytes: default.total_bytes.min(limits.memory_bytes),
        ..default
    }
}
