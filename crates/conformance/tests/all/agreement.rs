//! The fast way of a loss beside its plain one, and that it learns.

use candle_core::{DType, Result, Tensor, Var};
use nearfar_core::{Comparison, Embeddings, Evaluated, Finite, Positive, Purpose, Seed};
use nearfar_losses::{Family, LossConfig, Reads};
use nearfar_miners::MinerConfig;

use crate::joined::{joined, miners_of, noise, numbers, shown, stream, with_vectors};

const BATCHES: u64 = if cfg!(feature = "long") { 40 } else { 4 };

/// A batch of some size, width and classes.
fn random_batch(seed: u64) -> (Embeddings, usize) {
    let mut rng = Seed(seed).rng(Purpose::Generation, 1);
    let (rows, width) = (2 + rng.below(30), 2 + rng.below(14));
    let classes = 1 + rng.below(6);
    let labels: Vec<u32> = (0..rows).map(|_| rng.below(classes) as u32).collect();
    (noise(&labels, width, seed), classes)
}

/// A value with its gradients, in f32 by `evaluate` and in f64 by `terms` and the reducer.
fn both_ways(
    config: &LossConfig,
    miner: Option<&MinerConfig>,
    rows: &Embeddings,
    classes: usize,
    fast: bool,
) -> Result<Option<Vec<f64>>> {
    let dtype = if fast { DType::F32 } else { DType::F64 };
    let width = rows.vectors.dim(1)?;
    let loss = joined(config, miner, (classes, width), dtype);
    let vectors = Var::from_tensor(&rows.vectors.to_dtype(dtype)?)?;
    let rows = with_vectors(rows, vectors.as_tensor().clone());
    let total = if fast {
        shown(config, &rows, |it| loss.evaluate(it, &mut stream()))?.total()?
    } else {
        let reducer = config.defaults().reducer;
        let mut total: Option<Tensor> = None;
        for terms in shown(config, &rows, |it| loss.terms(it, &mut stream()))? {
            if let Some(value) = reducer.reduce(&terms)?.value {
                total = Some(match total {
                    None => value,
                    Some(sum) => (sum + value)?,
                });
            }
        }
        total
    };
    let Some(total) = total else {
        return Ok(None);
    };
    let gradients = total.backward()?;
    let mut all = numbers(&total);
    let gradient = gradients
        .get(&vectors)
        .expect("the loss depends on its rows");
    all.extend(numbers(gradient));
    for parameter in loss.parameters() {
        let gradient = gradients.get(&parameter.var).expect("it is trained");
        all.extend(numbers(gradient));
    }
    Ok(Some(all))
}

