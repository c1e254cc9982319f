//! How a tensor starts.

use nearfar_core::Rng;

/// How the numbers of a tensor are drawn before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f64),
    /// Uniform in `[low, high)`.
    Uniform {
        /// Smallest number.
        low: f64,
        /// No number reaches it.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        deviation: f64,
    },
    /// Four gates of one size in the order input, forget, cell, output: uniform in `[−bound, bound)`, but for the
    /// forget gate, which starts at a constant.
    Gates {
        /// Of the other three gates.
        bound: f64,
        /// What the forget gate starts at; a large number lets a network remember long before it has learned to.
        forget: f64,
    },
}

impl Init {
    /// Uniform in `±1/√fan_in`: what torch draws for the weights and biases of `Linear` and `Conv2d` (its
    /// `kaiming_uniform_` with `a = √5`) and, with the hidden size for `fan_in`, of `LSTM`.
    ///
    /// `fan_in` is the number of inputs that one output sums over; 0 counts as 1.
    pub fn fan_in(fan_in: usize) -> Self {
        let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
        Self::Uniform {
            low: -bound,
            high: bound,
        }
    }

    /// Normal with deviation `√(2 / fan_out)`: torch's `kaiming_normal_` with `mode="fan_out"` and `nonlinearity="relu"`, from which
    /// torchvision's residual networks start.
    ///
    /// `fan_out` is the number of outputs that one input reaches, `outputs · kernel²` of a convolution; 0 counts as 1.
    pub fn fan_out(fan_out: usize) -> Self {
        Self::Normal {
            mean: 0.0,
            deviation: (2.0 / fan_out.max(1) as f64).sqrt(),
        }
    }

    /// `count` numbers, in the order in which they lie in the tensor. Each is drawn in f64 whatever it becomes, so that
    /// an f32 model and its f64 twin start alike.
    pub(crate) fn draw<T>(self, count: usize, rng: &mut Rng, number: fn(f64) -> T) -> Vec<T> {
        let gate = count.div_ceil(4).max(1);
        let mut one = |at: usize| match self {
            Self::Constant(value) => value,
            Self::Uniform { low, high } => rng.uniform_between(low, high),
            Self::Normal { mean, deviation } => mean + deviation * rng.normal(),
            Self::Gates { bound, forget } => {
                // The forget gate takes its draws too, so that its constant does not move what follows.
                let drawn = rng.uniform_between(-bound, bound);
                if at / gate == 1 { forget } else { drawn }
            }
        };
        (0..count).map(|at| number(one(at))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn each_kind_keeps_its_bounds() {
        let mut rng = Seed(1).rng(Purpose::Init, 0);
        assert_eq!(Init::Constant(2.0).draw(3, &mut rng, f64::from), [2.0; 3]);
        let drawn = Init::fan_in(4).draw(1000, &mut rng, f64::from);
        assert!(drawn.iter().all(|x| (-0.5..0.5).contains(x)));
        assert!(drawn.iter().any(|&x| x < -0.45) && drawn.iter().any(|&x| x > 0.45));
        let normal = Init::Normal {
            mean: 3.0,
            deviation: 0.1,
        }
        .draw(1000, &mut rng, f64::from);
        assert!((normal.iter().sum::<f64>() / 1000.0 - 3.0).abs() < 0.02);
        let out = Init::fan_out(8).draw(1000, &mut rng, f64::from);
        let variance = out.iter().map(|x| x * x).sum::<f64>() / 1000.0;
        assert!((variance - 0.25).abs() < 0.05, "{variance}");
    }

    #[test]
    fn the_forget_gate_is_the_second_quarter() {
        let draw = |forget| {
            let mut rng = Seed(1).rng(Purpose::Init, 0);
            Init::Gates { bound: 0.5, forget }.draw(8, &mut rng, f64::from)
        };
        let (drawn, other) = (draw(2.5), draw(1.0));
        assert_eq!(drawn[2..4], [2.5; 2]);
        assert!(drawn[..2].iter().chain(&drawn[4..]).all(|x| x.abs() < 0.5));
        assert_eq!(drawn[4..], other[4..]);
    }
}
