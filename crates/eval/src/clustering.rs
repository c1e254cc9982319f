//! Do clusters of embeddings agree with classes?

use std::collections::BTreeMap;

use nearfar_core::{EmbeddingTable, Purpose, Seed};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::search::{Measure, Search, search};

/// How to cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KMeans {
    /// Number of clusters.
    pub clusters: usize,
    /// Rounds of assigning and averaging, unless nothing changes before.
    pub iterations: usize,
    /// How often to begin anew; the best is kept.
    pub restarts: usize,
    /// Of the random numbers that choose the first centers.
    pub seed: Seed,
}

impl KMeans {
    /// 20 rounds, as in pytorch-metric-learning and faiss, once.
    pub fn new(clusters: usize, seed: Seed) -> Self {
        Self {
            clusters,
            iterations: 20,
            restarts: 1,
            seed,
        }
    }
}

/// Rows in clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// The cluster of each row.
    pub assignment: Vec<u32>,
    /// Means of the clusters, row-major, `clusters · d`.
    pub centers: Vec<f32>,
    /// The sum of squared distances of rows to the centers of their clusters.
    pub inertia: f64,
}

/// k-means: the rows are assigned to the nearest center, the first of equally near ones, and the centers become the means
/// of their rows (Lloyd 1982), beginning with centers drawn among the rows with probability proportional to the squared
/// distance to those drawn before (Arthur and Vassilvitskii, "k-means++", 2007). A cluster without rows takes the row that
/// is farthest from its center.
///
/// # Errors
/// When there are fewer rows than clusters, no clusters are wanted, or a value is not finite.
pub fn k_means(table: &EmbeddingTable, settings: KMeans) -> Result<Clusters> {
    let KMeans {
        clusters,
        iterations,
        restarts,
        seed,
    } = settings;
    if clusters == 0 || restarts == 0 {
        return Err(Error::Settings(
            "k-means needs at least one cluster and one start".into(),
        ));
    }
    if table.len() < clusters {
        return Err(Error::Undefined(format!(
            "{} rows cannot make {clusters} clusters",
            table.len()
        )));
    }
    if let Some(bad) = (0..table.len()).find(|&row| table.row(row).iter().any(|x| !x.is_finite())) {
        return Err(Error::Undefined(format!(
            "row {bad} is not finite, and has no place in a cluster"
        )));
    }
    let mut best: Option<Clusters> = None;
    for restart in 0..restarts {
        let mut rng = seed.rng(Purpose::Evaluation, restart as u64);
        let run = lloyd(
            table,
            first_centers(table, clusters, &mut rng),
            clusters,
            iterations,
        )?;
        if best.as_ref().is_none_or(|best| run.inertia < best.inertia) {
            best = Some(run);
        }
    }
    Ok(best.expect("there is at least one start"))
}

/// Rows that one task looks at. It does not depend on the number of threads, and so neither do sums.
const ROWS: usize = 1024;

fn first_centers(table: &EmbeddingTable, clusters: usize, rng: &mut nearfar_core::Rng) -> Vec<f32> {
    let dim = table.dim;
    let mut centers = table.row(rng.below(table.len())).to_vec();
    let mut nearest = vec![f64::INFINITY; table.len()];
    while centers.len() < clusters * dim {
        let center = &centers[centers.len() - dim..];
        nearest
            .par_chunks_mut(ROWS)
            .enumerate()
            .for_each(|(chunk, nearest)| {
                for (place, nearest) in nearest.iter_mut().enumerate() {
                    let row = table.row(chunk * ROWS + place);
                    *nearest = nearest.min(crate::exact::squared_distance(row, center));
                }
            });
        let total: f64 = nearest.iter().sum();
        let next = if total > 0.0 {
            let mut left = rng.uniform() * total;
            // Rounding may leave a little after the last row: then it is the last that can be drawn.
            let drawn = nearest.iter().position(|&d| {
                left -= d;
                d > 0.0 && left < 0.0
            });
            drawn
                .or_else(|| nearest.iter().rposition(|&d| d > 0.0))
                .unwrap_or(0)
        } else {
            rng.below(table.len()) // All rows are centers already; the clusters will be empty, and are filled later.
        };
        centers.extend_from_slice(table.row(next));
    }
    centers
}

