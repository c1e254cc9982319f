//! Structured clustering.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};
use nearfar_core::{Comparison, Distance, Loss, NonNegative, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::{hinge, l2_normalize};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, classes};
use crate::{Compares, Join, Reads};

/// Wants the classes of a batch to be a better clustering of it than every other, the more so the less that one agrees with them.
///
/// ```text
/// L = [ max_{|S| = c} (F(S) + gamma Δ(S)) − F̃ ]₊
/// F(S) = −Σ_i min_{j ∈ S} d_ij             how well the medoids S serve all rows
/// F̃    = Σ_k max_{j of class k} −Σ_{i of class k} d_ij   the same for the best medoid of each class
/// Δ(S) = 1 − NMI(classes, assignment to the nearest of S)
/// ```
///
/// `c` is the number of classes in the batch; `NMI` is mutual information over the arithmetic mean of the entropies. The maximum is
/// sought by greedy addition and then `sweeps` rounds in which each cluster tries each of its rows as its medoid; ties go to the
/// first row. Each row belongs to the nearest medoid, ties to the first, a medoid to itself. Only the distances of the chosen
/// assignments have a gradient. `O(c n²)` time, `O(n²)` memory.
///
/// Rows are taken at length 1. With one class, or none twice, there is nothing to learn. It is one term for the whole batch that
/// grows with it, unless `per_sample` divides it by the number of rows; reducers leave it as it is. Reads classes, of the anchors;
/// takes no miner.
///
/// Source: Oh Song et al., "Deep Metric Learning via Facility Location", CVPR 2017, <https://arxiv.org/abs/1612.01213>, equations 5
/// to 9 and algorithms 1 and 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FacilityLocation {
    /// What the disagreement of a clustering with the classes counts.
    pub gamma: NonNegative,
    /// Rounds of refinement.
    pub sweeps: usize,
    /// Whether the value is divided by the number of rows.
    pub per_sample: bool,
}

impl Default for FacilityLocation {
    /// The authors' number of sweeps; they leave gamma to the user.
    fn default() -> Self {
        Self {
            gamma: NonNegative::literal(1.0),
            sweeps: 5,
            per_sample: false,
        }
    }
}

impl BatchLoss for FacilityLocation {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Distance("euclidean")
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "distances of rows")?;
        join.refuse_miner(name)?;
        let formula = Clustering {
            name,
            settings: self.clone(),
            distance: join.distance(name, "euclidean")?,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Clustering {
    name: &'static str,
    settings: FacilityLocation,
    distance: Box<dyn Distance>,
}

impl Stateful for Clustering {}

impl Formula for Clustering {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let labels = classes(self.name, comparison)?;
        let n = labels.len();
        let mut places: BTreeMap<u32, usize> = BTreeMap::new();
        for &label in labels {
            let next = places.len();
            places.entry(label).or_insert(next);
        }
        if places.len() < 2 || places.len() == n {
            return Ok(vec![Terms::none("batch", comparison)]);
        }
        let unit = l2_normalize(&comparison.anchors.vectors)?;
        let distances = self.distance.matrix(&unit, &unit)?;
        let host = distances.detach().to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let of_row: Vec<usize> = labels.iter().map(|label| places[label]).collect();
        let mut search = Search::new(&host, &of_row, places.len(), self.settings.gamma.get());
        search.grow();
        search.refine(self.settings.sweeps);
        let medoids = class_medoids(&host, &of_row, places.len());
        let flat = distances.flatten_all()?;
        let sum_of = |columns: Vec<usize>| -> Result<Tensor> {
            let index: Vec<u32> = (0..n)
                .zip(columns)
                .map(|(i, j)| (i * n + j) as u32)
                .collect();
            let index = Tensor::from_slice(&index, n, flat.device())?;
            flat.index_select(&index, 0)?.sum_all()
        };
        let worst = sum_of(search.assignment.clone())?;
        let best = sum_of(of_row.iter().map(|&class| medoids[class]).collect())?;
        let bonus = self.settings.gamma.get() * search.disagreement(&search.assignment);
        let mut value = hinge(&((best - worst)? + bonus)?)?;
        if self.settings.per_sample {
            value = (value / n as f64)?;
        }
        Ok(vec![Terms::of_batch("batch", &value, comparison)?])
    }
}

