//! Linear maps that data gives without training: a baseline beside every learned embedding, and a plane to draw on.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use nearfar_core::EmbeddingTable;

use crate::algebra::{cholesky, solve_lower, solve_lower_transposed, symmetric_eigen};
use crate::error::{Error, Result};

/// `x ↦ W (x − m)`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearMap {
    /// Which it is: `pca`, `pca_whitening` or `lda`.
    pub kind: &'static str,
    /// `m`, the mean of the rows it was fitted to.
    pub mean: Vec<f64>,
    /// `W`, row-major: as many rows as the map has output dimensions.
    pub weights: Vec<f64>,
    /// Output dimensions. They can be fewer than were wanted: data of `r` independent directions has no more than `r`, and
    /// `c` classes have no more than `c − 1` directions that tell them apart.
    pub dim: usize,
    /// The share of the variance that is in each output dimension (`pca`, `pca_whitening`), or the ratio of the variance
    /// between classes to that within (`lda`).
    pub strength: Vec<f64>,
}

/// A direction with less than this share of the largest variance is noise of rounding.
const NEGLIGIBLE: f64 = 1e-10;

/// What is added to the variance within classes in every direction, as a share of its mean over directions: it keeps LDA
/// from believing in directions in which the training rows happen not to vary (Friedman 1989).
const SHRINKAGE: f64 = 1e-2;

impl LinearMap {
    /// Principal components: the directions of largest variance, orthogonal and of length 1. The sign of each is such that
    /// its entry of largest magnitude is positive.
    ///
    /// # Errors
    /// When there are no rows, no dimension is wanted, or a value is not finite.
    pub fn pca(table: &EmbeddingTable, dim: usize) -> Result<Self> {
        Self::components(table, dim, false)
    }

    /// Principal components, each divided by the standard deviation along it, so that all are equally important.
    ///
    /// # Errors
    /// As [`pca`](Self::pca).
    pub fn pca_whitening(table: &EmbeddingTable, dim: usize) -> Result<Self> {
        Self::components(table, dim, true)
    }

    fn components(table: &EmbeddingTable, dim: usize, whiten: bool) -> Result<Self> {
        let d = table.dim;
        let (mean, mut covariance) = scatter(table, dim, |_| 0)?;
        let mean = mean
            .into_values()
            .next()
            .map(|(_, mean)| mean)
            .unwrap_or_default();
        let count = (table.len().max(2) - 1) as f64;
        covariance.iter_mut().for_each(|x| *x /= count);
        let (values, vectors) = symmetric_eigen(&covariance, d);
        let total: f64 = values.iter().map(|value| value.max(0.0)).sum();
        let floor = values.first().map_or(0.0, |first| first * NEGLIGIBLE);
        let kept = values
            .iter()
            .take(dim)
            .take_while(|value| **value > floor)
            .count();
        let kept = if whiten { kept } else { dim.min(d) }; // A plane stays a plane, even if all points are on a line.
        let mut weights = vectors[..kept * d].to_vec();
        if whiten {
            for (row, value) in weights.chunks_exact_mut(d.max(1)).zip(&values) {
                row.iter_mut().for_each(|x| *x /= value.sqrt());
            }
        }
        let share = |value: &f64| {
            if total > 0.0 {
                value.max(0.0) / total
            } else {
                0.0
            }
        };
        Ok(Self {
            kind: if whiten { "pca_whitening" } else { "pca" },
            mean,
            weights,
            dim: kept,
            strength: values[..kept].iter().map(share).collect(),
        })
    }

