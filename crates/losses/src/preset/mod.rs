//! Settings by name: those of a loss's paper, and those of its best-known implementation.

mod read;
mod table;

use nearfar_core::{Error, Reducer};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Compares, LossConfig};

/// Whose settings a loss starts from where it does not start from ours: `preset = "peer"` in its table of a run file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Those of the paper that the loss is from.
    Paper,
    /// Those of its best-known implementation: pytorch-metric-learning 2.9, or where that has no such loss sentence-transformers,
    /// or the authors' own code.
    Peer,
}

impl Preset {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Paper, Self::Peer];

    /// Its name in a run file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Peer => "peer",
        }
    }
}

/// A loss as a preset has it, with what it is joined to where that is not the loss's own.
///
/// ```
/// use nearfar_losses::{Compares, LossConfig, Preset};
///
/// let peer = LossConfig::of_name("contrastive")?.convention(Preset::Peer);
/// let compared = peer.compared.expect("distances of rows of length 1");
/// assert_eq!((compared.by, compared.unit_rows), (Compares::Distance("euclidean"), true));
/// assert_eq!(peer.loss, LossConfig::of_name("contrastive")?); // Its margins and its form are ours.
/// # Ok::<(), nearfar_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Convention {
    /// The loss with the preset's settings.
    pub loss: LossConfig,
    /// What rows are compared by.
    pub compared: Option<Compared>,
    /// How terms become one number.
    pub reducer: Option<Reducer>,
}

/// What rows are compared by, and whether each is divided by its length first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The distance or similarity.
    pub by: Compares,
    /// Whether rows are divided by their length: `normalize = true` of the distance.
    pub unit_rows: bool,
}

impl Convention {
    fn of(loss: LossConfig) -> Self {
        Self {
            loss,
            compared: None,
            reducer: None,
        }
    }

    fn by(self, by: Compares) -> Self {
        let compared = Some(Compared {
            by,
            unit_rows: false,
        });
        Self { compared, ..self }
    }

    /// What it is compared by, on rows of length 1.
    fn on_unit_rows(self) -> Self {
        let by = match self.compared {
            Some(compared) => compared.by,
            None => self.loss.defaults().compares,
        };
        let compared = Some(Compared {
            by,
            unit_rows: true,
        });
        Self { compared, ..self }
    }

    fn reduced(self, reducer: Reducer) -> Self {
        let reducer = Some(reducer);
        Self { reducer, ..self }
    }
}

impl LossConfig {
    /// The loss of this name with its defaults.
    ///
    /// # Errors
    /// [`Error::Settings`] for a name that is none.
    pub fn of_name(name: &str) -> Result<Self, Error> {
        let mut all = Self::all().into_iter();
        all.find(|loss| loss.name() == name).ok_or_else(|| {
            Error::Settings(format!(
                "there is no loss `{name}`; there are {}",
                Self::NAMES.join(", ")
            ))
        })
    }

    /// What the presets of this loss change of its defaults, as lines of a run file; empty where both are the defaults.
    pub fn presets(&self) -> String {
        let mut lines = Vec::new();
        for preset in Preset::ALL {
            let convention = self.convention(preset);
            let mut changes = Vec::new();
            let usual = Self::of_name(self.name()).map(|it| read::settings(&it));
            for (key, value) in read::settings(&convention.loss) {
                if usual.as_ref().ok().and_then(|it| it.get(&key)) != Some(&value) {
                    changes.push(format!("{key} = {value}"));
                }
            }
            let mut beside = Vec::new();
            if let Some(Compared { by, unit_rows }) = convention.compared {
                let normalize = if unit_rows {
                    "{ normalize = true }"
                } else {
                    "{}"
                };
                match by {
                    Compares::Distance(name) => {
                        beside.push(format!("distance.{name} = {normalize}"))
                    }
                    Compares::Similarity(name) => {
                        beside.push(format!("similarity.{name} = {normalize}"));
                    }
                    Compares::Centers | Compares::DistantCenters | Compares::Own => {}
                }
            }
            let reducer = convention.reducer.map(|it| toml::Table::try_from(&it));
            for (name, settings) in reducer.into_iter().flatten().flatten() {
                beside.push(format!("reducer.{name} = {settings}"));
            }
            if changes.is_empty() && beside.is_empty() {
                continue;
            }
            lines.push(format!("# preset = \"{}\"", preset.name()));
            if !changes.is_empty() {
                let changes = changes.join(", ");
                lines.push(format!("loss.{} = {{ {changes} }}", self.name()));
            }
            lines.extend(beside);
        }
        lines.join("\n")
    }
}

