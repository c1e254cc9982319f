//! Overlap of clusters.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{
    Comparison, EmbeddingTable, Error, Loss, NonNegative, Reducer, Rng, Span, Stateful, Terms,
};
use nearfar_kernels::{hinge, masked_log_sum_exp, squared_euclidean};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, classes};
use crate::{Compares, Join, Reads, prefix};

/// Wants each row nearer to the mean of its cluster than to the means of clusters of other classes, in units of their spread. A
/// class has several clusters, which need not lie together.
///
/// ```text
/// l = [ ‖x − μ_own‖² / (2σ²) + alpha + log Σ_{m of other classes} e^(−‖x − μ_m‖² / (2σ²)) ]₊
/// σ² = Σ ‖x − μ_own‖² / (n − 1)
/// ```
///
/// `μ` are the means of the clusters over the rows of the batch, and `σ²` is their common variance; both have a gradient (`σ²` not,
/// with `detach_variance`). Where all rows lie on the means of their clusters, `σ²` is `1e-12` of the mean squared length. With one
/// class in the batch, or one row, there is nothing to learn.
///
/// The clusters are an index that is built of the whole training set, at the start of each epoch: of each class by k-means, begun
/// by k-means++. It is state, by the rows' ids. A row that is not in it counts to the first cluster of its class. The sampler
/// `magnet_clusters` makes batches of clusters that are near each other; after training [`ClusterVote`](crate::ClusterVote) says
/// which class new rows are. Reads classes, of the anchors; takes no miner.
///
/// Source: Rippel et al., "Metric Learning with Adaptive Density Discrimination", ICLR 2016, <https://arxiv.org/abs/1511.05939>,
/// equations 4 to 6. Two public codes divide by `2σ⁴` and take the logarithm of a ratio with small constants in it; this does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Magnet {
    /// The wanted gap, in units of the spread.
    pub alpha: NonNegative,
    /// How many clusters a class has, at most.
    pub clusters: NonZeroUsize,
    /// Rounds of k-means.
    pub rounds: usize,
    /// Whether the variance is taken without a gradient.
    pub detach_variance: bool,
}

impl Default for Magnet {
    /// The paper's values.
    fn default() -> Self {
        Self {
            alpha: NonNegative::literal(1.0),
            clusters: NonZeroUsize::new(3).expect("3 is above 0"),
            rounds: 20,
            detach_variance: false,
        }
    }
}

impl BatchLoss for Magnet {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::DistantCenters
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "means of clusters")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let formula = Index {
            name,
            settings: self.clone(),
            clusters: BTreeMap::new(),
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Index {
    name: &'static str,
    settings: Magnet,
    /// The cluster within its class of each row of the training set, by id.
    clusters: BTreeMap<u64, u32>,
}

impl Formula for Index {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let labels = classes(self.name, comparison)?;
        let none = || Ok(vec![Terms::none("cluster", comparison)]);
        let n = labels.len();
        let cluster_of = |row: usize| {
            let id = comparison.anchors.ids[row];
            (labels[row], self.clusters.get(&id).copied().unwrap_or(0))
        };
        let mut members: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
        for row in 0..n {
            members.entry(cluster_of(row)).or_default().push(row);
        }
        let classes: Vec<u32> = members.keys().map(|it| it.0).collect();
        if n < 2 || classes.first() == classes.last() {
            return none();
        }
        let m = members.len();
        let (mut shares, mut own, mut foreign) =
            (vec![0f64; m * n], vec![0u32; n], vec![0u8; n * m]);
        for (place, (cluster, rows)) in members.iter().enumerate() {
            for &row in rows {
                shares[place * n + row] = 1.0 / rows.len() as f64;
                own[row] = place as u32;
            }
            for (row, label) in labels.iter().enumerate() {
                foreign[row * m + place] = u8::from(*label != cluster.0);
            }
        }
        let rows = &comparison.anchors.vectors;
        let (dtype, device) = (rows.dtype(), rows.device());
        let shares = Tensor::from_vec(shares, (m, n), &Device::Cpu)?;
        let means = shares
            .to_dtype(dtype)?
            .to_device(device)?
            .matmul(&rows.contiguous()?)?;
        let squares = squared_euclidean(rows, &means)?; // (n, m)
        let own = Tensor::from_vec(own, (n, 1), device)?;
        let to_own = squares.gather(&own, 1)?.squeeze(1)?;
        // Never 0, and above what f32 can divide by.
        let least = rows.detach().to_dtype(DType::F64)?.sqr()?.sum_all()?;
        let least = (1e-12 * least.to_scalar::<f64>()? / n as f64).max(1e-18);
        let variance = (to_own.sum_all()? / (n as f64 - 1.0))?.maximum(least)?;
        let variance = match self.settings.detach_variance {
            true => variance.detach(),
            false => variance,
        };
        let unit = (variance * 2.0)?;
        let pull = to_own.broadcast_div(&unit)?;
        let foreign = Tensor::from_vec(foreign, (n, m), device)?;
        let push = masked_log_sum_exp(&squares.broadcast_div(&unit)?.neg()?, &foreign)?;
        let values = hinge(&((pull + push)? + self.settings.alpha.get())?)?;
        let anchors = (0..n as u32).collect();
        Ok(vec![Terms::of_anchors(
            "cluster", values, anchors, comparison,
        )?])
    }
}

