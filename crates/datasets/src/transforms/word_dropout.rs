//! Words that are not read.

use nearfar_core::{Fraction, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, words};
use crate::{Error, Value};

/// Leaves words of a text out, each with a probability of its own, so that no single word decides. One word stays where all would go.
/// The text becomes shorter by as many; words that `length` cut off do not move up.
///
/// Source: Iyyer et al., "Deep unordered composition rivals syntactic methods for text classification", ACL 2015 (word dropout); the
/// random deletion of Wei, Zou, "EDA", EMNLP 2019.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WordDropout {
    /// How often a word is left out.
    pub probability: Fraction,
}

impl Default for WordDropout {
    fn default() -> Self {
        Self {
            probability: Fraction::literal(0.1),
        }
    }
}

impl Transform for WordDropout {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let mut words = words(value, "word_dropout")?;
        let last = rng.choose(&words).copied();
        words.retain(|_| !rng.chance(self.probability.get()));
        if words.is_empty() {
            words.extend(last);
        }
        Ok(Value::Tokens(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    fn left(probability: f64, position: u64) -> Vec<u32> {
        let dropout = WordDropout {
            probability: Fraction::literal(probability),
        };
        let mut rng = Seed(1).rng(Purpose::Augmentation, position);
        match dropout.apply(Value::Tokens((1..=10).collect()), &mut rng) {
            Ok(Value::Tokens(words)) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_are_left_out_in_their_order_but_never_all() {
        let mut count = 0;
        for position in 0..200 {
            assert_eq!(left(0.0, position), (1..=10).collect::<Vec<u32>>());
            assert_eq!(left(1.0, position).len(), 1);
            let some = left(0.3, position);
            assert!(some.is_sorted());
            count += some.len();
        }
        assert!((1_310..1_490).contains(&count), "{count}"); // 1400, four standard errors.
    }
}
