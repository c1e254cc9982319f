//! A folder of class folders with images, sounds or arrays.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error, Limits,
    error::{Fault, Sink, shown},
    rows::{Rows, RowsBuilder},
    sound,
    split::part_of,
};

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Images,
    Sounds,
    /// Arrays in `.npy` files.
    Arrays,
}

/// The images or sounds below `root`, whose first folder is their class: `root/cat/1.png`. Where all folders of `root` have names of
/// parts (`train`, `validation`, `test`) and folders in them, those are the parts and theirs the classes:
/// `root/train/cat/1.png`.
///
/// Files and folders are taken in the order of their names. Hidden ones and files that are nothing of the kind by their name are
/// passed over. Links to files and to class folders are followed, links below those are not.
pub(crate) fn read(
    root: &Path,
    wanted: Wanted,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<(Vec<PathBuf>, Rows), Error> {
    let mut walk = Walk {
        files: Vec::new(),
        rows: RowsBuilder::default(),
        wanted,
        limits,
        sink,
    };
    let (folders, loose) = entries(root)?;
    let parts: Vec<Option<&str>> = folders.iter().map(|it| part_of(&name(it))).collect();
    let mut has_parts = !parts.is_empty() && parts.iter().all(Option::is_some);
    for folder in folders.iter().take(if has_parts { usize::MAX } else { 0 }) {
        has_parts &= !entries(folder)?.0.is_empty();
    }
    walk.outside(&loose)?;
    if has_parts {
        for (folder, part) in folders.iter().zip(&parts) {
            let (classes, loose) = entries(folder)?;
            walk.outside(&loose)?;
            for class in classes {
                walk.class(&class, part.unwrap_or("all"))?;
            }
        }
    } else {
        for class in &folders {
            walk.class(class, "all")?;
        }
    }
    if walk.files.is_empty() {
        return Err(Error::bad(
            shown(root),
            None,
            Fault::Empty {
                wanted: match wanted {
                    Wanted::Images => "images in class folders, such as `cat/1.png`",
                    Wanted::Sounds => "sounds in class folders, such as `cat/1.wav`",
                    Wanted::Arrays => "arrays in class folders, such as `cat/1.npy`",
                },
            },
        ));
    }
    Ok((walk.files, walk.rows.finish()))
}

/// All images or sounds in or below a folder, or the one file; their class is their folder below the root, or none.
pub(crate) fn read_any(
    root: &Path,
    wanted: Wanted,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<(Vec<PathBuf>, Rows), Error> {
    let mut walk = Walk {
        files: Vec::new(),
        rows: RowsBuilder::default(),
        wanted,
        limits,
        sink,
    };
    if fs::metadata(root)
        .map_err(|source| Error::read(root, source))?
        .is_dir()
    {
        let (folders, loose) = entries(root)?;
        for file in loose {
            walk.file(file, "", "all")?;
        }
        for folder in folders {
            walk.class(&folder, "all")?;
        }
    } else {
        walk.push(root.to_owned(), "", "all")?;
    }
    if walk.files.is_empty() {
        return Err(Error::bad(
            shown(root),
            None,
            Fault::Empty {
                wanted: wanted.name(),
            },
        ));
    }
    Ok((walk.files, walk.rows.finish()))
}

struct Walk<'a> {
    files: Vec<PathBuf>,
    rows: RowsBuilder,
    wanted: Wanted,
    limits: &'a Limits,
    sink: &'a mut dyn Sink,
}

/// Folders below a class folder.
const DEPTH: usize = 16;

impl Walk<'_> {
    /// Files that lie in no class folder.
    fn outside(&mut self, loose: &[PathBuf]) -> Result<(), Error> {
        for file in loose
            .iter()
            .filter(|file| self.wanted.kind(file) == Kind::Wanted)
        {
            let fault = Fault::Unknown {
                what: format!("the {} lies in no class folder", self.wanted.one()),
                expected: "move it into the folder of its class",
            };
            self.sink.take(Error::bad(shown(file), None, fault))?;
        }
        Ok(())
    }

    fn class(&mut self, folder: &Path, part: &str) -> Result<(), Error> {
        let class = name(folder);
        let before = self.files.len();
        self.below(folder, &class, part, DEPTH)?;
        if self.files.len() == before {
            let fault = Fault::Empty {
                wanted: match self.wanted {
                    Wanted::Images => "images in this class folder; fill it, or take it away",
                    Wanted::Sounds => "sounds in this class folder; fill it, or take it away",
                    Wanted::Arrays => "arrays in this class folder; fill it, or take it away",
                },
            };
            self.sink.take(Error::bad(shown(folder), None, fault))?;
        }
        Ok(())
    }

    fn below(&mut self, folder: &Path, class: &str, part: &str, depth: usize) -> Result<(), Error> {
        let (folders, files) = entries(folder)?;
        for file in files {
            self.file(file, class, part)?;
        }
        for folder in folders {
            if depth > 0 && !folder.is_symlink() {
                self.below(&folder, class, part, depth - 1)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, file: PathBuf, class: &str, part: &str) -> Result<(), Error> {
        match self.wanted.kind(&file) {
            Kind::Wanted => self.push(file, class, part),
            Kind::Other => Ok(()),
            Kind::NotRead => {
                let fault = Fault::Unknown {
                    what: format!("{} of this kind are not read", self.wanted.name()),
                    expected: match self.wanted {
                        Wanted::Images => "PNG, JPEG, WebP, BMP, PGM and PPM are; convert it",
                        Wanted::Sounds => "WAV, FLAC, MP3 and Ogg Vorbis are; convert it",
                        Wanted::Arrays => {
                            "`.npy` is; write a file for each array with `numpy.save`"
                        }
                    },
                };
                self.sink.take(Error::bad(shown(&file), None, fault))
            }
        }
    }

    fn push(&mut self, file: PathBuf, class: &str, part: &str) -> Result<(), Error> {
        if self.files.len() >= self.limits.files {
            return Err(Error::bad(
                shown(&file),
                None,
                Fault::TooLarge {
                    found: self.files.len() as u64 + 1,
                    limit: self.limits.files as u64,
                    unit: "files",
                },
            ));
        }
        if file
            .to_str()
            .is_none_or(|it| it.chars().any(char::is_control))
        {
            self.sink
                .take(Error::bad(shown(&file), None, Fault::Name))?;
        }
        self.rows.push(class, part);
        self.files.push(file);
        Ok(())
    }
}

/// The folders and the files of a folder by name, but for hidden ones.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let fail = |source| Error::read(folder, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    // A link that leads nowhere is a file that cannot be read, and is told of when it is decoded.
    Ok(paths.into_iter().partition(|path| path.is_dir()))
}

fn name(path: &Path) -> String {
    shown(Path::new(path.file_name().unwrap_or_default()))
}

#[derive(PartialEq, Eq)]
enum Kind {
    Wanted,
    /// It is something of the kind that no decoder is there for.
    NotRead,
    Other,
}

/// Ends of the names of images that are read.
pub(crate) const IMAGE_EXTENSIONS: [&str; 9] = [
    "png", "jpg", "jpeg", "webp", "bmp", "pgm", "ppm", "pbm", "pnm",
];

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Sounds => "sounds",
            Self::Arrays => "arrays",
        }
    }

    fn one(self) -> &'static str {
        match self {
            Self::Images => "image",
            Self::Sounds => "sound",
            Self::Arrays => "array",
        }
    }

    /// What a file is by its name.
    fn kind(self, path: &Path) -> Kind {
        let (read, not_read): (&[&str], &[&str]) = match self {
            Self::Images => (
                &IMAGE_EXTENSIONS,
                &["gif", "tif", "tiff", "avif", "heic", "jxl", "jp2", "svg"],
            ),
            Self::Sounds => (&sound::EXTENSIONS, &sound::UNKNOWN_EXTENSIONS),
            Self::Arrays => (
                &["npy"],
                &["npz", "mat", "h5", "pt", "safetensors", "nii", "off", "ply"],
            ),
        };
        let end = path.extension().unwrap_or_default().to_ascii_lowercase();
        let is_one_of = |ends: &[&str]| ends.iter().any(|it| end == *it);
        if is_one_of(read) {
            Kind::Wanted
        } else if is_one_of(not_read) {
            Kind::NotRead
        } else {
            Kind::Other
        }
    }
}
