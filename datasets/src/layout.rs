//! How the files of a data set are laid out inside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Template;

/// The known layouts. A data set whose layout is here can be read without code of its own.
///
/// Files are named as in the data set's list of [files](crate::DataSet::files), members as in their archive. A `part` is
/// the name that upstream's own division gives to some samples: `train`, `background`, the name of a table. Splits
/// choose among parts, classes and fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Layout {
    /// The digits that are compiled into this crate: see [`digits`](crate::digits()). One part, `all`.
    Digits {},
    /// Gzipped idx files: one of images, one of labels for each part.
    Idx {
        /// The pairs of files.
        parts: Vec<IdxPart>,
    },
    /// Images as members of archives.
    Images {
        /// The archives.
        parts: Vec<ArchivePart>,
        /// Fields that name the class; several are joined by `/`.
        class: Vec<String>,
        /// Whether ink is dark on light paper, so that a reader who wants ink = 1 inverts.
        dark_ink: bool,
    },
    /// WAV recordings as members of archives.
    Wav {
        /// The archives.
        parts: Vec<ArchivePart>,
        /// Fields that name the class; several are joined by `/`.
        class: Vec<String>,
        /// Samples a second of the recordings.
        rate: u32,
    },
    /// Numbers in lines, one sample a line, its label first or last.
    Tables {
        /// The tables; each is a data set of its own, with its own columns and classes.
        tables: Vec<Table>,
    },
    /// Two texts a line, and a score of how alike they are.
    TextPairs(TextPairs),
    /// Texts with labels, a line each.
    LabeledTexts(LabeledTexts),
    /// One JSON object of lists of `[text, label]`.
    LabeledJson(LabeledJson),
}

/// An idx file of images and one of their labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdxPart {
    /// Name of the part.
    pub part: String,
    /// File of the images.
    pub images: String,
    /// File of the labels.
    pub labels: String,
}

/// The members of an archive that are samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchivePart {
    /// Name of the part.
    pub part: String,
    /// The archive.
    pub file: String,
    /// Their names; other members are not samples.
    pub members: Template,
}

/// One table of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name, by which a run file chooses it.
    pub name: String,
    /// The pieces it is in; their rows follow one another.
    pub parts: Vec<TextPart>,
    /// What stands between two columns.
    pub delimiter: Delimiter,
    /// Where the label stands.
    pub label: LabelColumn,
    /// Columns that are neither feature nor label, such as an id; counted from 0.
    #[serde(default)]
    pub skip: Vec<usize>,
    /// What is written where a value is missing.
    #[serde(default)]
    pub missing: Option<String>,
    /// Samples.
    pub samples: u64,
    /// Features of a sample.
    pub features: u64,
    /// Classes.
    pub classes: u64,
}

/// A text file, or a text member of an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPart {
    /// Name of the part.
    pub part: String,
    /// The file: plain, gzipped (`.gz`), or an archive.
    pub file: String,
    /// The member, if the file is an archive.
    #[serde(default)]
    pub member: Option<String>,
}

/// What stands between two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delimiter {
    /// One comma; spaces around a value do not count.
    Comma,
    /// One tab.
    Tab,
    /// Any number of spaces; those at the end of a line do not count.
    Spaces,
}

/// Where the label of a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelColumn {
    /// Before the features.
    First,
    /// Behind the features.
    Last,
}

/// A column, by its name in the header line or counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// Counted from 0.
    Index(usize),
    /// As in the header line.
    Name(String),
}

/// Lines of two texts and a score, separated by tabs and without quoting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPairs {
    /// The files.
    pub parts: Vec<TextPart>,
    /// Whether the first line names the columns.
    pub header: bool,
    /// The first text.
    pub first: Column,
    /// The second text.
    pub second: Column,
    /// The score.
    pub score: Column,
    /// Least and greatest score there can be.
    pub range: [f64; 2],
    /// A class of the pair, such as entailment.
    #[serde(default)]
    pub label: Option<Column>,
    /// Where the part of a row is said in the row itself; the part of the file does not count then.
    #[serde(default)]
    pub part_column: Option<PartColumn>,
}