/// Numbers of f32 are used for both, so that what differs is the arithmetic. A miner may take another tuple where two
/// distances differ in the last bits of f32; with normal numbers no two do.
#[test]
fn evaluate_in_f32_agrees_with_terms_and_reducer_in_f64() -> Result<()> {
    for seed in 0..BATCHES {
        let (rows, classes) = random_batch(seed);
        let rounded = rows.vectors.to_dtype(DType::F32)?.to_dtype(DType::F64)?;
        let rows = with_vectors(&rows, rounded);
        for config in LossConfig::all() {
            for miner in miners_of(&config) {
                let way = |fast| both_ways(&config, miner.as_ref(), &rows, classes, fast);
                let (fast, plain) = (way(true)?, way(false)?);
                let place = format!("{} with {miner:?} on batch {seed}", config.name());
                assert_eq!(fast.is_some(), plain.is_some(), "{place}");
                let (Some(fast), Some(plain)) = (fast, plain) else {
                    continue;
                };
                let largest = plain.iter().fold(1f64, |largest, x| largest.max(x.abs()));
                // A hundred roundings of f32, of the largest number; ArcFace's scale of 64 multiplies them.
                let steep = if config.family() == Family::Classes {
                    10.0
                } else {
                    1.0
                };
                let allowed = 1e-5 * steep * largest;
                for (one, other) in fast.iter().zip(&plain) {
                    assert!((one - other).abs() <= allowed, "{place}: {one} and {other}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_few_steps_down_its_gradient_lower_every_loss() -> Result<()> {
    const STEPS: usize = if cfg!(feature = "long") { 300 } else { 60 };
    let labels = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
    let rows = noise(&labels, 6, 11);
    let mut stuck = Vec::new();
    for config in LossConfig::all() {
        for miner in miners_of(&config) {
            if miner.as_ref().is_some_and(|miner| miner.name() != "all") {
                continue; // A miner changes its choice, and with it the value, from step to step.
            }
            let loss = joined(&config, miner.as_ref(), (4, 6), DType::F64);
            let start = match config.name() {
                // Its bins are those of rows of length 1; farther ones have no gradient.
                "fast_ap" => nearfar_kernels::l2_normalize(&rows.vectors)?,
                _ => rows.vectors.clone(),
            };
            let vectors = Var::from_tensor(&start)?;
            let mut vars = vec![vectors.clone()];
            vars.extend(loss.parameters().into_iter().map(|parameter| parameter.var));
            let rows = with_vectors(&rows, vectors.as_tensor().clone());
            let mut values = Vec::new();
            for _ in 0..=STEPS {
                let evaluated = shown(&config, &rows, |it| loss.evaluate(it, &mut stream()))?;
                let Some(total) = evaluated.total()? else {
                    values.push(0.0);
                    break; // It has learned all there is.
                };
                values.push(numbers(&total)[0]);
                let gradients = total.backward()?;
                // Steps of one length, whatever the scale of the loss.
                let mut squares = 0.0;
                for var in &vars {
                    let gradient = gradients.get(var).expect("it is trained");
                    squares += numbers(gradient).iter().map(|x| x * x).sum::<f64>();
                }
                let rate = 0.2 / squares.sqrt().max(1e-12);
                for var in &vars {
                    let gradient = gradients.get(var).expect("it is trained");
                    var.set(&(var.as_detached_tensor() - (gradient * rate)?)?)?;
                }
            }
            let (first, last) = (values[0], values[values.len() - 1]);
            // By a tenth of the value, which may be below zero.
            if last.is_nan() || last > first - 0.1 * first.abs() {
                stuck.push(format!("{config:?}: from {first} to {last}"));
            }
        }
    }
    assert!(stuck.is_empty(), "{}", stuck.join("\n"));
    Ok(())
}

/// Every miner helps to learn: with its tuples the loss over all tuples falls.
#[test]
fn what_a_miner_chooses_lowers_the_loss_over_all() -> Result<()> {
    const STEPS: u64 = 40;
    let labels = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3];
    let rows = noise(&labels, 6, 12);
    let unit = nearfar_kernels::l2_normalize(&rows.vectors)?;
    let all = LossConfig::all();
    let config = all
        .iter()
        .find(|it| it.family() == Family::Triplets)
        .expect("one of triplets");
    let over_all = joined(config, None, (4, 6), DType::F64);
    for mut miner in MinerConfig::all() {
        match &mut miner {
            MinerConfig::Packaged(_) => continue, // These rows did not come as triplets.
            // So few rows have no negatives within 0.8.
            MinerConfig::PairMargin(it) => it.negative_margin = Finite::literal(1.4),
            _ => {}
        }
        let loss = joined(config, Some(&miner), (4, 6), DType::F64);
        let vectors = Var::from_tensor(&unit)?;
        let rows = with_vectors(&rows, vectors.as_tensor().clone());
        // The mean over all triplets: that over the active ones need not fall while triplets drop out.
        let value = || -> Result<f64> {
            let terms = shown(config, &rows, |it| over_all.terms(it, &mut stream()))?;
            let values = terms[0].values.as_ref().expect("there are triplets");
            let values = numbers(values);
            Ok(values.iter().sum::<f64>() / values.len() as f64)
        };
        let first = value()?;
        for step in 0..STEPS {
            let mut rng = Seed(5).rng(Purpose::Mining, step);
            let evaluated = shown(config, &rows, |it| loss.evaluate(it, &mut rng))?;
            if let Some(total) = evaluated.total()? {
                let gradients = total.backward()?;
                let gradient = gradients
                    .get(&vectors)
                    .expect("the loss depends on its rows");
                vectors.set(&(vectors.as_detached_tensor() - (gradient * 0.1)?)?)?;
            }
        }
        let last = value()?;
        assert!(last < first, "{miner:?}: from {first} to {last}");
    }
    Ok(())
}

#[test]
fn two_comparisons_of_the_same_rows_agree_with_one() -> Result<()> {
    // A batch beside a memory of itself, by ids, is the batch within itself.
    let labels = [0, 0, 1, 1, 2, 2];
    let rows = noise(&labels, 4, 13);
    let memory = with_vectors(&rows, rows.vectors.copy()?);
    for mut config in LossConfig::all() {
        if let LossConfig::PairCrossEntropy(it) = &mut config {
            it.negatives = Positive::literal(1e6); // All: what is drawn of them is not the same.
        }
        if !matches!(config.reads(), Reads::Classes | Reads::ClassesOrPairs) {
            continue;
        }
        let loss = joined(&config, None, (3, 4), DType::F64);
        let within = loss.evaluate(&Comparison::within(&rows), &mut stream())?;
        let between = loss.evaluate(&Comparison::between(&rows, &memory), &mut stream())?;
        let value = |it: &Evaluated| -> Result<f64> {
            Ok(numbers(&it.total()?.expect("there is something to learn"))[0])
        };
        let (one, other) = (value(&within)?, value(&between)?);
        assert!(
            (one - other).abs() <= 1e-12 * one.abs(),
            "{config:?}: {one} and {other}"
        );
    }
    Ok(())
}
