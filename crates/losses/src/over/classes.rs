//! Losses of a row and the centers of all classes.

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{
    Comparison, Embeddings, Error, Evaluated, Loss, Parameter, Purpose, Reducer, Relation, Rng,
    Seed, Terms, position_of_name, shape,
};
use nearfar_kernels::{l2_normalize, log_softmax};

use crate::family::ClassificationLoss;
use crate::over::mining::{Mining, remembers_mining, weights};
use crate::over::reduced;
use crate::{Compares, Defaults, Family, Join, Reads};

/// A classification loss with the class centers that rows are compared with. Its one part is `class`, one term for each
/// anchor.
///
/// Reads classes. A label beyond the number of classes is an error, before anything is computed. Tuples of a miner become
/// weights of the terms: how often a row is in a tuple, over the largest such count; without a tuple all count 1. The miner
/// looks at negative cosines unless it has its own distance.
#[derive(Debug)]
pub struct OverClasses<L> {
    /// What messages call it.
    pub name: &'static str,
    /// The formula.
    pub loss: L,
    /// `(c, d)`; of each its direction counts.
    pub centers: Var,
    /// Which rows count how much.
    pub mining: Mining,
    /// How the terms become one number.
    pub reducer: Reducer,
}

remembers_mining!(OverClasses, ClassificationLoss);

impl<L: ClassificationLoss> OverClasses<L> {
    /// All rows alike, with the loss's own reducer.
    pub fn new(name: &'static str, loss: L, centers: Var) -> Self {
        Self {
            name,
            reducer: loss.reducer(),
            loss,
            centers,
            mining: Mining::default(),
        }
    }

    /// Cosines of rows with the centers: `(n, d) → (n, c)`. The largest is the class that the loss would say.
    ///
    /// # Errors
    /// When the rows have another width than the centers.
    pub fn cosines(&self, rows: &Tensor) -> Result<Tensor> {
        let centers = self.centers.as_tensor();
        shape::rows_of_one_width(self.name, ("embeddings", rows), ("centers", centers))?;
        l2_normalize(rows)?.matmul(&l2_normalize(centers)?.t()?)
    }

    /// The labels of the anchors, each the row of a center.
    fn labels<'a>(&self, comparison: &Comparison<'a>) -> Result<&'a [u32]> {
        let Relation::SameClass = comparison.relation else {
            return Err(comparison.cannot_read(self.name, "classes"))?;
        };
        comparison.check()?;
        let classes = self.centers.dim(0)?;
        let labels = &comparison.anchors.labels;
        match labels.iter().position(|&label| label as usize >= classes) {
            None => Ok(labels),
            Some(row) => Err(Error::Input(format!(
                "{}: row {row} has label {}, but there are {classes} classes, from 0 to {}",
                self.name,
                labels[row],
                classes.saturating_sub(1)
            )))?,
        }
    }

    /// What each anchor counts, where a miner says so.
    fn weights(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Option<Vec<f64>>> {
        if self.mining.takes_all() {
            return Ok(None);
        }
        let own = || {
            let anchors = l2_normalize(&comparison.anchors.vectors.detach())?;
            let references = l2_normalize(&comparison.references.vectors.detach())?;
            anchors.matmul(&references.t()?)?.neg()
        };
        let tuples = self.mining.tuples(self.name, comparison, own, rng)?;
        let within = comparison.anchors.ids == comparison.references.ids;
        Ok(Some(weights(&tuples, comparison.anchors.len(), within)))
    }
}

impl<L: ClassificationLoss> Loss for OverClasses<L> {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let labels = self.labels(comparison)?;
        let Embeddings { vectors, .. } = comparison.anchors;
        let (n, device) = (labels.len(), vectors.device());
        if n == 0 {
            return Ok(vec![Terms::none("class", comparison)]);
        }
        let cosines = self.cosines(vectors)?; // (n, c)
        let classes = cosines.dim(1)?;
        let mut own = vec![0u8; n * classes];
        for (row, &label) in labels.iter().enumerate() {
            own[row * classes + label as usize] = 1;
        }
        let own = Tensor::from_vec(own, (n, classes), device)?;
        let logits = self.loss.logits(&cosines, &own)?;
        let index = Tensor::from_slice(labels, (n, 1), device)?;
        let mut values = log_softmax(&logits)?.gather(&index, 1)?.squeeze(1)?.neg()?; // (n)
        if let Some(weights) = self.weights(comparison, rng)? {
            let weights = Tensor::from_vec(weights, n, &Device::Cpu)?.to_dtype(values.dtype())?;
            values = (values * weights.to_device(device)?)?;
        }
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

/// What the parameter is called.
const CENTERS: &str = "centers";

/// `(c, d)` numbers of a normal distribution, by the parameter's full name and the seed.
fn normal_centers(
    (classes, width): (usize, usize),
    place: &str,
    seed: Seed,
    dtype: DType,
    device: &Device,
) -> Result<Var> {
    let mut rng = seed.rng(
        Purpose::Init,
        position_of_name(&format!("{place}{CENTERS}")),
    );
    let numbers: Vec<f64> = (0..classes * width).map(|_| rng.normal()).collect();
    let centers = Tensor::from_vec(numbers, (classes, width), &Device::Cpu)?;
    Var::from_tensor(&centers.to_dtype(dtype)?.to_device(device)?)
}

pub(crate) const FAMILY: Family = Family::Classes;

pub(crate) fn reads(_: &impl ClassificationLoss) -> Reads {
    Reads::Classes
}

pub(crate) fn defaults(loss: &impl ClassificationLoss) -> Defaults {
    Defaults {
        compares: Compares::Centers,
        reducer: loss.reducer(),
    }
}

pub(crate) fn join<L: ClassificationLoss + 'static>(
    name: &'static str,
    loss: L,
    mut join: Join,
) -> Result<Box<dyn Loss>> {
    join.refuse_scorer(name, "cosines with its class centers")?;
    join.refuse_metric(name)?;
    loss.check()?;
    let classes = join.classes.filter(|&classes| classes > 0).ok_or_else(|| {
        Error::Settings(format!(
            "{name} needs to know how many classes there are; give it data with classes"
        ))
    })?;
    if join.width == 0 {
        Err(Error::Settings(format!(
            "{name} needs to know the width of the embeddings, and it is 0"
        )))?;
    }
    let size = (classes, join.width);
    let centers = normal_centers(size, &join.place, join.seed, join.dtype, &join.device)?;
    Ok(Box::new(OverClasses {
        name,
        reducer: join.reducer.take().unwrap_or_else(|| loss.reducer()),
        mining: join.mining(),
        loss,
        centers,
    }))
}

/// A score of a pair is no target.
pub(crate) fn estimate(_: &impl ClassificationLoss, _: &Tensor) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn check(loss: &impl ClassificationLoss) -> std::result::Result<(), Error> {
    loss.check()
}
