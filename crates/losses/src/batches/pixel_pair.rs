//! Loss of pairs of pixels.

use std::num::NonZeroU32;

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Comparison, Evaluated, Loss, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::{hinge, softplus, squared_euclidean};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::dense::{Image, images};
use crate::over::matrix::refuse_miner;
use crate::over::reduced;
use crate::{Compares, Join, Reads};

/// Says of pairs of pixels whether they are of one instance, by their distance.
///
/// ```text
/// σ(p, q) = 2/(1 + exp(‖e_p − e_q‖²))
/// l = −Σ w(p, q) (log σ where p and q are of one instance, log(1 − σ) else) / Σ w(p, q)
/// ```
///
/// Of each instance so many pixels are drawn, with their places from the loss's random numbers, or all if there are fewer;
/// `w(p, q) = 1/(n_p n_q)` makes instances of any size count alike. Averaged over the images with two such pixels. Masks are 0 for
/// the background, which does not count. `log σ = log 2 − softplus(d²)` and `log(1 − σ) = log tanh(d²/2)`, of pixels that coincide
/// bounded at `d² = 1e-6`. It reads the map `dense` that the encoder gives beside its embeddings, `(images, d, height, width)`.
///
/// Source: Fathi et al., "Semantic instance segmentation via deep metric learning", 2017, <https://arxiv.org/abs/1703.10277>,
/// equation 3.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("pixel_pair = { pixels = 10 }")?;
/// assert_eq!(config.reads(), Reads::Masks);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelPair {
    /// How many pixels of each instance are drawn.
    pub pixels: NonZeroU32,
}

impl Default for PixelPair {
    /// 16 of each instance: ours.
    fn default() -> Self {
        Self {
            pixels: NonZeroU32::MIN.saturating_add(15),
        }
    }
}

impl BatchLoss for PixelPair {
    fn reads(&self) -> Reads {
        Reads::Masks
    }

    fn compares(&self) -> Compares {
        Compares::Own
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "distances of pixels")?;
        join.refuse_own(name, "distances of pixels")?;
        refuse_miner(name, &join)?;
        Ok(Box::new(OverPixels {
            name,
            settings: self.clone(),
            reducer: join.reducer.take().unwrap_or_else(|| self.reducer()),
        }))
    }
}

#[derive(Debug)]
struct OverPixels {
    name: &'static str,
    settings: PixelPair,
    reducer: Reducer,
}

impl Stateful for OverPixels {}

/// Below it, two pixels of different instances cost what they cost here, with no gradient: the logarithm has no end.
const LEAST: f64 = 1e-6;

/// `log tanh(x/2)` for `x ≥ 0`, from `x = LEAST` on.
fn log_tanh_half(x: &Tensor) -> Result<Tensor> {
    // The hinge has no gradient where the bound holds.
    let bounded = (hinge(&(x - LEAST)?)? + LEAST)?;
    (bounded * 0.5)?.tanh()?.log()
}

impl OverPixels {
    fn of(&self, image: &Image, rng: &mut Rng) -> Result<Option<Tensor>> {
        let wanted = self.settings.pixels.get() as usize;
        let mut by_instance = vec![Vec::new(); image.counts.len()];
        for (pixel, &instance) in image.instances.iter().enumerate() {
            by_instance[instance].push(pixel as u32);
        }
        let mut chosen: Vec<(u32, usize, f64)> = Vec::new();
        for (instance, mut pixels) in by_instance.into_iter().enumerate() {
            if pixels.len() > wanted {
                rng.shuffle(&mut pixels);
                pixels.truncate(wanted);
            }
            let share = 1.0 / pixels.len() as f64;
            chosen.extend(pixels.into_iter().map(|pixel| (pixel, instance, share)));
        }
        let k = chosen.len();
        if k < 2 {
            return Ok(None);
        }
        let places: Vec<u32> = chosen.iter().map(|it| it.0).collect();
        let places = Tensor::from_vec(places, k, image.pixels.device())?;
        let pixels = image.pixels.index_select(&places, 0)?;
        let distances = squared_euclidean(&pixels, &pixels)?; // (k, k)
        let (mut same, mut other) = (vec![0f64; k * k], vec![0f64; k * k]);
        let mut sum = 0.0;
        for (row, (_, ours, share)) in chosen.iter().enumerate() {
            for (column, (_, theirs, other_share)) in chosen.iter().enumerate() {
                if row == column {
                    continue;
                }
                let weight = share * other_share;
                sum += weight;
                let of = if ours == theirs {
                    &mut same
                } else {
                    &mut other
                };
                of[row * k + column] = weight;
            }
        }
        let like = |numbers: Vec<f64>| -> Result<Tensor> {
            let numbers = numbers.into_iter().map(|it| it / sum).collect();
            Tensor::from_vec(numbers, (k, k), &Device::Cpu)?
                .to_dtype(distances.dtype())?
                .to_device(distances.device())
        };
        let together = (softplus(&distances)? - std::f64::consts::LN_2)?;
        let apart = log_tanh_half(&distances)?.neg()?;
        let value = ((together * like(same)?)? + (apart * like(other)?)?)?.sum_all()?;
        Ok(Some(value))
    }
}

impl Loss for OverPixels {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let mut values = Vec::new();
        for image in images(self.name, comparison)? {
            values.extend(self.of(&image, rng)?);
        }
        if values.is_empty() {
            return Ok(vec![Terms::none("pixel", comparison)]);
        }
        let value = Tensor::stack(&values, 0)?.mean_all()?;
        Ok(vec![Terms::of_batch("pixel", &value, comparison)?])
    }
}
