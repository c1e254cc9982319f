//! One pass over all rows, some anchors at a time.

use std::ops::Range;

use super::side::Side;
use super::vectors::{
    Apart, Difference, NEAR, NonZero, Products, Roots, Slopes, Squares, Total, Turned,
};
use crate::pair_loss::{Anchor, Base, Fold, Row, RowForm, RowFunctional, RowSum, Rows};
use crate::slices::gemm::{LANES, Panels, TILE};
use crate::slices::{Lease, dispatch, lease, run};

/// Anchors whose values are there at one time: whole tiles.
const BLOCK: usize = 8 * TILE;
/// Parts of the anchors that are done beside one another, each with a gradient of all references.
const PARTS: usize = 4;
/// Where fewer than one in so many values has a gradient, they pull one by one.
const SPARSE: usize = 6;

/// The gradients of a part's sum, in sorted order.
pub(super) struct Gradient {
    /// Those of the references too where both are one.
    pub(super) to_anchors: Lease,
    pub(super) to_references: Lease,
}

impl Gradient {
    fn zeros(anchors: usize, references: usize) -> Self {
        Self {
            to_anchors: zeros(anchors),
            to_references: zeros(references),
        }
    }
}

fn zeros(len: usize) -> Lease {
    let mut zeros = lease(len);
    zeros.fill(0.0);
    zeros
}

fn add(sum: &mut [f32], some: &[f32]) {
    for (sum, some) in sum.iter_mut().zip(some) {
        *sum += some;
    }
}

pub(super) struct Found {
    pub(super) sums: [RowSum; 2],
    pub(super) gradients: [Gradient; 2],
}

pub(super) struct Pass<'a> {
    pub(super) form: RowForm,
    pub(super) x: &'a Side,
    pub(super) y: &'a Side,
    /// Whether anchors and references are one.
    pub(super) same: bool,
    /// Of each anchor as it was given, its column in sorted order.
    pub(super) own: Vec<Option<usize>>,
    pub(super) wanted: bool,
    pub(super) apart: bool,
}

/// What is packed once for all blocks.
struct Packed {
    columns: Panels,
    rows: Option<Panels>,
}

/// Anchors that are done at once, in blocks.
struct Task {
    anchors: Range<usize>,
    blocks: Vec<Range<usize>>,
}

/// What the rows of a block pull by beside their columns' weights.
#[derive(Default)]
struct Beside {
    /// Places of rows and columns that pull by their differences.
    near: Vec<(usize, usize)>,
    /// Of each row the slopes by its own length and by that of its first positive; empty where nothing depends on them.
    lengths: Vec<[f32; 2]>,
}

impl Beside {
    fn clear(&mut self) {
        self.near.clear();
        self.lengths.clear();
    }
}

/// Where work buffers lie.
struct Work {
    block: Lease,
    /// Values before they became gradients; of one row, or of a block.
    kept: Lease,
    pulled: Lease,
    by_column: Lease,
}

