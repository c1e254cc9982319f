//! What does not fit is refused, by the name of what is wrong.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_kernels::{ConvBlock, ConvBlockOutput, Norm, conv_block, conv_block_reference};

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