    /// Linear discriminant analysis (Fisher 1936, Rao 1948): the directions in which the means of classes vary most,
    /// measured by how rows vary within classes, which the map makes 1 in every direction. The variance within classes is
    /// shrunk a little toward an even one.
    ///
    /// # Errors
    /// As [`pca`](Self::pca); and when there are no labels, fewer than two classes, or classes of one row only.
    pub fn lda(table: &EmbeddingTable, dim: usize) -> Result<Self> {
        if table.labels.is_empty() {
            return Err(Error::NoLabels {
                what: "linear discriminant analysis".into(),
                table: "training rows",
            });
        }
        let d = table.dim;
        let (classes, mut within) = scatter(table, dim, |row| table.labels[row])?;
        let freedom = table.len() - classes.len();
        if classes.len() < 2 || freedom == 0 {
            return Err(Error::Undefined(format!(
                "linear discriminant analysis needs two classes, and one with two rows; there are {} classes of {} rows",
                classes.len(),
                table.len()
            )));
        }
        within.iter_mut().for_each(|x| *x /= freedom as f64);
        let average = (0..d).map(|i| within[i * d + i]).sum::<f64>() / d as f64;
        // Where no class varies at all, any measure of the means is as good as another.
        let added = if average > 0.0 {
            average * SHRINKAGE
        } else {
            1.0
        };
        (0..d).for_each(|i| within[i * d + i] += added);
        let lower = cholesky(&within, d)
            .ok_or_else(|| Error::Undefined("the variance within classes is not finite".into()))?;

        let total = table.len() as f64;
        let mut mean = vec![0.0; d];
        for (count, class) in classes.values() {
            for (mean, class) in mean.iter_mut().zip(class) {
                *mean += class * *count as f64 / total;
            }
        }
        // Rows L⁻¹ √(n_c / n) (μ_c − μ): their products with one another have the eigenvalues of the scatter between classes.
        let rows: Vec<Vec<f64>> = classes
            .values()
            .map(|(count, class)| {
                let share = (*count as f64 / total).sqrt();
                let mut row: Vec<f64> = class
                    .iter()
                    .zip(&mean)
                    .map(|(class, mean)| share * (class - mean))
                    .collect();
                solve_lower(&lower, d, &mut row);
                row
            })
            .collect();
        let c = rows.len();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (values, combinations) = if c <= d {
            let products: Vec<f64> = (0..c * c)
                .map(|k| dot(&rows[k / c], &rows[k % c]))
                .collect();
            symmetric_eigen(&products, c)
        } else {
            let mut products = vec![0.0; d * d];
            for row in &rows {
                for i in 0..d {
                    for j in 0..d {
                        products[i * d + j] += row[i] * row[j];
                    }
                }
            }
            symmetric_eigen(&products, d)
        };
        let floor = values.first().map_or(0.0, |first| first * NEGLIGIBLE);
        let kept = values
            .iter()
            .take(dim.min(d).min(c - 1))
            .take_while(|value| **value > floor && **value > 0.0)
            .count();
        if kept == 0 {
            return Err(Error::Undefined("all classes have the same mean".into()));
        }
        let mut weights = Vec::with_capacity(kept * d);
        for (vector, value) in combinations.chunks_exact(c.min(d)).zip(&values).take(kept) {
            let mut direction = if c <= d {
                let mut direction = vec![0.0; d];
                for (row, share) in rows.iter().zip(vector) {
                    for (x, row) in direction.iter_mut().zip(row) {
                        *x += share * row / value.sqrt();
                    }
                }
                direction
            } else {
                vector.to_vec()
            };
            solve_lower_transposed(&lower, d, &mut direction);
            weights.extend(direction);
        }
        Ok(Self {
            kind: "lda",
            mean,
            weights,
            dim: kept,
            strength: values[..kept].to_vec(),
        })
    }

    /// The rows under the map, with the labels and ids of the table.
    ///
    /// # Errors
    /// When the rows have another width than those it was fitted to.
    pub fn apply(&self, table: &EmbeddingTable) -> Result<EmbeddingTable> {
        let d = self.mean.len();
        if table.dim != d {
            return Err(Error::Width {
                queries: table.dim,
                gallery: d,
            });
        }
        let mut mapped = EmbeddingTable {
            vectors: Vec::with_capacity(table.len() * self.dim),
            dim: self.dim,
            labels: table.labels.clone(),
            ids: table.ids.clone(),
        };
        let weights = Tensor::from_slice(&self.weights, (self.dim, d), &Device::Cpu)?;
        for start in (0..table.len()).step_by(ROWS) {
            let centered = centered(table, start..(start + ROWS).min(table.len()), |_| {
                &self.mean
            });
            let rows = Tensor::from_slice(&centered, (centered.len() / d.max(1), d), &Device::Cpu)?;
            let rows = rows
                .matmul(&weights.t()?)?
                .flatten_all()?
                .to_vec1::<f64>()?;
            mapped.vectors.extend(rows.into_iter().map(|x| x as f32));
        }
        Ok(mapped)
    }
}

/// Rows that are multiplied at once.
const ROWS: usize = 1024;

/// The best linear map that needs no training, fitted to training rows: what a learned embedding has to beat.
///
/// [`LinearMap::lda`] where the rows have labels that it can use, else [`LinearMap::pca_whitening`].
///
/// # Errors
/// As [`LinearMap::pca`].
pub fn linear_baseline(train: &EmbeddingTable, dim: usize) -> Result<LinearMap> {
    match LinearMap::lda(train, dim) {
        Err(Error::NoLabels { .. } | Error::Undefined(_)) => LinearMap::pca_whitening(train, dim),
        other => other,
    }
}

