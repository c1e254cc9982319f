//! Every loss with every miner on awkward batches.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Result, Var};
use nearfar_losses::LossConfig;

use crate::joined::{awkward_batches, joined, miners_of, numbers, shown, stream, with_vectors};

/// The classes of the batches.
const CLASSES: usize = 4;

/// What is wrong with a loss on rows, or nothing.
fn trouble(
    config: &LossConfig,
    miner: Option<&nearfar_miners::MinerConfig>,
    rows: &nearfar_core::Embeddings,
    dtype: DType,
) -> Result<Option<String>> {
    let width = rows.vectors.dim(1)?;
    let loss = joined(config, miner, (CLASSES, width), dtype);
    let vectors = Var::from_tensor(&rows.vectors.to_dtype(dtype)?)?;
    let rows = with_vectors(rows, vectors.as_tensor().clone());
    let evaluated = shown(config, &rows, |it| loss.evaluate(it, &mut stream()))?;
    if evaluated.parts.is_empty() {
        return Ok(Some("no part is listed".into()));
    }
    let Some(total) = evaluated.total()? else {
        return Ok(None);
    };
    if !numbers(&total)[0].is_finite() {
        return Ok(Some(format!("its value is {total}")));
    }
    let gradients = total.backward()?;
    let Some(gradient) = gradients.get(&vectors) else {
        return Ok(Some("its rows have no gradient".into()));
    };
    if numbers(gradient).iter().any(|x| !x.is_finite()) {
        return Ok(Some(format!("the gradient of its rows is {gradient}")));
    }
    for parameter in loss.parameters() {
        let gradient = gradients.get(&parameter.var).map(numbers);
        if gradient.is_none_or(|it| it.iter().any(|x| !x.is_finite())) {
            return Ok(Some(format!("`{}` has no finite gradient", parameter.name)));
        }
    }
    Ok(None)
}

#[test]
fn every_loss_with_every_miner_gives_nothing_or_finite_values_and_gradients() -> Result<()> {
    let mut wrong = Vec::new();
    for (name, rows) in awkward_batches()? {
        for config in LossConfig::all() {
            for miner in miners_of(&config) {
                for dtype in [DType::F32, DType::F64] {
                    let found = catch_unwind(AssertUnwindSafe(|| {
                        trouble(&config, miner.as_ref(), &rows, dtype)
                    }));
                    let found = match found {
                        Ok(Ok(None)) => continue,
                        Ok(Ok(Some(what))) => what,
                        Ok(Err(error)) => format!("it fails: {error}"),
                        Err(_) => "it panics".into(),
                    };
                    let miner = miner.as_ref().map_or("no miner", |miner| miner.name());
                    let loss = config.name();
                    wrong.push(format!(
                        "{loss} with {miner} in {dtype:?} on {name}: {found}"
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}
