//! What rows or class centers cost by themselves, whatever their classes are.

use std::num::NonZeroUsize;

use candle_core::{DType, Result, Tensor};
use nearfar_core::{Error, Positive, shape};
use nearfar_kernels::{absolute, l2_normalize, safe_sqrt, squared_euclidean};
use serde::{Deserialize, Serialize};

/// What rows cost by themselves: embeddings, or class centers. Rows are `x_i`, `(n, d)`.
///
/// A loss is given one with [`Regularized`](crate::Regularized), or in a run file with `embedding_regularizer`, `weight_regularizer` and
/// `head_regularizer`. All are means over rows but `sparse_centers` and `orthonormal`. Where a root or a logarithm has no derivative it
/// is 0.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::Regularizer;
///
/// let rows = Tensor::new(&[[3f64, 4.0], [0.0, 0.0]], &Device::Cpu)?;
/// let lp: Regularizer = toml::from_str("lp = {}").expect("settings");
/// assert_eq!(lp.value(&rows)?.expect("two rows").to_scalar::<f64>()?, 2.5);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Regularizer {
    /// `‖x‖_p^power`: short rows. Agrees with `LpRegularizer` of pytorch-metric-learning 2.9.
    Lp {
        /// Which norm.
        #[serde(default = "two")]
        p: Positive,
        /// What the norm is raised to.
        #[serde(default = "one")]
        power: Positive,
    },
    /// `|Σ_k x_k|`: the coordinates of a row add up to 0. Agrees with `ZeroMeanRegularizer` of pytorch-metric-learning 2.9.
    ZeroMean {},
    /// `¼ (‖w‖² − mean ‖w‖²)²`: centers of one length, so that no class is preferred (Wu et al., "Deep Face Recognition with Center
    /// Invariant Loss", 2017). Agrees with `CenterInvariantRegularizer` of pytorch-metric-learning 2.9.
    CenterInvariant {},
    /// The cosine of each row with the nearest other: centers far apart (Zhao et al., "RegularFace", CVPR 2019). The choice of the
    /// other has no gradient. Agrees with `RegularFaceRegularizer` of pytorch-metric-learning 2.9.
    RegularFace {},
    /// `Σ ‖w − w'‖` over the pairs of centers of one class, over twice their number, at length 1: centers that are not needed meet
    /// (Qian et al., "SoftTriple", ICCV 2019). Centers that have met have no gradient. Agrees with `SparseCentersRegularizer` of
    /// pytorch-metric-learning 2.9, whose gradient there is not finite.
    SparseCenters {
        /// How many centers a class has; those of one class lie together.
        centers: NonZeroUsize,
    },
    /// `(‖x‖ − mean ‖x‖)²`: rows of one length.
    Spherical {},
    /// `−log min_{j≠i} ‖x_i − x_j‖` at length 1: rows spread over the sphere (Sablayrolles et al., "Spreading vectors for similarity
    /// search", ICLR 2019). Rows that coincide with another cost as much as at a distance of 1e-8, and have no gradient.
    Koleo {},
    /// `½ Σ_ij (x_i · x_j − [i = j])²`, a sum: rows of length 1 at right angles. Of a linear map `L` this is `½ ‖LᵀL − I‖²` but for a
    /// constant, half of what the map has fewer rows than columns, and keeps a learned metric near the Euclidean one (Shi et al.,
    /// "Embedding Deep Metric for Person Re-identification", ECCV 2016).
    Orthonormal {},
}

const fn one() -> Positive {
    Positive::literal(1.0)
}

const fn two() -> Positive {
    Positive::literal(2.0)
}

