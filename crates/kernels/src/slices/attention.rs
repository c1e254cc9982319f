//! Attention of several heads: the softmax of queries by keys, times values.
//!
//! Each row of a batch is one task, and its heads follow one another: what a head reads is gathered to whole vectors, so any width of a
//! head will do. The way back makes the weights anew, which are a small part of the work, so nothing but inputs and outputs is kept
//! between the two ways.

use pulp::{Simd, WithSimd};

use super::gemm::{
    LANES, PANEL, Run, Segments, TILE, Tile, Update, columns_times_rows, rows_times_panel,
};
use super::{Lease, dispatch, exp, lease, multiply_add, run, set_vector, vector};

/// The sizes of a batch: `(batch, queries, width)` looks at `(batch, keys, width)`, and `heads` divide `width`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) heads: usize,
    pub(crate) width: usize,
}

/// What changes the weights.
#[derive(Clone, Copy, Default)]
pub(crate) struct Changes<'a> {
    /// Bytes, 0 where a query may not look at a key, in rows of `keys`; and how many rows on is the next row of the batch, the next
    /// head and the next query: 0 where they share one.
    pub(crate) keep: Option<(&'a [u8], [usize; 3])>,
    /// Factors of the weights, `(batch, heads, queries, keys)`.
    pub(crate) factors: Option<&'a [f32]>,
}

impl<'a> Changes<'a> {
    fn kept(&self, at: [usize; 3], keys: usize) -> Option<&'a [u8]> {
        let (bytes, steps) = self.keep?;
        let row: usize = at.iter().zip(steps).map(|(at, step)| at * step).sum();
        Some(&bytes[row * keys..][..keys])
    }
}

impl Sizes {
    fn work(&self) -> usize {
        self.batch * self.queries * self.keys * self.width
    }

    fn head(&self) -> usize {
        self.width / self.heads
    }

    /// What the heads take, side by side: `(batch, queries, width)`.
    pub(crate) fn forward(
        &self,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        changes: Changes<'_>,
    ) -> Vec<f32> {
        let mut output = vec![0.0; q.len()];
        let (of_queries, of_keys) = (self.queries * self.width, self.keys * self.width);
        if self.work() == 0 {
            return output;
        }
        let tasks = output.chunks_exact_mut(of_queries).enumerate().collect();
        run(
            2 * self.work(),
            tasks,
            |(row, output): (usize, &mut [f32])| {
                dispatch(Forward {
                    sizes: *self,
                    row,
                    q: &q[row * of_queries..][..of_queries],
                    k: &k[row * of_keys..][..of_keys],
                    v: &v[row * of_keys..][..of_keys],
                    changes,
                    room: &mut Room::new(*self),
                    output,
                });
            },
        );
        output
    }

    /// The gradients of queries, keys and values.
    pub(crate) fn backward(
        &self,
        [q, k, v]: [&[f32]; 3],
        gradient: &[f32],
        changes: Changes<'_>,
    ) -> [Vec<f32>; 3] {
        let mut pulled = [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
        let (of_queries, of_keys) = (self.queries * self.width, self.keys * self.width);
        if self.work() == 0 {
            return pulled;
        }
        let [for_q, for_k, for_v] = &mut pulled;
        let tasks = for_q
            .chunks_exact_mut(of_queries)
            .zip(for_k.chunks_exact_mut(of_keys))
            .zip(for_v.chunks_exact_mut(of_keys))
            .enumerate()
            .collect();
        run(
            5 * self.work(),
            tasks,
            |(row, ((for_q, for_k), for_v)): (usize, ((&mut [f32], &mut [f32]), &mut [f32]))| {
                dispatch(Backward {
                    sizes: *self,
                    row,
                    q: &q[row * of_queries..][..of_queries],
                    k: &k[row * of_keys..][..of_keys],
                    v: &v[row * of_keys..][..of_keys],
                    gradient: &gradient[row * of_queries..][..of_queries],
                    changes,
                    room: &mut Room::new(*self),
                    pulled: [for_q, for_k, for_v],
                });
            },
        );
        pulled
    }
}

/// Where a task works.
struct Room {
    /// A head's rows, filled up to whole vectors.
    q: Lease,
    k: Lease,
    v: Lease,
    gradient: Lease,
    /// `(queries, keys)`, rows filled up to whole vectors.
    weights: Lease,
    changed: Lease,
    slopes: Lease,
    /// What stands on the right of a product.
    panels: Lease,
    /// A product.
    product: Lease,
}

impl Room {
    fn new(sizes: Sizes) -> Self {
        let (width, keys) = (
            sizes.head().next_multiple_of(LANES),
            sizes.keys.next_multiple_of(LANES),
        );
        let of_keys = sizes.keys * width.next_multiple_of(PANEL);
        let of_width = sizes.head() * keys.next_multiple_of(PANEL);
        Self {
            q: lease(sizes.queries * width),
            k: lease(sizes.keys * width),
            v: lease(sizes.keys * width),
            gradient: lease(sizes.queries * width),
            weights: lease(sizes.queries * keys),
            changed: lease(sizes.queries * keys),
            slopes: lease(sizes.queries * keys),
            panels: lease(of_keys.max(of_width)),
            product: lease(sizes.queries.max(sizes.keys) * width),
        }
    }
}

/// The rows of one head, filled up with zeros and scaled.
#[inline(always)]
fn gather(from: &[f32], (first, head, width): (usize, usize, usize), to: &mut [f32], scale: f32) {
    let step = head.next_multiple_of(LANES);
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(step)) {
        for (to, x) in to.iter_mut().zip(&from[first..first + head]) {
            *to = *x * scale;
        }
        to[head..].fill(0.0);
    }
}

