//! Layers of every kind, small, in awkward shapes.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Finite, Fraction, Mode, Positive, Seed};
use nearfar_kernels::test_util::noise;
use nearfar_models::Params;
use nearfar_models::layers::{
    Activation, AttentionMask, AttentionSettings, AttentiveStatistics, BasicBlock, Conv,
    Convolution, Gem, GroupNorm, Gru, GruSettings, LayerNorm, LayerScale, Lstm, LstmSettings,
    LstmState, MultiHeadAttention, Normalization, PRelu, Pairing, RmsNorm, RotaryPositions, Slide,
    Statistics, TransformerLayer, TransformerSettings, UpConvolution, adaptive_average_pool,
    adaptive_max_pool, average_pool, cross_correlation, drop_path, max_pool, statistics_pool,
};

use crate::support::check_layer;

pub(crate) type Forward = Box<dyn Fn(&Tensor, &mut Mode<'_>) -> Result<Tensor>>;

/// A layer, small, and what it reads.
pub(crate) struct Case {
    pub(crate) what: String,
    pub(crate) params: Params,
    pub(crate) input: Tensor,
    pub(crate) forward: Forward,
}

impl Case {
    fn new(
        dtype: DType,
        what: impl Into<String>,
        dims: &[usize],
        build: impl FnOnce(&Params) -> Result<Forward>,
    ) -> Result<Self> {
        let params = Params::new(Seed(3), dtype, &Device::Cpu)?;
        let forward = build(&params)?;
        // Factors of one and shifts of zero hide what is mixed up.
        for (index, parameter) in params.parameters().iter().enumerate() {
            if parameter.trained {
                let moved =
                    (noise(parameter.var.shape(), 40 + index as u64)? * 0.3)?.to_dtype(dtype)?;
                parameter.var.set(&(parameter.var.as_tensor() + moved)?)?;
            }
        }
        Ok(Self {
            what: what.into(),
            params,
            input: noise(dims, 1)?.to_dtype(dtype)?,
            forward,
        })
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_layer(
            &self.what,
            self.params.parameters(),
            Some(&self.input),
            |x, mode| (self.forward)(x.expect("the check was given an input"), mode),
        )
    }
}

fn convolution<const N: usize>(
    dtype: DType,
    dims: &[usize],
    channels: (usize, usize),
    kernel: [usize; N],
    settings: Conv<N>,
) -> Result<Case> {
    Case::new(dtype, format!("{settings:?} of {dims:?}"), dims, |params| {
        let layer = Convolution::new(params, channels, kernel, settings, true)?;
        Ok(Box::new(move |x, mode| layer.forward(x, mode)))
    })
}

pub(crate) fn convolutions(dtype: DType) -> Result<Vec<Case>> {
    let plain = Conv::<2>::default();
    Ok(vec![
        convolution(
            dtype,
            &[2, 2, 7],
            (2, 3),
            [3],
            Conv::<1> {
                padding: [1],
                ..Conv::default()
            },
        )?,
        convolution(dtype, &[1, 2, 1], (2, 3), [1], Conv::<1>::default())?, // One row, one place.
        convolution(dtype, &[2, 2, 5, 4], (2, 3), [5, 4], plain)?, // As large as the image.
        convolution(
            dtype,
            &[1, 2, 7, 7],
            (2, 3),
            [2, 2],
            Conv {
                stride: [3, 4],
                ..plain
            },
        )?,
        convolution(
            dtype,
            &[2, 4, 5, 6],
            (4, 6),
            [3, 2],
            Conv {
                dilation: [2, 1],
                groups: 2,
                ..plain
            },
        )?,
        convolution(
            dtype,
            &[2, 3, 6, 5],
            (3, 3),
            [3, 3],
            Conv {
                padding: [1, 1],
                groups: 3,
                ..plain
            },
        )?,
        convolution(
            dtype,
            &[1, 2, 3, 4, 4],
            (2, 2),
            [2, 3, 2],
            Conv::<3> {
                padding: [1; 3],
                stride: [2, 1, 2],
                ..Conv::default()
            },
        )?,
        up_convolution(dtype, &[2, 2, 3, 2], 2)?,
        up_convolution(dtype, &[1, 2, 1, 1], 3)?, // One place.
    ])
}

fn up_convolution(dtype: DType, dims: &[usize], factor: usize) -> Result<Case> {
    let what = format!("up_convolution by {factor} of {dims:?}");
    Case::new(dtype, what, dims, |params| {
        let layer = UpConvolution::new(params, 2, 3, factor)?;
        Ok(Box::new(move |x, mode| layer.forward(x, mode)))
    })
}

pub(crate) fn norms(dtype: DType) -> Result<Vec<Case>> {
    let eps = Positive::literal(1e-5);
    let mut cases = Vec::new();
    for dims in [&[2, 3, 4][..], &[1, 3, 4]] {
        cases.push(Case::new(dtype, "layer_norm of all", dims, |params| {
            let layer = LayerNorm::new(params, &[3, 4], eps, true)?;
            Ok(Box::new(move |x, mode| layer.forward(x, mode)))
        })?);
    }
    cases.push(Case::new(
        dtype,
        "layer_norm without bias",
        &[5, 4],
        |params| {
            let layer = LayerNorm::new(params, &[4], eps, false)?;
            Ok(Box::new(move |x, mode| layer.forward(x, mode)))
        },
    )?);
    cases.push(Case::new(
        dtype,
        "layer_norm of channels",
        &[2, 3, 2, 2],
        |params| {
            let layer = LayerNorm::new(params, &[3], eps, true)?;
            Ok(Box::new(move |x, mode| layer.forward_channels(x, mode)))
        },
    )?);
    for (groups, dims) in [(1, &[2, 4, 3][..]), (2, &[1, 4, 2, 2]), (2, &[3, 4])] {
        cases.push(Case::new(
            dtype,
            format!("group_norm of {dims:?}"),
            dims,
            |params| {
                let layer = GroupNorm::new(params, groups, 4, eps)?;
                Ok(Box::new(move |x, mode| layer.forward(x, mode)))
            },
        )?);
    }
    cases.push(Case::new(dtype, "rms_norm", &[2, 3, 4], |params| {
        let layer = RmsNorm::new(params, 4, eps)?;
        Ok(Box::new(move |x, mode| layer.forward(x, mode)))
    })?);
    cases.push(Case::new(dtype, "layer_scale", &[2, 3, 4], |params| {
        let layer = LayerScale::new(params, 4, Finite::literal(1e-5))?;
        Ok(Box::new(move |x, mode| layer.forward(x, mode)))
    })?);
    Ok(cases)
}

pub(crate) fn activations(dtype: DType) -> Result<Vec<Case>> {
    let functions = [
        Activation::Relu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::LogSigmoid,
        Activation::Tanh,
        Activation::Softplus,
        Activation::LeakyRelu {
            slope: Finite::literal(0.1),
        },
        Activation::Elu {
            alpha: Finite::literal(0.5),
        },
        Activation::HardSwish,
        Activation::Mish,
    ];
    let mut cases = Vec::new();
    for function in functions {
        cases.push(Case::new(dtype, format!("{function:?}"), &[4, 5], |_| {
            Ok(Box::new(move |x, _| function.forward(&(x * 3.5)?)))
        })?);
    }
    for (slopes, dims) in [(1, &[3, 4][..]), (4, &[8, 4]), (4, &[2, 4, 5])] {
        cases.push(Case::new(
            dtype,
            format!("prelu of {slopes}"),
            dims,
            |params| {
                let layer = PRelu::new(params, slopes)?;
                Ok(Box::new(move |x, mode| layer.forward(x, mode)))
            },
        )?);
    }
    cases.push(Case::new(dtype, "drop_path", &[6, 2, 2], |_| {
        Ok(Box::new(|x, mode| {
            drop_path(x, Fraction::literal(0.5), mode)
        }))
    })?);
    Ok(cases)
}

pub(crate) fn pools(dtype: DType) -> Result<Vec<Case>> {
    let slide = Slide {
        kernel: 3,
        stride: 2,
        padding: 1,
        partial: true,
    };
    let apart = Slide {
        stride: 3,
        ..Slide::over(2)
    };
    let mut cases = Vec::new();
    for slides in [[slide, apart], [Slide::over(6), Slide::over(5)]] {
        let dims = [2, 2, 6, 5];
        cases.push(Case::new(
            dtype,
            format!("max_pool {slides:?}"),
            &dims,
            |_| Ok(Box::new(move |x, _| max_pool(x, &slides))),
        )?);
        for count_padding in [false, true] {
            cases.push(Case::new(
                dtype,
                format!("average_pool {slides:?}"),
                &dims,
                |_| {
                    Ok(Box::new(move |x, _| {
                        average_pool(x, &slides, count_padding)
                    }))
                },
            )?);
        }
    }
    for (dims, template) in [([2, 3, 5, 4], [2, 2]), ([1, 2, 3, 3], [3, 3])] {
        // The first channels and places are the template: each of the two has its gradient.
        cases.push(Case::new(
            dtype,
            format!("cross_correlation {template:?}"),
            &dims,
            |_| {
                Ok(Box::new(move |x, _| {
                    let [rows, columns] = template;
                    let template = x.narrow(2, 0, rows)?.narrow(3, 0, columns)?;
                    cross_correlation(x, &template.contiguous()?)
                }))
            },
        )?);
    }
    for (dims, parts) in [
        (&[1, 2, 1][..], &[3][..]),
        (&[2, 2, 5, 4], &[3, 2]),
        (&[1, 2, 3, 2, 4], &[1, 1, 1]),
    ] {
        cases.push(Case::new(
            dtype,
            format!("adaptive_average_pool {parts:?}"),
            dims,
            |_| Ok(Box::new(move |x, _| adaptive_average_pool(x, parts))),
        )?);
        cases.push(Case::new(
            dtype,
            format!("adaptive_max_pool {parts:?}"),
            dims,
            |_| Ok(Box::new(move |x, _| adaptive_max_pool(x, parts))),
        )?);
    }
    for dims in [&[2, 3, 4][..], &[1, 2, 3, 2], &[1, 1, 2]] {
        cases.push(Case::new(
            dtype,
            format!("gem of {dims:?}"),
            dims,
            |params| {
                let layer = Gem::new(params, Positive::literal(3.0), Positive::literal(0.05))?;
                Ok(Box::new(move |x, mode| layer.forward(x, mode)))
            },
        )?);
    }
    for lengths in [&[4u32, 2][..], &[1, 4]] {
        let places = 4;
        cases.push(Case::new(
            dtype,
            format!("statistics_pool of {lengths:?}"),
            &[lengths.len(), 3, places],
            |_| Ok(Box::new(move |x, _| statistics_pool(x, lengths))),
        )?);
        cases.push(Case::new(
            dtype,
            format!("attentive_statistics of {lengths:?}"),
            &[lengths.len(), 3, places],
            |params| {
                let layer = AttentiveStatistics::new(params, 3, 2)?;
                Ok(Box::new(move |x, mode| layer.forward(x, lengths, mode)))
            },
        )?);
    }
    Ok(cases)
}

fn attention(width: usize, heads: usize) -> impl Fn(&Params) -> Result<MultiHeadAttention> {
    let settings = AttentionSettings {
        heads,
        bias: true,
        dropout: Fraction::literal(0.0),
    };
    move |params| MultiHeadAttention::new(params, width, settings)
}

pub(crate) fn sequences(dtype: DType) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (layers, bidirectional, dropout) in [(1, false, 0.0), (2, true, 0.3)] {
        let settings = GruSettings {
            hidden: 3,
            layers,
            bidirectional,
            dropout: Fraction::literal(dropout),
        };
        cases.push(Case::new(
            dtype,
            format!("{settings:?}"),
            &[3, 4, 2],
            |params| {
                let net = Gru::new(params, 2, &settings)?;
                Ok(Box::new(move |x, mode| {
                    let (all, last) = net.forward_from(x, &[4, 1, 3], None, mode)?;
                    Tensor::cat(&[all.flatten_all()?, last.flatten_all()?], 0)
                }))
            },
        )?);
    }
    cases.push(Case::new(
        dtype,
        "gru from a first state",
        &[2, 1, 2],
        |params| {
            let settings = GruSettings {
                hidden: 2,
                layers: 1,
                bidirectional: true,
                dropout: Fraction::literal(0.0),
            };
            let net = Gru::new(params, 2, &settings)?;
            Ok(Box::new(move |x, mode| {
                // The first state is a part of what is read.
                let first = x.transpose(0, 1)?.broadcast_as((2, 2, 2))?.contiguous()?;
                let (all, last) = net.forward_from(x, &[1, 1], Some(&first), mode)?;
                Tensor::cat(&[all.flatten_all()?, last.flatten_all()?], 0)
            }))
        },
    )?);
    cases.push(Case::new(
        dtype,
        "lstm from a first state",
        &[2, 3, 2],
        |params| {
            let settings = LstmSettings {
                hidden: 2,
                layers: 1,
                bidirectional: true,
                dropout: Fraction::literal(0.0),
                forget_bias: Finite::literal(1.0),
            };
            let net = Lstm::new(params, 2, &settings)?;
            Ok(Box::new(move |x, mode| {
                let two = x.narrow(1, 0, 2)?.transpose(0, 1)?.contiguous()?;
                let first = LstmState {
                    hidden: two.clone(),
                    cell: (two * 0.5)?,
                };
                let (all, last) = net.forward_from(x, &[3, 2], Some(&first), mode)?;
                let parts = [all, last.hidden, last.cell];
                let parts = parts
                    .iter()
                    .map(|it| it.flatten_all())
                    .collect::<Result<Vec<_>>>()?;
                Tensor::cat(&parts, 0)
            }))
        },
    )?);

    let masks = [
        ("all", AttentionMask::all()),
        ("lengths", AttentionMask::lengths(&[3, 1], 3, &Device::Cpu)?),
        ("causal", AttentionMask::causal(3, &Device::Cpu)?),
        // The second row may look at nothing.
        ("nothing", AttentionMask::lengths(&[2, 0], 3, &Device::Cpu)?),
    ];
    for (name, mask) in masks {
        cases.push(Case::new(
            dtype,
            format!("attention, {name}"),
            &[2, 3, 4],
            |params| {
                let layer = attention(4, 2)(params)?;
                Ok(Box::new(move |x, mode| layer.forward(x, &mask, None, mode)))
            },
        )?);
    }
    for pairing in [Pairing::Halves, Pairing::Neighbors] {
        cases.push(Case::new(
            dtype,
            format!("attention, {pairing:?}"),
            &[1, 3, 8],
            |params| {
                let layer = attention(8, 2)(params)?;
                let positions = RotaryPositions::new(4, Positive::literal(10.0), pairing)?;
                Ok(Box::new(move |x, mode| {
                    layer.forward(x, &AttentionMask::all(), Some(&positions), mode)
                }))
            },
        )?);
    }
    cases.push(Case::new(
        dtype,
        "attention to a memory",
        &[2, 3, 4],
        |params| {
            let layer = attention(4, 1)(params)?;
            Ok(Box::new(move |x, mode| {
                let (queries, memory) = (x.narrow(1, 0, 1)?, x.narrow(1, 1, 2)?);
                let got = layer.attend(&queries, &memory, &AttentionMask::all(), None, mode)?;
                Tensor::cat(&[got.output.flatten_all()?, got.weights.flatten_all()?], 0)
            }))
        },
    )?);
    for norm_first in [false, true] {
        let settings = TransformerSettings {
            width: 4,
            heads: 2,
            hidden: 6,
            activation: Activation::Gelu,
            norm_first,
            eps: Positive::literal(1e-5),
            dropout: Fraction::literal(0.2),
            drop_path: Fraction::literal(0.3),
        };
        cases.push(Case::new(
            dtype,
            format!("{settings:?}"),
            &[3, 2, 4],
            |params| {
                let layer = TransformerLayer::new(params, &settings)?;
                Ok(Box::new(move |x, mode| {
                    layer.forward(x, &AttentionMask::all(), None, mode)
                }))
            },
        )?);
    }
    Ok(cases)
}

pub(crate) fn blocks(dtype: DType) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (outputs, stride, statistics) in [
        (2, 1, Statistics::Batch),
        (3, 2, Statistics::Frozen),
        (3, 2, Statistics::Batch),
    ] {
        let norm = Normalization {
            statistics,
            ..Normalization::default()
        };
        cases.push(Case::new(
            dtype,
            format!("basic_block, {statistics:?}"),
            &[3, 2, 4, 5],
            |params| {
                let block = BasicBlock::new(params, (2, outputs), stride, norm)?;
                Ok(Box::new(move |x, mode| block.forward(x, mode)))
            },
        )?);
    }
    Ok(cases)
}

/// All of them.
pub(crate) fn all(dtype: DType) -> Result<Vec<Case>> {
    let lists = [
        convolutions(dtype)?,
        norms(dtype)?,
        activations(dtype)?,
        pools(dtype)?,
        sequences(dtype)?,
        blocks(dtype)?,
    ];
    Ok(lists.into_iter().flatten().collect())
}
