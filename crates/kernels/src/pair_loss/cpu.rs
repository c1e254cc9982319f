//! Blocks of rows on the kernels of matrix products.
//!
//! References are sorted by group, so that an anchor's positives are one run of columns and its negatives two. Distances come
//! from inner products; those of rows that are near one another, which would lose their digits that way, are computed again
//! from the differences, and pull by them too.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType};
use pulp::{Simd, WithSimd};

use super::{Base, Fold, PairLoss, RowForm, RowFunctional, RowSum, Rows, part};
use crate::host::read;
use crate::slices::gemm::{
    LANES, PANEL, Panels, Run, Segments, TILE, Tile, Update, columns_times_rows, rows_times_panel,
};
use crate::slices::{Lease, dispatch, lease, run};

/// Anchors whose values are there at one time: whole tiles.
const BLOCK: usize = 8 * TILE;
/// Parts of the anchors that are done beside one another, each with a gradient of all references.
const PARTS: usize = 4;
/// Rows of a panel that stay in the cache while all tiles of a block are multiplied with them.
const DEPTH: usize = 512;
/// Squared distances below this share of `‖x‖² + ‖y‖²` are computed from the differences.
const NEAR: f32 = 1e-3;
/// Where fewer than one in so many values has a gradient, they pull one by one.
const SPARSE: usize = 6;
/// Squared lengths above this leave no room for their sums.
const LARGEST: f32 = 1e36;

/// None where lengths are so large that inner products overflow.
pub(super) fn pair_loss(
    form: RowForm,
    rows: &Rows<'_>,
    functional: &dyn RowFunctional,
    fold: &Fold<'_>,
) -> Result<Option<PairLoss>> {
    let (anchors, references) = (rows.anchors, rows.references);
    let same = anchors.id() == references.id() && rows.anchor_groups == rows.reference_groups;
    let wanted = anchors.track_op() || references.track_op();
    let width = anchors.dim(1)?;
    let y = read::<f32, _>(references, |y| {
        Ok(Side::new(y, width, rows.reference_groups))
    })?;
    let x = match same {
        true => None,
        false => Some(read::<f32, _>(anchors, |x| {
            Ok(Side::new(x, width, rows.anchor_groups))
        })?),
    };
    let x = x.as_ref().unwrap_or(&y);
    let largest = |side: &Side| side.lengths.iter().all(|length| *length <= LARGEST);
    if !largest(x) || !largest(&y) {
        return Ok(None);
    }
    let pass = Pass {
        form,
        x,
        y: &y,
        rows,
        own: rows.own_in(&y.order),
        functional,
        fold,
        wanted,
        apart: functional.apart(),
    };
    let Found { sums, gradients } = pass.all();
    let mut parts = Vec::new();
    for (sum, gradient) in sums.into_iter().zip(gradients).take(pass.parts()) {
        let Some(divisor) = fold.divisor(sum) else {
            parts.push(part(None, sum));
            continue;
        };
        let value = (sum.value / divisor) as f32;
        let value = if wanted {
            let scale = (1.0 / divisor) as f32;
            let tensor = |values: Vec<f32>, like: &Tensor| {
                Tensor::from_vec(values, like.shape(), like.device())
            };
            let mut to_anchors = vec![0.0; x.len() * width];
            x.unsort(&gradient.to_anchors, scale, &mut to_anchors);
            let known = if same {
                y.unsort(&gradient.to_references, scale, &mut to_anchors);
                Known {
                    value,
                    to_anchors: tensor(to_anchors, anchors)?,
                    to_references: None,
                }
            } else {
                let mut to_references = vec![0.0; y.len() * width];
                y.unsort(&gradient.to_references, scale, &mut to_references);
                Known {
                    value,
                    to_anchors: tensor(to_anchors, anchors)?,
                    to_references: Some(tensor(to_references, references)?),
                }
            };
            drop(gradient);
            anchors.apply_op2(references, known)?
        } else {
            Tensor::new(value, anchors.device())?
        };
        parts.push(part(Some(value), sum));
    }
    Ok(Some(PairLoss { parts }))
}

