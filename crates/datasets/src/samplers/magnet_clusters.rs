//! Clusters with their impostors.

use nearfar_core::{Rng, Span};
use serde::{Deserialize, Serialize};

use super::shown::{
    Known, Layout, List, NOBODY, Rule, Seen, Shown, Wheel, nearest_places, squared_distance,
};
use super::{Counts, Sampler, positive, span};
use crate::{Dataset, Error};

/// Batches of a cluster and the nearest clusters of other classes, its impostors.
///
/// The embedded samples of each class are divided into `per_class` clusters (k-means++). A batch begins with a cluster that is
/// drawn in proportion to the loss of its members, and has the `clusters − 1` clusters of other classes whose centers are
/// nearest to it, with `samples` members of each, drawn without replacement where there are enough.
///
/// The loss is that of the whole set when it was embedded, each sample against all centers of other classes:
///
/// ```text
/// [‖r − μ‖²/2σ² + alpha + log Σ over centers m of other classes exp(−‖r − m‖²/2σ²)]₊,   σ² = Σ ‖r − μ‖²/(n − 1)
/// ```
///
/// It looks at the rows as they are. Before it was shown anything, a class is one cluster, and impostors are drawn evenly.
///
/// Source: Rippel, Paluri, Dollar, Bourdev, "Metric learning with adaptive density discrimination", ICLR 2016,
/// <https://arxiv.org/abs/1511.05939>, section 3.2. Some published code divides by 2σ⁴; this does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MagnetClusters {
    /// Clusters a batch.
    pub clusters: usize,
    /// Samples of each cluster.
    pub samples: usize,
    /// Clusters that a class is divided into.
    pub per_class: usize,
    /// Margin of the loss that seeds are drawn by.
    pub alpha: nearfar_core::NonNegative,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
    /// How often clusters are made anew.
    pub every: Span,
}

impl Default for MagnetClusters {
    /// Batches of 12 clusters with 4 samples each, 3 clusters a class, and new clusters for each epoch.
    fn default() -> Self {
        Self {
            clusters: 12,
            samples: 4,
            per_class: 3,
            alpha: nearfar_core::NonNegative::literal(1.0),
            batches: None,
            every: Span::Epochs(1),
        }
    }
}

/// Rounds of k-means.
const ROUNDS: usize = 20;

impl MagnetClusters {
    pub(super) fn build(
        &self,
        data: &dyn Dataset,
        counts: &Counts<'_>,
    ) -> Result<Box<dyn Sampler>, Error> {
        positive("sampler.magnet_clusters.clusters", self.clusters)?;
        positive("sampler.magnet_clusters.samples", self.samples)?;
        positive("sampler.magnet_clusters.per_class", self.per_class)?;
        if let Some(batches) = self.batches {
            positive("sampler.magnet_clusters.batches", batches)?;
        }
        span(Self::NAME, self.every)?;
        if self.clusters > 1 && counts.counts.len() < 2 {
            return Err(Error::Settings(
                "`sampler.magnet_clusters` wants clusters of several classes, but there is one class to train on; use other \
                 data"
                    .into(),
            ));
        }
        Ok(Box::new(Shown::new(
            self.clone(),
            Known::of(data.labels(), 1),
        )))
    }

    fn all_clusters(&self, known: &Known) -> usize {
        known.classes.len() * self.per_class
    }
}

/// Which of `wanted` centers each row is of, by k-means from k-means++ starts; and the centers.
fn k_means(seen: &Seen, rows: &[u32], wanted: usize, rng: &mut Rng) -> (Vec<usize>, Vec<Vec<f32>>) {
    let mut centers: Vec<Vec<f32>> = Vec::new();
    let mut nearest = vec![f32::INFINITY; rows.len()];
    while centers.len() < wanted.min(rows.len()) {
        // In proportion to the squared distance from the nearest center; evenly the first time.
        let weights = nearest.iter().map(|&it| f64::from(it));
        let Some(drawn) = Wheel::new(weights).draw(rng) else {
            break;
        };
        let center = seen.row(rows[drawn]).to_vec();
        for (nearest, &row) in nearest.iter_mut().zip(rows) {
            *nearest = nearest.min(squared_distance(seen.row(row), &center));
        }
        centers.push(center);
    }
    let mut of = vec![0; rows.len()];
    for round in 0..ROUNDS {
        let mut changed = round == 0;
        for ((of, nearest), &row) in of.iter_mut().zip(&mut nearest).zip(rows) {
            let mut best = (f32::INFINITY, *of);
            for (center, place) in centers.iter().zip(0..) {
                let distance = squared_distance(seen.row(row), center);
                if distance < best.0 {
                    best = (distance, place);
                }
            }
            changed |= best.1 != *of;
            (*nearest, *of) = best;
        }
        // An empty cluster gets the row that is farthest from its center.
        for place in 0..centers.len() {
            if of.contains(&place) {
                continue;
            }
            let mut far = 0;
            for row in 1..rows.len() {
                if nearest[row] > nearest[far] {
                    far = row;
                }
            }
            if nearest[far] > 0.0 && nearest[far].is_finite() {
                (of[far], nearest[far], changed) = (place, 0.0, true);
            }
        }
        if !changed {
            break;
        }
        for (place, center) in centers.iter_mut().enumerate() {
            let members = rows.iter().zip(&of).filter(|(_, of)| **of == place);
            let members: Vec<u32> = members.map(|(row, _)| *row).collect();
            if !members.is_empty() {
                *center = seen.mean(&members);
            }
        }
    }
    (of, centers)
}