/// A column that says to which part a row belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartColumn {
    /// The column.
    pub column: Column,
    /// Its values and the parts they stand for.
    pub values: BTreeMap<String, String>,
}

/// Lines with a text and its label, separated by tabs and without quoting, under a header line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabeledTexts {
    /// The files and their columns.
    pub parts: Vec<LabeledPart>,
    /// Where a readable name of each label is found.
    #[serde(default)]
    pub names: Option<LabeledPart>,
}

/// A file of texts with labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabeledPart {
    /// Name of the part.
    pub part: String,
    /// The archive.
    pub file: String,
    /// The member.
    pub member: String,
    /// Column of the text.
    pub text: Column,
    /// Column of the label.
    pub label: Column,
}

/// One JSON object of lists of `[text, label]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabeledJson {
    /// The archive.
    pub file: String,
    /// The member.
    pub member: String,
    /// Each part and the key of its list.
    pub parts: BTreeMap<String, String>,
    /// A member that is an object of groups of labels (group → list of labels), and the name of that field.
    #[serde(default)]
    pub groups: Option<Groups>,
    /// A label that stands for none of the classes.
    #[serde(default)]
    pub unknown_label: Option<String>,
}

/// Groups of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// The member.
    pub member: String,
    /// Name of the field that holds a label's group.
    pub field: String,
}

impl Layout {
    /// The word by which the catalogue chooses this layout.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Digits {} => "digits",
            Self::Idx { .. } => "idx",
            Self::Images { .. } => "images",
            Self::Wav { .. } => "wav",
            Self::Tables { .. } => "tables",
            Self::TextPairs(_) => "text_pairs",
            Self::LabeledTexts(_) => "labeled_texts",
            Self::LabeledJson(_) => "labeled_json",
        }
    }

    /// Names of all parts, sorted; of a table each part of it.
    pub fn parts(&self) -> Vec<&str> {
        let mut parts: Vec<&str> = match self {
            Self::Digits {} => vec!["all"],
            Self::Idx { parts } => parts.iter().map(|it| it.part.as_str()).collect(),
            Self::Images { parts, .. } | Self::Wav { parts, .. } => {
                parts.iter().map(|it| it.part.as_str()).collect()
            }
            Self::Tables { tables } => tables
                .iter()
                .flat_map(|it| &it.parts)
                .map(|it| it.part.as_str())
                .collect(),
            Self::TextPairs(pairs) => match &pairs.part_column {
                Some(column) => column.values.values().map(String::as_str).collect(),
                None => pairs.parts.iter().map(|it| it.part.as_str()).collect(),
            },
            Self::LabeledTexts(texts) => texts.parts.iter().map(|it| it.part.as_str()).collect(),
            Self::LabeledJson(json) => json.parts.keys().map(String::as_str).collect(),
        };
        parts.sort_unstable();
        parts.dedup();
        parts
    }

    /// Names of the files that are needed to read samples, sorted.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = match self {
            Self::Digits {} => vec![],
            Self::Idx { parts } => parts
                .iter()
                .flat_map(|it| [it.images.as_str(), it.labels.as_str()])
                .collect(),
            Self::Images { parts, .. } | Self::Wav { parts, .. } => {
                parts.iter().map(|it| it.file.as_str()).collect()
            }
            Self::Tables { tables } => tables
                .iter()
                .flat_map(|it| &it.parts)
                .map(|it| it.file.as_str())
                .collect(),
            Self::TextPairs(pairs) => pairs.parts.iter().map(|it| it.file.as_str()).collect(),
            Self::LabeledTexts(texts) => texts.parts.iter().map(|it| it.file.as_str()).collect(),
            Self::LabeledJson(json) => vec![json.file.as_str()],
        };
        files.sort_unstable();
        files.dedup();
        files
    }
}