/// Rows in the order of their groups, padded to whole vectors.
struct Side {
    /// Where each row was.
    order: Vec<u32>,
    rows: Lease,
    groups: Vec<u32>,
    /// Squared lengths.
    lengths: Vec<f32>,
    width: usize,
    padded: usize,
}

impl Side {
    fn new(rows: &[f32], width: usize, groups: &[u32]) -> Self {
        let n = groups.len();
        let padded = width.next_multiple_of(LANES);
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by_key(|&row| groups[row as usize]);
        let mut sorted = lease(n * padded);
        sorted.fill(0.0);
        let mut lengths = Vec::with_capacity(n);
        for (place, &row) in order.iter().enumerate() {
            let row = &rows[row as usize * width..][..width];
            sorted[place * padded..][..width].copy_from_slice(row);
            lengths.push(dispatch(Product(row, row)));
        }
        Self {
            groups: order.iter().map(|&row| groups[row as usize]).collect(),
            order,
            rows: sorted,
            lengths,
            width,
            padded,
        }
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn row(&self, place: usize) -> &[f32] {
        &self.rows[place * self.padded..][..self.padded]
    }

    /// Where the rows of a group are.
    fn run(&self, group: u32) -> Range<usize> {
        let begin = self.groups.partition_point(|&other| other < group);
        let end = self.groups.partition_point(|&other| other <= group);
        begin..end
    }

    /// Adds sorted, padded rows, times a number, to those as they were given.
    fn unsort(&self, rows: &[f32], scale: f32, given: &mut [f32]) {
        for (place, &row) in self.order.iter().enumerate() {
            let given = &mut given[row as usize * self.width..][..self.width];
            for (given, sorted) in given.iter_mut().zip(&rows[place * self.padded..]) {
                *given += sorted * scale;
            }
        }
    }
}

/// The gradients of a part's sum, in sorted order.
struct Gradient {
    to_anchors: Lease,
    to_references: Lease,
}

impl Gradient {
    fn zeros(anchors: usize, references: usize) -> Self {
        let zeros = |len: usize| {
            let mut zeros = lease(len);
            zeros.fill(0.0);
            zeros
        };
        Self {
            to_anchors: zeros(anchors),
            to_references: zeros(references),
        }
    }
}

struct Found {
    sums: [RowSum; 2],
    gradients: [Gradient; 2],
}

struct Pass<'a> {
    form: RowForm,
    x: &'a Side,
    y: &'a Side,
    rows: &'a Rows<'a>,
    /// Of each anchor as it was given, its column in sorted order.
    own: Vec<Option<usize>>,
    functional: &'a dyn RowFunctional,
    fold: &'a Fold<'a>,
    wanted: bool,
    apart: bool,
}

/// What is packed once for all blocks.
struct Packed {
    /// `yᵀ`, for the values.
    columns: Panels,
    /// `y`, for the way back.
    rows: Option<Panels>,
}

