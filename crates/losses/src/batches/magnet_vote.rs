//! Classes by the clusters of a trained magnet loss.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use candle_core::{DType, Result, Tensor};
use nearfar_core::{EmbeddingTable, Error, shape};

use super::magnet::{CLUSTERS, IDS};

/// Says of new rows which class they are, by a vote of the nearest clusters of a trained [`magnet`](crate::Magnet) loss.
///
/// ```text
/// p(c | x) ∝ Σ_{m of class c, among the nearest} e^(−‖x − μ_m‖² / (2σ²))
/// ```
///
/// `μ` are the means of the clusters over the rows of the training set and `σ²` their common variance, `Σ ‖x − μ_own‖² / (n − 1)`,
/// which is what batches estimate during training. Clusters are what is kept: a row is compared with some hundreds of means, not
/// with all training rows. Where the variance is 0, all rows lying on their means, the nearest cluster alone decides.
///
/// Source: Rippel et al., "Metric Learning with Adaptive Density Discrimination", ICLR 2016, <https://arxiv.org/abs/1511.05939>,
/// section 3.2 (kNC).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_core::{EmbeddingTable, Purpose, Seed};
/// use nearfar_losses::{ClusterVote, Join, LossConfig};
///
/// let mut table = EmbeddingTable::new(1);
/// let rows = Tensor::new(&[[0f32], [1.0], [10.0], [11.0], [5.0], [6.0]], &Device::Cpu)?;
/// table.append(&rows, &[0, 0, 0, 0, 1, 1], &[0, 1, 2, 3, 4, 5])?;
/// let mut loss = LossConfig::of_name("magnet").expect("known").build(Join::default())?;
/// loss.refresh(&table, &mut Seed(0).rng(Purpose::Refresh, 0))?; // As during training.
/// let vote = ClusterVote::new(&loss.state(), &table, ClusterVote::NEAREST)?;
/// let votes = vote.of(&Tensor::new(&[[0.5f32], [5.4], [9.0]], &Device::Cpu)?)?;
/// let classes: Vec<u32> = votes.iter().map(|it| it.class).collect();
/// assert_eq!(classes, [0, 1, 0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterVote {
    /// The mean of each cluster with its class, in the order of classes.
    clusters: Vec<(u32, Vec<f64>)>,
    variance: f64,
    nearest: NonZeroUsize,
}

/// What the clusters say of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Votes {
    /// The class with the largest share; of equal ones the first.
    pub class: u32,
    /// The share of each class that has a cluster among the nearest; together 1.
    pub shares: BTreeMap<u32, f64>,
}

impl ClusterVote {
    /// How many clusters vote in the paper.
    pub const NEAREST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(127);

    /// The clusters that a magnet loss [remembers](nearfar_core::Stateful::state), over the embeddings of the training set as they are
    /// now. Rows that it does not know belong to no cluster.
    ///
    /// # Errors
    /// [`Error::Input`] when the state is none of a magnet loss that has seen a training set, or knows no row of this one.
    pub fn new(
        state: &BTreeMap<String, Tensor>,
        table: &EmbeddingTable,
        nearest: NonZeroUsize,
    ) -> Result<Self> {
        let (Some(ids), Some(clusters)) = (state.get(IDS), state.get(CLUSTERS)) else {
            Err(Error::Input(format!(
                "the state has no `{IDS}` and `{CLUSTERS}`; take that of a `magnet` loss that was trained for an epoch"
            )))?
        };
        let (ids, clusters) = (ids.to_vec1::<i64>()?, clusters.to_vec1::<u32>()?);
        shape::length("magnet", (CLUSTERS, clusters.len()), (IDS, ids.len()))?;
        let clusters: BTreeMap<u64, u32> =
            ids.into_iter().map(|id| id as u64).zip(clusters).collect();
        let mut members: BTreeMap<(u32, u32), Vec<usize>> = BTreeMap::new();
        for (row, id) in table.ids.iter().enumerate() {
            if let (Some(&label), Some(&cluster)) = (table.labels.get(row), clusters.get(id)) {
                members.entry((label, cluster)).or_default().push(row);
            }
        }
        if members.is_empty() {
            Err(Error::Input(
                "the clusters know no row of the table; embed the set that the loss was trained on"
                    .into(),
            ))?;
        }
        let (mut means, mut squares, mut count) = (Vec::new(), 0f64, 0usize);
        for ((label, _), rows) in members {
            let mut mean = vec![0f64; table.dim];
            for &row in &rows {
                for (sum, &x) in mean.iter_mut().zip(table.row(row)) {
                    *sum += f64::from(x);
                }
            }
            mean.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
            count += rows.len();
            squares += rows
                .iter()
                .map(|&row| squared_distance(table.row(row).iter().map(|&x| f64::from(x)), &mean))
                .sum::<f64>();
            means.push((label, mean));
        }
        Ok(Self {
            clusters: means,
            variance: squares / count.saturating_sub(1).max(1) as f64,
            nearest,
        })
    }

