//! Data as a run file names them.

use std::path::Path;

use nearfar_core::Seed;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    Data, Error, Limits, LogMel, Preparation, Size,
    data::assemble,
    error::{Sink, Strict},
    split::Wishes,
};

mod catalogued;
mod generated;
mod kinds;
mod own;
mod sets;
mod solid;

pub use sets::*;

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
    /// Invented solids, turned at random, as volumes, views or points.
    Solids(SolidSet),
    /// A folder of class folders with images.
    Folder(Folder),
    /// A folder of class folders with volumes.
    Volumes(VolumeFolder),
    /// A folder of class folders with sets of points.
    Points(PointFolder),
    /// A folder of class folders with things, each with several views.
    MultiView(ViewFolder),
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
    /// Texts with images, texts with sounds, or sounds with images.
    TwoKinds(TwoKindsFile),
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
        set.log_mel = set
            .log_mel
            .or_else(|| catalogued::rate("fsdd").map(LogMel::speech));
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
            Self::Solids(SolidSet::default()),
            Self::Folder(Folder::default()),
            Self::Volumes(VolumeFolder::default()),
            Self::Points(PointFolder::default()),
            Self::MultiView(ViewFolder::default()),
            Self::Masks(MaskSet::default()),
            Self::ImagesCsv(ImagesCsv::default()),
            Self::Sounds(SoundFolder::default()),
            Self::SoundsCsv(SoundsCsv::default()),
            Self::Table(TableFile::default()),
            Self::Texts(TextsFile::default()),
            Self::Pairs(PairsFile::default()),
            Self::TwoKinds(TwoKindsFile::default()),
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
            Self::Solids(_) => "solids",
            Self::Folder(_) => "folder",
            Self::Volumes(_) => "volumes",
            Self::Points(_) => "points",
            Self::MultiView(_) => "multi_view",
            Self::Masks(_) => "masks",
            Self::ImagesCsv(_) => "images_csv",
            Self::Sounds(_) => "sounds",
            Self::SoundsCsv(_) => "sounds_csv",
            Self::Table(_) => "table",
            Self::Texts(_) => "texts",
            Self::Pairs(_) => "pairs",
            Self::TwoKinds(_) => "two_kinds",
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
            | Self::Solids(_)
            | Self::Volumes(_)
            | Self::Points(_)
            | Self::MultiView(_)
            | Self::Folder(_)
            | Self::Masks(_)
            | Self::ImagesCsv(_)
            | Self::Sounds(_)
            | Self::SoundsCsv(_)
            | Self::Table(_)
            | Self::Texts(_)
            | Self::Pairs(_)
            | Self::TwoKinds(_) => None,
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
                (generated::glyphs(set)?, wishes)
            }
            Self::Scenes(set) => (generated::scenes(set)?, pairs(set.validation)),
            Self::Solids(set) => {
                let wishes = Wishes {
                    validation: set.validation,
                    validation_classes: set.validation_classes,
                    by_class: true,
                    ..Wishes::default()
                };
                (generated::solids(set)?, wishes)
            }
            Self::Volumes(set) => (solid::volumes(set, &limits, stored, sink)?, set.wishes()),
            Self::Points(set) => (solid::points(set, &limits, stored, sink)?, set.wishes()),
            Self::MultiView(set) => (solid::views(set, &limits, stored, sink)?, set.wishes()),
            Self::Folder(set) => (own::folder(set, &limits, stored, sink)?, set.wishes()),
            Self::Masks(set) => {
                let source = own::masks(set, &limits, stored, sink)?;
                (source, pairs(set.validation))
            }
            Self::ImagesCsv(set) => {
                let wishes = own::wishes(name, set.wishes(), &set.said(), set.hold_out)?;
                (
                    own::images_csv(set, &set.said(), &limits, stored, sink)?,
                    wishes,
                )
            }
            Self::Sounds(set) => (own::sounds(set, &limits, stored, sink)?, set.wishes()),
            Self::SoundsCsv(set) => {
                let wishes = own::wishes(name, set.wishes(), &set.said(), set.hold_out)?;
                (
                    own::sounds_csv(set, &set.said(), &limits, stored, sink)?,
                    wishes,
                )
            }
            Self::Table(set) => {
                let wishes = own::wishes(name, set.wishes(), &set.said(), set.hold_out)?;
                (own::table(set, &set.said(), &limits, sink)?, wishes)
            }
            Self::Texts(set) => {
                let wishes = own::wishes(name, set.wishes(), &set.said(), set.hold_out)?;
                (own::texts(set, &set.said(), &limits, sink)?, wishes)
            }
            Self::TwoKinds(set) => {
                let wishes = Wishes {
                    by_class: set.label.is_some(),
                    ..pairs(set.validation)
                };
                (kinds::two_kinds(set, &limits, stored, sink)?, wishes)
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