/// Two coordinates of each row to draw it at, and how they came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// Of each row.
    pub x: Vec<f32>,
    /// Of each row.
    pub y: Vec<f32>,
    /// `the embedding itself`, or `principal components (63 % of the variance)`.
    pub how: String,
}

/// The embedding itself if it is two-dimensional (or one-dimensional, at height 0), else its first two principal
/// components.
///
/// # Errors
/// When there are no rows or a value is not finite.
pub fn plane(table: &EmbeddingTable) -> Result<Projection> {
    let (mapped, how) = if table.dim <= 2 {
        (table.clone(), "the embedding itself".to_owned())
    } else {
        let map = LinearMap::pca(table, 2)?;
        let share = 100.0 * map.strength.iter().sum::<f64>();
        let how = format!("principal components ({share:.0} % of the variance)");
        (map.apply(table)?, how)
    };
    let column = |column: usize| {
        (0..mapped.len())
            .map(|row| mapped.row(row).get(column).copied().unwrap_or(0.0))
            .collect()
    };
    Ok(Projection {
        x: column(0),
        y: column(1),
        how,
    })
}

type Classes = BTreeMap<u32, (u64, Vec<f64>)>;

/// Size and mean of each class, and the sum of `(x − m) (x − m)ᵀ` over rows with the means of their classes.
fn scatter(
    table: &EmbeddingTable,
    dim: usize,
    class: impl Fn(usize) -> u32,
) -> Result<(Classes, Vec<f64>)> {
    let d = table.dim;
    if table.is_empty() || d == 0 {
        return Err(Error::Undefined(
            "a linear map is fitted to rows, and there are none".into(),
        ));
    }
    if dim == 0 {
        return Err(Error::Settings(
            "a map to 0 dimensions keeps nothing".into(),
        ));
    }
    if let Some(bad) = (0..table.len()).find(|&row| table.row(row).iter().any(|x| !x.is_finite())) {
        return Err(Error::Undefined(format!(
            "row {bad} is not finite, and has no place in a mean"
        )));
    }
    let mut classes = Classes::new();
    for row in 0..table.len() {
        let (count, sum) = classes
            .entry(class(row))
            .or_insert_with(|| (0, vec![0.0; d]));
        *count += 1;
        for (sum, value) in sum.iter_mut().zip(table.row(row)) {
            *sum += f64::from(*value);
        }
    }
    for (count, sum) in classes.values_mut() {
        sum.iter_mut().for_each(|sum| *sum /= *count as f64);
    }
    let mut scatter = vec![0.0; d * d];
    for start in (0..table.len()).step_by(ROWS) {
        let rows = start..(start + ROWS).min(table.len());
        let count = rows.len();
        let centered = centered(table, rows, |row| &classes[&class(row)].1);
        let rows = Tensor::from_slice(&centered, (count, d), &Device::Cpu)?;
        let products = rows.t()?.matmul(&rows)?.flatten_all()?.to_vec1::<f64>()?;
        for (sum, product) in scatter.iter_mut().zip(products) {
            *sum += product;
        }
    }
    // Products need not be symmetric to the last bit.
    for i in 0..d {
        for j in 0..i {
            let middle = (scatter[i * d + j] + scatter[j * d + i]) / 2.0;
            (scatter[i * d + j], scatter[j * d + i]) = (middle, middle);
        }
    }
    Ok((classes, scatter))
}