fn lloyd(
    table: &EmbeddingTable,
    centers: Vec<f32>,
    clusters: usize,
    iterations: usize,
) -> Result<Clusters> {
    let dim = table.dim;
    let mut centers = EmbeddingTable {
        vectors: centers,
        dim,
        labels: Vec::new(),
        ids: (0..clusters as u64).collect(),
    };
    let rows = EmbeddingTable {
        labels: Vec::new(),
        ..table.clone()
    };
    let nearest = |centers: &EmbeddingTable| {
        let settings = Search {
            k: 1,
            ..Search::default()
        };
        search(&rows, centers, Measure::SQUARED_EUCLIDEAN, &settings)
    };
    let mut found = nearest(&centers)?;
    for _ in 0..iterations {
        let mut sums = vec![0.0f64; clusters * dim];
        let mut counts = vec![0u32; clusters];
        for (row, &cluster) in found.indices.iter().enumerate() {
            counts[cluster as usize] += 1;
            let sum = &mut sums[cluster as usize * dim..][..dim];
            for (sum, value) in sum.iter_mut().zip(table.row(row)) {
                *sum += f64::from(*value);
            }
        }
        let mut farthest: Vec<usize> = (0..table.len()).collect();
        if counts.contains(&0) {
            farthest.sort_by(|&a, &b| {
                found.distances[b]
                    .total_cmp(&found.distances[a])
                    .then(a.cmp(&b))
            });
        }
        let mut farthest = farthest.into_iter();
        for cluster in 0..clusters {
            let center = &mut centers.vectors[cluster * dim..][..dim];
            if counts[cluster] == 0 {
                let row = farthest.next().expect("there are as many rows as clusters");
                center.copy_from_slice(table.row(row));
            } else {
                let count = f64::from(counts[cluster]);
                for (center, sum) in center.iter_mut().zip(&sums[cluster * dim..]) {
                    *center = (sum / count) as f32;
                }
            }
        }
        let next = nearest(&centers)?;
        let same = next.indices == found.indices;
        found = next;
        if same {
            break;
        }
    }
    Ok(Clusters {
        inertia: found.distances.iter().sum(),
        assignment: found.indices,
        centers: centers.vectors,
    })
}

/// How two partitions of the same things agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// How many things there are in a class and a cluster together, for those that share any; in the order of pairs.
    together: Vec<(usize, usize, u64)>,
    classes: Vec<u64>,
    clusters: Vec<u64>,
    total: u64,
}

