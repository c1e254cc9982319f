//! What bends.

use candle_core::{Result, Tensor};
use nearfar_core::Finite;
use nearfar_kernels as kernels;
use serde::{Deserialize, Serialize};

/// A function of each number, by the name that a settings file writes: `activation = "gelu"`,
/// `activation.leaky_relu = { slope = 0.2 }`.
///
/// Values and gradients are torch's, and finite for every finite number; at the kink of `relu` the gradient is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Activation {
    /// `max(0, x)`
    #[default]
    Relu,
    /// `x Φ(x)`, with the error function: [`gelu`](kernels::gelu).
    Gelu,
    /// Its approximation by a hyperbolic tangent: [`gelu_tanh`](kernels::gelu_tanh).
    GeluTanh,
    /// `x σ(x)`
    Silu,
    /// `1 / (1 + e^−x)`
    Sigmoid,
    /// The logarithm of the sigmoid.
    LogSigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `log(1 + e^x)`
    Softplus,
    /// `x` above zero and `slope · x` else.
    LeakyRelu {
        /// torch's default is 0.01.
        slope: Finite,
    },
    /// `x` above zero and `alpha (e^x − 1)` else.
    Elu {
        /// torch's default is 1.
        alpha: Finite,
    },
    /// `x · min(max(x + 3, 0), 6) / 6`
    HardSwish,
    /// `x tanh(log(1 + e^x))`
    Mish,
    /// `x`: where a layer is to have none.
    Identity,
}

impl Activation {
    /// Of each number, in any shape.
    ///
    /// # Errors
    /// Those of candle.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => kernels::relu(x),
            Self::Gelu => kernels::gelu(x),
            Self::GeluTanh => kernels::gelu_tanh(x),
            Self::Silu => kernels::silu(x),
            Self::Sigmoid => kernels::sigmoid(x),
            Self::LogSigmoid => kernels::log_sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Softplus => kernels::softplus(x),
            Self::LeakyRelu { slope } => kernels::leaky_relu(x, slope.get()),
            Self::Elu { alpha } => kernels::elu(x, alpha.get()),
            Self::HardSwish => kernels::hard_swish(x),
            Self::Mish => kernels::mish(x),
            Self::Identity => Ok(x.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[derive(Deserialize)]
    struct Settings {
        activation: Activation,
    }

    #[test]
    fn a_name_is_enough_where_there_is_nothing_to_set() -> Result<()> {
        let read = |text: &str| toml::from_str::<Settings>(text).map(|it| it.activation);
        assert_eq!(read("activation = \"gelu_tanh\""), Ok(Activation::GeluTanh));
        let leaky = read("activation.leaky_relu = { slope = 0.25 }").expect("as documented");
        let x = Tensor::new(&[-4f64, 4.0], &Device::Cpu)?;
        assert_eq!(leaky.forward(&x)?.to_vec1::<f64>()?, [-1.0, 4.0]);
        assert!(read("activation = \"gelo\"").is_err());
        Ok(())
    }
}
