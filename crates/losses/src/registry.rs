//! Losses by name.

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{
    Distance, Error, Fraction, Loss, Miner, NegativeDistance, NegativeSimilarity, PairScorer,
    Reducer, Seed, Similarity,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::over::centers::CenterStart;
use crate::over::mining::Mining;
use crate::{batches::*, classes::*, lists::*, pairs::*, scores::*, triplets::*};

/// What a loss learns from, and so what it is joined to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// [`PairLoss`](crate::PairLoss)
    Pairs,
    /// [`TripletLoss`](crate::TripletLoss)
    Triplets,
    /// [`ListLoss`](crate::ListLoss)
    Lists,
    /// [`ClassificationLoss`](crate::ClassificationLoss)
    Classes,
    /// [`ScoreLoss`](crate::ScoreLoss)
    Scores,
    /// [`BatchLoss`](crate::BatchLoss)
    Batches,
}

/// What a batch must say for a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The class of each row.
    Classes,
    /// The class of each row, or which pairs belong together and which do not.
    ClassesOrPairs,
    /// Two inputs for each row that belong together: two views of one image, a question and its answer.
    Views,
    /// Pairs with scores.
    ScoredPairs,
    /// A set of labels for each row.
    Sets,
    /// A real number for each row.
    Targets,
    /// The instance of each pixel.
    Masks,
}

impl Reads {
    /// Its name in messages: `classes or listed pairs`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes => "classes",
            Self::ClassesOrPairs => "classes or listed pairs",
            Self::Views => "two views of each row",
            Self::ScoredPairs => "scored pairs",
            Self::Sets => "sets of labels",
            Self::Targets => "real targets",
            Self::Masks => "masks",
        }
    }
}

/// What rows are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compares {
    /// The distance of this name.
    Distance(&'static str),
    /// The similarity of this name.
    Similarity(&'static str),
    /// Cosines with the loss's own class centers, or with nothing.
    Centers,
    /// Euclidean distances from the loss's own class centers.
    DistantCenters,
    /// What the loss says itself, such as angles: nobody else can name it.
    Own,
}

impl Compares {
    /// The name, for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Distance(name) | Self::Similarity(name) => name,
            Self::Centers => "cosine",
            Self::DistantCenters => "euclidean",
            Self::Own => "its own measure",
        }
    }
}

/// What a loss takes where a run file says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    /// What rows are compared by.
    pub compares: Compares,
    /// How terms become one number.
    pub reducer: Reducer,
}

/// What a loss is joined to. Metrics and miners are other crates; whoever knows both hands their objects over here.
#[derive(Debug)]
pub struct Join {
    /// What rows are compared by, if it is a distance. A loss of similarities takes its negative.
    pub distance: Option<Box<dyn Distance>>,
    /// What rows are compared by, if it is a similarity. A loss of distances takes its negative.
    pub similarity: Option<Box<dyn Similarity>>,
    /// What scores pairs, for a loss of scores or of pairs that has one.
    pub scorer: Option<Box<dyn PairScorer>>,
    /// Which tuples are taken; all where there is none.
    pub miner: Option<Box<dyn Miner>>,
    /// What the miner looks at, where that is not the loss's own.
    pub miner_distance: Option<Box<dyn Distance>>,
    /// How terms become one number, where that is not the loss's own way.
    pub reducer: Option<Reducer>,
    /// Number of classes, for a loss with class centers.
    pub classes: Option<usize>,
    /// How many training samples each class has, for a loss that asks.
    pub class_sizes: Vec<u64>,
    /// How class centers start, where that is not the loss's own way.
    pub center_start: Option<CenterStart>,
    /// How much of each label a softmax over classes spreads over all of them, or over those of its super-class.
    pub label_smoothing: Fraction,
    /// The super-class of each class, for smoothing within it; empty for smoothing over all.
    pub super_classes: Vec<u32>,
    /// Width of the embeddings, for a loss with class centers.
    pub width: usize,
    /// What will stand before the names of the loss's parameters, as in [`Sum::place`](crate::Sum::place): they start by
    /// their full names.
    pub place: String,
    /// What they start by, besides.
    pub seed: Seed,
    /// Their number type.
    pub dtype: DType,
    /// Where they lie.
    pub device: Device,
}

