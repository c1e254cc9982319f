//! Every version of the block of convolution, normalization, activation and pooling is one function.

mod cases;
mod refused;

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_kernels::{
    ConvBlock, ConvBlockOutput, INSTRUCTION_SET_VARIABLE, Norm, conv_block, conv_block_reference,
    instruction_set,
};

use cases::{Case, Inputs, View, cases, distance, tensor};

#[test]
fn the_kernels_agree_with_the_reference_in_f64() -> Result<()> {
    for case in cases() {
        let expected = case.evaluate(DType::F64, true)?;
        let found = case.evaluate(DType::F32, false)?;
        for ((name, found), (_, expected)) in found.iter().zip(&expected) {
            // Sums of up to a thousand products of f32; gradients through the statistics of a batch cancel.
            let distance = distance(found, expected);
            assert!(
                distance < 1e-5,
                "{}: {name} of {case:?} is off by {distance:e}",
                instruction_set()
            );
        }
    }
    Ok(())
}

#[test]
fn other_types_take_the_reference() -> Result<()> {
    let case = cases()[2];
    assert_eq!(
        case.evaluate(DType::F64, false)?,
        case.evaluate(DType::F64, true)?
    );
    Ok(())
}

#[test]
fn every_instruction_set_agrees() {
    // The instruction set is chosen once in a process, so each of them gets one.
    let program = std::env::current_exe().expect("a test knows its program");
    for wanted in ["avx512", "avx2", "neon", "portable", "scalar"] {
        let run = std::process::Command::new(&program)
            .args(["--exact", "the_kernels_agree_with_the_reference_in_f64"])
            .env(INSTRUCTION_SET_VARIABLE, wanted)
            .output()
            .expect("a test can be started");
        assert!(
            run.status.success(),
            "{wanted}: {}",
            String::from_utf8_lossy(&run.stdout)
        );
    }
}

/// Finite differences along a random direction of all variables together.
#[test]
fn the_gradients_of_the_reference_are_those_of_finite_differences() -> Result<()> {
    for case in cases()
        .into_iter()
        .filter(|case| case.batch * case.channels < 40)
    {
        let inputs = case.inputs(DType::F64)?;
        // A scale of 0 makes all values of a window equal: there is no derivative.
        inputs
            .scale
            .set(&(tensor(&[case.outputs], 3, DType::F64)? + 2.0)?)?;
        let variables = [
            &inputs.stored,
            &inputs.weight,
            &inputs.scale,
            &inputs.shift,
            &inputs.residual,
        ];
        let loss = || -> Result<Tensor> {
            let output = case
                .call(&inputs, &case.view(&inputs.stored)?, true)?
                .output;
            (&output * tensor(output.dims(), 7, DType::F64)?)?.sum_all()
        };
        let gradients = loss()?.backward()?;
        let step = 1e-7;
        let (mut slope, mut starts) = (0.0, Vec::new());
        for (i, variable) in variables.into_iter().enumerate() {
            let direction = tensor(variable.dims(), 20 + i as u64, DType::F64)?;
            if let Some(gradient) = gradients.get(variable) {
                slope += (gradient * &direction)?.sum_all()?.to_scalar::<f64>()?;
            }
            starts.push((variable, variable.as_tensor().copy()?, direction));
        }
        let at = |step: f64| -> Result<f64> {
            for (variable, start, direction) in &starts {
                variable.set(&(start + (direction * step)?)?)?;
            }
            loss()?.to_scalar::<f64>()
        };
        let found = (at(step)? - at(-step)?) / (2.0 * step);
        // Rounding of a sum of a few hundred terms over the step; a kink within a step would be a larger error.
        assert!(
            (found - slope).abs() < 1e-5 * slope.abs().max(1.0),
            "{case:?}: {slope} instead of {found}"
        );
    }
    Ok(())
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let batch = Some(Norm::Batch { eps: 1e-5 });
    for (channels, norm, stride, pool, residual) in [
        (1, batch, 1, 2, false),
        (40, batch, 1, 2, false),
        (24, None, 1, 2, false),
        (40, batch, 2, 1, true),
        (24, batch, 4, 1, false), // Groups of images.
    ] {
        let block = ConvBlock {
            padding: 1,
            stride,
            norm,
            relu: true,
            pool,
        };
        let case = Case {
            batch: 37,
            channels,
            outputs: 80,
            size: (19, 18),
            kernel: 3,
            block,
            residual,
            view: View::Plain,
        };
        let mut first = None;
        for threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("threads can be had");
            let found = pool.install(|| case.evaluate(DType::F32, false))?;
            match &first {
                None => first = Some(found),
                Some(first) => assert!(
                    *first == found,
                    "{threads} threads differ from one: {case:?}"
                ),
            }
        }
    }
    Ok(())
}

