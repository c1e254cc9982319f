//! The settings of each kind of data.

use std::path::PathBuf;

use nearfar_catalogue::Column;
use nearfar_core::{Fraction, Positive};
use serde::{Deserialize, Serialize};

use super::own::SaidSettings;
use crate::{
    Color, LineFormat, LogMel, Size, TextUnit,
    data::Words,
    split::{ClassName, HoldOut, Wishes},
};

/// A table of settings with its defaults. What several kinds of data have alike is said once here, and added by name: `with images
/// held_out` puts those settings behind the table's own, in this order.
macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($own:tt)* } with said $($more:ident)*) => {
        settings! {
            $(#[$doc])*
            $name {
                $($own)*
                /// Column of a real target, such as an age, in place of the label.
                target: Option<Column> = None,
                /// Column of several labels, in place of one.
                labels: Option<Column> = None,
                /// What stands between the labels of that column.
                separator: String = ";".into(),
                /// Column that says of which of two domains a sample is, beside its label.
                domain: Option<Column> = None,
            } with $($more)*
        }

        impl $name {
            /// What columns say of samples beside a label, or in place of one.
            pub(super) fn said(&self) -> SaidSettings<'_> {
                SaidSettings {
                    target: self.target.as_ref(),
                    labels: self.labels.as_ref(),
                    separator: &self.separator,
                    domain: self.domain.as_ref(),
                }
            }
        }
    };
    ($(#[$doc:meta])* $name:ident { $($own:tt)* } with images $($more:ident)*) => {
        settings! {
            $(#[$doc])*
            $name {
                $($own)*
                /// Height and width, or one side, to which images are resized by area; where nothing is said all must have one size.
                size: Option<Size> = None,
                /// `gray` or `rgb`; where nothing is said as the first image is.
                color: Option<Color> = None,
                /// Whether ink is dark on light paper, so that images are inverted to ink = 1.
                dark_ink: bool = false,
            } with $($more)*
        }
    };
    ($(#[$doc:meta])* $name:ident { $($own:tt)* } with sounds $($more:ident)*) => {
        settings! {
            $(#[$doc])*
            $name {
                $($own)*
                /// How sounds become frames.
                log_mel: LogMel = LogMel::default(),
                /// Seconds of a sound at most; the rest is cut off.
                seconds: Positive = SECONDS,
            } with $($more)*
        }
    };
    ($(#[$doc:meta])* $name:ident { $($own:tt)* } with texts $($more:ident)*) => {
        settings! {
            $(#[$doc])*
            $name {
                $($own)*
                /// What has a number: `"words"` or `"characters"`; what is said of words below then is of characters.
                unit: TextUnit = TextUnit::Words,
                /// How often a word must occur in the training texts to have a number.
                min_count: u64 = 1,
                /// Words that have a number, the most frequent first; all where nothing is said.
                most_words: Option<usize> = None,
                /// A `tokenizer.json` of Hugging Face that makes tokens of texts, in place of words: see [`Tokenizer`](crate::Tokenizer).
                tokenizer: Option<PathBuf> = None,
                /// Words of a text at most, or tokens with the special ones; the rest is cut off.
                length: usize = LENGTH,
            } with $($more)*
        }

        impl $name {
            /// What is done with words.
            pub(super) fn words(&self) -> Words {
                Words {
                    unit: self.unit,
                    min_count: self.min_count,
                    most: self.most_words,
                    length: self.length,
                    tokenizer: self.tokenizer.clone(),
                    parses: None,
                }
            }
        }
    };
    ($(#[$doc:meta])* $name:ident { $($own:tt)* } with held_out $($more:ident)*) => {
        settings! {
            $(#[$doc])*
            $name {
                $($own)*
                /// Part that is held out as `test`; 0.2 where nothing is said and the data name no parts.
                test: Option<Fraction> = None,
                /// What is held out: `samples` of each class, or whole `classes`.
                hold_out: HoldOut = HoldOut::Samples,
            } with $($more)*
        }
    };
    ($(#[$doc:meta])* $name:ident { $($own:tt)* } with classes) => {
        settings! {
            $(#[$doc])*
            $name {
                $($own)*
                /// Classes to train on, by name or number; all where nothing is said.
                classes: Option<Vec<ClassName>> = None,
                /// Classes to test on; `classes` where nothing is said.
                test_classes: Option<Vec<ClassName>> = None,
                /// Classes that are taken out of all other parts and make a part `unseen`, with all their samples.
                unseen: Option<Vec<ClassName>> = None,
                /// Part of each class of the training part that is put aside as `validation`.
                validation: Option<Fraction> = None,
                /// Part of the classes of the training part, the last by name, that is put aside as `validation`.
                validation_classes: Option<Fraction> = None,
                /// Samples of each class to train on at most.
                per_class: Option<usize> = None,
            } with
        }

        impl $name {
            pub(super) fn wishes(&self) -> Wishes<'_> {
                Wishes {
                    classes: self.classes.as_deref(),
                    test_classes: self.test_classes.as_deref(),
                    unseen: self.unseen.as_deref().unwrap_or_default(),
                    validation: self.validation,
                    validation_classes: self.validation_classes,
                    per_class: self.per_class,
                    by_class: true,
                }
            }
        }
    };
    ($(#[$doc:meta])* $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)*
    } $(with)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

settings! {
    /// Images of the catalogue.
    ImageSet {
        /// One of the set's splits; its standard one where nothing is said.
        split: Option<String> = None,
        /// Height and width, or one side, to which images are resized by area; their own where nothing is said.
        size: Option<Size> = None,
    } with classes
}

settings! {
    /// Labeled texts of the catalogue.
    TextSet {
        /// One of the set's splits; its standard one where nothing is said.
        split: Option<String> = None,
    } with texts classes
}

settings! {
    /// Tables of numbers of the catalogue.
    TableSet {
        /// Which table, where the set has several.
        name: Option<String> = None,
        /// One of the set's splits; its standard one where nothing is said.
        split: Option<String> = None,
        /// Whether each feature has its training mean taken and is divided by its training deviation.
        standardize: bool = true,
    } with classes
}

settings! {
    /// Sounds of the catalogue.
    SoundSet {
        /// One of the set's splits; its standard one where nothing is said.
        split: Option<String> = None,
        /// What the names of recordings say that makes a class; of several, each combination is one.
        class: Option<Vec<String>> = None,
        /// How sounds become frames.
        log_mel: Option<LogMel> = None,
        /// Seconds of a sound at most; the rest is cut off.
        seconds: Positive = SECONDS,
    } with classes
}

settings! {
    /// Scored pairs of texts of the catalogue.
    PairSet {
        /// One of the set's splits; its standard one where nothing is said.
        split: Option<String> = None,
        /// Part of the training pairs that is put aside as `validation`, where the split has none.
        validation: Option<Fraction> = None,
    } with texts
}

settings! {
    /// Invented characters: see [`Glyphs`](crate::Glyphs). What is tested are classes that are never trained on, as with
    /// Omniglot.
    GlyphSet {
        /// Classes to train on.
        classes: usize = 100,
        /// More classes, to test on.
        test_classes: usize = 50,
        /// Drawings of each class.
        samples: usize = 20,
        /// Which characters: the same for all runs with this number, whatever their own seed.
        seed: u64 = 0,
        /// Side of the images.
        size: usize = 28,
        /// Whether every second drawing of a class is light on dark, as a second domain.
        domains: bool = false,
        /// Part of each class of the training part that is put aside as `validation`.
        validation: Option<Fraction> = None,
        /// Part of the classes of the training part, the last by name, that is put aside as `validation`.
        validation_classes: Option<Fraction> = None,
    }
}

settings! {
    /// Invented scenes, with the shape that each pixel is of: see [`Scenes`](crate::Scenes).
    SceneSet {
        /// Scenes to train on.
        scenes: usize = 500,
        /// More scenes, to test on.
        test_scenes: usize = 100,
        /// Shapes of a scene at most, at least 2.
        shapes: usize = 4,
        /// Which scenes: the same for all runs with this number, whatever their own seed.
        seed: u64 = 0,
        /// Side of the images.
        size: usize = 32,
        /// Part of the training scenes that is put aside as `validation`.
        validation: Option<Fraction> = None,
    }
}

settings! {
    /// A folder of images and their masks: `path/images/1.png` and `path/masks/1.png`, of one name and one size. In a mask black is
    /// the background, and each other gray or color an instance of its own.
    MaskSet {
        /// The folder.
        path: PathBuf = PathBuf::new(),
        /// Height and width, or one side, to which images are resized by area and masks by the nearest pixel; where nothing is said
        /// all must have one size.
        size: Option<Size> = None,
        /// `gray` or `rgb`; where nothing is said as the first image is.
        color: Option<Color> = None,
        /// Whether ink is dark on light paper, so that images are inverted to ink = 1.
        dark_ink: bool = false,
        /// Part of the images that is held out as `test`; 0.2 where nothing is said.
        test: Option<Fraction> = None,
        /// Part of the training images that is put aside as `validation`.
        validation: Option<Fraction> = None,
    }
}

/// As what generated solids are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenAs {
    /// As voxels, for networks over volumes.
    Volumes,
    /// As pictures from all around.
    Views,
    /// As sets of points in them.
    Points,
}

settings! {
    /// Invented solids, turned at random: see [`Solids`](crate::Solids). What is tested are classes that are never trained on.
    SolidSet {
        /// `volumes`, `views` or `points`.
        seen: SeenAs = SeenAs::Volumes,
        /// Classes to train on.
        classes: usize = 40,
        /// More classes, to test on.
        test_classes: usize = 20,
        /// Solids of each class.
        samples: usize = 20,
        /// Which solids: the same for all runs with this number, whatever their own seed.
        seed: u64 = 0,
        /// Side of the volumes and of the views.
        size: usize = 16,
        /// Views of each solid.
        views: usize = 6,
        /// Points of a set at most; each has half of them at least.
        points: usize = 128,
        /// Part of each class of the training part that is put aside as `validation`.
        validation: Option<Fraction> = None,
        /// Part of the classes of the training part, the last by name, that is put aside as `validation`.
        validation_classes: Option<Fraction> = None,
    }
}

settings! {
    /// A folder of class folders with volumes, each an array in a file of NumPy: `path/cup/1.npy`, or `path/train/cup/1.npy` with `train`,
    /// `validation` and `test`. An array has the shape (depth, height, width), or (channels, depth, height, width); all have one shape.
    /// Numbers are taken as they are: 0 and 1 for voxels are best.
    VolumeFolder {
        /// The folder.
        path: PathBuf = PathBuf::new(),
    } with held_out classes
}

settings! {
    /// A folder of class folders with sets of points, each an array in a file of NumPy: `path/cup/1.npy`, or `path/train/cup/1.npy`. An
    /// array has the shape (points, numbers of a point); sets may have different sizes, and their order should not count.
    PointFolder {
        /// The folder.
        path: PathBuf = PathBuf::new(),
        /// Points of a set at most; of larger sets the first are taken.
        most: usize = 1024,
    } with held_out classes
}

settings! {
    /// A folder of class folders with things, each a folder of views of it: `path/cup/1/a.png`, or `path/train/cup/1/a.png` with `train`,
    /// `validation` and `test`. Each thing has as many views as the others.
    ViewFolder {
        /// The folder.
        path: PathBuf = PathBuf::new(),
        /// Views of each thing; as many as of the first where nothing is said.
        views: Option<usize> = None,
    } with images held_out classes
}

settings! {
    /// A folder of class folders with images: `path/cat/1.png`, or `path/train/cat/1.png` with `train`, `validation` and
    /// `test`.
    Folder {
        /// The folder.
        path: PathBuf = PathBuf::new(),
    } with images held_out classes
}

settings! {
    /// A CSV file that lists images: columns `path` and `label`; if it has them `split` (`train`, `validation`, `test`),
    /// `is_query`, `is_gallery`, `sequence`, and `x_1`, `y_1`, `x_2`, `y_2` for a box. Other columns, such as `category`, do
    /// not count.
    ImagesCsv {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// What paths in the file are relative to; the folder of the file where nothing is said.
        folder: Option<PathBuf> = None,
    } with said images held_out classes
}

settings! {
    /// A folder of class folders with sounds (WAV; FLAC, MP3 and Ogg Vorbis with the feature `audio`): `path/cat/1.wav`, or
    /// `path/train/cat/1.wav` with `train`, `validation` and `test`.
    SoundFolder {
        /// The folder.
        path: PathBuf = PathBuf::new(),
    } with sounds held_out classes
}

settings! {
    /// A CSV file that lists sounds: columns `path` and one of the label; if it has them `split` (`train`, `validation`, `test`),
    /// `is_query`, `is_gallery` and `sequence`. Other columns do not count.
    SoundsCsv {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// What paths in the file are relative to; the folder of the file where nothing is said.
        folder: Option<PathBuf> = None,
        /// Column of the label, such as the speaker, by its name or counted from 0.
        label: Column = Column::Name("label".into()),
    } with said sounds held_out classes
}

settings! {
    /// A file of rows of numbers with a label.
    TableFile {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// Column of the label, by its name or counted from 0.
        label: Column = Column::Name("label".into()),
        /// Columns of the features; all others where nothing is said.
        features: Option<Vec<Column>> = None,
        /// Columns that are no features.
        skip: Vec<Column> = Vec::new(),
        /// Column that says `train`, `validation` or `test`.
        split: Option<Column> = None,
        /// The text in a cell that has no value; it becomes the mean of its column.
        missing: Option<String> = None,
        /// How the file is written; as its name ends where nothing is said.
        format: Option<LineFormat> = None,
        /// Whether the first line names the columns.
        header: bool = true,
        /// Whether each feature has its training mean taken and is divided by its training deviation.
        standardize: bool = true,
    } with said held_out classes
}

settings! {
    /// A file of texts with labels.
    TextsFile {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// Column of the text, by its name or counted from 0.
        text: Column = Column::Name("text".into()),
        /// Column of the label.
        label: Column = Column::Name("label".into()),
        /// Column that says `train`, `validation` or `test`.
        split: Option<Column> = None,
        /// How the file is written; as its name ends where nothing is said.
        format: Option<LineFormat> = None,
        /// Whether the first line names the columns.
        header: bool = true,
        /// Parses of the texts: the column then holds what their sentences are called in that file.
        parses: Option<Parses> = None,
    } with said texts held_out classes
}

settings! {
    /// A file of pairs of texts, with a score or with a label that says whether they belong together.
    PairsFile {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// Column of the first text, by its name or counted from 0.
        left: Column = Column::Name("left".into()),
        /// Column of the second text.
        right: Column = Column::Name("right".into()),
        /// Column of the score. Of `score` and `label` there is one.
        score: Option<Column> = None,
        /// Column of the label: `1`, `true` or `yes`, or `0`, `false` or `no`.
        label: Option<Column> = None,
        /// Least and greatest score there can be.
        range: Option<[f64; 2]> = None,
        /// Column that says `train`, `validation` or `test`.
        split: Option<Column> = None,
        /// How the file is written; as its name ends where nothing is said.
        format: Option<LineFormat> = None,
        /// Whether the first line names the columns.
        header: bool = true,
        /// Parses of the texts: the columns then hold what their sentences are called in that file.
        parses: Option<Parses> = None,
        /// Part of the pairs that is held out as `test`; 0.2 where nothing is said and the data name no parts.
        test: Option<Fraction> = None,
        /// Part of the training pairs that is put aside as `validation`.
        validation: Option<Fraction> = None,
    } with texts
}

settings! {
    /// Sentences whose words depend on one another as a parser found, in CoNLL-U (<https://universaldependencies.org/format.html>), which
    /// parsers write. A cell of the data names a sentence by its `sent_id`, or else by its `text`: both stand in comments above the
    /// words. Words are the forms of the file in lower case, punctuation among them.
    ///
    /// ```toml
    /// [data.pairs]
    /// path = "pairs.csv"
    /// score = "score"
    /// parses = { path = "sentences.conllu" }
    /// ```
    Parses {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// By which relations to a root a word is of the basic part of its sentence, together with the root: subjects and objects, as
        /// Universal Dependencies and Stanford's dependencies call them. Of `nsubj:pass` the relation is `nsubj`.
        basic: Vec<String> = [
            "nsubj", "csubj", "obj", "iobj", "nsubjpass", "csubjpass", "dobj",
        ].map(str::to_owned).to_vec(),
    }
}

settings! {
    /// A file of rows that each have two things of different kinds which belong together: a text and an image, a text and a sound, a sound
    /// and an image. A batch has two inputs, one of each kind, for two `[[towers]]`; in scores the first ask and the second are searched.
    ///
    /// ```toml
    /// [data.two_kinds]
    /// path = "list.csv"
    /// first.text = { column = "caption" }
    /// second.image = { column = "path", size = 28, color = "gray" }
    /// ```
    ///
    /// Without a `label` the two of a row belong together and no others; with one all of a class do. Both of a row are always in one part.
    TwoKindsFile {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// What paths in the file are relative to; the folder of the file where nothing is said.
        folder: Option<PathBuf> = None,
        /// What asks: `text`, `image` or `sound`, and the column it is in.
        first: Branch = Branch::Text(TextBranch::default()),
        /// What is searched.
        second: Branch = Branch::Image(ImageBranch::default()),
        /// Column of the class, by its name or counted from 0; each row is its own where nothing is said.
        label: Option<Column> = None,
        /// Column that says `train`, `validation` or `test`.
        split: Option<Column> = None,
        /// How the file is written; as its name ends where nothing is said.
        format: Option<LineFormat> = None,
        /// Part of the rows that is held out as `test`; 0.2 where nothing is said and the data name no parts.
        test: Option<Fraction> = None,
        /// Part of the training rows that is put aside as `validation`.
        validation: Option<Fraction> = None,
        /// What is held out: `samples` of each class, or whole `classes`. Without a `label` it is rows.
        hold_out: HoldOut = HoldOut::Samples,
    }
}

/// One of two kinds of things in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// Texts in a column.
    Text(TextBranch),
    /// Images whose paths are in a column.
    Image(ImageBranch),
    /// Sounds whose paths are in a column.
    Sound(SoundBranch),
}

settings! {
    /// Texts of one column.
    TextBranch {
        /// The column, by its name or counted from 0.
        column: Column = Column::Name("text".into()),
    } with texts
}

settings! {
    /// Images whose paths are in one column.
    ImageBranch {
        /// The column, by its name or counted from 0.
        column: Column = Column::Name("image".into()),
    } with images
}

settings! {
    /// Sounds whose paths are in one column.
    SoundBranch {
        /// The column, by its name or counted from 0.
        column: Column = Column::Name("sound".into()),
    } with sounds
}

/// Words of a text at most, where nothing is said.
pub(super) const LENGTH: usize = 128;
/// Seconds of a sound at most, where nothing is said.
pub(super) const SECONDS: Positive = Positive::literal(10.0);
