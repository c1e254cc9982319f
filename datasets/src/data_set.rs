//! What the catalogue says about a data set.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Layout, Sha256, Split, Template};

/// A data set: what it is, what may be done with it, and the files it is made of.
///
/// Each is one file `catalogue/<name>.toml`, which has exactly these keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DataSet {
    /// Its name in run files and on the command line, and that of its folder.
    pub name: String,
    /// One line about it.
    pub title: String,
    /// What its samples are.
    pub modality: Modality,
    /// Sizes and kinds of values, in words.
    pub about: String,
    /// SPDX identifier of the license, or `LicenseRef-…` where there is none.
    pub license: String,
    /// What to mind beyond the identifier.
    #[serde(default)]
    pub license_note: Option<String>,
    /// Whether the license allows commercial use.
    pub commercial_use: bool,
    /// Whether the terms allow passing the files on; absent where upstream states no terms.
    #[serde(default)]
    pub redistributable: Option<bool>,
    /// How to cite it.
    pub citation: String,
    /// Pages of upstream about it.
    pub homepages: Vec<String>,
    /// Samples, of all parts.
    pub samples: u64,
    /// Classes; 0 for scored pairs, and for several tables with classes of their own.
    pub classes: u64,
    /// How the copy that the hashes were taken from compares to upstream's.
    pub fidelity: String,
    /// What the literature does with it.
    pub protocol: String,
    /// Its files; none for the set inside this crate.
    #[serde(default)]
    pub files: Vec<File>,
    /// How they are read.
    pub layout: Layout,
    /// Ways to divide it, the standard one first.
    pub splits: Vec<Split>,
}

/// What the samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Modality {
    /// Images.
    Image,
    /// Recordings.
    Audio,
    /// Rows of numbers.
    Table,
    /// Short texts.
    Text,
    /// Two texts with a score.
    TextPairs,
}

/// One file of a data set.
///
/// It is accepted if its bytes have `sha256`. An archive with `content` is also accepted if what is in it has that
/// digest, since upstream's packing may differ while what was packed is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct File {
    /// Its name in the data set's folder.
    pub name: String,
    /// Its size, where the bytes are those of `sha256`.
    pub bytes: u64,
    /// Hash of its bytes.
    pub sha256: Sha256,
    /// What `sha256` was compared with.
    pub checked: Checked,
    /// Whether samples can be read without it.
    #[serde(default)]
    pub optional: bool,
    /// Digest of what is in it.
    #[serde(default)]
    pub content: Option<Content>,
    /// Where upstream has it, in the order to be tried. Empty where upstream has nothing that would verify.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Single files of upstream that make up this archive, where upstream has no archive.
    #[serde(default)]
    pub pack: Vec<Piece>,
}

/// What a hash was compared with when it was written into the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// The same bytes have the checksum that upstream publishes (or are upstream's own, under version control).
    Upstream,
    /// A mirror of the data set: upstream publishes no checksum, or packs other bytes. `fidelity` says more.
    Mirror,
}

/// The digest of what is in an archive: see [`content`](crate::content).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The digest.
    pub digest: Sha256,
    /// What it was compared with.
    pub checked: Checked,
    /// The members it covers; without any it is all.
    #[serde(default)]
    pub members: Vec<Template>,
    /// Leading folders that are taken off a member's name before anything is done with it.
    #[serde(default)]
    pub strip: usize,
    /// Bytes that upstream's archive may have.
    pub max_bytes: u64,
}

/// A file of upstream that becomes a member of an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Name of the member.
    pub member: String,
    /// Where upstream has it.
    pub url: String,
    /// Its size.
    pub bytes: u64,
    /// Hash of its bytes.
    pub sha256: Sha256,
    /// Whether line ends at the end of the file are cut off before it is hashed and packed.
    #[serde(default)]
    pub trim_end: bool,
}

impl DataSet {
    /// The file of this name.
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|it| it.name == name)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|it| it.bytes).sum()
    }

    /// The split of this name.
    pub fn split(&self, name: &str) -> Option<&Split> {
        self.splits.iter().find(|it| it.name == name)
    }

    /// Where one of its files lies in a folder of data sets: `<data>/<name>/<file>`.
    pub fn path(&self, data: &Path, file: &File) -> PathBuf {
        data.join(&self.name).join(&file.name)
    }
}
