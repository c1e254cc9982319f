//! Pooling by what a map has of each of some clusters.

use candle_core::{D, DType, Device, Result, Tensor};
use nearfar_core::{Encoded, Error, Mode, Positive, Rng, Seed};
use nearfar_kernels::{l2_normalize, linear, softmax};
use serde::{Deserialize, Serialize};

use super::{Over, Under};
use crate::input_shape::size;
use crate::layers::Linear;
use crate::scorers::MAPS;
use crate::{Init, Params, Weight};

/// Pools a map by the differences of its places from the centers of clusters, each place to the clusters that it is near.
///
/// ```text
/// x_i     the numbers of a place, divided by their length
/// a_k(x)  = softmax_k( w_k · x + b_k )                        w_k = 2 α c_k,  b_k = −α ‖c_k‖²  at the start, then on their own
/// V_k     = Σ_i a_k(x_i) (x_i − c_k)
/// y       = [ V_0 / ‖V_0‖ ; V_1 / ‖V_1‖ ; … ] / its length     and then, with `width`, a linear map
/// ```
///
/// Dividing each cluster by its length first (intra-normalization) keeps a cluster that many places belong to from being all that is seen. A
/// cluster that no place differs from stays zero.
///
/// Reads the `maps` that a model gives beside its embeddings, such as `model.conv4` with `maps = true`, or `model.ahmed`; what else the model makes of
/// them is not used. Where there are samples to start from, which `nearfar train` takes from the first batch, the centers are those of
/// k-means over their places, and `α` is such that, on average, the nearest cluster has 100 times the share of the second nearest, as in the
/// paper. Else they are drawn, and `α` is `sharpness`.
///
/// Names: `netvlad.centers` and `netvlad.assign.weight` `(clusters, channels)`, `netvlad.assign.bias` `(clusters)`, and `netvlad.head.weight`,
/// `netvlad.head.bias`.
///
/// Source: Arandjelović et al., "NetVLAD: CNN architecture for weakly supervised place recognition", CVPR 2016,
/// <https://arxiv.org/abs/1511.07247>, section 3.1; intra-normalization is of Arandjelović, Zisserman, "All about VLAD", CVPR 2013.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetVlad {
    /// How many clusters.
    pub clusters: usize,
    /// Numbers in an embedding; `clusters · channels` where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// The `α` of a start without data.
    pub sharpness: Positive,
    /// Whether embeddings have length 1 after the linear map; without one they have.
    pub normalize: bool,
}

impl Default for NetVlad {
    /// 64 clusters, as in the paper.
    fn default() -> Self {
        Self {
            clusters: 64,
            width: None,
            sharpness: Positive::literal(10.0),
            normalize: true,
        }
    }
}

/// The share of the nearest cluster over that of the second nearest, on average, at a start from data.
const RATIO: f64 = 100.0;
/// Places that k-means looks at, at most.
const PLACES: usize = 10_000;
const ROUNDS: usize = 25;

/// The pooling of [`NetVlad`], as a layer.
#[derive(Clone, Debug)]
pub struct NetVladPooling {
    centers: Weight,
    weight: Weight,
    bias: Weight,
}

impl NetVladPooling {
    /// For maps of so many channels, with centers that are drawn, normal with a length of about 1.
    ///
    /// # Errors
    /// [`Error::Settings`] for sizes out of range, and those of [`Params::weight`].
    pub fn new(
        channels: usize,
        clusters: usize,
        sharpness: Positive,
        params: &Params,
    ) -> Result<Self> {
        let channels = size("netvlad", "channels", channels)?;
        let clusters = size("netvlad", "clusters", clusters)?;
        let init = Init::Normal {
            mean: 0.0,
            deviation: 1.0 / (channels as f64).sqrt(),
        };
        let zero = Init::Constant(0.0);
        let assign = params.at("assign");
        let layer = Self {
            centers: params.weight("centers", (clusters, channels), init)?,
            weight: assign.weight("weight", (clusters, channels), zero)?,
            bias: assign.weight("bias", clusters, zero)?,
        };
        layer.assign(sharpness.get())?;
        Ok(layer)
    }