/// The row of each class that is nearest to all of it; the first of several.
fn class_medoids(distances: &[Vec<f64>], of_row: &[usize], classes: usize) -> Vec<usize> {
    let mut best: Vec<Option<(f64, usize)>> = vec![None; classes];
    for (candidate, &class) in of_row.iter().enumerate() {
        let members = (0..of_row.len()).filter(|&row| of_row[row] == class);
        let cost: f64 = members.map(|row| distances[row][candidate]).sum();
        if best[class].is_none_or(|(least, _)| cost < least) {
            best[class] = Some((cost, candidate));
        }
    }
    best.into_iter().map(|it| it.map_or(0, |it| it.1)).collect()
}

/// `x log x`.
fn entropy_term(count: u32) -> f64 {
    let x = f64::from(count);
    if count == 0 { 0.0 } else { x * x.ln() }
}

/// The search for the clustering that is worst for the loss.
struct Search<'a> {
    distances: &'a [Vec<f64>],
    of_row: &'a [usize],
    classes: usize,
    gamma: f64,
    /// In the order in which they were found.
    medoids: Vec<usize>,
    /// The medoid of each row.
    assignment: Vec<usize>,
    /// `Σ a log a` of the sizes of the classes.
    class_entropy: f64,
    logarithms: Vec<f64>,
}

/// How many rows of each class each medoid has, and how many it has.
struct Counts {
    joint: Vec<u32>,
    sizes: Vec<u32>,
    joint_sum: f64,
    size_sum: f64,
}

impl<'a> Search<'a> {
    fn new(distances: &'a [Vec<f64>], of_row: &'a [usize], classes: usize, gamma: f64) -> Self {
        let mut sizes = vec![0u32; classes];
        for &class in of_row {
            sizes[class] += 1;
        }
        Self {
            distances,
            of_row,
            classes,
            gamma,
            medoids: Vec::new(),
            assignment: vec![usize::MAX; of_row.len()],
            class_entropy: sizes.iter().map(|&size| entropy_term(size)).sum(),
            logarithms: (0..=of_row.len() as u32).map(entropy_term).collect(),
        }
    }

    fn counts(&self, assignment: &[usize]) -> Counts {
        let n = self.of_row.len();
        let (mut joint, mut sizes) = (vec![0u32; n * self.classes], vec![0u32; n]);
        for (row, &medoid) in assignment.iter().enumerate() {
            if medoid != usize::MAX {
                joint[medoid * self.classes + self.of_row[row]] += 1;
                sizes[medoid] += 1;
            }
        }
        let sum = |counts: &[u32]| counts.iter().map(|&it| self.logarithms[it as usize]).sum();
        Counts {
            joint_sum: sum(&joint),
            size_sum: sum(&sizes),
            joint,
            sizes,
        }
    }

    /// `1 − NMI` from the sums of `x log x`.
    fn disagreement_of(&self, joint: f64, sizes: f64) -> f64 {
        let n = self.of_row.len() as f64;
        let (classes, clusters) = (n.ln() - self.class_entropy / n, n.ln() - sizes / n);
        let information = n.ln() + (joint - self.class_entropy - sizes) / n;
        let mean = 0.5 * (classes + clusters);
        if mean <= 1e-15 {
            return 0.0; // Both have one cluster, and agree.
        }
        (1.0 - information / mean).clamp(0.0, 1.0)
    }

    fn disagreement(&self, assignment: &[usize]) -> f64 {
        let counts = self.counts(assignment);
        self.disagreement_of(counts.joint_sum, counts.size_sum)
    }

    /// The disagreement after rows changed their medoid; the counts are as before afterwards.
    fn after(&self, counts: &mut Counts, moves: &[(usize, usize, usize)]) -> f64 {
        let mut sums = (counts.joint_sum, counts.size_sum);
        for &(row, from, to) in moves {
            self.shift(counts, &mut sums, (from, row), false);
            self.shift(counts, &mut sums, (to, row), true);
        }
        let found = sums;
        for &(row, from, to) in moves {
            self.shift(counts, &mut sums, (to, row), false);
            self.shift(counts, &mut sums, (from, row), true);
        }
        self.disagreement_of(found.0, found.1)
    }