impl Stateful for Index {
    fn state(&self) -> BTreeMap<String, Tensor> {
        if self.clusters.is_empty() {
            return BTreeMap::new();
        }
        let ids: Vec<i64> = self.clusters.keys().map(|&id| id as i64).collect();
        let clusters: Vec<u32> = self.clusters.values().copied().collect();
        let n = ids.len();
        let list = "a list is a tensor";
        [
            (IDS, Tensor::from_vec(ids, n, &Device::Cpu).expect(list)),
            (
                CLUSTERS,
                Tensor::from_vec(clusters, n, &Device::Cpu).expect(list),
            ),
        ]
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        prefix::refuse_others(state, |name| name == IDS || name == CLUSTERS)?;
        self.clusters = match (state.get(IDS), state.get(CLUSTERS)) {
            (None, None) => BTreeMap::new(),
            (Some(ids), Some(clusters)) if ids.dims() == clusters.dims() => {
                let ids = ids.to_vec1::<i64>()?.into_iter().map(|id| id as u64);
                ids.zip(clusters.to_vec1::<u32>()?).collect()
            }
            _ => Err(Error::Input(format!(
                "the states `{IDS}` and `{CLUSTERS}` of {} do not belong together",
                self.name
            )))?,
        };
        Ok(())
    }

    fn interval(&self) -> Option<Span> {
        Some(Span::Epochs(1))
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (row, &label) in table.labels.iter().enumerate() {
            classes.entry(label).or_default().push(row);
        }
        self.clusters.clear();
        for members in classes.values() {
            let rows: Vec<&[f32]> = members.iter().map(|&row| table.row(row)).collect();
            let of_rows = k_means(
                &rows,
                self.settings.clusters.get(),
                self.settings.rounds,
                rng,
            );
            let ids = members.iter().map(|&row| table.ids[row]);
            self.clusters.extend(ids.zip(of_rows));
        }
        Ok(())
    }
}

/// The names of the state.
pub(super) const IDS: &str = "index.ids";
pub(super) const CLUSTERS: &str = "index.clusters";

fn squared_distance(x: &[f32], y: &[f64]) -> f64 {
    x.iter()
        .zip(y)
        .map(|(x, y)| (f64::from(*x) - y).powi(2))
        .sum()
}

/// The cluster of each row: Lloyd's k-means, begun by k-means++. A cluster that loses all its rows begins anew at the row that is
/// farthest from its own center; ties go to the first.
fn k_means(rows: &[&[f32]], k: usize, rounds: usize, rng: &mut Rng) -> Vec<u32> {
    let n = rows.len();
    if n == 0 {
        return Vec::new();
    }
    let wide = |row: &[f32]| row.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let mut centers = vec![wide(rows[rng.below(n)])];
    let mut nearest: Vec<f64> = rows
        .iter()
        .map(|row| squared_distance(row, &centers[0]))
        .collect();
    while centers.len() < k.min(n) {
        let total: f64 = nearest.iter().sum();
        if total <= 0.0 {
            break; // All that is left coincides with a center.
        }
        let mut left = rng.uniform() * total;
        let mut chosen = n - 1;
        for (row, weight) in nearest.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                chosen = row;
                break;
            }
        }
        centers.push(wide(rows[chosen]));
        let newest = &centers[centers.len() - 1];
        for (least, row) in nearest.iter_mut().zip(rows) {
            *least = least.min(squared_distance(row, newest));
        }
    }
    let mut assignment = vec![0u32; n];
    for round in 0..=rounds {
        let mut distances = vec![0f64; n];
        let mut changed = false;
        for (row, values) in rows.iter().enumerate() {
            let mut best = (f64::INFINITY, 0);
            for (place, center) in centers.iter().enumerate() {
                let distance = squared_distance(values, center);
                if distance < best.0 {
                    best = (distance, place);
                }
            }
            distances[row] = best.0;
            changed |= assignment[row] != best.1 as u32;
            assignment[row] = best.1 as u32;
        }
        if round == rounds || (round > 0 && !changed) {
            break;
        }
        let mut counts = vec![0f64; centers.len()];
        let mut sums = vec![vec![0f64; rows[0].len()]; centers.len()];
        for (row, &place) in rows.iter().zip(&assignment) {
            counts[place as usize] += 1.0;
            for (sum, &x) in sums[place as usize].iter_mut().zip(*row) {
                *sum += f64::from(x);
            }
        }
        for (place, (count, sum)) in counts.iter().zip(sums).enumerate() {
            if *count > 0.0 {
                centers[place] = sum.iter().map(|x| x / count).collect();
                continue;
            }
            let mut farthest = 0;
            for (row, &distance) in distances.iter().enumerate() {
                if distance > distances[farthest] {
                    farthest = row;
                }
            }
            centers[place] = wide(rows[farthest]);
            distances[farthest] = 0.0;
        }
    }
    assignment
}