impl Pass<'_> {
    fn parts(&self) -> usize {
        if self.apart { 2 } else { 1 }
    }

    fn all(&self) -> Found {
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
        let mut gradients = [0, 1].map(|part| Gradient::zeros(len(n, part), len(m, part)));
        if n == 0 || m == 0 {
            return Found { sums, gradients };
        }
        let packed = self.pack();
        let size = n.div_ceil(PARTS).next_multiple_of(BLOCK);
        let [first, second] = &mut gradients;
        let mut seconds = second.to_anchors.chunks_mut((size * padded).max(1));
        let mut firsts = first.to_anchors.chunks_mut((size * padded).max(1));
        let tasks: Vec<_> = (0..n)
            .step_by(size)
            .map(|begin| {
                let to_anchors = [
                    firsts.next().unwrap_or_default(),
                    seconds.next().unwrap_or_default(),
                ];
                (begin, to_anchors)
            })
            .collect();
        // As many at a time as there are threads, so that few gradients of all references are there at once. They are added up
        // in order, whatever that number is.
        let work = 3 * n * m * padded.max(16) / tasks.len().max(1);
        let mut tasks = tasks.into_iter();
        loop {
            let wave: Vec<_> = tasks.by_ref().take(rayon::current_num_threads()).collect();
            if wave.is_empty() {
                break;
            }
            let found = run(work * wave.len(), wave, |(begin, to_anchors)| {
                self.some(begin..n.min(begin + size), to_anchors, &packed)
            });
            for (some, to_references) in found {
                for (sum, some) in sums.iter_mut().zip(some) {
                    *sum += some;
                }
                let gradients = [&mut first.to_references, &mut second.to_references];
                for (gradient, some) in gradients.into_iter().zip(&to_references) {
                    for (sum, some) in gradient.iter_mut().zip(&some[..]) {
                        *sum += some;
                    }
                }
            }
        }
        Found { sums, gradients }
    }

    fn pack(&self) -> Packed {
        let (y, m, padded) = (self.y, self.y.len(), self.y.padded);
        let columns = Panels::pack_with(padded, m, |panel, rows| {
            for column in 0..PANEL.min(m - panel * PANEL) {
                for (row, &value) in rows.iter_mut().zip(y.row(panel * PANEL + column)) {
                    row[column] = value;
                }
            }
        });
        let rows = self.wanted.then(|| {
            Panels::pack_with(m, padded, |panel, rows| {
                let columns = panel * PANEL..padded.min((panel + 1) * PANEL);
                for (place, row) in rows.iter_mut().enumerate() {
                    row[..columns.len()].copy_from_slice(&y.row(place)[columns.clone()]);
                }
            })
        });
        Packed { columns, rows }
    }

    /// Some anchors: their sums, and what they give to the references.
    fn some(
        &self,
        anchors: Range<usize>,
        to_anchors: [&mut [f32]; 2],
        packed: &Packed,
    ) -> ([RowSum; 2], [Lease; 2]) {
        let (m, padded) = (self.y.len(), self.y.padded);
        let stride = m.next_multiple_of(LANES);
        let mut sums = [RowSum::default(); 2];
        let mut block = lease(BLOCK * stride);
        let mut kept = lease(stride);
        let mut pulled = lease(if self.wanted { BLOCK * padded } else { 0 });
        let mut by_column = lease(if self.wanted { stride } else { 0 });
        by_column.fill(0.0);
        let len = |part: usize| {
            if self.wanted && part < self.parts() {
                m * padded
            } else {
                0
            }
        };
        let mut to_references = [0, 1].map(|part| {
            let mut zeros = lease(len(part));
            zeros.fill(0.0);
            zeros
        });
        let [first, second] = to_anchors;
        let mut near = Vec::new();
        for begin in anchors.clone().step_by(BLOCK) {
            let count = BLOCK.min(anchors.end - begin);
            let block = &mut block[..count * stride];
            self.products(begin, count, packed, block, stride);
            let at = (begin - anchors.start) * padded;
            for (local, values) in block.chunks_exact_mut(stride).enumerate() {
                let anchor = begin + local;
                near.clear();
                self.row(
                    anchor,
                    &mut values[..m],
                    &mut kept[..m],
                    &mut near,
                    &mut sums,
                );
                values[m..].fill(0.0);
                if !self.wanted {
                    continue;
                }
                // Those that do not go with the rest: rows that are near, and a part of its own.
                let run = self.y.run(self.x.groups[anchor]);
                let x = self.x.row(anchor);
                let mut apart = |columns: Range<usize>, part: usize, mine: &mut [f32]| {
                    let theirs = &mut to_references[part][..];
                    dispatch(Apart {
                        linear: self.form.base == Base::Dot,
                        x,
                        y: &self.y.rows[columns.start * padded..columns.end * padded],
                        weights: &mut values[columns.clone()],
                        mine,
                        theirs: &mut theirs[columns.start * padded..columns.end * padded],
                    });
                };
                let here = at + local * padded..at + (local + 1) * padded;
                if self.apart {
                    apart(run.clone(), 0, &mut first[here.clone()]);
                }
                let part = self.parts() - 1;
                let mine = if self.apart {
                    &mut second[here]
                } else {
                    &mut first[here]
                };
                for &column in &near {
                    if !(self.apart && run.contains(&column)) {
                        apart(column..column + 1, part, mine);
                    }
                }
            }
            if self.wanted {
                let part = self.parts() - 1;
                let mine = if self.apart {
                    &mut *second
                } else {
                    &mut *first
                };
                let mine = &mut mine[at..at + count * padded];
                if SPARSE * dispatch(NonZero(block)) < count * m {
                    for (local, weights) in block.chunks_exact_mut(stride).enumerate() {
                        dispatch(Apart {
                            linear: self.form.base == Base::Dot,
                            x: self.x.row(begin + local),
                            y: &self.y.rows[..m * padded],
                            weights: &mut weights[..m],
                            mine: &mut mine[local * padded..(local + 1) * padded],
                            theirs: &mut to_references[part],
                        });
                    }
                    continue;
                }
                let pulled = &mut pulled[..count * padded];
                self.back(
                    begin,
                    packed,
                    block,
                    stride,
                    pulled,
                    &mut to_references[part],
                );
                if self.form.base == Base::Dot {
                    mine.iter_mut().zip(&*pulled).for_each(|(sum, x)| *sum += x);
                } else {
                    // Σ_j w_ij (x_i − y_j)
                    for (local, weights) in block.chunks_exact(stride).enumerate() {
                        let x = self.x.row(begin + local);
                        let here = local * padded..(local + 1) * padded;
                        let total = dispatch(Total(weights, &mut by_column));
                        let mine = mine[here.clone()].iter_mut();
                        for ((sum, x), pulled) in mine.zip(x).zip(&pulled[here]) {
                            *sum += total * x - pulled;
                        }
                    }
                }
            }
        }
        if self.wanted && self.form.base != Base::Dot {
            // What was added up are Σ_i w_ij x_i; the gradient is Σ_i w_ij (y_j − x_i).
            let part = self.parts() - 1;
            let theirs = to_references[part].chunks_exact_mut(padded.max(1));
            for (place, theirs) in theirs.enumerate() {
                let total = by_column[place];
                for (theirs, y) in theirs.iter_mut().zip(self.y.row(place)) {
                    *theirs = total * y - *theirs;
                }
            }
            if self.apart {
                to_references[0].iter_mut().for_each(|x| *x = -*x);
            }
        }
        (sums, to_references)
    }

    /// Inner products of some anchors with all references.
    fn products(
        &self,
        begin: usize,
        count: usize,
        packed: &Packed,
        block: &mut [f32],
        stride: usize,
    ) {
        dispatch(Products {
            a: &self.x.rows[begin * self.x.padded..(begin + count) * self.x.padded],
            stride: self.x.padded,
            count,
            panels: &packed.columns,
            columns: stride,
            result: block,
        });
    }

    /// A row's inner products to values, to its sums, and to what each column is pulled by.
    fn row(
        &self,
        anchor: usize,
        values: &mut [f32],
        kept: &mut [f32],
        near: &mut Vec<usize>,
        sums: &mut [RowSum; 2],
    ) {
        let given = self.x.order[anchor] as usize;
        let own = self.own.get(given).copied().flatten();
        let RowForm { base, scale, shift } = self.form;
        if base != Base::Dot {
            let length = self.x.lengths[anchor];
            if let Some(own) = own {
                values[own] = -length; // Not near: it is looked at by nobody.
            }
            if dispatch(Squares(values, length, &self.y.lengths)) {
                let x = self.x.row(anchor);
                for (column, value) in values.iter_mut().enumerate() {
                    if *value <= NEAR * (length + self.y.lengths[column]) {
                        *value = dispatch(Difference(x, self.y.row(column)));
                        near.push(column);
                    }
                }
            }
            dispatch(Roots(values, base == Base::Euclidean));
        }
        kept.copy_from_slice(values);
        if (scale, shift) != (1.0, 0.0) {
            values.iter_mut().for_each(|x| *x = scale * *x + shift);
        }
        let group = self.x.groups[anchor];
        let run = self.y.run(group);
        let all = self.rows.visit(
            self.functional,
            self.fold,
            (given, group, own),
            run,
            &self.y.groups,
            values,
        );
        for (sum, row) in sums.iter_mut().zip(all) {
            *sum += row;
        }
        if self.wanted {
            match base {
                Base::Dot if scale == 1.0 => {}
                Base::Dot => values.iter_mut().for_each(|x| *x *= scale),
                Base::Squared => values.iter_mut().for_each(|x| *x *= 2.0 * scale),
                Base::Euclidean => dispatch(Slopes(values, kept, scale)),
            }
        }
    }

    /// `Σ_j w_ij y_j` of some anchors, and `Σ_i w_ij x_i` added to those of the references.
    fn back(
        &self,
        begin: usize,
        packed: &Packed,
        weights: &[f32],
        stride: usize,
        pulled: &mut [f32],
        to_references: &mut [f32],
    ) {
        let Some(panels) = &packed.rows else { return };
        let padded = self.y.padded;
        if padded == 0 {
            return;
        }
        let count = pulled.len() / padded;
        dispatch(Products {
            a: weights,
            stride,
            count,
            panels,
            columns: padded,
            result: pulled,
        });
        dispatch(Turned {
            weights,
            stride,
            rows: &self.x.rows[begin * padded..(begin + count) * padded],
            padded,
            references: self.y.len(),
            sums: to_references,
        });
    }
}