#[test]
fn evaluation_without_gradients_gives_the_bits_of_training_with_fixed_statistics() -> Result<()> {
    for case in cases()
        .into_iter()
        .filter(|case| matches!(case.block.norm, Some(Norm::Fixed { .. })))
    {
        let inputs = case.inputs(DType::F32)?;
        let input = case.view(&inputs.stored)?;
        let tracked = case.call(&inputs, &input, false)?.output;
        let (weight, scale, shift) = (
            inputs.weight.detach(),
            inputs.scale.detach(),
            inputs.shift.detach(),
        );
        let statistics = Some((&inputs.mean, &inputs.variance));
        let residual = case.residual.then(|| inputs.residual.detach());
        let plain = conv_block(
            &input.detach(),
            &weight,
            Some(&scale),
            &shift,
            statistics,
            residual.as_ref(),
            &case.block,
        )?
        .output;
        assert!(tracked.track_op() && !plain.track_op());
        assert_eq!(
            tracked.flatten_all()?.to_vec1::<f32>()?,
            plain.flatten_all()?.to_vec1::<f32>()?,
            "{case:?}"
        );
    }
    Ok(())
}

#[test]
fn only_what_is_a_variable_gets_a_gradient() -> Result<()> {
    let case = cases()[1];
    let all = case.evaluate(DType::F32, false)?;
    let inputs = case.inputs(DType::F32)?;
    let loss = |found: ConvBlockOutput| {
        (&found.output * tensor(found.output.dims(), 7, DType::F32)?)?.sum_all()
    };
    let expected = |name: &str| {
        all.iter()
            .find(|(other, _)| *other == name)
            .expect("it is in the list")
            .1
            .clone()
    };
    let numbers = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();

    let constant = inputs.stored.detach();
    let gradients = loss(case.call(&inputs, &constant, false)?)?.backward()?;
    assert!(gradients.get(&constant).is_none());
    assert_eq!(
        numbers(gradients.get(&inputs.weight).expect("a variable"))?,
        expected("weight")
    );

    // A frozen block passes the same gradient on.
    let (weight, scale, shift) = (
        inputs.weight.detach(),
        inputs.scale.detach(),
        inputs.shift.detach(),
    );
    let found = conv_block(
        &inputs.stored,
        &weight,
        Some(&scale),
        &shift,
        None,
        None,
        &case.block,
    )?;
    let gradients = loss(found)?.backward()?;
    assert!(gradients.get(&weight).is_none());
    assert_eq!(
        numbers(gradients.get(&inputs.stored).expect("a variable"))?,
        expected("input")
    );
    Ok(())
}

/// A Siamese network goes through its encoder twice before it goes back.
#[test]
fn two_calls_before_one_way_back_do_not_disturb_each_other() -> Result<()> {
    let case = cases()[1];
    let inputs = case.inputs(DType::F32)?;
    let other = Var::from_tensor(&tensor(inputs.stored.dims(), 99, DType::F32)?)?;
    let gradient = |inputs: &Inputs, both: bool| -> Result<Vec<f32>> {
        let first = case
            .call(inputs, &inputs.stored, false)?
            .output
            .sqr()?
            .sum_all()?;
        let second = case.call(inputs, &other, false)?.output.sqr()?.sum_all()?;
        let loss = if both { (first + second)? } else { first };
        // Backward twice: what was kept for it is still there.
        loss.backward()?;
        loss.backward()?
            .get(&inputs.stored)
            .expect("a variable")
            .flatten_all()?
            .to_vec1()
    };
    assert_eq!(gradient(&inputs, true)?, gradient(&inputs, false)?);
    Ok(())
}

