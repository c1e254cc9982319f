//! `all-MiniLM-L6-v2` as sentence-transformers computes it, where `NEARFAR_MINILM` names its folder.
//!
//! Beside the files of the model the folder has a `reference.json`, made from any sentences:
//!
//! ```python
//! model = SentenceTransformer(folder)
//! ids = [model.tokenizer(it, truncation=True, max_length=model.max_seq_length)["input_ids"] for it in sentences]
//! json.dump({"sentences": sentences, "ids": ids, "embeddings": model.encode(sentences).tolist()}, file)
//! ```
#![allow(clippy::print_stdout)] // What is skipped is printed.

use std::fs;
use std::path::PathBuf;

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Encoder, Input, Mode, Seed};
use nearfar_datasets::Tokenizer;
use nearfar_models::{Params, SentenceFolder};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    sentences: Vec<String>,
    ids: Vec<Vec<u32>>,
    embeddings: Vec<Vec<f64>>,
}

/// Sentences in one batch, of different lengths.
const BATCH: usize = 16;

#[test]
fn sentences_have_the_embeddings_of_sentence_transformers() -> Result<()> {
    let Some(folder) = std::env::var_os("NEARFAR_MINILM") else {
        println!("skipped: embeddings of MiniLM (NEARFAR_MINILM is not set)");
        return Ok(());
    };
    let folder = PathBuf::from(folder);
    let text = fs::read_to_string(folder.join("reference.json")).expect("it is beside the model");
    let reference: Reference = serde_json::from_str(&text).expect("as documented above");
    let count = reference.sentences.len();
    assert!(count > 0 && reference.ids.len() == count && reference.embeddings.len() == count);

    let model = SentenceFolder::read(&folder)?;
    let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
    let tower = model.build(&params)?;
    let tokenizer = Tokenizer::read(&folder.join("tokenizer.json"), model.max_length);
    let tokenizer = tokenizer.expect("it is beside the model");
    assert_eq!(tokenizer.vocabulary(), model.vocabulary);

    let (mut least, mut furthest) = (f64::INFINITY, 0f64);
    let rows = reference.sentences.iter().zip(&reference.ids);
    let rows: Vec<_> = rows.zip(&reference.embeddings).collect();
    for batch in rows.chunks(BATCH) {
        let mut tokens = Vec::new();
        for ((sentence, ids), _) in batch {
            let found = tokenizer.tokens(sentence).expect("a sentence");
            assert_eq!(&found, *ids, "{sentence}");
            tokens.push(found);
        }
        let lengths: Vec<u32> = tokens.iter().map(|it| it.len() as u32).collect();
        let longest = lengths.iter().max().copied().unwrap_or(0) as usize;
        tokens.iter_mut().for_each(|it| it.resize(longest, 0));
        let input = Input::Sequence {
            values: Tensor::from_vec(tokens.concat(), (batch.len(), longest), &Device::Cpu)?,
            lengths,
        };
        let embedding = tower.encode(&input, Mode::Eval)?.embedding;
        let embedding = embedding.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        for (((sentence, _), wanted), found) in batch.iter().zip(&embedding) {
            let cosine = cosine(wanted, found);
            assert!(cosine >= 0.99999, "{sentence}: {cosine}");
            least = least.min(cosine);
            let apart = wanted.iter().zip(found).map(|(a, b)| (a - b).abs());
            furthest = apart.fold(furthest, f64::max);
        }
    }
    println!(
        "{count} sentences: the least cosine is 1 − {:.1e}, the largest difference of two numbers {furthest:.1e}",
        1.0 - least
    );
    Ok(())
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