impl Default for Join {
    /// Nothing, in f32 on the CPU.
    fn default() -> Self {
        Self {
            distance: None,
            similarity: None,
            scorer: None,
            miner: None,
            miner_distance: None,
            reducer: None,
            classes: None,
            class_sizes: Vec::new(),
            center_start: None,
            label_smoothing: Fraction::literal(0.0),
            super_classes: Vec::new(),
            width: 0,
            place: String::new(),
            seed: Seed(0),
            dtype: DType::F32,
            device: Device::Cpu,
        }
    }
}

impl Join {
    /// The distance, for a loss that wants one; `name` is the loss, `usual` what it takes by default.
    pub(crate) fn distance(&mut self, name: &str, usual: &str) -> Result<Box<dyn Distance>> {
        match (self.distance.take(), self.similarity.take()) {
            (Some(distance), None) => Ok(distance),
            (None, Some(similarity)) => Ok(Box::new(NegativeSimilarity(similarity))),
            (distance, _) => Err(one_of_two(name, usual, distance.is_some()))?,
        }
    }

    /// The similarity, for a loss that wants one.
    pub(crate) fn similarity(&mut self, name: &str, usual: &str) -> Result<Box<dyn Similarity>> {
        match (self.distance.take(), self.similarity.take()) {
            (None, Some(similarity)) => Ok(similarity),
            (Some(distance), None) => Ok(Box::new(NegativeDistance(distance))),
            (distance, _) => Err(one_of_two(name, usual, distance.is_some()))?,
        }
    }

    /// The miner and what it looks at.
    pub(crate) fn mining(&mut self) -> Mining {
        Mining {
            miner: self.miner.take(),
            distance: self.miner_distance.take(),
        }
    }

    /// The size of class centers, `k` for each class, `(c · k, d)`.
    pub(crate) fn class_centers(&self, name: &str, k: usize) -> Result<(usize, usize)> {
        let classes = self.classes.filter(|&classes| classes > 0).ok_or_else(|| {
            Error::Settings(format!(
                "{name} needs to know how many classes there are; give it data with classes"
            ))
        })?;
        Ok((classes * k, self.known_width(name)?))
    }

    /// The width of the embeddings, for a loss with parameters or state of that width.
    pub(crate) fn known_width(&self, name: &str) -> Result<usize> {
        match self.width {
            0 => Err(Error::Settings(format!(
                "{name} needs to know the width of the embeddings, and it is 0"
            )))?,
            width => Ok(width),
        }
    }

    /// The parameter `centers` of such a size.
    pub(crate) fn centers(&self, start: CenterStart, size: (usize, usize)) -> Result<Var> {
        self.parameter(start, crate::over::classes::CENTERS, size)
    }

    /// A parameter of a name and size.
    pub(crate) fn parameter(
        &self,
        start: CenterStart,
        name: &str,
        size: (usize, usize),
    ) -> Result<Var> {
        let name = format!("{}{name}", self.place);
        start.var(size, &name, self.seed, self.dtype, &self.device)
    }

    pub(crate) fn refuse_scorer(&self, name: &str, learns_from: &str) -> Result<()> {
        match self.scorer {
            None => Ok(()),
            Some(_) => Err(Error::Settings(format!(
                "{name} learns from {learns_from}; leave `scorer` out"
            )))?,
        }
    }

    /// Refuses a distance or similarity for a loss that compares by what it says itself.
    pub(crate) fn refuse_own(&self, name: &str, compares: &str) -> Result<()> {
        let given = match (&self.distance, &self.similarity) {
            (None, None) => return Ok(()),
            (Some(_), _) => "distance",
            (None, Some(_)) => "similarity",
        };
        Err(Error::Settings(format!(
            "{name} learns from {compares}; leave `{given}` out"
        )))?
    }

    pub(crate) fn refuse_miner(&self, name: &str) -> Result<()> {
        match self.miner {
            None => Ok(()),
            Some(_) => Err(Error::Settings(format!(
                "{name} is a function of the whole batch, of which nothing can be chosen; leave `miner` out"
            )))?,
        }
    }

