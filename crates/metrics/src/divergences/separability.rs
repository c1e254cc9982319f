//! How well classes can be told apart.

use std::collections::BTreeMap;

use nearfar_core::Error;

use super::Gaussian;

/// How well each pair of classes can be told apart: the squared Jeffries–Matusita distance of the normal distributions that
/// fit them, from 0 (not at all) to 2 (always)
///
/// In remote sensing two classes below 1 are hard to tell apart, and above 1.9 easy.
#[derive(Clone, Debug, PartialEq)]
pub struct Separability {
    /// The classes, ascending.
    pub classes: Vec<u32>,
    /// For each class, in their order, its distance to each.
    pub matrix: Vec<Vec<f64>>,
}

/// Two classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The lesser of the two.
    pub first: u32,
    /// The greater.
    pub second: u32,
    /// How well they can be told apart.
    pub separability: f64,
}

impl Separability {
    /// Every pair once, the hardest first; of equal ones in the order of the classes.
    pub fn pairs(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (i, row) in self.matrix.iter().enumerate() {
            for (j, &separability) in row.iter().enumerate().skip(i + 1) {
                let (first, second) = (self.classes[i], self.classes[j]);
                pairs.push(Pair {
                    first,
                    second,
                    separability,
                });
            }
        }
        pairs.sort_by(|a, b| a.separability.total_cmp(&b.separability));
        pairs
    }

    /// The mean over all pairs; none of one class.
    pub fn mean(&self) -> Option<f64> {
        let pairs = self.pairs();
        let total: f64 = pairs.iter().map(|pair| pair.separability).sum();
        (!pairs.is_empty()).then(|| total / pairs.len() as f64)
    }
}

/// One column of the rows, and how well it alone tells the classes apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankedFeature {
    /// Which column.
    pub feature: usize,
    /// The mean over all pairs of classes, from 0 to 2.
    pub mean: f64,
    /// The least of them: the pair that it tells apart worst.
    pub least: f64,
}

/// The separability of the classes of labeled rows of `dim` numbers.
///
/// A class is taken for a normal distribution with its own mean and covariance. `ridge`, a share such as 10⁻⁶ of the mean
/// variance of all rows, is added to every variance, so that a class of few rows, or of one, has a covariance too.
///
/// ```
/// use nearfar_metrics::divergences::separability;
///
/// let rows = [0.0, 1.0, 0.5, 1.5, 9.0, 10.0];
/// let found = separability(&rows, 1, &[7, 7, 8, 8, 9, 9], 1e-6)?;
/// assert_eq!(found.classes, [7, 8, 9]);
/// let hardest = found.pairs()[0];
/// assert_eq!((hardest.first, hardest.second), (7, 8));
/// assert!((hardest.separability - 2.0 * (1.0 - (-0.0625f64).exp())).abs() < 1e-5); // ⅛ · 0.5² / 0.5.
/// # Ok::<(), nearfar_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] when rows and labels do not fit, [`Error::Input`] when a number is not finite, [`Error::Settings`] when
/// the ridge is not above 0.
pub fn separability(
    rows: &[f64],
    dim: usize,
    labels: &[u32],
    ridge: f64,
) -> Result<Separability, Error> {
    check(rows, dim, labels, ridge)?;
    let ridge = ridge * mean_variance(rows, dim);
    let mut classes: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (row, &label) in rows.chunks_exact(dim).zip(labels) {
        classes.entry(label).or_default().extend(row);
    }
    let gaussians = classes
        .values()
        .map(|rows| Gaussian::of_rows(rows, dim, ridge));
    let gaussians = gaussians.collect::<Result<Vec<_>, Error>>()?;
    let mut matrix = vec![vec![0.0; gaussians.len()]; gaussians.len()];
    for (i, one) in gaussians.iter().enumerate() {
        for (j, other) in gaussians.iter().enumerate().skip(i + 1) {
            let distance = one.jeffries_matusita_squared(other)?;
            (matrix[i][j], matrix[j][i]) = (distance, distance);
        }
    }
    Ok(Separability {
        classes: classes.into_keys().collect(),
        matrix,
    })
}

