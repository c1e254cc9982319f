//! Features on one scale.

use serde::{Deserialize, Serialize};

use crate::Error;

/// Mean and deviation of each feature over the training part; takes the mean and divides by the deviation.
///
/// Values that are missing (NaN) count for neither, and become 0, the mean. A feature that has one value only becomes 0.
///
/// ```
/// use nearfar_datasets::Standardization;
///
/// let fitted = Standardization::fit([[1.0, 5.0], [3.0, 5.0]].iter().map(|row| &row[..]), 2);
/// let mut row = [5.0, f32::NAN];
/// fitted.apply(&mut row)?;
/// assert_eq!(row, [3.0, 0.0]); // (5 − 2) / 1
/// # Ok::<(), nearfar_datasets::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardization {
    /// Mean of each feature.
    pub mean: Vec<f64>,
    /// Deviation of each, with the number of rows as divisor; 1 where it is 0.
    pub deviation: Vec<f64>,
    /// Whether values are changed that are not missing. If not, missing ones become the mean.
    pub scales: bool,
}

impl Standardization {
    /// That of these rows, of `features` each.
    pub fn fit<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, features: usize) -> Self {
        let mean_of = |value: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            let mut sums = vec![(0.0, 0u64); features];
            for row in rows.clone() {
                for (column, (sum, &x)) in sums.iter_mut().zip(row).enumerate() {
                    if !x.is_nan() {
                        sum.0 += value(column, f64::from(x));
                        sum.1 += 1;
                    }
                }
            }
            sums.into_iter()
                .map(|(sum, count)| sum / count.max(1) as f64)
                .collect()
        };
        let mean = mean_of(&|_, x| x);
        let variance = mean_of(&|column, x| (x - mean[column]).powi(2));
        let deviation = variance
            .into_iter()
            .map(|it| if it > 0.0 { it.sqrt() } else { 1.0 })
            .collect();
        Self {
            mean,
            deviation,
            scales: true,
        }
    }

    /// Changes a row.
    ///
    /// # Errors
    /// When the row has another number of features.
    pub fn apply(&self, row: &mut [f32]) -> Result<(), Error> {
        if row.len() != self.mean.len() {
            return Err(Error::Settings(format!(
                "a row has {} features, but the training part had {}",
                row.len(),
                self.mean.len()
            )));
        }
        for (x, (mean, deviation)) in row.iter_mut().zip(self.mean.iter().zip(&self.deviation)) {
            let filled = if x.is_nan() { *mean } else { f64::from(*x) };
            *x = if self.scales {
                ((filled - mean) / deviation) as f32
            } else {
                filled as f32
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_are_left_out_and_filled_in() -> Result<(), Error> {
        let rows = [[1.0, 7.0], [f32::NAN, 7.0], [5.0, 7.0]];
        let fitted = Standardization::fit(rows.iter().map(|row| &row[..]), 2);
        assert_eq!(
            (&fitted.mean[..], &fitted.deviation[..]),
            (&[3.0, 7.0][..], &[2.0, 1.0][..])
        );
        let mut row = [f32::NAN, 8.0];
        fitted.apply(&mut row)?;
        assert_eq!(row, [0.0, 1.0]);
        let mut row = [f32::NAN, 8.0];
        let filling = Standardization {
            scales: false,
            ..fitted.clone()
        };
        filling.apply(&mut row)?;
        assert_eq!(row, [3.0, 8.0]);
        assert!(
            fitted
                .apply(&mut [1.0])
                .unwrap_err()
                .to_string()
                .contains("1 features, but the training part had 2")
        );
        Ok(())
    }
}
