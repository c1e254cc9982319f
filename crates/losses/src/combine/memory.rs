//! A loss against the rows of past batches.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{
    Comparison, EmbeddingTable, Embeddings, Error, Evaluated, Loss, Parameter, Relation, Rng, Span,
    Stateful, Terms, shape,
};
use serde::{Deserialize, Serialize};

use crate::prefix;

/// How many past rows a loss is compared with, and from when: `memory = { size = 1024 }` of a run file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Rows it holds; the oldest give way. No smaller than a batch.
    pub size: NonZeroUsize,
    /// Batches that are taken in, and compared within themselves, before the memory is used.
    pub warmup: u64,
}

impl Default for Memory {
    /// pytorch-metric-learning's size, and no warm-up; the paper begins after 1,000 batches.
    fn default() -> Self {
        Self {
            size: NonZeroUsize::new(1024).expect("1024 is above 0"),
            warmup: 0,
        }
    }
}

/// A loss of pairs, triplets or lists whose references are the rows of the last batches, this one among them.
///
/// ```text
/// L(batch, memory),   memory = the last `size` rows, without gradient
/// ```
///
/// A batch is taken into the memory first, then each of its rows is compared with all of it, but not with itself (by its id: a
/// memory longer than an epoch leaves out the row's older selves too). Only the batch has a gradient. A miner chooses among the
/// memory; with `random` it draws some triplets of each row, as `TripletMinerWithMemory` of open-metric-learning does of a bank of
/// some batches. Slots that were never filled do not count. Reads classes.
///
/// The memory is state: the rows, their labels and ids, and where the next batch goes are part of a checkpoint.
///
/// Source: Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020, <https://arxiv.org/abs/1912.06798>. Agrees with
/// `CrossBatchMemory` of pytorch-metric-learning 2.9, but that one compares a batch of one with itself.
#[derive(Debug)]
pub struct CrossBatchMemory {
    loss: Box<dyn Loss>,
    settings: Memory,
    /// `(size, d)`; only the first `filled` count.
    rows: Tensor,
    labels: Vec<u32>,
    ids: Vec<u64>,
    next: usize,
    filled: usize,
    steps: u64,
}

impl CrossBatchMemory {
    /// An empty memory of rows of a width before a loss.
    ///
    /// # Errors
    /// [`Error::Settings`] when the width is 0.
    pub fn new(
        loss: Box<dyn Loss>,
        settings: Memory,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        if width == 0 {
            Err(Error::Settings(
                "the memory needs to know the width of the embeddings, and it is 0".into(),
            ))?;
        }
        let size = settings.size.get();
        Ok(Self {
            loss,
            settings,
            rows: Tensor::zeros((size, width), dtype, device)?,
            labels: vec![0; size],
            ids: vec![0; size],
            next: 0,
            filled: 0,
            steps: 0,
        })
    }

    /// How many rows it holds by now.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// What it holds, in the order of its slots.
    fn held(&self) -> Result<Embeddings> {
        Embeddings::new(
            self.rows.narrow(0, 0, self.filled)?,
            self.labels[..self.filled].to_vec(),
            self.ids[..self.filled].to_vec(),
        )
    }

    /// The comparison that the loss gets.
    fn look<T>(
        &self,
        comparison: &Comparison<'_>,
        look: impl FnOnce(&Comparison<'_>) -> Result<T>,
    ) -> Result<T> {
        by_class(comparison)?;
        if self.steps <= self.settings.warmup {
            return look(comparison);
        }
        let held = self.held()?;
        look(&Comparison::between(comparison.anchors, &held))
    }
}

fn by_class(comparison: &Comparison<'_>) -> Result<()> {
    match comparison.relation {
        Relation::SameClass => comparison.check(),
        _ => Err(comparison.cannot_read("a memory of past batches", "classes"))?,
    }
}

impl Loss for CrossBatchMemory {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        self.look(comparison, |it| self.loss.evaluate(it, rng))
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        self.look(comparison, |it| self.loss.terms(it, rng))
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        by_class(comparison)?;
        let batch = comparison.anchors;
        let (size, width) = self.rows.dims2()?;
        let (n, d) = shape::matrix("memory", ("batch", &batch.vectors))?;
        if d != width {
            Err(Error::Shape(format!(
                "the memory holds rows of {width} dimensions, and the batch has {d}"
            )))?;
        }
        if n > size {
            Err(Error::Settings(format!(
                "the memory holds {size} rows, and a batch has {n}; make `memory.size` at least that"
            )))?;
        }
        self.steps += 1;
        if n > 0 {
            let rows = batch.vectors.detach().to_dtype(self.rows.dtype())?;
            let slots: Vec<usize> = (0..n).map(|row| (self.next + row) % size).collect();
            for (row, &slot) in slots.iter().enumerate() {
                self.labels[slot] = batch.labels[row];
                self.ids[slot] = batch.ids[row];
            }
            // Up to the end, and the rest from the start.
            let first = n.min(size - self.next);
            self.rows = replaced(&self.rows, self.next, &rows.narrow(0, 0, first)?)?;
            if first < n {
                self.rows = replaced(&self.rows, 0, &rows.narrow(0, first, n - first)?)?;
            }
            self.filled = self.filled.max((self.next + n).min(size));
            self.next = (self.next + n) % size;
        }
        self.loss.absorb(comparison)
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.loss.parameters()
    }
}

