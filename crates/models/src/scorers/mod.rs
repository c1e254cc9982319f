//! Scorers of pairs: what says of two rows whether they belong together.
//!
//! A scorer is its settings; [`ScorerConfig`] lists them all. Each has a `build` that makes its parameters.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, PairScorer, Pairs, doc_of};
use serde::{Deserialize, Serialize};

use crate::Params;

mod cross_input;
mod weighted_l1;

pub use cross_input::CrossInput;
pub use weighted_l1::WeightedL1;

/// The name under which a model gives the maps that a scorer compares, `(b, c, h, w)`, beside its embeddings.
pub const MAPS: &str = "maps";

/// What a scorer is shown of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Numbers of an embedding.
    pub width: usize,
    /// Channels, rows and columns of its [maps](MAPS), where the model gives some.
    pub maps: Option<[usize; 3]>,
}

/// From the list: the enum of a run file, every scorer with its defaults, and the way to build one.
macro_rules! scorers {
    ($($name:literal = $Scorer:ident;)*) => {
        /// A scorer by its name, with its settings: `scorer.weighted_l1 = {}` in a run file.
        ///
        /// ```
        /// use nearfar_models::{ScorerConfig, WeightedL1};
        ///
        /// #[derive(serde::Deserialize)]
        /// struct Run {
        ///     scorer: ScorerConfig,
        /// }
        /// let run: Run = toml::from_str("scorer.weighted_l1 = {}").expect("good settings");
        /// assert_eq!(run.scorer, ScorerConfig::WeightedL1(WeightedL1 {}));
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum ScorerConfig {
            $(
                #[doc = concat!("`scorer.", $name, "`")]
                #[serde(rename = $name)]
                $Scorer($Scorer),
            )*
        }

        impl ScorerConfig {
            /// Every scorer with its defaults, in the order of their names.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$Scorer($Scorer::default())),*]
            }

            /// As in a run file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$Scorer(_) => $name,)*
                }
            }

            /// What its own file says of it.
            pub fn doc(&self) -> String {
                match self {
                    $(Self::$Scorer(_) => doc_of(include_str!(concat!($name, ".rs")), stringify!($Scorer)),)*
                }
            }

            /// Whether it compares maps, and not embeddings.
            pub fn reads_maps(&self) -> bool {
                match self {
                    $(Self::$Scorer(_) => $Scorer::READS_MAPS,)*
                }
            }

            /// The scorer for what it is shown, with its parameters made in `params`, where nothing else may be.
            ///
            /// # Errors
            /// [`Error::Settings`] when it is not shown what it reads, or sizes are out of range.
            pub fn build(&self, shown: Shown, params: &Params) -> Result<Box<dyn PairScorer>> {
                Ok(match self {
                    $(Self::$Scorer(settings) => Box::new(settings.build(shown, params)?),)*
                })
            }
        }
    };
}

scorers! {
    "cross_input" = CrossInput;
    "weighted_l1" = WeightedL1;
}

/// The rows of either side of each pair, in order: `(t, …)` each.
fn sides(place: &str, left: &Tensor, right: &Tensor, pairs: &Pairs) -> Result<(Tensor, Tensor)> {
    let rows = |side: &str, all: &Tensor, rows: &[u32]| -> Result<Tensor> {
        let count = all.dim(0)?;
        if let Some(row) = rows.iter().find(|&&row| row as usize >= count) {
            Err(Error::Shape(format!(
                "{place}: a pair has row {row} of the {side} side, which has {count}"
            )))?;
        }
        let rows = Tensor::from_slice(rows, rows.len(), all.device())?;
        all.contiguous()?.index_select(&rows, 0)
    };
    Ok((
        rows("left", left, &pairs.anchors)?,
        rows("right", right, &pairs.references)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_settings_survive_writing() {
        let all = ScorerConfig::all();
        assert!(all.windows(2).all(|pair| pair[0].name() < pair[1].name()));
        for scorer in all {
            let text = toml::to_string(&scorer).expect("settings can be written");
            assert!(text.starts_with(&format!("[{}]", scorer.name())), "{text}");
            assert!(scorer.doc().contains("Source: "), "{scorer:?}");
            let read: ScorerConfig = toml::from_str(&text).expect("and read");
            assert_eq!(read, scorer);
        }
        let error = toml::from_str::<ScorerConfig>("cross_input = { filter = 3 }");
        let error = error.expect_err("mistyped").to_string();
        assert!(error.contains("`filters`"), "{error}");
    }
}
