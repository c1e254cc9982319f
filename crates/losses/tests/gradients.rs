//! Gradients against finite differences, in f64.

mod fakes;

use candle_core::{DType, Result, Tensor};
use fakes::{Cosine, Fake, Kind, UNIT, join, noise, stream, with_relation, with_vectors};
use nearfar_core::{Embeddings, Finite, NonNegative, Positive, Reducer};
use nearfar_kernels::test_util::check_gradient;
use nearfar_losses::{
    CombinedMargin, Compares, Compat, Contrastive, Lifted, LiftedGeneralized, LossConfig, MaLSTM,
    NTXent, NTXentForm, NormalizedSoftmax, PNP, PNPForm, PairForm, PairRegression, Power, ProxyNCA,
    RankedList, Residual, SmoothAP, TripletMargin,
};

/// Losses whose weights or targets are constants to the gradient by definition: theirs is not that of the value. It is tested beside
/// their formulas.
const DETACHED: &[&str] = &["circle", "ranked_list", "simsiam"];

/// Every loss with its defaults, and the settings that take another way.
fn configs() -> Vec<LossConfig> {
    let mut configs = LossConfig::all();
    configs.retain(|it| !DETACHED.contains(&it.name()));
    configs.push(LossConfig::Contrastive(Contrastive {
        form: PairForm::SquaredHalf,
        positive_margin: Finite::literal(0.4),
        negative_margin: Finite::literal(1.3),
    }));
    let triplet = TripletMargin::default();
    configs.extend([
        LossConfig::TripletMargin(TripletMargin {
            swap: true,
            ..triplet.clone()
        }),
        LossConfig::TripletMargin(TripletMargin {
            smooth: true,
            ..triplet.clone()
        }),
        LossConfig::TripletMargin(TripletMargin {
            power: Power::Two,
            ..triplet
        }),
        LossConfig::ProxyNCA(ProxyNCA {
            exclude_target: true,
            ..ProxyNCA::default()
        }),
        LossConfig::NormalizedSoftmax(NormalizedSoftmax {
            unit_rows: false,
            ..NormalizedSoftmax::default()
        }),
        LossConfig::CombinedMargin(CombinedMargin {
            factor: Positive::literal(1.1),
            cosine: NonNegative::literal(0.1),
            ..CombinedMargin::default()
        }),
        LossConfig::Contrastive(Contrastive {
            form: PairForm::Squared,
            ..Contrastive::default()
        }),
        LossConfig::Contrastive(Contrastive {
            form: PairForm::Energy {
                bound: Positive::literal(2.0),
            },
            ..Contrastive::default()
        }),
        LossConfig::RankedList(RankedList {
            detach: false,
            ..RankedList::default()
        }),
        LossConfig::RankedList(RankedList {
            compat: Some(Compat::Pml),
            ..RankedList::default()
        }),
        LossConfig::Lifted(Lifted {
            compat: Some(Compat::Pml),
            ..Lifted::default()
        }),
        LossConfig::LiftedGeneralized(LiftedGeneralized {
            compat: Some(Compat::Pml),
            ..LiftedGeneralized::default()
        }),
        LossConfig::NTXent(NTXent {
            form: NTXentForm::Decoupled,
            ..NTXent::default()
        }),
        LossConfig::SmoothAP(SmoothAP {
            include_self: true,
            temperature: Positive::literal(0.1),
        }),
        LossConfig::PairRegression(PairRegression {
            low: Finite::literal(1.0),
            high: Finite::literal(4.0),
            residual: Residual::Huber {
                delta: Positive::literal(0.3),
            },
        }),
        LossConfig::MaLSTM(MaLSTM {
            low: Finite::literal(4.0),
            high: Finite::literal(1.0),
        }),
    ]);
    for form in [PNPForm::Iu, PNPForm::Ib, PNPForm::Ds, PNPForm::Dq] {
        configs.push(LossConfig::PNP(PNP {
            form,
            temperature: Positive::literal(0.1),
            ..PNP::default()
        }));
    }
    let read = |text: &str| toml::from_str::<LossConfig>(text).expect("settings of a test");
    configs.extend(
        [
            "angular = { form = \"triplet\", angle = 0.6 }",
            "angular = { compat = \"pml\" }",
            "batch_hard = { soft = true }",
            "correlated = { correlation = \"coral\" }",
            "log_ratio = { power = 1 }",
            "margin = { learn_beta = true, nu = 0.1 }",
            "ml2 = { structured = { gamma = 10 } }",
            "multi_tuple = { form = { soft = { gamma = 3 } }, intra = 0.5, inter = 0.5, positive_count = 1 }",
            "ordinal_triplet = { proportional = true, power = 1 }",
            "quadruplet = { power = 1 }",
            "triplet_margin = { triplets_per_anchor = 2 }",
        ]
        .map(read),
    );
    configs
}

