//! All versions of one operation are one function: the same values and gradients as the readable version, over awkward
//! shapes, strided and offset views, in f32 and f64; and the gradients are those of finite differences.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_kernels as kernels;
use nearfar_kernels::reference;
use nearfar_kernels::test_util::{check_agreement, check_gradient, noise};
use nearfar_kernels::{Conv, Direction, GruWeights, Heads, Windows};

mod images;
mod matrices;

type Unary = fn(&Tensor) -> Result<Tensor>;
type Binary = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// f32 sums differ in their last digits when they are added in another order.
const TOLERANCES: [(DType, f64); 2] = [(DType::F32, 2e-6), (DType::F64, 1e-14)];

/// A tensor of noise as it comes, as a transposed view, and as a view that starts in the middle.
fn layouts(shape: &[usize], seed: u64, dtype: DType) -> Result<Vec<(&'static str, Tensor)>> {
    let plain = noise(shape, seed)?.to_dtype(dtype)?;
    let mut all = vec![("contiguous", plain.clone())];
    if shape.len() >= 2 {
        let last = shape.len() - 1;
        let turned = plain
            .transpose(last - 1, last)?
            .contiguous()?
            .transpose(last - 1, last)?;
        all.push(("transposed", turned));
    }
    let longer: Vec<usize> = std::iter::once(shape[0] + 2)
        .chain(shape[1..].iter().copied())
        .collect();
    all.push((
        "offset",
        noise(longer, seed + 1)?
            .to_dtype(dtype)?
            .narrow(0, 1, shape[0])?,
    ));
    Ok(all)
}

