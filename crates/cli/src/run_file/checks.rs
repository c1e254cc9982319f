//! What serde cannot see of a run file: keys that exclude one another, names of scores.

use nearfar_core::Reducer;

use super::{LossEntry, RunFile};
use crate::exit::Error;

impl RunFile {
    /// What serde cannot see: keys that exclude one another, names of scores.
    pub(super) fn check(&self, name: &str) -> Result<(), Error> {
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
                    ("head_regularizer", self.head_regularizer.is_some()),
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
        let of_model = [
            ("weights", self.weights.is_some()),
            ("head", self.head.is_some()),
        ];
        if let Some((key, _)) = of_model.into_iter().find(|(_, is_there)| *is_there)
            && !self.towers.is_empty()
        {
            return wrong(format!(
                "`{key}` stands beside `[[towers]]`; write it into the entry of its tower"
            ));
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