#[cfg(test)]
mod tests {
    use nearfar_core::{Embeddings, Purpose, Seed};

    use super::*;

    fn rng() -> Rng {
        Seed(3).rng(Purpose::Refresh, 0)
    }

    #[test]
    fn clusters_are_found_and_part_of_the_state() -> Result<()> {
        // Class 0 lies in two places, class 1 between them.
        let line = [0f32, 0.1, 9.0, 9.1, 5.0, 5.1];
        let mut table = EmbeddingTable::new(1);
        let rows = Tensor::from_slice(&line, (6, 1), &Device::Cpu)?;
        table.append(&rows, &[0, 0, 0, 0, 1, 1], &[10, 11, 12, 13, 14, 15])?;
        let settings = Magnet {
            clusters: NonZeroUsize::new(2).expect("2"),
            ..Magnet::default()
        };
        let build = || settings.build("magnet", Join::default());
        let (mut loss, mut other) = (build()?, build()?);
        loss.refresh(&table, &mut rng())?;
        let state = loss.state();
        let clusters = state[CLUSTERS].to_vec1::<u32>()?;
        assert!(clusters[0] == clusters[1] && clusters[2] == clusters[3]);
        assert_ne!(clusters[0], clusters[2]);
        other.restore(&state)?;
        let ids = (10..16).collect();
        let rows = Embeddings::new(rows, vec![0, 0, 0, 0, 1, 1], ids)?;
        let within = Comparison::within(&rows);
        let value = |loss: &dyn Loss| -> Result<f32> {
            let total = loss.evaluate(&within, &mut rng())?.total()?;
            total.expect("two classes").to_scalar::<f32>()
        };
        assert_eq!(value(&*loss)?, value(&*other)?);
        assert_eq!(value(&*loss)?, 0.0, "tight clusters far apart");
        assert!(
            value(&*build()?)? > 0.5,
            "one cluster a class lies over the other"
        );
        assert_eq!(loss.interval(), Some(Span::Epochs(1)));
        Ok(())
    }

    #[test]
    fn it_is_the_number_on_paper_with_the_variance_and_not_its_square() -> Result<()> {
        // Means 1 and 4; the variance is (1 + 1 + 1 + 1) / 3.
        let rows = Tensor::new(&[[0f64], [2.0], [3.0], [5.0]], &Device::Cpu)?;
        let rows = Embeddings::labeled(rows, vec![0, 0, 1, 1])?;
        let loss = Magnet::default().build("magnet", Join::default())?;
        let total = loss
            .evaluate(&Comparison::within(&rows), &mut rng())?
            .total()?;
        let unit = 2.0 * 4.0 / 3.0;
        let of = |other: f64| f64::max(0.0, 1.0 / unit + 1.0 - other / unit);
        let wanted = (of(16.0) + of(4.0)) / 2.0;
        let value = total.expect("two classes").to_scalar::<f64>()?;
        assert!((value - wanted).abs() < 1e-12, "{value} {wanted}");
        Ok(())
    }

    #[test]
    fn more_clusters_than_different_rows_do_no_harm() {
        let same = [1f32, 1.0];
        assert_eq!(
            k_means(&[&same, &same, &same], 3, 20, &mut rng()),
            [0, 0, 0]
        );
        assert_eq!(k_means(&[], 3, 20, &mut rng()), [0u32; 0]);
    }
}