impl Regularizer {
    /// Every regularizer with its defaults.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Lp {
                p: two(),
                power: one(),
            },
            Self::ZeroMean {},
            Self::CenterInvariant {},
            Self::RegularFace {},
            Self::SparseCenters {
                centers: NonZeroUsize::MIN,
            },
            Self::Spherical {},
            Self::Koleo {},
            Self::Orthonormal {},
        ]
    }

    /// Its name in a run file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lp { .. } => "lp",
            Self::ZeroMean {} => "zero_mean",
            Self::CenterInvariant {} => "center_invariant",
            Self::RegularFace {} => "regular_face",
            Self::SparseCenters { .. } => "sparse_centers",
            Self::Spherical {} => "spherical",
            Self::Koleo {} => "koleo",
            Self::Orthonormal {} => "orthonormal",
        }
    }

    /// The cost of each row, `(n)`; of [`SparseCenters`](Self::SparseCenters) that of each pair of centers of one class. None where
    /// there is nothing that costs: no row, one row without another, no pair.
    ///
    /// # Errors
    /// When `rows` is no matrix, or its rows are no multiple of the centers of a class.
    pub fn terms(&self, rows: &Tensor) -> Result<Option<Tensor>> {
        let (n, _) = shape::matrix(self.name(), ("rows", rows))?;
        let others = matches!(self, Self::RegularFace {} | Self::Koleo {});
        if n == 0 || (others && n == 1) {
            return Ok(None);
        }
        Ok(Some(match self {
            Self::Lp { p, power } => lp(rows, p.get(), power.get())?,
            Self::ZeroMean {} => absolute(&rows.sum(1)?)?,
            Self::CenterInvariant {} => {
                let squares = rows.sqr()?.sum(1)?;
                squares
                    .broadcast_sub(&squares.mean_keepdim(0)?)?
                    .sqr()?
                    .affine(0.25, 0.0)?
            }
            Self::RegularFace {} => {
                let unit = l2_normalize(rows)?;
                let cosines = unit.matmul(&unit.t()?)?; // (n, n)
                let nearest = (cosines.detach() - (eye(n, rows)? * 4.0)?)?.argmax_keepdim(1)?;
                cosines.gather(&nearest, 1)?.squeeze(1)?
            }
            Self::SparseCenters { centers } => {
                return distances_within_classes(rows, centers.get());
            }
            Self::Spherical {} => {
                let lengths = safe_sqrt(&rows.sqr()?.sum(1)?)?;
                lengths.broadcast_sub(&lengths.mean_keepdim(0)?)?.sqr()?
            }
            Self::Koleo {} => {
                let unit = l2_normalize(rows)?;
                let squares = squared_euclidean(&unit, &unit)?;
                let nearest = (squares.detach() + (eye(n, rows)? * 8.0)?)?.argmin_keepdim(1)?;
                let nearest = squares.gather(&nearest, 1)?.squeeze(1)?;
                // −log d = −½ log d²; what coincides is cut off from the graph.
                let apart = nearest.gt(1e-16)?;
                let constant = nearest.ones_like()?.affine(1e-16, 0.0)?;
                apart
                    .where_cond(&nearest, &constant)?
                    .log()?
                    .affine(-0.5, 0.0)?
            }
            Self::Orthonormal {} => {
                let apart = (rows.matmul(&rows.t()?)? - eye(n, rows)?)?;
                apart.sqr()?.sum(1)?.affine(0.5, 0.0)?
            }
        }))
    }

    /// The mean of the terms; of [`SparseCenters`](Self::SparseCenters) half of it, of [`Orthonormal`](Self::Orthonormal) the sum.
    ///
    /// # Errors
    /// As [`terms`](Self::terms).
    pub fn value(&self, rows: &Tensor) -> Result<Option<Tensor>> {
        let Some(terms) = self.terms(rows)? else {
            return Ok(None);
        };
        Ok(Some(match self {
            Self::SparseCenters { .. } => (terms.mean_all()? * 0.5)?,
            Self::Orthonormal {} => terms.sum_all()?,
            _ => terms.mean_all()?,
        }))
    }
}

/// The identity matrix, of the rows' type.
fn eye(n: usize, rows: &Tensor) -> Result<Tensor> {
    Tensor::eye(n, DType::F64, rows.device())?.to_dtype(rows.dtype())
}

/// `‖x‖_p^power` of each row; a row of zeros has no gradient.
fn lp(rows: &Tensor, p: f64, power: f64) -> Result<Tensor> {
    let (sum, root) = match p {
        1.0 => (absolute(rows)?.sum(1)?, power),
        2.0 => (rows.sqr()?.sum(1)?, power / 2.0),
        p => {
            let size = absolute(rows)?;
            let zero = size.eq(0f64)?;
            let raised = (&size + zero.to_dtype(size.dtype())?)?.powf(p)?;
            let raised = zero.where_cond(&size.zeros_like()?, &raised)?;
            (raised.sum(1)?, power / p)
        }
    };
    if root == 1.0 {
        return Ok(sum);
    }
    if root == 0.5 {
        return safe_sqrt(&sum);
    }
    let zero = sum.eq(0f64)?;
    let raised = (&sum + zero.to_dtype(sum.dtype())?)?.powf(root)?;
    zero.where_cond(&sum.zeros_like()?, &raised)
}