/// Rows in f64, each without a mean.
fn centered<'a>(
    table: &EmbeddingTable,
    rows: std::ops::Range<usize>,
    mean: impl Fn(usize) -> &'a Vec<f64>,
) -> Vec<f64> {
    rows.flat_map(|row| {
        let mean = mean(row);
        let values = table.row(row).iter().zip(mean);
        values.map(|(x, m)| f64::from(*x) - m).collect::<Vec<_>>()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    fn table(rows: &[&[f32]], labels: &[u32]) -> EmbeddingTable {
        EmbeddingTable {
            vectors: rows.concat(),
            dim: rows[0].len(),
            labels: labels.to_vec(),
            ids: (0..rows.len() as u64).collect(),
        }
    }

    #[test]
    fn points_on_a_line_have_one_component() {
        let line = table(&[&[0., 0., 5.], &[1., 2., 5.], &[2., 4., 5.]], &[]);
        let map = LinearMap::pca(&line, 2).unwrap();
        let five = 5f64.sqrt();
        assert!(
            (map.weights[0] - 1.0 / five).abs() < 1e-12
                && (map.weights[1] - 2.0 / five).abs() < 1e-12
        );
        assert!((map.strength[0] - 1.0).abs() < 1e-12);
        let drawn = plane(&line).unwrap();
        assert!((f64::from(drawn.x[2] - drawn.x[0]) - 2.0 * five).abs() < 1e-6);
        assert!(drawn.y.iter().all(|y| y.abs() < 1e-6));
        assert_eq!(drawn.how, "principal components (100 % of the variance)");
        assert_eq!(
            LinearMap::pca_whitening(&line, 3).unwrap().dim,
            1,
            "no noise of rounding is blown up"
        );
    }

    #[test]
    fn two_dimensions_are_drawn_as_they_are() {
        let points = table(&[&[3., 4.], &[f32::NAN, 1.]], &[]);
        let drawn = plane(&points).unwrap();
        assert_eq!(
            (drawn.x[0], drawn.y[0], drawn.how.as_str()),
            (3.0, 4.0, "the embedding itself")
        );
    }

    #[test]
    fn whitened_rows_have_unit_covariance() {
        let mut rng = Seed(2).rng(Purpose::Evaluation, 0);
        let rows: Vec<Vec<f32>> = (0..200)
            .map(|_| {
                let (a, b) = (rng.normal() as f32, rng.normal() as f32);
                vec![3.0 * a, a + 0.1 * b, 7.0]
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let data = table(&rows, &[]);
        let white = LinearMap::pca_whitening(&data, 3).unwrap();
        assert_eq!(white.dim, 2);
        let (_, scatter) = scatter(&white.apply(&data).unwrap(), 1, |_| 0).unwrap();
        let want = [199.0, 0.0, 0.0, 199.0];
        assert!(
            scatter.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-2),
            "{scatter:?}"
        );
    }

    #[test]
    fn lda_finds_what_tells_classes_apart() {
        // Classes differ in the second column a little, and vary in the first a lot.
        let rows: [&[f32]; 6] = [
            &[-10., 0.0],
            &[0., 0.1],
            &[10., 0.2],
            &[-10., 1.0],
            &[0., 1.1],
            &[10., 1.2],
        ];
        let labelled = table(&rows, &[0, 0, 0, 1, 1, 1]);
        let map = linear_baseline(&labelled, 8).unwrap();
        assert_eq!((map.kind, map.dim), ("lda", 1));
        let mapped = map.apply(&labelled).unwrap().vectors;
        let (low, high) = mapped.split_at(3);
        let gap = high.iter().copied().fold(f32::MAX, f32::min)
            - low.iter().copied().fold(f32::MIN, f32::max);
        let gap = gap.max(
            low.iter().copied().fold(f32::MAX, f32::min)
                - high.iter().copied().fold(f32::MIN, f32::max),
        );
        assert!(gap > 0.0, "{mapped:?}");
        let plain = EmbeddingTable {
            labels: Vec::new(),
            ..labelled
        };
        assert_eq!(linear_baseline(&plain, 8).unwrap().kind, "pca_whitening");
        let one = table(&[&[1., 2.], &[2., 1.]], &[3, 3]);
        assert_eq!(linear_baseline(&one, 8).unwrap().kind, "pca_whitening");
    }

    #[test]
    fn more_classes_than_dimensions() {
        let rows: Vec<Vec<f32>> = (0..12)
            .map(|i| {
                vec![
                    (i / 2 * 3 % 7) as f32 + 0.01 * (i % 2) as f32,
                    (i / 2) as f32,
                ]
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let labels: Vec<u32> = (0..12).map(|i| i / 2).collect();
        assert_eq!(LinearMap::lda(&table(&rows, &labels), 8).unwrap().dim, 2);
    }

    #[test]
    fn nothing_to_fit() {
        assert!(LinearMap::pca(&EmbeddingTable::new(3), 2).is_err());
        assert!(LinearMap::pca(&table(&[&[f32::INFINITY]], &[]), 1).is_err());
        assert!(LinearMap::pca(&table(&[&[1.0]], &[]), 0).is_err());
        let constant = table(&[&[1., 1., 1.], &[1., 1., 1.]], &[0, 1]);
        assert!(plane(&constant).unwrap().x.iter().all(|x| *x == 0.0));
        assert!(LinearMap::lda(&constant, 2).is_err());
    }
}