/// The other way.
#[inline(always)]
fn scatter(from: &[f32], (first, head, width): (usize, usize, usize), to: &mut [f32], scale: f32) {
    let step = head.next_multiple_of(LANES);
    for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(step)) {
        for (to, x) in to[first..first + head].iter_mut().zip(from) {
            *to = *x * scale;
        }
    }
}

/// `C = A B` with the rows of B packed, `columns` wide; rows of A lie `stride` apart, those of C are filled up to whole vectors.
#[inline(always)]
fn product<S: Simd>(
    simd: S,
    a: &[f32],
    stride: usize,
    [rows, depth, columns]: [usize; 3],
    panels: &[f32],
    c: &mut [f32],
) {
    let width = columns.next_multiple_of(LANES);
    for (p, panel) in panels
        .chunks_exact(depth * PANEL)
        .take(width.div_ceil(PANEL))
        .enumerate()
    {
        let wide = PANEL.min(width - p * PANEL);
        for first in (0..rows).step_by(TILE) {
            let count = TILE.min(rows - first);
            let mut tile = Tile {
                count,
                from: [0; TILE],
                to: [0; TILE],
            };
            for r in 0..TILE {
                let row = first + r.min(count - 1);
                tile.from[r] = row * stride;
                tile.to[r] = row * width + p * PANEL;
            }
            let depth = Segments::one(depth);
            rows_times_panel(
                simd,
                a,
                tile,
                depth,
                panel.as_chunks().0,
                wide,
                c,
                Update::Set,
            );
        }
    }
}

/// `C = Aᵀ B`: `rows` of C are columns of A, whose rows lie `stride` apart; B and C are `width` wide, in whole vectors.
#[inline(always)]
fn transposed_product<S: Simd>(
    simd: S,
    a: &[f32],
    stride: usize,
    [rows, depth, width]: [usize; 3],
    b: &[f32],
    c: &mut [f32],
) {
    for column in (0..width).step_by(PANEL) {
        let wide = PANEL.min(width - column);
        let (a, b) = (Run::one(a, stride), Run::one(&b[column..], width));
        columns_times_rows(
            simd,
            a,
            rows,
            b,
            wide,
            [depth, 1, 1],
            &mut c[column..],
            width,
            Update::Set,
        );
    }
}

/// Packs rows that are `step` apart, turned: their number at a place becomes a row of the panels.
#[inline(always)]
fn pack_turned(rows: &[f32], step: usize, depth: usize, panels: &mut [f32]) {
    for (rows, panel) in rows
        .chunks(PANEL * step)
        .zip(panels.chunks_exact_mut(depth * PANEL))
    {
        let count = rows.len() / step;
        for (at, to) in panel.chunks_exact_mut(PANEL).enumerate() {
            for (to, row) in to.iter_mut().zip(rows.chunks_exact(step)) {
                *to = row[at];
            }
            to[count..].fill(0.0);
        }
    }
}

/// Packs rows that are `step` apart as they are.
#[inline(always)]
fn pack(rows: &[f32], step: usize, panels: &mut [f32]) {
    let depth = rows.len() / step;
    for (p, panel) in panels
        .chunks_exact_mut(depth * PANEL)
        .take(step.div_ceil(PANEL))
        .enumerate()
    {
        let wide = PANEL.min(step - p * PANEL);
        for (to, row) in panel.chunks_exact_mut(PANEL).zip(rows.chunks_exact(step)) {
            to[..wide].copy_from_slice(&row[p * PANEL..][..wide]);
        }
    }
}

