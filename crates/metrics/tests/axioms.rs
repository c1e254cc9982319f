//! Every axiom that a distance claims is tested; every axiom that it does not claim has a witness. So the claims are
//! exact, not merely safe.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Axioms, Distance};
use nearfar_kernels::test_util::{check_agreement, check_gradient, noise};
use nearfar_metrics::{
    DistanceConfig, Euclidean, Length, Mahalanobis, Manhattan, Normalized, SimilarityConfig,
    SquaredEuclidean,
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
    ]);
    distances
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
        (name, "separates") if name.starts_with("normalized") => RAY,
        _ => return None,
    })
}

const TOLERANCE: f64 = 1e-9; // Of f64, for points within 10 of the origin.

/// Whether each axiom holds for the three points, in the order of [`claims`].
fn holds(distance: &dyn Distance, points: &Witness) -> Result<[(&'static str, bool); 5]> {
    let x = Tensor::new(points, &Device::Cpu)?;
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
            let held = holds(distance.as_ref(), &points).expect("a matrix");
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
            let matrix = distance.matrix(&x, &y).and_then(|it| it.to_vec2::<f64>()).expect("a matrix");
            let paired = distance.paired(&x, &y).and_then(|it| it.to_vec1::<f64>()).expect("pairs");
            for k in 0..3 {
                prop_assert!((matrix[k][k] - paired[k]).abs() < TOLERANCE, "{name}");
            }
        }
        for config in SimilarityConfig::all() {
            let similarity = config.build();
            let matrix = similarity.matrix(&x, &y).and_then(|it| it.to_vec2::<f64>()).expect("a matrix");
            let paired = similarity.paired(&x, &y).and_then(|it| it.to_vec1::<f64>()).expect("pairs");
            for k in 0..3 {
                prop_assert!((matrix[k][k] - paired[k]).abs() < TOLERANCE, "{config:?}");
            }
        }
    }
}

#[test]
fn each_axiom_that_is_not_claimed_has_a_witness() -> Result<()> {
    for (name, distance) in distances() {
        let axioms = claims(distance.axioms());
        for (k, (axiom, _)) in holds(distance.as_ref(), &LINE)?.into_iter().enumerate() {
            match (axioms[k], witness(name, axiom)) {
                (true, None) => {}
                (true, Some(_)) => panic!("{name} claims `{axiom}` and has a witness against it"),
                (false, None) => {
                    panic!("{name} does not claim `{axiom}`, and nothing speaks against it")
                }
                (false, Some(points)) => {
                    let held = holds(distance.as_ref(), &points)?[k].1;
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
    for config in SimilarityConfig::all() {
        let (matrix, paired) = (config.build(), config.build());
        functions.push((
            format!("matrix of {config:?}"),
            Box::new(move |x| matrix.matrix(&x[0], &x[1])),
        ));
        functions.push((
            format!("pairs of {config:?}"),
            Box::new(move |x| paired.paired(&x[0], &x[1])),
        ));
    }
    functions
}

#[test]
fn gradients_are_those_of_the_formula() -> Result<()> {
    let inputs = [noise((5, DIM), 1)?, noise((5, DIM), 2)?];
    for (name, function) in functions() {
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
        let x = candle_core::Var::from_tensor(&x.to_dtype(dtype)?)?;
        for (name, function) in functions() {
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
        let copied = |x: &[Tensor]| function(&[x[0].contiguous()?, x[1].contiguous()?]);
        check_agreement(&function, copied, &inputs, 1e-14).map_err(|error| error.context(name))?;
    }
    Ok(())
}

#[test]
fn rows_of_two_widths_are_refused_with_both() -> Result<()> {
    let (x, y) = (noise((2, 3), 0)?, noise((2, 4), 0)?);
    for (name, function) in functions() {
        let message = function(&[x.clone(), y.clone()])
            .expect_err("3 and 4")
            .to_string();
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
        assert_eq!(
            function(&[none.clone(), some.clone()])?.dims(),
            [0, 2],
            "{name}"
        );
    }
    Ok(())
}