impl Rule for MagnetClusters {
    const NAME: &'static str = "magnet_clusters";

    fn every(&self) -> Span {
        self.every
    }

    fn layout(&self, known: &Known) -> Vec<Layout> {
        let clusters = self.all_clusters(known);
        vec![
            Layout::places("cluster_of_sample", (known.samples, 1), clusters),
            Layout::places("impostors", (clusters, self.clusters - 1), clusters),
            Layout::numbers("losses", clusters),
        ]
    }

    fn derive(&self, known: &Known, seen: &Seen, rng: &mut Rng) -> Vec<List> {
        let clusters = self.all_clusters(known);
        let mut of_sample = vec![NOBODY; known.samples];
        let mut centers: Vec<Option<Vec<f32>>> = vec![None; clusters];
        for (class, members) in known.classes.iter().enumerate() {
            let (of, found) = k_means(seen, members, self.per_class, rng);
            let begin = class * self.per_class;
            for (&member, place) in members.iter().zip(of) {
                of_sample[member as usize] = (begin + place) as u32;
            }
            for (place, center) in found.into_iter().enumerate() {
                let cluster = (begin + place) as u32;
                if members.iter().any(|&it| of_sample[it as usize] == cluster) {
                    centers[begin + place] = Some(center);
                }
            }
        }
        let class_of = |cluster: usize| cluster / self.per_class;
        let impostors = nearest_places(clusters, self.clusters - 1, |one, other| {
            let (own, center) = (centers[one].as_ref()?, centers[other].as_ref()?);
            (class_of(one) != class_of(other)).then(|| squared_distance(own, center))
        });
        let losses = self.losses(seen, &of_sample, &centers);
        vec![
            List::Places(of_sample),
            List::Places(impostors),
            List::Numbers(losses),
        ]
    }

    fn epoch(&self, known: &Known, lists: Option<&[List]>, rng: &mut Rng) -> Vec<Vec<u32>> {
        let alone: Vec<u32>;
        let (per_class, of_sample) = match lists {
            Some(lists) => (self.per_class, lists[0].places()),
            None => {
                alone = known.class_of.clone();
                (1, &alone[..])
            }
        };
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); known.classes.len() * per_class];
        for (sample, &cluster) in (0..).zip(of_sample) {
            if let Some(members) = members.get_mut(cluster as usize) {
                members.push(sample);
            }
        }
        let weight = |(cluster, members): (usize, &Vec<u32>)| match (members.is_empty(), lists) {
            (true, _) => 0.0,
            (false, None) => 1.0,
            (false, Some(lists)) => f64::from(lists[2].numbers()[cluster]),
        };
        let mut weights: Vec<f64> = members.iter().enumerate().map(weight).collect();
        if weights.iter().all(|&it| it <= 0.0) {
            // Without a loss anywhere all clusters are alike, but for those that are empty.
            weights = members
                .iter()
                .map(|it| f64::from(u8::from(!it.is_empty())))
                .collect();
        }
        let seeds = Wheel::new(weights.into_iter());
        let width = self.clusters - 1;
        let batches = self
            .batches
            .unwrap_or(known.samples / (self.clusters * self.samples).max(1))
            .max(1);
        (0..batches)
            .map(|_| {
                let Some(seed) = seeds.draw(rng) else {
                    return Vec::new();
                };
                let mut chosen = vec![seed as u32];
                match lists {
                    Some(lists) => {
                        let impostors = &lists[1].places()[seed * width..][..width];
                        chosen.extend(impostors.iter().filter(|it| **it != NOBODY));
                    }
                    None => {
                        let others = rng.permutation(members.len()).into_iter();
                        chosen.extend(others.filter(|&it| it as usize != seed).take(width));
                    }
                }
                let mut batch = Vec::with_capacity(chosen.len() * self.samples);
                for cluster in chosen {
                    let members = &members[cluster as usize];
                    batch.extend(super::cycle::Cycle::new(members.clone()).take(self.samples, rng));
                }
                batch
            })
            .collect()
    }
}

