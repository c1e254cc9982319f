//! Images: pooling and convolution.

use candle_core::{Result, Tensor};
use nearfar_kernels as kernels;
use nearfar_kernels::reference;
use nearfar_kernels::test_util::{check_agreement, check_gradient, noise};
use nearfar_kernels::{Conv, Slide, Windows};

use crate::{TOLERANCES, layouts, named};

#[test]
fn pooling_agrees() -> Result<()> {
    type Pool = fn(&Tensor, &Windows) -> Result<Tensor>;
    let operations: [(&str, Pool, Pool); 2] = [
        ("max_pool", kernels::max_pool, reference::max_pool),
        (
            "average_pool",
            kernels::average_pool,
            reference::average_pool,
        ),
    ];
    let slide = |kernel: usize, stride: usize, padding: usize, partial: bool| Slide {
        kernel,
        stride,
        padding,
        partial,
    };
    for (name, ours, theirs) in operations {
        for (image, windows) in [
            (
                &[5, 5][..],
                Windows::sliding(&[5, 5], &[Slide::over(2); 2], true)?,
            ),
            (
                &[9, 8],
                Windows::sliding(&[9, 8], &[slide(3, 2, 1, false); 2], true)?,
            ),
            (
                &[9, 8],
                Windows::sliding(&[9, 8], &[slide(3, 2, 1, true); 2], false)?,
            ),
            (
                &[6, 5],
                Windows::sliding(
                    &[6, 5],
                    &[slide(2, 1, 0, false), slide(3, 2, 1, true)],
                    false,
                )?,
            ),
            (
                &[4, 4],
                Windows::sliding(&[4, 4], &[slide(1, 3, 0, false); 2], true)?,
            ), // Numbers that nobody sees.
            (
                &[3, 5],
                Windows::sliding(&[3, 5], &[Slide::over(3), Slide::over(5)], true)?,
            ),
            (
                &[1],
                Windows::sliding(&[1], &[slide(3, 2, 1, false)], true)?,
            ),
            (
                &[11],
                Windows::sliding(&[11], &[slide(4, 3, 2, true)], true)?,
            ),
            (
                &[3, 4, 5],
                Windows::sliding(&[3, 4, 5], &[slide(2, 1, 1, false); 3], true)?,
            ),
            (&[7, 5], Windows::adaptive(&[7, 5], &[3, 2])?),
            (&[2, 2, 3], Windows::adaptive(&[2, 2, 3], &[1, 3, 2])?),
        ] {
            let shape: Vec<usize> = [3, 2].iter().chain(image).copied().collect();
            for (dtype, tolerance) in TOLERANCES {
                for (layout, x) in layouts(&shape, 50, dtype)? {
                    let agree = check_agreement(
                        |x| ours(&x[0], &windows),
                        |x| theirs(&x[0], &windows),
                        &[x],
                        tolerance,
                    );
                    named(
                        agree,
                        &format!("{name} {windows:?} of {shape:?}, {dtype:?}, {layout}"),
                    );
                }
            }
            let check = check_gradient(|x| ours(&x[0], &windows), &[noise(shape, 51)?], 1e-7);
            named(check, &format!("{name} {windows:?}"));
        }
        let windows = Windows::adaptive(&[2], &[1])?;
        let error = ours(&noise((1, 1, 3), 52)?, &windows).expect_err("another image");
        assert!(
            error.to_string().contains("[1, 1, 3]") && error.to_string().contains("[2]"),
            "{error}"
        );
    }
    Ok(())
}

/// One convolution of a batch, in f32, f64 and against finite differences.
fn convolution_agrees<const N: usize>(
    batch: usize,
    (channels, outputs): (usize, usize),
    (image, kernel): ([usize; N], [usize; N]),
    settings: Conv<N>,
) -> Result<()> {
    let shape = |first: usize, second: usize, rest: [usize; N]| -> Vec<usize> {
        [first, second].into_iter().chain(rest).collect()
    };
    let x_shape = shape(batch, channels, image);
    let weight = (noise(shape(outputs, channels / settings.groups, kernel), 81)? * 0.5)?;
    let bias = noise(outputs, 82)?;
    let what = format!("{settings:?} of {x_shape:?} by {:?}", weight.dims());
    for (dtype, tolerance) in TOLERANCES {
        let (weight, bias) = (weight.to_dtype(dtype)?, bias.to_dtype(dtype)?);
        for (layout, x) in layouts(&x_shape, 80, dtype)? {
            let agree = check_agreement(
                |x| kernels::conv(&x[0], &x[1], Some(&x[2]), &settings),
                |x| reference::conv(&x[0], &x[1], Some(&x[2]), &settings),
                &[x, weight.clone(), bias.clone()],
                10.0 * tolerance, // Sums of some hundred products.
            );
            named(agree, &format!("{what}, {dtype:?}, {layout}"));
        }
    }
    let x = noise(x_shape, 83)?;
    for (version, name) in [
        (
            kernels::conv as fn(&Tensor, &Tensor, Option<&Tensor>, &Conv<N>) -> Result<Tensor>,
            "ours",
        ),
        (reference::conv, "reference"),
    ] {
        let check = check_gradient(
            |x| version(&x[0], &x[1], None, &settings),
            &[x.clone(), weight.clone()],
            1e-6,
        );
        named(check, &format!("{what}, {name}"));
    }
    Ok(())
}

