//! The row engine beside the plain way.

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{Comparison, Loss};
use nearfar_losses::{Family, LossConfig, Reads};

use crate::fakes::{join, noise, stream, with_vectors};
use crate::numbers;

/// The value, and the gradients of the rows and of all parameters.
fn pulled(total: &Tensor, vectors: &Var, loss: &dyn Loss) -> Result<(f64, Vec<Vec<f64>>)> {
    let gradients = total.backward()?;
    let of = |tensor: &Tensor| gradients.get(tensor).map(numbers).unwrap_or_default();
    let mut found = vec![of(vectors)];
    found.extend(loss.parameters().iter().map(|it| of(&it.var)));
    Ok((numbers(total)[0], found))
}

/// Losses that may go by rows: all of pairs, triplets, lists and centers, with forms that are not the default.
fn by_row() -> Vec<LossConfig> {
    #[derive(serde::Deserialize)]
    struct Only {
        loss: LossConfig,
    }
    let all = LossConfig::all().into_iter().filter(|config| {
        let by_class = matches!(config.reads(), Reads::Classes | Reads::ClassesOrPairs);
        let plain = config.family() == Family::Batches;
        by_class && (!plain || ["angular", "instance", "margin"].contains(&config.name()))
    });
    let forms = [
        "nt_xent = { form = \"decoupled\" }",
        "smooth_ap = { include_self = true, temperature = 0.1 }",
        "pnp = { include_self = true, form = \"iu\", temperature = 0.1 }",
        "pnp = { form = \"ib\", temperature = 0.1 }",
        "pnp = { form = \"ds\", temperature = 0.1 }",
        "pnp = { form = \"dq\", temperature = 0.1 }",
        "recall_at_k = { rank_temperature = 0.1 }",
        "surrogate_precision = { rank_temperature = 0.1 }",
        "ranked_list = { detach = false }",
        "ranked_list = { compat = \"pml\" }",
        "lifted = { compat = \"pml\" }",
        "lifted_generalized = { compat = \"pml\" }",
        "instance = { compat = \"pml\" }",
        "proxy_nca = { exclude_target = true }",
        "normalized_softmax = { unit_rows = false }",
        "soft_triple = { centers = 3, regularizer = 0.0 }",
        "subcenter_arcface = { centers = 1 }",
        "margin = { learn_beta = true, nu = 0.1 }",
        "margin = { learn_beta = true, per_class = true, nu = 0.1, beta = 0.7 }",
    ];
    let forms = forms.map(|form| {
        let only: Only = toml::from_str(&format!("loss.{form}")).expect("settings");
        only.loss
    });
    all.chain(forms).collect()
}

/// The way without lists against the plain way in f64, for every loss of classes: values and gradients, on batches that it
/// takes in several blocks, and on awkward ones.
#[test]
fn rows_at_a_time_agree_with_the_lists() -> Result<()> {
    let labels = |n: u32, classes: u32| (0..n).map(|row| row * 7 % classes).collect();
    let mut batches = vec![
        ("eight of a class", noise(64, 16, labels(64, 8), 20)),
        ("over blocks", noise(131, 33, labels(131, 40), 21)),
        ("two classes", noise(60, 5, labels(60, 2), 22)),
        ("one of its class alone", noise(21, 8, labels(21, 20), 23)),
        ("one class", noise(50, 7, vec![3; 50], 24)),
        ("all distinct", noise(50, 7, (0..50).collect(), 25)),
        ("many rows of a class", noise(150, 6, labels(150, 2), 26)),
    ];
    // Two rows of zeros in different classes, and a negative that coincides with its anchor.
    let mut some = noise(40, 9, labels(40, 6), 27);
    let mut rows = some.vectors.to_vec2::<f64>()?;
    (rows[3], rows[4]) = (vec![0.0; 9], vec![0.0; 9]);
    rows[11] = rows[10].clone();
    some.vectors = Tensor::new(rows, &Device::Cpu)?;
    batches.push(("zeros, and rows that coincide", some));
    let mut huge = noise(40, 9, labels(40, 6), 28);
    huge.vectors = (huge.vectors * 1e4)?;
    batches.push(("long rows", huge));
    let (configs, mut wrong) = (by_row(), Vec::new());
    for (what, rows) in batches {
        let width = rows.vectors.dim(1)?;
        for config in &configs {
            let build = |dtype| config.build(join(config, width, dtype));
            let (fast, plain) = (build(DType::F32)?, build(DType::F64)?);
            let of_centers = !fast.parameters().is_empty();
            let mut rows = rows.clone();
            if of_centers || config.reads() == Reads::Classes {
                rows.labels.iter_mut().for_each(|label| *label %= 9); // There are nine.
            }
            let small = (&rows.vectors * 0.3)?.to_dtype(DType::F32)?;
            let (narrow, exact) = (
                Var::from_tensor(&small)?,
                Var::from_tensor(&small.to_dtype(DType::F64)?)?,
            );
            let evaluated = fast.evaluate(
                &Comparison::within(&with_vectors(&rows, narrow.as_tensor().clone())),
                &mut stream(),
            )?;
            let exact_rows = with_vectors(&rows, exact.as_tensor().clone());
            let terms = plain.terms(&Comparison::within(&exact_rows), &mut stream())?;
            let (mut total, reducer) = (None, config.defaults().reducer);
            assert_eq!(terms.len(), evaluated.parts.len(), "{config:?} on {what}");
            for (terms, part) in terms.iter().zip(&evaluated.parts) {
                let wanted = reducer.reduce(terms)?;
                assert_eq!(
                    (wanted.name, wanted.terms, wanted.value.is_some()),
                    (part.name, part.terms, part.value.is_some()),
                    "{config:?} on {what}"
                );
                let Some(value) = wanted.value else {
                    continue;
                };
                total = Some(match total {
                    None => value,
                    Some(sum) => (sum + value)?,
                });
            }
            let (Some(wanted), Some(found)) = (total, evaluated.total()?) else {
                continue; // Both have nothing to learn.
            };
            let (w, wanted) = pulled(&wanted, &exact, &*plain)?;
            let (f, found) = pulled(&found, &narrow, &*fast)?;
            if what == "long rows" {
                let finite = found.iter().flatten().all(|x| x.is_finite());
                assert!(f.is_finite() && finite, "{config:?} on {what}");
                continue; // Exponentials of such numbers have few digits in f32.
            }
            if (w - f).abs() > 2e-5 * w.abs().max(0.01) {
                wrong.push(format!("{config:?} on {what}: {f}, not {w}"));
            }
            for (wanted, found) in wanted.iter().zip(&found) {
                // Where nothing is wanted, the roundings of single terms are left.
                let scale = wanted.iter().fold(1e-3f64, |scale, x| scale.max(x.abs()));
                let mut all = wanted.iter().zip(found);
                if let Some((w, f)) = all.find(|(w, f)| (*w - *f).abs() > 1e-4 * scale) {
                    wrong.push(format!(
                        "{config:?} on {what}: a gradient {f}, not {w}, of {scale}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
