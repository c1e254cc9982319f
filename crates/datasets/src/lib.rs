#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))] // A test that fails may panic.

// In reading order: one sample, many samples, data as a run names them, what changes samples, what makes batches of them.
mod dataset;
mod sample;

mod config;
mod data;
mod formats;
mod names;
mod pixels;
mod rows;
mod sound;
mod split;
mod standardization;
mod tokenizer;
mod vocabulary;

mod samplers;
mod transforms;

mod collate;
mod loader;

mod check;
mod error;

pub use check::{Checked, PartSummary, Problems, check};
pub use config::{
    Branch, DataConfig, Folder, GlyphSet, ImageBranch, ImageSet, ImagesCsv, MaskSet, PairSet,
    PairsFile, Parses, PointFolder, SceneSet, SeenAs, SolidSet, SoundBranch, SoundFolder, SoundSet,
    SoundsCsv, TableFile, TableSet, TextBranch, TextSet, TextsFile, TwoKindsFile, ViewFolder,
    VolumeFolder,
};
pub use data::{Data, Evaluation, Preparation, Roles, Shape};
pub use dataset::{Annotation, Dataset, Subset};
pub use error::{Blame, ConlluFault, Error, Fault, IdxFault, SoundFault};
pub use formats::{
    glyphs::Glyphs,
    is_sound,
    lines::LineFormat,
    scenes::Scenes,
    solids::{Seen, Solids},
};
pub use loader::{BadSamples, Loader};
pub use pixels::{Color, Filter, Limits, Size};
pub use sample::{Array, Image, Mask, Sample, Thumbnail, Value};
pub use samplers::{
    AnchorNeighborhood, CategoryBalance, ClassesBySamples, Drawn, Episode, FixedTriplets,
    GraphSampler, GreedyCoreset, GroupedPairs, HardClasses, HardForm, HardNegatives, Hierarchical,
    LossProportional, MagnetClusters, NoDuplicates, PairSampler, Sampler, SamplerConfig, Sampling,
    Shuffled, Small, TuplesToWeights, TwoDomains,
};
pub use sound::{
    Frames, FrontEnd, Leveling, Log, LogMel, MelNorm, MelPreset, MelScale, Padding, Sound, Taper,
    resample,
};
pub use split::{ClassName, HoldOut};
pub use standardization::Standardization;
pub use tokenizer::Tokenizer;
pub use transforms::{
    Affine, ColorChange, Crop, Elastic, Erase, Flip, FrequencyMask, Gain, Noise, Normalize, Resize,
    TimeMask, Transform, TransformConfig, WhiteNoise, WordDropout, WordSwap,
};
pub use vocabulary::{TextUnit, Vocabulary, characters, words};
