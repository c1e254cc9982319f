//! `nearfar export`: a trained model for others to read.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use nearfar_datasets::Preparation;
use nearfar_models::ModelConfig;
use serde_json::json;

use crate::args;
use crate::exit::Error;
use crate::out::Out;
use crate::trained::Trained;

pub(crate) fn run(args: &args::Export, out: &Out) -> Result<(), Error> {
    let trained = Trained::load(&args.run, &args.checkpoint, &Device::Cpu)?;
    let weights = trained.towers.model()?;
    let reader = write(&trained, &weights, &args.output)?;
    out.result(
        &format!("{}: {reader}", args.output.display()),
        json!({"type": "result", "output": args.output, "reader": reader, "tensors": weights.len()}),
    );
    Ok(())
}

/// Writes what can be read most easily, and says how.
fn write(
    trained: &Trained,
    weights: &BTreeMap<String, Tensor>,
    output: &Path,
) -> Result<String, Error> {
    // A head has no place in such a folder.
    if let (Some(ModelConfig::Bert(bert)), None, Preparation::Tokenized { tokenizer }) =
        (&trained.run.model, &trained.run.head, &trained.preparation)
    {
        bert.write_sentence_folder(output, weights, tokenizer.json(), tokenizer.length())?;
        return Ok("a folder for SentenceTransformer(…) of sentence-transformers".into());
    }
    if output.exists() {
        return Err(Error::Usage(format!(
            "{} is there already and is not overwritten; -o names another file",
            output.display()
        )));
    }
    let bytes = safetensors::serialize(weights, None)
        .map_err(|error| Error::Data(format!("the weights cannot be written: {error}")))?;
    crate::run_dir::write(output, &bytes)?;
    Ok("weights for safetensors.torch.load_file(…) of PyTorch".into())
}
