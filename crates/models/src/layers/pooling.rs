//! Pooling of neighbours.

use candle_core::{Result, Tensor};
use nearfar_core::Error;
use nearfar_kernels::{Slide, Windows};

/// The largest number of each window, as torch's `MaxPool1d` to `MaxPool3d`: `(b, c, …) → (b, c, …')`.
///
/// There is a [`Slide`] for each dimension behind the channels, one to three. Of equal numbers the first one gets the
/// gradient; padding never wins.
///
/// # Errors
/// [`Error::Shape`] for another number of dimensions and where no window fits.
pub fn max_pool(x: &Tensor, slides: &[Slide]) -> Result<Tensor> {
    let image = image("max_pool", x, slides.len())?;
    nearfar_kernels::max_pool(x, &shaped(Windows::sliding(image, slides, false))?)
}

/// The mean of each window, as torch's `AvgPool1d` to `AvgPool3d`: `(b, c, …) → (b, c, …')`. `count_padding` says whether
/// zeros around the image are numbers of the mean; torch's default is that they are.
///
/// # Errors
/// Those of [`max_pool`].
pub fn average_pool(x: &Tensor, slides: &[Slide], count_padding: bool) -> Result<Tensor> {
    let image = image("average_pool", x, slides.len())?;
    nearfar_kernels::average_pool(x, &shaped(Windows::sliding(image, slides, count_padding))?)
}

/// The means of so many windows, whatever the size of the image, as torch's `AdaptiveAvgPool1d` to `AdaptiveAvgPool3d`:
/// `(b, c, …) → (b, c, parts…)`.
///
/// # Errors
/// [`Error::Shape`] for another number of dimensions and for parts of nothing.
pub fn adaptive_average_pool(x: &Tensor, parts: &[usize]) -> Result<Tensor> {
    let image = image("adaptive_average_pool", x, parts.len())?;
    nearfar_kernels::average_pool(x, &shaped(Windows::adaptive(image, parts))?)
}

/// The largest numbers of so many windows, as torch's `AdaptiveMaxPool1d` to `AdaptiveMaxPool3d`.
///
/// # Errors
/// Those of [`adaptive_average_pool`].
pub fn adaptive_max_pool(x: &Tensor, parts: &[usize]) -> Result<Tensor> {
    let image = image("adaptive_max_pool", x, parts.len())?;
    nearfar_kernels::max_pool(x, &shaped(Windows::adaptive(image, parts))?)
}

/// What lies behind the channels.
fn image<'a>(name: &str, x: &'a Tensor, dimensions: usize) -> Result<&'a [usize]> {
    match x.dims() {
        [_, _, image @ ..] if image.len() == dimensions => Ok(image),
        dims => Err(Error::Shape(format!(
            "{name}: the input has shape {dims:?}; (b, c, …) with {dimensions} dimensions of places is wanted"
        )))?,
    }
}

fn shaped(windows: Result<Windows>) -> Result<Windows> {
    windows.map_err(|error| Error::Shape(error.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn windows_are_those_of_the_image_that_comes() -> Result<()> {
        let row = |numbers: &[f64]| Tensor::new(numbers, &Device::Cpu)?.reshape((1, 1, ()));
        let values = |x: Tensor| x.flatten_all()?.to_vec1::<f64>();
        let x = row(&[1.0, 3.0, 2.0, 6.0])?;
        assert_eq!(values(max_pool(&x, &[Slide::over(2)])?)?, [3.0, 6.0]);
        let padded = Slide {
            padding: 1,
            ..Slide::over(2)
        };
        assert_eq!(values(average_pool(&x, &[padded], true)?)?, [0.5, 2.5, 3.0]);
        assert_eq!(
            values(average_pool(&x, &[padded], false)?)?,
            [1.0, 2.5, 6.0]
        );
        for size in [1, 2, 5] {
            let x = row(&vec![7.0; size])?;
            assert_eq!(values(adaptive_average_pool(&x, &[3])?)?, [7.0; 3]);
            assert_eq!(values(adaptive_max_pool(&x, &[1])?)?, [7.0]);
        }
        let error = max_pool(&x, &[Slide::over(5)])
            .expect_err("five of four")
            .to_string();
        assert!(
            error.contains("4 numbers") && error.contains("`kernel` of 5"),
            "{error}"
        );
        let error = adaptive_average_pool(&x, &[1, 1])
            .expect_err("one dimension")
            .to_string();
        assert!(
            error.contains("[1, 1, 4]") && error.contains("2 dimensions"),
            "{error}"
        );
        Ok(())
    }
}
