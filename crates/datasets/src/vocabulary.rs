//! Words as numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The words of a text: runs of letters and digits (as Unicode has them), in lower case; all else separates.
///
/// ```
/// let words: Vec<_> = nearfar_datasets::words("A man isn't playing, is he?").collect();
/// assert_eq!(words, ["a", "man", "isn", "t", "playing", "is", "he"]);
/// ```
pub fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// The characters of a text in lower case; each run of white space is one space, and there is none at the ends.
///
/// ```
/// let characters: Vec<_> = nearfar_datasets::characters(" C++  Dev").collect();
/// assert_eq!(characters, ["c", "+", "+", " ", "d", "e", "v"]);
/// ```
pub fn characters(text: &str) -> impl Iterator<Item = String> + '_ {
    let spaced = text.split_whitespace().enumerate().flat_map(|(at, word)| {
        let space = (at > 0).then_some(' ');
        space.into_iter().chain(word.chars())
    });
    spaced.flat_map(char::to_lowercase).map(String::from)
}

/// What of a text has a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextUnit {
    /// Each word: see [`words`].
    #[default]
    Words,
    /// Each character: see [`characters`].
    Characters,
}

impl TextUnit {
    fn of<'a>(self, text: &'a str) -> Box<dyn Iterator<Item = String> + 'a> {
        match self {
            Self::Words => Box::new(words(text)),
            Self::Characters => Box::new(characters(text)),
        }
    }

    fn is_words(&self) -> bool {
        *self == Self::Words
    }
}

/// The words (or characters) that are known, from the training texts alone. Number 0 is `<unk>`, which stands for every other word; batches
/// are padded with 0 too, and say how long each text really is.
///
/// ```
/// use nearfar_datasets::{TextUnit, Vocabulary};
///
/// let vocabulary = Vocabulary::of(["a cat", "a dog"], TextUnit::Words, 1, None);
/// assert_eq!(vocabulary.words(), ["<unk>", "a", "cat", "dog"]);
/// assert_eq!(vocabulary.tokens("A bird, a dog!", 128), [1, 0, 1, 3]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Vocabulary {
    /// By number; the first is `<unk>`.
    words: Vec<String>,
    numbers: BTreeMap<String, u32>,
    unit: TextUnit,
}

const UNKNOWN: &str = "<unk>";
const FORMAT: &str = "nearfar-vocabulary/1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: String,
    words: Vec<String>,
    #[serde(default, skip_serializing_if = "TextUnit::is_words")]
    unit: TextUnit,
}

impl TryFrom<Written> for Vocabulary {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.format != FORMAT {
            return Err(format!(
                "the vocabulary's format is `{}`, not `{FORMAT}`",
                written.format
            ));
        }
        if written.words.first().map(String::as_str) != Some(UNKNOWN) {
            return Err(format!("the vocabulary does not begin with `{UNKNOWN}`"));
        }
        let vocabulary = Self::numbered(written.words, written.unit);
        if vocabulary.numbers.len() != vocabulary.words.len() {
            return Err("the vocabulary has a word twice".into());
        }
        Ok(vocabulary)
    }
}

impl From<Vocabulary> for Written {
    fn from(vocabulary: Vocabulary) -> Self {
        Self {
            format: FORMAT.into(),
            words: vocabulary.words,
            unit: vocabulary.unit,
        }
    }
}