impl Agreement {
    /// Of the class and the cluster of each thing.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn new(classes: &[u32], clusters: &[u32]) -> Result<Self> {
        if classes.len() != clusters.len() {
            return Err(Error::Lengths {
                left: "the classes",
                left_length: classes.len(),
                right: "the clusters",
                right_length: clusters.len(),
            });
        }
        let numbered = |labels: &[u32]| {
            let mut numbers: BTreeMap<u32, usize> =
                labels.iter().map(|&label| (label, 0)).collect();
            for (number, entry) in numbers.values_mut().enumerate() {
                *entry = number;
            }
            (
                labels
                    .iter()
                    .map(|label| numbers[label])
                    .collect::<Vec<_>>(),
                numbers.len(),
            )
        };
        let (class_of, classes) = numbered(classes);
        let (cluster_of, clusters) = numbered(clusters);
        let mut agreement = Self {
            together: Vec::new(),
            classes: vec![0; classes],
            clusters: vec![0; clusters],
            total: class_of.len() as u64,
        };
        let mut together = BTreeMap::<(usize, usize), u64>::new();
        for (class, cluster) in class_of.into_iter().zip(cluster_of) {
            agreement.classes[class] += 1;
            agreement.clusters[cluster] += 1;
            *together.entry((class, cluster)).or_default() += 1;
        }
        agreement.together = together
            .into_iter()
            .map(|((i, j), count)| (i, j, count))
            .collect();
        Ok(agreement)
    }

    /// Mutual information in nats; 0 of nothing.
    pub fn mutual_information(&self) -> f64 {
        let total = self.total as f64;
        let terms = self.together.iter().map(|&(class, cluster, count)| {
            let (count, class, cluster) = (
                count as f64,
                self.classes[class] as f64,
                self.clusters[cluster] as f64,
            );
            count / total * ((count / class).ln() - (cluster / total).ln())
        });
        terms.sum::<f64>().max(0.0)
    }

    /// Entropy of the classes and of the clusters, in nats.
    pub fn entropies(&self) -> (f64, f64) {
        let entropy = |counts: &[u64]| {
            let shares = counts.iter().map(|&count| count as f64 / self.total as f64);
            -shares.map(|share| share * share.ln()).sum::<f64>()
        };
        // −0 of a single class is 0.
        (
            entropy(&self.classes).max(0.0),
            entropy(&self.clusters).max(0.0),
        )
    }

    /// Normalized mutual information, `2 I / (H + H′)`: the arithmetic mean, as in scikit-learn; older papers divide by the
    /// geometric one. One class and one cluster agree: 1. One of them alone says nothing: 0.
    pub fn nmi(&self) -> f64 {
        let (classes, clusters) = self.entropies();
        if self.classes.len() <= 1 && self.clusters.len() <= 1 {
            return 1.0;
        }
        if classes == 0.0 || clusters == 0.0 {
            return 0.0;
        }
        2.0 * self.mutual_information() / (classes + clusters)
    }

    /// Adjusted mutual information, `(I − E[I]) / (½ (H + H′) − E[I])`, where the expectation is over partitions with
    /// clusters of these sizes (Vinh, Epps, Bailey, JMLR 2010). 1 where the denominator is 0.
    pub fn ami(&self) -> f64 {
        let single = |counts: &[u64]| counts.len() <= 1;
        let apart = |counts: &[u64]| counts.len() as u64 == self.total;
        if (single(&self.classes) && single(&self.clusters))
            || (apart(&self.classes) && apart(&self.clusters))
        {
            return 1.0;
        }
        if single(&self.classes) || single(&self.clusters) {
            return 0.0;
        }
        let expected = self.expected_mutual_information();
        let (classes, clusters) = self.entropies();
        let scale = (classes + clusters) / 2.0 - expected;
        if scale.abs() < f64::EPSILON {
            return 1.0;
        }
        (self.mutual_information() - expected) / scale
    }

    fn expected_mutual_information(&self) -> f64 {
        let total = self.total as usize;
        let n = total as f64;
        let logs = log_factorials(total);
        let sizes = |counts: &[u64]| {
            let mut sizes = BTreeMap::<usize, u64>::new();
            for &count in counts {
                *sizes.entry(count as usize).or_default() += 1;
            }
            sizes
        };
        let clusters = sizes(&self.clusters);
        let mut expected = 0.0;
        for (&a, &times_a) in &sizes(&self.classes) {
            for (&b, &times_b) in &clusters {
                let fixed = logs[a] + logs[b] + logs[total - a] + logs[total - b] - logs[total];
                let mut sum = 0.0;
                for k in (a + b).saturating_sub(total).max(1)..=a.min(b) {
                    let free = logs[k] + logs[a - k] + logs[b - k] + logs[total + k - a - b];
                    let k = k as f64;
                    sum += k / n * (n * k / (a as f64 * b as f64)).ln() * (fixed - free).exp();
                }
                expected += (times_a * times_b) as f64 * sum;
            }
        }
        expected
    }

    /// Adjusted Rand index (Hubert and Arabie 1985): 1 for the same partition, 0 on average for a random one.
    pub fn ari(&self) -> f64 {
        let pairs = |counts: &mut dyn Iterator<Item = u64>| -> f64 {
            counts
                .map(|count| count as f64 * (count as f64 - 1.0) / 2.0)
                .sum()
        };
        let all = self.total as f64 * (self.total as f64 - 1.0) / 2.0;
        let together = pairs(&mut self.together.iter().map(|(_, _, count)| *count));
        let classes = pairs(&mut self.classes.iter().copied());
        let clusters = pairs(&mut self.clusters.iter().copied());
        let same = classes - together == 0.0 && clusters - together == 0.0;
        if all <= 0.0 || same {
            return 1.0;
        }
        let expected = classes * clusters / all;
        (together - expected) / ((classes + clusters) / 2.0 - expected)
    }

    /// Purity: the share of things that are of the most frequent class of their cluster. It is 1 where each is a cluster.
    pub fn purity(&self) -> f64 {
        let mut largest = vec![0; self.clusters.len()];
        for &(_, cluster, count) in &self.together {
            largest[cluster] = count.max(largest[cluster]);
        }
        largest.iter().sum::<u64>() as f64 / self.total.max(1) as f64
    }
}