/// `A · B` of rows of A, `stride` apart, and packed B.
struct Products<'a> {
    a: &'a [f32],
    stride: usize,
    count: usize,
    panels: &'a Panels,
    columns: usize,
    result: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            stride,
            count,
            panels,
            columns,
            result,
        } = self;
        let depth = panels.rows();
        if depth == 0 {
            result.fill(0.0);
            return;
        }
        for first in (0..depth).step_by(DEPTH) {
            let len = DEPTH.min(depth - first);
            let update = if first == 0 { Update::Set } else { Update::Add };
            for panel in 0..columns.div_ceil(PANEL) {
                let width = PANEL.min(columns - panel * PANEL);
                let rows = &panels.panel(panel)[first..first + len];
                for top in (0..count).step_by(TILE) {
                    let mut tile = Tile {
                        count: TILE.min(count - top),
                        from: [0; TILE],
                        to: [0; TILE],
                    };
                    for row in 0..tile.count {
                        tile.from[row] = (top + row) * stride + first;
                        tile.to[row] = (top + row) * columns + panel * PANEL;
                    }
                    rows_times_panel(
                        simd,
                        a,
                        tile,
                        Segments::one(len),
                        rows,
                        width,
                        result,
                        update,
                    );
                }
            }
        }
    }
}

