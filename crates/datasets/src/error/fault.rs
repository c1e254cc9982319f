//! What can be wrong with one file or row.

use std::fmt;

/// What is wrong with a place in a file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// A row has no label.
    EmptyLabel,
    /// A row has no text.
    EmptyText {
        /// The column.
        column: String,
    },
    /// A row has too few or too many columns.
    Columns {
        /// Columns it has.
        found: usize,
        /// Columns it should have.
        expected: usize,
    },
    /// A column that is asked for is not there.
    NoColumn {
        /// What was asked for.
        column: String,
        /// The columns there are.
        known: Vec<String>,
    },
    /// A cell is not a number.
    NotANumber {
        /// The column.
        column: String,
        /// What it holds.
        text: String,
    },
    /// A cell is NaN or infinite.
    NotFinite {
        /// The column.
        column: String,
        /// What it holds.
        text: String,
    },
    /// A cell is neither yes nor no.
    NotAFlag {
        /// The column.
        column: String,
        /// What it holds.
        text: String,
    },
    /// A score is out of its range.
    Score {
        /// The score.
        score: f64,
        /// The least there can be.
        low: f64,
        /// The greatest there can be.
        high: f64,
    },
    /// A target is NaN or infinite.
    NoTarget {
        /// The column.
        column: String,
        /// What it holds.
        text: String,
    },
    /// A row does not say its domain.
    NoDomain {
        /// The column.
        column: String,
    },
    /// There are not two domains.
    Domains {
        /// Those there are.
        found: Vec<String>,
    },
    /// An image has no mask.
    NoMask {
        /// Where it should be.
        folder: String,
    },
    /// A label is in the set of one sample only.
    LoneLabel {
        /// The label.
        label: String,
    },
    /// All samples have one target.
    OneTarget,
    /// A class is in one of two domains only.
    OneDomain {
        /// The class.
        class: String,
    },
    /// A mask shows no instance.
    EmptyMask,
    /// A split is named that is not known.
    Split {
        /// The name.
        text: String,
    },
    /// Bytes are not UTF-8.
    NotUtf8,
    /// A line is not a JSON object of plain values.
    Json {
        /// What the reader says.
        message: String,
    },
    /// There are no samples.
    Empty {
        /// What was looked for.
        wanted: &'static str,
    },
    /// A file has more rows or bytes than are read.
    TooLarge {
        /// What it has.
        found: u64,
        /// What is allowed.
        limit: u64,
        /// Of what: `bytes`, `rows`.
        unit: &'static str,
    },
    /// A file that is listed is not there.
    NoFile {
        /// The file, as it is listed.
        file: String,
    },
    /// An image is larger than the limits.
    ImageTooLarge {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// The longest side allowed.
        side: u32,
        /// The bytes of pixels allowed.
        bytes: u64,
    },
    /// An image has another size than the others.
    ImageSize {
        /// Width and height.
        found: [usize; 2],
        /// Width and height of the others.
        expected: [usize; 2],
    },
    /// A box does not lie in its image.
    Box {
        /// Left, top, right, bottom.
        corners: [f64; 4],
        /// Width and height of the image.
        image: [u32; 2],
    },
    /// An idx file that is not what its header says.
    Idx(IdxFault),
    /// A file of a sound that cannot be used.
    Sound(SoundFault),
    /// A sentence in CoNLL-U that cannot be used.
    Conllu(ConlluFault),
    /// A cell names no sentence of the file of parses.
    NoSentence {
        /// The column.
        column: String,
        /// What it holds.
        text: String,
    },
    /// The name of a file is not UTF-8, so it is shown with escapes.
    Name,
    /// A file can be decoded, but not be used.
    Unknown {
        /// What it is.
        what: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A class has one sample, so nothing is positive to it.
    LoneClass {
        /// The class.
        class: String,
    },
    /// A class is in two parts that should share none.
    SharedClass {
        /// The class.
        class: String,
        /// The part that should not have it.
        part: String,
        /// Whether the settings say that classes are held out; else it is the custom of such data.
        required: bool,
    },
    /// Two files have the same pixels or frames.
    Duplicate {
        /// What is the same: `pixels`, `frames`.
        what: &'static str,
        /// The one that was seen first.
        of: String,
        /// Whether the two are in different classes or parts.
        conflict: Option<String>,
    },
    /// A column has one value only.
    Constant {
        /// The column.
        column: String,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyLabel => {
                f.write_str("the label is empty; give every row a label, or drop the row")
            }
            Self::EmptyText { column } => write!(
                f,
                "the text in `{column}` has no words; fill it in, or drop the row"
            ),
            Self::Columns { found, expected } => write!(
                f,
                "there are {found} columns, not {expected}; look for a delimiter or a quote that is missing or too many"
            ),
            Self::NoColumn { column, known } => {
                write!(f, "there is no column `{column}`; ")?;
                match crate::names::nearest(column, known.iter().map(String::as_str)) {
                    Some(nearest) => write!(f, "did you mean `{nearest}`?"),
                    None => write!(f, "there are `{}`", known.join("`, `")),
                }
            }
            Self::NotANumber { column, text } => {
                write!(f, "`{column}` holds `{text}`, which is not a number")
            }
            Self::NotFinite { column, text } => write!(
                f,
                "`{column}` holds `{text}`; fill in a number, drop the row, or say `missing = \"{text}\"` to have the \
                 mean of the column instead"
            ),
            Self::NotAFlag { column, text } => write!(
                f,
                "`{column}` holds `{text}`; `1`, `true` or `yes`, or `0`, `false` or `no` are right"
            ),
            Self::Score { score, low, high } => {
                write!(f, "the score {score} is not between {low} and {high}")
            }
            Self::NoTarget { column, text } => write!(
                f,
                "the target in `{column}` is `{text}`; give every row a finite number, or drop the row"
            ),
            Self::NoDomain { column } => write!(
                f,
                "the domain in `{column}` is empty; give every row one, or drop the row"
            ),
            Self::Domains { found } => write!(
                f,
                "two domains are wanted in the column `domain`, but there are {}: `{}`; keep the rows of two",
                found.len(),
                found.join("`, `")
            ),
            Self::NoMask { folder } => write!(
                f,
                "there is no mask of this name in {folder}; add one, or drop the image"
            ),
            Self::LoneLabel { label } => write!(
                f,
                "label `{label}` is in one sample's set only, so nothing shares it; add samples, or drop the label"
            ),
            Self::OneTarget => {
                f.write_str("all targets are the same number, so there is nothing to learn; look at the column")
            }
            Self::OneDomain { class } => write!(
                f,
                "class `{class}` is in one of the two domains only, and is not trained on; add samples of the other, or drop it"
            ),
            Self::EmptyMask => f.write_str(
                "the mask shows no instance (all of it is 0); mark the instances, or drop the image",
            ),
            Self::Split { text } => write!(
                f,
                "the split is `{text}`; `train`, `validation` and `test` are known"
            ),
            Self::NotUtf8 => f.write_str("there are bytes that are not UTF-8; convert the file"),
            Self::Json { message } => write!(
                f,
                "not a JSON object of texts and numbers, one a line ({message})"
            ),
            Self::Empty { wanted } => write!(f, "there are no {wanted}"),
            Self::TooLarge { found, limit, unit } => {
                write!(f, "there are {found} {unit}; {limit} are read at most")
            }
            Self::NoFile { file } => write!(
                f,
                "`{file}` is not there; paths are relative to the folder of the list, or to `folder` where it is set"
            ),
            Self::ImageTooLarge {
                width,
                height,
                side,
                bytes,
            } => write!(
                f,
                "the image is {width} by {height}; sides up to {side} and {bytes} bytes of pixels are decoded"
            ),
            Self::ImageSize { found, expected } => write!(
                f,
                "the image is {} by {}, others are {} by {}; set `size` to have all resized",
                found[0], found[1], expected[0], expected[1]
            ),
            Self::Box { corners, image } => write!(
                f,
                "the box from ({}, {}) to ({}, {}) does not lie in the image of {} by {}",
                corners[0], corners[1], corners[2], corners[3], image[0], image[1]
            ),
            Self::Idx(fault) => fault.fmt(f),
            Self::Sound(fault) => fault.fmt(f),
            Self::Conllu(fault) => fault.fmt(f),
            Self::NoSentence { column, text } => write!(
                f,
                "`{column}` holds `{text}`, which is neither the `sent_id` nor the `text` of a sentence among the parses; parse it, or \
                 drop the row"
            ),
            Self::Name => f.write_str(
                "the name is not plain UTF-8, so it is shown with escapes such as %FF; rename the file",
            ),
            Self::Unknown { what, expected } => write!(f, "{what}; {expected}"),
            Self::LoneClass { class } => write!(
                f,
                "class `{class}` has one sample, so nothing is positive to it; add samples, or drop the class"
            ),
            Self::SharedClass { class, part, .. } => write!(
                f,
                "class `{class}` is in the training part and in `{part}`, which should share none; drop it from one of them"
            ),
            Self::Duplicate { what, of, conflict } => {
                write!(f, "the {what} are those of {of}")?;
                match conflict {
                    Some(conflict) => write!(f, ", {conflict}; drop one of them"),
                    None => f.write_str("; drop one of them"),
                }
            }
            Self::Constant { column } => write!(
                f,
                "column `{column}` has one value only and says nothing; `skip` it"
            ),
        }
    }
}

