//! Triplet loss of ordered targets.

use candle_core::Result;
use nearfar_core::{Comparison, Evaluated, NonNegative, Pairs, Reducer, Rng, Terms};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::counting::Counted;
use crate::over::matrix::{MatrixLoss, View, counted_part};
use crate::over::relations::{own, targets};
use crate::triplets::Power;

/// Of each two rows, wants the one whose target is nearer to the anchor's to be nearer.
///
/// ```text
/// l(a, i, j) = max(0, D(a, i) − D(a, j) + margin · g)   for |t_a − t_i| < |t_a − t_j|,   D = d²
/// g = 1, or |t_a − t_j| − |t_a − t_i| if `proportional`
/// ```
///
/// `power = 1` takes distances as they are. Averaged over all such triples; rows with equal differences are not compared, and an
/// anchor needs two other rows. Under the reducers `mean`, `sum` and `avg_nonzero` no triple is listed: references are put in
/// order by target and counted by distance, `O(n² log n)`.
///
/// Source: the dense triplet that Kim, Seo, Laptev, Cho, Kwak compare with in "Deep metric learning beyond binary
/// supervision", CVPR 2019, <https://arxiv.org/abs/1904.09626>, section 5.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("ordinal_triplet = { proportional = true }")?;
/// assert_eq!(config.reads(), Reads::Targets);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrdinalTriplet {
    /// Wanted gap between the two distances.
    pub margin: NonNegative,
    /// Whether it grows with the difference of the targets.
    pub proportional: bool,
    /// What distances are raised to.
    pub power: Power,
}

impl Default for OrdinalTriplet {
    /// Those of the authors' code, for rows of length 1.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.03),
            proportional: false,
            power: Power::Two,
        }
    }
}

batch_loss!(OrdinalTriplet, Targets, "euclidean");

/// Sums over the entries of a list before a place, by halves (Fenwick).
struct Sums(Vec<(usize, f64)>);

impl Sums {
    fn new(count: usize) -> Self {
        Self(vec![(0, 0.0); count + 1])
    }

    fn add(&mut self, place: usize, value: f64) {
        let mut at = place + 1;
        while at < self.0.len() {
            self.0[at].0 += 1;
            self.0[at].1 += value;
            at += at & at.wrapping_neg();
        }
    }

    /// How many, and their sum, before a place.
    fn before(&self, place: usize) -> (usize, f64) {
        let (mut at, mut count, mut sum) = (place, 0, 0.0);
        while at > 0 {
            count += self.0[at].0;
            sum += self.0[at].1;
            at &= at - 1;
        }
        (count, sum)
    }
}

/// One anchor's triples: distances with how far their targets are, by column. Adds to what was counted.
fn count_row(row: &[(usize, f64, f64)], margin: f64, proportional: bool, counted: &mut Counted) {
    let k = row.len();
    // A margin that grows moves each distance by its own target.
    let moved: Vec<f64> = row
        .iter()
        .map(|(_, x, t)| if proportional { x - margin * t } else { *x })
        .collect();
    let margin = if proportional { 0.0 } else { margin };
    let mut by_target: Vec<usize> = (0..k).collect();
    by_target.sort_by(|&one, &other| row[one].2.total_cmp(&row[other].2));
    let mut by_distance: Vec<usize> = (0..k).collect();
    by_distance.sort_by(|&one, &other| moved[one].total_cmp(&moved[other]));
    let mut rank = vec![0; k];
    for (place, &entry) in by_distance.iter().enumerate() {
        rank[entry] = place;
    }
    let same = |one: &usize, other: &usize| row[*one].2 == row[*other].2;
    let groups: Vec<&[usize]> = by_target.chunk_by(same).collect();
    // From the nearest targets on: each finds the earlier ones that are too far, x_i + margin > x_j.
    let (mut sums, mut seen, mut all) = (Sums::new(k), 0, 0.0);
    for group in &groups {
        for &j in *group {
            let bound = |it: &usize| moved[*it] + margin <= moved[j];
            let (count, sum) = sums.before(by_distance.partition_point(bound));
            let active = seen - count;
            counted.terms += seen;
            counted.active += active;
            counted.sum += (all - sum) + active as f64 * (margin - moved[j]);
            counted.gradient[row[j].0] -= active as f64;
        }
        for &i in *group {
            sums.add(rank[i], moved[i]);
            seen += 1;
            all += moved[i];
        }
    }
    // From the farthest targets back: each finds the later ones that are too near, x_j < x_i + margin.
    let mut sums = Sums::new(k);
    for group in groups.iter().rev() {
        for &i in *group {
            let bound = |it: &usize| moved[*it] < moved[i] + margin;
            let (active, _) = sums.before(by_distance.partition_point(bound));
            counted.gradient[row[i].0] += active as f64;
        }
        for &j in *group {
            sums.add(rank[j], 0.0);
        }
    }
}

