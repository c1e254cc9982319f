//! What other libraries do wrong, and what is right here. Numbers are those of our list of such defects; those of distances are in
//! `nearfar-metrics`, those of scores in `nearfar-eval`.

mod fakes;

use candle_core::{DType, Device, Result, Tensor, Var};
use fakes::{Cosine, UNIT, join, noise, stream, with_vectors};
use nearfar_core::{Comparison, Embeddings, Loss, Relation};
use nearfar_losses::{Join, LossConfig};

/// A loss of a run file, with what it takes by default.
fn loss(text: &str) -> Box<dyn Loss> {
    loss_with(text, |_| {})
}

fn loss_with(text: &str, change: impl FnOnce(&mut Join)) -> Box<dyn Loss> {
    let config: LossConfig = toml::from_str(text).expect("settings of a test");
    let mut join = join(&config, 3, DType::F64);
    change(&mut join);
    config.build(join).expect("it fits")
}

/// The value and the gradient of the rows, if there is something to learn.
fn learned(loss: &dyn Loss, rows: &Embeddings) -> Result<Option<(f64, Vec<f64>)>> {
    let vectors = Var::from_tensor(&rows.vectors)?;
    let rows = with_vectors(rows, vectors.as_tensor().clone());
    let total = loss
        .evaluate(&Comparison::within(&rows), &mut stream())?
        .total()?;
    let Some(total) = total else { return Ok(None) };
    let gradients = total.backward()?;
    let gradient = gradients.get(&vectors).expect("it depends on its rows");
    Ok(Some((
        total.to_scalar::<f64>()?,
        gradient.flatten_all()?.to_vec1()?,
    )))
}

fn value(loss: &dyn Loss, rows: &Embeddings) -> Result<f64> {
    Ok(learned(loss, rows)?.expect("something to learn").0)
}

fn rows(numbers: &[[f64; 3]], labels: &[u32]) -> Embeddings {
    let size = (numbers.len(), 3);
    let vectors = Tensor::from_slice(numbers.as_flattened(), size, &Device::Cpu).expect("small");
    Embeddings::labeled(vectors, labels.to_vec()).expect("a label each")
}

fn assert_finite(found: &(f64, Vec<f64>)) {
    assert!(found.0.is_finite(), "{}", found.0);
    assert!(found.1.iter().all(|it| it.is_finite()), "{:?}", found.1);
}

const SIX: [[f64; 3]; 6] = [
    [0.9, 0.1, 0.2],
    [0.2, 0.7, -0.3],
    [0.8, 0.5, 0.1],
    [-0.1, 0.9, 0.4],
    [0.7, -0.4, 0.6],
    [0.1, 0.3, 0.8],
];

/// 1. The peer groups rows by the wrong number unless there are as many classes as rows in each, and wants them in order: 0.1098 here.
#[test]
fn d01_smooth_ap_groups_rows_by_their_class() -> Result<()> {
    let loss = loss("smooth_ap = { include_self = true }");
    let found = value(&*loss, &rows(&SIX, &[0, 0, 1, 1, 2, 2]))?;
    assert!((found - 0.236066838).abs() < 1e-9, "{found}");
    let order = [3usize, 0, 5, 2, 1, 4];
    let shuffled = order.map(|row| SIX[row]);
    let labels = order.map(|row| row as u32 / 2);
    let again = value(&*loss, &rows(&shuffled, &labels))?;
    assert!((again - found).abs() < 1e-12, "{again} {found}");
    // Classes of any sizes.
    assert_finite(&learned(&*loss, &rows(&SIX, &[0, 0, 0, 1, 1, 2]))?.expect("positives"));
    Ok(())
}

/// 2. The peer writes beyond its bins where two rows coincide, which is a cosine of exactly 1.
#[test]
fn d02_a_histogram_has_a_place_for_rows_that_coincide() -> Result<()> {
    let twice = [SIX[0], SIX[0], SIX[2], SIX[3], SIX[2], SIX[5]];
    let found = learned(&*loss("histogram = {}"), &rows(&twice, &[0, 0, 1, 1, 2, 2]))?;
    let found = found.expect("both kinds of pairs");
    assert_finite(&found);
    assert!(
        found.0 > 0.0 && found.0 <= 1.0,
        "a probability: {}",
        found.0
    );
    Ok(())
}

/// 3. The peer's gradient is NaN where a positive coincides with its anchor.
#[test]
fn d03_a_tuplet_margin_has_a_gradient_where_positives_coincide() -> Result<()> {
    let twice = [SIX[0], SIX[0], SIX[2], SIX[3], SIX[4], SIX[5]];
    let found = learned(
        &*loss("tuplet_margin = {}"),
        &rows(&twice, &[0, 0, 1, 1, 2, 2]),
    )?;
    assert_finite(&found.expect("both kinds of pairs"));
    Ok(())
}