/// Rows with those from `start` on replaced.
fn replaced(rows: &Tensor, start: usize, by: &Tensor) -> Result<Tensor> {
    let (size, end) = (rows.dim(0)?, start + by.dim(0)?);
    let mut pieces = Vec::new();
    if start > 0 {
        pieces.push(rows.narrow(0, 0, start)?);
    }
    pieces.push(by.clone());
    if end < size {
        pieces.push(rows.narrow(0, end, size - end)?);
    }
    Tensor::cat(&pieces, 0)?.contiguous()
}

/// What comes before the names of its own state, and before those of the loss's.
const OWN: &str = "memory.";
const INNER: &str = "loss.";

impl Stateful for CrossBatchMemory {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let whole = |numbers: Vec<i64>| {
            let length = numbers.len();
            Tensor::from_vec(numbers, length, &Device::Cpu).expect("a list is a tensor")
        };
        let labels = self.labels.iter().map(|&it| i64::from(it)).collect();
        let ids = self.ids.iter().map(|&it| it as i64).collect();
        let counters = vec![self.next as i64, self.filled as i64, self.steps as i64];
        let own = [
            ("rows", self.rows.clone()),
            ("labels", whole(labels)),
            ("ids", whole(ids)),
            ("counters", whole(counters)),
        ];
        let own = own.map(|(name, tensor)| (format!("{OWN}{name}"), tensor));
        own.into_iter()
            .chain(prefix::put(INNER, self.loss.state()))
            .collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        prefix::refuse_others(state, |name| {
            name.starts_with(OWN) || name.starts_with(INNER)
        })?;
        let own = prefix::take(OWN, state);
        let size = self.settings.size.get();
        let find = |name: &str, dims: &[usize]| -> Result<Tensor> {
            let tensor = own.get(name).ok_or_else(|| {
                Error::Input(format!("there is no state `{OWN}{name}` for the memory"))
            })?;
            if tensor.dims() != dims {
                Err(Error::Shape(format!(
                    "the state `{OWN}{name}` has shape {:?}, and the memory {dims:?}",
                    tensor.dims()
                )))?;
            }
            Ok(tensor.clone())
        };
        let whole = |name: &str, length: usize| find(name, &[length])?.to_vec1::<i64>();
        let rows = find("rows", self.rows.dims())?;
        let (labels, ids) = (whole("labels", size)?, whole("ids", size)?);
        let counters = whole("counters", 3)?;
        if counters[0] < 0
            || counters[0] >= size as i64
            || counters[1] < 0
            || counters[1] > size as i64
        {
            Err(Error::Input(format!(
                "the state `{OWN}counters` is {counters:?}, which are no places of {size} slots"
            )))?;
        }
        self.rows = rows
            .to_dtype(self.rows.dtype())?
            .to_device(self.rows.device())?;
        self.labels = labels.into_iter().map(|it| it as u32).collect();
        self.ids = ids.into_iter().map(|it| it as u64).collect();
        self.next = counters[0] as usize;
        self.filled = counters[1] as usize;
        self.steps = counters[2] as u64;
        self.loss.restore(&prefix::take(INNER, state))
    }

    fn interval(&self) -> Option<Span> {
        self.loss.interval()
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        self.loss.refresh(table, rng)
    }
}
