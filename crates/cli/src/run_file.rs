//! The run file: what was written, and where a mistake in it is.

use std::path::Path;

use nearfar_core::{Finite, Fraction, NonNegative, Positive, Reducer, Seed, Span};
use nearfar_datasets::{DataConfig, SamplerConfig, TransformConfig};
use nearfar_losses::{
    CenterStart, Compared, Compares, HiddenSupervision, Memory, NamedLoss, Nesting,
    PartSupervision, Penalty, SelfSupervision,
};
use nearfar_metrics::{DistanceConfig, SimilarityConfig};
use nearfar_miners::MinerConfig;
use nearfar_models::{ModelConfig, Pretrained, ScorerConfig};
use nearfar_trainer::{Group, OptimizerConfig, ScheduleConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
    /// What it starts with.
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
    /// What it starts with.
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
            text = changed(name, &text, change)?;
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

    /// How long it trains.
    pub(crate) fn until(&self) -> Span {
        match (self.train.epochs, self.train.steps) {
            (Some(epochs), _) => Span::Epochs(epochs),
            (None, steps) => Span::Steps(steps.unwrap_or(0)), // One of them is there: see `check`.
        }
    }

    /// What serde cannot see: keys that exclude one another, names of scores.
    fn check(&self, name: &str) -> Result<(), Error> {
        let wrong = |message: String| Err(Error::Usage(format!("{name}: {message}")));
        if self.evaluation.distance.is_some() && self.evaluation.similarity.is_some() {
            return wrong(
                "`evaluation` has a `distance` and a `similarity`; embeddings are compared by one of them"
                    .into(),
            );
        }
        match (self.loss.is_some(), self.losses.is_empty()) {
            (true, false) => {
                return wrong(
                    "`loss` and `[[losses]]` are two ways to say the same; use one of them".into(),
                );
            }
            (false, true) => return wrong(
                "there is no loss; write `loss.<name> = {}`, such as `loss.triplet_margin = {}`"
                    .into(),
            ),
            (false, false) => {
                let stray = [
                    ("distance", self.distance.is_some()),
                    ("similarity", self.similarity.is_some()),
                    ("miner", self.miner.is_some()),
                    ("miner_distance", self.miner_distance.is_some()),
                    ("scorer", self.scorer.is_some()),
                    ("reducer", self.reducer.is_some()),
                    ("label_smoothing", self.label_smoothing.is_some()),
                    ("smooth_within", self.smooth_within.is_some()),
                    ("center_start", self.center_start.is_some()),
                    ("memory", self.memory.is_some()),
                    ("self_supervised", self.self_supervised.is_some()),
                    ("matryoshka", self.matryoshka.is_some()),
                    ("parts", self.parts.is_some()),
                    ("deep_supervision", self.deep_supervision.is_some()),
                    (
                        "embedding_regularizer",
                        self.embedding_regularizer.is_some(),
                    ),
                    ("weight_regularizer", self.weight_regularizer.is_some()),
                ];
                if let Some((key, _)) = stray.into_iter().find(|(_, is_there)| *is_there) {
                    return wrong(format!(
                        "`{key}` stands beside `[[losses]]`; write it into the entry that it belongs to"
                    ));
                }
            }
            (true, true) => {}
        }
        match (self.model.is_some(), self.towers.is_empty()) {
            (true, false) => {
                return wrong(
                    "`model` and `[[towers]]` are two ways to say the same; use one of them".into(),
                );
            }
            (false, true) => {
                return wrong(
                    "there is no model; write `model.<name> = {}`, such as `model.conv4 = {}`"
                        .into(),
                );
            }
            _ => {}
        }
        if self.weights.is_some() && !self.towers.is_empty() {
            return wrong(
                "`weights` stands beside `[[towers]]`; write it into the entry of its tower".into(),
            );
        }
        let towers = self.towers.iter().map(|tower| &tower.weights);
        for weights in towers.chain([&self.weights]).flatten() {
            weights.check().or_else(|error| wrong(error.to_string()))?;
        }
        if self.schedule.moves_momentum() && !self.optimizer.has_momentum() {
            return wrong(format!(
                "`schedule.{}` moves the momentum, but `optimizer.{}` has none here; give it a `momentum` if it takes one, take `adam` or `adamw`, \
                 or leave it with `schedule.{0}.momentum = \"own\"`",
                self.schedule.name(),
                self.optimizer.name()
            ));
        }
        match (self.train.epochs, self.train.steps) {
            (Some(_), Some(_)) => {
                return wrong("`train` has `epochs` and `steps`; use one of them".into());
            }
            (None, None) => {
                return wrong(
                    "`train` says neither `epochs` nor `steps`; write one of them".into(),
                );
            }
            (Some(0), _) | (_, Some(0)) => {
                return wrong("`train` is 0 long; train for at least one step".into());
            }
            _ => {}
        }
        // The id of a row has four bits for the view.
        if !(1..=16).contains(&self.views) {
            return wrong(format!(
                "`views` is {}; from 1 to 16 are possible",
                self.views
            ));
        }
        let scores = self.evaluation.scores.iter().chain(&self.checkpoints.best);
        for score in scores {
            if let Err(error) = score.parse::<nearfar_eval::Score>() {
                return wrong(error.to_string());
            }
        }
        if let Some(best) = &self.checkpoints.best {
            if !self.evaluation.scores.is_empty() && !self.evaluation.scores.contains(best) {
                return wrong(format!(
                    "`checkpoints.best` is `{best}`, which is not among `evaluation.scores`; add it there"
                ));
            }
            if self.evaluation.every.is_none() {
                return wrong("`checkpoints.best` needs evaluations during training; write `evaluation.every.epochs = 1`".into());
            }
        } else {
            let given = [
                ("patience", self.checkpoints.patience.is_some()),
                ("enough", self.checkpoints.enough.is_some()),
            ];
            if let Some((key, _)) = given.iter().find(|(_, is_there)| *is_there) {
                return wrong(format!(
                    "`checkpoints.{key}` needs `checkpoints.best`, the score to wait for"
                ));
            }
        }
        self.check_scorers().or_else(wrong)?;
        for entry in self.entries() {
            if entry.reducer == Some(Reducer::None {}) {
                return wrong("the reducer `none` gives no number to minimize; choose another, such as `mean`".into());
            }
            let beside = [
                ("parts", entry.parts.is_some()),
                ("deep_supervision", entry.deep_supervision.is_some()),
            ];
            if let (Some((key, _)), true) = (
                beside.iter().find(|(_, is_there)| *is_there),
                entry.memory.is_some(),
            ) {
                return wrong(format!(
                    "`{}` has a memory and `{key}`, but a memory keeps embeddings alone; use one of them",
                    entry.loss.config.name()
                ));
            }
            if entry.memory.is_some() && entry.self_supervised.is_some() {
                return wrong(format!(
                    "`{}` has a memory and self-supervision, whose rows have no class from batch to batch; use one of them",
                    entry.loss.config.name()
                ));
            }
            if entry.smooth_within.is_some() && entry.label_smoothing.is_none() {
                return wrong(
                    "`smooth_within` says among which classes labels are smoothed; write `label_smoothing`, how much, beside it"
                        .into(),
                );
            }
            if entry.distance.is_some() && entry.similarity.is_some() {
                return wrong(format!(
                    "`{}` has a distance and a similarity; use one of them",
                    entry.loss.config.name()
                ));
            }
        }
        Ok(())
    }
}

