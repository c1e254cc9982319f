//! Every axiom that a distance claims is tested; every axiom that it does not claim has a witness. So the claims are
//! exact, not merely safe.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Axioms, Distance, Positive, Similarity};
use nearfar_kernels::test_util::{check_agreement, check_gradient, noise};
use nearfar_metrics::{
    Bilinear, Chebyshev, Cosine, DistanceConfig, Euclidean, Exponent, JeffriesMatusita, Length,
    Mahalanobis, Manhattan, Minkowski, Normalized, Raised, SimilarityConfig, SquaredEuclidean,
};
use proptest::prelude::*;

/// Dimensions of all points.
const DIM: usize = 3;

fn distances() -> Vec<(&'static str, Box<dyn Distance>)> {
    let whole = [2.0, 0.5, 0.0, 0.5, 1.0, 0.2, 0.0, 0.2, 3.0];
    let flat = [1.0, 0.0, 0.0, 0.0, 2.0, 0.0]; // Forgets the third coordinate.
    let mut distances: Vec<(&'static str, Box<dyn Distance>)> = DistanceConfig::all()
        .iter()
        .map(|config| (config.name(), config.build()))
        .collect();
    distances.extend([
        (
            "mahalanobis",
            Box::new(Mahalanobis::from_matrix(DIM, &whole).expect("definite")) as Box<dyn Distance>,
        ),
        (
            "mahalanobis of rank 2",
            Box::new(Mahalanobis::from_map(DIM, &flat).expect("a map")),
        ),
        (
            "normalized euclidean",
            Box::new(Normalized::new(Euclidean {})),
        ),
        (
            "normalized squared_euclidean",
            Box::new(Normalized::new(SquaredEuclidean {})),
        ),
        (
            "normalized manhattan",
            Box::new(Normalized::by(Length::Manhattan, Manhattan {})),
        ),
        (
            "normalized chebyshev",
            Box::new(Normalized::by(Length::Chebyshev, Chebyshev {})),
        ),
        (
            "normalized minkowski",
            Box::new(Normalized::by(
                Length::Minkowski(Exponent::literal(3.0)),
                minkowski(3.0, 1.0),
            )),
        ),
        ("minkowski of 1.5", Box::new(minkowski(1.5, 1.0))),
        ("minkowski of 3", Box::new(minkowski(3.0, 1.0))),
        ("minkowski of 3, root", Box::new(minkowski(3.0, 0.5))),
        ("minkowski of 3, squared", Box::new(minkowski(3.0, 2.0))),
        (
            "jeffries_matusita squared",
            Box::new(JeffriesMatusita {
                squared: true,
                ..JeffriesMatusita::default()
            }),
        ),
    ]);
    distances
}

fn minkowski(p: f64, power: f64) -> Minkowski {
    Minkowski {
        p: Exponent::literal(p),
        power: Positive::literal(power),
    }
}

fn similarities() -> Vec<(String, Box<dyn Similarity>)> {
    let matrix = [1.0, 2.0, 0.0, -1.0, 0.5, 3.0, 0.0, 0.0, 1.0];
    let bilinear = Bilinear::from_matrix(DIM, &matrix).expect("square");
    let cube = std::num::NonZeroU32::MIN.saturating_add(2);
    let mut similarities: Vec<(String, Box<dyn Similarity>)> = SimilarityConfig::all()
        .iter()
        .map(|config| (config.name().to_owned(), config.build()))
        .collect();
    similarities.push(("bilinear".into(), Box::new(bilinear.clone())));
    let normalized = Box::new(Normalized::new(bilinear));
    similarities.push(("normalized bilinear".into(), normalized));
    let cubed = Box::new(Raised::new(Cosine {}, cube));
    similarities.push(("cosine cubed".into(), cubed));
    similarities
}

/// Whether rows are histograms to it, which negative numbers are not.
fn is_of_histograms(name: &str) -> bool {
    const HISTOGRAMS: [&str; 12] = [
        "bhattacharyya",
        "hellinger",
        "matusita",
        "jeffries_matusita",
        "jeffries_matusita squared",
        "kullback_leibler",
        "jeffreys",
        "jensen_shannon",
        "jensen_shannon_distance",
        "chi_square",
        "total_variation",
        "earth_mover",
    ];
    HISTOGRAMS.iter().any(|it| name.ends_with(it))
}

/// The rows as a distance can take them.
fn fit(name: &str, x: &Tensor) -> Result<Tensor> {
    if is_of_histograms(name) {
        x.abs()
    } else {
        Ok(x.clone())
    }
}

/// Three points for which an axiom fails; which point is compared with which is the axiom's.
type Witness = [[f64; DIM]; 3];

/// Points on a line, two steps long.
const LINE: Witness = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]];
/// Directions of 0°, 45° and 90°.
const TURN: Witness = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]];
/// The first and the second have one direction.
const RAY: Witness = [[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 1.0]];
/// Nowhere.
const ZERO: Witness = [[0.0; DIM]; 3];
/// The first and the second differ by a constant.
const SHIFT: Witness = [[1.0, 2.0, 0.0], [2.0, 3.0, 1.0], [0.0, 0.0, 1.0]];
/// A signal that grows.
const GROWTH: Witness = [[1.0, 0.0, 0.0], [3.0, 0.0, 0.0], [5.0, 0.0, 0.0]];
/// Less their means, directions of 0°, 45° and 90°.
const TURN_OF_SIGNALS: Witness = [[3.0, -3.0, 0.0], [4.0, -2.0, -2.0], [1.0, 1.0, -2.0]];
/// The first and the second differ in the third coordinate.
const LIFT: Witness = [[1.0, 1.0, 0.0], [1.0, 1.0, 5.0], [0.0, 0.0, 0.0]];

