//! The run file: everything a run is made from, as it was written.

mod changes;
mod checks;
mod mistakes;

use std::path::Path;

use nearfar_core::{Finite, Fraction, NonNegative, Positive, Reducer, Seed, Span};
use nearfar_datasets::{DataConfig, SamplerConfig, TransformConfig};
use nearfar_losses::{
    CenterStart, Compared, Compares, HiddenSupervision, Memory, NamedLoss, Nesting,
    PartSupervision, Penalty, SelfSupervision,
};
use nearfar_metrics::{DistanceConfig, SimilarityConfig};
use nearfar_miners::MinerConfig;
use nearfar_models::{HeadConfig, ModelConfig, Pretrained, ScorerConfig};
use nearfar_trainer::{Group, OptimizerConfig, ScheduleConfig};
use serde::{Deserialize, Serialize};

pub(crate) use mistakes::read;

use crate::exit::Error;

/// Everything a run is made from.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunFile {
    /// The one number everything random comes from.
    #[serde(default)]
    pub(crate) seed: Seed,
    /// What is learned from.
    pub(crate) data: DataConfig,
    /// Changes of training samples, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) augmentation: Vec<TransformConfig>,
    /// How often a sample that is trained on is looked at, each time augmented on its own.
    #[serde(default = "single_view", skip_serializing_if = "is_single_view")]
    pub(crate) views: usize,
    /// Which samples make a batch.
    pub(crate) sampler: SamplerConfig,
    /// One tower for all inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<ModelConfig>,
    /// What stands over it and gives the embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<HeadConfig>,
    /// What the model starts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weights: Option<Pretrained>,
    /// Or one for each input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) towers: Vec<TowerEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loss: Option<NamedLoss>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) distance: Option<DistanceConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) similarity: Option<SimilarityConfig>,
    /// What scores pairs, for a loss that learns from scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scorer: Option<ScorerConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) miner: Option<MinerConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) miner_distance: Option<DistanceConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reducer: Option<Reducer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label_smoothing: Option<Fraction>,
    /// Labels are smoothed among classes whose names agree before the last of these: `"/"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) smooth_within: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) center_start: Option<CenterStart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Memory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) self_supervised: Option<SelfSupervision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) matryoshka: Option<Nesting>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<PartSupervision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deep_supervision: Option<HiddenSupervision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) embedding_regularizer: Option<Penalty>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight_regularizer: Option<Penalty>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) head_regularizer: Option<Penalty>,
    /// Or several losses, with their weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) losses: Vec<LossEntry>,
    pub(crate) optimizer: OptimizerConfig,
    #[serde(default)]
    pub(crate) schedule: ScheduleConfig,
    pub(crate) train: Train,
    /// Parameters with rates of their own, by pattern.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<Group>,
    #[serde(default)]
    pub(crate) evaluation: Evaluation,
    #[serde(default)]
    pub(crate) checkpoints: Checkpoints,
}

/// One tower.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TowerEntry {
    pub(crate) model: ModelConfig,
    /// What stands over it and gives the embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<HeadConfig>,
    /// What the model starts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weights: Option<Pretrained>,
}

/// One loss with what it is joined to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LossEntry {
    #[serde(default = "one")]
    pub(crate) weight: NonNegative,
    pub(crate) loss: NamedLoss,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) distance: Option<DistanceConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) similarity: Option<SimilarityConfig>,
    /// What scores pairs, for a loss that learns from scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scorer: Option<ScorerConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) miner: Option<MinerConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) miner_distance: Option<DistanceConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reducer: Option<Reducer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label_smoothing: Option<Fraction>,
    /// Labels are smoothed among classes whose names agree before the last of these: `"/"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) smooth_within: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) center_start: Option<CenterStart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Memory>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) self_supervised: Option<SelfSupervision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) matryoshka: Option<Nesting>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<PartSupervision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deep_supervision: Option<HiddenSupervision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) embedding_regularizer: Option<Penalty>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight_regularizer: Option<Penalty>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) head_regularizer: Option<Penalty>,
}

const fn single_view() -> usize {
    1
}

fn is_single_view(views: &usize) -> bool {
    *views == 1
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

const fn one() -> NonNegative {
    NonNegative::literal(1.0)
}

/// How long, and how carefully.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Train {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) epochs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<u64>,
    /// Scales the gradient down to this norm where it is larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clip_norm: Option<Positive>,
    /// Batches whose gradients are averaged for one update.
    #[serde(default = "single")]
    pub(crate) accumulate: std::num::NonZeroU64,
}

const fn single() -> std::num::NonZeroU64 {
    std::num::NonZeroU64::MIN
}

/// What is scored, and when.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Evaluation {
    /// The part of the data that is scored during training: `validation` where there is one, else `test`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) split: Option<String>,
    /// How often during training; only at the end where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) every: Option<Span>,
    /// Scores, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) scores: Vec<String>,
    /// What embeddings are compared by, where it is not what the loss compares by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) distance: Option<DistanceConfig>,
    /// The same as a similarity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) similarity: Option<SimilarityConfig>,
    /// How many of the nearest of each query the run's scorer orders anew; none where it is left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) rerank: usize,
    /// Pairs of each kind that verification looks at: half a million where it is left out, 20,000 through a scorer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pairs: Option<usize>,
    /// Whether parts are searched and scored, side by side, in place of the embedding.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) parts: bool,
}

