//! Triplet loss of the centroids of classes.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use nearfar_core::{
    Comparison, Distance, Evaluated, Loss, NonNegative, Reducer, Rng, Stateful, Terms,
};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use super::quadruplet::by_class;
use crate::family::BatchLoss;
use crate::over::matrix::refuse_miner;
use crate::over::reduced;
use crate::{Compares, Join, Reads};

/// Wants each row nearer to the mean of its class's other rows than to the means of the other classes.
///
/// ```text
/// l(a, c) = max(0, d(a, m⁻(a)) − d(a, m(c)) + margin)   for every other class c of the batch
/// ```
///
/// `m⁻(a)` is the mean of the anchor's class without the anchor, `m(c)` that of all rows of another class. Averaged over the terms
/// above zero. Rows alone in their class have no term; with one class there is none either. `O(n c d)`.
///
/// Source: Wieczorek, Rychalska, Dąbrowski, "On the unreasonable effectiveness of centroids in image retrieval", ICONIP 2021,
/// <https://arxiv.org/abs/2104.13643>, equation 3.
///
/// Choose it where queries are compared with one vector for each class or product.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("centroid_triplet = { margin = 0.3 }")?;
/// assert_eq!(config.reads(), Reads::Classes);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CentroidTriplet {
    /// Wanted gap between the two distances.
    pub margin: NonNegative,
}

impl Default for CentroidTriplet {
    /// As that of the triplet margin loss.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.2),
        }
    }
}

impl BatchLoss for CentroidTriplet {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Distance("euclidean")
    }

    fn reducer(&self) -> Reducer {
        Reducer::AvgNonzero {}
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "distances to centroids")?;
        refuse_miner(name, &join)?;
        Ok(Box::new(OverCentroids {
            name,
            settings: self.clone(),
            distance: join.distance(name, "euclidean")?,
            reducer: join.reducer.take().unwrap_or_else(|| self.reducer()),
        }))
    }
}

#[derive(Debug)]
struct OverCentroids {
    name: &'static str,
    settings: CentroidTriplet,
    distance: Box<dyn Distance>,
    reducer: Reducer,
}

impl Stateful for OverCentroids {}

impl Loss for OverCentroids {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        by_class(self.name, comparison)?;
        let none = || Ok(vec![Terms::none("centroid", comparison)]);
        let (anchors, references) = (comparison.anchors, comparison.references);
        let mut classes = BTreeMap::<u32, Vec<usize>>::new();
        for (row, &label) in references.labels.iter().enumerate() {
            classes.entry(label).or_default().push(row);
        }
        let places: BTreeMap<u32, usize> = classes.keys().copied().zip(0..).collect();
        let by_id: BTreeMap<u64, usize> = references.ids.iter().copied().zip(0..).collect();
        // The anchors that have another row of their class, and the weights of their own mean: of all its rows but one.
        let m = references.len();
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        for (row, label) in anchors.labels.iter().enumerate() {
            let own = by_id.get(&anchors.ids[row]).copied();
            let Some(members) = classes.get(label) else {
                continue;
            };
            let others: Vec<usize> = members
                .iter()
                .copied()
                .filter(|it| Some(*it) != own)
                .collect();
            if others.is_empty() || classes.len() < 2 {
                continue;
            }
            rows.push(row as u32);
            let start = weights.len();
            weights.resize(start + m, 0f64);
            for &other in &others {
                weights[start + other] = 1.0 / others.len() as f64;
            }
        }
        if rows.is_empty() {
            return none();
        }
        let (t, c) = (rows.len(), classes.len());
        let like = |numbers: Vec<f64>, shape: (usize, usize)| -> Result<Tensor> {
            Tensor::from_vec(numbers, shape, &Device::Cpu)?
                .to_dtype(references.vectors.dtype())?
                .to_device(references.vectors.device())
        };
        let mut means = vec![0f64; c * m];
        for (class, members) in classes.values().enumerate() {
            for &row in members {
                means[class * m + row] = 1.0 / members.len() as f64;
            }
        }
        let index = Tensor::from_slice(&rows, t, anchors.vectors.device())?;
        let looking = anchors.vectors.contiguous()?.index_select(&index, 0)?; // (t, d)
        let vectors = references.vectors.contiguous()?;
        let own = like(weights, (t, m))?.matmul(&vectors)?; // (t, d)
        let means = like(means, (c, m))?.matmul(&vectors)?; // (c, d)
        let near = self.distance.paired(&looking, &own)?; // (t)
        let far = self.distance.matrix(&looking, &means)?; // (t, c)
        let gap = far.neg()?.broadcast_add(&near.unsqueeze(1)?)?;
        let values = hinge(&(gap + self.settings.margin.get())?)?.flatten_all()?;
        let (mut kept, mut of) = (Vec::new(), Vec::new());
        for (place, &row) in rows.iter().enumerate() {
            let own = places.get(&anchors.labels[row as usize]);
            for class in (0..c).filter(|class| Some(class) != own) {
                kept.push((place * c + class) as u32);
                of.push(row);
            }
        }
        let kept = Tensor::from_slice(&kept, kept.len(), values.device())?;
        let values = values.index_select(&kept, 0)?;
        Ok(vec![Terms::tuples("centroid", values, of, comparison)?])
    }
}

#[cfg(test)]
mod tests {
    use nearfar_core::{Axioms, Embeddings, Purpose, Seed};

    use super::*;

    #[derive(Debug)]
    struct OnALine;

    impl Distance for OnALine {
        fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            nearfar_kernels::manhattan(x, y)
        }
        fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            (x - y)?.abs()?.sum(1)
        }
        fn axioms(&self) -> Axioms {
            Axioms::METRIC
        }
    }

    #[test]
    fn the_anchor_is_not_in_its_own_mean() -> Result<()> {
        let rows = Tensor::new(&[[0f64], [2.0], [4.0], [10.0]], &Device::Cpu)?;
        let rows = Embeddings::labeled(rows, vec![0, 0, 0, 1])?;
        let loss = CentroidTriplet {
            margin: NonNegative::literal(8.0),
        };
        let loss = loss.build(
            "centroid_triplet",
            Join {
                distance: Some(Box::new(OnALine)),
                ..Join::default()
            },
        )?;
        let mut rng = Seed(0).rng(Purpose::Mining, 0);
        let terms = loss.terms(&Comparison::within(&rows), &mut rng)?.remove(0);
        let values = terms.values.expect("three").to_vec1::<f64>()?;
        // Means of the others: 3, 2 and 1; the row of class 1 is alone.
        assert_eq!(values, [3.0 - 10.0 + 8.0, 0.0, 3.0 - 6.0 + 8.0]);
        assert_eq!(terms.anchors, [0, 1, 2]);
        Ok(())
    }
}
