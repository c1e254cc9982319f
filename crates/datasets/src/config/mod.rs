//! Data as a run file names them.

use std::path::{Path, PathBuf};

use nearfar_catalogue::Column;
use nearfar_core::{Fraction, Positive, Seed};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    Color, Data, Error, Limits, LineFormat, LogMel, Preparation, Size,
    data::assemble,
    error::{Sink, Strict},
    split::{ClassName, HoldOut, Wishes},
};

mod catalogued;
mod own;

/// A table of settings with its defaults.
macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
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

/// The same, with what all data with classes have.
macro_rules! settings_with_classes {
    ($(#[$doc:meta])* $name:ident { $($rest:tt)* }) => {
        settings! {
            $(#[$doc])*
            $name {
                $($rest)*
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
            }
        }

        impl $name {
            fn wishes(&self) -> Wishes<'_> {
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
}

settings_with_classes! {
    /// Images of the catalogue.
    ImageSet {
        /// One of the set's splits; its standard one where nothing is said.
        split: Option<String> = None,
        /// Height and width, or one side, to which images are resized by area; their own where nothing is said.
        size: Option<Size> = None,
    }
}

settings_with_classes! {
    /// Labeled texts of the catalogue.
    TextSet {
        /// One of the set's splits; its standard one where nothing is said.
        split: Option<String> = None,
        /// How often a word must occur in the training texts to have a number.
        min_count: u64 = 1,
        /// Words that have a number, the most frequent first; all where nothing is said.
        most_words: Option<usize> = None,
        /// Words of a text at most; the rest is cut off.
        length: usize = LENGTH,
    }
}

settings_with_classes! {
    /// Tables of numbers of the catalogue.
    TableSet {
        /// Which table, where the set has several.
        name: Option<String> = None,
        /// One of the set's splits; its standard one where nothing is said.
        split: Option<String> = None,
        /// Whether each feature has its training mean taken and is divided by its training deviation.
        standardize: bool = true,
    }
}

settings_with_classes! {
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
    }
}

settings! {
    /// Scored pairs of texts of the catalogue.
    PairSet {
        /// One of the set's splits; its standard one where nothing is said.
        split: Option<String> = None,
        /// Part of the training pairs that is put aside as `validation`, where the split has none.
        validation: Option<Fraction> = None,
        /// How often a word must occur in the training texts to have a number.
        min_count: u64 = 1,
        /// Words that have a number, the most frequent first; all where nothing is said.
        most_words: Option<usize> = None,
        /// Words of a text at most; the rest is cut off.
        length: usize = LENGTH,
    }
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

settings_with_classes! {
    /// A folder of class folders with images: `path/cat/1.png`, or `path/train/cat/1.png` with `train`, `validation` and
    /// `test`.
    Folder {
        /// The folder.
        path: PathBuf = PathBuf::new(),
        /// Height and width, or one side, to which images are resized by area; where nothing is said all must have one size.
        size: Option<Size> = None,
        /// `gray` or `rgb`; where nothing is said as the first image is.
        color: Option<Color> = None,
        /// Whether ink is dark on light paper, so that images are inverted to ink = 1.
        dark_ink: bool = false,
        /// Part that is held out as `test`; 0.2 where nothing is said and the data name no parts.
        test: Option<Fraction> = None,
        /// What is held out: `samples` of each class, or whole `classes`.
        hold_out: HoldOut = HoldOut::Samples,
    }
}

settings_with_classes! {
    /// A CSV file that lists images: columns `path` and `label`; if it has them `split` (`train`, `validation`, `test`),
    /// `is_query`, `is_gallery`, `sequence`, and `x_1`, `y_1`, `x_2`, `y_2` for a box. Other columns, such as `category`, do
    /// not count.
    ImagesCsv {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// What paths in the file are relative to; the folder of the file where nothing is said.
        folder: Option<PathBuf> = None,
        /// Column of a real target, such as an age, in place of the label.
        target: Option<Column> = None,
        /// Column of several labels, in place of one.
        labels: Option<Column> = None,
        /// What stands between the labels of that column.
        separator: String = ";".into(),
        /// Column that says of which of two domains a sample is, beside its label.
        domain: Option<Column> = None,
        /// Height and width, or one side, to which images are resized by area; where nothing is said all must have one size.
        size: Option<Size> = None,
        /// `gray` or `rgb`; where nothing is said as the first image is.
        color: Option<Color> = None,
        /// Whether ink is dark on light paper, so that images are inverted to ink = 1.
        dark_ink: bool = false,
        /// Part that is held out as `test`; 0.2 where nothing is said and the data name no parts.
        test: Option<Fraction> = None,
        /// What is held out: `samples` of each class, or whole `classes`.
        hold_out: HoldOut = HoldOut::Samples,
    }
}

settings_with_classes! {
    /// A folder of class folders with sounds (WAV; FLAC, MP3 and Ogg Vorbis with the feature `audio`): `path/cat/1.wav`, or
    /// `path/train/cat/1.wav` with `train`, `validation` and `test`.
    SoundFolder {
        /// The folder.
        path: PathBuf = PathBuf::new(),
        /// How sounds become frames.
        log_mel: LogMel = LogMel::default(),
        /// Seconds of a sound at most; the rest is cut off.
        seconds: Positive = SECONDS,
        /// Part that is held out as `test`; 0.2 where nothing is said and the data name no parts.
        test: Option<Fraction> = None,
        /// What is held out: `samples` of each class, or whole `classes`.
        hold_out: HoldOut = HoldOut::Samples,
    }
}

settings_with_classes! {
    /// A CSV file that lists sounds: columns `path` and one of the label; if it has them `split` (`train`, `validation`, `test`),
    /// `is_query`, `is_gallery` and `sequence`. Other columns do not count.
    SoundsCsv {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// What paths in the file are relative to; the folder of the file where nothing is said.
        folder: Option<PathBuf> = None,
        /// Column of the label, such as the speaker, by its name or counted from 0.
        label: Column = Column::Name("label".into()),
        /// Column of a real target, such as an age, in place of the label.
        target: Option<Column> = None,
        /// Column of several labels, in place of one.
        labels: Option<Column> = None,
        /// What stands between the labels of that column.
        separator: String = ";".into(),
        /// Column that says of which of two domains a sample is, beside its label.
        domain: Option<Column> = None,
        /// How sounds become frames.
        log_mel: LogMel = LogMel::default(),
        /// Seconds of a sound at most; the rest is cut off.
        seconds: Positive = SECONDS,
        /// Part that is held out as `test`; 0.2 where nothing is said and the data name no parts.
        test: Option<Fraction> = None,
        /// What is held out: `samples` of each class, or whole `classes`.
        hold_out: HoldOut = HoldOut::Samples,
    }
}

settings_with_classes! {
    /// A file of rows of numbers with a label.
    TableFile {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// Column of the label, by its name or counted from 0.
        label: Column = Column::Name("label".into()),
        /// Column of a real target, such as an age, in place of the label.
        target: Option<Column> = None,
        /// Column of several labels, in place of one.
        labels: Option<Column> = None,
        /// What stands between the labels of that column.
        separator: String = ";".into(),
        /// Column that says of which of two domains a sample is, beside its label.
        domain: Option<Column> = None,
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
        /// Part that is held out as `test`; 0.2 where nothing is said and the data name no parts.
        test: Option<Fraction> = None,
        /// What is held out: `samples` of each class, or whole `classes`.
        hold_out: HoldOut = HoldOut::Samples,
    }
}

settings_with_classes! {
    /// A file of texts with labels.
    TextsFile {
        /// The file.
        path: PathBuf = PathBuf::new(),
        /// Column of the text, by its name or counted from 0.
        text: Column = Column::Name("text".into()),
        /// Column of the label.
        label: Column = Column::Name("label".into()),
        /// Column of a real target, such as an age, in place of the label.
        target: Option<Column> = None,
        /// Column of several labels, in place of one.
        labels: Option<Column> = None,
        /// What stands between the labels of that column.
        separator: String = ";".into(),
        /// Column that says of which of two domains a sample is, beside its label.
        domain: Option<Column> = None,
        /// Column that says `train`, `validation` or `test`.
        split: Option<Column> = None,
        /// How the file is written; as its name ends where nothing is said.
        format: Option<LineFormat> = None,
        /// Whether the first line names the columns.
        header: bool = true,
        /// How often a word must occur in the training texts to have a number.
        min_count: u64 = 1,
        /// Words that have a number, the most frequent first; all where nothing is said.
        most_words: Option<usize> = None,
        /// Words of a text at most; the rest is cut off.
        length: usize = LENGTH,
        /// Part that is held out as `test`; 0.2 where nothing is said and the data name no parts.
        test: Option<Fraction> = None,
        /// What is held out: `samples` of each class, or whole `classes`.
        hold_out: HoldOut = HoldOut::Samples,
    }
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
        /// How often a word must occur in the training texts to have a number.
        min_count: u64 = 1,
        /// Words that have a number, the most frequent first; all where nothing is said.
        most_words: Option<usize> = None,
        /// Words of a text at most; the rest is cut off.
        length: usize = LENGTH,
        /// Part of the pairs that is held out as `test`; 0.2 where nothing is said and the data name no parts.
        test: Option<Fraction> = None,
        /// Part of the training pairs that is put aside as `validation`.
        validation: Option<Fraction> = None,
    }
}

/// What settings say of the columns beside a label.
macro_rules! said {
    ($set:expr) => {
        own::SaidSettings {
            target: $set.target.as_ref(),
            labels: $set.labels.as_ref(),
            separator: &$set.separator,
            domain: $set.domain.as_ref(),
        }
    };
}

/// Words of a text at most, where nothing is said.
const LENGTH: usize = 128;
/// Seconds of a sound at most, where nothing is said.
const SECONDS: Positive = Positive::literal(10.0);

/// The data by name, as a run file writes them: `data.omniglot = { split = "alphabets" }`.
///
/// ```
/// use std::path::Path;
///
/// use nearfar_core::Seed;
/// use nearfar_datasets::{DataConfig, Shape};
///
/// #[derive(serde::Deserialize)]
/// struct Run {
///     data: DataConfig,
/// }
///
/// let run: Run = toml::from_str("data.digits = { validation = 0.1 }")?;
/// let data = run.data.load(Path::new("data"), Seed(7))?; // The digits need no file.
/// assert_eq!(data.shape(), Shape::Image { channels: 1, height: 8, width: 8 });
/// let parts: Vec<_> = data.evaluation.iter().map(|part| part.name).collect();
/// assert_eq!(parts, ["validation", "test", "unseen"]); // 8 and 9 are seen nowhere else.
///
/// let error = toml::from_str::<Run>("data.digits = { validatoin = 0.1 }").err().unwrap();
/// assert!(error.to_string().contains("unknown field `validatoin`"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DataConfig {
    /// 1,797 handwritten digits of 8 by 8 pixels, which need no file. Where nothing is said 8 and 9 are `unseen`.
    #[serde(deserialize_with = "digits")]
    Digits(ImageSet),
    /// Invented characters, as many as wanted.
    Glyphs(GlyphSet),
    /// 70,000 handwritten digits.
    Mnist(ImageSet),
    /// 70,000 pictures of clothes.
    FashionMnist(ImageSet),
    /// 32,460 drawings of 1,623 characters; 28 by 28 where nothing is said.
    #[serde(deserialize_with = "omniglot")]
    Omniglot(ImageSet),
    /// 400 pictures of 40 faces.
    Orl(ImageSet),
    /// Nine small tables; `name` says which.
    Uci(TableSet),
    /// Spoken letters as 617 features.
    Isolet(TableSet),
    /// Sentences in pairs, scored from 1 to 5.
    Sick(PairSet),
    /// Sentences in pairs, scored from 0 to 5.
    Stsbenchmark(PairSet),
    /// Queries of 150 intents.
    Clinc150(TextSet),
    /// Titles of 1,016 occupations.
    OnetTitles(TextSet),
    /// 3,000 spoken digits of 6 speakers, at 8 kHz; frames of [`LogMel::speech`] where nothing is said. The classes are the digits;
    /// `class = ["speaker"]` or `class = ["digit", "speaker"]` for others.
    #[serde(deserialize_with = "fsdd")]
    Fsdd(SoundSet),
    /// Invented scenes of striped shapes, with the shape that each pixel is of.
    Scenes(SceneSet),
    /// A folder of class folders with images.
    Folder(Folder),
    /// Images with masks that say of each pixel which instance it is of.
    Masks(MaskSet),
    /// A list of images.
    ImagesCsv(ImagesCsv),
    /// A folder of class folders with sounds.
    Sounds(SoundFolder),
    /// A list of sounds.
    SoundsCsv(SoundsCsv),
    /// Rows of numbers.
    Table(TableFile),
    /// Texts with labels.
    Texts(TextsFile),
    /// Pairs of texts with scores or labels.
    Pairs(PairsFile),
}

fn digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ImageSet, D::Error> {
    ImageSet::deserialize(deserializer).map(DataConfig::digits_defaults)
}

fn omniglot<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ImageSet, D::Error> {
    ImageSet::deserialize(deserializer).map(DataConfig::omniglot_defaults)
}

fn fsdd<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SoundSet, D::Error> {
    SoundSet::deserialize(deserializer).map(DataConfig::fsdd_defaults)
}

impl DataConfig {
    fn fsdd_defaults(mut set: SoundSet) -> SoundSet {
        set.log_mel.get_or_insert_with(|| LogMel::speech(8_000));
        set
    }

    fn digits_defaults(mut set: ImageSet) -> ImageSet {
        if set.split.is_none() && set.classes.is_none() && set.test_classes.is_none() {
            set.unseen
                .get_or_insert_with(|| vec!["8".into(), "9".into()]);
        }
        set
    }

    fn omniglot_defaults(mut set: ImageSet) -> ImageSet {
        set.size.get_or_insert(Size::square(28));
        set
    }

    /// All data with their defaults. (The files of own data have no default, and an empty path here.)
    pub fn all() -> Vec<Self> {
        let uci = TableSet {
            name: Some("wine".into()),
            ..TableSet::default()
        };
        vec![
            Self::Digits(Self::digits_defaults(ImageSet::default())),
            Self::Glyphs(GlyphSet::default()),
            Self::Mnist(ImageSet::default()),
            Self::FashionMnist(ImageSet::default()),
            Self::Omniglot(Self::omniglot_defaults(ImageSet::default())),
            Self::Orl(ImageSet::default()),
            Self::Uci(uci),
            Self::Isolet(TableSet::default()),
            Self::Sick(PairSet::default()),
            Self::Stsbenchmark(PairSet::default()),
            Self::Clinc150(TextSet::default()),
            Self::OnetTitles(TextSet::default()),
            Self::Fsdd(Self::fsdd_defaults(SoundSet::default())),
            Self::Scenes(SceneSet::default()),
            Self::Folder(Folder::default()),
            Self::Masks(MaskSet::default()),
            Self::ImagesCsv(ImagesCsv::default()),
            Self::Sounds(SoundFolder::default()),
            Self::SoundsCsv(SoundsCsv::default()),
            Self::Table(TableFile::default()),
            Self::Texts(TextsFile::default()),
            Self::Pairs(PairsFile::default()),
        ]
    }

    /// Its name in a run file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Digits(_) => "digits",
            Self::Glyphs(_) => "glyphs",
            Self::Mnist(_) => "mnist",
            Self::FashionMnist(_) => "fashion_mnist",
            Self::Omniglot(_) => "omniglot",
            Self::Orl(_) => "orl",
            Self::Uci(_) => "uci",
            Self::Isolet(_) => "isolet",
            Self::Sick(_) => "sick",
            Self::Stsbenchmark(_) => "stsbenchmark",
            Self::Clinc150(_) => "clinc150",
            Self::OnetTitles(_) => "onet_titles",
            Self::Fsdd(_) => "fsdd",
            Self::Scenes(_) => "scenes",
            Self::Folder(_) => "folder",
            Self::Masks(_) => "masks",
            Self::ImagesCsv(_) => "images_csv",
            Self::Sounds(_) => "sounds",
            Self::SoundsCsv(_) => "sounds_csv",
            Self::Table(_) => "table",
            Self::Texts(_) => "texts",
            Self::Pairs(_) => "pairs",
        }
    }

    /// What its source says of it.
    pub fn doc(&self) -> String {
        let variant: String = self
            .name()
            .split('_')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect();
        nearfar_core::doc_of(include_str!("mod.rs"), &variant)
    }

    /// The name of the data set of the catalogue that it reads; none for own and generated data.
    pub fn catalogue_name(&self) -> Option<&'static str> {
        match self {
            Self::Glyphs(_)
            | Self::Scenes(_)
            | Self::Folder(_)
            | Self::Masks(_)
            | Self::ImagesCsv(_)
            | Self::Sounds(_)
            | Self::SoundsCsv(_)
            | Self::Table(_)
            | Self::Texts(_)
            | Self::Pairs(_) => None,
            _ => Some(self.name()),
        }
    }

    /// Reads and divides the data. `root` is the folder of data sets, where those of the catalogue lie as
    /// `<root>/<name>/<file>`; own data lie where their `path` says. `seed` decides what is held out where that is random.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and the fix. [`check`](crate::check()) lists all.
    pub fn load(&self, root: &Path, seed: Seed) -> Result<Data, Error> {
        self.open(root, seed, None, &mut Strict)
    }

    /// The same, prepared as a run stored it: with its vocabulary and scale instead of those of this training part.
    ///
    /// # Errors
    /// As [`load`](Self::load); and when the data have another shape than those of the run.
    pub fn load_prepared(
        &self,
        root: &Path,
        seed: Seed,
        preparation: &Preparation,
    ) -> Result<Data, Error> {
        self.open(root, seed, Some(preparation), &mut Strict)
    }

    pub(crate) fn open(
        &self,
        root: &Path,
        seed: Seed,
        stored: Option<&Preparation>,
        sink: &mut dyn Sink,
    ) -> Result<Data, Error> {
        let limits = Limits::DEFAULT;
        let pairs = |validation| Wishes {
            // Without classes, too.
            validation,
            ..Wishes::default()
        };
        let name = self.name();
        let (source, wishes) = match self {
            Self::Digits(set)
            | Self::Mnist(set)
            | Self::FashionMnist(set)
            | Self::Omniglot(set)
            | Self::Orl(set) => {
                let source = catalogued::read(name, &set.into(), root, &limits, stored, sink)?;
                (source, set.wishes())
            }
            Self::Uci(set) | Self::Isolet(set) => {
                let source = catalogued::read(name, &set.into(), root, &limits, stored, sink)?;
                (source, set.wishes())
            }
            Self::Clinc150(set) | Self::OnetTitles(set) => {
                let source = catalogued::read(name, &set.into(), root, &limits, stored, sink)?;
                (source, set.wishes())
            }
            Self::Fsdd(set) => {
                let source = catalogued::read(name, &set.into(), root, &limits, stored, sink)?;
                (source, set.wishes())
            }
            Self::Sick(set) | Self::Stsbenchmark(set) => {
                let source = catalogued::read(name, &set.into(), root, &limits, stored, sink)?;
                (source, pairs(set.validation))
            }
            Self::Glyphs(set) => {
                let wishes = Wishes {
                    validation: set.validation,
                    validation_classes: set.validation_classes,
                    by_class: true,
                    ..Wishes::default()
                };
                (own::glyphs(set)?, wishes)
            }
            Self::Scenes(set) => (own::scenes(set)?, pairs(set.validation)),
            Self::Folder(set) => (own::folder(set, &limits, stored, sink)?, set.wishes()),
            Self::Masks(set) => {
                let source = own::masks(set, &limits, stored, sink)?;
                (source, pairs(set.validation))
            }
            Self::ImagesCsv(set) => {
                let wishes = own::wishes(name, set.wishes(), &said!(set), set.hold_out)?;
                (
                    own::images_csv(set, &said!(set), &limits, stored, sink)?,
                    wishes,
                )
            }
            Self::Sounds(set) => (own::sounds(set, &limits, stored, sink)?, set.wishes()),
            Self::SoundsCsv(set) => {
                let wishes = own::wishes(name, set.wishes(), &said!(set), set.hold_out)?;
                (
                    own::sounds_csv(set, &said!(set), &limits, stored, sink)?,
                    wishes,
                )
            }
            Self::Table(set) => {
                let wishes = own::wishes(name, set.wishes(), &said!(set), set.hold_out)?;
                (own::table(set, &said!(set), &limits, sink)?, wishes)
            }
            Self::Texts(set) => {
                let wishes = own::wishes(name, set.wishes(), &said!(set), set.hold_out)?;
                (own::texts(set, &said!(set), &limits, sink)?, wishes)
            }
            Self::Pairs(set) => (own::pairs(set, &limits, sink)?, pairs(set.validation)),
        };
        assemble(name, source, &wishes, seed, stored, sink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Run {
        data: DataConfig,
    }

    #[test]
    fn what_is_written_out_with_every_default_reads_the_same() {
        for data in DataConfig::all() {
            let run = Run { data };
            let text = toml::to_string(&run).expect("plain settings");
            assert!(
                text.contains(&format!("data.{}", run.data.name())),
                "{text}"
            );
            assert_eq!(toml::from_str::<Run>(&text).expect("written"), run);
        }
    }

    #[test]
    fn the_run_file_of_the_guide_is_read() {
        let read = |text: &str| {
            toml::from_str::<Run>(text)
                .unwrap_or_else(|error| panic!("{text}: {error}"))
                .data
        };
        let DataConfig::Omniglot(set) = read("data.omniglot = { split = \"alphabets\" }") else {
            panic!("another name")
        };
        assert_eq!(set.size, Some(Size::square(28)));
        let DataConfig::Mnist(set) = read("data.mnist = { classes = [0, \"1\"] }") else {
            panic!("another name")
        };
        assert_eq!(set.classes, Some(vec!["0".into(), "1".into()]));
        read("data.glyphs = { classes = 100, samples = 20, seed = 1, size = 28 }");
        read("data.uci = { name = \"wine\" }");
        read("data.table = { path = \"t.csv\", label = 0 }");
        read("data.table = { path = \"t.csv\", label = \"kind\", skip = [\"id\", 3] }");
        read(
            "data.pairs = { path = \"p.tsv\", left = \"a\", right = \"b\", score = \"s\", range = [1, 5] }",
        );
        let error = toml::from_str::<Run>("data.mnits = {}").expect_err("mistyped");
        assert!(error.to_string().contains("unknown variant `mnits`"));
    }
}
