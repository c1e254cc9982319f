//! Shapes, steps, what is around the convolution and how its input lies in memory.

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_kernels::{ConvBlock, ConvBlockOutput, Norm, conv_block, conv_block_reference};

/// Numbers in (-1, 1) from a small congruential generator.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn tensor(shape: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
    Tensor::from_vec(noise(shape.iter().product(), seed), shape, &Device::Cpu)?.to_dtype(dtype)
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum View {
    Plain,
    /// Rows and columns exchanged, and a row, a channel and an image left out on each side.
    Strided,
    /// Channels last in memory.
    ChannelsLast,
    /// One channel repeated, with step 0.
    Broadcast,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) outputs: usize,
    pub(crate) size: (usize, usize),
    pub(crate) kernel: usize,
    pub(crate) block: ConvBlock,
    pub(crate) residual: bool,
    pub(crate) view: View,
}

/// What a case needs, as variables, so that every gradient can be asked for.
pub(crate) struct Inputs {
    pub(crate) stored: Var,
    pub(crate) weight: Var,
    pub(crate) scale: Var,
    pub(crate) shift: Var,
    /// Of the output's shape, or of one number where the case has none.
    pub(crate) residual: Var,
    pub(crate) mean: Tensor,
    pub(crate) variance: Tensor,
}

impl Case {
    pub(crate) fn inputs(&self, dtype: DType) -> Result<Inputs> {
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

    pub(crate) fn view(&self, stored: &Tensor) -> Result<Tensor> {
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

    pub(crate) fn call(
        &self,
        inputs: &Inputs,
        input: &Tensor,
        reference: bool,
    ) -> Result<ConvBlockOutput> {
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
    pub(crate) fn evaluate(
        &self,
        dtype: DType,
        reference: bool,
    ) -> Result<Vec<(&'static str, Vec<f64>)>> {
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

pub(crate) fn cases() -> Vec<Case> {
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
        // By tiles: even and odd sides, each padding, more tiles than stay in the cache, groups of small images, outputs that fill
        // no whole vector; and a way forward that is direct with a way back by tiles.
        case(2, 64, 70, (14, 14), 3, block(1, batch, true, 2)),
        case(2, 32, 40, (9, 6), 3, block(0, None, true, 1)),
        case(2, 96, 33, (5, 8), 3, block(2, fixed, true, 1)),
        case(9, 48, 48, (4, 4), 3, block(1, batch, true, 1)),
        case(1, 32, 32, (21, 24), 3, block(1, None, false, 1)),
        case(1, 33, 64, (16, 18), 3, block(1, batch, true, 3)),
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
pub(crate) fn distance(found: &[f64], expected: &[f64]) -> f64 {
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
