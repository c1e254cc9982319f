#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod catalogue;
mod data_set;
mod layout;
mod split;
mod template;

pub mod archive;
pub mod content;
mod digits;
mod error;
mod hash;
mod verify;

#[cfg(feature = "fetch")]
pub mod fetch;

pub use catalogue::{Catalogue, data_folder};
pub use data_set::{Checked, Content, DataSet, File, Modality, Piece};
pub use digits::{Digits, digits};
pub use error::Error;
pub use hash::{NotSha256, Sha256};
pub use layout::{
    ArchivePart, Column, Delimiter, Groups, IdxPart, LabelColumn, LabeledJson, LabeledPart,
    LabeledTexts, Layout, PartColumn, Table, TextPairs, TextPart,
};
pub use split::{Selection, Split};
pub use template::{NotTemplate, Template};
pub use verify::{Proof, Status, Verified, status, verify, verify_file};