/// A loss as a run file names it: `loss.contrastive = { preset = "peer", negative_margin = 0.5 }`. Keys that are written win over the
/// preset's, which win over the defaults.
///
/// ```
/// use nearfar_losses::{LossConfig, NamedLoss, Preset};
///
/// let loss: NamedLoss = toml::from_str("triplet_margin = { swap = true, preset = \"peer\" }")?;
/// let LossConfig::TripletMargin(settings) = &loss.config else { panic!() };
/// assert_eq!((settings.margin.get(), settings.swap), (0.05, true));
/// assert_eq!(loss.preset, Some(Preset::Peer));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NamedLoss {
    /// Its settings, all of them.
    pub config: LossConfig,
    /// Where those that were not written are from.
    pub preset: Option<Preset>,
}

impl NamedLoss {
    /// What it is joined to by its preset, where that is not the loss's own.
    pub fn convention(&self) -> Convention {
        match self.preset {
            None => Convention::of(self.config.clone()),
            Some(preset) => Convention {
                loss: self.config.clone(),
                ..self.config.convention(preset)
            },
        }
    }
}

impl From<LossConfig> for NamedLoss {
    fn from(config: LossConfig) -> Self {
        let preset = None;
        Self { config, preset }
    }
}

impl Serialize for NamedLoss {
    /// Its settings, all of them; so what is written does not depend on what presets are.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.config.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NamedLoss, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn every_loss_knows_both_presets_and_written_keys_win() {
        for loss in LossConfig::all() {
            let name = loss.name();
            assert_eq!(
                read(&format!("{name} = {{}}")).expect("a loss"),
                loss.clone().into()
            );
            for preset in Preset::ALL {
                let text = format!("{name} = {{ preset = \"{}\" }}", preset.name());
                let named = read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
                let convention = loss.convention(preset);
                assert_eq!(
                    (&named.config, named.preset),
                    (&convention.loss, Some(preset))
                );
                assert_eq!(named.convention(), convention);
                assert!(named.config.check().is_ok(), "{text}");
                // All of its keys written: nothing is left for the preset.
                let mut all = read::settings(&loss);
                for key in read::settings(&convention.loss).keys() {
                    if !all.contains_key(key) {
                        all.insert(key.clone(), read::settings(&convention.loss)[key].clone());
                    }
                }
                let mut written = all.clone();
                written.insert("preset".into(), preset.name().into());
                let text =
                    toml::to_string(&toml::Table::from_iter([(name.into(), written.into())]));
                let named = read(&text.expect("a table")).expect("a loss");
                assert_eq!(read::settings(&named.config), all);
            }
        }
    }

    #[test]
    fn a_wrong_preset_or_key_is_told_at_its_place() {
        let place = |text: &str| {
            let error = read(text).expect_err("wrong");
            let span = error.span().expect("a place");
            (error.message().to_owned(), text[span].to_owned())
        };
        let (message, at) = place("contrastive = { preset = \"papr\", form = \"squared\" }");
        assert_eq!(at, "\"papr\"");
        assert!(
            message.contains("unknown variant `papr`, expected `paper` or `peer`"),
            "{message}"
        );
        let (message, at) = place("[contrastive]\npreset = \"peer\"\nmargn = 0.3");
        assert_eq!(at, "margn");
        assert!(
            message.contains("unknown field `margn`, expected one of"),
            "{message}"
        );
        assert!(
            message.contains("`negative_margin`") && message.contains("`preset`"),
            "{message}"
        );
        let (message, at) = place("triplet_margin = { preset = \"peer\", margin = -1.0 }");
        assert_eq!(at, "-1.0");
        assert!(message.contains("-1 must be 0 or greater"), "{message}");
        let (message, at) = place("tripplet_margin = {}");
        assert_eq!(at, "tripplet_margin");
        assert!(message.contains("`triplet_margin`"), "{message}");
    }

    #[test]
    fn presets_are_written_as_lines_of_a_run_file() {
        let presets = |name: &str| LossConfig::of_name(name).expect("known").presets();
        assert_eq!(
            presets("contrastive"),
            "# preset = \"paper\"\nloss.contrastive = { form = \"squared_half\" }\n\
             # preset = \"peer\"\ndistance.euclidean = { normalize = true }"
        );
        assert_eq!(presets("binomial_deviance"), "");
        assert!(LossConfig::of_name("contrast").is_err());
    }
}
