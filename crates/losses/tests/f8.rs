//! Eight rows of three classes, for which the values of pytorch-metric-learning 2.9 and the lengths of its gradients are
//! known.

mod fakes;

use candle_core::{DType, Device, Result, Tensor, Var};
use fakes::{Cosine, Fake, Kind, RAW, UNIT, stream};
use nearfar_core::{
    Comparison, Distance, Embeddings, Finite, Loss, NegativeSimilarity, NonNegative, Positive,
    Reducer,
};
use nearfar_losses::{
    ArcFace, Contrastive, Join, LossConfig, MultiSimilarity, NTXent, OverClasses, OverLists,
    OverPairs, OverTriplets, TripletMargin,
};

const ROWS: [[f64; 3]; 8] = [
    [0.9, 0.1, 0.2],
    [0.2, 0.7, -0.3],
    [0.8, 0.5, 0.1],
    [-0.1, 0.9, 0.4],
    [0.7, -0.4, 0.6],
    [0.1, 0.3, 0.8],
    [0.5, 0.6, 0.6],
    [-0.3, 0.2, 0.9],
];
const LABELS: [u32; 8] = [0, 0, 1, 1, 2, 2, 0, 2];

fn check(what: &str, loss: &dyn Loss, value: f64, length: f64) -> Result<()> {
    let vectors = Var::new(&ROWS, &Device::Cpu)?;
    let rows = Embeddings::labeled(vectors.as_tensor().clone(), LABELS.to_vec())?;
    let total = loss
        .evaluate(&Comparison::within(&rows), &mut stream())?
        .total()?;
    let total = total.expect("the batch has all there is");
    let found = total.to_scalar::<f64>()?;
    // The values are written with nine places.
    assert!((found - value).abs() < 1e-9, "{what}: {found}, not {value}");
    let gradients = total.backward()?;
    let gradient = gradients.get(&vectors).expect("it depends on its rows");
    let found = gradient.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>()?;
    assert!(
        (found - length).abs() < 2e-9,
        "{what}: a gradient of {found}, not {length}"
    );
    Ok(())
}

fn triplet(margin: f64) -> TripletMargin {
    TripletMargin {
        margin: NonNegative::literal(margin),
        ..TripletMargin::default()
    }
}

fn over(loss: TripletMargin, distance: Fake) -> OverTriplets<TripletMargin> {
    OverTriplets::new("triplet_margin", loss, Box::new(distance))
}

#[test]
fn contrastive() -> Result<()> {
    let loss = OverPairs::new("contrastive", Contrastive::default(), Box::new(UNIT));
    check("linear", &loss, 1.230551452, 0.643183378)?;
    // Positive below a cosine of 1, negative above 0.
    let by_cosine = Contrastive {
        positive_margin: Finite::literal(-1.0),
        negative_margin: Finite::literal(0.0),
        ..Contrastive::default()
    };
    let distance = Box::new(NegativeSimilarity(Box::new(Cosine)));
    let loss = OverPairs::new("contrastive", by_cosine, distance);
    check("cosine", &loss, 1.094686774, 0.590787420)
}

#[test]
fn triplet_margin() -> Result<()> {
    check("0.05", &over(triplet(0.05), UNIT), 0.328638702, 0.629214164)?;
    check("0.2", &over(triplet(0.2), UNIT), 0.411851834, 0.639283614)?;
    let swap = TripletMargin {
        swap: true,
        ..triplet(0.2)
    };
    check("swap", &over(swap, UNIT), 0.456415818, 0.775999075)?;
    let smooth = TripletMargin {
        smooth: true,
        ..triplet(0.05)
    };
    check("smooth", &over(smooth, UNIT), 0.690959642, 0.291768090)?;
    let squared = Fake {
        kind: Kind::Squared,
        ..UNIT
    };
    check(
        "squared",
        &over(triplet(0.2), squared),
        0.647095998,
        1.293805845,
    )?;
    let power = nearfar_losses::Power::Two;
    let power = TripletMargin {
        power,
        ..triplet(0.2)
    };
    check("power", &over(power, UNIT), 0.647095998, 1.293805845)?;
    let mut mean = over(triplet(0.2), UNIT);
    mean.reducer = Reducer::Mean {};
    check("mean", &mean, 0.234526739, 0.364036502)?;
    check(
        "raw rows",
        &over(triplet(0.2), RAW),
        0.362885381,
        0.616888018,
    )
}

#[test]
fn lists() -> Result<()> {
    let loss = OverLists::new(
        "multi_similarity",
        MultiSimilarity::default(),
        Box::new(Cosine),
    );
    check("multi-similarity", &loss, 0.803005505, 0.489580907)?;
    let loss = OverLists::new("nt_xent", NTXent::default(), Box::new(Cosine));
    check("nt-xent", &loss, 4.625485208, 8.154877948)
}

#[test]
fn arcface() -> Result<()> {
    let centers = [[1.0, 0.3, 0.0], [0.0, 1.0, 0.2], [0.2, -0.3, 1.0]];
    let loss = ArcFace {
        margin: NonNegative::new(28.6f64.to_radians())?,
        scale: Positive::literal(64.0),
    };
    let loss = OverClasses::new("arcface", loss, Var::new(&centers, &Device::Cpu)?);
    check("arcface", &loss, 19.492599001, 31.546448270)
}