/// The softmax of the kept numbers of a row, 0 elsewhere; all 0 where nothing is kept. NaN is seen.
#[inline(always)]
fn softmax<S: Simd>(simd: S, row: &mut [f32], keep: Option<&[u8]>) {
    if let Some(keep) = keep {
        for (x, keep) in row.iter_mut().zip(keep) {
            *x = if *keep == 0 { f32::NEG_INFINITY } else { *x };
        }
    }
    let low = simd.splat_f32s(f32::NEG_INFINITY);
    let (vectors, rest) = S::as_simd_f32s(row);
    let mut largest = low;
    for x in vectors {
        largest = simd.max_f32s(*x, largest);
    }
    let mut most = simd.reduce_max_f32s(largest);
    for x in rest {
        most = most.max(*x);
    }
    if most == f32::NEG_INFINITY {
        // Nothing is kept, or all of it is −∞, which no exponential tells from itself, or NaN, which is not seen as the largest.
        let nan = row.iter().find(|x| x.is_nan());
        row.fill(nan.copied().unwrap_or(0.0));
        return;
    }
    let shift = simd.splat_f32s(most);
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    for x in vectors.iter_mut() {
        *x = exponential(simd, *x, shift);
    }
    let last = exponential(simd, simd.partial_load_f32s(rest), shift);
    simd.partial_store_f32s(rest, last);
    if let Some(keep) = keep {
        for (x, keep) in row.iter_mut().zip(keep) {
            *x = if *keep == 0 { 0.0 } else { *x };
        }
    }
    let (vectors, rest) = S::as_simd_f32s(row);
    let mut sum = simd.partial_load_f32s(rest);
    for x in vectors {
        sum = simd.add_f32s(sum, *x);
    }
    let scale = 1.0 / simd.reduce_sum_f32s(sum);
    for x in row {
        *x *= scale;
    }
}

/// `e^(x − shift)`, NaN where that is no number. A closure would stay a call, without the instruction set.
#[inline(always)]
fn exponential<S: Simd>(simd: S, x: S::f32s, shift: S::f32s) -> S::f32s {
    let x = simd.sub_f32s(x, shift);
    simd.select_f32s(simd.equal_f32s(x, x), exp(simd, x), x)
}

/// The weights of a head: `(queries, keys)`, rows filled up to whole vectors. `room.q` is scaled, `room.k` is gathered.
#[inline(always)]
fn weigh<S: Simd>(
    simd: S,
    sizes: Sizes,
    (row, head): (usize, usize),
    changes: Changes<'_>,
    room: &mut Room,
) {
    let step = sizes.head().next_multiple_of(LANES);
    let keys = sizes.keys.next_multiple_of(LANES);
    pack_turned(&room.k, step, sizes.head(), &mut room.panels);
    let shape = [sizes.queries, sizes.head(), sizes.keys];
    product(simd, &room.q, step, shape, &room.panels, &mut room.weights);
    for (query, weights) in room.weights.chunks_exact_mut(keys).enumerate() {
        let keep = changes.kept([row, head, query], sizes.keys);
        softmax(simd, &mut weights[..sizes.keys], keep);
    }
}

/// Multiplies `(queries, keys)`, rows filled up to whole vectors, by a head's factors.
#[inline(always)]
fn multiply(sizes: Sizes, (row, head): (usize, usize), factors: &[f32], values: &mut [f32]) {
    let keys = sizes.keys.next_multiple_of(LANES);
    let first = (row * sizes.heads + head) * sizes.queries * sizes.keys;
    let factors = factors[first..].chunks_exact(sizes.keys);
    for (values, factors) in values.chunks_exact_mut(keys).zip(factors) {
        for (value, factor) in values.iter_mut().zip(factors) {
            *value *= factor;
        }
    }
}

struct Forward<'a> {
    sizes: Sizes,
    /// Which row of the batch it is.
    row: usize,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    changes: Changes<'a>,
    room: &'a mut Room,
    output: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            sizes,
            row,
            q,
            k,
            v,
            changes,
            room,
            output,
        } = self;
        let head = sizes.head();
        let (step, keys) = (
            head.next_multiple_of(LANES),
            sizes.keys.next_multiple_of(LANES),
        );
        let scale = 1.0 / (head as f32).sqrt();
        for number in 0..sizes.heads {
            let part = (number * head, head, sizes.width);
            gather(q, part, &mut room.q, scale);
            gather(k, part, &mut room.k, 1.0);
            gather(v, part, &mut room.v, 1.0);
            weigh(simd, sizes, (row, number), changes, room);
            if let Some(factors) = changes.factors {
                multiply(sizes, (row, number), factors, &mut room.weights);
            }
            pack(&room.v, step, &mut room.panels);
            let shape = [sizes.queries, sizes.keys, step];
            product(
                simd,
                &room.weights,
                keys,
                shape,
                &room.panels,
                &mut room.product,
            );
            scatter(&room.product, part, output, 1.0);
        }
    }
}