/// What is wrong with an idx file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdxFault {
    /// It ends within its header.
    Header,
    /// It does not begin with two zero bytes, the type byte 8 and the number of dimensions.
    Magic([u8; 4]),
    /// It has another number of dimensions.
    Dimensions {
        /// Those it has.
        found: u8,
        /// Those it should have.
        expected: u8,
    },
    /// Its header claims another number of bytes than follow.
    Length {
        /// Bytes that follow.
        found: u64,
        /// Bytes that the header claims.
        claimed: u128,
    },
    /// It has another number of labels than there are images.
    Labels {
        /// Labels.
        labels: u64,
        /// Images.
        images: u64,
    },
}

impl fmt::Display for IdxFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the file ends within its header"),
            Self::Magic(found) => write!(
                f,
                "the file begins with {found:02x?}; an idx file of bytes begins with [00, 00, 08] and its dimensions"
            ),
            Self::Dimensions { found, expected } => {
                write!(f, "the file has {found} dimensions, not {expected}")
            }
            Self::Length { found, claimed } => write!(
                f,
                "{found} bytes follow the header, which claims {claimed}; fetch the file again"
            ),
            Self::Labels { labels, images } => {
                write!(f, "there are {labels} labels for {images} images")
            }
        }
    }
}

/// What is wrong with a file of a sound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SoundFault {
    /// It is no sound of a known kind.
    Unknown,
    /// It is of a kind that this build does not read.
    Feature,
    /// It ends within its header, or the header is none.
    Header,
    /// Its samples are written in a way that is not read.
    Format {
        /// The number of the format in a WAV file.
        tag: u16,
        /// Bits of a sample.
        bits: u16,
    },
    /// It has fewer samples than its header claims.
    Truncated {
        /// Samples of a channel that the header claims.
        claimed: u64,
        /// Samples of a channel that are there.
        found: u64,
    },
    /// It has no channel, or more than are believed.
    Channels {
        /// Those it has.
        found: u16,
    },
    /// Its rate is not one of sounds.
    Rate {
        /// Samples a second.
        found: u32,
    },
    /// It has no samples.
    Silent,
    /// A sample is NaN or infinite.
    NotFinite {
        /// Which, counted from 0.
        at: u64,
    },
    /// It cannot be decoded.
    Damaged {
        /// What the decoder says.
        message: String,
    },
}