#[test]
fn queries_and_references() -> Result<()> {
    let side = |rows: &[[f64; 3]], labels: &[u32], first: u64| {
        let ids = (first..first + 4).collect();
        let vectors = Tensor::from_slice(rows.as_flattened(), (4, 3), &Device::Cpu)?;
        Embeddings::new(vectors, labels.to_vec(), ids)
    };
    let queries = side(&ROWS[..4], &LABELS[..4], 0)?;
    let references = side(&ROWS[4..], &LABELS[4..], 4)?;
    let between = Comparison::between(&queries, &references);
    let value = |loss: &dyn Loss| -> Result<f64> {
        let total = loss.evaluate(&between, &mut stream())?.total()?;
        total.expect("both have class 0").to_scalar::<f64>()
    };
    assert!((value(&over(triplet(0.2), UNIT))? - 0.297492127).abs() < 1e-9);
    let loss = OverPairs::new("contrastive", Contrastive::default(), Box::new(UNIT));
    assert!((value(&loss)? - 1.181760661).abs() < 1e-9);
    Ok(())
}

fn joined(text: &str, unit: Option<Fake>) -> Result<Box<dyn Loss>> {
    let config: LossConfig = toml::from_str(text).expect("settings of a test");
    config.build(Join {
        distance: unit.map(|it| Box::new(it) as Box<dyn Distance>),
        classes: Some(3),
        dtype: DType::F64,
        ..Join::default()
    })
}

#[test]
fn whole_batches() -> Result<()> {
    let margin = joined("margin = {}", Some(UNIT))?;
    check("margin", margin.as_ref(), 0.314317377, 0.353599525)?;
    let angular = joined("angular = { compat = \"pml\" }", None)?;
    check("angular", angular.as_ref(), 2.803045364, 2.460900179)?;
    let gaps = joined("dynamic_soft_margin = { compat = \"pml\" }", Some(UNIT))?;
    check(
        "dynamic soft margin",
        gaps.as_ref(),
        0.064924757,
        0.320628074,
    )
}

fn value_of(loss: &dyn Loss, factor: f64) -> Result<f64> {
    let vectors = (Tensor::new(&ROWS, &Device::Cpu)? * factor)?;
    let rows = Embeddings::labeled(vectors, LABELS.to_vec())?;
    let total = loss.evaluate(&Comparison::within(&rows), &mut stream())?;
    total
        .total()?
        .expect("the batch has all there is")
        .to_scalar()
}

#[test]
fn whole_batches_by_their_values_alone() -> Result<()> {
    let text = "margin = { learn_beta = true, per_class = true, nu = 0.1 }";
    let value = value_of(joined(text, Some(UNIT))?.as_ref(), 1.0)?;
    assert!((value - 0.399023263).abs() < 1e-9, "{value}");
    // All three rows are divided by their length here, whatever the scale; the peer leaves its negatives as they are.
    let angular = joined("angular = {}", None)?;
    for factor in [1.0, 10.0] {
        let value = value_of(angular.as_ref(), factor)?;
        assert!((value - 2.938589166).abs() < 1e-9, "{value}");
    }
    let peer = joined("angular = { compat = \"pml\" }", None)?;
    let (one, ten) = (
        value_of(peer.as_ref(), 1.0)?,
        value_of(peer.as_ref(), 10.0)?,
    );
    assert!((one - ten).abs() > 0.1, "{one} {ten}");
    Ok(())
}

/// The peer keeps its graph in the histogram and cannot go back twice.
#[test]
fn a_dynamic_soft_margin_goes_back_after_each_batch() -> Result<()> {
    let mut loss = joined("dynamic_soft_margin = {}", Some(UNIT))?;
    let mut shares = Vec::new();
    for _ in 0..3 {
        let vectors = Var::new(&ROWS, &Device::Cpu)?;
        let rows = Embeddings::labeled(vectors.as_tensor().clone(), LABELS.to_vec())?;
        let within = Comparison::within(&rows);
        loss.absorb(&within)?;
        let total = loss.evaluate(&within, &mut stream())?.total()?;
        let gradients = total.expect("the batch has all there is").backward()?;
        assert!(gradients.get(&vectors).is_some());
        let histogram = loss.state()["histogram"].to_vec1::<f64>()?;
        assert!((histogram.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        shares.push(histogram);
    }
    // The same batch again changes nothing, and a loss goes on where another stopped.
    let off = shares[0].iter().zip(&shares[2]).map(|(x, y)| (x - y).abs());
    assert!(off.fold(0.0, f64::max) < 1e-12);
    let mut other = joined("dynamic_soft_margin = {}", Some(UNIT))?;
    other.restore(&loss.state())?;
    assert_eq!(
        value_of(other.as_ref(), 1.0)?,
        value_of(loss.as_ref(), 1.0)?
    );
    let mut wide = joined("dynamic_soft_margin = { bins = 20 }", Some(UNIT))?;
    let error = wide
        .restore(&loss.state())
        .expect_err("10 and 20")
        .to_string();
    assert!(
        error.contains("has shape [10], and [20] is wanted"),
        "{error}"
    );
    Ok(())
}
