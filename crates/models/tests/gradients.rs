//! Every layer against finite differences, in f64, for each parameter and the input.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Finite, Fraction, NonNegative, Seed};
use nearfar_kernels::test_util::noise;
use nearfar_models::layers::{
    BatchNorm, ConvBlock, ConvSettings, Embedding, Linear, Lstm, LstmSettings, Normalization,
    Statistics, dropout,
};
use nearfar_models::{Features, Params};

mod support;
use support::check_layer;

fn params() -> Params {
    Params::new(Seed(3), DType::F64, &Device::Cpu).expect("f64")
}

fn given(x: Option<&Tensor>) -> &Tensor {
    x.expect("the check was given an input")
}

#[test]
fn linear() -> Result<()> {
    for (bias, dims) in [(true, &[4, 3][..]), (false, &[1, 3]), (true, &[2, 2, 3])] {
        let params = params();
        let layer = Linear::new(&params, 3, 5, bias)?;
        check_layer(
            "linear",
            params.parameters(),
            Some(&noise(dims, 1)?),
            |x, mode| layer.forward(given(x), mode),
        )?;
    }
    Ok(())
}

#[test]
fn conv_block() -> Result<()> {
    let plain = ConvSettings {
        kernel: 3,
        padding: 1,
        norm: None,
        relu: false,
        pool: 1,
    };
    let batch = Some(Normalization::default());
    let frozen = Some(Normalization {
        statistics: Statistics::Frozen,
        ..Normalization::default()
    });
    let all = [
        plain,
        ConvSettings {
            padding: 0,
            relu: true,
            pool: 2,
            ..plain
        },
        ConvSettings {
            norm: batch,
            relu: true,
            pool: 2,
            ..plain
        },
        ConvSettings {
            norm: frozen,
            relu: true,
            pool: 3,
            ..plain
        },
        ConvSettings {
            kernel: 2,
            padding: 0,
            norm: batch,
            ..plain
        },
    ];
    for settings in all {
        let params = params();
        let layer = ConvBlock::new(&params, 2, 3, settings)?;
        let input = noise((3, 2, 6, 7), 2)?;
        check_layer(
            &format!("{settings:?}"),
            params.parameters(),
            Some(&input),
            |x, mode| layer.forward(given(x), mode),
        )?;
    }
    Ok(())
}

#[test]
fn batch_norm() -> Result<()> {
    for statistics in [Statistics::Batch, Statistics::Frozen] {
        for dims in [&[5, 3][..], &[2, 3, 4], &[2, 3, 2, 2]] {
            let params = params();
            let settings = Normalization {
                statistics,
                ..Normalization::default()
            };
            let layer = BatchNorm::new(&params, 3, settings)?;
            let what = format!("{statistics:?} {dims:?}");
            check_layer(
                &what,
                params.parameters(),
                Some(&noise(dims, 3)?),
                |x, mode| layer.forward(given(x), mode),
            )?;
        }
    }
    Ok(())
}

#[test]
fn dropout_of_half() -> Result<()> {
    check_layer(
        "dropout",
        Vec::new(),
        Some(&noise((4, 5), 4)?),
        |x, mode| dropout(given(x), Fraction::literal(0.5), mode),
    )
}

#[test]
fn embedding() -> Result<()> {
    let params = params();
    let layer = Embedding::new(&params, 5, 3, NonNegative::literal(1.0))?;
    let ids = Tensor::new(&[[1u32, 4, 4], [0, 1, 1]], &Device::Cpu)?;
    check_layer("embedding", params.parameters(), None, |_, mode| {
        layer.forward(&ids, mode)
    })
}

#[test]
fn lstm() -> Result<()> {
    for (layers, bidirectional, dropout) in [(1, false, 0.0), (2, true, 0.0), (2, false, 0.4)] {
        let settings = LstmSettings {
            hidden: 3,
            layers,
            bidirectional,
            dropout: Fraction::literal(dropout),
            forget_bias: Finite::literal(1.0),
        };
        let params = params();
        let layer = Lstm::new(&params, 2, &settings)?;
        // States at all places and the last ones; what is beyond the true length has gradient zero.
        check_layer(
            &format!("{settings:?}"),
            params.parameters(),
            Some(&noise((3, 4, 2), 5)?),
            |x, mode| match layer.forward(given(x), &[4, 1, 3], mode)? {
                Features::States { all, last, .. } => {
                    Tensor::cat(&[all.flatten_all()?, last.flatten_all()?], 0)
                }
                other => panic!("an LSTM gives states, not {other:?}"),
            },
        )?;
    }
    Ok(())
}