/// The columns of labeled rows, the one that tells the classes apart best alone first
///
/// By the mean of the [`separability`] over all pairs of classes; of equal ones the first column is first. Columns that say
/// the same are all ranked high: it is a look at each alone.
///
/// # Errors
/// As of [`separability`], and [`Error::Input`] when there are not two classes.
pub fn rank_features(
    rows: &[f64],
    dim: usize,
    labels: &[u32],
    ridge: f64,
) -> Result<Vec<RankedFeature>, Error> {
    check(rows, dim, labels, ridge)?;
    let mut ranked = Vec::with_capacity(dim);
    for feature in 0..dim {
        let column: Vec<f64> = rows.chunks_exact(dim).map(|row| row[feature]).collect();
        let found = separability(&column, 1, labels, ridge)?;
        let (Some(mean), Some(hardest)) = (found.mean(), found.pairs().first().copied()) else {
            return Err(Error::Input(format!(
                "rank_features: there are {} classes; features are ranked by how they tell two or more apart",
                found.classes.len()
            )));
        };
        ranked.push(RankedFeature {
            feature,
            mean,
            least: hardest.separability,
        });
    }
    ranked.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    Ok(ranked)
}

fn check(rows: &[f64], dim: usize, labels: &[u32], ridge: f64) -> Result<(), Error> {
    if dim == 0 || rows.len() != labels.len() * dim {
        return Err(Error::Shape(format!(
            "separability: {} numbers are no {} labeled rows of {dim} dimensions",
            rows.len(),
            labels.len()
        )));
    }
    if let Some(at) = rows.iter().position(|x| !x.is_finite()) {
        return Err(Error::Input(format!(
            "separability: row {} has {} in column {}; all must be finite numbers",
            at / dim,
            rows[at],
            at % dim
        )));
    }
    if !(ridge.is_finite() && ridge > 0.0) {
        return Err(Error::Settings(format!(
            "separability: `ridge` is {ridge}; it must be greater than 0"
        )));
    }
    Ok(())
}

/// Over all rows and columns. It is never 0, so that constant rows have a ridge too.
fn mean_variance(rows: &[f64], dim: usize) -> f64 {
    let n = (rows.len() / dim).max(1) as f64;
    let mut total = 0.0;
    for k in 0..dim {
        let column = || rows.iter().skip(k).step_by(dim);
        let mean = column().map(|x| x / n).sum::<f64>();
        total += column().map(|x| (x - mean) * (x - mean) / n).sum::<f64>();
    }
    let largest = rows.iter().map(|x| x.abs()).fold(0.0, f64::max);
    let rounding = (largest * f64::EPSILON).powi(2);
    (total / dim as f64).max(rounding).max(1e-290)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Column 0 tells nothing, column 1 all, column 2 is constant, column 3 tells class 2 from the others.
    const ROWS: [f64; 24] = [
        1.0, 0.0, 5.0, 0.0, //
        2.0, 0.1, 5.0, 1.0, //
        1.0, 9.0, 5.0, 0.0, //
        2.0, 9.1, 5.0, 1.0, //
        1.0, 20.0, 5.0, 30.0, //
        2.0, 20.1, 5.0, 31.0,
    ];
    const LABELS: [u32; 6] = [0, 0, 1, 1, 2, 2];

    #[test]
    fn columns_are_ranked_by_what_they_tell() -> Result<(), Error> {
        let ranked = rank_features(&ROWS, 4, &LABELS, 1e-6)?;
        let order: Vec<usize> = ranked.iter().map(|it| it.feature).collect();
        assert_eq!(order, [1, 3, 0, 2]);
        assert!(ranked[0].least > 1.99, "{ranked:?}");
        assert!((ranked[1].mean - 4.0 / 3.0).abs() < 1e-3 && ranked[1].least == 0.0);
        assert_eq!((ranked[2].mean, ranked[3].mean), (0.0, 0.0));
        Ok(())
    }

    #[test]
    fn the_matrix_is_symmetric_and_finite_for_lone_and_constant_rows() -> Result<(), Error> {
        let found = separability(&ROWS, 4, &[0, 0, 1, 1, 2, 3], 1e-6)?;
        for i in 0..4 {
            assert_eq!(found.matrix[i][i], 0.0);
            for j in 0..4 {
                assert_eq!(found.matrix[i][j], found.matrix[j][i]);
                assert!((0.0..=2.0).contains(&found.matrix[i][j]));
            }
        }
        let constant = separability(&[1.0; 4], 2, &[0, 1], 1e-6)?;
        assert_eq!(constant.matrix, [[0.0, 0.0], [0.0, 0.0]]);
        assert_eq!(separability(&[1.0], 1, &[4], 1e-6)?.mean(), None);
        assert_eq!(separability(&[], 1, &[], 1e-6)?.pairs(), []);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(separability(&[1.0; 3], 2, &[0], 1e-6).is_err());
        assert!(separability(&[1.0, f64::NAN], 1, &[0, 1], 1e-6).is_err());
        assert!(separability(&[1.0, 2.0], 1, &[0, 1], 0.0).is_err());
        assert!(rank_features(&[1.0, 2.0], 1, &[0, 0], 1e-6).is_err());
    }
}