/// `ln n!` for `0..=last`.
fn log_factorials(last: usize) -> Vec<f64> {
    let (mut sum, mut lost) = (0.0f64, 0.0f64); // Kahan's sum: a plain one loses digits that the exponential needs.
    let logs = (1..=last).map(|n| {
        let term = (n as f64).ln() - lost;
        let next = sum + term;
        lost = (next - sum) - term;
        sum = next;
        sum
    });
    std::iter::once(0.0).chain(logs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_on_paper() {
        let agreement = Agreement::new(&[0, 0, 1, 1], &[5, 5, 9, 9]).unwrap();
        assert_eq!(
            [
                agreement.nmi(),
                agreement.ami(),
                agreement.ari(),
                agreement.purity()
            ]
            .map(|x| (x * 1e9).round() / 1e9),
            [1.0; 4]
        );
        // Independent: no information, below chance by pairs.
        let agreement = Agreement::new(&[0, 0, 1, 1], &[0, 1, 0, 1]).unwrap();
        assert!(agreement.nmi().abs() < 1e-12);
        assert!((agreement.ari() + 0.5).abs() < 1e-12);
        assert_eq!(agreement.purity(), 0.5);
        assert!((agreement.ami() + 0.5).abs() < 1e-9);
    }

    #[test]
    fn one_class_or_one_cluster() {
        let both = Agreement::new(&[1, 1], &[0, 0]).unwrap();
        assert_eq!((both.nmi(), both.ami(), both.ari()), (1.0, 1.0, 1.0));
        let one = Agreement::new(&[1, 1, 1], &[0, 1, 1]).unwrap();
        assert_eq!((one.nmi(), one.ami(), one.ari()), (0.0, 0.0, 0.0));
        assert_eq!(one.purity(), 1.0);
        assert!(Agreement::new(&[1], &[]).is_err());
    }

    fn table(points: &[[f32; 2]]) -> EmbeddingTable {
        EmbeddingTable {
            vectors: points.concat(),
            dim: 2,
            labels: Vec::new(),
            ids: (0..points.len() as u64).collect(),
        }
    }

    #[test]
    fn clear_groups_are_found_from_any_seed() {
        let groups = table(&[[0., 0.], [0., 1.], [9., 0.], [9., 1.], [0., 9.], [1., 9.]]);
        for seed in 0..20 {
            let found = k_means(
                &groups,
                KMeans {
                    restarts: 5,
                    ..KMeans::new(3, Seed(seed))
                },
            )
            .unwrap();
            let agreement = Agreement::new(&[0, 0, 1, 1, 2, 2], &found.assignment).unwrap();
            assert_eq!((agreement.ari(), found.inertia), (1.0, 1.5), "seed {seed}");
        }
    }

    #[test]
    fn equal_rows_and_too_few_rows() {
        let equal = table(&[[1., 1.]; 4]);
        let found = k_means(&equal, KMeans::new(3, Seed(0))).unwrap();
        assert_eq!((found.inertia, found.assignment.len()), (0.0, 4));
        assert!(k_means(&equal, KMeans::new(5, Seed(0))).is_err());
        assert!(k_means(&equal, KMeans::new(0, Seed(0))).is_err());
        assert!(k_means(&table(&[[f32::NAN, 0.]]), KMeans::new(1, Seed(0))).is_err());
    }
}