struct Backward<'a> {
    sizes: Sizes,
    row: usize,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    gradient: &'a [f32],
    changes: Changes<'a>,
    room: &'a mut Room,
    pulled: [&'a mut [f32]; 3],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    /// With P the weights and F their factors: `dV = (P F)ᵀ dY`, `dP = (dY Vᵀ) F`, `dS = P (dP − Σ P dP)`, `dQ = dS K / √d`,
    /// `dK = dSᵀ Q / √d`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            sizes,
            row,
            q,
            k,
            v,
            gradient,
            changes,
            room,
            pulled: [for_q, for_k, for_v],
        } = self;
        let head = sizes.head();
        let (step, keys) = (
            head.next_multiple_of(LANES),
            sizes.keys.next_multiple_of(LANES),
        );
        let scale = 1.0 / (head as f32).sqrt();
        for number in 0..sizes.heads {
            let part = (number * head, head, sizes.width);
            gather(q, part, &mut room.q, scale);
            gather(k, part, &mut room.k, 1.0);
            gather(v, part, &mut room.v, 1.0);
            gather(gradient, part, &mut room.gradient, 1.0);
            weigh(simd, sizes, (row, number), changes, room);

            let used = match changes.factors {
                None => &room.weights,
                Some(factors) => {
                    room.changed.copy_from_slice(&room.weights);
                    multiply(sizes, (row, number), factors, &mut room.changed);
                    &room.changed
                }
            };
            let shape = [sizes.keys, sizes.queries, step];
            transposed_product(simd, used, keys, shape, &room.gradient, &mut room.product);
            scatter(&room.product, part, for_v, 1.0);

            pack_turned(&room.v, step, head, &mut room.panels);
            let shape = [sizes.queries, head, sizes.keys];
            product(
                simd,
                &room.gradient,
                step,
                shape,
                &room.panels,
                &mut room.slopes,
            );
            if let Some(factors) = changes.factors {
                multiply(sizes, (row, number), factors, &mut room.slopes);
            }
            let rows = room.slopes.chunks_exact_mut(keys);
            for (query, (slopes, weights)) in rows.zip(room.weights.chunks_exact(keys)).enumerate()
            {
                let keep = changes.kept([row, number, query], sizes.keys);
                slope(
                    simd,
                    &mut slopes[..sizes.keys],
                    &weights[..sizes.keys],
                    keep,
                );
            }

            pack(&room.k, step, &mut room.panels);
            let shape = [sizes.queries, sizes.keys, step];
            product(
                simd,
                &room.slopes,
                keys,
                shape,
                &room.panels,
                &mut room.product,
            );
            scatter(&room.product, part, for_q, scale);
            // The queries are scaled already.
            let shape = [sizes.keys, sizes.queries, step];
            transposed_product(simd, &room.slopes, keys, shape, &room.q, &mut room.product);
            scatter(&room.product, part, for_k, 1.0);
        }
    }
}

/// `p (g − Σ p g)` in place of `g`, 0 where nothing is kept.
#[inline(always)]
fn slope<S: Simd>(simd: S, gradient: &mut [f32], weights: &[f32], keep: Option<&[u8]>) {
    let whole = weights.len() / S::F32_LANES * S::F32_LANES;
    if let Some(keep) = keep {
        for (g, keep) in gradient.iter_mut().zip(keep) {
            *g = if *keep == 0 { 0.0 } else { *g };
        }
    }
    let mut sum = simd.splat_f32s(0.0);
    for at in (0..whole).step_by(S::F32_LANES) {
        sum = multiply_add(
            simd,
            vector(simd, weights, at),
            vector(simd, gradient, at),
            sum,
        );
    }
    let mut sum = simd.reduce_sum_f32s(sum);
    for at in whole..weights.len() {
        sum += weights[at] * gradient[at];
    }
    let along = simd.splat_f32s(sum);
    for at in (0..whole).step_by(S::F32_LANES) {
        let left = simd.sub_f32s(vector(simd, gradient, at), along);
        set_vector(
            simd,
            gradient,
            at,
            simd.mul_f32s(vector(simd, weights, at), left),
        );
    }
    for at in whole..weights.len() {
        gradient[at] = weights[at] * (gradient[at] - sum);
    }
}
