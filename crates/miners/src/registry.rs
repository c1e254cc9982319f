//! Miners by name.

use nearfar_core::Miner;
use serde::{Deserialize, Serialize};

use crate::{
    All, Angular, BatchEasyHard, BatchHard, DistanceWeighted, HardCluster, Hdc, ModeratePositive,
    MultiSimilarity, NHard, Packaged, PairMargin, Random, RhoSwitch, SemiHard, SoftHard,
    TripletMargin, UniformHistogram,
};

/// Writes the enum of all miners, and what is done for each of them.
macro_rules! miners {
    ($($name:literal = $miner:ident),* $(,)?) => {
        /// A miner by its name, with its settings: `[miner.semi_hard]` of a run file.
        ///
        /// ```
        /// use nearfar_miners::{MinerConfig, SemiHard};
        ///
        /// let config: MinerConfig = toml::from_str("semi_hard = { margin = 0.2 }")?;
        /// assert_eq!(config, MinerConfig::SemiHard(SemiHard::default()));
        /// # Ok::<(), toml::de::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum MinerConfig {
            $(
                #[doc = concat!("`", $name, "`")]
                #[serde(rename = $name)]
                $miner($miner),
            )*
        }

        impl MinerConfig {
            /// Every miner with its defaults.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$miner($miner::default())),*]
            }

            /// Its name in a run file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$miner(_) => $name,)*
                }
            }

            /// What its source says of it.
            pub fn doc(&self) -> String {
                match self {
                    $(Self::$miner(_) => nearfar_core::doc_of(include_str!(concat!($name, ".rs")), stringify!($miner)),)*
                }
            }

            /// The miner itself.
            pub fn build(&self) -> Box<dyn Miner> {
                match self {
                    $(Self::$miner(miner) => Box::new(miner.clone()),)*
                }
            }
        }
    };
}

miners! {
    "all" = All,
    "random" = Random,
    "batch_hard" = BatchHard,
    "batch_easy_hard" = BatchEasyHard,
    "n_hard" = NHard,
    "soft_hard" = SoftHard,
    "moderate_positive" = ModeratePositive,
    "semi_hard" = SemiHard,
    "triplet_margin" = TripletMargin,
    "angular" = Angular,
    "pair_margin" = PairMargin,
    "multi_similarity" = MultiSimilarity,
    "hdc" = Hdc,
    "distance_weighted" = DistanceWeighted,
    "uniform_histogram" = UniformHistogram,
    "rho_switch" = RhoSwitch,
    "hard_cluster" = HardCluster,
    "packaged" = Packaged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_miner_is_read_by_its_name_alone_and_written_as_it_was() {
        for miner in MinerConfig::all() {
            let text = format!("{} = {{}}", miner.name());
            let read: MinerConfig = toml::from_str(&text).expect("every setting has a default");
            assert_eq!(read, miner);
            let written = toml::to_string(&miner).expect("settings are tables");
            assert_eq!(
                toml::from_str::<MinerConfig>(&written).expect("what was written"),
                miner
            );
        }
    }

    #[test]
    fn a_wrong_name_key_or_value_is_told_with_what_would_be_right() {
        let message = |text: &str| {
            toml::from_str::<MinerConfig>(text)
                .expect_err("wrong")
                .to_string()
        };
        assert!(message("semihard = {}").contains("expected one of `all`, `random`, `batch_hard`"));
        assert!(
            message("semi_hard = { margn = 1 }").contains("expected `margin` or `one_per_pair`")
        );
        assert!(message("semi_hard = { margin = -1 }").contains("-1 must be 0 or greater"));
        assert!(message("random = { per_anchor = 0 }").contains("nonzero"));
    }
}
