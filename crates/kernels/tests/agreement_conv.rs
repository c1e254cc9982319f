//! Every version of the block of convolution, normalization, activation and pooling is one function.

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_kernels::{
    ConvBlock, ConvBlockOutput, INSTRUCTION_SET_VARIABLE, Norm, conv_block, conv_block_reference,
    instruction_set,
};

/// Numbers in (-1, 1) from a small congruential generator.
fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(shape: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
    Tensor::from_vec(noise(shape.iter().product(), seed), shape, &Device::Cpu)?.to_dtype(dtype)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum View {
    Plain,
    /// Rows and columns exchanged, and a row, a channel and an image left out on each side.
    Strided,
    /// Channels last in memory.
    ChannelsLast,
    /// One channel repeated, with step 0.
    Broadcast,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    channels: usize,
    outputs: usize,
    size: (usize, usize),
    kernel: usize,
    block: ConvBlock,
    residual: bool,
    view: View,
}

/// What a case needs, as variables, so that every gradient can be asked for.
struct Inputs {
    stored: Var,
    weight: Var,
    scale: Var,
    shift: Var,
    /// Of the output's shape, or of one number where the case has none.
    residual: Var,
    mean: Tensor,
    variance: Tensor,
}

impl Case {
    fn inputs(&self, dtype: DType) -> Result<Inputs> {
        let Case {
            batch: b,
            channels: c,
            outputs: o,
            size: (h, w),
            kernel: k,
            view,
            ..
        } = *self;
        let stored = match view {
            View::Plain => vec![b, c, h, w],
            View::Strided => vec![b + 2, c + 2, w + 2, h + 2],
            View::ChannelsLast => vec![b, h, w, c],
            View::Broadcast => vec![b, 1, h, w],
        };
        let side = |size: usize| (size + 2 * self.block.padding - k) / self.block.stride + 1;
        let residual = match self.residual {
            true => vec![b, o, side(h), side(w)],
            false => vec![1],
        };
        let reach = 1.5 / ((c * k * k) as f64).sqrt();
        Ok(Inputs {
            stored: Var::from_tensor(&tensor(&stored, 1, dtype)?)?,
            weight: Var::from_tensor(&(tensor(&[o, c, k, k], 2, dtype)? * reach)?)?,
            // One scale is exactly 0: the values before it must still be right.
            scale: Var::from_tensor(&Tensor::cat(
                &[
                    &tensor(&[o - 1], 3, dtype)?,
                    &Tensor::zeros(1, dtype, &Device::Cpu)?,
                ],
                0,
            )?)?,
            shift: Var::from_tensor(&(tensor(&[o], 4, dtype)? * 0.5)?)?,
            residual: Var::from_tensor(&tensor(&residual, 8, dtype)?)?,
            mean: (tensor(&[o], 5, dtype)? * 0.3)?,
            variance: (tensor(&[o], 6, dtype)?.abs()? + 0.2)?,
        })
    }

    fn view(&self, stored: &Tensor) -> Result<Tensor> {
        let Case {
            batch: b,
            channels: c,
            size: (h, w),
            ..
        } = *self;
        match self.view {
            View::Plain => Ok(stored.clone()),
            View::Strided => stored
                .transpose(2, 3)?
                .narrow(0, 1, b)?
                .narrow(1, 1, c)?
                .narrow(2, 1, h)?
                .narrow(3, 1, w),
            View::ChannelsLast => stored.permute((0, 3, 1, 2)),
            View::Broadcast => stored.broadcast_as((b, c, h, w)),
        }
    }

    fn call(&self, inputs: &Inputs, input: &Tensor, reference: bool) -> Result<ConvBlockOutput> {
        let function = if reference {
            conv_block_reference
        } else {
            conv_block
        };
        let scale = self.block.norm.map(|_| inputs.scale.as_tensor());
        let fixed = matches!(self.block.norm, Some(Norm::Fixed { .. }));
        let statistics = fixed.then_some((&inputs.mean, &inputs.variance));
        function(
            input,
            &inputs.weight,
            scale,
            &inputs.shift,
            statistics,
            self.residual.then_some(inputs.residual.as_tensor()),
            &self.block,
        )
    }

    /// Output, statistics, and the gradients of all variables under a random cotangent, by name.
    fn evaluate(&self, dtype: DType, reference: bool) -> Result<Vec<(&'static str, Vec<f64>)>> {
        let inputs = self.inputs(dtype)?;
        let found = self.call(&inputs, &self.view(&inputs.stored)?, reference)?;
        let loss = (&found.output * tensor(found.output.dims(), 7, dtype)?)?.sum_all()?;
        let gradients = loss.backward()?;
        let numbers = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1();
        let mut all = vec![("output", numbers(&found.output)?)];
        for (name, statistic) in [("mean", &found.mean), ("variance", &found.variance)] {
            assert_eq!(
                statistic.is_some(),
                matches!(self.block.norm, Some(Norm::Batch { .. }))
            );
            if let Some(statistic) = statistic {
                all.push((name, numbers(statistic)?));
            }
        }
        let variables = [
            ("input", &inputs.stored),
            ("weight", &inputs.weight),
            ("scale", &inputs.scale),
            ("shift", &inputs.shift),
            ("residual", &inputs.residual),
        ];
        for (name, variable) in variables {
            let there = match name {
                "scale" => self.block.norm.is_some(),
                "residual" => self.residual,
                _ => true,
            };
            if there {
                let gradient = gradients
                    .get(variable)
                    .unwrap_or_else(|| panic!("{self:?}: no gradient for {name}"));
                all.push((name, numbers(gradient)?));
            }
        }
        Ok(all)
    }
}

fn cases() -> Vec<Case> {
    let block = |padding, norm, relu, pool| ConvBlock {
        padding,
        stride: 1,
        norm,
        relu,
        pool,
    };
    let case = |batch, channels, outputs, size, kernel, block| Case {
        batch,
        channels,
        outputs,
        size,
        kernel,
        block,
        residual: false,
        view: View::Plain,
    };
    let (batch, fixed) = (
        Some(Norm::Batch { eps: 1e-5 }),
        Some(Norm::Fixed { eps: 1e-3 }),
    );
    let mut cases = vec![
        case(3, 1, 64, (12, 12), 3, block(1, batch, true, 2)),
        case(2, 64, 64, (7, 7), 3, block(1, batch, true, 2)),
        case(1, 3, 5, (6, 9), 3, block(1, batch, true, 2)),
        case(1, 1, 32, (12, 12), 5, block(0, None, true, 2)),
        case(2, 32, 64, (8, 8), 5, block(0, None, true, 2)),
        case(2, 17, 33, (5, 8), 3, block(0, batch, true, 1)),
        case(1, 1, 1, (1, 2), 1, block(0, batch, false, 1)),
        case(1, 1, 1, (1, 1), 1, block(0, None, true, 1)),
        case(5, 7, 48, (9, 4), 1, block(0, batch, true, 3)),
        case(2, 2, 70, (11, 10), 5, block(4, batch, true, 2)),
        case(2, 20, 130, (6, 7), 3, block(2, fixed, true, 2)),
        case(2, 130, 20, (3, 4), 3, block(1, batch, true, 2)),
        case(33, 4, 6, (5, 5), 3, block(1, batch, true, 2)),
        case(2, 1, 3, (13, 14), 11, block(5, fixed, false, 4)),
        // Two images without padding, whose gradients are scattered, one cut out of a border.
        case(2, 5, 7, (6, 5), 4, block(1, batch, true, 1)),
        case(1, 24, 40, (9, 7), 5, block(1, None, true, 2)),
        // A kernel row at a time: the panel is larger than the cache.
        case(1, 256, 10, (4, 4), 3, block(1, batch, true, 1)),
        case(2, 6, 16, (4, 6), 2, block(1, None, false, 1)),
    ];
    // Strides that fit and that do not, kernels smaller than the stride, small images that are convolved in groups (with a
    // last group that is smaller), and sums before the activation: what residual networks are made of.
    for (i, (count, channels, outputs, size, kernel, padding, stride)) in [
        (2, 3, 20, (11, 12), 7, 3, 2),
        (3, 16, 24, (9, 8), 3, 1, 2),
        (3, 20, 17, (5, 4), 1, 0, 2),
        (2, 50, 18, (7, 10), 3, 1, 3),
        (3, 2, 5, (7, 7), 2, 0, 3),
        (37, 18, 33, (2, 2), 3, 1, 1),
        (29, 5, 70, (4, 3), 3, 1, 2),
        (26, 33, 16, (1, 2), 3, 1, 1),
        (5, 17, 30, (4, 4), 1, 0, 1),
    ]
    .into_iter()
    .enumerate()
    {
        for residual in [false, true] {
            let norm = [batch, batch, fixed, None][(i + usize::from(residual)) % 4];
            let block = ConvBlock {
                stride,
                ..block(padding, norm, residual || i % 2 == 0, 1)
            };
            cases.push(Case {
                residual,
                view: [View::Plain, View::Strided, View::ChannelsLast][i % 3],
                ..case(count, channels, outputs, size, kernel, block)
            });
        }
    }
    let strided_and_pooled = ConvBlock {
        stride: 2,
        ..block(1, batch, true, 2)
    };
    cases.push(case(3, 6, 19, (13, 10), 3, strided_and_pooled));
    for (i, norm) in [None, batch, fixed].into_iter().enumerate() {
        for relu in [false, true] {
            for pool in [1, 2] {
                for kernel in [1, 3, 5] {
                    let padding = (i + pool) % kernel;
                    let views = [View::Strided, View::ChannelsLast, View::Broadcast];
                    // One value repeated under a kernel of one is normalized to a constant; its
                    // gradient is rounding.
                    let used = if kernel == 1 { 2 } else { 3 };
                    let view = views[(kernel / 2 + pool + i) % used];
                    cases.push(Case {
                        view,
                        ..case(3, 6, 19, (7, 6), kernel, block(padding, norm, relu, pool))
                    });
                }
            }
        }
    }
    cases
}

/// The largest difference, relative to the largest of the numbers expected. These are about 1; where they cancel, as the
/// gradient of a weight does whose scale is normalized away, what is left of rounding is measured against 0.1.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0f64, |size, x| size.max(x.abs()));
    let difference = found
        .iter()
        .zip(expected)
        .fold(0f64, |most, (a, b)| most.max((a - b).abs()));
    if difference.is_nan() {
        f64::INFINITY
    } else {
        difference / size.max(0.1)
    }
}

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

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let (input, weight, vector) = (zeros(&[1, 2, 4, 4])?, zeros(&[5, 2, 3, 3])?, zeros(&[5])?);
    let plain = ConvBlock {
        padding: 1,
        stride: 1,
        norm: None,
        relu: true,
        pool: 2,
    };
    let batch = ConvBlock {
        norm: Some(Norm::Batch { eps: 1e-5 }),
        ..plain
    };
    let fixed = ConvBlock {
        norm: Some(Norm::Fixed { eps: 1e-5 }),
        ..plain
    };
    let refused = |found: Result<ConvBlockOutput>, word: &str| {
        let message = found.expect_err(word).to_string();
        assert!(message.contains(word), "{message}");
    };
    for function in [conv_block, conv_block_reference] {
        refused(
            function(
                &input,
                &zeros(&[5, 3, 3, 3])?,
                None,
                &vector,
                None,
                None,
                &plain,
            ),
            "`input` has 2 channels",
        );
        refused(
            function(
                &input,
                &zeros(&[5, 2, 3, 2])?,
                None,
                &vector,
                None,
                None,
                &plain,
            ),
            "square",
        );
        refused(
            function(&input, &weight, None, &zeros(&[4])?, None, None, &plain),
            "`shift` has shape [4]",
        );
        refused(
            function(&input, &weight, None, &vector, None, None, &batch),
            "needs `scale`",
        );
        refused(
            function(&input, &weight, Some(&vector), &vector, None, None, &plain),
            "`scale` needs `norm`",
        );
        refused(
            function(&input, &weight, Some(&vector), &vector, None, None, &fixed),
            "needs `statistics`",
        );
        let given = Some((&vector, &vector));
        refused(
            function(&input, &weight, Some(&vector), &vector, given, None, &batch),
            "`statistics` are for",
        );
        let wide = ConvBlock {
            padding: 3,
            ..plain
        };
        refused(
            function(&input, &weight, None, &vector, None, None, &wide),
            "smaller than the kernel",
        );
        refused(
            function(
                &input,
                &weight,
                None,
                &vector,
                None,
                None,
                &ConvBlock { pool: 5, ..plain },
            ),
            "pooling window",
        );
        refused(
            function(
                &input,
                &weight,
                None,
                &vector,
                None,
                None,
                &ConvBlock { pool: 0, ..plain },
            ),
            "`pool` is 0",
        );
        let still = ConvBlock { stride: 0, ..plain };
        refused(
            function(&input, &weight, None, &vector, None, None, &still),
            "`stride` is 0",
        );
        let added = Some(&input);
        refused(
            function(&input, &weight, None, &vector, None, added, &plain),
            "`residual` has shape",
        );
        let double = weight.to_dtype(DType::F64)?;
        refused(
            function(&input, &double, None, &vector, None, None, &plain),
            "`weight` is F64",
        );
        let one = zeros(&[1, 2, 1, 1])?;
        let whole = ConvBlock { pool: 1, ..batch };
        refused(
            function(&one, &weight, Some(&vector), &vector, None, None, &whole),
            "one value has no variance",
        );
    }
    Ok(())
}