#[test]
fn convolutions_agree() -> Result<()> {
    let plain = Conv::<2>::default();
    convolution_agrees(2, (3, 4), ([7, 6], [3, 3]), plain)?;
    convolution_agrees(
        2,
        (3, 4),
        ([7, 6], [3, 3]),
        Conv {
            stride: [2, 2],
            padding: [1, 1],
            ..plain
        },
    )?;
    convolution_agrees(
        1,
        (2, 3),
        ([8, 9], [3, 5]),
        Conv {
            stride: [2, 1],
            padding: [0, 2],
            ..plain
        },
    )?;
    convolution_agrees(
        2,
        (4, 6),
        ([7, 7], [3, 3]),
        Conv {
            padding: [2, 2],
            dilation: [2, 2],
            groups: 2,
            ..plain
        },
    )?;
    convolution_agrees(2, (5, 3), ([4, 4], [1, 1]), plain)?; // A product without columns.
    convolution_agrees(
        2,
        (5, 3),
        ([5, 4], [1, 1]),
        Conv {
            stride: [2, 2],
            ..plain
        },
    )?; // As in a shortcut.
    convolution_agrees(1, (3, 2), ([4, 5], [4, 5]), plain)?; // As large as the image.
    convolution_agrees(
        1,
        (2, 2),
        ([9, 9], [2, 2]),
        Conv {
            stride: [4, 3],
            ..plain
        },
    )?; // Numbers that nobody sees.
    convolution_agrees(
        1,
        (2, 2),
        ([1, 2], [3, 3]),
        Conv {
            padding: [3, 1],
            dilation: [2, 1],
            ..plain
        },
    )?; // More around than inside.
    convolution_agrees(0, (2, 2), ([3, 3], [2, 2]), plain)?;
    // One channel in each group.
    convolution_agrees(
        2,
        (3, 3),
        ([9, 8], [7, 7]),
        Conv {
            padding: [3, 3],
            groups: 3,
            ..plain
        },
    )?;
    convolution_agrees(
        2,
        (3, 6),
        ([9, 8], [3, 3]),
        Conv {
            stride: [2, 3],
            padding: [1, 1],
            groups: 3,
            ..plain
        },
    )?;
    convolution_agrees(2, (2, 4), ([40, 37], [2, 2]), Conv { groups: 2, ..plain })?; // Rows of whole vectors and a rest.
    let plain = Conv::<1>::default();
    convolution_agrees(2, (4, 3), ([11], [3]), plain)?;
    convolution_agrees(
        2,
        (4, 6),
        ([11], [3]),
        Conv {
            stride: [2],
            padding: [1],
            groups: 2,
            ..plain
        },
    )?;
    convolution_agrees(
        1,
        (4, 4),
        ([12], [3]),
        Conv {
            padding: [2],
            dilation: [2],
            groups: 4,
            ..plain
        },
    )?;
    convolution_agrees(1, (1, 1), ([1], [1]), plain)?;
    let plain = Conv::<3>::default();
    convolution_agrees(
        1,
        (2, 3),
        ([4, 5, 5], [3, 2, 3]),
        Conv {
            padding: [1; 3],
            ..plain
        },
    )?;
    convolution_agrees(
        2,
        (4, 4),
        ([4, 5, 6], [3; 3]),
        Conv {
            stride: [2; 3],
            padding: [1; 3],
            groups: 2,
            ..plain
        },
    )?;
    convolution_agrees(
        1,
        (2, 2),
        ([5, 4, 3], [2; 3]),
        Conv {
            stride: [1, 2, 1],
            dilation: [2, 1, 2],
            groups: 2,
            ..plain
        },
    )
}

#[test]
fn a_convolution_that_does_not_fit_is_refused() -> Result<()> {
    let (x, weight) = (noise((1, 4, 5), 84)?, noise((6, 2, 3), 85)?);
    let message = |weight: &Tensor, settings: Conv<1>| {
        let result = kernels::conv(&x, weight, None, &settings);
        result.expect_err("it does not fit").to_string()
    };
    let plain = Conv::<1>::default();
    assert!(
        message(&weight, plain).contains("[1, 4, 5]")
            && message(&weight, plain).contains("[6, 2, 3]")
    );
    let groups = Conv { groups: 2, ..plain };
    assert!(
        message(
            &weight,
            Conv {
                dilation: [3],
                ..groups
            }
        )
        .contains("a kernel of 3 with dilation 3 does not fit into 5")
    );
    assert!(
        message(
            &weight,
            Conv {
                stride: [0],
                ..groups
            }
        )
        .contains("`stride` is 0")
    );
    assert!(message(&noise((5, 2, 3), 86)?, groups).contains("`groups` is 2"));
    assert!(message(&weight.unsqueeze(2)?, groups).contains("both need 1 dimensions"));
    Ok(())
}