fn witness(distance: &str, axiom: &str) -> Option<Witness> {
    Some(match (distance, axiom) {
        ("squared_euclidean", "triangle") => LINE,
        ("normalized squared_euclidean", "triangle") => TURN,
        ("cosine_distance", "zero_on_self") => ZERO,
        ("cosine_distance", "triangle") => TURN,
        ("cosine_distance", "separates") => RAY,
        ("mahalanobis of rank 2", "separates") => LIFT,
        ("minkowski of 3, squared", "triangle") => LINE,
        ("angular", "separates") => RAY,
        ("correlation", "zero_on_self") => ZERO,
        ("correlation", "separates") => SHIFT,
        ("correlation", "triangle") => TURN_OF_SIGNALS,
        ("snr", "separates") => SHIFT,
        ("snr", "symmetric" | "triangle") => GROWTH,
        ("bray_curtis", "triangle") => TURN,
        ("poincare", "separates") => RAY, // All outside of the ball.
        ("kullback_leibler", "symmetric") => TURN,
        (
            "bhattacharyya"
            | "jeffries_matusita squared"
            | "kullback_leibler"
            | "jeffreys"
            | "jensen_shannon"
            | "chi_square",
            "triangle",
        ) => TURN,
        (name, "separates") if is_of_histograms(name) => RAY,
        (name, "separates") if name.starts_with("normalized") => RAY,
        _ => return None,
    })
}

const TOLERANCE: f64 = 1e-9; // Of f64, for points within 10 of the origin.

