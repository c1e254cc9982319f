//! Eight rows of three classes, for which the values of pytorch-metric-learning 2.9 and the lengths of its gradients are
//! known.

mod fakes;

use candle_core::{Device, Result, Tensor, Var};
use fakes::{Cosine, Fake, Kind, RAW, UNIT, stream};
use nearfar_core::{
    Comparison, Embeddings, Finite, Loss, NegativeSimilarity, NonNegative, Positive, Reducer,
};
use nearfar_losses::{
    ArcFace, Contrastive, MultiSimilarity, NTXent, OverClasses, OverLists, OverPairs, OverTriplets,
    TripletMargin,
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
