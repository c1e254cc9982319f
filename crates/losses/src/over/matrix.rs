//! Losses of the whole matrix of distances, which take their tuples themselves.

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, Distance, Error, Evaluated, Loss, Part, Reducer, Rng, Stateful, Terms,
};

use crate::Join;
use crate::family::BatchLoss;
use crate::over::counting::Counted;
use crate::over::known::{host, known_from};
use crate::over::reduced;

/// A formula of a matrix of distances. No row or column is missing: without any there is no term.
pub(crate) trait MatrixLoss: BatchLoss + Clone + 'static {
    /// The names of its parts.
    fn parts(&self) -> &'static [&'static str];
    /// Whether the batch says what it must, before anything is computed.
    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()>;
    /// Its terms.
    fn terms(&self, view: &View<'_>, rng: &mut Rng) -> Result<Vec<Terms>>;
    /// The same reduced, without a list of tuples; none where that is not known how for this reducer.
    fn evaluate(&self, _: &View<'_>, _: &Reducer) -> Result<Option<Evaluated>> {
        Ok(None)
    }
}

/// What such a formula sees.
pub(crate) struct View<'a> {
    /// What messages call the loss.
    pub(crate) name: &'static str,
    /// Distances of anchors and references, or negative similarities: `(n, m)`.
    pub(crate) matrix: Tensor,
    /// The rows and what relates them.
    pub(crate) comparison: &'a Comparison<'a>,
}

impl View<'_> {
    /// `(n, m)`
    pub(crate) fn size(&self) -> (usize, usize) {
        (
            self.comparison.anchors.len(),
            self.comparison.references.len(),
        )
    }

    /// The distances on the host, row-major.
    pub(crate) fn host(&self) -> Result<Vec<f64>> {
        host(&self.matrix)
    }

    /// Numbers of the host as a tensor like the distances.
    pub(crate) fn tensor(
        &self,
        numbers: Vec<f64>,
        shape: impl Into<candle_core::Shape>,
    ) -> Result<Tensor> {
        Tensor::from_vec(numbers, shape, &candle_core::Device::Cpu)?
            .to_dtype(self.matrix.dtype())?
            .to_device(self.matrix.device())
    }

    /// A setting in the precision of the distances, so that a hinge is at the same place as in tensors.
    pub(crate) fn rounded(&self, setting: f64) -> f64 {
        rounded(&self.matrix, setting)
    }
}

/// A setting in the precision of a tensor.
pub(crate) fn rounded(like: &Tensor, setting: f64) -> f64 {
    match like.dtype() {
        candle_core::DType::F64 => setting,
        _ => f64::from(setting as f32),
    }
}

/// A counted sum as a part; none for reducers that want more than sums and counts.
pub(crate) fn counted_part(
    name: &'static str,
    x: &Tensor,
    counted: Counted,
    reducer: &Reducer,
) -> Result<Option<Part>> {
    let divisor = match reducer {
        Reducer::Mean {} => counted.terms,
        Reducer::AvgNonzero {} => counted.active,
        Reducer::Sum {} => usize::from(counted.terms > 0),
        _ => return Ok(None),
    };
    let value = if divisor == 0 {
        None
    } else {
        let scale = 1.0 / divisor as f64;
        let gradient = counted.gradient.into_iter().map(|it| it * scale).collect();
        Some(known_from(x, counted.sum * scale, gradient)?)
    };
    Ok(Some(Part {
        name,
        value,
        terms: counted.terms,
        active: counted.active,
    }))
}

/// Such a formula with its distance.
#[derive(Debug)]
struct OverMatrix<L> {
    name: &'static str,
    loss: L,
    distance: Box<dyn Distance>,
    reducer: Reducer,
}

impl<L> Stateful for OverMatrix<L> {}

impl<L: MatrixLoss> OverMatrix<L> {
    fn view<'a>(&self, comparison: &'a Comparison<'a>) -> Result<Option<View<'a>>> {
        self.loss.accepts(self.name, comparison)?;
        if comparison.anchors.is_empty() || comparison.references.is_empty() {
            return Ok(None);
        }
        let (anchors, references) = (&comparison.anchors.vectors, &comparison.references.vectors);
        Ok(Some(View {
            name: self.name,
            matrix: self.distance.matrix(anchors, references)?,
            comparison,
        }))
    }

    fn none(&self, comparison: &Comparison<'_>) -> Vec<Terms> {
        let parts = self.loss.parts().iter();
        parts.map(|part| Terms::none(part, comparison)).collect()
    }
}

impl<L: MatrixLoss> Loss for OverMatrix<L> {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        let Some(view) = self.view(comparison)? else {
            return reduced(&self.none(comparison), &self.reducer);
        };
        if let Some(evaluated) = self.loss.evaluate(&view, &self.reducer)? {
            return Ok(evaluated);
        }
        reduced(&self.loss.terms(&view, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        match self.view(comparison)? {
            None => Ok(self.none(comparison)),
            Some(view) => self.loss.terms(&view, rng),
        }
    }
}

/// Refuses a miner for a loss that takes its tuples itself.
pub(crate) fn refuse_miner(name: &str, join: &Join) -> Result<()> {
    if join.miner.is_some() || join.miner_distance.is_some() {
        Err(Error::Settings(format!(
            "{name} takes its tuples itself; leave `miner` and `miner_distance` out"
        )))?;
    }
    Ok(())
}

pub(crate) fn join<L: MatrixLoss>(
    name: &'static str,
    loss: &L,
    mut join: Join,
) -> Result<Box<dyn Loss>> {
    join.refuse_scorer(name, "distances of rows")?;
    refuse_miner(name, &join)?;
    let distance = join.distance(name, loss.compares().name())?;
    Ok(Box::new(OverMatrix {
        name,
        loss: loss.clone(),
        distance,
        reducer: join.reducer.take().unwrap_or_else(|| loss.reducer()),
    }))
}