/// `Wᵀ · X`, added.
struct Turned<'a> {
    weights: &'a [f32],
    stride: usize,
    rows: &'a [f32],
    padded: usize,
    references: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Turned<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            weights,
            stride,
            rows,
            padded,
            references,
            sums,
        } = self;
        for column in (0..padded).step_by(PANEL) {
            columns_times_rows(
                simd,
                Run {
                    data: weights,
                    step: stride,
                    jump: 0,
                },
                references,
                Run {
                    data: &rows[column..],
                    step: padded,
                    jump: 0,
                },
                PANEL.min(padded - column),
                (rows.len() / padded, 1),
                &mut sums[column..],
                padded,
            );
        }
    }
}

/// An inner product, in a fixed order.
struct Product<'a>(&'a [f32], &'a [f32]);

impl WithSimd for Product<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        lanes_sum(self.0.iter().zip(self.1).map(|(x, y)| x * y))
    }
}

/// A squared distance from the differences.
struct Difference<'a>(&'a [f32], &'a [f32]);

impl WithSimd for Difference<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        lanes_sum(self.0.iter().zip(self.1).map(|(x, y)| (x - y) * (x - y)))
    }
}

/// Sixteen sums side by side, then one: the compiler may do them at once, and the order is the same for every processor.
#[inline(always)]
fn lanes_sum(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut sums = [0f32; LANES];
    for (index, value) in values.enumerate() {
        sums[index % LANES] += value;
    }
    sums.iter().sum()
}