impl MagnetClusters {
    /// The mean loss of each cluster's members.
    fn losses(&self, seen: &Seen, of_sample: &[u32], centers: &[Option<Vec<f32>>]) -> Vec<f32> {
        let own = |sample: u32| centers[of_sample[sample as usize] as usize].as_ref();
        let samples = || (0..of_sample.len() as u32).filter(|&it| of_sample[it as usize] != NOBODY);
        let squares: Vec<(u32, f64)> = samples()
            .filter_map(|it| Some((it, f64::from(squared_distance(seen.row(it), own(it)?)))))
            .collect();
        let lengths = |it: u32| {
            seen.row(it)
                .iter()
                .map(|&x| f64::from(x).powi(2))
                .sum::<f64>()
        };
        let count = squares.len().max(1) as f64;
        let mut variance = squares.iter().map(|it| it.1).sum::<f64>() / (count - 1.0).max(1.0);
        // Where all collapsed, by the scale of the rows.
        variance = variance.max(1e-12 * samples().map(lengths).sum::<f64>() / count);
        let mut sums = vec![(0.0, 0usize); centers.len()];
        for (sample, square) in squares {
            let cluster = of_sample[sample as usize] as usize;
            let class = cluster / self.per_class;
            let others = centers.iter().enumerate().filter_map(|(other, center)| {
                let center = center
                    .as_ref()
                    .filter(|_| other / self.per_class != class)?;
                Some(-f64::from(squared_distance(seen.row(sample), center)) / (2.0 * variance))
            });
            let exponents: Vec<f64> = others.collect();
            let largest = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = exponents.iter().map(|it| (it - largest).exp()).sum();
            let loss = square / (2.0 * variance) + self.alpha.get() + largest + sum.ln();
            if loss.is_finite() {
                sums[cluster].0 += loss.max(0.0);
            }
            sums[cluster].1 += 1;
        }
        let means = sums
            .into_iter()
            .map(|(sum, count)| (sum / count.max(1) as f64) as f32);
        means.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samplers::SamplerConfig;
    use crate::samplers::tests::{data, distinct, numbers, places, refreshed, stream, table};

    #[test]
    fn clusters_are_of_one_class_and_their_impostors_the_nearest_of_others() {
        let data = data();
        let shown = table(&data, 5, 1);
        let config = SamplerConfig::MagnetClusters(MagnetClusters {
            clusters: 4,
            samples: 3,
            per_class: 2,
            ..MagnetClusters::default()
        });
        let sampler = refreshed(&config, &data, &shown);
        let of_sample: Vec<u32> = places(&*sampler, "cluster_of_sample").concat();
        let impostors = places(&*sampler, "impostors");
        let losses = numbers(&*sampler, "losses");
        let members = |cluster: u32| -> Vec<usize> {
            (0..of_sample.len())
                .filter(|&it| of_sample[it] == cluster)
                .collect()
        };
        let center = |cluster: u32| -> Vec<f64> {
            let rows = members(cluster);
            let sum = |k| {
                rows.iter()
                    .map(|&it| f64::from(shown.row(it)[k]))
                    .sum::<f64>()
            };
            (0..5).map(|k| sum(k) / rows.len() as f64).collect()
        };
        let from =
            |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum() };
        let row = |it: usize| -> Vec<f64> { shown.row(it).iter().map(|&x| f64::from(x)).collect() };
        for (sample, &cluster) in of_sample.iter().enumerate() {
            assert_eq!(
                cluster / 2,
                data.labels[sample],
                "classes are numbered as their labels"
            );
            // Of its class's two centers, its own is the nearest.
            let other = cluster ^ 1;
            let own = from(&row(sample), &center(cluster));
            assert!(own <= from(&row(sample), &center(other)) + 1e-5);
        }
        for cluster in 0..16 {
            let own = center(cluster);
            let others = (0..16).filter(|it| it / 2 != cluster / 2);
            let mut others: Vec<(f64, u32)> =
                others.map(|it| (from(&own, &center(it)), it)).collect();
            others.sort_by(|a, b| a.0.total_cmp(&b.0));
            let wanted: Vec<u32> = others.iter().take(3).map(|it| it.1).collect();
            assert_eq!(impostors[cluster as usize], wanted);
        }
        // The losses, from the formula.
        let count = of_sample.len() as f64;
        let squares = |it: usize| from(&row(it), &center(of_sample[it]));
        let variance = (0..of_sample.len()).map(squares).sum::<f64>() / (count - 1.0);
        for cluster in 0..16 {
            let loss = |it: &usize| {
                let sum: f64 = (0..16)
                    .filter(|other| other / 2 != cluster / 2)
                    .map(|other| (-from(&row(*it), &center(other)) / (2.0 * variance)).exp())
                    .sum();
                (squares(*it) / (2.0 * variance) + 1.0 + sum.ln()).max(0.0)
            };
            let rows = members(cluster);
            let wanted = rows.iter().map(loss).sum::<f64>() / rows.len() as f64;
            let found = f64::from(losses[cluster as usize]);
            assert!((found - wanted).abs() < 1e-4, "{found} {wanted}");
        }
        for batch in sampler.epoch(&data.labels, &mut stream(1)) {
            let clusters: Vec<u32> = batch
                .chunks(3)
                .map(|it| of_sample[it[0] as usize])
                .collect();
            assert_eq!(clusters[1..], impostors[clusters[0] as usize]);
            for rows in batch.chunks(3) {
                assert_eq!(distinct(rows.iter().map(|&it| of_sample[it as usize])), 1);
            }
        }
    }
}