/// Whether each axiom holds for the three points, in the order of [`claims`].
fn holds(
    name: &str,
    distance: &dyn Distance,
    points: &Witness,
) -> Result<[(&'static str, bool); 5]> {
    let x = fit(name, &Tensor::new(points, &Device::Cpu)?)?;
    let d = distance.matrix(&x, &x)?.to_vec2::<f64>()?;
    let all = |f: &dyn Fn(usize, usize) -> bool| (0..3).all(|i| (0..3).all(|j| f(i, j)));
    Ok([
        ("non_negative", all(&|i, j| d[i][j] >= -TOLERANCE)),
        ("zero_on_self", (0..3).all(|i| d[i][i].abs() <= TOLERANCE)),
        (
            "separates",
            all(&|i, j| points[i] == points[j] || d[i][j].abs() > TOLERANCE),
        ),
        (
            "symmetric",
            all(&|i, j| (d[i][j] - d[j][i]).abs() <= TOLERANCE),
        ),
        (
            "triangle",
            all(&|i, k| (0..3).all(|j| d[i][k] <= d[i][j] + d[j][k] + TOLERANCE)),
        ),
    ])
}

fn claims(axioms: Axioms) -> [bool; 5] {
    let Axioms {
        non_negative,
        zero_on_self,
        separates,
        symmetric,
        triangle,
    } = axioms;
    [non_negative, zero_on_self, separates, symmetric, triangle]
}

/// Points that coincide, are zero, lie on a ray or a line, and any.
fn points() -> impl Strategy<Value = Witness> {
    // On a grid, so that points that are not the same are far enough apart to tell.
    let point = prop::array::uniform3((-40i32..=40).prop_map(|x| f64::from(x) / 8.0));
    (prop::array::uniform3(point), 0..6, -3i32..=3).prop_map(|([a, b, c], kind, times)| {
        let scaled = a.map(|x| x * f64::from(times));
        match kind {
            0 => [a, a, c],
            1 => [a, [0.0; DIM], c],
            2 => [a, scaled, c],
            3 => [a, b, [0, 1, 2].map(|k| (a[k] + b[k]) / 2.0)],
            _ => [a, b, c],
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn claimed_axioms_hold(points in points()) {
        for (name, distance) in distances() {
            let held = holds(name, distance.as_ref(), &points).expect("a matrix");
            for ((axiom, held), claimed) in held.into_iter().zip(claims(distance.axioms())) {
                prop_assert!(held || !claimed, "{name} claims `{axiom}`");
            }
        }
    }

    #[test]
    fn pairs_are_the_diagonal_of_the_matrix(points in points()) {
        let x = Tensor::new(&points, &Device::Cpu).expect("small");
        let y = Tensor::new(&[points[1], points[2], points[0]], &Device::Cpu).expect("small");
        for (name, distance) in distances() {
            let (x, y) = (fit(name, &x).expect("small"), fit(name, &y).expect("small"));
            let matrix = distance.matrix(&x, &y).and_then(|it| it.to_vec2::<f64>()).expect("a matrix");
            let paired = distance.paired(&x, &y).and_then(|it| it.to_vec1::<f64>()).expect("pairs");
            for k in 0..3 {
                // Beside 1, as distances may be of any size.
                let error = (matrix[k][k] - paired[k]).abs() / matrix[k][k].abs().max(1.0);
                prop_assert!(error < TOLERANCE, "{name}");
            }
        }
        for (name, similarity) in similarities() {
            let matrix = similarity.matrix(&x, &y).and_then(|it| it.to_vec2::<f64>()).expect("a matrix");
            let paired = similarity.paired(&x, &y).and_then(|it| it.to_vec1::<f64>()).expect("pairs");
            for k in 0..3 {
                prop_assert!((matrix[k][k] - paired[k]).abs() < TOLERANCE, "{name}");
            }
        }
    }
}

#[test]
fn each_axiom_that_is_not_claimed_has_a_witness() -> Result<()> {
    for (name, distance) in distances() {
        let axioms = claims(distance.axioms());
        for (k, (axiom, _)) in holds(name, distance.as_ref(), &LINE)?
            .into_iter()
            .enumerate()
        {
            match (axioms[k], witness(name, axiom)) {
                (true, None) => {}
                (true, Some(_)) => panic!("{name} claims `{axiom}` and has a witness against it"),
                (false, None) => {
                    panic!("{name} does not claim `{axiom}`, and nothing speaks against it")
                }
                (false, Some(points)) => {
                    let held = holds(name, distance.as_ref(), &points)?[k].1;
                    assert!(!held, "`{axiom}` of {name} holds for {points:?}");
                }
            }
        }
    }
    Ok(())
}

/// A function of two sets of rows.
type Function = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// Both ways of everything there is.
fn functions() -> Vec<(String, Function)> {
    let mut functions: Vec<(String, Function)> = Vec::new();
    for ((name, matrix), (_, paired)) in distances().into_iter().zip(distances()) {
        functions.push((
            format!("matrix of {name}"),
            Box::new(move |x| matrix.matrix(&x[0], &x[1])),
        ));
        functions.push((
            format!("pairs of {name}"),
            Box::new(move |x| paired.paired(&x[0], &x[1])),
        ));
    }
    for ((name, matrix), (_, paired)) in similarities().into_iter().zip(similarities()) {
        functions.push((
            format!("matrix of {name}"),
            Box::new(move |x| matrix.matrix(&x[0], &x[1])),
        ));
        functions.push((
            format!("pairs of {name}"),
            Box::new(move |x| paired.paired(&x[0], &x[1])),
        ));
    }
    functions
}

#[test]
fn gradients_are_those_of_the_formula() -> Result<()> {
    let inputs = [noise((5, DIM), 1)?, noise((5, DIM), 2)?];
    for (name, function) in functions() {
        let inputs = [fit(&name, &inputs[0])?, fit(&name, &inputs[1])?];
        // Central differences of f64 are good to about 1e-9 of the largest.
        check_gradient(function, &inputs, 1e-7).map_err(|error| error.context(name))?;
    }
    Ok(())
}

#[test]
fn gradients_are_finite_where_rows_coincide_or_are_zero_or_huge() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let x = Tensor::new(
            &[[0f64; DIM], [1.0, 2.0, 3.0], [1e18, -1e18, 1e17]],
            &Device::Cpu,
        )?;
        for (name, function) in functions() {
            let x = candle_core::Var::from_tensor(&fit(&name, &x)?.to_dtype(dtype)?)?;
            let value = function(&[x.as_tensor().clone(), x.as_tensor().clone()])?;
            let gradients = value.sum_all()?.backward()?;
            let gradient = gradients.get(&x).expect("it depends on its rows");
            for tensor in [&value, gradient] {
                let numbers = tensor
                    .to_dtype(DType::F64)?
                    .flatten_all()?
                    .to_vec1::<f64>()?;
                assert!(numbers.iter().all(|x| x.is_finite()), "{name}: {tensor}");
            }
        }
    }
    Ok(())
}

#[test]
fn strides_do_not_matter() -> Result<()> {
    let inputs = [
        noise((DIM, 4), 3)?.t()?,
        noise((6, DIM), 4)?.narrow(0, 1, 4)?,
    ];
    for (name, function) in functions() {
        let shaped = |x: &Tensor| {
            if is_of_histograms(&name) {
                x.sqr()?.t()?.contiguous()?.t() // Not negative, and still no copy.
            } else {
                Ok(x.clone())
            }
        };
        let inputs = [shaped(&inputs[0])?, shaped(&inputs[1])?];
        let copied = |x: &[Tensor]| function(&[x[0].contiguous()?, x[1].contiguous()?]);
        check_agreement(&function, copied, &inputs, 1e-14).map_err(|error| error.context(name))?;
    }
    Ok(())
}

#[test]
fn rows_of_two_widths_are_refused_with_both() -> Result<()> {
    let (x, y) = (noise((2, 3), 0)?, noise((2, 4), 0)?);
    for (name, function) in functions() {
        let (x, y) = (fit(&name, &x)?, fit(&name, &y)?);
        let message = function(&[x, y]).expect_err("3 and 4").to_string();
        assert!(
            message.contains('3') && message.contains('4'),
            "{name}: {message}"
        );
    }
    Ok(())
}

#[test]
fn no_rows_give_an_empty_matrix() -> Result<()> {
    let (none, some) = (noise((0, DIM), 0)?, noise((2, DIM), 0)?);
    for (name, function) in functions()
        .into_iter()
        .filter(|it| it.0.starts_with("matrix"))
    {
        let some = fit(&name, &some)?;
        assert_eq!(function(&[none.clone(), some])?.dims(), [0, 2], "{name}");
    }
    Ok(())
}

#[test]
fn rows_that_are_no_histograms_are_refused() -> Result<()> {
    let x = Tensor::new(&[[1f32, 2.0, 0.0], [1.0, -2.0, 0.0]], &Device::Cpu)?;
    for (name, function) in functions() {
        let value = function(&[x.clone(), x.clone()]);
        assert_eq!(value.is_err(), is_of_histograms(&name), "{name}");
        if let Err(error) = value {
            let message = error.to_string();
            assert!(
                message.contains("`x` has -2 in row 1; a histogram has"),
                "{name}: {message}"
            );
        }
    }
    Ok(())
}

#[test]
fn histograms_of_half_numbers_are_finite_half_numbers() -> Result<()> {
    let x = Tensor::new(&[[1f32, 2.0, 0.0], [0.0, 0.0, 4.0]], &Device::Cpu)?;
    for dtype in [DType::F16, DType::BF16] {
        for (name, function) in functions().iter().filter(|it| is_of_histograms(&it.0)) {
            let x = candle_core::Var::from_tensor(&x.to_dtype(dtype)?)?;
            let value = function(&[x.as_tensor().clone(), x.as_tensor().clone()])?;
            let gradients = value.sum_all()?.backward()?;
            let gradient = gradients.get(&x).expect("it depends on its rows");
            for tensor in [&value, gradient] {
                assert_eq!(tensor.dtype(), dtype, "{name}");
                let numbers = tensor.flatten_all()?.to_dtype(DType::F32)?;
                let numbers = numbers.to_vec1::<f32>()?;
                if dtype == DType::F16 && tensor.rank() == 2 && tensor.dim(1)? == 3 {
                    continue; // Near empty bins gradients are larger than 65,504, which is all that it holds.
                }
                assert!(numbers.iter().all(|x| x.is_finite()), "{name}: {numbers:?}");
            }
        }
    }
    Ok(())
}

/// Distances of rows and divergences of plain numbers are the same numbers.
#[test]
fn rows_are_as_far_as_their_histograms() -> Result<()> {
    use nearfar_metrics::divergences::{self, Histogram};

    type Divergence = fn(&Histogram, &Histogram) -> std::result::Result<f64, nearfar_core::Error>;
    let divergences: [(&str, Divergence); 12] = [
        ("bhattacharyya", divergences::bhattacharyya),
        ("hellinger", divergences::hellinger),
        ("matusita", divergences::matusita),
        ("jeffries_matusita", divergences::jeffries_matusita),
        (
            "jeffries_matusita squared",
            divergences::jeffries_matusita_squared,
        ),
        ("kullback_leibler", divergences::kullback_leibler),
        ("jeffreys", divergences::jeffreys),
        ("jensen_shannon", divergences::jensen_shannon),
        (
            "jensen_shannon_distance",
            divergences::jensen_shannon_distance,
        ),
        ("chi_square", divergences::chi_square),
        ("total_variation", divergences::total_variation),
        ("earth_mover", divergences::earth_mover),
    ];
    let (x, y) = (noise((4, 11), 5)?.abs()?, noise((3, 11), 6)?.abs()?);
    let histograms = |x: &Tensor| -> Result<Vec<Histogram>> {
        let rows = x.to_vec2::<f64>()?;
        Ok(rows
            .iter()
            .map(|row| Histogram::new(row).expect("not negative"))
            .collect())
    };
    let (p, q) = (histograms(&x)?, histograms(&y)?);
    for (name, divergence) in divergences {
        let distance = distances().into_iter().find(|it| it.0 == name);
        let d = distance.expect("of this name").1.matrix(&x, &y)?;
        for (p, d) in p.iter().zip(d.to_vec2::<f64>()?) {
            for (q, d) in q.iter().zip(d) {
                let want = divergence(p, q)?;
                // The smoothing of some is 1e-12.
                assert!((d - want).abs() < 1e-9, "{name}: {d} {want}");
            }
        }
    }
    Ok(())
}

/// The distances of fixture F8, as pytorch-metric-learning 2.9 gives them on rows that it normalizes.
#[test]
fn the_first_rows_of_the_fixture_are_as_far_as_by_the_peer() -> Result<()> {
    let x = Tensor::new(
        &[
            [0.9f64, 0.1, 0.2],
            [0.2, 0.7, -0.3],
            [0.8, 0.5, 0.1],
            [-0.1, 0.9, 0.4],
        ],
        &Device::Cpu,
    )?;
    let wanted: [(&str, [f64; 3]); 5] = [
        (
            "euclidean = { normalize = true }",
            [1.216387486, 0.451753885, 1.351190556],
        ),
        ("euclidean = {}", [1.048808848, 0.424264069, 1.296148140]),
        (
            "minkowski = { normalize = true }",
            [1.216387486, 0.451753885, 1.351190556],
        ),
        (
            "snr = { normalize = true }",
            [3.135061736, 0.436952901, 4.126834357],
        ),
        ("manhattan = { normalize = true }", [1.5, 0.547619048, 1.5]),
    ];
    let first = x.narrow(0, 0, 1)?;
    let others = x.narrow(0, 1, 3)?;
    let near = |got: Vec<Vec<f64>>, want: [f64; 3], name: &str| {
        for (got, want) in got[0].iter().zip(want) {
            assert!((got - want).abs() < 1e-9, "{name}: {got} {want}");
        }
    };
    for (written, want) in wanted {
        let config: DistanceConfig = toml::from_str(written).expect("known");
        near(
            config.build().matrix(&first, &others)?.to_vec2()?,
            want,
            written,
        );
    }
    let cosines = Cosine {}.matrix(&first, &others)?.to_vec2()?;
    near(cosines, [0.260200742, 0.897959214, 0.087142040], "cosine");
    Ok(())
}
