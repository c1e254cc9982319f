//! Settings of a function of another library, and why they may not be understood.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Why a case has no values of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The mapper does not know what to do with it.
    Unmapped(String),
    /// Our code answered with this error.
    Refused(String),
}

/// What the mapper gives.
pub type Mapped<T> = Result<T, Trouble>;

impl Trouble {
    /// The mapper does not know what to do with this.
    pub fn unmapped(what: impl Into<String>) -> Self {
        Self::Unmapped(what.into())
    }
}

macro_rules! refused {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                Self::Refused(error.to_string())
            }
        }
    )*};
}

refused!(
    candle_core::Error,
    nearfar_core::Error,
    nearfar_eval::Error,
    nearfar_trainer::Error,
);

/// Settings that must all be read: one that is left over is one that the mapper does not know.
#[derive(Clone, Debug)]
pub struct Settings {
    place: String,
    values: Map<String, Value>,
}

impl Settings {
    pub(super) fn new(place: &str, values: Map<String, Value>) -> Self {
        Self {
            place: place.into(),
            values,
        }
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Trouble {
        Trouble::Unmapped(format!(
            "{}: `{key}` is {value}, {wanted} is wanted",
            self.place
        ))
    }

    /// A setting as it is; none where it is missing or null.
    pub fn value(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key).filter(|value| !value.is_null())
    }

    /// A number.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn number(&mut self, key: &str) -> Mapped<Option<f64>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, &value, "a number")),
        }
    }

    /// A number, or what it is by default.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn number_or(&mut self, key: &str, default: f64) -> Mapped<f64> {
        Ok(self.number(key)?.unwrap_or(default))
    }

    /// A whole number of 0 or more.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn count(&mut self, key: &str) -> Mapped<Option<usize>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) => Ok(Some(number as usize)),
            None => Err(self.wrong(key, &value, "a whole number")),
        }
    }

    /// Yes or no, or what it is by default.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn flag_or(&mut self, key: &str, default: bool) -> Mapped<bool> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.wrong(key, &other, "true or false")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn text(&mut self, key: &str) -> Mapped<Option<String>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, &other, "a text")),
        }
    }

    /// A list of numbers.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn numbers(&mut self, key: &str) -> Mapped<Option<Vec<f64>>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let numbers = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_f64).collect());
        match numbers {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.wrong(key, &value, "a list of numbers")),
        }
    }

    /// Settings within settings; none is empty.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn settings(&mut self, key: &str) -> Mapped<Self> {
        match self.value(key) {
            None => Ok(Self::new(&self.place, Map::new())),
            Some(Value::Object(values)) => Ok(Self::new(&self.place, values)),
            Some(other) => Err(self.wrong(key, &other, "settings")),
        }
    }

    /// Another object of the same library.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn object(&mut self, key: &str) -> Mapped<Option<Object>> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => self.object_of(key, value).map(Some),
        }
    }

    /// A list of other objects.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn objects(&mut self, key: &str) -> Mapped<Option<Vec<Object>>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(list)) => {
                let objects = list.into_iter().map(|value| self.object_of(key, value));
                objects.collect::<Mapped<_>>().map(Some)
            }
            Some(other) => Err(self.wrong(key, &other, "a list of objects")),
        }
    }

    fn object_of(&self, key: &str, value: Value) -> Mapped<Object> {
        #[derive(Deserialize)]
        struct Written {
            name: String,
            #[serde(default)]
            params: Map<String, Value>,
        }
        let written: Written = serde_json::from_value(value.clone())
            .map_err(|_| self.wrong(key, &value, "an object with `name` and `params`"))?;
        Ok(Object {
            params: Settings::new(&format!("{}.{}", self.place, written.name), written.params),
            name: written.name,
        })
    }

    /// Nothing is left.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] with the first setting that is.
    pub fn finish(self) -> Mapped<()> {
        match self.values.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((key, value)) => Err(Trouble::Unmapped(format!(
                "{}: `{key}` = {value} is not known to the mapper",
                self.place
            ))),
        }
    }
}

/// An object of the other library among the settings of a function.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its class.
    pub name: String,
    /// Its settings.
    pub params: Settings,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::Function;

    #[test]
    fn a_setting_that_nobody_reads_is_told() {
        let function: Function = serde_json::from_value(serde_json::json!({
            "peer": "a.b.Loss", "params": {"margin": 1, "swap": true, "other": null}, "method": "m"
        }))
        .expect("a function");
        assert_eq!((function.short(), function.path()), ("Loss", "a.b.Loss"));
        let mut params = function.params();
        assert_eq!(params.number_or("margin", 0.0), Ok(1.0));
        let left = params.clone().finish().expect_err("swap is left");
        assert_eq!(
            left,
            Trouble::unmapped("Loss: `swap` = true is not known to the mapper")
        );
        assert!(params.number("swap").is_err(), "it is no number");
        assert_eq!(params.finish(), Ok(()));
        assert_eq!(function.call().text("method"), Ok(Some("m".into())));
    }
}
