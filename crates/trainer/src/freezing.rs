//! What stays as it is, and until when.

use std::collections::BTreeMap;

use nearfar_core::name_matches;

use crate::error::Error;
use crate::options::Group;
use crate::towers::Towers;

/// Until when a tensor stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Frozen {
    /// It never does.
    #[default]
    Never,
    /// Before the step at this position.
    Before(u64),
    /// It always does.
    Always,
}

impl Frozen {
    /// Whether it stays as it is in the step at this position.
    pub(crate) fn at(self, step: u64) -> bool {
        match self {
            Self::Never => false,
            Self::Before(end) => step < end,
            Self::Always => true,
        }
    }

    fn of(group: &Group) -> Self {
        match (group.frozen, group.unfreeze_after) {
            (false, _) => Self::Never,
            (true, Some(steps)) => Self::Before(steps),
            (true, None) => Self::Always,
        }
    }
}

/// What the groups of a run freeze.
pub(crate) struct Freezing {
    /// Those that are frozen at some step, by name.
    tensors: BTreeMap<String, Tensor>,
}

struct Tensor {
    frozen: Frozen,
    statistic: bool,
    /// What its encoder was last told.
    told: Option<bool>,
}

impl Freezing {
    /// `trained` are parameters that would be trained, `resting` the others: running statistics.
    pub(crate) fn new<'a>(
        groups: &[Group],
        trained: impl Iterator<Item = &'a str>,
        resting: impl Iterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        if let Some(group) = groups
            .iter()
            .find(|group| group.unfreeze_after.is_some() && !group.frozen)
        {
            return Err(Error::Settings(format!(
                "groups: `{}` has `unfreeze_after` but is not frozen; write `frozen = true` beside it",
                group.parameters
            )));
        }
        let mut tensors = BTreeMap::new();
        let mut moves = false;
        let all = trained.map(|name| (name, false));
        for (name, statistic) in all.chain(resting.map(|name| (name, true))) {
            let group = groups
                .iter()
                .find(|group| name_matches(&group.parameters, name));
            let frozen = group.map_or(Frozen::Never, Frozen::of);
            moves |= !statistic && !frozen.at(0);
            if frozen != Frozen::Never {
                let tensor = Tensor {
                    frozen,
                    statistic,
                    told: None,
                };
                tensors.insert(name.to_owned(), tensor);
            }
        }
        if !moves {
            return Err(Error::Settings(
                "groups: all parameters are frozen at the first step; leave some to be trained"
                    .into(),
            ));
        }
        Ok(Self { tensors })
    }

    /// Until when a tensor stays as it is.
    pub(crate) fn of(&self, name: &str) -> Frozen {
        self.tensors
            .get(name)
            .map_or(Frozen::Never, |tensor| tensor.frozen)
    }

    /// Whether something that was frozen no longer is in the step at this position.
    pub(crate) fn thaws_at(&self, step: u64) -> bool {
        step > 0
            && self
                .tensors
                .values()
                .any(|tensor| tensor.frozen == Frozen::Before(step))
    }

    /// Tells the towers what is frozen in the step at this position.
    pub(crate) fn apply(&mut self, towers: &Towers, step: u64) -> Result<(), Error> {
        for (name, tensor) in &mut self.tensors {
            let frozen = tensor.frozen.at(step);
            if tensor.told == Some(frozen) {
                continue;
            }
            // A parameter that cannot leave the graph is not moved; a statistic moves by itself.
            if !towers.freeze(name, frozen) && tensor.statistic && frozen {
                return Err(Error::Settings(format!(
                    "groups: `{name}` is a running statistic that its encoder cannot freeze; name its parameters alone"
                )));
            }
            tensor.told = Some(frozen);
        }
        Ok(())
    }
}
