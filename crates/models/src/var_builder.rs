//! Models written for candle-nn, on our parameters.

use candle_core::{DType, Device, Error as CandleError, Result, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::{Init as CandleInit, NormalOrUniform};
use candle_nn::var_builder::SimpleBackend;
use nearfar_core::Error;

use crate::{Init, Params};

impl Params {
    /// Serves candle-nn's layers, and models written with them, from here: what they ask for is made by name like any
    /// other tensor, and asked again it is the same. `running_mean` and `running_var` are statistics, and not trained.
    ///
    /// Mind which layers of candle-nn have no gradient or a wrong one: `LayerNorm`, `RmsNorm`, `softmax_last_dim`,
    /// `rope`, `max_pool2d`, `conv1d`. And its models do not know [`Mode`](nearfar_core::Mode).
    ///
    /// ```
    /// # use candle_core::{DType, Device};
    /// # use nearfar_core::Seed;
    /// # use nearfar_models::Params;
    /// let params = Params::new(Seed(7), DType::F32, &Device::Cpu)?;
    /// candle_nn::linear(3, 2, params.var_builder().pp("out"))?;
    /// let names: Vec<_> = params.parameters().into_iter().map(|it| it.name).collect();
    /// assert_eq!(names, ["out.bias", "out.weight"]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn var_builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), self.dtype(), self.device().clone())
    }
}

impl From<(CandleInit, &Shape)> for Init {
    fn from((init, shape): (CandleInit, &Shape)) -> Self {
        match init {
            CandleInit::Const(value) => Self::Constant(value),
            CandleInit::Uniform { lo, up } => Self::Uniform { low: lo, high: up },
            CandleInit::Randn { mean, stdev } => Self::Normal {
                mean,
                deviation: stdev,
            },
            CandleInit::Kaiming {
                dist,
                fan,
                non_linearity,
            } => {
                let deviation = non_linearity.gain() / (fan.for_shape(shape).max(1) as f64).sqrt();
                match dist {
                    NormalOrUniform::Normal => Self::Normal {
                        mean: 0.0,
                        deviation,
                    },
                    NormalOrUniform::Uniform => {
                        let bound = 3f64.sqrt() * deviation;
                        Self::Uniform {
                            low: -bound,
                            high: bound,
                        }
                    }
                }
            }
        }
    }
}

impl SimpleBackend for Params {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: CandleInit,
        dtype: DType,
        _: &Device,
    ) -> Result<Tensor> {
        if dtype != self.dtype() {
            Err(Error::Settings(format!(
                "`{name}` is wanted as {}, but all parameters are {}",
                dtype.as_str(),
                self.dtype().as_str()
            )))?;
        }
        let weight = match self.find(name) {
            Some(weight) if weight.var().shape() == &shape => weight,
            Some(weight) => Err(Error::Shape(format!(
                "parameter `{}{name}` has shape {:?}, {:?} is wanted",
                self.prefix(),
                weight.var().dims(),
                shape.dims()
            )))?,
            None if matches!(last_part(name), "running_mean" | "running_var") => {
                let start = f64::from(u8::from(last_part(name) == "running_var"));
                self.statistic(name, shape, start)?
            }
            None => self.weight(name, shape.clone(), Init::from((init, &shape)))?,
        };
        Ok(weight.var().as_tensor().clone())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        match self.find(name) {
            Some(weight) => Ok(weight.var().as_tensor().clone()),
            None => Err(CandleError::CannotFindTensor {
                path: format!("{}{name}", self.prefix()),
            }),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_nn::Module;
    use nearfar_core::Seed;

    #[test]
    fn layers_of_candle_start_by_seed_and_name_and_learn() -> Result<()> {
        let build = |seed| -> Result<(Params, candle_nn::Linear)> {
            let params = Params::new(Seed(seed), DType::F32, &Device::Cpu)?;
            let layer = candle_nn::linear(3, 2, params.at("tower").var_builder().pp("out"))?;
            Ok((params, layer))
        };
        let ((params, layer), (_, same), (_, other)) = (build(7)?, build(7)?, build(8)?);
        let weights = |layer: &candle_nn::Linear| layer.weight().to_vec2::<f32>();
        assert_eq!(weights(&layer)?, weights(&same)?);
        assert_ne!(weights(&layer)?, weights(&other)?);
        let gradients = layer
            .forward(&Tensor::ones((4, 3), DType::F32, &Device::Cpu)?)?
            .sum_all()?
            .backward()?;
        for parameter in params.parameters() {
            assert!(
                gradients.get(&parameter.var).is_some(),
                "{}",
                parameter.name
            );
        }
        Ok(())
    }

    #[test]
    fn statistics_are_not_trained_and_shapes_are_held() -> Result<()> {
        let params = Params::new(Seed(7), DType::F32, &Device::Cpu)?;
        let vb = params.var_builder();
        candle_nn::batch_norm(4, 1e-5, vb.pp("norm"))?;
        let trained: Vec<_> = params
            .parameters()
            .into_iter()
            .filter(|it| it.trained)
            .collect();
        assert_eq!(params.parameters().len(), 4);
        assert_eq!(trained.len(), 2);
        assert!(vb.get(3, "norm.weight").is_err());
        assert!(vb.to_dtype(DType::F64).get(3, "x").is_err());
        Ok(())
    }
}