    /// Takes a row from a medoid, or gives it one.
    fn shift(&self, counts: &mut Counts, sums: &mut (f64, f64), at: (usize, usize), up: bool) {
        let (medoid, row) = at;
        if medoid == usize::MAX {
            return;
        }
        let joint = &mut counts.joint[medoid * self.classes + self.of_row[row]];
        let size = &mut counts.sizes[medoid];
        for (count, sum) in [(joint, &mut sums.0), (size, &mut sums.1)] {
            *sum -= self.logarithms[*count as usize];
            *count = if up { *count + 1 } else { *count - 1 };
            *sum += self.logarithms[*count as usize];
        }
    }

    /// The rows that a new medoid would take.
    fn taken_by(&self, medoid: usize) -> Vec<(usize, usize, usize)> {
        let nearer = |row: usize| {
            let own = self.assignment[row];
            let free = own == usize::MAX || self.distances[row][medoid] < self.distances[row][own];
            row == medoid || (free && !self.medoids.contains(&row))
        };
        (0..self.of_row.len())
            .filter(|&row| nearer(row))
            .map(|row| (row, self.assignment[row], medoid))
            .collect()
    }

    /// As many medoids as classes, each the best beside those before it.
    fn grow(&mut self) {
        let n = self.of_row.len();
        while self.medoids.len() < self.classes {
            let mut counts = self.counts(&self.assignment);
            let cost: f64 = (0..n)
                .map(|row| match self.assignment[row] {
                    usize::MAX => 0.0,
                    own => self.distances[row][own],
                })
                .sum();
            let mut best: Option<(f64, usize)> = None;
            for candidate in (0..n).filter(|row| !self.medoids.contains(row)) {
                let moves = self.taken_by(candidate);
                let mut changed = cost;
                for &(row, from, to) in &moves {
                    if from != usize::MAX {
                        changed -= self.distances[row][from];
                    }
                    changed += self.distances[row][to];
                }
                let score = self.gamma * self.after(&mut counts, &moves) - changed;
                if best.is_none_or(|(largest, _)| score > largest) {
                    best = Some((score, candidate));
                }
            }
            let Some((_, medoid)) = best else {
                return;
            };
            for (row, _, to) in self.taken_by(medoid) {
                self.assignment[row] = to;
            }
            self.medoids.push(medoid);
        }
    }

    /// Each row to the nearest of the medoids, ties to the first of them, a medoid to itself.
    fn assigned(&self, medoids: &[usize]) -> Vec<usize> {
        let mut assignment: Vec<usize> = (0..self.of_row.len())
            .map(|row| {
                let first = medoids[0];
                medoids.iter().fold(first, |best, &medoid| {
                    match self.distances[row][medoid] < self.distances[row][best] {
                        true => medoid,
                        false => best,
                    }
                })
            })
            .collect();
        for &medoid in medoids {
            assignment[medoid] = medoid;
        }
        assignment
    }