impl fmt::Display for SoundFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str(
                "not a sound of a known kind; WAV is read, and FLAC, MP3 and Ogg Vorbis with the feature `audio`",
            ),
            Self::Feature => f.write_str(
                "FLAC, MP3 and Ogg Vorbis are read by builds with the feature `audio` (`cargo build --features audio`); \
                 build with it, or convert the file to WAV",
            ),
            Self::Header => f.write_str(
                "the file ends within its header, or has none that can be read; fetch or convert it again",
            ),
            Self::Format { tag, bits } => write!(
                f,
                "samples are in the format {tag} with {bits} bits; PCM (1) of 8, 16, 24 and 32 bits and floating point (3) \
                 of 32 and 64 bits are read, without gaps between samples; convert the file"
            ),
            Self::Truncated { claimed, found } => write!(
                f,
                "the header claims {claimed} samples, the file has {found}; fetch or record it again"
            ),
            Self::Channels { found } => {
                write!(f, "there are {found} channels; from 1 to 64 are read")
            }
            Self::Rate { found } => write!(
                f,
                "the rate is {found}; from 1,000 to 768,000 samples a second are read"
            ),
            Self::Silent => f.write_str("there are no samples; drop the file"),
            Self::NotFinite { at } => write!(
                f,
                "sample {at} is NaN or infinite; record or convert the file again"
            ),
            Self::Damaged { message } => {
                write!(f, "it cannot be decoded ({message}); fetch or convert it again")
            }
        }
    }
}

/// What is wrong with a sentence in CoNLL-U.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConlluFault {
    /// A line has not ten columns.
    Columns {
        /// Those it has.
        found: usize,
    },
    /// A word has not the number that is next.
    Id {
        /// The one it has.
        found: String,
        /// The one that is next.
        expected: u32,
    },
    /// A line has no word.
    Form,
    /// A head is no number.
    Head {
        /// What stands there.
        text: String,
    },
    /// A head is not in the sentence.
    NoHead {
        /// The head.
        head: u32,
        /// Words of the sentence.
        words: u32,
    },
    /// Heads lead in a circle.
    NoTree {
        /// Which word's.
        message: String,
    },
    /// There are comments alone.
    NoWords,
    /// Two sentences have one name.
    Twice {
        /// The name.
        id: String,
    },
}

impl fmt::Display for ConlluFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Columns { found } => write!(
                f,
                "there are {found} columns, not the 10 of CoNLL-U; they have tabs between them"
            ),
            Self::Id { found, expected } => write!(
                f,
                "the word's number is `{found}`, and {expected} is next; words are counted from 1 in each sentence"
            ),
            Self::Form => f.write_str("there is no word in the second column"),
            Self::Head { text } => write!(
                f,
                "the head is `{text}`; the number of a word, or 0 for a root, is right"
            ),
            Self::NoHead { head, words } => write!(
                f,
                "the head is word {head}, and the sentence has {words}; look for a line that is missing"
            ),
            Self::NoTree { message } => {
                write!(f, "{message}; heads must lead to a root, whose head is 0")
            }
            Self::NoWords => f.write_str("the sentence has no words; drop its comments"),
            Self::Twice { id } => write!(
                f,
                "`{id}` is the `sent_id` of two sentences; give each its own"
            ),
        }
    }
}
