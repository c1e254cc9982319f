//! Discriminative loss of pixels.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Comparison, Evaluated, Loss, NonNegative, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::{euclidean, hinge, safe_sqrt};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::dense::{Image, images};
use crate::over::matrix::refuse_miner;
use crate::over::reduced;
use crate::{Compares, Join, Reads};

/// Draws the pixels of an instance to their mean, and the means of an image apart.
///
/// ```text
/// variance  1/C Σ_c 1/N_c Σ_{i in c} max(0, ‖μ_c − x_i‖ − pull_margin)²
/// distance  1/(C (C − 1)) Σ_{A ≠ B} max(0, 2 push_margin − ‖μ_A − μ_B‖)²
/// length    1/C Σ_c ‖μ_c‖
/// ```
///
/// Each is averaged over the images with an instance and multiplied by its weight; the parts carry these names. Masks are 0
/// for the background, which does not count. One instance has no distance. It reads the map `dense` that the encoder gives beside
/// its embeddings, `(images, d, height, width)`. Decode by mean shift with the bandwidth `pull_margin`.
///
/// Each instance counts alike, as the paper says; the authors' code lets each pixel do so.
///
/// Source: De Brabandere, Neven, Van Gool, "Semantic instance segmentation with a discriminative loss function", 2017,
/// <https://arxiv.org/abs/1708.02551>, equations 1 to 4.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("discriminative_dense = { push_margin = 2 }")?;
/// assert_eq!(config.reads(), Reads::Masks);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscriminativeDense {
    /// How far a pixel may be from its mean.
    pub pull_margin: NonNegative,
    /// Half of how far two means should be.
    pub push_margin: NonNegative,
    /// What the first part counts.
    pub variance: NonNegative,
    /// What the second part counts.
    pub distance: NonNegative,
    /// What the third part counts.
    pub length: NonNegative,
}

impl Default for DiscriminativeDense {
    /// The paper's.
    fn default() -> Self {
        Self {
            pull_margin: NonNegative::literal(0.5),
            push_margin: NonNegative::literal(1.5),
            variance: NonNegative::literal(1.0),
            distance: NonNegative::literal(1.0),
            length: NonNegative::literal(0.001),
        }
    }
}

impl BatchLoss for DiscriminativeDense {
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
        Ok(Box::new(OverInstances {
            name,
            settings: self.clone(),
            reducer: join.reducer.take().unwrap_or_else(|| self.reducer()),
        }))
    }
}

#[derive(Debug)]
struct OverInstances {
    name: &'static str,
    settings: DiscriminativeDense,
    reducer: Reducer,
}

impl Stateful for OverInstances {}

impl OverInstances {
    /// The three parts of an image, with their weights.
    fn of(&self, image: &Image) -> Result<[Tensor; 3]> {
        let (n, c) = (image.instances.len(), image.counts.len());
        let pixels = &image.pixels;
        let like = |numbers: Vec<f64>, shape: &[usize]| -> Result<Tensor> {
            Tensor::from_vec(numbers, shape, &Device::Cpu)?
                .to_dtype(pixels.dtype())?
                .to_device(pixels.device())
        };
        // Sums by instance rather than a matrix of instances by pixels.
        let index: Vec<u32> = image.instances.iter().map(|it| *it as u32).collect();
        let index = Tensor::from_vec(index, n, pixels.device())?;
        let share = |instance: usize| 1.0 / image.counts[instance] as f64;
        let sums = Tensor::zeros((c, pixels.dim(1)?), pixels.dtype(), pixels.device())?;
        let sums = sums.index_add(&index, pixels, 0)?;
        let shares = like((0..c).map(share).collect(), &[c, 1])?;
        let means = sums.broadcast_mul(&shares)?; // (c, d)
        let off = (pixels - means.index_select(&index, 0)?)?;
        let off = safe_sqrt(&off.sqr()?.sum(1)?)?; // (n)
        let weights = image.instances.iter().map(|it| share(*it) / c as f64);
        let weights = like(weights.collect(), &[n])?;
        let beyond = hinge(&(off - self.settings.pull_margin.get())?)?.sqr()?;
        let variance = ((beyond * weights)?.sum_all()? * self.settings.variance.get())?;
        let distance = if c < 2 {
            variance.zeros_like()?
        } else {
            let apart = euclidean(&means, &means)?;
            let near = (apart.neg()? + 2.0 * self.settings.push_margin.get())?;
            let others = (0..c * c).map(|it| if it / c == it % c { 0.0 } else { 1.0 });
            let near = (hinge(&near)?.sqr()? * like(others.collect(), &[c, c])?)?;
            (near.sum_all()? * (self.settings.distance.get() / (c * (c - 1)) as f64))?
        };
        let length = safe_sqrt(&means.sqr()?.sum(1)?)?.mean_all()?;
        Ok([variance, distance, (length * self.settings.length.get())?])
    }
}

const PARTS: [&str; 3] = ["variance", "distance", "length"];

impl Loss for OverInstances {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let mut sums: Option<[Tensor; 3]> = None;
        let mut count = 0usize;
        for image in images(self.name, comparison)? {
            if image.counts.is_empty() {
                continue;
            }
            count += 1;
            let parts = self.of(&image)?;
            sums = Some(match sums {
                None => parts,
                Some([x, y, z]) => [(x + &parts[0])?, (y + &parts[1])?, (z + &parts[2])?],
            });
        }
        let Some(sums) = sums else {
            let none = PARTS.iter().map(|part| Terms::none(part, comparison));
            return Ok(none.collect());
        };
        let parts = PARTS.iter().zip(sums);
        parts
            .map(|(part, sum)| Terms::of_batch(part, &(sum / count as f64)?, comparison))
            .collect()
    }
}
