//! Which samples make a batch.

use nearfar_core::{Fraction, Rng, Span, Stateful};
use serde::{Deserialize, Serialize};

use crate::{Annotation, Dataset, Error};

// By labels alone.
mod category_balance;
mod classes_by_samples;
mod episode;
mod fixed_triplets;
mod grouped_pairs;
mod hierarchical;
mod no_duplicates;
mod pairs;
mod shuffled;
mod two_domains;

// By the embedded training set.
mod anchor_neighborhood;
mod graph_sampler;
mod greedy_coreset;
mod hard_classes;
mod hard_negatives;
mod loss_proportional;
mod magnet_clusters;
mod tuples_to_weights;

// What they have in common.
mod cycle;
mod per_class;
mod shown;
mod super_classes;

#[cfg(test)]
mod tests;

pub use anchor_neighborhood::AnchorNeighborhood;
pub use category_balance::{CategoryBalance, Drawn};
pub use classes_by_samples::{ClassesBySamples, Small};
pub use episode::Episode;
pub use fixed_triplets::FixedTriplets;
pub use graph_sampler::GraphSampler;
pub use greedy_coreset::GreedyCoreset;
pub use grouped_pairs::GroupedPairs;
pub use hard_classes::{HardClasses, HardForm};
pub use hard_negatives::{HardNegatives, Sampling};
pub use hierarchical::Hierarchical;
pub use loss_proportional::LossProportional;
pub use magnet_clusters::MagnetClusters;
pub use no_duplicates::NoDuplicates;
pub use pairs::PairSampler;
pub use shuffled::Shuffled;
pub use tuples_to_weights::TuplesToWeights;
pub use two_domains::TwoDomains;

/// The order of samples in an epoch. A function of the labels, the generator, and what it was last shown.
pub trait Sampler: Stateful + Send + Sync {
    /// The batches of one epoch, as indices.
    fn epoch(&self, labels: &[u32], rng: &mut Rng) -> Vec<Vec<u32>>;

    /// Whether consecutive indices of a batch are a pair, so that the batch is known by its pairs and not by classes.
    fn pairs(&self) -> bool {
        false
    }
}

/// Writes the enum of all samplers, and what is done for each of them.
macro_rules! samplers {
    ($($name:literal = $variant:ident($sampler:ident): $doc:literal),* $(,)?) => {
        /// The samplers by name, as a run file writes them: `sampler.shuffled = { size = 64 }`.
        ///
        /// ```
        /// use nearfar_datasets::SamplerConfig;
        ///
        /// #[derive(serde::Deserialize)]
        /// struct Run {
        ///     sampler: SamplerConfig,
        /// }
        ///
        /// let run: Run = toml::from_str("sampler.classes_by_samples = { classes = 32, samples = 4 }")?;
        /// assert_eq!(run.sampler.name(), "classes_by_samples");
        /// assert!(toml::from_str::<Run>("sampler.shuffled = { sice = 64 }").is_err());
        /// # Ok::<(), toml::de::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum SamplerConfig {
            $(
                #[doc = $doc]
                #[serde(rename = $name)]
                $variant($sampler),
            )*
        }

        impl SamplerConfig {
            /// Every sampler with its defaults.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$variant($sampler::default())),*]
            }

            /// Its name in a run file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// What its source says of it.
            pub fn doc(&self) -> String {
                match self {
                    $(Self::$variant(_) => nearfar_core::doc_of(
                        include_str!(concat!($name, ".rs")),
                        stringify!($sampler),
                    ),)*
                }
            }
        }
    };
}

samplers! {
    "shuffled" = Shuffled(Shuffled): "Every sample once, in a random order.",
    "no_duplicates" = NoDuplicates(NoDuplicates): "Every sample once, with no text twice in a batch.",
    "grouped_pairs" = GroupedPairs(GroupedPairs): "Every scored pair once, those of one first input together.",
    "classes_by_samples" = ClassesBySamples(ClassesBySamples): "Some samples of each of some classes.",
    "pairs" = Pairs(PairSampler): "Pairs of two samples, of one class or of two.",
    "two_domains" = TwoDomains(TwoDomains): "Some samples of each of some classes, from both of two domains.",
    "episode" = Episode(Episode): "Few-shot tasks.",
    "fixed_triplets" = FixedTriplets(FixedTriplets): "A fixed random list of triplets.",
    "hierarchical" = Hierarchical(Hierarchical): "Classes of a few super-classes.",
    "category_balance" = CategoryBalance(CategoryBalance): "Some classes of each of some categories.",
    "anchor_neighborhood" = AnchorNeighborhood(AnchorNeighborhood): "Some classes with the classes nearest to each.",
    "graph_sampler" = GraphSampler(GraphSampler): "Each class with the classes nearest to it.",
    "hard_classes" = HardClasses(HardClasses): "Classes that violate the margin most.",
    "magnet_clusters" = MagnetClusters(MagnetClusters): "A cluster with its impostors.",
    "greedy_coreset" = GreedyCoreset(GreedyCoreset): "Classes that cover the space.",
    "hard_negatives" = HardNegatives(HardNegatives): "Anchors with negatives from the whole training set.",
    "loss_proportional" = LossProportional(LossProportional): "Classes and samples by their loss.",
    "tuples_to_weights" = TuplesToWeights(TuplesToWeights): "Samples by how many tuples they are in.",
}