/// What serde cannot see of scorers.
impl RunFile {
    fn check_scorers(&self) -> Result<(), String> {
        let entries = self.entries();
        let scored: Vec<&LossEntry> = entries.iter().filter(|it| it.scorer.is_some()).collect();
        if scored.len() > 1 {
            return Err(
                "two losses have a `scorer`; one of them can be what pairs are evaluated by".into(),
            );
        }
        let Some(entry) = scored.first() else {
            return match self.evaluation.rerank {
                0 => Ok(()),
                _ => Err(
                    "`evaluation.rerank` wants a scorer to order neighbors by; write `scorer.<name> = {}` beside a loss such as `pair_cross_entropy`"
                        .into(),
                ),
            };
        };
        let name = entry.loss.config.name();
        if !entry.loss.config.takes_scorer() {
            return Err(format!(
                "`{name}` does not learn from scores of pairs; leave `scorer` out, or take `pair_cross_entropy`"
            ));
        }
        let stray = [
            ("distance", entry.distance.is_some()),
            ("similarity", entry.similarity.is_some()),
            ("memory", entry.memory.is_some()),
            ("self_supervised", entry.self_supervised.is_some()),
            ("matryoshka", entry.matryoshka.is_some()),
            ("parts", entry.parts.is_some()),
            ("deep_supervision", entry.deep_supervision.is_some()),
        ];
        if let Some((key, _)) = stray.into_iter().find(|(_, is_there)| *is_there) {
            return Err(format!(
                "`{name}` learns from the scores of its `scorer`, which `{key}` does not know; use one of them"
            ));
        }
        if self.evaluation.parts {
            return Err("`evaluation.parts` compares vectors of parts, which a `scorer` was not shown; use one of them".into());
        }
        Ok(())
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

/// Reads TOML; a mistake is reported at its line and column, with the nearest valid name.
pub(crate) fn read<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Error> {
    toml::from_str(text)
        .map_err(|error| Error::Usage(located(name, text, error.message(), error.span())))
}

/// One `--set KEY=VALUE` made in the text. A value that is no TOML is taken for a string.
fn changed(name: &str, text: &str, change: &str) -> Result<String, Error> {
    let wrong = |message: String| Error::Usage(format!("--set {change}: {message}"));
    let (key, value) = change
        .split_once('=')
        .ok_or_else(|| wrong("write it as KEY=VALUE, such as train.steps=100".into()))?;
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| {
            Error::Usage(located(name, text, error.message(), error.span()))
        })?;
    let path = toml_edit::Key::parse(key.trim())
        .map_err(|_| wrong(format!("`{key}` is no key; write names with dots between")))?;
    let value: toml_edit::Value = value
        .trim()
        .parse()
        .unwrap_or_else(|_| toml_edit::Value::from(value.trim()));
    let (last, parents) = path
        .split_last()
        .ok_or_else(|| wrong("the key is empty".into()))?;
    let mut place: &mut toml_edit::Item = document.as_item_mut();
    for parent in parents {
        place = step_into(place, parent.get())
            .ok_or_else(|| wrong(format!("`{}` is no table in {name}", parent.get())))?;
    }
    if place.is_array_of_tables() || place.is_array() || !(place.is_table_like() || place.is_none())
    {
        return Err(wrong(format!("`{key}` does not lie in a table of {name}")));
    }
    match place.as_table_like_mut() {
        Some(table) => {
            table.insert(last.get(), toml_edit::Item::Value(value));
        }
        None => place[last.get()] = toml_edit::Item::Value(value),
    }
    Ok(document.to_string())
}

/// A child of a table, or of a list of tables by number (`losses.0`); a missing table is made.
fn step_into<'a>(place: &'a mut toml_edit::Item, key: &str) -> Option<&'a mut toml_edit::Item> {
    if place.is_array_of_tables() {
        return place.get_mut(key.parse::<usize>().ok()?);
    }
    let table = place.as_table_like_mut()?;
    if !table.contains_key(key) {
        let mut made = toml_edit::InlineTable::new();
        made.set_dotted(false);
        table.insert(key, toml_edit::Item::Value(made.into()));
    }
    table
        .get_mut(key)
        .filter(|item| item.is_table_like() || item.is_array_of_tables())
}

