//! Convolution in one to three dimensions.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Mode};
use nearfar_kernels::{Conv, conv};

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// A convolution over sequences: torch's `Conv1d`.
pub type Convolution1d = Convolution<1>;
/// A convolution over images: torch's `Conv2d`.
pub type Convolution2d = Convolution<2>;
/// A convolution over volumes: torch's `Conv3d`.
pub type Convolution3d = Convolution<3>;

/// A convolution in `N` dimensions with any stride, padding, dilation and groups ([`nearfar_kernels::conv`] has the formula).
///
/// Its tensors are `weight` `(outputs, inputs / groups, kernel…)` and, if it has one, `bias` `(outputs)`. Both start as
/// torch's do: uniform in `±1/√(inputs / groups · numbers of the kernel)`. Where normalization, activation and pooling
/// follow a kernel with stride 1, [`ConvBlock`](super::ConvBlock) does all of it faster.
#[derive(Clone, Debug)]
pub struct Convolution<const N: usize> {
    weight: Weight,
    bias: Option<Weight>,
    settings: Conv<N>,
}

impl<const N: usize> Convolution<N> {
    /// A convolution from `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// [`Error::Settings`] for a size of 0 and for groups that do not divide the channels; and those of [`Params::weight`].
    pub fn new(
        params: &Params,
        (inputs, outputs): (usize, usize),
        kernel: [usize; N],
        settings: Conv<N>,
        bias: bool,
    ) -> Result<Self> {
        let numbers = kernel
            .iter()
            .fold(inputs, |all, &dim| all.saturating_mul(dim));
        let init = Init::fan_in(numbers / settings.groups.max(1));
        let bias = bias.then_some(init);
        Self::starting(params, (inputs, outputs), kernel, settings, init, bias)
    }

    /// The same with other starts; no start of a bias is no bias.
    pub(crate) fn starting(
        params: &Params,
        (inputs, outputs): (usize, usize),
        kernel: [usize; N],
        settings: Conv<N>,
        weight: Init,
        bias: Option<Init>,
    ) -> Result<Self> {
        size("convolution", "inputs", inputs)?;
        size("convolution", "outputs", outputs)?;
        let groups = size("convolution", "groups", settings.groups)?;
        for (name, sizes) in [
            ("kernel", kernel),
            ("stride", settings.stride),
            ("dilation", settings.dilation),
        ] {
            for value in sizes {
                size("convolution", name, value)?;
            }
        }
        if inputs % groups != 0 || outputs % groups != 0 {
            Err(Error::Settings(format!(
                "convolution: `groups` is {groups}, with {inputs} channels in and {outputs} out; it must divide both"
            )))?;
        }
        let mut shape = vec![outputs, inputs / groups];
        shape.extend(kernel);
        Ok(Self {
            weight: params.weight("weight", shape, weight)?,
            bias: bias
                .map(|bias| params.weight("bias", outputs, bias))
                .transpose()?,
            settings,
        })
    }

    /// `(b, inputs, …)` to `(b, outputs, …')`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of dimensions or channels, and where the kernel does not fit.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        let inputs = weight.dim(1)? * self.settings.groups;
        if x.rank() != N + 2 || x.dim(1)? != inputs {
            Err(Error::Shape(format!(
                "convolution: the input has shape {:?}; (b, {inputs}, …) with {N} dimensions of places is wanted",
                x.dims()
            )))?;
        }
        for axis in 0..N {
            let (size, kernel) = (x.dim(axis + 2)?, weight.dim(axis + 2)?);
            if size == 0 || self.settings.count(axis, size, kernel).is_none() {
                Err(Error::Shape(format!(
                    "convolution: the input has shape {:?}; along dimension {} a kernel of {kernel}, with dilation {} and \
                     padding {}, does not fit",
                    x.dims(),
                    axis + 2,
                    self.settings.dilation[axis],
                    self.settings.padding[axis]
                )))?;
            }
        }
        let bias = self.bias.as_ref().map(|bias| bias.tensor(mode));
        conv(x, &weight, bias.as_ref(), &self.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    fn params() -> Params {
        Params::new(Seed(1), DType::F32, &Device::Cpu).expect("f32")
    }

    #[test]
    fn a_kernel_of_ones_sums_and_starts_where_torch_starts() -> Result<()> {
        let params = params();
        let settings = Conv {
            stride: [2],
            ..Conv::default()
        };
        let layer = Convolution1d::new(&params, (2, 1), [2], settings, true)?;
        let starts = params.find("weight").expect("made above").value();
        let starts = starts.flatten_all()?.to_vec1::<f32>()?;
        assert!(starts.iter().all(|x| x.abs() <= 0.5)); // 1 / √(2 · 2)
        params.set(
            "weight",
            &Tensor::ones((1, 2, 2), DType::F32, &Device::Cpu)?,
        )?;
        params.set("bias", &Tensor::new(&[10f32], &Device::Cpu)?)?;
        let x = Tensor::new(
            &[[[1f32, 2.0, 3.0, 4.0, 9.0], [0.0, 0.0, 1.0, 0.0, 9.0]]],
            &Device::Cpu,
        )?;
        let y = layer.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.to_vec3::<f32>()?, [[[13.0, 18.0]]]);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_sides() -> Result<()> {
        let plain = Conv::<2>::default();
        let layer = Convolution2d::new(&params(), (2, 1), [3, 3], plain, false)?;
        let error = |dims: &[usize]| {
            let x = Tensor::zeros(dims, DType::F32, &Device::Cpu).expect("small");
            let result = layer.forward(&x, &mut Mode::Eval);
            result.expect_err("it does not fit").to_string()
        };
        assert!(error(&[1, 3, 4, 4]).contains("[1, 3, 4, 4]; (b, 2, …)"));
        assert!(error(&[1, 2, 4, 2]).contains("[1, 2, 4, 2]; along dimension 3 a kernel of 3"));
        assert!(error(&[2, 4, 4]).contains("with 2 dimensions of places"));
        let odd = Conv { groups: 2, ..plain };
        let error = Convolution2d::new(&params(), (2, 3), [1, 1], odd, false);
        let error = error.expect_err("two groups of three").to_string();
        assert!(
            error.contains("`groups` is 2, with 2 channels in and 3 out"),
            "{error}"
        );
        Ok(())
    }
}
