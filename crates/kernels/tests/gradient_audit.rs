//! Every operation that our crates differentiate through, against central differences in f64: candle's own, and those of
//! this crate.
//!
//! Where candle is wrong, the test says in which way. When it fails there, candle has changed: see whether what we do
//! instead is still needed.

use candle_core::{D, DType, Device, IndexOp, Result, Tensor, Var};
use nearfar_kernels as kernels;
use nearfar_kernels::test_util::{check_gradient, noise};
use nearfar_kernels::{Conv, GruWeights, Pairing, Slide, Windows};

type Operation = fn(&Tensor) -> Result<Tensor>;

/// Numbers in (0.2, 2), for functions of positive numbers.
fn positive(shape: &[usize], seed: u64) -> Result<Tensor> {
    noise(shape, seed)?.affine(0.9, 1.1)
}

fn other(shape: &[usize]) -> Result<Tensor> {
    noise(shape, 77)
}

fn indices(values: &[u32]) -> Result<Tensor> {
    Tensor::new(values, &Device::Cpu)
}

fn audit(operations: &[(&str, Operation)], input: &Tensor) {
    for (name, operation) in operations {
        // Rounded constants in candle's derivatives of gelu cost a few millionths.
        if let Err(error) = check_gradient(|x| operation(&x[0]), std::slice::from_ref(input), 1e-5)
        {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn candle_is_right_for_pointwise_operations() -> Result<()> {
    audit(
        &[
            ("neg", |x| x.neg()),
            ("affine", |x| x.affine(2.0, 1.0)),
            ("exp", |x| x.exp()),
            ("sqr", |x| x.sqr()),
            ("abs away from 0", |x| x.abs()),
            ("tanh", |x| x.tanh()),
            ("erf", |x| x.erf()),
            ("relu away from 0", |x| x.relu()),
            ("gelu", |x| x.gelu()),
            ("gelu_erf", |x| x.gelu_erf()),
            ("silu", |x| x.silu()),
            ("sin", |x| x.sin()),
            ("cos", |x| x.cos()),
            ("elu", |x| x.elu(1.0)),
            ("clamp", |x| x.clamp(-0.5, 0.5)),
            ("add", |x| x + other(&[6, 7])?),
            ("sub", |x| other(&[6, 7])? - x),
            ("mul", |x| x * other(&[6, 7])?),
            ("div", |x| other(&[6, 7])? / (x.sqr()? + 0.3)?),
            ("maximum", |x| x.maximum(&other(&[6, 7])?)),
            ("minimum", |x| x.minimum(&other(&[6, 7])?)),
            ("where_cond", |x| {
                other(&[6, 7])?.gt(0.0)?.where_cond(x, &(x * 2.0)?)
            }),
        ],
        &noise((6, 7), 1)?,
    );
    audit(
        &[
            ("log", |x| x.log()),
            ("sqrt", |x| x.sqrt()),
            ("recip", |x| x.recip()),
            ("powf", |x| x.powf(2.5)),
            ("pow", |x| x.pow(&x.affine(0.5, 1.0)?)),
        ],
        &positive(&[6, 7], 2)?,
    );
    Ok(())
}

#[test]
fn candle_is_right_for_reductions_and_products() -> Result<()> {
    audit(
        &[
            ("sum", |x| x.sum(1)),
            ("sum_keepdim", |x| x.sum_keepdim(0)),
            ("sum_all", |x| x.sum_all()),
            ("mean", |x| x.mean(1)),
            ("mean_all", |x| x.mean_all()),
            ("max without ties", |x| x.max(1)),
            ("min without ties", |x| x.min_keepdim(0)),
            ("var", |x| x.var_keepdim(1)),
            ("cumsum", |x| x.cumsum(1)),
            ("log_sum_exp", |x| x.log_sum_exp(1)),
            ("matmul, left", |x| x.matmul(&other(&[7, 5])?)),
            ("matmul, right", |x| other(&[5, 6])?.matmul(x)),
            ("matmul with itself", |x| x.matmul(&x.t()?)),
            ("broadcast_matmul", |x| {
                x.reshape((2, 3, 7))?.broadcast_matmul(&other(&[7, 5])?)
            }),
            ("broadcast_add", |x| x.broadcast_add(&other(&[7])?)),
            ("broadcast_sub", |x| other(&[2, 6, 7])?.broadcast_sub(x)),
            ("broadcast_mul", |x| x.broadcast_mul(&x.narrow(0, 1, 1)?)),
            ("broadcast_div", |x| {
                x.broadcast_div(&(x.narrow(1, 0, 1)?.sqr()? + 0.3)?)
            }),
            ("norm of rows", |x| {
                x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
            }),
        ],
        &noise((6, 7), 3)?,
    );
    Ok(())
}

#[test]
fn candle_is_right_for_movements() -> Result<()> {
    audit(
        &[
            ("transpose and narrow", |x| x.t()?.narrow(0, 1, 4)),
            ("reshape", |x| x.reshape((3, 14))),
            ("permute", |x| {
                x.reshape((3, 2, 7))?.permute((2, 0, 1))?.contiguous()
            }),
            ("expand", |x| x.unsqueeze(0)?.expand((3, 6, 7))),
            ("squeeze", |x| x.narrow(0, 2, 1)?.squeeze(0)),
            ("index", |x| x.i(2)),
            ("chunk", |x| Ok(x.chunk(2, 0)?[1].clone())),
            ("cat", |x| Tensor::cat(&[x, &other(&[2, 7])?, x], 0)),
            ("stack", |x| Tensor::stack(&[x, x], 1)),
            ("pad_with_zeros", |x| x.pad_with_zeros(1, 1, 2)),
            ("repeat", |x| x.repeat((2, 3))),
            ("index_select, rows", |x| {
                x.index_select(&indices(&[1, 1, 4, 0])?, 0)
            }),
            ("index_select, columns", |x| {
                x.index_select(&indices(&[1, 1, 4, 0])?, 1)
            }),
            ("embedding", |x| x.embedding(&indices(&[0, 3, 3])?)),
            ("gather", |x| {
                x.gather(
                    &indices(&[0, 3, 1, 1, 2, 6, 0, 0, 5, 4, 1, 2])?.reshape((6, 2))?,
                    1,
                )
            }),
            ("index_add", |x| {
                other(&[9, 7])?.index_add(&indices(&[0, 1, 1, 3, 8, 5])?, x, 0)
            }),
            ("to f32 and back", |x| (x * 2.0)?.to_dtype(DType::F64)),
        ],
        &noise((6, 7), 4)?,
    );
    Ok(())
}

#[test]
fn candle_is_right_for_convolutions_of_images() -> Result<()> {
    let images = noise((2, 4, 8, 8), 5)?;
    audit(
        &[
            ("conv2d", |x| x.conv2d(&other(&[3, 4, 3, 3])?, 1, 1, 1, 1)),
            ("conv2d with stride", |x| {
                x.conv2d(&other(&[3, 4, 3, 3])?, 1, 2, 1, 1)
            }),
            ("conv2d in groups", |x| {
                x.conv2d(&other(&[4, 1, 3, 3])?, 1, 1, 1, 4)
            }),
            ("avg_pool2d", |x| x.avg_pool2d(2)),
            ("upsample_nearest2d", |x| x.upsample_nearest2d(16, 16)),
        ],
        &images,
    );
    audit(
        &[
            ("conv2d, kernel", |k| {
                noise((2, 4, 8, 8), 6)?.conv2d(k, 1, 1, 1, 1)
            }),
            ("conv2d with stride, kernel", |k| {
                noise((2, 4, 8, 8), 6)?.conv2d(k, 1, 2, 1, 1)
            }),
        ],
        &other(&[3, 4, 3, 3])?,
    );
    Ok(())
}

/// The gradient of the sum of `f` at `x`.
fn gradient(f: Operation, x: &[f64]) -> Result<Vec<f64>> {
    let x = Var::new(x, &Device::Cpu)?;
    let gradients = f(&x)?.sum_all()?.backward()?;
    gradients.get(&x).expect("there is a gradient").to_vec1()
}

#[test]
fn candle_differs_from_torch_at_kinks_and_ties() -> Result<()> {
    assert_eq!(gradient(|x| x.relu(), &[0.0])?, [1.0], "`hinge` gives 0");
    assert_eq!(gradient(|x| x.abs(), &[0.0])?, [1.0], "`absolute` gives 0");
    assert_eq!(
        gradient(|x| x.sqrt(), &[0.0])?,
        [f64::INFINITY],
        "`safe_sqrt` gives 0"
    );
    assert_eq!(
        gradient(|x| x.max(0), &[3.0, 3.0])?,
        [1.0, 1.0],
        "torch gives it to the first"
    );
    assert_eq!(kernels_at_kinks()?, [0.0, 0.0, 0.0]);
    Ok(())
}

fn kernels_at_kinks() -> Result<[f64; 3]> {
    let at_zero = |f: Operation| Ok::<f64, candle_core::Error>(gradient(f, &[0.0])?[0]);
    Ok([
        at_zero(kernels::hinge)?,
        at_zero(kernels::absolute)?,
        at_zero(kernels::safe_sqrt)?,
    ])
}

#[test]
fn candle_is_wrong_for_max_pooling() -> Result<()> {
    let pool: Operation = |x| x.reshape((1, 1, 2, 2))?.max_pool2d(2);
    assert_eq!(
        gradient(pool, &[1.0, 2.0, 3.0, 4.0])?,
        [0.0, 0.0, 0.0, 0.25],
        "it should be 1"
    );
    let ours: Operation = |x| {
        let windows = Windows::sliding(&[2, 2], &[Slide::over(2); 2], false)?;
        kernels::max_pool(&x.reshape((1, 1, 2, 2))?, &windows)
    };
    assert_eq!(gradient(ours, &[1.0, 2.0, 3.0, 4.0])?, [0.0, 0.0, 0.0, 1.0]);
    let x = noise((1, 1, 9, 9), 7)?;
    let overlapping = check_gradient(
        |x| x[0].max_pool2d_with_stride(3, 2),
        std::slice::from_ref(&x),
        1e-5,
    );
    assert!(
        overlapping.is_err(),
        "kernel and stride that differ have no gradient"
    );
    let overlapping = check_gradient(|x| x[0].avg_pool2d_with_stride(3, 2), &[x], 1e-5);
    assert!(overlapping.is_err(), "nor has the average");
    Ok(())
}

#[test]
fn candle_is_wrong_for_convolutions_of_sequences() -> Result<()> {
    let (x, kernel) = (noise((2, 4, 11), 8)?, noise((3, 4, 3), 9)?);
    let wrong = check_gradient(|x| x[0].conv1d(&x[1], 0, 1, 1, 1), &[x, kernel], 1e-5);
    assert!(wrong.is_err(), "a batch of two and three channels out");
    Ok(())
}

#[test]
fn candle_is_missing_gradients_of_resampling() -> Result<()> {
    let x = noise((1, 2, 4, 4), 10)?;
    let uneven = check_gradient(
        |x| x[0].upsample_nearest2d(7, 7),
        std::slice::from_ref(&x),
        1e-5,
    );
    assert!(uneven.is_err());
    let smooth = check_gradient(|x| x[0].upsample_bilinear2d(8, 8, false), &[x], 1e-5);
    assert!(smooth.is_err());
    Ok(())
}

#[test]
fn candle_is_missing_the_gradient_of_scatter_add_into_another_shape() -> Result<()> {
    let scattered = |x: &[Tensor]| {
        let places = indices(&[0, 1, 2, 3, 4, 5, 8])?.broadcast_as((6, 7))?;
        other(&[6, 9])?.scatter_add(&places.contiguous()?, &x[0], 1)
    };
    assert!(check_gradient(scattered, &[noise((6, 7), 12)?], 1e-5).is_err());
    Ok(())
}

/// Windows that overlap, the last one in part behind the image.
fn overlapping() -> Slide {
    Slide {
        kernel: 3,
        stride: 2,
        padding: 1,
        partial: true,
    }
}

#[test]
fn candle_is_wrong_for_convolutions_whose_sides_leave_different_rests() -> Result<()> {
    // With a stride of 2, a side of 6 leaves a rest behind the last place and one of 7 does not.
    let (x, kernel) = (noise((1, 2, 7, 6), 13)?, noise((3, 2, 3, 3), 14)?);
    let wrong = check_gradient(|x| x[0].conv2d(&x[1], 0, 2, 1, 1), &[x, kernel], 1e-5);
    assert!(wrong.is_err());
    Ok(())
}

#[test]
fn this_crate_is_right() -> Result<()> {
    audit(
        &[
            ("hinge", kernels::hinge),
            ("absolute", kernels::absolute),
            ("sigmoid", kernels::sigmoid),
            ("softplus", kernels::softplus),
            ("log_sigmoid", kernels::log_sigmoid),
            ("gelu", kernels::gelu),
            ("gelu_tanh", kernels::gelu_tanh),
            ("silu", kernels::silu),
            ("elu", |x| kernels::elu(x, 0.7)),
            ("leaky_relu", |x| kernels::leaky_relu(x, 0.2)),
            ("hard_swish", |x| kernels::hard_swish(&(x * 4.0)?)),
            ("mish", kernels::mish),
            ("safe_sqrt", |x| kernels::safe_sqrt(&(x.sqr()? + 0.1)?)),
            ("l2_normalize", kernels::l2_normalize),
            ("softmax", kernels::softmax),
            ("log_softmax", kernels::log_softmax),
            ("log_sum_exp", kernels::log_sum_exp),
            ("masked_softmax", |x| {
                kernels::masked_softmax(x, &other(&[6, 7])?.gt(0.0)?)
            }),
            ("masked_log_sum_exp", |x| {
                kernels::masked_log_sum_exp(x, &other(&[6, 7])?.gt(0.0)?)
            }),
            ("squared_euclidean", |x| {
                kernels::squared_euclidean(x, &other(&[5, 7])?)
            }),
            ("squared_euclidean, right", |x| {
                kernels::squared_euclidean(&other(&[5, 7])?, x)
            }),
            ("squared_euclidean of itself", |x| {
                kernels::squared_euclidean(x, x)
            }),
            ("euclidean", |x| kernels::euclidean(x, &other(&[5, 7])?)),
            ("euclidean of itself", |x| kernels::euclidean(x, x)),
            ("manhattan", |x| kernels::manhattan(x, &other(&[5, 7])?)),
            ("l1_normalize", kernels::l1_normalize),
            ("standardize", |x| kernels::standardize(x, 1e-5)),
            ("rms_normalize", |x| kernels::rms_normalize(x, 1e-5)),
            ("rotary, halves", |x| {
                kernels::rotary(&x.t()?, &other(&[7, 3])?, Pairing::Halves)
            }),
            ("rotary, neighbors", |x| {
                kernels::rotary(&x.t()?, &other(&[7, 3])?, Pairing::Neighbors)
            }),
            ("max_pool", |x| {
                let windows = Windows::sliding(&[6, 7], &[overlapping(); 2], false)?;
                kernels::max_pool(&x.reshape((1, 1, 6, 7))?, &windows)
            }),
            ("average_pool", |x| {
                let windows = Windows::sliding(&[6, 7], &[overlapping(); 2], false)?;
                kernels::average_pool(&x.reshape((1, 1, 6, 7))?, &windows)
            }),
            ("conv of sequences", |x| {
                kernels::conv(
                    &x.reshape((2, 3, 7))?,
                    &other(&[4, 3, 3])?,
                    None,
                    &Conv::<1>::default(),
                )
            }),
            ("conv of images", |x| {
                let settings = Conv {
                    stride: [2, 1],
                    padding: [1, 0],
                    ..Conv::default()
                };
                kernels::conv(
                    &x.reshape((1, 2, 3, 7))?,
                    &other(&[4, 2, 3, 3])?,
                    None,
                    &settings,
                )
            }),
            ("conv of volumes", |x| {
                kernels::conv(
                    &x.reshape((1, 1, 2, 3, 7))?,
                    &other(&[4, 1, 2, 2, 2])?,
                    None,
                    &Conv::<3>::default(),
                )
            }),
            ("gru", |x| {
                let weights = GruWeights {
                    input: (other(&[9, 7])? * 0.5)?,
                    hidden: (other(&[9, 3])? * 0.5)?,
                    input_bias: other(&[9])?,
                    hidden_bias: other(&[9])?,
                };
                let x = x.reshape((2, 3, 7))?;
                kernels::gru(&x, &[3, 2], &weights, None, kernels::Direction::Backward)
            }),
            ("lstm_from", |x| {
                let parameters = (other(&[4 * 3 * (7 + 3 + 1)])? * 0.5)?;
                let first = x.reshape((14, 3))?.narrow(0, 3, 2)?;
                let x = x.reshape((2, 3, 7))?;
                let walk = kernels::lstm_from(
                    &x,
                    &[3, 2],
                    &parameters,
                    3,
                    kernels::Direction::Backward,
                    Some((&first, &first)),
                )?;
                Tensor::cat(&[walk.states.reshape((6, 3))?, walk.cell], 0)
            }),
            ("lstm", |x| {
                let parameters = (other(&[4 * 3 * (7 + 3 + 1)])? * 0.5)?;
                kernels::lstm(
                    &x.reshape((2, 3, 7))?,
                    &[3, 2],
                    &parameters,
                    3,
                    kernels::Direction::Forward,
                )
            }),
        ],
        &noise((6, 7), 11)?,
    );
    Ok(())
}