impl SamplerConfig {
    /// The sampler, after a check that it can do what it promises for these samples.
    ///
    /// # Errors
    /// [`Error::Settings`] with what is wanted, what there is, and the fix.
    pub fn build(&self, dataset: &dyn Dataset) -> Result<Box<dyn Sampler>, Error> {
        if dataset.is_empty() {
            return Err(Error::Settings(
                "there are no samples to train on; look at `data`".into(),
            ));
        }
        match self {
            Self::TwoDomains(it) => return it.build(dataset),
            Self::GroupedPairs(it) => return it.build(dataset),
            _ => {}
        }
        if dataset.annotation() == Annotation::Domains {
            return Err(Error::Settings(format!(
                "`sampler.{}` does not look at domains, of which the data have two; use `sampler.two_domains`",
                self.name()
            )));
        }
        let by_class = dataset.annotation() == Annotation::Classes;
        if !by_class && !matches!(self, Self::Shuffled(_) | Self::NoDuplicates(_)) {
            return Err(Error::Settings(format!(
                "`sampler.{}` chooses by class, but the data are {}; use `sampler.shuffled`",
                self.name(),
                dataset.annotation().name()
            )));
        }
        let counts = &Counts::of(dataset.labels(), dataset.classes());
        match self {
            Self::Shuffled(it) => {
                it.check()?;
                Ok(Box::new(it.clone()))
            }
            Self::NoDuplicates(it) => it.build(dataset),
            Self::ClassesBySamples(it) => it.build(dataset, counts),
            Self::Pairs(it) => it.build(dataset, counts),
            Self::TwoDomains(it) => it.build(dataset),
            Self::GroupedPairs(it) => it.build(dataset),
            Self::Episode(it) => it.build(dataset, counts),
            Self::FixedTriplets(it) => it.build(dataset, counts),
            Self::Hierarchical(it) => it.build(dataset, counts),
            Self::CategoryBalance(it) => it.build(dataset, counts),
            Self::AnchorNeighborhood(it) => it.build(dataset, counts),
            Self::GraphSampler(it) => it.build(dataset, counts),
            Self::HardClasses(it) => it.build(dataset, counts),
            Self::MagnetClusters(it) => it.build(dataset, counts),
            Self::GreedyCoreset(it) => it.build(dataset, counts),
            Self::HardNegatives(it) => it.build(dataset, counts),
            Self::LossProportional(it) => it.build(dataset, counts),
            Self::TuplesToWeights(it) => it.build(dataset, counts),
        }
    }
}

/// How many samples each class has.
struct Counts<'a> {
    names: &'a [String],
    /// Label and number of samples, by label; classes without samples are left out.
    counts: Vec<(u32, usize)>,
}

impl<'a> Counts<'a> {
    fn of(labels: &[u32], names: &'a [String]) -> Self {
        let counts = by_class(labels)
            .into_iter()
            .map(|(label, members)| (label, members.len()))
            .collect();
        Self { names, counts }
    }

    fn name(&self, label: u32) -> String {
        match self.names.get(label as usize) {
            Some(name) => name.clone(),
            None => label.to_string(),
        }
    }
}

/// The indices of each class, in their order, by label.
fn by_class(labels: &[u32]) -> Vec<(u32, Vec<u32>)> {
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    order.sort_by_key(|&index| labels[index as usize]); // Stable, so indices stay in order.
    order
        .chunk_by(|&a, &b| labels[a as usize] == labels[b as usize])
        .map(|members| (labels[members[0] as usize], members.to_vec()))
        .collect()
}

fn positive(setting: &str, value: usize) -> Result<(), Error> {
    if value == 0 {
        return Err(Error::Settings(format!(
            "`{setting}` is 0; it must be 1 or more"
        )));
    }
    Ok(())
}

/// A length of training that is not 0.
fn span(sampler: &str, every: Span) -> Result<(), Error> {
    let (Span::Steps(count) | Span::Epochs(count)) = every;
    positive(
        &format!("sampler.{sampler}.every"),
        usize::try_from(count).unwrap_or(usize::MAX),
    )
}

/// Half.
fn half() -> Fraction {
    Fraction::literal(0.5)
}