/// What is kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Checkpoints {
    /// How often; only at the end where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) every: Option<Span>,
    /// How many of the newest.
    pub(crate) keep: std::num::NonZeroUsize,
    /// The score that says which is best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) best: Option<String>,
    /// Stops after this many evaluations without a better score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) patience: Option<u64>,
    /// Stops when the score is this or better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enough: Option<Finite>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            every: None,
            keep: std::num::NonZeroUsize::MIN,
            best: None,
            patience: None,
            enough: None,
        }
    }
}

impl RunFile {
    /// A run file with changes, as read; and its text with the changes made.
    pub(crate) fn read(path: &Path, changes: &[String]) -> Result<(Self, String), Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            action: "read",
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text, changes)
    }

    /// The same of a text.
    pub(crate) fn parse(
        name: &str,
        text: &str,
        changes: &[String],
    ) -> Result<(Self, String), Error> {
        let mut text = text.to_string();
        for change in changes {
            text = changes::changed(name, &text, change)?;
        }
        let mut run: Self = read(name, &text)?;
        run.check(name)?;
        run.follow_presets();
        Ok((run, text))
    }

    /// The losses with their weights, from whichever form was written.
    pub(crate) fn entries(&self) -> Vec<LossEntry> {
        match &self.loss {
            None => self.losses.clone(),
            Some(loss) => vec![LossEntry {
                weight: one(),
                loss: loss.clone(),
                distance: self.distance.clone(),
                similarity: self.similarity.clone(),
                scorer: self.scorer.clone(),
                miner: self.miner.clone(),
                miner_distance: self.miner_distance.clone(),
                reducer: self.reducer.clone(),
                label_smoothing: self.label_smoothing,
                smooth_within: self.smooth_within.clone(),
                center_start: self.center_start,
                memory: self.memory,
                self_supervised: self.self_supervised,
                matryoshka: self.matryoshka.clone(),
                parts: self.parts,
                deep_supervision: self.deep_supervision,
                embedding_regularizer: self.embedding_regularizer.clone(),
                weight_regularizer: self.weight_regularizer.clone(),
                head_regularizer: self.head_regularizer.clone(),
            }],
        }
    }

    /// Fills in what presets of losses say of what these are joined to, so that the run file says all that it means.
    fn follow_presets(&mut self) {
        if let Some(loss) = &self.loss {
            follow_preset(
                loss,
                &mut self.distance,
                &mut self.similarity,
                &mut self.reducer,
            );
        }
        for it in &mut self.losses {
            follow_preset(
                &it.loss,
                &mut it.distance,
                &mut it.similarity,
                &mut it.reducer,
            );
        }
    }

    /// Whether a tower starts with weights that were trained elsewhere.
    pub(crate) fn is_pretrained(&self) -> bool {
        self.weights.is_some() || self.towers.iter().any(|it| it.weights.is_some())
    }

    /// Whether a head starts from what its model makes of training samples.
    pub(crate) fn starts_from_samples(&self) -> bool {
        let of_towers = self.towers.iter().filter_map(|tower| tower.head.as_ref());
        let mut heads = self.head.iter().chain(of_towers);
        heads.any(HeadConfig::starts_from_samples)
    }

    /// What names of the parameters of each head begin with.
    pub(crate) fn places_of_heads(&self) -> Vec<String> {
        let of_towers = self.towers.iter().enumerate();
        let of_towers = of_towers.filter_map(|(index, tower)| {
            let head = tower.head.as_ref()?;
            Some(format!("towers.{index}.{}.", head.name()))
        });
        let of_model = self.head.iter().map(|head| format!("{}.", head.name()));
        of_model.chain(of_towers).collect()
    }

    /// The models by name, each with its head.
    pub(crate) fn names_of_models(&self) -> Vec<String> {
        let of_towers = self.towers.iter().map(|tower| (&tower.model, &tower.head));
        let of_model = self.model.iter().map(|model| (model, &self.head));
        let named = |(model, head): (&ModelConfig, &Option<HeadConfig>)| match head {
            Some(head) => format!("{} under {}", model.name(), head.name()),
            None => model.name().to_owned(),
        };
        of_model.chain(of_towers).map(named).collect()
    }

    /// How long it trains.
    pub(crate) fn until(&self) -> Span {
        match (self.train.epochs, self.train.steps) {
            (Some(epochs), _) => Span::Epochs(epochs),
            (None, steps) => Span::Steps(steps.unwrap_or(0)), // One of them is there: see `check`.
        }
    }
}

/// What a loss's preset says of what it is joined to, where the run file does not say it.
fn follow_preset(
    loss: &NamedLoss,
    distance: &mut Option<DistanceConfig>,
    similarity: &mut Option<SimilarityConfig>,
    reducer: &mut Option<Reducer>,
) {
    let convention = loss.convention();
    if reducer.is_none() {
        *reducer = convention.reducer;
    }
    let (Some(Compared { by, unit_rows }), None, None) =
        (convention.compared, &distance, &similarity)
    else {
        return;
    };
    match by {
        Compares::Distance(name) => {
            let named = DistanceConfig::of_name(name);
            *distance = if unit_rows {
                named.and_then(DistanceConfig::on_unit_rows)
            } else {
                named
            };
        }
        Compares::Similarity(name) => {
            let named = SimilarityConfig::of_name(name);
            *similarity = if unit_rows {
                named.and_then(SimilarityConfig::on_unit_rows)
            } else {
                named
            };
        }
        Compares::Centers | Compares::DistantCenters | Compares::Own => {}
    }
}
