//! A mean of several runs, and how far it may be off.

use serde::{Deserialize, Serialize};

/// A mean with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Half the width of the interval: `t · s / √n`, with Student's `t` for `n − 1`; none for a single value.
    pub half_width: Option<f64>,
    /// How many values there were.
    pub count: usize,
}

impl Interval {
    /// Of the values of several seeds; none of no values.
    ///
    /// ```
    /// use nearfar_eval::Interval;
    ///
    /// let interval = Interval::of(&[0.70, 0.72, 0.74]).unwrap();
    /// assert!((interval.mean - 0.72).abs() < 1e-12);
    /// assert!((interval.half_width.unwrap() - 4.302_65 * 0.02 / 3f64.sqrt()).abs() < 1e-4);
    /// ```
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let half_width = (count > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            t_95(count - 1) * (squares / (count - 1) as f64 / count as f64).sqrt()
        });
        (count > 0).then_some(Self {
            mean,
            half_width,
            count,
        })
    }

    /// A value on its own.
    pub fn single(value: f64) -> Self {
        Self {
            mean: value,
            half_width: None,
            count: 1,
        }
    }
}

/// The two-sided 95 % quantile of Student's distribution.
fn t_95(freedom: usize) -> f64 {
    const TABLE: [f64; 15] = [
        12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004,
        2.262_157, 2.228_139, 2.200_985, 2.178_813, 2.160_369, 2.144_787, 2.131_450,
    ];
    if let Some(quantile) = TABLE.get(freedom.saturating_sub(1)) {
        return *quantile;
    }
    // Cornish and Fisher's expansion about the normal quantile; off by less than 1e-4 from here on.
    let (z, v) = (1.959_963_985_f64, freedom as f64);
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * v)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v * v * v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_tables() {
        for (freedom, quantile) in [
            (1, 12.7062),
            (4, 2.7764),
            (11, 2.2010),
            (30, 2.0423),
            (1000, 1.9623),
        ] {
            assert!(
                (t_95(freedom) - quantile).abs() < 1e-4,
                "{freedom}: {}",
                t_95(freedom)
            );
        }
    }

    #[test]
    fn one_value_has_no_width() {
        assert_eq!(Interval::of(&[0.5]), Some(Interval::single(0.5)));
        assert_eq!(Interval::of(&[]), None);
        assert_eq!(Interval::of(&[0.5, 0.5]).unwrap().half_width, Some(0.0));
    }
}