    /// Makes the shares those of the distances to the centers, `exp(−α ‖x − c_k‖²)` over their sum.
    fn assign(&self, alpha: f64) -> Result<()> {
        let centers = self.centers.value();
        self.weight.var().set(&(&centers * (2.0 * alpha))?)?;
        self.bias
            .var()
            .set(&(centers.sqr()?.sum(D::Minus1)? * -alpha)?)
    }

    /// Starts from the places of some maps `(b, c, …)`: centers by k-means, and shares so sharp that the nearest has 100 times that of the
    /// second nearest on average. A function of the maps and the seed.
    ///
    /// # Errors
    /// [`Error::Input`] when there are fewer places than clusters or some are not finite, [`Error::Shape`] for other channels.
    pub fn start_from(&self, maps: &Tensor, seed: Seed) -> Result<()> {
        let (clusters, channels) = self.centers.var().dims2()?;
        let places = self.places(maps)?; // (b, places, c)
        let places = places
            .flatten_to(1)?
            .to_dtype(DType::F64)?
            .to_vec2::<f64>()?;
        if places.len() < clusters || places.iter().flatten().any(|x| !x.is_finite()) {
            Err(Error::Input(format!(
                "netvlad: {} places, all finite, are wanted to start {clusters} clusters from, and there are {}",
                clusters,
                places.len()
            )))?;
        }
        let mut rng = seed.rng(
            nearfar_core::Purpose::Init,
            nearfar_core::position_of_name("netvlad.centers"),
        );
        let chosen = rng.permutation(places.len());
        let places: Vec<&[f64]> = chosen
            .iter()
            .take(PLACES)
            .map(|&at| &places[at as usize][..])
            .collect();
        let centers = k_means(&places, clusters, &mut rng);
        let gaps: f64 = places
            .iter()
            .map(|place| {
                let mut squares: Vec<f64> = centers.iter().map(|it| squared(place, it)).collect();
                squares.sort_unstable_by(f64::total_cmp);
                squares.get(1).map_or(0.0, |second| second - squares[0])
            })
            .sum();
        let gap = gaps / places.len() as f64;
        // With one cluster, or where all places are equal, any sharpness gives the same shares.
        let alpha = if gap > 0.0 { RATIO.ln() / gap } else { 1.0 };
        let numbers = Tensor::from_vec(centers.concat(), (clusters, channels), &Device::Cpu)?;
        let var = self.centers.var();
        var.set(&numbers.to_dtype(var.dtype())?.to_device(var.device())?)?;
        self.assign(alpha)
    }

    /// The numbers of each place, of length 1: `(b, c, …)` to `(b, places, c)`.
    fn places(&self, maps: &Tensor) -> Result<Tensor> {
        let (_, channels) = self.centers.var().dims2()?;
        let fits = maps.rank() >= 3
            && maps.dims()[1] == channels
            && maps.dims()[2..].iter().product::<usize>() > 0;
        if !fits {
            Err(Error::Shape(format!(
                "netvlad: the maps have shape {:?}; (b, {channels}, …) with at least one place is wanted",
                maps.dims()
            )))?;
        }
        let flat = maps.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let (b, places, _) = flat.dims3()?;
        l2_normalize(&flat.reshape((b * places, channels))?)?.reshape((b, places, channels))
    }

    /// `(b, c, …)` to `(b, clusters · c)`, of length 1.
    ///
    /// # Errors
    /// [`Error::Shape`] for less than three dimensions, other channels and no places.
    pub fn forward(&self, maps: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let places = self.places(maps)?; // (b, n, c)
        let (b, n, channels) = places.dims3()?;
        let centers = self.centers.tensor(mode);
        let clusters = centers.dim(0)?;
        let rows = places.reshape((b * n, channels))?;
        let logits = linear(
            &rows,
            &self.weight.tensor(mode),
            Some(&self.bias.tensor(mode)),
        )?;
        let shares = softmax(&logits)?.reshape((b, n, clusters))?;
        // Σ a (x − c) = Σ a x − (Σ a) c: two products, and no tensor of places by clusters by channels.
        let sums = shares.transpose(1, 2)?.contiguous()?.matmul(&places)?; // (b, k, c)
        let weights = shares.sum(1)?.unsqueeze(D::Minus1)?; // (b, k, 1)
        let residuals = (sums - weights.broadcast_mul(&centers.unsqueeze(0)?)?)?;
        let intra = l2_normalize(&residuals.reshape((b * clusters, channels))?)?;
        l2_normalize(&intra.reshape((b, clusters * channels))?)
    }
}

