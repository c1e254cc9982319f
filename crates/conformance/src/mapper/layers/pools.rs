//! Pooling.

use nearfar_models::layers::{Gem, Slide, adaptive_average_pool, average_pool, max_pool};

use super::fixture::{Fixture, positive, sizes};
use crate::golden::{Given, Mapped, Outputs, Settings, Trouble};

pub(super) fn sliding<const N: usize>(
    name: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let kernel = sizes::<N>(params, "kernel_size")?;
    let kernel = kernel.ok_or_else(|| Trouble::unmapped("`kernel_size` is missing"))?;
    let stride = sizes(params, "stride")?.unwrap_or(kernel);
    let padding = sizes(params, "padding")?.unwrap_or([0; N]);
    let partial = params.flag_or("ceil_mode", false)?;
    let slides: [Slide; N] = std::array::from_fn(|axis| Slide {
        kernel: kernel[axis],
        stride: stride[axis],
        padding: padding[axis],
        partial,
    });
    let output = match name.starts_with("Max") {
        true => max_pool(&fixture.input, &slides)?,
        false => {
            let count_padding = params.flag_or("count_include_pad", true)?;
            average_pool(&fixture.input, &slides, count_padding)?
        }
    };
    fixture.backward(given, &output, outputs)
}

pub(super) fn adaptive<const N: usize>(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let parts = sizes::<N>(params, "output_size")?;
    let parts = parts.ok_or_else(|| Trouble::unmapped("`output_size` is missing"))?;
    let output = adaptive_average_pool(&fixture.input, &parts)?;
    fixture.backward(given, &output, outputs)
}

pub(super) fn gem(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let (p, eps) = (positive(params, "p", 3.0)?, positive(params, "eps", 1e-6)?);
    let layer = Gem::new(&fixture.params, p, eps)?;
    fixture.layer(given, outputs, |x, mode| layer.forward(x, mode))
}
