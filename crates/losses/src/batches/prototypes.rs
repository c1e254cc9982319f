//! Rows and the means of classes, without the row itself.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use candle_core::{Device, Result, Tensor};
use nearfar_core::Comparison;

use crate::over::batches::classes;

/// Rows with the prototype of each class of the batch.
pub(super) struct Prototypes {
    /// The anchors that have a prototype of their own class, ascending.
    pub(super) queries: Vec<u32>,
    /// Their rows, `(q, d)`.
    pub(super) rows: Tensor,
    /// The mean of each class's references, `(w, d)`, in the order of the labels.
    pub(super) means: Tensor,
    /// The mean of each query's own class without the query, `(q, d)`.
    pub(super) own_means: Tensor,
    /// The place of each query's class among the means.
    pub(super) own: Vec<u32>,
}

impl Prototypes {
    /// Of a comparison by class; none where no query has a prototype of its class, or there is one class only.
    ///
    /// With `support` the first so many rows of each class are what the means are taken of, and the others the queries. Otherwise
    /// every anchor is a query and every reference counts, but for the query itself, by its id.
    pub(super) fn of(
        name: &str,
        comparison: &Comparison<'_>,
        support: Option<NonZeroUsize>,
    ) -> Result<Option<Self>> {
        let labels = classes(name, comparison)?;
        let (anchors, references) = (comparison.anchors, comparison.references);
        let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut supports = vec![false; references.len()];
        for (row, &label) in references.labels.iter().enumerate() {
            let members = members.entry(label).or_default();
            if support.is_none_or(|support| members.len() < support.get()) {
                members.push(row);
                supports[row] = true;
            }
        }
        let places: BTreeMap<u32, usize> = members.keys().copied().zip(0..).collect();
        let slots: BTreeMap<u64, usize> = references.ids.iter().copied().zip(0..).collect();
        let m = references.len();
        let (mut queries, mut own, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (row, label) in labels.iter().enumerate() {
            let Some(members) = members.get(label) else {
                continue;
            };
            let itself = slots.get(&anchors.ids[row]).copied();
            if support.is_some() && itself.is_some_and(|slot| supports[slot]) {
                continue; // It is support.
            }
            let others = members.iter().filter(|&&slot| Some(slot) != itself);
            let count = others.clone().count();
            if count == 0 {
                continue;
            }
            let start = weights.len();
            weights.resize(start + m, 0f64);
            others.for_each(|&slot| weights[start + slot] = 1.0 / count as f64);
            queries.push(row as u32);
            own.push(places[label] as u32);
        }
        if queries.is_empty() || places.len() < 2 {
            return Ok(None);
        }
        let mut shares = vec![0f64; places.len() * m];
        for (place, members) in members.values().enumerate() {
            for &slot in members {
                shares[place * m + slot] = 1.0 / members.len() as f64;
            }
        }
        let of = |weights: Vec<f64>, rows: usize| -> Result<Tensor> {
            let weights = Tensor::from_vec(weights, (rows, m), &Device::Cpu)?;
            let vectors = references.vectors.contiguous()?;
            weights
                .to_dtype(vectors.dtype())?
                .to_device(vectors.device())?
                .matmul(&vectors)
        };
        let index = Tensor::from_slice(&queries, queries.len(), anchors.vectors.device())?;
        Ok(Some(Self {
            rows: anchors.vectors.contiguous()?.index_select(&index, 0)?,
            means: of(shares, places.len())?,
            own_means: of(weights, queries.len())?,
            queries,
            own,
        }))
    }

    /// Numbers for each query and class, `(q, w)`, with those of the queries' own classes replaced, `(q)`.
    pub(super) fn with_own(&self, all: &Tensor, own: &Tensor) -> Result<(Tensor, Tensor)> {
        let (q, w) = all.dims2()?;
        let mut mask = vec![0u8; q * w];
        for (row, &place) in self.own.iter().enumerate() {
            mask[row * w + place as usize] = 1;
        }
        let mask = Tensor::from_vec(mask, (q, w), all.device())?;
        let own = own.unsqueeze(1)?.broadcast_as((q, w))?.contiguous()?;
        Ok((mask.where_cond(&own, all)?, mask))
    }
}