fn squared(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Centers of at least as many points: the first ones drawn by their squared distance from those before (k-means++), then Lloyd's rounds. A
/// center that loses all of its points stays where it is.
fn k_means(points: &[&[f64]], clusters: usize, rng: &mut Rng) -> Vec<Vec<f64>> {
    let mut centers = vec![points[rng.below(points.len())].to_vec()];
    let mut nearest: Vec<f64> = points
        .iter()
        .map(|point| squared(point, &centers[0]))
        .collect();
    while centers.len() < clusters {
        let total: f64 = nearest.iter().sum();
        let mut left = rng.uniform() * total;
        let drawn = nearest.iter().position(|share| {
            left -= share;
            left < 0.0
        });
        // All points are centers already: equal ones are as good as any.
        let center = points[drawn.unwrap_or(points.len() - 1)].to_vec();
        for (near, point) in nearest.iter_mut().zip(points) {
            *near = near.min(squared(point, &center));
        }
        centers.push(center);
    }
    for _ in 0..ROUNDS {
        let mut sums = vec![vec![0.0; points[0].len()]; clusters];
        let mut counts = vec![0usize; clusters];
        for point in points {
            let own = (0..clusters)
                .min_by(|&a, &b| {
                    squared(point, &centers[a]).total_cmp(&squared(point, &centers[b]))
                })
                .unwrap_or(0);
            counts[own] += 1;
            sums[own]
                .iter_mut()
                .zip(*point)
                .for_each(|(sum, x)| *sum += x);
        }
        let mut moved = false;
        for ((center, sum), &count) in centers.iter_mut().zip(sums).zip(&counts) {
            if count > 0 {
                let mean: Vec<f64> = sum.iter().map(|x| x / count as f64).collect();
                moved |= mean != *center;
                *center = mean;
            }
        }
        if !moved {
            break;
        }
    }
    centers
}

#[derive(Debug)]
struct Pooled {
    pooling: NetVladPooling,
    projection: Option<Linear>,
    normalize: bool,
}

impl NetVlad {
    pub(super) fn over(&self, under: &Under, params: &Params) -> Result<(Box<dyn Over>, usize)> {
        let Some([channels, ..]) = under.beside.get(MAPS).map(Vec::as_slice) else {
            return Err(Error::Settings(
                "netvlad: the model gives no `maps`; `model.conv4` with `maps = true` does, and `model.ahmed`".into(),
            ))?;
        };
        let pooling = NetVladPooling::new(*channels, self.clusters, self.sharpness, params)?;
        if let Some(maps) = under.samples.as_ref().and_then(|it| it.extra.get(MAPS)) {
            pooling.start_from(maps, params.seed())?;
        }
        let numbers = self.clusters.saturating_mul(*channels);
        let projection = match self.width {
            None => None,
            Some(width) => Some(Linear::new(&params.at("head"), numbers, width, true)?),
        };
        let pooled = Pooled {
            pooling,
            projection,
            normalize: self.normalize,
        };
        Ok((Box::new(pooled), self.width.unwrap_or(numbers)))
    }
}

impl Over for Pooled {
    fn embed(&self, encoded: &Encoded, mode: &mut Mode<'_>) -> Result<Tensor> {
        let maps = encoded
            .extra
            .get(MAPS)
            .ok_or_else(|| Error::Input("netvlad: the model gave no `maps`".into()))?;
        let pooled = self.pooling.forward(maps, mode)?;
        match &self.projection {
            None => Ok(pooled),
            Some(projection) => {
                let projected = projection.forward(&pooled, mode)?;
                if self.normalize {
                    l2_normalize(&projected)
                } else {
                    Ok(projected)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(channels: usize, clusters: usize) -> Result<(Params, NetVladPooling)> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let layer = NetVladPooling::new(channels, clusters, Positive::literal(2.0), &params)?;
        Ok((params, layer))
    }

    #[test]
    fn it_is_the_formula() -> Result<()> {
        let (params, layer) = build(2, 2)?;
        params.set(
            "centers",
            &Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?,
        )?;
        layer.assign(2.0)?;
        // Two places: (0.6, 0.8), and (1, 0) before it has length 1.
        let maps = Tensor::new(&[[[[0.6f64, 5.0]], [[0.8, 0.0]]]], &Device::Cpu)?;
        let found = layer.forward(&maps, &mut Mode::Eval)?.to_vec2::<f64>()?;
        let places = [[0.6, 0.8], [1.0, 0.0]];
        let centers = [[1.0, 0.0], [0.0, 1.0]];
        let mut wanted = Vec::new();
        for (k, center) in centers.iter().enumerate() {
            let mut sum = [0.0; 2];
            for place in &places {
                let near = |c: &[f64; 2]| (-2.0 * squared(place, c)).exp();
                let share = near(&centers[k]) / (near(&centers[0]) + near(&centers[1]));
                (0..2).for_each(|at| sum[at] += share * (place[at] - center[at]));
            }
            let length = (sum[0] * sum[0] + sum[1] * sum[1]).sqrt();
            wanted.extend(sum.map(|x| x / length / 2f64.sqrt()));
        }
        for (found, wanted) in found[0].iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        }
        Ok(())
    }

    #[test]
    fn it_starts_from_the_clusters_of_its_places() -> Result<()> {
        let (params, layer) = build(2, 2)?;
        let near = |x: f64, y: f64| [x, y, x + 0.01 * y, y + 0.01 * x];
        let (one, other) = (near(1.0, 0.0), near(0.0, 1.0));
        let rows = [
            one[0], one[2], other[0], other[2], one[1], one[3], other[1], other[3],
        ];
        let maps = Tensor::new(&rows, &Device::Cpu)?.reshape((1, 2, 4))?;
        layer.start_from(&maps, Seed(5))?;
        let centers = params
            .find("centers")
            .expect("made above")
            .value()
            .to_vec2::<f64>()?;
        let along = |axis: usize| centers.iter().any(|center| center[axis] > 0.99);
        assert!(along(0) && along(1), "{centers:?}");
        // On average the nearest has 100 times the share of the other.
        let places = layer.places(&maps)?.squeeze(0)?;
        let logits = linear(&places, &layer.weight.value(), Some(&layer.bias.value()))?;
        let gaps: Vec<f64> = logits
            .to_vec2::<f64>()?
            .iter()
            .map(|it| (it[0] - it[1]).abs())
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - RATIO.ln()).abs() < 1e-9, "{mean}");
        let error = layer
            .start_from(&maps.narrow(2, 0, 1)?, Seed(5))
            .expect_err("one place");
        assert!(error.to_string().contains("there are 1"), "{error}");
        Ok(())
    }

    #[test]
    fn equal_points_and_one_cluster_have_centers() {
        let point = [1.0, 2.0];
        let mut rng = Seed(1).rng(nearfar_core::Purpose::Init, 0);
        assert_eq!(
            k_means(&[&point, &point, &point], 2, &mut rng),
            vec![point.to_vec(); 2]
        );
        assert_eq!(
            k_means(&[&point, &[3.0, 4.0]], 1, &mut rng),
            vec![vec![2.0, 3.0]]
        );
    }

    #[test]
    fn maps_that_do_not_fit_are_refused() -> Result<()> {
        let (_, layer) = build(2, 3)?;
        for dims in [&[1, 3, 2][..], &[1, 2], &[1, 2, 0]] {
            let maps = Tensor::zeros(dims, DType::F64, &Device::Cpu)?;
            let error = layer
                .forward(&maps, &mut Mode::Eval)
                .expect_err("it does not fit");
            assert!(error.to_string().contains(&format!("{dims:?}")), "{error}");
        }
        Ok(())
    }
}