/// Inner products to squared distances; whether any is near.
struct Squares<'a>(&'a mut [f32], f32, &'a [f32]);

impl WithSimd for Squares<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let Self(values, length, lengths) = self;
        let mut near = 0u32;
        for (value, other) in values.iter_mut().zip(lengths) {
            let both = length + other;
            let square = both - 2.0 * *value;
            near |= u32::from(square <= NEAR * both);
            *value = square;
        }
        near != 0
    }
}

/// Squared distances to distances, or as they are but for what rounding left below zero.
struct Roots<'a>(&'a mut [f32], bool);

impl WithSimd for Roots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if self.1 {
            self.0.iter_mut().for_each(|x| *x = x.max(0.0).sqrt());
        } else {
            self.0.iter_mut().for_each(|x| *x = x.max(0.0));
        }
    }
}

/// Gradients by distances: rows that coincide pull on nothing.
struct Slopes<'a>(&'a mut [f32], &'a [f32], f32);

impl WithSimd for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (gradient, &distance) in self.0.iter_mut().zip(self.1) {
            let slope = *gradient * self.2 / distance;
            *gradient = if distance > 0.0 { slope } else { 0.0 };
        }
    }
}

/// The sum of a row's weights, which are added to those of their columns.
struct Total<'a>(&'a [f32], &'a mut [f32]);

impl WithSimd for Total<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        for (sum, weight) in self.1.iter_mut().zip(self.0) {
            *sum += weight;
        }
        let mut sums = [0f32; LANES];
        for weights in self.0.chunks_exact(LANES) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += weight;
            }
        }
        sums.iter().sum()
    }
}

/// How many values are not 0.
struct NonZero<'a>(&'a [f32]);

impl WithSimd for NonZero<'_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        let runs = self.0.chunks(1 << 12);
        let counts = runs.map(|run| run.iter().map(|&x| u32::from(x != 0.0)).sum::<u32>());
        counts.map(|count| count as usize).sum()
    }
}

/// Some columns on their own: each pulls by its weight, which is then 0 for the rest. To the references goes `w x` for inner
/// products, and `w (x − y)`, with the sign of the anchor, for distances.
struct Apart<'a> {
    linear: bool,
    x: &'a [f32],
    y: &'a [f32],
    weights: &'a mut [f32],
    mine: &'a mut [f32],
    theirs: &'a mut [f32],
}

impl WithSimd for Apart<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.x.len();
        if width == 0 {
            self.weights.fill(0.0);
            return;
        }
        let rows = self.y.chunks_exact(width);
        let theirs = self.theirs.chunks_exact_mut(width);
        for ((weight, y), theirs) in self.weights.iter_mut().zip(rows).zip(theirs) {
            let by = std::mem::take(weight);
            if by == 0.0 {
                continue;
            }
            let all = self.mine.iter_mut().zip(theirs).zip(self.x.iter().zip(y));
            if self.linear {
                for ((mine, theirs), (x, y)) in all {
                    *mine += by * y;
                    *theirs += by * x;
                }
            } else {
                for ((mine, theirs), (x, y)) in all {
                    let pull = by * (x - y);
                    *mine += pull;
                    *theirs += pull;
                }
            }
        }
    }
}

/// A scalar whose gradients are known already.
struct Known {
    value: f32,
    to_anchors: Tensor,
    /// None where both are one tensor: then all of it is in the other.
    to_references: Option<Tensor>,
}

impl CustomOp2 for Known {
    fn name(&self) -> &'static str {
        "pair_loss"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((f32::to_cpu_storage_owned(vec![self.value]), Shape::from(())))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let by = gradient.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let times = |gradient: &Tensor| {
            if by == 1.0 {
                Ok(gradient.clone())
            } else {
                gradient * by
            }
        };
        let to_references = self.to_references.as_ref().map(times).transpose()?;
        Ok((Some(times(&self.to_anchors)?), to_references))
    }
}
