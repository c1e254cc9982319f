//! Eight rows of three classes, for which the values of pytorch-metric-learning 2.9 and the lengths of its gradients are
//! known.

mod fakes;

use candle_core::{DType, Device, Result, Tensor, Var};
use fakes::{Cosine, Fake, Kind, RAW, UNIT, stream};
use nearfar_core::{
    Comparison, Distance, Embeddings, Finite, Loss, NegativeDistance, NegativeSimilarity,
    NonNegative, Positive, Reducer, Stateful,
};
use nearfar_losses::{
    ArcFace, Circle, ClassificationLoss, Compat, Contrastive, CosFace, CrossBatchMemory, FastAP,
    Histogram, Instance, IntraPairVariance, Join, LSoftmax, Lifted, LiftedGeneralized, ListLoss,
    LossConfig, Memory, MultiSimilarity, NCA, NPair, NTXent, NormalizedSoftmax, OverClasses,
    OverLists, OverPairs, OverTriplets, P2SGrad, PNP, PNPForm, Penalty, ProxyAnchor, ProxyNCA,
    RankedList, Regularized, Regularizer, SNRContrastive, SelfSupervised, SelfSupervision,
    SmoothAP, SoftTriple, SphereFace, SubCenterArcFace, SupCon, ThresholdConsistentMargin,
    TripletMargin, TupletMargin, VICReg,
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

/// The value of a loss, and the length of its gradient.
fn value_and_length(loss: &dyn Loss, rows: &[[f64; 3]], labels: &[u32]) -> Result<(f64, f64)> {
    let vectors = Var::from_slice(rows.as_flattened(), (rows.len(), 3), &Device::Cpu)?;
    let rows = Embeddings::labeled(vectors.as_tensor().clone(), labels.to_vec())?;
    let total = loss
        .evaluate(&Comparison::within(&rows), &mut stream())?
        .total()?;
    let total = total.expect("the batch has all there is");
    let gradients = total.backward()?;
    let gradient = gradients.get(&vectors).expect("it depends on its rows");
    let length = gradient.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>()?;
    Ok((total.to_scalar::<f64>()?, length))
}

fn check(what: &str, loss: &dyn Loss, value: f64, length: f64) -> Result<()> {
    let (found, found_length) = value_and_length(loss, &ROWS, &LABELS)?;
    // The values are written with nine places.
    assert!((found - value).abs() < 1e-9, "{what}: {found}, not {value}");
    assert!(
        (found_length - length).abs() < 2e-9,
        "{what}: a gradient of {found_length}, not {length}"
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
fn pairs() -> Result<()> {
    let negated = || Box::new(NegativeSimilarity(Box::new(Cosine)));
    let loss = IntraPairVariance::default();
    let loss = OverPairs::new("intra_pair_variance", loss, negated());
    check("intra-pair variance", &loss, 0.076309065, 0.120187003)?;
    let loss = OverPairs::new("tcm", ThresholdConsistentMargin::default(), negated());
    check("tcm", &loss, 0.617135617, 0.604328238)?;
    let snr = Fake {
        kind: Kind::Snr,
        ..UNIT
    };
    let loss = OverPairs::new("snr_contrastive", SNRContrastive::default(), Box::new(snr));
    check("snr contrastive", &loss, 16.026025467, 330.627004386)
}

fn by_cosine<L: ListLoss>(loss: L) -> OverLists<L> {
    OverLists::new("a loss", loss, Box::new(Cosine))
}

fn by_distance<L: ListLoss>(loss: L, kind: Kind) -> OverLists<L> {
    let distance = Fake { kind, ..UNIT };
    OverLists::new(
        "a loss",
        loss,
        Box::new(NegativeDistance(Box::new(distance))),
    )
}

#[test]
fn lists() -> Result<()> {
    let loss = by_cosine(MultiSimilarity::default());
    check("multi-similarity", &loss, 0.803005505, 0.489580907)?;
    let loss = by_cosine(NTXent::default());
    check("nt-xent", &loss, 4.625485208, 8.154877948)?;
    let loss = by_cosine(Circle::default());
    check("circle", &loss, 57.698923491, 68.022729993)?;
    let loss = by_cosine(SupCon::default());
    check("supcon", &loss, 3.820972177, 5.171955119)?;
    let loss = by_cosine(TupletMargin {
        margin: NonNegative::new(5.73f64.to_radians())?,
        ..TupletMargin::default()
    });
    check("tuplet margin", &loss, 14.546094411, 35.372380370)?;
    check("n-pair", &by_cosine(NPair {}), 0.959385406, 0.392412592)?;
    let loss = by_distance(Lifted::default(), Kind::Euclidean);
    check("lifted", &loss, 5.426441596, 2.053447892)?;
    let loss = by_distance(LiftedGeneralized::default(), Kind::Euclidean);
    check("lifted generalized", &loss, 3.163520214, 0.599865668)?;
    let loss = by_distance(NCA::default(), Kind::Squared);
    check("nca", &loss, 1.398041714, 0.801474249)?;
    let loss = by_distance(FastAP::default(), Kind::Squared);
    check("fast-ap", &loss, 0.650029174, 0.310691905)?;
    let ranked = RankedList {
        negative_temperature: NonNegative::literal(5.0),
        compat: Some(Compat::Pml),
        ..RankedList::default()
    };
    let loss = by_distance(ranked, Kind::Euclidean);
    check("ranked list", &loss, 0.394969189, 0.385227536)?;
    let instance = Instance {
        compat: Some(Compat::Pml),
        ..Instance::default()
    };
    check("instance", &by_cosine(instance), 32.103261063, 32.531487199)
}

/// The peer places its nodes in f32, so its value is good to six places.
#[test]
fn histogram() -> Result<()> {
    let (value, length) = value_and_length(&by_cosine(Histogram::default()), &ROWS, &LABELS)?;
    assert!((value - 0.466235298).abs() < 2e-6, "{value}");
    assert!((length - 0.547219025).abs() < 1e-5, "{length}");
    Ok(())
}

#[test]
fn pnp() -> Result<()> {
    for (form, value, length) in [
        (PNPForm::O, 1.519710989, 3.309137924),
        (PNPForm::Ds, 0.703562612, 0.775007710),
        (PNPForm::Dq, 0.388141647, 0.208534428),
        (PNPForm::Iu, 2.831151055, 8.237236695),
        (PNPForm::Ib, 0.510937175, 1.436585579),
    ] {
        let loss = PNP {
            form,
            include_self: true,
            ..PNP::default()
        };
        check(&format!("{form:?}"), &by_cosine(loss), value, length)?;
    }
    Ok(())
}

#[test]
fn smooth_ap() -> Result<()> {
    let loss = by_cosine(SmoothAP {
        include_self: true,
        ..SmoothAP::default()
    });
    let x = [0.4, -0.2, 0.9];
    let rows = [
        ROWS[0], ROWS[1], ROWS[6], ROWS[2], ROWS[3], x, ROWS[4], ROWS[5], ROWS[7],
    ];
    let (value, length) = value_and_length(&loss, &rows, &[0, 0, 0, 1, 1, 1, 2, 2, 2])?;
    // The peer adds up in f32.
    assert!((value - 0.339520828).abs() < 1e-6, "{value}");
    assert!((length - 0.140880679).abs() < 1e-6, "{length}");
    // Where there are not as many classes as rows in each, the peer groups the wrong rows and gives 0.109831966.
    let (value, _) = value_and_length(&loss, &ROWS[..6], &[0, 0, 1, 1, 2, 2])?;
    assert!((value - 0.236066838).abs() < 1e-9, "{value}");
    Ok(())
}

/// With two rows in each class, all the others are the negatives and the positive.
#[test]
fn losses_of_two_rows_a_class_are_one() -> Result<()> {
    let (rows, labels) = (&ROWS[..6], [0, 0, 1, 1, 2, 2]);
    let value = |loss: &dyn Loss| value_and_length(loss, rows, &labels);
    let temperature = Positive::literal(0.5);
    let of_pairs = value(&by_cosine(NTXent {
        temperature,
        ..NTXent::default()
    }))?;
    let of_all = value(&by_cosine(SupCon { temperature }))?;
    let of_neighbors = value(&by_distance(NCA::default(), Kind::Squared))?;
    for other in [of_all, of_neighbors] {
        assert!((of_pairs.0 - other.0).abs() < 1e-14 && (of_pairs.1 - other.1).abs() < 1e-14);
    }
    Ok(())
}

const CENTERS: [[f64; 3]; 3] = [[1.0, 0.3, 0.0], [0.0, 1.0, 0.2], [0.2, -0.3, 1.0]];

/// Two centers for each of three classes.
const TWICE: [[f64; 3]; 6] = [
    [1.0, 0.3, 0.0],
    [1.2, 0.5, 0.2],
    [0.0, 1.0, 0.2],
    [-0.3, 0.7, -0.1],
    [0.2, -0.3, 1.0],
    [0.3, 0.0, 0.8],
];

fn classes<L: ClassificationLoss>(loss: L) -> Result<OverClasses<L>> {
    let start = match loss.centers_per_class() {
        2 => Tensor::new(&TWICE, &Device::Cpu)?,
        _ => Tensor::new(&CENTERS, &Device::Cpu)?,
    };
    Ok(OverClasses::new("classes", loss, Var::from_tensor(&start)?))
}

#[test]
fn losses_of_class_centers() -> Result<()> {
    let margin = NonNegative::new(28.6f64.to_radians())?;
    let scale = Positive::literal(64.0);
    let loss = classes(ArcFace { margin, scale })?;
    check("arcface", &loss, 19.492599001, 31.546448270)?;
    let loss = classes(CosFace::default())?;
    check("cosface", &loss, 16.022294073, 24.853028722)?;
    let loss = classes(LSoftmax::default())?;
    check("l_softmax", &loss, 1.890846171, 0.969605444)?;
    let loss = classes(SphereFace::default())?;
    check("sphereface", &loss, 1.851996814, 0.926329526)?;
    let loss = classes(NormalizedSoftmax::default())?;
    check("normalized_softmax", &loss, 1.977183518, 5.237489059)?;
    let loss = classes(ProxyNCA::default())?;
    check("proxy_nca", &loss, 0.727134044, 0.447714880)?;
    let loss = OverClasses {
        similarity: Some(Box::new(Cosine)),
        ..classes(ProxyAnchor::default())?
    };
    check("proxy_anchor", &loss, 27.258761837, 12.131888180)?;
    let centers = 2.try_into().expect("2");
    let loss = classes(SoftTriple {
        centers,
        regularizer: NonNegative::literal(0.0),
        ..SoftTriple::default()
    })?;
    check("soft_triple", &loss, 1.947868456, 4.796850557)?;
    let loss = classes(SubCenterArcFace {
        centers,
        margin,
        scale,
    })?;
    check("subcenter_arcface", &loss, 17.704060589, 24.096139977)
}

/// The peer divides centers by a little more than their length; the number is that of the formula.
#[test]
fn p2sgrad_divides_centers_by_their_length() -> Result<()> {
    let mut loss = classes(P2SGrad {})?;
    let vectors = Tensor::new(&ROWS, &Device::Cpu)?;
    let rows = Embeddings::labeled(vectors, LABELS.to_vec())?;
    let within = Comparison::within(&rows);
    loss.absorb(&within)?;
    let total = loss.evaluate(&within, &mut stream())?.total()?;
    let value = total.expect("eight rows").to_scalar::<f64>()?;
    assert!((value - 0.185538114).abs() < 1e-9, "{value}");
    // The peer divides its centers a little too far: its numbers are those to 1e-6 only.
    let (value, length) = value_and_length(&loss, &ROWS, &LABELS)?;
    assert!((value - 0.185538094).abs() < 1e-6, "{value}");
    assert!((length - 0.147167214).abs() < 1e-6, "{length}");
    Ok(())
}

#[test]
fn regularizers() -> Result<()> {
    let check = |regularizer: Regularizer, rows: &[[f64; 3]], wanted: f64| -> Result<()> {
        let rows = Tensor::from_slice(rows.as_flattened(), (rows.len(), 3), &Device::Cpu)?;
        let value = regularizer.value(&rows)?.expect("rows");
        let value = value.to_scalar::<f64>()?;
        assert!((value - wanted).abs() < 1e-9, "{regularizer:?}: {value}");
        Ok(())
    };
    let one = Positive::literal(1.0);
    let p = Positive::literal(2.0);
    check(Regularizer::Lp { p, power: one }, &ROWS, 0.934129659)?;
    check(Regularizer::ZeroMean {}, &ROWS, 1.125)?;
    check(Regularizer::RegularFace {}, &CENTERS, 0.220883586)?;
    check(Regularizer::CenterInvariant {}, &CENTERS, 0.000338889)?;
    let centers = 2.try_into().expect("2");
    check(Regularizer::SparseCenters { centers }, &TWICE, 0.170567431)
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
    // The peer keeps its boundary of 1.2 in f32.
    let margin = joined("margin = { beta = 1.2000000476837158 }", Some(UNIT))?;
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
    let text =
        "margin = { beta = 1.2000000476837158, learn_beta = true, per_class = true, nu = 0.1 }";
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

#[test]
fn a_memory_of_past_batches() -> Result<()> {
    let batch = |rows: Vec<[f64; 3]>, start: u64| -> Result<Embeddings> {
        let vectors = Tensor::from_slice(rows.as_flattened(), (8, 3), &Device::Cpu)?;
        Embeddings::new(vectors, LABELS.to_vec(), (start..start + 8).collect())
    };
    let second = ROWS.map(|[x, y, z]| [1.1 * z, 1.1 * y, 1.1 * x]);
    let (first, second) = (batch(ROWS.to_vec(), 0)?, batch(second.to_vec(), 8)?);
    let build = || -> Result<CrossBatchMemory> {
        let loss = OverPairs::new("contrastive", Contrastive::default(), Box::new(UNIT));
        let settings = Memory {
            size: 16.try_into().expect("16"),
            warmup: 0,
        };
        CrossBatchMemory::new(Box::new(loss), settings, 3, DType::F64, &Device::Cpu)
    };
    let step = |loss: &mut CrossBatchMemory, rows: &Embeddings| -> Result<f64> {
        let within = Comparison::within(rows);
        loss.absorb(&within)?;
        let total = loss.evaluate(&within, &mut stream())?.total()?;
        total.expect("eight rows").to_scalar()
    };
    let mut loss = build()?;
    assert!((step(&mut loss, &first)? - 1.230551).abs() < 1e-6);
    let state = loss.state();
    let value = step(&mut loss, &second)?;
    assert!((value - 1.315078).abs() < 1e-6, "{value}");
    // Where it is stopped, it goes on with the same bits.
    let mut other = build()?;
    other.restore(&state)?;
    assert_eq!(step(&mut other, &second)?, value);
    assert_eq!(other.len(), 16);
    // The oldest give way: a third batch lies where the first lay.
    step(&mut other, &first)?;
    let rows = other.state()["memory.rows"].to_vec2::<f64>()?;
    assert_eq!(rows[0], ROWS[0]);
    Ok(())
}

#[test]
fn a_memory_says_what_it_cannot_take() -> Result<()> {
    let loss = OverPairs::new("contrastive", Contrastive::default(), Box::new(UNIT));
    let settings = Memory {
        size: 7.try_into().expect("7"),
        warmup: 0,
    };
    let mut loss = CrossBatchMemory::new(Box::new(loss), settings, 3, DType::F64, &Device::Cpu)?;
    let rows = Embeddings::labeled(Tensor::new(&ROWS, &Device::Cpu)?, LABELS.to_vec())?;
    let error = loss.absorb(&Comparison::within(&rows)).expect_err("8 of 7");
    assert_eq!(
        error.to_string(),
        "the memory holds 7 rows, and a batch has 8; make `memory.size` at least that"
    );
    // One row is not compared with itself: there is nothing to learn.
    let one = Embeddings::labeled(rows.vectors.narrow(0, 0, 1)?, vec![0])?;
    loss.absorb(&Comparison::within(&one))?;
    let evaluated = loss.evaluate(&Comparison::within(&one), &mut stream())?;
    assert!(evaluated.total()?.is_none());
    Ok(())
}

#[test]
fn vicreg() -> Result<()> {
    let first = Var::new(&ROWS, &Device::Cpu)?;
    let mut second = ROWS.map(|row| row.map(|x| 0.9 * x + 0.05));
    second.reverse();
    let side = |vectors: Tensor, start: u64| {
        Embeddings::new(vectors, Vec::new(), (start..start + 8).collect())
    };
    let loss = LossConfig::VICReg(VICReg::default()).build(Join::default())?;
    let sides = [
        side(first.as_tensor().clone(), 0)?,
        side(Tensor::new(&second, &Device::Cpu)?, 8)?,
    ];
    let comparison = Comparison::between(&sides[0], &sides[1]);
    let total = loss.evaluate(&comparison, &mut stream())?.total()?;
    let total = total.expect("eight rows");
    assert!((total.to_scalar::<f64>()? - 26.891951233).abs() < 1e-8);
    let gradients = total.backward()?;
    let gradient = gradients.get(&first).expect("it depends on its rows");
    let length = gradient.sqr()?.sum_all()?.sqrt()?.to_scalar::<f64>()?;
    assert!((length - 4.584213964).abs() < 1e-8, "{length}");
    Ok(())
}

/// The views of a row are one class: 2n rows with the labels 0..n twice.
#[test]
fn self_supervision_is_the_loss_of_rows_as_classes() -> Result<()> {
    let vectors = Tensor::new(&ROWS, &Device::Cpu)?;
    let side = |start: usize| {
        let ids = (start as u64..start as u64 + 4).collect();
        Embeddings::new(vectors.narrow(0, start, 4)?, Vec::new(), ids)
    };
    let (first, second) = (side(0)?, side(4)?);
    let build = || {
        Box::new(OverLists::new(
            "nt_xent",
            NTXent::default(),
            Box::new(Cosine),
        ))
    };
    let value = |loss: &dyn Loss, comparison: &Comparison<'_>| -> Result<f64> {
        let total = loss.evaluate(comparison, &mut stream())?.total()?;
        total.expect("four rows").to_scalar()
    };
    let settings = SelfSupervision::default();
    let loss = SelfSupervised {
        loss: build(),
        settings,
    };
    let found = value(&loss, &Comparison::between(&first, &second))?;
    let all = Embeddings::labeled(vectors.clone(), vec![0, 1, 2, 3, 0, 1, 2, 3])?;
    assert_eq!(found, value(&*build(), &Comparison::within(&all))?);
    let error = loss
        .evaluate(&Comparison::within(&all), &mut stream())
        .expect_err("one side");
    assert!(
        error.to_string().contains("two views of each row"),
        "{error}"
    );
    Ok(())
}

#[test]
fn regularizers_are_added_as_parts_of_their_own() -> Result<()> {
    let penalty = |penalty: Regularizer, weight: f64| {
        Some(Penalty {
            penalty,
            weight: NonNegative::literal(weight),
        })
    };
    let rows = Embeddings::labeled(Tensor::new(&ROWS, &Device::Cpu)?, LABELS.to_vec())?;
    let loss = Box::new(classes(CosFace::default())?);
    let of_rows = penalty(Regularizer::ZeroMean {}, 2.0);
    let loss = Regularized::new(loss, of_rows, penalty(Regularizer::RegularFace {}, 0.5))?;
    let parts = loss
        .evaluate(&Comparison::within(&rows), &mut stream())?
        .parts;
    let numbers: Vec<(&str, f64)> = parts
        .iter()
        .map(|it| {
            Ok((
                it.name,
                it.value.as_ref().expect("rows").to_scalar::<f64>()?,
            ))
        })
        .collect::<Result<_>>()?;
    let wanted = [
        ("class", 16.022294073),
        ("embedding_regularizer", 2.25),
        ("weight_regularizer", 0.110441793),
    ];
    for ((name, number), (wanted_name, wanted)) in numbers.iter().zip(wanted) {
        assert_eq!(*name, wanted_name);
        assert!((number - wanted).abs() < 1e-9, "{name}: {number}");
    }
    let pairs = OverPairs::new("contrastive", Contrastive::default(), Box::new(UNIT));
    let error = Regularized::new(Box::new(pairs), None, penalty(Regularizer::Koleo {}, 1.0))
        .expect_err("no centers");
    assert!(error.to_string().contains("no class centers"), "{error}");
    Ok(())
}

#[test]
fn maps_of_a_model_are_regularized_and_get_a_gradient() -> Result<()> {
    let rows = Embeddings::labeled(Tensor::new(&ROWS, &Device::Cpu)?, LABELS.to_vec())?;
    let penalty = || Penalty {
        penalty: Regularizer::Orthonormal {},
        weight: NonNegative::literal(0.1),
    };
    let regularized = |maps: Vec<Var>| {
        let pairs = OverPairs::new("contrastive", Contrastive::default(), Box::new(UNIT));
        Regularized::new(Box::new(pairs), None, None)?.with_maps(penalty(), maps)
    };
    let matrix = Var::new(&[[2f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
    let diagonal = Var::new(&[3f64], &Device::Cpu)?;
    let loss = regularized(vec![matrix.clone(), diagonal.clone()])?;
    let parts = loss
        .evaluate(&Comparison::within(&rows), &mut stream())?
        .parts;
    let part = parts.last().expect("parts");
    assert_eq!(part.name, "head_regularizer");
    let value = part.value.as_ref().expect("rows");
    // A tenth of ½ (4 − 1)² and of ½ (9 − 1)².
    assert!((value.to_scalar::<f64>()? - 3.65).abs() < 1e-12, "{value}");
    let gradients = value.backward()?;
    // 2 (LLᵀ − I) L, a tenth of it.
    for (map, wanted) in [(&matrix, 1.2), (&diagonal, 4.8)] {
        let gradient = gradients.get(map).expect("it depends on its map");
        let gradient = gradient.flatten_all()?.to_vec1::<f64>()?;
        assert!((gradient[0] - wanted).abs() < 1e-12, "{gradient:?}");
        assert!(gradient[1..].iter().all(|it| *it == 0.0), "{gradient:?}");
    }
    let error = regularized(Vec::new()).expect_err("no map");
    assert!(error.to_string().contains("without a `head`"), "{error}");
    Ok(())
}