/// 4. The peer keeps the graph of past batches in its histogram, and the second backward pass fails.
#[test]
fn d04_a_dynamic_soft_margin_can_be_trained_for_more_than_one_step() -> Result<()> {
    for text in [
        "dynamic_soft_margin = {}",
        "dynamic_soft_margin = { compat = \"pml\" }",
    ] {
        let mut loss = loss(text);
        for seed in 0..3 {
            let batch = noise(6, 3, vec![0, 0, 1, 1, 2, 2], seed);
            loss.absorb(&Comparison::within(&batch))?;
            assert_finite(&learned(&*loss, &batch)?.expect("triplets"));
        }
    }
    Ok(())
}

/// 5. The peer's NCA is NaN where no anchor has a positive. (Its SNR of a constant row: see the distances.)
#[test]
fn d05_nca_without_a_positive_is_nothing_to_learn() -> Result<()> {
    let distinct = rows(&SIX, &[0, 1, 2, 3, 4, 5]);
    assert!(learned(&*loss("nca = {}"), &distinct)?.is_none());
    // Far rows, whose probabilities vanish, are no trouble either.
    let far = with_vectors(&rows(&SIX, &[0, 0, 1, 1, 2, 2]), (&distinct.vectors * 1e4)?);
    assert_finite(&learned(&*loss("nca = {}"), &far)?.expect("positives"));
    Ok(())
}

/// 6. The peer does not normalize negatives, so that its value depends on the scale of the input.
#[test]
fn d06_the_angular_loss_does_not_depend_on_the_scale_of_the_input() -> Result<()> {
    let plain = rows(&SIX, &[0, 0, 1, 1, 2, 2]);
    let large = with_vectors(&plain, (&plain.vectors * 10.0)?);
    let ours = loss("angular = {}");
    let (one, other) = (value(&*ours, &plain)?, value(&*ours, &large)?);
    assert!((one - other).abs() < 1e-12, "{one} {other}");
    let theirs = loss("angular = { compat = \"pml\" }");
    assert!((value(&*theirs, &plain)? - value(&*theirs, &large)?).abs() > 0.1);
    Ok(())
}

/// 7. The peer's instance loss wants the column of the label's rank in the batch, an unrelated row where labels repeat.
#[test]
fn d07_the_instance_loss_wants_the_row_s_own_instance() -> Result<()> {
    let loss = loss("instance = {}");
    let centers = &loss.parameters()[0].var;
    let batch = rows(&[SIX[0], SIX[1], SIX[1]], &[4, 2, 2]);
    // The center of each label is its row: as near as can be, all others orthogonal or opposite to none of them.
    let mut numbers = [[0f64, 0.0, -1.0]; 9];
    (numbers[4], numbers[2]) = (SIX[0], SIX[1]);
    centers.set(&Tensor::new(&numbers, &Device::Cpu)?)?;
    let right = value(&*loss, &batch)?;
    let wrong = value(&*loss, &rows(&[SIX[0], SIX[1], SIX[1]], &[2, 4, 4]))?;
    assert!(right < 1e-6 && wrong > 10.0, "{right} {wrong}");
    Ok(())
}

/// 7. The peer's threshold-consistent margin looks at cosines of the batch whatever distance and references it is given.
#[test]
fn d07_a_threshold_consistent_margin_looks_at_its_distance_and_references() -> Result<()> {
    let plain = rows(&SIX, &[0, 0, 1, 1, 2, 2]);
    let by_cosine = loss("tcm = {}");
    let by_distance = loss_with("tcm = {}", |join| {
        join.similarity = None;
        join.distance = Some(Box::new(UNIT));
    });
    let one = value(&*by_cosine, &plain)?;
    assert!((one - value(&*by_distance, &plain)?).abs() > 0.01);
    let others = noise(4, 3, vec![0, 1, 2, 2], 5);
    let others = Embeddings::new(others.vectors, others.labels, vec![90, 91, 92, 93])?;
    let between = Comparison::between(&plain, &others);
    let total = by_cosine.evaluate(&between, &mut stream())?.total()?;
    let other = total.expect("pairs").to_scalar::<f64>()?;
    assert!((one - other).abs() > 0.01, "{one} {other}");
    Ok(())
}

/// 8. The peer's dot product divides rows by their length, so that its N-pair loss is one of cosines.
#[test]
fn d08_an_n_pair_loss_of_dot_products_depends_on_lengths() -> Result<()> {
    #[derive(Debug)]
    struct Dot;
    impl nearfar_core::Similarity for Dot {
        fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            x.matmul(&y.t()?)
        }
        fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            (x * y)?.sum(1)
        }
    }
    let config = LossConfig::of_name("n_pair").expect("known");
    let usual = nearfar_losses::Compares::Similarity("dot");
    assert_eq!(config.defaults().compares, usual);
    let plain = rows(&SIX, &[0, 0, 1, 1, 2, 2]);
    let large = with_vectors(&plain, (&plain.vectors * 3.0)?);
    let by = |similarity: Box<dyn nearfar_core::Similarity>| {
        loss_with("n_pair = {}", |join| join.similarity = Some(similarity))
    };
    let (dot, cosine) = (by(Box::new(Dot)), by(Box::new(Cosine)));
    assert!((value(&*dot, &plain)? - value(&*dot, &large)?).abs() > 0.01);
    assert!((value(&*cosine, &plain)? - value(&*cosine, &large)?).abs() < 1e-12);
    Ok(())
}

