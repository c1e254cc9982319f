//! Operations on whole matrices: linear maps, rows by pairs, covariances; and that their bits depend on nothing but their rows.

use candle_core::{D, DType, Result, Tensor, Var};
use nearfar_kernels as kernels;
use nearfar_kernels::reference;
use nearfar_kernels::test_util::{check_agreement, noise};
use nearfar_kernels::{Direction, Slide, Windows};

use crate::{TOLERANCES, layouts, named};

#[test]
fn linear_maps_agree() -> Result<()> {
    // No rows, few of them (weights as they lie), more (packed); columns that are whole vectors and that are not; blocks of the
    // inner dimension.
    for (rows, inputs, outputs) in [
        (0, 3, 2),
        (1, 1, 1),
        (5, 17, 33),
        (96, 64, 48),
        (97, 30, 65),
        (130, 520, 16),
        (50, 1030, 70),
    ] {
        let of = |shape: &[usize], seed| noise(shape, seed)?.to_dtype(DType::F32);
        let weights = layouts(&[outputs, inputs], 52, DType::F32)?;
        for ((layout, x), (_, weight)) in layouts(&[rows, inputs], 50, DType::F32)?
            .into_iter()
            .zip(weights)
        {
            let what = format!("{rows} rows, {inputs} to {outputs}, {layout}");
            let agree = check_agreement(
                |x| kernels::linear(&x[0], &x[1], Some(&x[2])),
                |x| reference::linear(&x[0], &x[1], Some(&x[2])),
                &[x.clone(), weight.clone(), of(&[outputs], 54)?],
                1e-5,
            );
            named(agree, &what);
            let agree = check_agreement(
                |x| kernels::linear(&x[0], &x[1], None),
                |x| reference::linear(&x[0], &x[1], None),
                &[x, weight],
                1e-5,
            );
            named(agree, &what);
        }
    }
    Ok(())
}

#[test]
fn pairs_of_rows_agree() -> Result<()> {
    for shape in [&[0, 3][..], &[1, 1], &[7, 0], &[5, 17], &[70, 300]] {
        for (dtype, tolerance) in TOLERANCES {
            let others = layouts(shape, 56, dtype)?;
            for ((layout, x), (_, y)) in layouts(shape, 55, dtype)?.into_iter().zip(others) {
                let agree = check_agreement(
                    |x| kernels::paired_squared_euclidean(&x[0], &x[1]),
                    |x| reference::paired_squared_euclidean(&x[0], &x[1]),
                    &[x, y],
                    tolerance,
                );
                named(agree, &format!("pairs of {shape:?}, {dtype:?}, {layout}"));
            }
        }
    }
    Ok(())
}

#[test]
fn covariances_agree() -> Result<()> {
    let together = |(variances, redundancy): (Tensor, Tensor)| {
        Tensor::cat(&[variances, redundancy.unsqueeze(0)?], D::Minus1)
    };
    for shape in [&[2, 1][..], &[2, 5], &[33, 4], &[70, 65]] {
        for (dtype, _) in TOLERANCES {
            // The readable version adds in the number's own type.
            let tolerance = if dtype == DType::F32 { 1e-5 } else { 1e-13 };
            for (layout, x) in layouts(shape, 57, dtype)? {
                let what = format!("of {shape:?}, {dtype:?}, {layout}");
                let agree = check_agreement(
                    |x| kernels::covariance(&x[0]),
                    |x| reference::covariance(&x[0]),
                    std::slice::from_ref(&x),
                    tolerance,
                );
                named(agree, &format!("covariance {what}"));
                let agree = check_agreement(
                    |x| together(kernels::variances_and_redundancy(&x[0])?),
                    |x| together(reference::variances_and_redundancy(&x[0])?),
                    &[x],
                    tolerance,
                );
                named(agree, &format!("variances and redundancy {what}"));
            }
        }
    }
    Ok(())
}

fn bits(x: &Tensor) -> Result<Vec<u32>> {
    let numbers = x.flatten_all()?.to_vec1::<f32>()?;
    Ok(numbers.into_iter().map(f32::to_bits).collect())
}

/// Of few rows the weights are read as they lie, of more they are packed: a row does not tell.
#[test]
fn a_row_has_the_same_bits_among_few_and_among_many() -> Result<()> {
    let x = noise((97, 1100), 58)?.to_dtype(DType::F32)?;
    let weight = noise((70, 1100), 59)?.to_dtype(DType::F32)?;
    let bias = noise(70, 60)?.to_dtype(DType::F32)?;
    let many = kernels::linear(&x, &weight, Some(&bias))?.narrow(0, 0, 96)?;
    let few = kernels::linear(&x.narrow(0, 0, 96)?, &weight, Some(&bias))?;
    assert_eq!(bits(&many)?, bits(&few)?);
    Ok(())
}

/// Each has more to do than a second thread is woken for.
#[test]
fn the_number_of_threads_does_not_change_a_bit_of_large_ones() -> Result<()> {
    let of = |shape: &[usize], seed| Var::from_tensor(&noise(shape, seed)?.to_dtype(DType::F32)?);
    let both = |y: Tensor, variables: &[&Var]| -> Result<Vec<Vec<u32>>> {
        let cotangent = noise(y.dims(), 69)?.to_dtype(DType::F32)?;
        let gradients = (&y * cotangent)?.sum_all()?.backward()?;
        let mut all = vec![bits(&y)?];
        for variable in variables {
            all.push(bits(gradients.get(variable).expect("it depends on it"))?);
        }
        Ok(all)
    };
    let run = || -> Result<Vec<Vec<u32>>> {
        let mut all = Vec::new();
        for rows in [90, 150] {
            let (x, weight, bias) = (of(&[rows, 700], 61)?, of(&[300, 700], 62)?, of(&[300], 63)?);
            let y = kernels::linear(&x, &weight, Some(&bias))?;
            all.extend(both(y, &[&x, &weight, &bias])?);
        }
        let (x, y) = (of(&[9000, 1000], 64)?, of(&[9000, 1000], 65)?);
        let distances = kernels::paired_squared_euclidean(&x, &y)?;
        all.extend(both(distances, &[&x, &y])?);

        let (x, parameters) = (of(&[40, 12, 60], 66)?, of(&[4 * 64 * 125], 67)?);
        let parameters = Var::from_tensor(&(parameters.as_tensor() * 0.1)?)?;
        let lengths: Vec<u32> = (0..40).map(|row| row % 13).collect();
        for direction in [Direction::Forward, Direction::Backward] {
            let last = kernels::lstm_last(&x, &lengths, &parameters, 64, direction)?;
            all.extend(both(last, &[&x, &parameters])?);
        }

        let x = of(&[8, 20, 80, 80], 68)?;
        let slide = Slide {
            stride: 2,
            padding: 1,
            ..Slide::over(3)
        };
        let windows = Windows::sliding(&[80, 80], &[slide; 2], false)?;
        all.extend(both(kernels::max_pool(&x, &windows)?, &[&x])?);
        Ok(all)
    };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("a pool of threads").install(run)
    };
    let one = on(1)?;
    assert!(one == on(2)? && one == on(5)?);
    Ok(())
}
