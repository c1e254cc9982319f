//! Networks and their settings: one file each, to be read from top to bottom.
//!
//! A model is its settings; [`ModelConfig`](crate::ModelConfig) lists them all. Each has a `build` that makes its
//! parameters and gives a [`Tower`](crate::Tower).

mod ahmed;
mod bert;
mod char_bilstm;
mod conv4;
mod convnext;
mod deep_sets;
mod dense_conv;
mod dependency_lstm;
mod koch;
mod linear;
mod lstm;
mod mlp;
mod mnist_twin;
mod mvcnn;
mod resnet;
mod speaker_lstm;
mod tristounet;
mod unet;
mod vit;
mod voxnet;

pub use ahmed::Ahmed;
pub use bert::{Bert, BertPooling};
pub use char_bilstm::CharBilstm;
pub use conv4::Conv4;
pub use convnext::Convnext;
pub use deep_sets::{DeepSets, SetPooling};
pub use dense_conv::DenseConv;
pub use dependency_lstm::{DependencyLstm, WordHeads};
pub use koch::Koch;
pub use linear::Linear;
pub use lstm::{Lstm, Words};
pub use mlp::Mlp;
pub use mnist_twin::MnistTwin;
pub use mvcnn::Mvcnn;
pub use resnet::{Resnet, ResnetPooling, ResnetStem};
pub use speaker_lstm::SpeakerLstm;
pub use tristounet::Tristounet;
pub use unet::Unet;
pub use vit::{Vit, VitPooling};
pub use voxnet::Voxnet;
