//! How a loss pulls at positives and pushes negatives away, asked of the loss itself.

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{Comparison, Embeddings, Purpose, Seed};
use nearfar_losses::{Compares, Family, Join, LossConfig};
use nearfar_metrics::{DistanceConfig, SimilarityConfig};
use nearfar_miners::MinerConfig;

/// A loss as a run file has it.
pub(crate) struct Asked {
    pub(crate) loss: LossConfig,
    pub(crate) miner: Option<MinerConfig>,
    /// Whether the others are class centers of the loss.
    centers: bool,
}

/// How fast the loss rises as each of the others goes away from the anchor: `∂l/∂d`.
pub(crate) struct Slopes {
    pub(crate) positive: Vec<f64>,
    pub(crate) negative: Vec<f64>,
}

impl Asked {
    /// Reads `loss.… = …` and a miner, if there is one.
    pub(crate) fn new(loss: &str, miner: Option<&str>) -> Self {
        let loss: LossConfig = toml::from_str(loss).expect("a loss");
        let miner = miner.map(|miner| toml::from_str(miner).expect("a miner"));
        let centers = loss.family() == Family::Classes
            || matches!(loss.name(), "triplet_center" | "instance");
        Self {
            loss,
            miner,
            centers,
        }
    }

    /// One anchor, and others at distances from it: all rows have length 1, and each of the others lies in a direction of its
    /// own, at right angles to those of all others.
    pub(crate) fn slopes(&self, positive: &[f64], negative: &[f64]) -> Result<Slopes> {
        let distances: Vec<f64> = positive.iter().chain(negative).copied().collect();
        let (count, width) = (distances.len(), distances.len() + 2);
        let (mut rows, mut ways) = (vec![0f64; count * width], vec![0f64; count * width]);
        for (index, &d) in distances.iter().enumerate() {
            // (1 − d²/2, d √(1 − d²/4)) has the distance d from (1, 0), and this derivative by d.
            let (at, root) = (index * width, (1.0 - d * d / 4.0).sqrt());
            rows[at] = 1.0 - d * d / 2.0;
            rows[at + index + 1] = d * root;
            ways[at] = -d;
            ways[at + index + 1] = root - d * d / (4.0 * root);
        }
        let gradient = self.gradient(&rows, (count, width), positive.len())?;
        let mut slopes: Vec<f64> = gradient
            .chunks(width)
            .zip(ways.chunks(width))
            .map(|(gradient, way)| gradient.iter().zip(way).map(|(g, w)| g * w).sum())
            .collect();
        let negative = slopes.split_off(positive.len());
        Ok(Slopes {
            positive: slopes,
            negative,
        })
    }

    /// The gradient of the rows that the anchor is compared with; zeros where there is nothing to learn.
    fn gradient(
        &self,
        rows: &[f64],
        (count, width): (usize, usize),
        positives: usize,
    ) -> Result<Vec<f64>> {
        let device = &Device::Cpu;
        let mut join = Join {
            classes: Some(count.max(2)),
            class_sizes: vec![1; count.max(2)],
            width,
            dtype: DType::F64,
            miner: self.miner.as_ref().map(MinerConfig::build),
            ..Join::default()
        };
        match self.loss.defaults().compares {
            Compares::Distance(name) => {
                join.distance = DistanceConfig::of_name(name).map(|it| it.build());
            }
            Compares::Similarity(name) => {
                join.similarity = SimilarityConfig::of_name(name).map(|it| it.build());
            }
            Compares::Centers | Compares::DistantCenters | Compares::Own => {}
        }
        let loss = self.loss.build(join)?;
        // The second anchor is far from everything, and there for losses that want a pair of each class.
        let second = self.loss.name() == "n_pair";
        let mut anchors = vec![0f64; if second { 2 } else { 1 } * width];
        anchors[0] = 1.0;
        let mut labels = vec![0];
        if second {
            anchors[2 * width - 1] = 1.0;
            labels.push(1);
        }
        let anchors = Tensor::from_vec(anchors, (labels.len(), width), device)?;
        let anchors = Embeddings::new(anchors, labels.clone(), (0..labels.len() as u64).collect())?;
        let others = Var::from_tensor(&Tensor::from_slice(rows, (count, width), device)?)?;
        let mut rng = Seed(7).rng(Purpose::Mining, 0);
        let (evaluated, var) = if self.centers {
            let parameters = loss.parameters();
            let centers = &parameters[0].var;
            centers.set(&others)?;
            let evaluated = loss.evaluate(&Comparison::within(&anchors), &mut rng)?;
            (evaluated, centers.clone())
        } else {
            let labels = (0..count as u32)
                .map(|at| (at + 1).saturating_sub(positives as u32))
                .collect();
            let ids = (100..100 + count as u64).collect();
            let references = Embeddings::new(others.as_tensor().clone(), labels, ids)?;
            let comparison = Comparison::between(&anchors, &references);
            (loss.evaluate(&comparison, &mut rng)?, others)
        };
        let zeros = || vec![0.0; count * width];
        let Some(total) = evaluated.total()? else {
            return Ok(zeros());
        };
        match total.backward()?.get(var.as_tensor()) {
            None => Ok(zeros()),
            Some(gradient) => gradient.flatten_all()?.to_vec1(),
        }
    }
}