fn named<T>(result: Result<T>, name: &str) -> T {
    result.unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn pointwise_operations_agree() -> Result<()> {
    let operations: [(&str, Unary, Unary); 12] = [
        ("hinge", kernels::hinge, reference::hinge),
        ("absolute", kernels::absolute, reference::absolute),
        (
            "safe_sqrt",
            |x| kernels::safe_sqrt(&x.sqr()?),
            |x| reference::safe_sqrt(&x.sqr()?),
        ),
        ("sigmoid", kernels::sigmoid, reference::sigmoid),
        ("softplus", kernels::softplus, reference::softplus),
        ("gelu", kernels::gelu, reference::gelu),
        ("gelu_tanh", kernels::gelu_tanh, reference::gelu_tanh),
        ("silu", kernels::silu, reference::silu),
        ("elu", |x| kernels::elu(x, 0.7), |x| reference::elu(x, 0.7)),
        (
            "leaky_relu",
            |x| kernels::leaky_relu(x, 0.2),
            |x| reference::leaky_relu(x, 0.2),
        ),
        ("hard_swish", kernels::hard_swish, reference::hard_swish),
        ("mish", kernels::mish, reference::mish),
    ];
    for (name, ours, theirs) in operations {
        for shape in [&[0][..], &[1], &[7], &[3, 5], &[2, 3, 4], &[70_000]] {
            for (dtype, tolerance) in TOLERANCES {
                for (layout, x) in layouts(shape, 1, dtype)? {
                    let agree =
                        check_agreement(|x| ours(&x[0]), |x| theirs(&x[0]), &[x], tolerance);
                    named(agree, &format!("{name} of {shape:?}, {dtype:?}, {layout}"));
                }
            }
        }
        let x = (noise((4, 5), 2)? * 3.0)?;
        named(check_gradient(|x| ours(&x[0]), &[x], 1e-7), name);
    }
    Ok(())
}

#[test]
fn row_operations_agree() -> Result<()> {
    let operations: [(&str, Unary, Unary); 6] = [
        (
            "standardize",
            |x| kernels::standardize(x, 1e-3),
            |x| reference::standardize(x, 1e-3),
        ),
        (
            "rms_normalize",
            |x| kernels::rms_normalize(x, 1e-3),
            |x| reference::rms_normalize(x, 1e-3),
        ),
        (
            "l2_normalize",
            kernels::l2_normalize,
            reference::l2_normalize,
        ),
        ("softmax", kernels::softmax, reference::softmax),
        ("log_softmax", kernels::log_softmax, reference::log_softmax),
        ("log_sum_exp", kernels::log_sum_exp, reference::log_sum_exp),
    ];
    for (name, ours, theirs) in operations {
        for shape in [
            &[0, 3][..],
            &[1],
            &[5],
            &[1, 1],
            &[3, 17],
            &[2, 3, 4],
            &[300, 33],
        ] {
            for (dtype, tolerance) in TOLERANCES {
                for (layout, x) in layouts(shape, 3, dtype)? {
                    let agree =
                        check_agreement(|x| ours(&x[0]), |x| theirs(&x[0]), &[x], tolerance);
                    named(agree, &format!("{name} of {shape:?}, {dtype:?}, {layout}"));
                }
            }
        }
        named(
            check_gradient(|x| ours(&x[0]), &[(noise((4, 6), 4)? * 3.0)?], 1e-7),
            name,
        );
    }
    Ok(())
}

#[test]
fn masked_operations_agree() -> Result<()> {
    let operations: [(&str, Binary, Binary); 2] = [
        (
            "masked_log_sum_exp",
            kernels::masked_log_sum_exp,
            reference::masked_log_sum_exp,
        ),
        (
            "masked_softmax",
            kernels::masked_softmax,
            reference::masked_softmax,
        ),
    ];
    for (name, ours, theirs) in operations {
        for shape in [&[0, 3][..], &[1, 1], &[3, 17], &[5, 2], &[130, 70]] {
            // About half of the entries, and no entry of the first row.
            let mask = noise(shape, 5)?.gt(0f64)?;
            let rows = Tensor::arange(0u32, shape[0] as u32, &Device::Cpu)?
                .gt(0u32)?
                .unsqueeze(1)?;
            let mask = mask.broadcast_mul(&rows)?;
            for (dtype, tolerance) in TOLERANCES {
                for (layout, x) in layouts(shape, 6, dtype)? {
                    let agree = check_agreement(
                        |x| ours(&x[0], &mask),
                        |x| theirs(&x[0], &mask),
                        &[x],
                        tolerance,
                    );
                    named(agree, &format!("{name} of {shape:?}, {dtype:?}, {layout}"));
                }
            }
        }
        let mask = noise((4, 6), 7)?.gt(0f64)?.to_dtype(DType::F64)?;
        named(
            check_gradient(|x| ours(&x[0], &mask), &[(noise((4, 6), 8)? * 3.0)?], 1e-7),
            name,
        );
    }
    Ok(())
}

#[test]
fn distances_agree() -> Result<()> {
    let operations: [(&str, Binary, Binary); 3] = [
        (
            "squared_euclidean",
            kernels::squared_euclidean,
            reference::squared_euclidean,
        ),
        ("euclidean", kernels::euclidean, reference::euclidean),
        ("manhattan", kernels::manhattan, reference::manhattan),
    ];
    // Tiles are 4 rows, panels 64, blocks 256: one less, equal, one more.
    let shapes = [
        (0, 3, 2),
        (2, 0, 2),
        (1, 1, 1),
        (3, 4, 5),
        (4, 64, 64),
        (5, 65, 63),
        (66, 63, 65),
        (7, 3, 257),
        (9, 129, 700),
    ];
    for (name, ours, theirs) in operations {
        for (n, m, d) in shapes {
            for (dtype, tolerance) in TOLERANCES {
                for ((layout, x), (_, y)) in
                    layouts(&[n, d], 10, dtype)?
                        .into_iter()
                        .zip(layouts(&[m, d], 20, dtype)?)
                {
                    let agree = check_agreement(
                        |x| ours(&x[0], &x[1]),
                        |x| theirs(&x[0], &x[1]),
                        &[x, y],
                        tolerance,
                    );
                    named(
                        agree,
                        &format!("{name} of {n} and {m} rows of {d}, {dtype:?}, {layout}"),
                    );
                }
            }
        }
        named(
            check_gradient(
                |x| ours(&x[0], &x[1]),
                &[noise((5, 3), 30)?, noise((7, 3), 31)?],
                1e-7,
            ),
            name,
        );
    }
    Ok(())
}

#[test]
fn distances_of_rows_to_themselves_are_exact() -> Result<()> {
    for (name, ours) in [
        ("squared_euclidean", kernels::squared_euclidean as Binary),
        ("euclidean", kernels::euclidean),
        ("manhattan", kernels::manhattan),
    ] {
        let x = noise((150, 37), 40)?.to_dtype(DType::F32)?;
        let distances = ours(&x, &x)?.to_vec2::<f32>()?;
        for (i, row) in distances.iter().enumerate() {
            assert_eq!(row[i], 0.0, "{name}");
            for (j, distance) in row.iter().enumerate() {
                assert_eq!(
                    *distance, distances[j][i],
                    "{name}: symmetric to the last bit"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn recurrent_layers_agree() -> Result<()> {
    // One more than a task's rows, a gate that is not whole vectors, one that is, one of more than a panel.
    let shapes = [
        (1, 1, 1, 1),
        (3, 5, 4, 3),
        (33, 7, 10, 16),
        (2, 3, 70, 65),
        (40, 2, 3, 50),
        (0, 2, 3, 4),
        (2, 0, 3, 4),
    ];
    for (batch, steps, features, hidden) in shapes {
        // Every length from 0 to one more than there are steps.
        let lengths: Vec<u32> = (0..batch as u32)
            .map(|row| (row + 1) % (steps as u32 + 2))
            .collect();
        let parameters =
            (noise(4 * hidden * (features + hidden + 1), 70)? * 0.3)?.to_dtype(DType::F32)?;
        for direction in [kernels::Direction::Forward, kernels::Direction::Backward] {
            for (layout, x) in layouts(&[batch, steps, features], 71, DType::F32)? {
                let last = check_agreement(
                    |x| kernels::lstm_last(&x[0], &lengths, &x[1], hidden, direction),
                    |x| reference::lstm_last(&x[0], &lengths, &x[1], hidden, direction),
                    &[x.clone(), parameters.clone()],
                    2e-6,
                );
                named(
                    last,
                    &format!("the last of {batch} rows of {steps} steps, {direction:?}, {layout}"),
                );
                let agree = check_agreement(
                    |x| kernels::lstm(&x[0], &lengths, &x[1], hidden, direction),
                    |x| reference::lstm(&x[0], &lengths, &x[1], hidden, direction),
                    &[x, parameters.clone()],
                    2e-6,
                );
                named(
                    agree,
                    &format!(
                        "{batch} rows of {steps} steps, {features} to {hidden}, {direction:?}, {layout}"
                    ),
                );
            }
        }
    }
    // In f64 it is the reference whose gradient is checked; the kernel's has been compared with it above.
    for direction in [kernels::Direction::Forward, kernels::Direction::Backward] {
        let inputs = [noise((3, 4, 2), 72)?, noise(4 * 3 * 6, 73)?];
        check_gradient(
            |x| kernels::lstm(&x[0], &[4, 2, 0], &x[1], 3, direction),
            &inputs,
            1e-7,
        )?;
        check_gradient(
            |x| kernels::lstm_last(&x[0], &[4, 2, 0], &x[1], 3, direction),
            &inputs,
            1e-7,
        )?;
    }
    Ok(())
}

#[test]
fn what_lies_beyond_a_row_is_not_read() -> Result<()> {
    let parameters = noise(4 * 3 * 6, 74)?.to_dtype(DType::F32)?;
    let mut values = noise((1, 3, 2), 75)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    values[4..].fill(f32::NAN);
    let x = Tensor::from_vec(values, (1, 3, 2), &Device::Cpu)?;
    for version in [kernels::lstm, reference::lstm] {
        for direction in [kernels::Direction::Forward, kernels::Direction::Backward] {
            let states = version(&x, &[2], &parameters, 3, direction)?.to_vec3::<f32>()?;
            let last = if direction == kernels::Direction::Forward {
                states[0][1].clone()
            } else {
                vec![0.0; 3]
            };
            assert_eq!(states[0][2], last);
            assert!(states[0].iter().flatten().all(|x| x.is_finite()));
        }
    }
    Ok(())
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() -> Result<()> {
    let x = noise((333, 70), 60)?.to_dtype(DType::F32)?;
    let on = |threads: usize| -> Result<Vec<Vec<u32>>> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool of threads");
        pool.install(|| {
            let x = candle_core::Var::from_tensor(&x)?;
            let distances = kernels::euclidean(&kernels::l2_normalize(&x)?, &x)?;
            let y = kernels::softplus(&kernels::log_softmax(&distances)?)?;
            let images = y.reshape((37, 9, 37, 9))?;
            let padded = Conv {
                padding: [1, 1],
                ..Conv::<2>::default()
            };
            let weight = noise((32, 9, 3, 3), 61)?.to_dtype(DType::F32)?;
            let images = kernels::conv(&images, &weight, None, &padded)?;
            let weight = noise((32, 1, 3, 3), 62)?.to_dtype(DType::F32)?;
            let depthwise = Conv {
                groups: 32,
                ..padded
            };
            let images = kernels::conv(&images, &weight, None, &depthwise)?;
            let windows = Windows::adaptive(&[37, 9], &[5, 5])?;
            let y = kernels::standardize(&kernels::average_pool(&images, &windows)?, 1e-5)?;
            let y = kernels::gelu(&y)?;
            // Large enough to be divided.
            let part = |shape: &[usize], seed| noise(shape, seed)?.to_dtype(DType::F32);
            let rows = kernels::linear(&x, &part(&[384, 70], 63)?, None)?; // (333, 384)
            let (scale, shift) = (part(&[384], 64)?, part(&[384], 65)?);
            let rows = kernels::layer_norm(&rows, &scale, Some(&shift), 1e-5)?;
            let words = kernels::gelu(&rows)?.reshape((9, 37, 384))?;
            let heads = Heads {
                count: 6,
                keep: None,
                factors: None,
            };
            let words = kernels::attention(&words, &words, &words, heads)?;
            let weights = GruWeights {
                input: part(&[192, 384], 66)?,
                hidden: part(&[192, 64], 67)?,
                input_bias: part(&[192], 68)?,
                hidden_bias: part(&[192], 69)?,
            };
            let words = Tensor::cat(&[&words; 8], 0)?; // 72 rows: several blocks
            let states = kernels::gru(&words, &[37; 72], &weights, None, Direction::Backward)?;
            let y = (y.sum_all()? + states.sqr()?.sum_all()?)?;
            let gradients = y.sum_all()?.backward()?;
            let gradient = gradients.get(&x).expect("it depends on its rows");
            let bits = |x: &Tensor| -> Result<Vec<u32>> {
                Ok(x.flatten_all()?
                    .to_vec1::<f32>()?
                    .into_iter()
                    .map(f32::to_bits)
                    .collect())
            };
            Ok(vec![bits(&y)?, bits(gradient)?])
        })
    };
    let one = on(1)?;
    assert_eq!(one, on(2)?);
    assert_eq!(one, on(5)?);
    Ok(())
}
