//! Losses of a row and the centers of all classes.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{
    Comparison, Error, Evaluated, Fraction, Loss, Parameter, Reducer, Relation, Rng, Similarity,
    Terms, shape,
};
use nearfar_kernels::{Base, Count, Fold, Rows, l2_normalize, pair_loss};

use crate::family::{ClassificationLoss, Head};
use crate::over::centers::ToCenters;
use crate::over::mining::{Mining, remembers_mining, weights};
use crate::over::reduced;
use crate::over::rows::{Way, named};
use crate::{Compares, Defaults, Family, Join, Reads};

/// A classification loss with the class centers that rows are compared with. Its one part is `class`, one term for each
/// anchor, where the loss says nothing else.
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
    /// `(c · k, d)`, `k` for each class; of each its direction counts, where the loss does not say otherwise.
    pub centers: Var,
    /// What rows and centers are compared by; cosines where there is none.
    pub similarity: Option<Box<dyn Similarity>>,
    /// How many training samples each class has, for a loss that asks.
    pub class_sizes: Vec<u64>,
    /// How much of each label is spread over all classes.
    pub label_smoothing: Fraction,
    /// The super-class of each class, within which labels are smoothed; empty where they are smoothed over all.
    pub super_classes: Vec<u32>,
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
            similarity: None,
            class_sizes: Vec::new(),
            label_smoothing: Fraction::literal(0.0),
            super_classes: Vec::new(),
            mining: Mining::default(),
        }
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        let centers = self.centers.dims().first().copied().unwrap_or(0);
        centers / self.loss.centers_per_class().max(1)
    }

    /// What rows `(n, d)` and the centers are to one another. Without labels nobody's class is known.
    ///
    /// # Errors
    /// When the rows have another width than the centers, or a label has no center.
    pub fn to_centers(&self, rows: &Tensor, labels: &[u32]) -> Result<ToCenters> {
        let centers = self.centers.as_tensor();
        shape::rows_of_one_width(self.name, ("embeddings", rows), ("centers", centers))?;
        let compared = match &self.similarity {
            Some(similarity) => similarity.matrix(rows, centers)?,
            None if self.loss.keeps_centers_unit() => l2_normalize(rows)?.matmul(&centers.t()?)?,
            None => l2_normalize(rows)?.matmul(&l2_normalize(centers)?.t()?)?,
        };
        let k = self.loss.centers_per_class();
        Ok(ToCenters {
            class_sizes: self.class_sizes.clone(),
            label_smoothing: self.label_smoothing,
            super_classes: self.super_classes.clone(),
            ..ToCenters::of(compared, rows, centers, k, labels)?
        })
    }

    /// The logits of rows whose class is not known: `(n, d) → (n, c)`. The largest is the class that the loss would say.
    ///
    /// # Errors
    /// When the rows have another width than the centers.
    pub fn logits(&self, rows: &Tensor) -> Result<Tensor> {
        self.loss.logits(&self.to_centers(rows, &[])?)
    }

    /// The labels of the anchors, each the row of a center.
    fn labels<'a>(&self, comparison: &Comparison<'a>) -> Result<&'a [u32]> {
        let Relation::SameClass = comparison.relation else {
            return Err(comparison.cannot_read(self.name, "classes"))?;
        };
        comparison.check()?;
        labels_within(self.name, &comparison.anchors.labels, self.classes())
    }

    /// What each anchor counts, where a miner says so.
    fn weights(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Option<Tensor>> {
        if self.mining.takes_all() {
            return Ok(None);
        }
        let own = || {
            let anchors = l2_normalize(&comparison.anchors.vectors.detach())?;
            let references = l2_normalize(&comparison.references.vectors.detach())?;
            anchors.matmul(&references.t()?)?.neg()
        };
        let tuples = self.mining.tuples(self.name, comparison, own, rng)?;
        let within =
            comparison.anchors.ids == comparison.references.ids && !self.loss.weighs_anchors();
        let n = comparison.anchors.len();
        let vectors = &comparison.anchors.vectors;
        let weights = Tensor::from_vec(weights(&tuples, n, within), n, &Device::Cpu)?;
        let weights = weights.to_dtype(vectors.dtype())?;
        Ok(Some(weights.to_device(vectors.device())?))
    }
}