/// 9. The peer's generalized lifted structure loss is above 0 on batches of one class; the sides of contrastive and multi-similarity
///    that are there act by themselves, as they should.
#[test]
fn d09_a_side_alone_is_nothing_to_learn_unless_the_loss_says_so() -> Result<()> {
    let one_class = rows(&SIX, &[4; 6]);
    let mut distinct = rows(&SIX, &[0, 1, 2, 3, 4, 5]);
    distinct.vectors = (distinct.vectors * 0.1)?; // Within the margin.
    for batch in [&one_class, &distinct] {
        assert!(learned(&*loss("lifted_generalized = {}"), batch)?.is_none());
        for text in ["contrastive = {}", "multi_similarity = {}"] {
            assert!(value(&*loss(text), batch)? > 0.0, "{text}");
        }
    }
    let theirs = loss("lifted_generalized = { compat = \"pml\" }");
    assert!(value(&*theirs, &one_class)? > 0.0);
    Ok(())
}

/// 11. Two public magnet losses divide by the square of the variance: then the scale of the rows matters.
#[test]
fn d11_magnet_divides_by_the_variance() -> Result<()> {
    let plain = rows(&SIX, &[0, 0, 0, 1, 1, 1]);
    let large = with_vectors(&plain, (&plain.vectors * 7.0)?);
    let loss = loss("magnet = {}");
    let (one, other) = (value(&*loss, &plain)?, value(&*loss, &large)?);
    assert!((one - other).abs() < 1e-9 * one, "{one} {other}");
    Ok(())
}

/// 11. A public GE2E raises cosines to at least 1e-6: then opposite classes cost as much as orthogonal ones.
#[test]
fn d11_ge2e_takes_cosines_below_zero_as_they_are() -> Result<()> {
    let opposite = rows(
        &[
            [1.0, 0.0, 0.0],
            [2.0, 0.0, 0.0],
            [-1.0, 0.0, 0.0],
            [-3.0, 0.0, 0.0],
        ],
        &[0, 0, 1, 1],
    );
    let found = value(&*loss("ge2e = {}"), &opposite)?;
    // log(1 + e^(−20)), and not log(1 + e^(−10)).
    assert!((found - (-20f64).exp().ln_1p()).abs() < 1e-12, "{found}");
    Ok(())
}

/// 11. The authors' code of the discriminative loss averages over all pixels: then large instances count more.
#[test]
fn d11_each_instance_counts_alike_in_a_discriminative_loss() -> Result<()> {
    let loss = loss("discriminative_dense = { distance = 0, length = 0 }");
    let mut image = noise(1, 1, vec![], 1);
    let dense = Tensor::new(&[0f64, 4.0, 9.0], &Device::Cpu)?.reshape((1, 1, 1, 3))?;
    image.extra.insert("dense".into(), dense);
    let masks = Tensor::new(&[1u32, 1, 2], &Device::Cpu)?.reshape((1, 1, 3))?;
    let comparison = Comparison {
        relation: Relation::Masks(&masks),
        ..Comparison::within(&image)
    };
    let total = loss.evaluate(&comparison, &mut stream())?.total()?;
    let found = total.expect("instances").to_scalar::<f64>()?;
    // (1.5² + 0) / 2 by instance; by pixel it would be 2 · 1.5² / 3.
    assert!((found - 1.125).abs() < 1e-12, "{found}");
    Ok(())
}

/// 11. The authors' code of the log-ratio loss has plain distances of rows beside squared ones of labels.
#[test]
fn d11_a_log_ratio_compares_powers_with_the_same_powers() -> Result<()> {
    // Distances of rows are in proportion to those of targets: both plain or both squared, there is nothing left to want.
    let line = rows(
        &[
            [0.0, 0.0, 0.0],
            [1.0, 0.0, 0.0],
            [4.0, 0.0, 0.0],
            [9.0, 0.0, 0.0],
        ],
        &[0; 4],
    );
    let targets = [0f32, 2.0, 8.0, 18.0];
    for text in ["log_ratio = {}", "log_ratio = { power = 1 }"] {
        let comparison = Comparison {
            relation: Relation::Targets {
                anchors: &targets,
                references: &targets,
            },
            ..Comparison::within(&line)
        };
        let total = loss(text).evaluate(&comparison, &mut stream())?.total()?;
        let found = total.expect("neighbors").to_scalar::<f64>()?;
        assert!(found < 1e-9, "{text}: {found}");
    }
    Ok(())
}