/// `run.toml, line 9, column 3: message`, the line itself and a mark below what is wrong.
fn located(name: &str, text: &str, message: &str, span: Option<std::ops::Range<usize>>) -> String {
    let message = with_suggestion(message.trim());
    let Some(span) = span else {
        return format!("{name}: {message}");
    };
    let start = span.start.min(text.len());
    let before = &text[..start];
    let number = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or("");
    let column = text[line_start..start].chars().count();
    let inside = text[start..span.end.min(text.len()).max(start)]
        .lines()
        .next()
        .unwrap_or("");
    let marks = "^".repeat(
        inside
            .chars()
            .count()
            .max(1)
            .min(line.chars().count().saturating_sub(column).max(1)),
    );
    let gutter = number.to_string();
    let empty = " ".repeat(gutter.len());
    format!(
        "{name}, line {number}, column {}: {message}\n  {gutter} | {line}\n  {empty} | {}{marks}",
        column + 1,
        " ".repeat(column)
    )
}

/// Adds the nearest valid name to serde's "unknown field `x`, expected one of `y`, `z`".
fn with_suggestion(message: &str) -> String {
    let (Some(rest), true) = (
        message.split_once('`').map(|(_, rest)| rest),
        message.starts_with("unknown "),
    ) else {
        return message.to_string();
    };
    let Some((written, expected)) = rest.split_once('`') else {
        return message.to_string();
    };
    let valid: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match nearest(written, &valid) {
        Some(name) if valid.len() > 1 => format!("{message}; did you mean `{name}`?"),
        _ => message.to_string(),
    }
}

