//! Texts as tokens of a published tokenizer.

use std::{fmt, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use tokenizers::{PostProcessor, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::{Error, Limits, error::shown, formats::file_bytes};

/// A `tokenizer.json` as Hugging Face's tokenizers write it, such as that of a folder of sentence-transformers: it normalizes a text,
/// splits it, and gives numbers to the pieces.
///
/// Special tokens are added as the file says (`[CLS]` and `[SEP]` around a text, with BERT). A text has at most `length` tokens, these
/// among them: what is cut off are the last ones before the closing special token. What the file itself says of truncation and of padding
/// does not count, as batches are padded here.
///
/// A run stores the whole file, so that it needs no other to read new texts. Changes of words (`word_dropout`, `word_swap`) act on all
/// tokens, special ones too.
///
/// Source: the format is that of the crate `tokenizers`, <https://docs.rs/tokenizers>.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    tokenizer: tokenizers::Tokenizer,
    written: Written,
    vocabulary: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    length: usize,
    /// The file, word by word.
    json: String,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `length` tokens of a text at most.
    ///
    /// # Errors
    /// [`Error::Read`] when there is no such file, [`Error::Settings`] when it is not one, has no tokens, or when `length` has
    /// no place for anything beside the special tokens.
    pub fn read(path: &Path, length: usize) -> Result<Self, Error> {
        let bytes = file_bytes(path, &Limits::DEFAULT)?;
        let refused =
            |why: String| Error::Settings(format!("the tokenizer {}: {why}", shown(path)));
        let json = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8".into()))?;
        Self::new(Written { length, json }).map_err(refused)
    }

    /// The same from the content of the file.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), but for the file.
    pub fn from_json(json: &str, length: usize) -> Result<Self, Error> {
        let json = json.to_owned();
        Self::new(Written { length, json })
            .map_err(|why| Error::Settings(format!("the tokenizer: {why}")))
    }

    fn new(written: Written) -> Result<Self, String> {
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&written.json)
            .map_err(|error| format!("is no `tokenizer.json`: {error}"))?;
        let special = tokenizer
            .get_post_processor()
            .map_or(0, |it| it.added_tokens(false));
        // Cutting to less is a subtraction below zero in the crate.
        if written.length <= special {
            return Err(format!(
                "adds {special} special tokens, but `length` is {}; it must be more",
                written.length
            ));
        }
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: written.length,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| format!("cannot cut texts: {error}"))?;
        // Numbers may have gaps.
        let largest = tokenizer.get_vocab(true).into_values().max();
        let largest = largest.ok_or("has no tokens")?;
        Ok(Self(Arc::new(Inner {
            tokenizer,
            written,
            vocabulary: largest as usize + 1,
        })))
    }

    /// Numbers of tokens are below it.
    pub fn vocabulary(&self) -> usize {
        self.0.vocabulary
    }

    /// Tokens of a text at most.
    pub fn length(&self) -> usize {
        self.0.written.length
    }

    /// The file, word by word.
    pub fn json(&self) -> &str {
        &self.0.written.json
    }

    /// The tokens of a text, by their numbers, special ones among them.
    ///
    /// # Errors
    /// [`Error::Settings`] when the tokenizer cannot read the text, or makes nothing of it.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, Error> {
        let refused = |why: String| Error::Settings(format!("the tokenizer {why} \"{text}\""));
        let encoding = (self.0.tokenizer)
            .encode_fast(text, true)
            .map_err(|error| refused(format!("fails ({error}) at")))?;
        match encoding.get_ids() {
            [] => Err(refused("makes no token of".into())),
            ids => Ok(ids.to_vec()),
        }
    }
}

impl TryFrom<Written> for Tokenizer {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        Self::new(written).map_err(|why| format!("the stored tokenizer {why}"))
    }
}

impl From<Tokenizer> for Written {
    fn from(tokenizer: Tokenizer) -> Self {
        tokenizer.0.written.clone()
    }
}