#[test]
fn the_first_of_equal_values_gets_the_gradient_and_a_dead_window_none() -> Result<()> {
    let weight = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
    let bias = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
    let block = ConvBlock {
        padding: 0,
        stride: 1,
        norm: None,
        relu: true,
        pool: 2,
    };
    for function in [conv_block, conv_block_reference] {
        // Two windows with ties, one with its maximum at exactly 0, one below; the last row fills no window.
        let rows = [
            [1f32, 3., 0., 0.],
            [3., 3., -1., 0.],
            [-2., -1., 5., 5.],
            [-1., -3., 5., 4.],
            [9., 9., 9., 9.],
        ];
        let image = Var::from_tensor(&Tensor::new(&rows, &Device::Cpu)?.reshape((1, 1, 5, 4))?)?;
        let output = function(&image, &weight, None, &bias, None, None, &block)?.output;
        assert_eq!(
            output.flatten_all()?.to_vec1::<f32>()?,
            [3.0, 0.0, 0.0, 5.0]
        );
        let gradients = output.sum_all()?.backward()?;
        let gradient = gradients
            .get(&image)
            .expect("a variable")
            .reshape((5, 4))?
            .to_vec2::<f32>()?;
        let expected = [
            [0f32, 1., 0., 0.],
            [0.; 4],
            [0., 0., 1., 0.],
            [0.; 4],
            [0.; 4],
        ];
        assert_eq!(gradient, expected);
    }
    Ok(())
}

#[test]
fn nan_is_not_hidden_by_the_activation_or_the_pooling() -> Result<()> {
    let weight = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
    let bias = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
    let block = ConvBlock {
        padding: 0,
        stride: 1,
        norm: None,
        relu: true,
        pool: 2,
    };
    for function in [conv_block, conv_block_reference] {
        for place in 0..4 {
            let mut image = [7f32, -1.0, 8.0, 3.0];
            image[place] = f32::NAN;
            let image = Tensor::new(&image, &Device::Cpu)?.reshape((1, 1, 2, 2))?;
            let output = function(&image, &weight, None, &bias, None, None, &block)?.output;
            assert!(
                output.flatten_all()?.to_vec1::<f32>()?[0].is_nan(),
                "NaN at {place}"
            );
        }
    }
    Ok(())
}

/// Values around 1,000 with a spread of 1: a sum of squares less the square of a sum would have no digit left.
#[test]
fn the_variance_keeps_its_digits_far_from_zero() -> Result<()> {
    let image = (tensor(&[4, 1, 10, 10], 1, DType::F32)? + 1000.0)?;
    let weight = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
    let (one, zero) = (
        Tensor::ones(1, DType::F32, &Device::Cpu)?,
        Tensor::zeros(1, DType::F32, &Device::Cpu)?,
    );
    let block = ConvBlock {
        padding: 0,
        stride: 1,
        norm: Some(Norm::Batch { eps: 1e-5 }),
        relu: false,
        pool: 1,
    };
    let found = conv_block(&image, &weight, Some(&one), &zero, None, None, &block)?;
    let values = image
        .flatten_all()?
        .to_dtype(DType::F64)?
        .to_vec1::<f64>()?;
    let mean = values.iter().sum::<f64>() / 400.0;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 400.0;
    let found = f64::from(found.variance.expect("a batch has one").to_vec1::<f32>()?[0]);
    assert!(
        (found / variance - 1.0).abs() < 1e-6,
        "{found} instead of {variance}"
    );
    Ok(())
}

#[test]
fn an_empty_batch_gives_an_empty_output() -> Result<()> {
    let input = Tensor::zeros((0, 2, 8, 8), DType::F32, &Device::Cpu)?;
    let weight = Tensor::ones((5, 2, 3, 3), DType::F32, &Device::Cpu)?;
    let shift = Tensor::zeros(5, DType::F32, &Device::Cpu)?;
    let block = ConvBlock {
        padding: 1,
        stride: 1,
        norm: None,
        relu: true,
        pool: 2,
    };
    for function in [conv_block, conv_block_reference] {
        let found = function(&input, &weight, None, &shift, None, None, &block)?;
        assert_eq!(found.output.dims(), [0, 5, 4, 4]);
    }
    Ok(())
}
