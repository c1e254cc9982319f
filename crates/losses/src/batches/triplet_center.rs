//! Triplets of a row, its class center and the nearest other.

use candle_core::{Result, Tensor, Var};
use nearfar_core::{
    Comparison, Loss, NonNegative, Parameter, Reducer, Rng, Stateful, Terms, shape,
};
use nearfar_kernels::{hinge, squared_euclidean};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, classes};
use crate::over::classes::{CENTERS, labels_within};
use crate::{CenterStart, Compares, Join, Reads};

/// Wants each row nearer to the center of its class than to the nearest other center, by a margin.
///
/// ```text
/// l = [ D(x, c_own) + margin − min_{j ≠ own} D(x, c_j) ]₊,   D(x, c) = ½ ‖x − c‖²
/// ```
///
/// Of several nearest centers the first is taken. With one class there is nothing to learn. Rows are taken as they are: the margin
/// is of their scale.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`, whatever the width. Labels are `0..c`.
///
/// Source: He et al., "Triplet-Center Loss for Multi-View 3D Object Retrieval", CVPR 2018, <https://arxiv.org/abs/1803.06189>,
/// equation 5. The paper adds up over rows, which is `reducer = { sum = {} }`, and adds a softmax: `[[losses]]`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use nearfar_core::{Comparison, Embeddings, Purpose, Seed};
/// use nearfar_losses::{Join, LossConfig};
///
/// let config: LossConfig = toml::from_str("triplet_center = { margin = 5 }").expect("settings");
/// let loss = config.build(Join { classes: Some(2), width: 1, ..Join::default() })?;
/// loss.parameters()[0].var.set(&Tensor::new(&[[0f32], [4.0]], &Device::Cpu)?)?;
/// let rows = Embeddings::labeled(Tensor::new(&[[1f32]], &Device::Cpu)?, vec![0])?;
/// let value = loss.evaluate(&Comparison::within(&rows), &mut Seed(0).rng(Purpose::Mining, 0))?.total()?;
/// assert_eq!(value.expect("a row").to_scalar::<f32>()?, 0.5 + 5.0 - 4.5);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TripletCenter {
    /// The wanted gap, in half squared distances.
    pub margin: NonNegative,
}

impl Default for TripletCenter {
    /// The paper's margin.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(5.0),
        }
    }
}

impl BatchLoss for TripletCenter {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::DistantCenters
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "its class centers")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let size = join.class_centers(name, 1)?;
        let centers = join.centers(join.center_start.unwrap_or(CenterStart::Normal), size)?;
        let formula = Centers {
            name,
            margin: self.margin.get(),
            centers,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Centers {
    name: &'static str,
    margin: f64,
    centers: Var,
}

impl Stateful for Centers {}

impl Formula for Centers {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (rows, centers) = (&comparison.anchors.vectors, self.centers.as_tensor());
        let count = centers.dim(0)?;
        let labels = labels_within(self.name, classes(self.name, comparison)?, count)?;
        shape::rows_of_one_width(self.name, ("embeddings", rows), ("centers", centers))?;
        let n = labels.len();
        if n == 0 || count < 2 {
            return Ok(vec![Terms::none("class", comparison)]);
        }
        let distances = (squared_euclidean(rows, centers)? * 0.5)?; // (n, c)
        let own = Tensor::from_slice(labels, (n, 1), rows.device())?;
        // The nearest other, without a gradient of the choice.
        let host = distances.detach().to_dtype(candle_core::DType::F64)?;
        let nearest: Vec<u32> = host
            .to_vec2::<f64>()?
            .iter()
            .zip(labels)
            .map(|(row, &own)| {
                let mut others = (0..count as u32).filter(|&center| center != own);
                let first = others.next().unwrap_or(0);
                others.fold(first, |best, center| {
                    match row[center as usize] < row[best as usize] {
                        true => center,
                        false => best,
                    }
                })
            })
            .collect();
        let nearest = Tensor::from_slice(&nearest, (n, 1), rows.device())?;
        let gap = (distances.gather(&own, 1)? - distances.gather(&nearest, 1)?)?;
        let values = hinge(&(gap.squeeze(1)? + self.margin)?)?;
        let anchors = (0..n as u32).collect();
        Ok(vec![Terms::of_anchors(
            "class", values, anchors, comparison,
        )?])
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter {
            name: CENTERS.into(),
            var: self.centers.clone(),
            trained: true,
        }]
    }
}