/// The valid name that is most like what was written, if one is like it at all.
pub(crate) fn nearest<'a>(written: &str, valid: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &str| {
        strsim::jaro_winkler(written, name)
            .max(strsim::normalized_damerau_levenshtein(written, name))
    };
    let (name, best) = valid
        .iter()
        .map(|name| (*name, likeness(name)))
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best > 0.6).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Small {
        loss: nearfar_losses::NamedLoss,
        #[serde(default)]
        steps: u64,
    }

    #[test]
    fn a_wrong_key_is_shown_at_its_place() {
        let error = read::<Small>(
            "run.toml",
            "steps = 3\n[loss.triplet_margin]\nmargn = 0.3\n",
        )
        .expect_err("margn")
        .to_string();
        assert!(
            error.starts_with("run.toml, line 3, column 1: unknown field `margn`, expected"),
            "{error}"
        );
        assert!(error.contains("`margin`"), "{error}");
        assert!(error.ends_with("  3 | margn = 0.3\n    | ^^^^^"), "{error}");
        let error = read::<Small>("run.toml", "loss.tripplet_margin = {}")
            .expect_err("name")
            .to_string();
        assert!(
            error.contains("line 1, column 6: unknown variant `tripplet_margin`")
                && error.contains("did you mean `triplet_margin`?"),
            "{error}"
        );
        let error = read::<Small>("run.toml", "loss.triplet_margin = { margin = -1.0 }")
            .expect_err("value")
            .to_string();
        assert!(
            error.contains("line 1, column 34: -1 must be 0 or greater"),
            "{error}"
        );
    }

    #[test]
    fn changes_are_made_in_the_text() {
        let text = "train = { steps = 3 }\nloss.a.x = 1\n[[losses]]\nweight = 1\n";
        let change = |change: &str| changed("run.toml", text, change);
        assert!(
            change("train.steps=100")
                .expect("a key")
                .contains("train = { steps = 100 }")
        );
        assert!(
            change("loss.a.x = 2")
                .expect("a key")
                .contains("loss.a.x = 2")
        );
        assert!(
            change("losses.0.weight=0.5")
                .expect("a key")
                .contains("weight = 0.5")
        );
        assert!(
            change("schedule.cosine.warmup=5")
                .expect("new")
                .contains("schedule")
        );
        assert!(
            change("device=metal")
                .expect("a string")
                .contains("device = \"metal\"")
        );
        assert!(change("train").is_err());
        assert!(change("losses.7.weight=1").is_err());
    }
}
