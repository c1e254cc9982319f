//! The softmax over classes as one row sees the centers.

use nearfar_kernels::rows::{self, Sloped};
use nearfar_kernels::{Row, RowFunctional, RowSum};

use crate::family::Head;

/// How several centers of a class become one similarity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Centers {
    /// There is one.
    One,
    /// Of so many the nearest; of equal ones the first.
    Nearest(usize),
    /// The mean of so many, weighed by a softmax of the similarities times a number.
    Mean(usize, f32),
}

/// What a row and its own class are to one another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    /// Their similarity.
    pub(crate) value: f32,
    pub(crate) class: u32,
    /// The lengths of the row and of its center, for a softmax of lengths.
    pub(crate) lengths: [f32; 2],
}

/// What takes the place of the own similarity, and how it depends on it and on the lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) value: f32,
    pub(crate) slope: f32,
    pub(crate) by_lengths: [f32; 2],
}

impl From<Sloped> for Target {
    fn from(Sloped { value, slope }: Sloped) -> Self {
        Self {
            value,
            slope,
            by_lengths: [0.0; 2],
        }
    }
}

/// `−log softmax(scale · z)_own`, where `z_own` is a function of the own similarity and class.
pub(crate) struct Softmax<F> {
    pub(crate) scale: f32,
    pub(crate) centers: Centers,
    /// Whether the own class is in the denominator.
    pub(crate) own_counts: bool,
    /// Whether `z_own` depends on the lengths of the row and of its one center too.
    of_lengths: bool,
    smoothing: f32,
    own: F,
}

/// A softmax whose own similarity is a function of itself and of the class.
pub(crate) fn softmax_over_classes<F: Fn(f32, u32) -> Sloped + Send + Sync>(
    scale: f64,
    head: &Head<'_>,
    own: F,
) -> Softmax<impl Fn(Own) -> Target + Send + Sync + use<F>> {
    Softmax {
        of_lengths: false,
        ..softmax_with_lengths(scale, head, move |it| own(it.value, it.class).into())
    }
}

/// A softmax whose own similarity is a function of lengths too.
pub(crate) fn softmax_with_lengths<F: Fn(Own) -> Target + Send + Sync>(
    scale: f64,
    head: &Head<'_>,
    own: F,
) -> Softmax<F> {
    Softmax {
        scale: scale as f32,
        centers: Centers::One,
        own_counts: true,
        of_lengths: true,
        smoothing: head.label_smoothing,
        own,
    }
}

impl<F: Fn(Own) -> Target + Send + Sync> Softmax<F> {
    /// The loss of similarities with all classes, `place` being the own; they, and the lengths, become its slopes.
    fn of_classes(
        &self,
        values: &mut [f32],
        place: usize,
        class: u32,
        lengths: &mut [f32; 2],
    ) -> f64 {
        let count = values.len() as f32;
        let own = (self.own)(Own {
            value: values[place],
            class,
            lengths: *lengths,
        });
        let logit = self.scale * own.value;
        let mean = if self.smoothing > 0.0 {
            let others: f32 = values.iter().sum::<f32>() - values[place];
            (self.scale * others + logit) / count
        } else {
            0.0
        };
        let (before, rest) = values.split_at_mut(place);
        let Some((value, after)) = rest.split_first_mut() else {
            return 0.0;
        };
        let others = rows::log_sum_exp(&mut [&mut *before, &mut *after], self.scale);
        if !self.own_counts {
            if others == f32::NEG_INFINITY {
                *value = 0.0;
                return 0.0;
            }
            rows::multiply(before, self.scale);
            rows::multiply(after, self.scale);
            *value = -self.scale * own.slope;
            *lengths = own.by_lengths.map(|it| -self.scale * it);
            return f64::from(others) - f64::from(logit);
        }
        let cost = rows::softplus(others - logit);
        let by = self.scale * cost.slope;
        rows::multiply(before, by);
        rows::multiply(after, by);
        *value = -by * own.slope;
        *lengths = own.by_lengths.map(|it| -by * it);
        if self.smoothing == 0.0 {
            return f64::from(cost.value);
        }
        // −(1 − ε) log p_own − ε/c Σ_c log p_c
        let share = self.scale * self.smoothing / count;
        for value in before.iter_mut().chain(after) {
            *value -= share;
        }
        let smoothed = self.scale * self.smoothing - share;
        *value += own.slope * smoothed;
        lengths
            .iter_mut()
            .zip(own.by_lengths)
            .for_each(|(it, by)| *it += by * smoothed);
        f64::from(cost.value) + f64::from(self.smoothing) * (f64::from(logit) - f64::from(mean))
    }
}

impl<F: Fn(Own) -> Target + Send + Sync> RowFunctional for Softmax<F> {
    fn lengths(&self) -> bool {
        self.of_lengths
    }

    fn row(&self, row: Row<'_>) -> [RowSum; 2] {
        let (first, class) = (row.positives.start, row.group);
        let value = match self.centers {
            Centers::One => {
                let nowhere = self.of_lengths && row.lengths[0] == 0.0;
                let value = self.of_classes(row.values, first, class, row.lengths);
                if nowhere {
                    row.values.fill(0.0); // A row of zeros has no direction, and no gradient.
                }
                value
            }
            Centers::Nearest(k) => {
                let largest: Vec<f32> = row.values.chunks_exact(k).map(largest).collect();
                let mut classes = largest.clone();
                let value = self.of_classes(&mut classes, first / k, class, row.lengths);
                let all = row.values.chunks_exact_mut(k).zip(&largest).zip(classes);
                for ((values, largest), slope) in all {
                    // Without a branch: which one it is cannot be guessed.
                    let mut taken = false;
                    for value in values {
                        let it = !taken & (*value == *largest);
                        taken |= it;
                        *value = if it { slope } else { 0.0 };
                    }
                }
                value
            }
            Centers::Mean(k, by) => {
                let mut shares = row.values.to_vec();
                for values in shares.chunks_exact_mut(k) {
                    let largest = largest(values);
                    values.iter_mut().for_each(|x| *x -= largest);
                }
                rows::exp_sum(&mut shares, by, 0.0);
                let mut classes = Vec::with_capacity(shares.len() / k);
                for (shares, values) in shares.chunks_exact_mut(k).zip(row.values.chunks_exact(k)) {
                    let sum: f32 = shares.iter().sum();
                    shares.iter_mut().for_each(|x| *x /= sum);
                    classes.push(shares.iter().zip(values).map(|(x, y)| x * y).sum());
                }
                let means = classes.clone();
                let value = self.of_classes(&mut classes, first / k, class, row.lengths);
                let all = row.values.chunks_exact_mut(k).zip(shares.chunks_exact(k));
                for ((values, shares), (mean, slope)) in all.zip(means.iter().zip(&classes)) {
                    for (value, share) in values.iter_mut().zip(shares) {
                        *value = slope * share * (1.0 + by * (*value - mean));
                    }
                }
                value
            }
        };
        let sum = RowSum {
            value,
            terms: 1,
            active: usize::from(value > 0.0),
        };
        [sum, RowSum::default()]
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}