impl Vocabulary {
    /// The words of these texts, or their characters, that occur at least `min_count` times, the most frequent first and equals by their bytes;
    /// of these the first `most`.
    pub fn of<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        unit: TextUnit,
        min_count: u64,
        most: Option<usize>,
    ) -> Self {
        let words = texts.into_iter().flat_map(|text| unit.of(text));
        Self::counted(words, unit, min_count, most)
    }

    /// The same of words that a text was split into before; they stand here as they are.
    pub(crate) fn of_words<'a>(
        words: impl IntoIterator<Item = &'a str>,
        min_count: u64,
        most: Option<usize>,
    ) -> Self {
        let words = words.into_iter().filter(|&word| word != UNKNOWN);
        Self::counted(words.map(str::to_owned), TextUnit::Words, min_count, most)
    }

    fn counted(
        words: impl Iterator<Item = String>,
        unit: TextUnit,
        min_count: u64,
        most: Option<usize>,
    ) -> Self {
        let mut counts = BTreeMap::<String, u64>::new();
        words.for_each(|word| *counts.entry(word).or_default() += 1);
        let mut frequent: Vec<(String, u64)> = counts
            .into_iter()
            .filter(|(_, count)| *count >= min_count)
            .collect();
        frequent.sort_by_key(|(_, count)| std::cmp::Reverse(*count)); // Stable, so equals stay in order.
        frequent.truncate(most.unwrap_or(usize::MAX).min(u32::MAX as usize - 1));
        let known = frequent.into_iter().map(|(word, _)| word);
        let words = std::iter::once(UNKNOWN.to_owned()).chain(known);
        Self::numbered(words.collect(), unit)
    }

    fn numbered(words: Vec<String>, unit: TextUnit) -> Self {
        let numbers = (0..)
            .zip(&words)
            .map(|(number, word)| (word.clone(), number));
        Self {
            numbers: numbers.collect(),
            words,
            unit,
        }
    }

    /// All words by number; the first is `<unk>`.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// How many there are, `<unk>` among them.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Never: there is `<unk>`.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The number of a word as [`words`] gives it; 0 for an unknown one.
    pub fn number(&self, word: &str) -> u32 {
        self.numbers.get(word).copied().unwrap_or(0)
    }

    /// The first `length` words of a text, or characters, as numbers. A text without any is one `<unk>`.
    pub fn tokens(&self, text: &str, length: usize) -> Vec<u32> {
        let mut tokens: Vec<u32> = (self.unit)
            .of(text)
            .take(length.max(1))
            .map(|word| self.number(&word))
            .collect();
        if tokens.is_empty() {
            tokens.push(0);
        }
        tokens
    }

    /// As JSON: what a run stores.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a list of words has no key that is not a text")
    }

    /// The vocabulary that was stored.
    ///
    /// # Errors
    /// [`Error::Settings`] when it is not one.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| {
            Error::Settings(format!("the stored vocabulary cannot be read: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_words_come_first_and_rare_ones_are_unknown() {
        let texts = ["b a b", "c b a", "d"];
        assert_eq!(
            Vocabulary::of(texts, TextUnit::Words, 1, None).words(),
            ["<unk>", "b", "a", "c", "d"]
        );
        assert_eq!(
            Vocabulary::of(texts, TextUnit::Words, 2, None).words(),
            ["<unk>", "b", "a"]
        );
        let two = Vocabulary::of(texts, TextUnit::Words, 1, Some(1));
        assert_eq!(two.words(), ["<unk>", "b"]);
        assert_eq!(two.tokens("a B", 128), [0, 1]);
        assert_eq!(two.tokens("b b b", 2), [1, 1]);
        assert_eq!(two.tokens("?!", 128), [0]);
        // The marker is not a word that a text can hold; where others have split it, it is what it stands for.
        assert_eq!(words("<unk>").collect::<Vec<_>>(), ["unk"]);
        let split = Vocabulary::of_words(["don't", "<unk>", "<unk>", "go", "go"], 1, None);
        assert_eq!(split.words(), ["<unk>", "go", "don't"]);
        assert_eq!(split.number("<unk>"), 0);
    }

    #[test]
    fn characters_have_numbers_too() {
        let characters = Vocabulary::of(["A  b a", "c++"], TextUnit::Characters, 1, None);
        assert_eq!(characters.words(), ["<unk>", " ", "+", "a", "b", "c"]);
        assert_eq!(characters.tokens(" B?\tA", 128), [4, 0, 1, 3]);
        assert_eq!(characters.tokens("", 128), [0]);
        let stored = characters.to_json();
        assert!(stored.contains("\"characters\""), "{stored}");
        assert_eq!(Vocabulary::from_json(&stored).expect("stored"), characters);
        let words = Vocabulary::of(["a"], TextUnit::Words, 1, None).to_json();
        assert!(!words.contains("unit"), "as files were before: {words}");
    }

    #[test]
    fn what_is_stored_comes_back_and_other_files_do_not() {
        let vocabulary = Vocabulary::of(["ä \"quoted\" word"], TextUnit::Words, 1, None);
        assert_eq!(
            Vocabulary::from_json(&vocabulary.to_json()).expect("stored"),
            vocabulary
        );
        for (text, part) in [
            ("{\"format\":\"x\",\"words\":[\"<unk>\"]}", "format is `x`"),
            (
                "{\"format\":\"nearfar-vocabulary/1\",\"words\":[]}",
                "begin with",
            ),
            (
                "{\"format\":\"nearfar-vocabulary/1\",\"words\":[\"<unk>\",\"a\",\"a\"]}",
                "twice",
            ),
            ("[", "EOF"),
        ] {
            let error = Vocabulary::from_json(text)
                .expect_err("not one")
                .to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