impl Pass<'_> {
    pub(super) fn parts(&self) -> usize {
        if self.apart { 2 } else { 1 }
    }

    /// The anchors in tasks of whole blocks; with `groups` no block ends within one.
    fn tasks(&self, groups: bool) -> Vec<Task> {
        let n = self.x.len();
        let size = n.div_ceil(PARTS).next_multiple_of(BLOCK);
        let mut ends: Vec<usize> = (BLOCK..n).step_by(BLOCK).chain([n]).collect();
        if groups {
            let groups = &self.x.groups;
            let whole = |end: usize| groups.partition_point(|&it| it <= groups[end - 1]);
            ends.iter_mut().for_each(|end| *end = whole(*end));
            ends.dedup();
        }
        let (mut tasks, mut begin) = (Vec::<Task>::new(), 0);
        for end in ends {
            let last = tasks.last_mut().filter(|it| end - it.anchors.start <= size);
            match last {
                Some(task) => {
                    task.anchors.end = end;
                    task.blocks.push(begin..end);
                }
                None => tasks.push(Task {
                    anchors: begin..end,
                    blocks: std::iter::once(begin..end).collect(),
                }),
            }
            begin = end;
        }
        tasks
    }

    /// How much work each task is.
    fn work(&self, tasks: usize) -> usize {
        3 * self.x.len() * self.y.len() * self.y.padded.max(16) / tasks.max(1)
    }

    pub(super) fn all(&self, functional: &dyn RowFunctional, fold: &Fold<'_>) -> Found {
        let (n, m) = (self.x.len(), self.y.len());
        let padded = self.y.padded;
        let len = |rows: usize, part: usize| {
            if self.wanted && part < self.parts() {
                rows * padded
            } else {
                0
            }
        };
        let mut sums = [RowSum::default(); 2];
        let references = if self.same { 0 } else { m };
        let mut gradients = [0, 1].map(|part| Gradient::zeros(len(n, part), len(references, part)));
        if n == 0 || m == 0 {
            return Found { sums, gradients };
        }
        let packed = Packed {
            columns: self.y.packed_columns(),
            rows: self.wanted.then(|| self.y.packed_rows()),
        };
        // As many at a time as there are threads, so that few gradients of all references are there at once. They are added up
        // in order, whatever that number is.
        let tasks = self.tasks(functional.together());
        let work = self.work(tasks.len());
        let mut tasks = tasks.into_iter();
        loop {
            let wave: Vec<_> = tasks.by_ref().take(rayon::current_num_threads()).collect();
            if wave.is_empty() {
                break;
            }
            let found = run(work * wave.len(), wave, |task| {
                let found = self.some(&task, functional, fold, &packed);
                (task.anchors.start, found)
            });
            for (begin, some) in found {
                for (sum, some) in sums.iter_mut().zip(some.sums) {
                    *sum += some;
                }
                for (gradient, some) in gradients.iter_mut().zip(some.gradients) {
                    let begin = begin * padded;
                    if !some.to_anchors.is_empty() {
                        add(&mut gradient.to_anchors[begin..], &some.to_anchors);
                    }
                    let theirs = if self.same {
                        &mut gradient.to_anchors
                    } else {
                        &mut gradient.to_references
                    };
                    add(theirs, &some.to_references);
                }
            }
        }
        Found { sums, gradients }
    }

    /// What is seen of each anchor, in sorted order.
    pub(super) fn survey<T: Send>(&self, look: &(dyn Fn(Row<'_>) -> T + Sync)) -> Vec<T> {
        let (n, m) = (self.x.len(), self.y.len());
        let columns = self.y.columns();
        let stride = m.next_multiple_of(LANES);
        let packed = Packed {
            columns: self.y.packed_columns(),
            rows: None,
        };
        let tasks = if n == 0 {
            Vec::new()
        } else {
            self.tasks(false)
        };
        let found = run(self.work(tasks.len()), tasks, |task: Task| {
            let mut seen = Vec::with_capacity(task.anchors.len());
            let (mut block, mut near) = (lease(BLOCK * stride), Vec::new());
            for anchors in task.blocks {
                let block = &mut block[..anchors.len() * stride];
                self.products(anchors.clone(), &packed, block, stride);
                for (place, anchor) in anchors.enumerate() {
                    let values = &mut block[place * stride..][..m];
                    self.values(anchor, values, &mut near);
                    near.clear();
                    self.affine(values);
                    let group = self.x.groups[anchor];
                    let run = columns.run(group);
                    let numbers = (values, &mut [0.0; 2]);
                    seen.push(look(columns.row(self.named(anchor), group, &run, numbers)));
                }
            }
            seen
        });
        found.into_iter().flatten().collect()
    }

    /// Which anchor it was when they were given, and its own column.
    fn named(&self, anchor: usize) -> Anchor {
        let given = self.x.order[anchor] as usize;
        (given, self.own.get(given).copied().flatten())
    }

    /// Some anchors: their sums, and what they give to themselves and to the references.
    fn some(
        &self,
        task: &Task,
        functional: &dyn RowFunctional,
        fold: &Fold<'_>,
        packed: &Packed,
    ) -> Found {
        let (m, padded) = (self.y.len(), self.y.padded);
        let stride = m.next_multiple_of(LANES);
        let most = task.blocks.iter().map(Range::len).max().unwrap_or(0);
        let wanted = |len: usize| if self.wanted { len } else { 0 };
        let len = |rows: usize, part: usize| {
            if part < self.parts() {
                wanted(rows * padded)
            } else {
                0
            }
        };
        let kept = if functional.together() { most } else { 1 };
        let mut work = Work {
            block: lease(most * stride),
            kept: lease(wanted(kept * stride)),
            pulled: lease(wanted(most * padded)),
            by_column: zeros(wanted(stride)),
        };
        let mut found = Found {
            sums: [RowSum::default(); 2],
            gradients: [0, 1]
                .map(|part| Gradient::zeros(len(task.anchors.len(), part), len(m, part))),
        };
        let mut beside = Beside::default();
        for anchors in task.blocks.iter().cloned() {
            let block = &mut work.block[..anchors.len() * stride];
            self.products(anchors.clone(), packed, block, stride);
            beside.clear();
            let sums = self.visit(
                anchors.clone(),
                functional,
                fold,
                block,
                &mut work.kept,
                &mut beside,
            );
            for (sum, some) in found.sums.iter_mut().zip(sums) {
                *sum += some;
            }
            if self.wanted {
                let from = task.anchors.start;
                self.pull(
                    anchors,
                    from,
                    packed,
                    &beside,
                    &mut work,
                    &mut found.gradients,
                );
            }
        }
        if self.wanted && self.form.base != Base::Dot {
            // What was added up are Σ_i w_ij x_i; the gradient is Σ_i w_ij (y_j − x_i).
            let part = self.parts() - 1;
            let theirs = &mut found.gradients[part].to_references;
            for (place, theirs) in theirs.chunks_exact_mut(padded.max(1)).enumerate() {
                let total = work.by_column[place];
                for (theirs, y) in theirs.iter_mut().zip(self.y.row(place)) {
                    *theirs = total * y - *theirs;
                }
            }
            if self.apart {
                found.gradients[0]
                    .to_references
                    .iter_mut()
                    .for_each(|x| *x = -*x);
            }
        }
        found
    }

    /// Inner products of some anchors with all references.
    fn products(&self, anchors: Range<usize>, packed: &Packed, block: &mut [f32], stride: usize) {
        let padded = self.x.padded;
        dispatch(Products {
            a: &self.x.rows[anchors.start * padded..anchors.end * padded],
            stride: padded,
            count: anchors.len(),
            panels: &packed.columns,
            columns: stride,
            result: block,
        });
    }

    /// A block's inner products to its sums, and to what each column of each row is pulled by.
    fn visit(
        &self,
        anchors: Range<usize>,
        functional: &dyn RowFunctional,
        fold: &Fold<'_>,
        block: &mut [f32],
        kept: &mut [f32],
        beside: &mut Beside,
    ) -> [RowSum; 2] {
        let (m, stride) = (self.y.len(), block.len() / anchors.len().max(1));
        let columns = self.y.columns();
        let mut sums = [RowSum::default(); 2];
        let mut columns_near = Vec::new();
        let mut compute = |place: usize, values: &mut [f32], kept: &mut [f32]| {
            self.values(anchors.start + place, values, &mut columns_near);
            let columns_near = columns_near.drain(..);
            beside
                .near
                .extend(columns_near.map(|column| (place, column)));
            if !kept.is_empty() && self.form.base == Base::Euclidean {
                kept.copy_from_slice(values);
            }
            self.affine(values);
        };
        if !functional.together() {
            let kept = kept.get_mut(..m).unwrap_or_default();
            for (place, values) in block.chunks_exact_mut(stride).enumerate() {
                let values = &mut values[..m];
                compute(place, values, kept);
                let named = self.named(anchors.start + place);
                let group = self.x.groups[anchors.start + place];
                let mut lengths = [match functional.lengths() {
                    true => self.lengths(anchors.start + place),
                    false => [0.0; 2],
                }];
                let numbers = (&mut [&mut *values][..], &mut lengths[..]);
                let some = Rows::visit(functional, fold, (&[named], group), columns, numbers);
                if functional.lengths() {
                    beside.lengths.extend(lengths);
                }
                for (sum, some) in sums.iter_mut().zip(some) {
                    *sum += some;
                }
                self.slopes(values, kept);
            }
            return sums;
        }
        for (place, values) in block.chunks_exact_mut(stride).enumerate() {
            let kept = kept.get_mut(place * stride..place * stride + m);
            compute(place, &mut values[..m], kept.unwrap_or_default());
        }
        let mut rest: Vec<&mut [f32]> = block
            .chunks_exact_mut(stride)
            .map(|values| &mut values[..m])
            .collect();
        let mut values = &mut rest[..];
        let mut begin = anchors.start;
        while !values.is_empty() {
            let group = self.x.groups[begin];
            let count = self.x.columns().run(group).end - begin;
            let named: Vec<Anchor> = (begin..begin + count).map(|it| self.named(it)).collect();
            let (own, others) = values.split_at_mut(count);
            let numbers = (own, &mut vec![[0.0; 2]; count][..]);
            let some = Rows::visit(functional, fold, (&named, group), columns, numbers);
            for (sum, some) in sums.iter_mut().zip(some) {
                *sum += some;
            }
            (values, begin) = (others, begin + count);
        }
        for (place, values) in block.chunks_exact_mut(stride).enumerate() {
            let kept = kept.get(place * stride..place * stride + m);
            self.slopes(&mut values[..m], kept.unwrap_or_default());
        }
        sums
    }

    /// A row's inner products to distances, where those are wanted. `near` gets the columns that are near.
    fn values(&self, anchor: usize, values: &mut [f32], near: &mut Vec<usize>) {
        let base = self.form.base;
        if base == Base::Dot {
            return;
        }
        let length = self.x.lengths[anchor];
        if let (_, Some(own)) = self.named(anchor) {
            values[own] = -length; // Not near; and then at distance 0, which pulls on nothing.
        }
        if dispatch(Squares(values, length, &self.y.lengths)) {
            let x = self.x.row(anchor);
            let own = self.named(anchor).1;
            for (column, value) in values.iter_mut().enumerate() {
                if *value <= NEAR * (length + self.y.lengths[column]) && Some(column) != own {
                    *value = dispatch(Difference(x, self.y.row(column)));
                    near.push(column);
                }
            }
        }
        if let Some(own) = self.named(anchor).1 {
            values[own] = 0.0;
        }
        dispatch(Roots(values, base == Base::Euclidean));
    }

    fn affine(&self, values: &mut [f32]) {
        let RowForm { scale, shift, .. } = self.form;
        if (scale, shift) != (1.0, 0.0) {
            values.iter_mut().for_each(|x| *x = scale * *x + shift);
        }
    }

    /// Gradients by values to what columns are pulled by.
    fn slopes(&self, values: &mut [f32], kept: &[f32]) {
        if !self.wanted {
            return;
        }
        let RowForm { base, scale, .. } = self.form;
        match base {
            Base::Dot if scale == 1.0 => {}
            Base::Dot => values.iter_mut().for_each(|x| *x *= scale),
            Base::Squared => values.iter_mut().for_each(|x| *x *= 2.0 * scale),
            Base::Euclidean => dispatch(Slopes(values, kept, scale)),
        }
    }

    /// The column of the first of an anchor's positives, where no anchor is among the references.
    fn first(&self, anchor: usize) -> Option<usize> {
        self.y.columns().run(self.x.groups[anchor]).next()
    }

    /// The lengths of an anchor and of the first of its positives.
    fn lengths(&self, anchor: usize) -> [f32; 2] {
        let first = self.first(anchor).map_or(0.0, |it| self.y.lengths[it]);
        [self.x.lengths[anchor].sqrt(), first.sqrt()]
    }

    /// Adds what lengths change by on both sides: a row of length 0 does not move.
    fn pull_along(&self, begin: usize, from: usize, slopes: &[[f32; 2]], gradient: &mut Gradient) {
        let padded = self.y.padded;
        for (anchor, slopes) in (begin..).zip(slopes) {
            let lengths = self.lengths(anchor);
            let along = |at: usize, sum: &mut [f32], row: &[f32]| {
                if lengths[at] > 0.0 {
                    let by = slopes[at] / lengths[at];
                    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += by * x);
                }
            };
            let mine = &mut gradient.to_anchors[(anchor - from) * padded..][..padded];
            along(0, mine, self.x.row(anchor));
            if let Some(first) = self.first(anchor) {
                let theirs = &mut gradient.to_references[first * padded..][..padded];
                along(1, theirs, self.y.row(first));
            }
        }
    }

    /// Adds what a block of weights pulls on both sides; `from` is the first anchor of the gradients.
    fn pull(
        &self,
        anchors: Range<usize>,
        from: usize,
        packed: &Packed,
        beside: &Beside,
        work: &mut Work,
        gradients: &mut [Gradient; 2],
    ) {
        let (m, padded, count) = (self.y.len(), self.y.padded, anchors.len());
        let stride = m.next_multiple_of(LANES);
        let (linear, part) = (self.form.base == Base::Dot, self.parts() - 1);
        self.pull_along(anchors.start, from, &beside.lengths, &mut gradients[part]);
        let block = &mut work.block[..count * stride];
        let at = (anchors.start - from) * padded;
        let mut apart = |place: usize, columns: Range<usize>, part: usize, block: &mut [f32]| {
            let Gradient {
                to_anchors,
                to_references,
            } = &mut gradients[part];
            let rows = columns.start * padded..columns.end * padded;
            dispatch(Apart {
                linear,
                x: self.x.row(anchors.start + place),
                y: &self.y.rows[rows.clone()],
                weights: &mut block[place * stride..][columns],
                mine: &mut to_anchors[at + place * padded..][..padded],
                theirs: &mut to_references[rows],
            });
        };
        // Those that do not go with the rest: a part of its own, and rows that are near.
        for place in 0..count {
            block[place * stride + m..(place + 1) * stride].fill(0.0);
            if self.apart {
                let group = self.x.groups[anchors.start + place];
                apart(place, self.y.columns().run(group), 0, block);
            }
        }
        for &(place, column) in &beside.near {
            apart(place, column..column + 1, part, block);
        }
        if SPARSE * dispatch(NonZero(block)) < count * m {
            for place in 0..count {
                apart(place, 0..m, part, block);
            }
            return;
        }
        let pulled = &mut work.pulled[..count * padded];
        let Gradient {
            to_anchors,
            to_references,
        } = &mut gradients[part];
        let Some(panels) = &packed.rows else { return };
        if padded == 0 {
            return;
        }
        dispatch(Products {
            a: block,
            stride,
            count,
            panels,
            columns: padded,
            result: pulled,
        });
        dispatch(Turned {
            weights: block,
            stride,
            rows: &self.x.rows[anchors.start * padded..anchors.end * padded],
            padded,
            references: m,
            sums: to_references,
        });
        let mine = &mut to_anchors[at..at + count * padded];
        if linear {
            add(mine, pulled);
            return;
        }
        // Σ_j w_ij (x_i − y_j)
        for (place, weights) in block.chunks_exact(stride).enumerate() {
            let x = self.x.row(anchors.start + place);
            let here = place * padded..(place + 1) * padded;
            let total = dispatch(Total(weights, &mut work.by_column));
            let mine = mine[here.clone()].iter_mut();
            for ((sum, x), pulled) in mine.zip(x).zip(&pulled[here]) {
                *sum += total * x - pulled;
            }
        }
    }
}