    pub(crate) fn refuse_metric(&self, name: &str) -> Result<()> {
        let given = match (&self.distance, &self.similarity) {
            (None, None) => return Ok(()),
            (Some(_), _) => "distance",
            (None, Some(_)) => "similarity",
        };
        Err(Error::Settings(format!(
            "{name} compares rows with its own class centers; leave `{given}` out"
        )))?
    }
}

/// The error for a loss that was given both a distance and a similarity, or neither.
fn one_of_two(name: &str, usual: &str, both: bool) -> Error {
    let given = if both {
        "both were given"
    } else {
        "neither was given"
    };
    Error::Settings(format!(
        "{name} needs a distance or a similarity (usually `{usual}`), and {given}"
    ))
}

/// Writes the enum of all losses, and what is done for each of them by its family's module in [`crate::over`].
macro_rules! losses {
    ($($name:literal = $loss:ident => $family:ident),* $(,)?) => {
        /// A loss by its name, with its settings: `[loss.triplet_margin]` of a run file.
        ///
        /// ```
        /// use nearfar_losses::{Compares, Family, LossConfig};
        ///
        /// let config: LossConfig = toml::from_str("triplet_margin = { margin = 0.3 }")?;
        /// assert_eq!((config.name(), config.family()), ("triplet_margin", Family::Triplets));
        /// assert_eq!(config.defaults().compares, Compares::Distance("euclidean"));
        /// # Ok::<(), toml::de::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum LossConfig {
            $(
                #[doc = concat!("`", $name, "`")]
                #[serde(rename = $name)]
                $loss($loss),
            )*
        }

        impl LossConfig {
            /// The names of all.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Every loss with its defaults.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$loss($loss::default())),*]
            }

            /// Its name in a run file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$loss(_) => $name,)*
                }
            }

            /// What its source says of it.
            pub fn doc(&self) -> String {
                match self {
                    $(Self::$loss(_) => nearfar_core::doc_of(include_str!(concat!(stringify!($family), "/", $name, ".rs")), stringify!($loss)),)*
                }
            }

            /// What it learns from.
            pub fn family(&self) -> Family {
                match self {
                    $(Self::$loss(_) => crate::over::$family::FAMILY,)*
                }
            }

            /// What a batch must say for it.
            pub fn reads(&self) -> Reads {
                match self {
                    $(Self::$loss(loss) => crate::over::$family::reads(loss),)*
                }
            }

            /// Whether one that reads [two views](Reads::Views) reads more than two, too: those of each two. To the others what follows
            /// the second view is a wrong answer.
            pub fn reads_many_views(&self) -> bool {
                matches!(self, Self::BarlowTwins(_) | Self::SimSiam(_) | Self::VICReg(_))
            }

            /// What it takes where a run file says nothing.
            pub fn defaults(&self) -> Defaults {
                match self {
                    $(Self::$loss(loss) => crate::over::$family::defaults(loss),)*
                }
            }

            /// Whether a miner can choose for it.
            pub fn takes_miner(&self) -> bool {
                match self {
                    $(Self::$loss(loss) => crate::over::$family::takes_miner(loss),)*
                }
            }

            /// Whether a scorer of pairs can give it what it learns from.
            pub fn takes_scorer(&self) -> bool {
                match self {
                    $(Self::$loss(loss) => crate::over::$family::takes_scorer(loss),)*
                }
            }

            /// Whether its settings fit together; what a single one may be is checked when it is read.
            ///
            /// # Errors
            /// [`Error::Settings`] with those that do not.
            pub fn check(&self) -> std::result::Result<(), Error> {
                match self {
                    $(Self::$loss(loss) => crate::over::$family::check(loss),)*
                }
            }

            /// The loss itself, joined to what its family needs.
            ///
            /// # Errors
            /// [`Error::Settings`] when that is missing, too much, or does not fit.
            pub fn build(&self, join: Join) -> Result<Box<dyn Loss>> {
                if join.label_smoothing.get() > 0.0 && self.family() != Family::Classes {
                    Err(Error::Settings(format!(
                        "{} has no classes whose labels could be smoothed; leave `label_smoothing` out",
                        self.name()
                    )))?;
                }
                match self {
                    $(Self::$loss(loss) => crate::over::$family::join($name, loss.clone(), join),)*
                }
            }

            /// The loss of the same name with settings that are read.
            pub(crate) fn read<'de, D: Deserializer<'de>>(&self, settings: D) -> std::result::Result<Self, D::Error> {
                match self {
                    $(Self::$loss(_) => $loss::deserialize(settings).map(Self::$loss),)*
                }
            }

            /// The target that a pair's score stands for, for a loss of scores; none for others. A score is a similarity, or
            /// the negative of a distance: `(t) → (t)`.
            ///
            /// # Errors
            /// Those of candle.
            pub fn estimate(&self, score: &Tensor) -> Result<Option<Tensor>> {
                match self {
                    $(Self::$loss(loss) => crate::over::$family::estimate(loss, score),)*
                }
            }
        }
    };
}

