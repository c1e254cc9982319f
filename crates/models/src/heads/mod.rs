//! Heads that stand over any model: what they make of its embeddings, or of what it gives beside them, is the embedding.
//!
//! A head is its settings; [`HeadConfig`] lists them all. Each has a `build` that makes its parameters and gives an encoder around the
//! model's.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{Encoded, Encoder, Input, Mode, Parameter, doc_of};
use serde::{Deserialize, Serialize};

use crate::Params;

mod fusion;
mod mahalanobis;
mod netvlad;
mod projection;

pub use fusion::{Fusion, Local};
pub use mahalanobis::{Mahalanobis, MahalanobisMap};
pub use netvlad::{NetVlad, NetVladPooling};
pub use projection::Projection;

/// What a head is built over.
#[derive(Clone, Debug)]
pub struct Under {
    /// Numbers of an embedding.
    pub width: usize,
    /// Sizes of what the model gives beside it, by name, without that of the batch.
    pub beside: BTreeMap<String, Vec<usize>>,
    /// What it gives of some samples before training, for heads that start from data; without it they start by chance.
    pub samples: Option<Encoded>,
}

/// What a head does to what its model gives.
trait Over: std::fmt::Debug + Send + Sync {
    /// `(b, d)`
    fn embed(&self, encoded: &Encoded, mode: &mut Mode<'_>) -> Result<Tensor>;
}

/// A model with a head over it.
struct Topped {
    encoder: Box<dyn Encoder>,
    head: Box<dyn Over>,
    width: usize,
    params: Params,
}

impl Encoder for Topped {
    fn encode(&self, input: &Input, mut mode: Mode<'_>) -> Result<Encoded> {
        let encoded = self.encoder.encode(input, mode.reborrow())?;
        if encoded.embedding.dim(0)? == 0 {
            let none = Tensor::zeros((0, self.width), self.params.dtype(), self.params.device())?;
            return Ok(none.into());
        }
        let embedding = self.head.embed(&encoded, &mut mode)?;
        Ok(Encoded {
            embedding,
            extra: encoded.extra,
        })
    }

    fn width(&self) -> usize {
        self.width
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = self.encoder.parameters();
        parameters.extend(self.params.parameters());
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        parameters
    }

    fn freeze(&self, name: &str, frozen: bool) -> bool {
        let own = name.strip_prefix(self.params.prefix());
        match own.and_then(|name| self.params.find(name)) {
            Some(weight) => {
                weight.freeze(frozen);
                true
            }
            None => self.encoder.freeze(name, frozen),
        }
    }
}

/// From the list: the enum of a run file, every head with its defaults, and the way to build one.
macro_rules! heads {
    ($($name:literal = $Head:ident;)*) => {
        /// A head by its name, with its settings: `head.netvlad = { clusters = 16 }` in a run file.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum HeadConfig {
            $(
                #[doc = concat!("`head.", $name, "`")]
                #[serde(rename = $name)]
                $Head($Head),
            )*
        }

        impl HeadConfig {
            /// Every head with its defaults, in the order of their names.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$Head($Head::default())),*]
            }

            /// As in a run file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$Head(_) => $name,)*
                }
            }

            /// What its own file says of it.
            pub fn doc(&self) -> String {
                match self {
                    $(Self::$Head(_) => doc_of(include_str!(concat!($name, ".rs")), stringify!($Head)),)*
                }
            }

            /// The head over a model, with its parameters made in `params`, where nothing else may be; their names begin with the
            /// head's.
            ///
            /// # Errors
            /// [`nearfar_core::Error::Settings`] when the model does not give what it reads, or sizes are out of range.
            pub fn build(&self, encoder: Box<dyn Encoder>, under: &Under, params: &Params) -> Result<Box<dyn Encoder>> {
                let params = params.at(self.name());
                let (head, width) = match self {
                    $(Self::$Head(settings) => settings.over(under, &params)?,)*
                };
                Ok(Box::new(Topped { encoder, head, width, params }))
            }
        }
    };
}

heads! {
    "fusion" = Fusion;
    "mahalanobis" = Mahalanobis;
    "netvlad" = NetVlad;
    "projection" = Projection;
}

impl HeadConfig {
    /// Whether it starts from [what its model makes of samples](Under::samples), where there are some.
    pub fn starts_from_samples(&self) -> bool {
        matches!(self, Self::NetVlad(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_settings_survive_writing() {
        let all = HeadConfig::all();
        assert!(all.windows(2).all(|pair| pair[0].name() < pair[1].name()));
        for head in all {
            let text = toml::to_string(&head).expect("settings can be written");
            assert!(text.starts_with(&format!("[{}]", head.name())), "{text}");
            assert!(head.doc().contains("Source: "), "{head:?}");
            assert_eq!(toml::from_str::<HeadConfig>(&text).expect("and read"), head);
        }
    }
}
