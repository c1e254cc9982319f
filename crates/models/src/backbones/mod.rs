//! Networks and their settings: one file each, to be read from top to bottom.
//!
//! A model is its settings; [`ModelConfig`](crate::ModelConfig) lists them all. Each has a `build` that makes its
//! parameters and gives a [`Tower`](crate::Tower).

mod bert;
mod conv4;
mod convnext;
mod dense_conv;
mod koch;
mod linear;
mod lstm;
mod mlp;
mod mnist_twin;
mod resnet;
mod speaker_lstm;
mod tristounet;
mod vit;

pub use bert::{Bert, BertPooling};
pub use conv4::Conv4;
pub use convnext::Convnext;
pub use dense_conv::DenseConv;
pub use koch::Koch;
pub use linear::Linear;
pub use lstm::{Lstm, Words};
pub use mlp::Mlp;
pub use mnist_twin::MnistTwin;
pub use resnet::{Resnet, ResnetPooling, ResnetStem};
pub use speaker_lstm::SpeakerLstm;
pub use tristounet::Tristounet;
pub use vit::{Vit, VitPooling};