    /// Rounds in which each cluster tries each of its rows as its medoid.
    fn refine(&mut self, sweeps: usize) {
        for _ in 0..sweeps {
            let before = self.medoids.clone();
            for place in 0..self.medoids.len() {
                let own = self.medoids[place];
                let members: Vec<usize> = (0..self.of_row.len())
                    .filter(|&row| self.assignment[row] == own)
                    .collect();
                let mut counts = self.counts(&self.assignment);
                let mut best: Option<(f64, usize)> = None;
                for &candidate in &members {
                    let mut medoids = self.medoids.clone();
                    medoids[place] = candidate;
                    let assignment = self.assigned(&medoids);
                    let moves: Vec<(usize, usize, usize)> = (0..self.of_row.len())
                        .filter(|&row| assignment[row] != self.assignment[row])
                        .map(|row| (row, self.assignment[row], assignment[row]))
                        .collect();
                    let cost: f64 = members
                        .iter()
                        .map(|&row| self.distances[row][candidate])
                        .sum();
                    let score = self.gamma * self.after(&mut counts, &moves) - cost;
                    if best.is_none_or(|(largest, _)| score > largest) {
                        best = Some((score, candidate));
                    }
                }
                if let Some((_, medoid)) = best {
                    self.medoids[place] = medoid;
                    self.assignment = self.assigned(&self.medoids);
                }
            }
            if self.medoids == before {
                return; // Another round would change nothing.
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nearfar_core::{Purpose, Seed};

    use super::*;

    /// Disagreement by the definition.
    fn by_definition(of_row: &[usize], assignment: &[usize]) -> f64 {
        let n = of_row.len() as f64;
        let share =
            |f: &dyn Fn(usize) -> bool| (0..of_row.len()).filter(|&i| f(i)).count() as f64 / n;
        let (mut information, mut entropies) = (0.0, 0.0);
        for a in 0..of_row.len() {
            let p = share(&|i| of_row[i] == a);
            let q = share(&|i| assignment[i] == a);
            entropies -= if p > 0.0 { p * p.ln() } else { 0.0 };
            entropies -= if q > 0.0 { q * q.ln() } else { 0.0 };
            for b in 0..of_row.len() {
                let both = share(&|i| of_row[i] == a && assignment[i] == b);
                let q = share(&|i| assignment[i] == b);
                if both > 0.0 {
                    information += both * (both / (p * q)).ln();
                }
            }
        }
        1.0 - 2.0 * information / entropies
    }

    fn random(n: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut rng = Seed(seed).rng(Purpose::Generation, 0);
        let points: Vec<[f64; 2]> = (0..n).map(|_| [rng.normal(), rng.normal()]).collect();
        let distance = |a: &[f64; 2], b: &[f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        points
            .iter()
            .map(|a| points.iter().map(|b| distance(a, b)).collect())
            .collect()
    }

    #[test]
    fn counts_that_are_kept_give_the_definition_s_disagreement() {
        let of_row = [0, 0, 1, 1, 2, 2, 0, 2];
        for seed in 0..5 {
            let distances = random(8, seed);
            let mut search = Search::new(&distances, &of_row, 3, 1.0);
            search.grow();
            search.refine(5);
            assert_eq!(search.assignment, search.assigned(&search.medoids));
            let wanted = by_definition(&of_row, &search.assignment);
            assert!((search.disagreement(&search.assignment) - wanted).abs() < 1e-12);
            let moves = [(0, search.assignment[0], 5), (3, search.assignment[3], 5)];
            let mut moved = search.assignment.clone();
            (moved[0], moved[3]) = (5, 5);
            let mut counts = search.counts(&search.assignment);
            let joint = counts.joint.clone();
            let found = search.after(&mut counts, &moves);
            assert!((found - by_definition(&of_row, &moved)).abs() < 1e-12);
            assert_eq!(counts.joint, joint, "as before");
        }
    }

    /// Greedy addition against the plain one, which scores each candidate from scratch.
    #[test]
    fn growing_is_the_plain_greedy_search() {
        let of_row = [0, 1, 0, 1, 2, 2, 2, 0, 1];
        for seed in 0..10 {
            let distances = random(9, 100 + seed);
            let mut search = Search::new(&distances, &of_row, 3, 1.0);
            search.grow();
            let mut medoids: Vec<usize> = Vec::new();
            for _ in 0..3 {
                let score = |j: usize| {
                    let with = [&medoids[..], &[j]].concat();
                    let assignment = search.assigned(&with);
                    let cost: f64 = (0..9).map(|i| distances[i][assignment[i]]).sum();
                    by_definition(&of_row, &assignment).max(0.0) - cost
                };
                let mut best = None;
                for j in (0..9).filter(|j| !medoids.contains(j)) {
                    if best.is_none_or(|(largest, _)| score(j) > largest + 1e-12) {
                        best = Some((score(j), j));
                    }
                }
                medoids.push(best.expect("nine rows").1);
            }
            assert_eq!(search.medoids, medoids);
        }
    }

    #[test]
    fn two_tight_classes_are_their_own_best_clustering() {
        let distances: Vec<Vec<f64>> = (0..4)
            .map(|i| {
                (0..4)
                    .map(|j| f64::from(i / 2 != j / 2) + f64::from(i != j) * 0.1)
                    .collect()
            })
            .collect();
        let mut search = Search::new(&distances, &[0, 0, 1, 1], 2, 0.0);
        search.grow();
        search.refine(5);
        assert_eq!(search.medoids, [0, 2]);
        assert_eq!(class_medoids(&distances, &[0, 0, 1, 1], 2), [0, 2]);
        assert!(search.disagreement(&search.assignment).abs() < 1e-12);
    }
}