impl<L: ClassificationLoss> OverClasses<L> {
    /// The parts by one row, or one center, at a time; none where only the plain way serves.
    fn by_row(&self, comparison: &Comparison<'_>) -> Result<Option<Evaluated>> {
        let labels = self.labels(comparison)?;
        let (vectors, centers) = (&comparison.anchors.vectors, self.centers.as_tensor());
        let host = |x: &Tensor| x.dtype() == DType::F32 && x.device().is_cpu();
        if !self.mining.takes_all() || labels.is_empty() || !host(vectors) || !host(centers) {
            return Ok(None);
        }
        shape::rows_of_one_width(self.name, ("embeddings", vectors), ("centers", centers))?;
        let Some(by_row) = self.loss.by_row(&Head {
            label_smoothing: self.label_smoothing.get() as f32,
            class_sizes: &self.class_sizes,
        }) else {
            return Ok(None);
        };
        let (form, unit) = match &self.similarity {
            None => (Base::Dot.into(), by_row.unit),
            Some(similarity) => match Way::of_similarity(similarity.form()) {
                Some(way) => (way.form, [way.unit_rows; 2]),
                None => return Ok(None),
            },
        };
        let classes = self.classes();
        let of_centers: Vec<u32> = (0..centers.dim(0)?)
            .map(|center| (center / self.loss.centers_per_class()) as u32)
            .collect();
        let mut rows = Rows {
            anchors: vectors,
            references: centers,
            anchor_groups: labels,
            reference_groups: &of_centers,
            own: &[],
            unit,
        };
        if by_row.of_centers {
            (rows.anchors, rows.references) = (centers, vectors);
            (rows.anchor_groups, rows.reference_groups) = (&of_centers, labels);
            rows.unit = [unit[1], unit[0]];
        }
        let divide_by = match &self.reducer {
            Reducer::Mean {} => Count::Terms,
            Reducer::AvgNonzero {} => Count::Active,
            Reducer::Sum {} => Count::One,
            Reducer::Divisor {} if by_row.of_centers => Count::One,
            _ => return Ok(None),
        };
        let fold = Fold {
            weights: None,
            divide_by,
        };
        let mut loss = pair_loss(form, &rows, &*by_row.functional, &fold)?;
        if self.reducer == (Reducer::Divisor {}) {
            // The number of classes that are there, and that of all.
            let present: BTreeSet<u32> = labels.iter().copied().collect();
            for (part, divisor) in loss.parts.iter_mut().zip([present.len(), classes]) {
                let value = part.value.take();
                part.value = value.map(|it| it / divisor as f64).transpose()?;
            }
        }
        let mut evaluated = named(self.loss.parts(), loss.parts);
        let beside = self.loss.beside(centers, comparison)?;
        evaluated
            .parts
            .extend(reduced(&beside, &self.reducer)?.parts);
        Ok(Some(evaluated))
    }
}

/// Labels that each have a class, or an error with both numbers.
pub(crate) fn labels_within<'a>(
    name: &str,
    labels: &'a [u32],
    classes: usize,
) -> Result<&'a [u32]> {
    match labels.iter().position(|&label| label as usize >= classes) {
        None => Ok(labels),
        Some(row) => Err(Error::Input(format!(
            "{name}: row {row} has label {}, but there are {classes} classes, from 0 to {}",
            labels[row],
            classes.saturating_sub(1)
        )))?,
    }
}

impl<L: ClassificationLoss> Loss for OverClasses<L> {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        if let Some(evaluated) = self.by_row(comparison)? {
            return Ok(evaluated);
        }
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let labels = self.labels(comparison)?;
        if labels.is_empty() {
            let parts = self.loss.parts().iter();
            return Ok(parts.map(|part| Terms::none(part, comparison)).collect());
        }
        let to = self.to_centers(&comparison.anchors.vectors, labels)?;
        let weights = self.weights(comparison, rng)?;
        self.loss.terms(&to, weights.as_ref(), comparison)
    }

    fn absorb(&mut self, _: &Comparison<'_>) -> Result<()> {
        if !self.loss.keeps_centers_unit() {
            return Ok(());
        }
        self.centers
            .set(&l2_normalize(&self.centers.as_detached_tensor())?)
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
pub(crate) const CENTERS: &str = "centers";

pub(crate) const FAMILY: Family = Family::Classes;

pub(crate) fn reads(_: &impl ClassificationLoss) -> Reads {
    Reads::Classes
}

pub(crate) fn defaults(loss: &impl ClassificationLoss) -> Defaults {
    Defaults {
        compares: loss.compares(),
        reducer: loss.reducer(),
    }
}

pub(crate) fn join<L: ClassificationLoss + 'static>(
    name: &'static str,
    loss: L,
    mut join: Join,
) -> Result<Box<dyn Loss>> {
    join.refuse_scorer(name, "its class centers")?;
    let similarity = match loss.compares() {
        Compares::Centers | Compares::DistantCenters => {
            join.refuse_metric(name)?;
            None
        }
        usual => Some(join.similarity(name, usual.name())?),
    };
    loss.check()?;
    let size = join.class_centers(name, loss.centers_per_class())?;
    let label_smoothing = join.label_smoothing;
    if label_smoothing.get() > 0.0 && !loss.is_softmax() {
        Err(Error::Settings(format!(
            "{name} has no softmax whose labels could be smoothed; leave `label_smoothing` out"
        )))?;
    }
    let told = join.super_classes.len();
    if told > 0 && told != size.0 / loss.centers_per_class() {
        Err(Error::Settings(format!(
            "{name} has {} classes, and super-classes of {told} are told",
            size.0 / loss.centers_per_class()
        )))?;
    }
    if loss.wants_class_sizes() && join.class_sizes.len() != size.0 / loss.centers_per_class() {
        Err(Error::Settings(format!(
            "{name} needs to know how many samples each of the {} classes has, and {} are told",
            size.0 / loss.centers_per_class(),
            join.class_sizes.len()
        )))?;
    }
    let start = join.center_start.unwrap_or_else(|| loss.centers());
    let centers = join.centers(start, size)?;
    Ok(Box::new(OverClasses {
        name,
        reducer: join.reducer.take().unwrap_or_else(|| loss.reducer()),
        mining: join.mining(),
        class_sizes: std::mem::take(&mut join.class_sizes),
        label_smoothing,
        super_classes: std::mem::take(&mut join.super_classes),
        similarity,
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

/// Whether a miner can choose for it.
pub(crate) fn takes_miner(_: &impl ClassificationLoss) -> bool {
    true
}

/// Whether a scorer of pairs can give it what it learns from.
pub(crate) fn takes_scorer(_: &impl ClassificationLoss) -> bool {
    false
}
