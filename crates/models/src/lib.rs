#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// In reading order: what a model is built from, its layers, its trunk and its head, and the list of all.
mod init;
mod params;
mod var_builder;
mod weights_file;

pub mod layers;

pub mod backbones;
mod input_shape;
mod tower;

mod registry;
mod sentence_folder;

pub use backbones::{
    Bert, BertPooling, Conv4, Convnext, DenseConv, Koch, Linear, Lstm, Mlp, MnistTwin, Resnet,
    ResnetPooling, ResnetStem, SpeakerLstm, Tristounet, Vit, VitPooling, Words,
};
pub use init::Init;
pub use input_shape::InputShape;
pub use params::{MAX_NAME_BYTES, MAX_NUMBERS, MAX_TENSORS, Params, Weight};
pub use registry::ModelConfig;
pub use sentence_folder::SentenceFolder;
pub use tower::{Backbone, Features, Head, Pooling, Tower};
pub use weights_file::Differences;