/// The loss of a batch as a function of its rows, under a reducer that keeps every term.
fn of_rows(
    config: &LossConfig,
    rows: &Embeddings,
    compares: impl Fn(&mut nearfar_losses::Join),
) -> Result<()> {
    let width = rows.vectors.dim(1)?;
    let mut join = join(config, width, DType::F64);
    compares(&mut join);
    // A sum does not jump where a term becomes active.
    join.reducer = Some(Reducer::Sum {});
    let mut loss = config.build(join)?;
    // What it remembers is no function of the rows any more.
    with_relation(config, rows, |it| loss.absorb(it))?;
    let centers = loss.parameters();
    let value = |rows: &Embeddings| -> Result<Tensor> {
        let evaluated = with_relation(config, rows, |it| loss.evaluate(it, &mut stream()))?;
        Ok(evaluated.total()?.expect("a plain batch"))
    };
    // Differences of f64 are good to 1e-9 of the largest; a scale of 64 costs two digits.
    check_gradient(
        |x| value(&with_vectors(rows, x[0].clone())),
        std::slice::from_ref(&rows.vectors),
        1e-6,
    )
    .map_err(|error| error.context(format!("{config:?}")))?;
    for parameter in centers {
        let start = parameter.var.as_tensor().copy()?;
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f64>();
        let gradients = value(rows)?.backward()?;
        let gradient = flat(gradients.get(&parameter.var).expect("it is trained"))?;
        let moved = |place: usize, by: f64| -> Result<f64> {
            let mut numbers = flat(&start)?;
            numbers[place] += by;
            let numbers = Tensor::from_vec(numbers, start.shape(), start.device())?;
            parameter.var.set(&numbers)?;
            value(rows)?.to_scalar::<f64>()
        };
        for (place, gradient) in gradient.into_iter().enumerate() {
            let quotient = (moved(place, 1e-5)? - moved(place, -1e-5)?) / 2e-5;
            assert!(
                (gradient - quotient).abs() < 1e-5 * gradient.abs().max(1.0),
                "{gradient} {quotient}"
            );
        }
        parameter.var.set(&start)?;
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_the_formula() -> Result<()> {
    for seed in 0..3 {
        let rows = noise(7, 4, vec![0, 1, 0, 2, 1, 0, 2], 20 + seed);
        for config in configs() {
            of_rows(&config, &rows, |_| {})?;
        }
    }
    Ok(())
}

#[test]
fn they_are_so_for_other_distances_and_for_the_other_direction() -> Result<()> {
    // A seed for which no term is within a step of its hinge, where a difference quotient says nothing.
    let rows = noise(7, 4, vec![0, 1, 0, 2, 1, 0, 2], 31);
    for config in configs() {
        if matches!(
            config.defaults().compares,
            Compares::Centers | Compares::DistantCenters | Compares::Own
        ) {
            continue;
        }
        for kind in [Kind::Euclidean, Kind::Squared, Kind::Manhattan] {
            of_rows(&config, &rows, |join| {
                join.similarity = None;
                join.distance = Some(Box::new(Fake { kind, ..UNIT }));
            })?;
        }
        of_rows(&config, &rows, |join| {
            join.distance = None;
            join.similarity = Some(Box::new(Cosine));
        })?;
    }
    Ok(())
}