losses! {
    // Pairs.
    "binomial_deviance" = BinomialDeviance => pairs,
    "contrastive" = Contrastive => pairs,
    "intra_pair_variance" = IntraPairVariance => pairs,
    "online_contrastive" = OnlineContrastive => pairs,
    "snr_contrastive" = SNRContrastive => pairs,
    "tcm" = ThresholdConsistentMargin => pairs,
    "neculoiu" = Neculoiu => pairs,

    // Triplets.
    "triplet_margin" = TripletMargin => triplets,
    "triplet_ratio" = TripletRatio => triplets,

    // Lists.
    "circle" = Circle => lists,
    "fast_ap" = FastAP => lists,
    "histogram" = Histogram => lists,
    "lifted" = Lifted => lists,
    "lifted_generalized" = LiftedGeneralized => lists,
    "multi_similarity" = MultiSimilarity => lists,
    "n_pair" = NPair => lists,
    "nca" = NCA => lists,
    "nt_xent" = NTXent => lists,
    "pnp" = PNP => lists,
    "ranked_list" = RankedList => lists,
    "recall_at_k" = RecallAtK => lists,
    "smooth_ap" = SmoothAP => lists,
    "supcon" = SupCon => lists,
    "surrogate_precision" = SurrogatePrecision => lists,
    "tuplet_margin" = TupletMargin => lists,

    // Classes.
    "arcface" = ArcFace => classes,
    "combined_margin" = CombinedMargin => classes,
    "cosface" = CosFace => classes,
    "dynamic_arcface" = DynamicArcFace => classes,
    "l_softmax" = LSoftmax => classes,
    "normalized_softmax" = NormalizedSoftmax => classes,
    "p2sgrad" = P2SGrad => classes,
    "proxy_anchor" = ProxyAnchor => classes,
    "proxy_nca" = ProxyNCA => classes,
    "soft_triple" = SoftTriple => classes,
    "sphereface" = SphereFace => classes,
    "subcenter_arcface" = SubCenterArcFace => classes,

    // Whole batches.
    "angular" = Angular => batches,
    "batch_hard" = BatchHard => batches,
    "centroid_triplet" = CentroidTriplet => batches,
    "correlated" = Correlated => batches,
    "deep_mlkr" = DeepMLKR => batches,
    "discriminative_dense" = DiscriminativeDense => batches,
    "dynamic_soft_margin" = DynamicSoftMargin => batches,
    "hierarchical_triplet" = HierarchicalTriplet => batches,
    "instance" = Instance => batches,
    "label_sensitive_triplet" = LabelSensitiveTriplet => batches,
    "log_ratio" = LogRatio => batches,
    "margin" = Margin => batches,
    "margin_sample_mining" = MarginSampleMining => batches,
    "ml2" = ML2 => batches,
    "multi_supcon" = MultiSupCon => batches,
    "multi_tuple" = MultiTuple => batches,
    "n_pair_sets" = NPairSets => batches,
    "ordinal_triplet" = OrdinalTriplet => batches,
    "pair_cross_entropy" = PairCrossEntropy => batches,
    "pixel_pair" = PixelPair => batches,
    "quadruplet" = Quadruplet => batches,
    "quadruplet_hard" = QuadrupletHard => batches,
    "rnc" = RNC => batches,
    "selectively_contrastive" = SelectivelyContrastive => batches,
    "semi_hard" = SemiHard => batches,

    // Scores.
    "malstm" = MaLSTM => scores,
    "pair_regression" = PairRegression => scores,
    "cosent" = CoSENT => scores,
    "pearson" = Pearson => scores,

    // Whole batches: centers, prototypes, clusters.
    "angular_prototypical" = AngularPrototypical => batches,
    "center" = Center => batches,
    "classifier" = Classifier => batches,
    "facility_location" = FacilityLocation => batches,
    "ge2e" = GE2E => batches,
    "magnet" = Magnet => batches,
    "manifold" = Manifold => batches,
    "mean_variance" = MeanVariance => batches,
    "prototypical" = Prototypical => batches,
    "triplet_center" = TripletCenter => batches,

    // Whole batches of sentences.
    "angle" = AnglE => batches,
    "contrastive_tension" = ContrastiveTension => batches,
    "global_orthogonal" = GlobalOrthogonal => batches,
    "margin_mse" = MarginMSE => batches,
    "softmax_nli" = SoftmaxNLI => batches,
    "tai" = Tai => batches,

    // Two views of each row.
    "barlow_twins" = BarlowTwins => batches,
    "gist" = Gist => batches,
    "mega_batch_margin" = MegaBatchMargin => batches,
    "multiple_negatives_ranking" = MultipleNegativesRanking => batches,
    "simsiam" = SimSiam => batches,
    "vicreg" = VICReg => batches,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_read_by_its_name_alone_and_written_as_it_was() {
        for loss in LossConfig::all() {
            let text = format!("{} = {{}}", loss.name());
            let read: LossConfig = toml::from_str(&text).expect("every setting has a default");
            assert_eq!(read, loss);
            let written = toml::to_string(&loss).expect("settings are tables");
            let again: LossConfig = toml::from_str(&written).expect("what was written");
            assert_eq!(again, loss);
            assert!(loss.check().is_ok());
        }
    }

    #[test]
    fn a_wrong_key_or_value_is_told_with_what_would_be_right() {
        let message = |text: &str| {
            toml::from_str::<LossConfig>(text)
                .expect_err("wrong")
                .to_string()
        };
        let error = message("[triplet_margin]\nmargn = 0.3");
        assert!(
            error.contains("line 2") && error.contains("unknown field `margn`"),
            "{error}"
        );
        assert!(message("nt_xent = { temperature = 0 }").contains("0 must be greater than 0"));
        assert!(message("arc_face = {}").contains("`arcface`"));
        assert!(message("contrastive = { form = \"square\" }").contains("`squared_half`"));
    }

    #[test]
    fn a_loss_says_what_it_misses_or_has_too_much_of() {
        #[derive(Debug)]
        struct Zero;
        impl Distance for Zero {
            fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
                Tensor::zeros((x.dim(0)?, y.dim(0)?), x.dtype(), x.device())
            }
            fn paired(&self, x: &Tensor, _: &Tensor) -> Result<Tensor> {
                Tensor::zeros(x.dim(0)?, x.dtype(), x.device())
            }
            fn axioms(&self) -> nearfar_core::Axioms {
                nearfar_core::Axioms::METRIC
            }
        }
        let with_distance = || Join {
            distance: Some(Box::new(Zero)),
            ..Join::default()
        };
        let message = |name: &str, join: Join| {
            let all = LossConfig::all();
            let config = all.iter().find(|it| it.name() == name).expect("known");
            let error = config.build(join).expect_err("it does not fit");
            assert!(matches!(Error::of(&error), Some(Error::Settings(_))));
            error.to_string()
        };
        assert_eq!(
            message("triplet_margin", Join::default()),
            "triplet_margin needs a distance or a similarity (usually `euclidean`), and neither was given"
        );
        assert!(message("arcface", with_distance()).contains("leave `distance` out"));
        assert!(
            message(
                "arcface",
                Join {
                    width: 3,
                    ..Join::default()
                }
            )
            .contains("how many classes")
        );
        let classes = Some(3);
        assert!(
            message(
                "arcface",
                Join {
                    classes,
                    ..Join::default()
                }
            )
            .contains("the width")
        );
        // A family takes the other kind as its negative.
        for name in [
            "contrastive",
            "triplet_margin",
            "multi_similarity",
            "nt_xent",
            "malstm",
        ] {
            let all = LossConfig::all();
            let config = all.iter().find(|it| it.name() == name).expect("known");
            assert!(config.build(with_distance()).is_ok(), "{name}");
        }
    }
}