    /// The votes on each row of `(n, d)`.
    ///
    /// # Errors
    /// When rows are not as wide as the clusters.
    pub fn of(&self, rows: &Tensor) -> Result<Vec<Votes>> {
        let (_, d) = shape::matrix("magnet", ("rows", rows))?;
        let width = self.clusters.first().map_or(d, |(_, mean)| mean.len());
        shape::length(
            "magnet",
            ("width of the rows", d),
            ("that of the clusters", width),
        )?;
        let rows = rows.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        Ok(rows.iter().map(|row| self.vote(row)).collect())
    }

    fn vote(&self, row: &[f64]) -> Votes {
        let distance = |mean: &[f64]| squared_distance(row.iter().copied(), mean);
        let mut near: Vec<(f64, u32)> = self
            .clusters
            .iter()
            .map(|(class, mean)| (distance(mean), *class))
            .collect();
        near.sort_by(|one, other| one.0.total_cmp(&other.0)); // Stable: of equal ones the first.
        near.truncate(self.nearest.get());
        let least = near.first().map_or(0.0, |it| it.0);
        let mut shares: BTreeMap<u32, f64> = BTreeMap::new();
        for (distance, class) in near {
            // Relative to the nearest, whose share is 1 before they are divided: so they never all vanish.
            let share = match distance - least {
                0.0 => 1.0,
                farther => (-farther / (2.0 * self.variance)).exp(),
            };
            *shares.entry(class).or_default() += if share.is_finite() { share } else { 0.0 };
        }
        let all: f64 = shares.values().sum();
        shares
            .values_mut()
            .for_each(|share| *share /= all.max(f64::MIN_POSITIVE));
        let mut best = (0, f64::NEG_INFINITY);
        for (&class, &share) in &shares {
            if share > best.1 {
                best = (class, share);
            }
        }
        let class = best.0;
        Votes { class, shares }
    }
}

fn squared_distance(x: impl Iterator<Item = f64>, y: &[f64]) -> f64 {
    x.zip(y).map(|(x, y)| (x - y).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn state(ids: &[i64], clusters: &[u32]) -> Result<BTreeMap<String, Tensor>> {
        let ids = Tensor::from_slice(ids, ids.len(), &Device::Cpu)?;
        let clusters = Tensor::from_slice(clusters, clusters.len(), &Device::Cpu)?;
        Ok([(IDS.to_owned(), ids), (CLUSTERS.to_owned(), clusters)].into())
    }

    fn table(rows: &[f32], labels: &[u32]) -> Result<EmbeddingTable> {
        let mut table = EmbeddingTable::new(1);
        let ids: Vec<u64> = (0..rows.len() as u64).collect();
        let rows = Tensor::from_slice(rows, (rows.len(), 1), &Device::Cpu)?;
        table.append(&rows, labels, &ids)?;
        Ok(table)
    }

    #[test]
    fn shares_are_those_on_paper() -> Result<()> {
        // Means 1 and 9 of class 0, 4 of class 1; squares 1 + 1 + 0 + 1 + 1 over 5 − 1.
        let table = table(&[0.0, 2.0, 9.0, 3.0, 5.0], &[0, 0, 0, 1, 1])?;
        let state = state(&[0, 1, 2, 3, 4], &[0, 0, 1, 0, 0])?;
        let two = NonZeroUsize::new(2).expect("2");
        let vote = ClusterVote::new(&state, &table, two)?;
        assert_eq!(vote.variance, 1.0);
        let row = Tensor::new(&[[2f64]], &Device::Cpu)?;
        let votes = vote.of(&row)?.remove(0);
        let (near, far) = ((-0.5f64).exp(), (-2f64).exp());
        assert!((votes.shares[&0] - near / (near + far)).abs() < 1e-12);
        assert!((votes.shares[&1] - far / (near + far)).abs() < 1e-12);
        assert_eq!(votes.class, 0);
        // A row far from all is no trouble, nor is a width that is another.
        let far = vote.of(&Tensor::new(&[[1e9f64]], &Device::Cpu)?)?.remove(0);
        assert!(far.shares.values().all(|it| it.is_finite()) && far.class == 0);
        assert!(
            vote.of(&Tensor::zeros((1, 2), DType::F64, &Device::Cpu)?)
                .is_err()
        );
        Ok(())
    }

    #[test]
    fn clusters_without_spread_and_states_that_are_none_do_no_harm() -> Result<()> {
        let table = table(&[1.0, 1.0, 2.0], &[7, 7, 8])?;
        let vote = ClusterVote::new(
            &state(&[0, 1, 2], &[0, 0, 0])?,
            &table,
            ClusterVote::NEAREST,
        )?;
        let votes = vote.of(&Tensor::new(&[[1.1f32], [1.5]], &Device::Cpu)?)?;
        assert_eq!((votes[0].class, votes[0].shares[&7]), (7, 1.0));
        assert_eq!(votes[1].shares[&7], 0.5);
        let error = ClusterVote::new(&BTreeMap::new(), &table, ClusterVote::NEAREST);
        assert!(
            error
                .expect_err("none")
                .to_string()
                .contains("trained for an epoch")
        );
        let error = ClusterVote::new(&state(&[9], &[0])?, &table, ClusterVote::NEAREST);
        assert!(
            error
                .expect_err("another set")
                .to_string()
                .contains("know no row")
        );
        Ok(())
    }
}
