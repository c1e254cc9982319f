//! Losses with presets, read: keys that are written, and behind them what the preset says of the others.

use std::cell::Cell;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess,
    VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

use super::{NamedLoss, Preset};
use crate::LossConfig;

/// The key of a loss's table that names its preset.
const PRESET: &str = "preset";

/// The settings of a loss, as a table.
pub(super) fn settings(loss: &LossConfig) -> toml::Table {
    match toml::Table::try_from(loss)
        .ok()
        .and_then(|it| it.into_iter().next())
    {
        Some((_, toml::Value::Table(settings))) => settings,
        _ => toml::Table::new(), // No loss is written as anything else.
    }
}

impl<'de> Deserialize<'de> for NamedLoss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("NamedLoss", LossConfig::NAMES, Named)
    }
}

struct Named;

impl<'de> Visitor<'de> for Named {
    type Value = NamedLoss;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a loss by its name, with its settings")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<NamedLoss, A::Error> {
        let (usual, content) = data.variant_seed(Name)?;
        content.newtype_variant_seed(Settings(usual))
    }
}

/// The name, to the loss with its defaults.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = LossConfig;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<LossConfig, D::Error> {
        let name = String::deserialize(deserializer)?;
        LossConfig::of_name(&name).map_err(|_| D::Error::unknown_variant(&name, LossConfig::NAMES))
    }
}

/// The settings of this loss.
struct Settings(LossConfig);

impl<'de> DeserializeSeed<'de> for Settings {
    type Value = NamedLoss;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<NamedLoss, D::Error> {
        let preset = Cell::new(None);
        let with_preset = WithPreset {
            inner,
            usual: &self.0,
            preset: &preset,
        };
        let config = self.0.read(with_preset)?;
        Ok(NamedLoss {
            config,
            preset: preset.get(),
        })
    }
}

/// A deserializer of a loss's settings that takes the key `preset` for itself, and gives what the preset says of keys that are
/// not there.
struct WithPreset<'a, D> {
    inner: D,
    usual: &'a LossConfig,
    preset: &'a Cell<Option<Preset>>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for WithPreset<'_, D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Keys {
            visitor,
            fields,
            usual: self.usual,
            preset: self.preset,
        })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor) // Settings are structs, so nobody asks.
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Keys<'a, V> {
    visitor: V,
    fields: &'static [&'static str],
    usual: &'a LossConfig,
    preset: &'a Cell<Option<Preset>>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Keys<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Entries {
            inner,
            fields: self.fields,
            usual: self.usual,
            preset: self.preset,
            written: Vec::new(),
            others: None,
            value: None,
        })
    }
}

/// The entries that are written, and then the preset's.
struct Entries<'a, A> {
    inner: A,
    fields: &'static [&'static str],
    usual: &'a LossConfig,
    preset: &'a Cell<Option<Preset>>,
    /// The keys that were written.
    written: Vec<String>,
    /// What the preset says of the others, once all that is written was read.
    others: Option<toml::map::IntoIter<String, toml::Value>>,
    /// The value of the key that was given last, if it is the preset's.
    value: Option<toml::Value>,
}

impl<A> Entries<'_, A> {
    /// The next key of the preset.
    fn next_other(&mut self) -> Option<String> {
        let others = self.others.get_or_insert_with(|| {
            let convention = self
                .preset
                .get()
                .map(|preset| self.usual.convention(preset));
            let settings = convention.map(|it| settings(&it.loss));
            settings.unwrap_or_default().into_iter()
        });
        let (key, value) = others.find(|(key, _)| !self.written.contains(key))?;
        self.value = Some(value);
        Some(key)
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let key = loop {
            let written = match self.others {
                None => self.inner.next_key_seed(Key(self.fields))?,
                Some(_) => None,
            };
            match written {
                Some(key) if key == PRESET && !self.fields.contains(&PRESET) => {
                    self.preset.set(Some(self.inner.next_value()?));
                }
                Some(key) => {
                    self.written.push(key.clone());
                    break Some(key);
                }
                None => break self.next_other(),
            }
        };
        let key = key.map(|key| -> StringDeserializer<A::Error> { key.into_deserializer() });
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match self.value.take() {
            None => self.inner.next_value_seed(seed),
            Some(value) => seed.deserialize(value).map_err(A::Error::custom),
        }
    }
}

/// A key that is one of these, or `preset`; another is refused where it stands.
struct Key(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let key = String::deserialize(deserializer)?;
        if key == PRESET || self.0.contains(&key.as_str()) {
            return Ok(key);
        }
        let known = self.0.iter().chain([&PRESET]);
        let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        let expected = match &known[..] {
            [one] => one.clone(),
            [one, other] => format!("{one} or {other}"),
            more => format!("one of {}", more.join(", ")),
        };
        Err(D::Error::custom(format!(
            "unknown field `{key}`, expected {expected}"
        )))
    }
}
