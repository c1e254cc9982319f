//! Distances of samples on a line.

use nearfar_core::Error;

/// Numbers on a line, each with a weight; equal weights by default
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// In ascending order, each with the share of its weight.
    points: Vec<(f64, f64)>,
}

impl Sample {
    /// Of numbers that count the same.
    ///
    /// # Errors
    /// [`Error::Input`] when there is none, or one is not finite.
    pub fn new(values: &[f64]) -> Result<Self, Error> {
        Self::weighted(values, &vec![1.0; values.len()])
    }

    /// Of numbers with weights, which are divided by their sum.
    ///
    /// # Errors
    /// [`Error::Input`] when there is no number, one is not finite, or a weight is negative or not finite, or all are zero;
    /// [`Error::Shape`] when there are not as many weights as numbers.
    pub fn weighted(values: &[f64], weights: &[f64]) -> Result<Self, Error> {
        if values.len() != weights.len() {
            return Err(Error::Shape(format!(
                "sample: there are {} values, {} weights; they must agree",
                values.len(),
                weights.len()
            )));
        }
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            return Err(Error::Input(format!(
                "sample: value {at} is {}; all must be finite numbers",
                values[at]
            )));
        }
        if let Some(at) = weights.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
            return Err(Error::Input(format!(
                "sample: weight {at} is {}; all must be finite numbers of 0 or more",
                weights[at]
            )));
        }
        let largest = weights.iter().copied().fold(0.0, f64::max);
        if largest == 0.0 {
            return Err(Error::Input(format!(
                "sample: none of its {} values has a weight; one at least must",
                values.len()
            )));
        }
        let total: f64 = weights.iter().map(|weight| weight / largest).sum();
        let shares = weights.iter().map(|weight| weight / largest / total);
        let mut points: Vec<(f64, f64)> = values.iter().copied().zip(shares).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(Self { points })
    }
}

/// Calls `f(width, difference)` for each stretch between neighboring points of both, with the difference of the two
/// cumulated shares there; of the last point the width is 0.
fn stretches(x: &Sample, y: &Sample, mut f: impl FnMut(f64, f64)) {
    let (mut i, mut j) = (0, 0);
    let (mut cumulated, mut other) = (0.0, 0.0);
    loop {
        let at = match (x.points.get(i), y.points.get(j)) {
            (Some(x), Some(y)) => x.0.min(y.0),
            (Some(x), None) => x.0,
            (None, Some(y)) => y.0,
            (None, None) => return,
        };
        while let Some(point) = x.points.get(i).filter(|point| point.0 <= at) {
            cumulated += point.1;
            i += 1;
        }
        while let Some(point) = y.points.get(j).filter(|point| point.0 <= at) {
            other += point.1;
            j += 1;
        }
        let next = [x.points.get(i), y.points.get(j)];
        let next = next.into_iter().flatten().map(|point| point.0);
        let width = next.fold(f64::INFINITY, f64::min) - at;
        f(
            if width.is_finite() { width } else { 0.0 },
            cumulated - other,
        );
    }
}

/// Wasserstein-1 distance of two samples, `∫ |F − G|` over their distribution functions; a metric
///
/// How much must be moved how far to make one of the other, the earth mover's distance. `scipy.stats.wasserstein_distance`,
/// with its weights.
pub fn wasserstein(x: &Sample, y: &Sample) -> f64 {
    let mut total = 0.0;
    stretches(x, y, |width, difference| total += width * difference.abs());
    total
}

/// Energy distance of two samples, `√(2 ∫ (F − G)²)`; a metric
///
/// Also `√(2 E|x − y| − E|x − x′| − E|y − y′|)`. `scipy.stats.energy_distance`.
///
/// Source: Székely, Rizzo, "Energy statistics: a class of statistics based on distances", Journal of Statistical Planning and
/// Inference 2013.
pub fn energy_distance(x: &Sample, y: &Sample) -> f64 {
    let mut total = 0.0;
    stretches(x, y, |width, difference| {
        total += width * difference * difference;
    });
    (2.0 * total).sqrt()
}

/// Kolmogorov–Smirnov statistic of two samples, `max |F − G|`, from 0 to 1; a metric
///
/// The statistic of `scipy.stats.ks_2samp`, without the test.
pub fn kolmogorov_smirnov(x: &Sample, y: &Sample) -> f64 {
    let mut largest = 0.0f64;
    stretches(x, y, |_, difference| {
        largest = largest.max(difference.abs());
    });
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Sample {
        Sample::new(values).expect("a sample")
    }

    #[test]
    fn four_points_are_as_far_as_on_paper() {
        // F is 1/2 from 0 and 1 from 2; G is 1/2 from 1 and 1 from 2.
        let (x, y) = (of(&[2.0, 0.0]), of(&[1.0, 2.0]));
        assert_eq!(wasserstein(&x, &y), 0.5);
        assert_eq!(energy_distance(&x, &y), (2.0 * 0.25f64).sqrt());
        assert_eq!(kolmogorov_smirnov(&x, &y), 0.5);
        assert_eq!(wasserstein(&x, &x), 0.0);
        assert_eq!(kolmogorov_smirnov(&of(&[0.0]), &of(&[5.0])), 1.0);
    }

    #[test]
    fn a_weight_of_two_is_the_point_twice() {
        let weighted = Sample::weighted(&[3.0, 0.0, 9.0], &[1.0, 2.0, 0.0]).expect("a sample");
        let (twice, y) = (of(&[0.0, 0.0, 3.0]), of(&[1.0, -2.0]));
        for distance in [wasserstein, energy_distance, kolmogorov_smirnov] {
            assert!((distance(&weighted, &y) - distance(&twice, &y)).abs() < 1e-15);
            assert_eq!(distance(&weighted, &y), distance(&y, &weighted));
        }
    }

    #[test]
    fn energy_is_that_of_the_expectations() {
        let (x, y) = ([0.3, -1.0, 2.5, 2.5], [0.0, 4.0, 1.0]);
        let mean = |x: &[f64], y: &[f64]| {
            let all = x.iter().flat_map(|a| y.iter().map(move |b| (a - b).abs()));
            all.sum::<f64>() / (x.len() * y.len()) as f64
        };
        let want = (2.0 * mean(&x, &y) - mean(&x, &x) - mean(&y, &y)).sqrt();
        assert!((energy_distance(&of(&x), &of(&y)) - want).abs() < 1e-14);
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        assert!(Sample::new(&[]).is_err() && Sample::new(&[f64::NAN]).is_err());
        let message = Sample::weighted(&[1.0], &[1.0, 2.0]).expect_err("1 and 2");
        assert!(message.to_string().contains("1 values, 2 weights"));
        assert!(Sample::weighted(&[1.0], &[-1.0]).is_err());
        assert!(Sample::weighted(&[1.0], &[0.0]).is_err());
    }
}