impl OrdinalTriplet {
    /// Of each anchor its other rows: place in the matrix, distance, and how far the target is.
    fn rows(&self, view: &View<'_>, x: &[f64]) -> Result<Vec<Vec<(usize, f64, f64)>>> {
        let (n, m) = view.size();
        let (ours, theirs) = targets(view.name, view.comparison)?;
        let own = own(view.comparison);
        let row = |row: usize| -> Vec<_> {
            let places = (row * m..(row + 1) * m).filter(|&place| !own[place]);
            let apart = |place: usize| (f64::from(ours[row]) - f64::from(theirs[place % m])).abs();
            places
                .map(|place| (place, x[place], apart(place)))
                .collect()
        };
        Ok((0..n).map(row).collect())
    }

    fn distances(&self, view: &View<'_>) -> Result<candle_core::Tensor> {
        match self.power {
            Power::One => Ok(view.matrix.clone()),
            Power::Two => view.matrix.sqr(),
        }
    }
}

impl MatrixLoss for OrdinalTriplet {
    fn parts(&self) -> &'static [&'static str] {
        &["triplet"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        targets(name, comparison).map(drop)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let x = self.distances(view)?;
        let m = view.size().1;
        let (mut near, mut far, mut margins) = (Pairs::default(), Pairs::default(), Vec::new());
        for row in self.rows(view, &crate::over::known::host(&x)?)? {
            for (i, _, ti) in &row {
                for (j, _, tj) in row.iter().filter(|it| it.2 > *ti) {
                    near.push((i / m) as u32, (i % m) as u32);
                    far.push((j / m) as u32, (j % m) as u32);
                    let g = if self.proportional { tj - ti } else { 1.0 };
                    margins.push(self.margin.get() * g);
                }
            }
        }
        if near.is_empty() {
            return Ok(vec![Terms::none("triplet", view.comparison)]);
        }
        let count = margins.len();
        let gap = ((near.select(&x)? - far.select(&x)?)? + view.tensor(margins, count)?)?;
        let values = hinge(&gap)?;
        Ok(vec![Terms::tuples(
            "triplet",
            values,
            near.anchors,
            view.comparison,
        )?])
    }

    fn evaluate(&self, view: &View<'_>, reducer: &Reducer) -> Result<Option<Evaluated>> {
        let x = self.distances(view)?;
        let numbers = crate::over::known::host(&x)?;
        let mut counted = Counted {
            gradient: vec![0.0; numbers.len()],
            ..Counted::default()
        };
        let margin = view.rounded(self.margin.get());
        for row in self.rows(view, &numbers)? {
            count_row(&row, margin, self.proportional, &mut counted);
        }
        let part = counted_part("triplet", &x, counted, reducer)?;
        Ok(part.map(|part| Evaluated { parts: vec![part] }))
    }
}

#[cfg(test)]
mod tests {
    use nearfar_core::{Purpose, Seed};

    use super::*;

    #[test]
    fn counted_triples_are_those_of_the_loop() {
        let mut rng = Seed(4).rng(Purpose::Generation, 0);
        for proportional in [false, true] {
            // Whole quarters make ties of both.
            let row: Vec<(usize, f64, f64)> = (0..13)
                .map(|place| (place, rng.below(9) as f64 / 4.0, rng.below(5) as f64 / 2.0))
                .collect();
            let mut counted = Counted {
                gradient: vec![0.0; 13],
                ..Counted::default()
            };
            let mut wanted = counted.clone();
            count_row(&row, 0.25, proportional, &mut counted);
            for (i, x, t) in &row {
                for (j, y, u) in row.iter().filter(|it| it.2 > *t) {
                    let g = if proportional { u - t } else { 1.0 };
                    let value = x - y + 0.25 * g;
                    wanted.terms += 1;
                    if value > 0.0 {
                        wanted.active += 1;
                        wanted.sum += value;
                        wanted.gradient[*i] += 1.0;
                        wanted.gradient[*j] -= 1.0;
                    }
                }
            }
            assert!((counted.sum - wanted.sum).abs() < 1e-12);
            assert_eq!(counted.gradient, wanted.gradient);
            assert_eq!(
                (counted.terms, counted.active),
                (wanted.terms, wanted.active)
            );
        }
    }
}