/// As files and lengths are.
impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        self.0.written == other.0.written
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary())
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Words in pieces as BERT has them, with what a published file says of truncation and padding.
    fn bert() -> String {
        let special = |id: u32, content: &str| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        };
        let of = |id: &str| json!({ "SpecialToken": { "id": id, "type_id": 0 } });
        let spelled = |id: &str, number: u32| json!({ "id": id, "ids": [number], "tokens": [id] });
        let content = json!({
            "version": "1.0",
            "truncation": { "max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right" },
            "padding": { "strategy": { "Fixed": 9 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                         "pad_type_id": 0, "pad_token": "[PAD]" },
            "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
            "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                            "strip_accents": null, "lowercase": true },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [of("[CLS]"), { "Sequence": { "id": "A", "type_id": 0 } }, of("[SEP]")],
                "pair": [of("[CLS]"), { "Sequence": { "id": "A", "type_id": 0 } }, of("[SEP]"),
                         { "Sequence": { "id": "B", "type_id": 1 } }],
                "special_tokens": { "[CLS]": spelled("[CLS]", 2), "[SEP]": spelled("[SEP]", 3) },
            },
            "decoder": null,
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                // A gap before the last number.
                "vocab": { "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "cafe": 4, "play": 5, "##ing": 6, "!": 9 },
            },
        });
        content.to_string()
    }

    #[test]
    fn texts_become_pieces_between_special_tokens() {
        let tokenizer = Tokenizer::from_json(&bert(), 128).expect("a tokenizer");
        assert_eq!((tokenizer.vocabulary(), tokenizer.length()), (10, 128));
        let tokens = |text: &str| tokenizer.tokens(text).expect("a text");
        assert_eq!(tokens("Playing, CAFÉ!"), [2, 5, 6, 1, 4, 9, 3]);
        assert_eq!(tokens(""), [2, 3]);
        // Neither is it cut to the 4 of the file nor filled up to its 9.
        assert_eq!(tokens("play play play"), [2, 5, 5, 5, 3]);
        let short = Tokenizer::from_json(&bert(), 3).expect("one word");
        assert_eq!(short.tokens("playing cafe").expect("a text"), [2, 5, 3]);
    }

    #[test]
    fn what_is_stored_comes_back() {
        let tokenizer = Tokenizer::from_json(&bert(), 7).expect("a tokenizer");
        let stored = serde_json::to_string(&tokenizer).expect("texts and a number");
        let read: Tokenizer = serde_json::from_str(&stored).expect("stored");
        assert_eq!(read, tokenizer);
        assert_eq!(read.tokens("cafe").expect("a text"), [2, 4, 3]);
        assert_ne!(tokenizer, Tokenizer::from_json(&bert(), 8).expect("longer"));
        let damaged = stored.replace("WordPiece", "WordPeace");
        let error = serde_json::from_str::<Tokenizer>(&damaged).expect_err("no such model");
        assert!(
            error.to_string().contains("the stored tokenizer is no"),
            "{error}"
        );
    }

    #[test]
    fn other_files_are_refused() {
        let error = |json: &str, length| {
            let error = Tokenizer::from_json(json, length).expect_err("not possible");
            error.to_string()
        };
        assert!(error("{}", 9).contains("is no `tokenizer.json`"));
        for length in [0, 2] {
            let message = error(&bert(), length);
            assert!(message.contains("adds 2 special tokens"), "{message}");
        }
        let folder = tempfile::tempdir().expect("a place for temporary files");
        let path = folder.path().join("tokenizer.json");
        let error = Tokenizer::read(&path, 9)
            .expect_err("not there")
            .to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
        std::fs::write(&path, [0xff]).expect("writable");
        let error = Tokenizer::read(&path, 9).expect_err("no text").to_string();
        assert!(
            error.contains("tokenizer.json") && error.contains("UTF-8"),
            "{error}"
        );
        std::fs::write(&path, bert()).expect("writable");
        assert!(Tokenizer::read(&path, 9).is_ok());
    }

    #[test]
    fn a_text_of_nothing_is_told() {
        let mut bare: serde_json::Value = serde_json::from_str(&bert()).expect("written above");
        bare["post_processor"] = serde_json::Value::Null;
        let tokenizer = Tokenizer::from_json(&bare.to_string(), 9).expect("a tokenizer");
        let error = tokenizer.tokens(" ").expect_err("nothing").to_string();
        assert!(error.contains("makes no token of"), "{error}");
        assert_eq!(tokenizer.tokens("cafe").expect("a word"), [4]);
    }
}
