//! Pooling by a learned mean.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Error, Mode, Positive};
use nearfar_kernels::log_sum_exp;

use crate::{Init, Params, Weight};

/// Generalized-mean pooling of all places of a map, per channel:
///
/// ```text
/// y = (mean of max(x, eps)^p)^(1/p) = exp((log Σ e^(p log x) − log n) / p)
/// ```
///
/// `p` is learned: 1 is the mean, and the larger it is the nearer it is to the maximum. Computed by the second form, which
/// does not overflow for large `p`. Numbers below `eps` have gradient 0.
///
/// Its tensor is `p` `(1)`. A `p` of 0 has no value: it starts above, and a small learning rate keeps it there.
///
/// Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2018,
/// <https://arxiv.org/abs/1711.02512>, where `p` starts at 3 and `eps` is 1e−6.
#[derive(Clone, Debug)]
pub struct Gem {
    p: Weight,
    eps: f64,
}

impl Gem {
    /// With the power that it starts with, and the smallest number that it sees.
    ///
    /// # Errors
    /// Those of [`Params::weight`].
    pub fn new(params: &Params, p: Positive, eps: Positive) -> Result<Self> {
        Ok(Self {
            p: params.weight("p", 1, Init::Constant(p.get()))?,
            eps: eps.get(),
        })
    }

    /// `(b, c, …)` to `(b, c)`.
    ///
    /// # Errors
    /// [`Error::Shape`] for less than three dimensions and for no places.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let places = match x.dims() {
            [_, _, places @ ..] if !places.is_empty() => places.iter().product(),
            _ => 0usize,
        };
        if places == 0 {
            Err(Error::Shape(format!(
                "gem: the input has shape {:?}; (b, c, …) with at least one place is wanted",
                x.dims()
            )))?;
        }
        let p = self.p.tensor(mode);
        let x = x.flatten_from(2)?; // (b, c, places)
        let smallest = Tensor::full(self.eps, x.shape(), x.device())?.to_dtype(x.dtype())?;
        // Not `maximum`: NaN is not below, and stays to be seen.
        let x = x.lt(self.eps)?.where_cond(&smallest, &x)?;
        let powers = x.log()?.broadcast_mul(&p)?;
        let mean = (log_sum_exp(&powers)? - (places as f64).ln())?;
        mean.unsqueeze(D::Minus1)?
            .broadcast_div(&p)?
            .squeeze(D::Minus1)?
            .exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn it_goes_from_the_mean_to_the_maximum() -> Result<()> {
        let pool = |p: f64, dtype: DType| -> Result<f64> {
            let params = Params::new(Seed(1), dtype, &Device::Cpu)?;
            let layer = Gem::new(&params, Positive::literal(p), Positive::literal(1e-6))?;
            let x = Tensor::new(&[[[1f64, 3.0, -5.0, 1e-6]]], &Device::Cpu)?.to_dtype(dtype)?;
            let y = layer.forward(&x, &mut Mode::Eval)?;
            y.to_dtype(DType::F64)?.flatten_all()?.get(0)?.to_scalar()
        };
        assert!((pool(1.0, DType::F64)? - 1.0).abs() < 1e-5);
        assert!((pool(2.0, DType::F64)? - 2.5f64.sqrt()).abs() < 1e-5);
        // 3^1000 is beyond f32, and f64 too.
        assert!((pool(1000.0, DType::F32)? - 3.0).abs() < 0.01);
        Ok(())
    }

    #[test]
    fn one_place_is_its_own_mean_whatever_the_power() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let layer = Gem::new(&params, Positive::literal(3.0), Positive::literal(0.5))?;
        let x = candle_core::Var::new(&[[[2f64]], [[0.25]]], &Device::Cpu)?;
        let mut rng = Seed(1).rng(nearfar_core::Purpose::Dropout, 0);
        let y = layer.forward(&x, &mut Mode::Train(&mut rng))?;
        let gradients = y.sum_all()?.backward()?;
        let numbers = |x: &Tensor| x.flatten_all()?.to_vec1::<f64>();
        let near = |got: Vec<f64>, want: &[f64]| {
            got.iter()
                .zip(want)
                .all(|(got, want)| (got - want).abs() < 1e-12)
        };
        assert!(near(numbers(&y)?, &[2.0, 0.5]));
        let gradient = gradients.get(&x).expect("it depends on its input");
        assert!(near(numbers(gradient)?, &[1.0, 0.0]));
        let p = params.find("p").expect("made above");
        let gradient = gradients.get(p.var()).expect("it depends on its power");
        assert!(near(numbers(gradient)?, &[0.0]));
        Ok(())
    }

    #[test]
    fn a_map_without_places_is_refused() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let layer = Gem::new(&params, Positive::literal(3.0), Positive::literal(1e-6))?;
        for dims in [&[2, 3][..], &[2, 3, 0]] {
            let x = Tensor::zeros(dims, DType::F32, &Device::Cpu)?;
            let error = layer.forward(&x, &mut Mode::Eval).expect_err("no places");
            assert!(error.to_string().contains(&format!("{dims:?}")), "{error}");
        }
        Ok(())
    }
}
