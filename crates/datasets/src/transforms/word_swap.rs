//! Words in another order.

use nearfar_core::{Fraction, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, words};
use crate::{Error, Value};

/// Lets words of a text change places: each one, with a probability of its own and from left to right, with another that is drawn
/// among all. The words stay the same ones.
///
/// Source: the random swap of Wei, Zou, "EDA: easy data augmentation techniques for boosting performance on text classification
/// tasks", EMNLP 2019, where the number of swaps is a fixed part of the words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WordSwap {
    /// How often a word changes places.
    pub probability: Fraction,
}

impl Default for WordSwap {
    fn default() -> Self {
        Self {
            probability: Fraction::literal(0.1),
        }
    }
}

impl Transform for WordSwap {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let mut words = words(value, "word_swap")?;
        let count = words.len();
        for place in 0..count {
            if rng.chance(self.probability.get()) && count > 1 {
                // Any but itself.
                let other = (place + 1 + rng.below(count - 1)) % count;
                words.swap(place, other);
            }
        }
        Ok(Value::Tokens(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    fn swapped(probability: f64, words: &[u32], position: u64) -> Vec<u32> {
        let swap = WordSwap {
            probability: Fraction::literal(probability),
        };
        let mut rng = Seed(1).rng(Purpose::Augmentation, position);
        match swap.apply(Value::Tokens(words.to_vec()), &mut rng) {
            Ok(Value::Tokens(words)) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_change_places_and_stay_the_same_ones() {
        let words: Vec<u32> = (0..10).collect();
        let mut moved = 0;
        for position in 0..100 {
            assert_eq!(swapped(0.0, &words, position), words);
            assert_eq!(swapped(1.0, &[7], position), [7]);
            let mut some = swapped(0.1, &words, position);
            moved += usize::from(some != words);
            some.sort_unstable();
            assert_eq!(some, words);
        }
        assert!((45..85).contains(&moved), "{moved}"); // 1 − 0.9^10 of them, four standard errors.
        assert_eq!(swapped(1.0, &[1, 2], 0), [1, 2]); // There and back.
    }
}
