#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// In reading order: what a model is built from, its layers, its trunk, its head and what compares two rows, and the list of all.
mod init;
mod params;
mod var_builder;
mod weights_file;

pub mod layers;

pub mod backbones;
mod input_shape;
mod tower;

pub mod heads;
pub mod scorers;

mod registry;

mod pretrained;
mod sentence_folder;
mod write_sentence_folder;

pub use backbones::{
    Ahmed, Bert, BertPooling, CharBilstm, Conv4, Convnext, DeepSets, DenseConv, DependencyLstm,
    Koch, Linear, Lstm, Mlp, MnistTwin, Mvcnn, Resnet, ResnetPooling, ResnetStem, SetPooling,
    SpeakerLstm, Tristounet, Unet, Vit, VitPooling, Voxnet, WordHeads, Words,
};
pub use heads::{HeadConfig, Under};
pub use init::Init;
pub use input_shape::InputShape;
pub use params::{MAX_NAME_BYTES, MAX_NUMBERS, MAX_TENSORS, Params, Weight};
pub use pretrained::Pretrained;
pub use registry::ModelConfig;
pub use scorers::{CrossInput, MAPS, ScorerConfig, Shown, WeightedL1};
pub use sentence_folder::{SentenceDense, SentenceFolder};
pub use tower::{Backbone, Features, Head, Pooling, Tower};
pub use weights_file::Differences;
