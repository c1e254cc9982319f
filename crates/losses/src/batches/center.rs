//! Distances to the centers of classes.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{
    Comparison, Error, Fraction, Loss, NonNegative, Parameter, Reducer, Rng, Stateful, Terms, shape,
};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, classes};
use crate::over::classes::{CENTERS, labels_within};
use crate::{CenterStart, Compares, Join, Reads};

/// Wants each row near the center of its class. It is added to a loss that keeps classes apart, such as a softmax.
///
/// ```text
/// l = ½ weight ‖x − c_own‖²
/// ```
///
/// Alone it is least where all rows are one point. The centers `(c, d)` are state and follow the rows, or with `learnable` are
/// parameters of the loss with a gradient. As state, before each batch
///
/// ```text
/// c_j ← c_j − rate · Σ_{i of class j} (c_j − x_i) / (1 + n_j)
/// ```
///
/// where `n_j` rows of the batch are of class `j`. They start from a normal distribution by name and seed. Labels are `0..c`.
///
/// Source: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016, equations 2 and 4. The
/// paper adds up over rows, which is `reducer = { sum = {} }`, and moves the centers after the step.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use nearfar_core::{Comparison, Embeddings, Purpose, Seed};
/// use nearfar_losses::{Join, LossConfig};
///
/// let config: LossConfig = toml::from_str("center = { weight = 1, rate = 1 }").expect("settings");
/// let mut loss = config.build(Join { classes: Some(1), width: 1, ..Join::default() })?;
/// loss.restore(&[("centers".to_owned(), Tensor::new(&[[0f32]], &Device::Cpu)?)].into())?;
/// let rows = Embeddings::labeled(Tensor::new(&[[3f32]], &Device::Cpu)?, vec![0])?;
/// loss.absorb(&Comparison::within(&rows))?; // To 0 + 3/2.
/// let value = loss.evaluate(&Comparison::within(&rows), &mut Seed(0).rng(Purpose::Mining, 0))?.total()?;
/// assert_eq!(value.expect("a row").to_scalar::<f32>()?, 0.5 * 1.5 * 1.5);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Center {
    /// What the loss counts; λ in the paper.
    pub weight: NonNegative,
    /// How far centers follow their rows; α in the paper.
    pub rate: Fraction,
    /// Whether centers are trained, in place of following their rows.
    pub learnable: bool,
}

impl Default for Center {
    /// The paper's values.
    fn default() -> Self {
        Self {
            weight: NonNegative::literal(0.003),
            rate: Fraction::literal(0.5),
            learnable: false,
        }
    }
}

impl BatchLoss for Center {
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
            settings: self.clone(),
            centers,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Centers {
    name: &'static str,
    settings: Center,
    centers: Var,
}

impl Centers {
    fn labels<'a>(&self, comparison: &Comparison<'a>) -> Result<&'a [u32]> {
        let labels = labels_within(
            self.name,
            classes(self.name, comparison)?,
            self.centers.dims()[0],
        )?;
        let rows = ("embeddings", &comparison.anchors.vectors);
        shape::rows_of_one_width(self.name, rows, ("centers", self.centers.as_tensor()))?;
        Ok(labels)
    }
}

impl Formula for Centers {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let labels = self.labels(comparison)?;
        if labels.is_empty() {
            return Ok(vec![Terms::none("class", comparison)]);
        }
        let rows = &comparison.anchors.vectors;
        let index = Tensor::from_slice(labels, labels.len(), rows.device())?;
        let own = match self.settings.learnable {
            true => self.centers.index_select(&index, 0)?,
            false => self.centers.as_detached_tensor().index_select(&index, 0)?,
        };
        let squares = (rows - own)?.sqr()?.sum(1)?;
        let values = (squares * (0.5 * self.settings.weight.get()))?;
        let anchors = (0..labels.len() as u32).collect();
        Ok(vec![Terms::of_anchors(
            "class", values, anchors, comparison,
        )?])
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        let labels = self.labels(comparison)?;
        if self.settings.learnable || labels.is_empty() {
            return Ok(());
        }
        let (c, d) = self.centers.dims2()?;
        let (dtype, device) = (self.centers.dtype(), self.centers.device());
        let rows = comparison.anchors.vectors.detach().to_dtype(DType::F64)?;
        let rows = rows.to_device(&Device::Cpu)?.to_vec2::<f64>()?;
        let mut centers = self.centers.as_detached_tensor().to_dtype(DType::F64)?;
        centers = centers.to_device(&Device::Cpu)?;
        let mut centers = centers.to_vec2::<f64>()?;
        let mut sums: BTreeMap<u32, (f64, Vec<f64>)> = BTreeMap::new();
        for (row, &label) in rows.iter().zip(labels) {
            let (count, sum) = sums.entry(label).or_insert_with(|| (0.0, vec![0.0; d]));
            *count += 1.0;
            let center = &centers[label as usize];
            for ((sum, x), c) in sum.iter_mut().zip(row).zip(center) {
                *sum += c - x;
            }
        }
        for (label, (count, sum)) in sums {
            for (c, sum) in centers[label as usize].iter_mut().zip(sum) {
                *c -= self.settings.rate.get() * sum / (1.0 + count);
            }
        }
        let centers = Tensor::from_vec(centers.concat(), (c, d), &Device::Cpu)?;
        self.centers
            .set(&centers.to_dtype(dtype)?.to_device(device)?)
    }

    fn parameters(&self) -> Vec<Parameter> {
        match self.settings.learnable {
            false => Vec::new(),
            true => vec![Parameter {
                name: CENTERS.into(),
                var: self.centers.clone(),
                trained: true,
            }],
        }
    }
}

impl Stateful for Centers {
    fn state(&self) -> BTreeMap<String, Tensor> {
        match self.settings.learnable {
            true => BTreeMap::new(),
            false => [(CENTERS.to_owned(), self.centers.as_detached_tensor())].into(),
        }
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        if self.settings.learnable {
            return crate::prefix::refuse_others(state, |_| false);
        }
        crate::prefix::refuse_others(state, |name| name == CENTERS)?;
        let centers = state.get(CENTERS).ok_or_else(|| {
            Error::Input(format!("there is no state `{CENTERS}` for {}", self.name))
        })?;
        shape::same(
            self.name,
            ("state", centers),
            ("centers", self.centers.as_tensor()),
        )?;
        let centers = centers.to_dtype(self.centers.dtype())?;
        self.centers.set(&centers.to_device(self.centers.device())?)
    }
}