/// Distances between the centers of each class at length 1, one for each pair, `(c · k (k − 1) / 2)`; none where `k` is 1. Centers
/// `(c · k, d)`, those of one class together.
pub(crate) fn distances_within_classes(centers: &Tensor, k: usize) -> Result<Option<Tensor>> {
    let (all, d) = shape::matrix("sparse_centers", ("centers", centers))?;
    if k == 0 || all % k != 0 {
        Err(Error::Shape(format!(
            "sparse_centers: there are {all} centers, which are not {k} for each class"
        )))?;
    }
    if k == 1 || all == 0 {
        return Ok(None);
    }
    let unit = l2_normalize(centers)?.reshape((all / k, k, d))?;
    let cosines = unit.matmul(&unit.transpose(1, 2)?.contiguous()?)?; // (c, k, k)
    let cosines = cosines.reshape((all / k, k * k))?;
    let above: Vec<u32> = (0..k)
        .flat_map(|row| (row + 1..k).map(move |column| (row * k + column) as u32))
        .collect();
    let above = Tensor::from_slice(&above, above.len(), centers.device())?;
    let squares = cosines.index_select(&above, 1)?.affine(-2.0, 2.0)?;
    let squares = squares.flatten_all()?;
    // What is left of centers that have met is rounding.
    let rounding = if centers.dtype() == DType::F64 {
        1e-14
    } else {
        1e-6
    };
    let apart = squares.gt(rounding)?;
    Ok(Some(safe_sqrt(
        &apart.where_cond(&squares, &squares.zeros_like()?)?,
    )?))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use nearfar_kernels::test_util::{check_gradient, noise};

    use super::*;

    fn value(regularizer: &Regularizer, rows: &[[f64; 2]]) -> Result<f64> {
        let rows = Tensor::from_slice(rows.as_flattened(), (rows.len(), 2), &Device::Cpu)?;
        regularizer.value(&rows)?.expect("there is one").to_scalar()
    }

    #[test]
    fn each_is_the_number_on_paper() -> Result<()> {
        let rows = [[3.0, 4.0], [0.0, -1.0]];
        let lp = |p: f64, power: f64| Regularizer::Lp {
            p: Positive::literal(p),
            power: Positive::literal(power),
        };
        assert_eq!(value(&lp(2.0, 1.0), &rows)?, 3.0);
        assert_eq!(value(&lp(1.0, 1.0), &rows)?, 4.0);
        assert_eq!(value(&lp(2.0, 2.0), &rows)?, 13.0);
        assert!((value(&lp(3.0, 1.0), &rows)? - (91f64.cbrt() + 1.0) / 2.0).abs() < 1e-12);
        assert_eq!(value(&Regularizer::ZeroMean {}, &rows)?, 4.0);
        assert_eq!(value(&Regularizer::CenterInvariant {}, &rows)?, 36.0); // ¼ · 12²
        assert_eq!(value(&Regularizer::Spherical {}, &rows)?, 4.0);
        assert!((value(&Regularizer::RegularFace {}, &rows)? + 0.8).abs() < 1e-15);
        let distance = (2.0f64 + 1.6).sqrt();
        assert!((value(&Regularizer::Koleo {}, &rows)? + distance.ln()).abs() < 1e-12);
        let sparse = Regularizer::SparseCenters {
            centers: NonZeroUsize::new(2).expect("2"),
        };
        assert!((value(&sparse, &rows)? - distance / 2.0).abs() < 1e-12);
        assert_eq!(value(&Regularizer::Orthonormal {}, &rows)?, 304.0); // ½ (24² + 2 · 4² + 0²)
        assert_eq!(
            value(&Regularizer::Orthonormal {}, &[[0.6, 0.8], [-0.8, 0.6]])?,
            0.0
        );
        Ok(())
    }

    #[test]
    fn gradients_are_those_of_the_formula_and_finite_everywhere() -> Result<()> {
        let mut all = Regularizer::all();
        all.push(Regularizer::SparseCenters {
            centers: NonZeroUsize::new(3).expect("3"),
        });
        all.push(Regularizer::Lp {
            p: Positive::literal(3.0),
            power: Positive::literal(1.5),
        });
        for regularizer in all {
            let rows = noise((6, 4), 3)?.to_dtype(DType::F64)?;
            if regularizer.value(&rows)?.is_some() {
                check_gradient(
                    |x| Ok(regularizer.value(&x[0])?.expect("six rows")),
                    std::slice::from_ref(&rows),
                    1e-6,
                )?;
            }
            for dtype in [DType::F32, DType::F64] {
                for rows in [rows.zeros_like()?, rows.ones_like()?, (&rows * 1e-30)?] {
                    let rows = Var::from_tensor(&rows.to_dtype(dtype)?)?;
                    let Some(value) = regularizer.value(&rows)? else {
                        continue;
                    };
                    let gradients = value.backward()?;
                    let gradient = gradients.get(&rows).expect("it depends on its rows");
                    let gradient = gradient.to_dtype(DType::F64)?.flatten_all()?;
                    let finite = gradient.to_vec1::<f64>()?.iter().all(|x| x.is_finite());
                    assert!(finite, "{regularizer:?}: {gradient}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn it_is_read_and_written_by_name() {
        for regularizer in Regularizer::all() {
            let written = toml::to_string(&regularizer).expect("settings are tables");
            assert!(written.contains(regularizer.name()), "{written}");
            let again: Regularizer = toml::from_str(&written).expect("what was written");
            assert_eq!(again, regularizer);
        }
    }
}
