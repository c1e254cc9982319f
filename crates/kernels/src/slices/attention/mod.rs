//! Attention of several heads: the softmax of queries by keys, times values.
//!
//! Each row of a batch is one task, and its heads follow one another: what a head reads is gathered to whole vectors, so any width of a
//! head will do. The way back makes the weights anew, which are a small part of the work, so nothing but inputs and outputs is kept
//! between the two ways.

mod products;

use pulp::{Simd, WithSimd};

use super::gemm::{LANES, PANEL};
use super::{Lease, dispatch, exp, lease, multiply_add, run, set_vector, vector};
use products::{gather, pack, pack_turned, product, scatter, transposed_product};

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

    /// A row of a batch.
    fn row<'a>(&self, row: usize, [q, k, v]: [&'a [f32]; 3], changes: Changes<'a>) -> Row<'a> {
        let (of_queries, of_keys) = (self.queries * self.width, self.keys * self.width);
        Row {
            sizes: *self,
            number: row,
            q: &q[row * of_queries..][..of_queries],
            k: &k[row * of_keys..][..of_keys],
            v: &v[row * of_keys..][..of_keys],
            changes,
        }
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
        let of_queries = self.queries * self.width;
        if self.work() == 0 {
            return output;
        }
        let tasks = output.chunks_exact_mut(of_queries).enumerate().collect();
        run(
            2 * self.work(),
            tasks,
            |(row, output): (usize, &mut [f32])| {
                dispatch(Forward {
                    of: self.row(row, [q, k, v], changes),
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
            .map(|((for_q, for_k), for_v)| [for_q, for_k, for_v])
            .enumerate()
            .collect();
        run(
            5 * self.work(),
            tasks,
            |(row, pulled): (usize, [&mut [f32]; 3])| {
                dispatch(Backward {
                    of: self.row(row, [q, k, v], changes),
                    gradient: &gradient[row * of_queries..][..of_queries],
                    room: &mut Room::new(*self),
                    pulled,
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

/// `e^(x − shift)`. A closure would stay a call, without the instruction set.
#[inline(always)]
fn exponential<S: Simd>(simd: S, x: S::f32s, shift: S::f32s) -> S::f32s {
    exp(simd, simd.sub_f32s(x, shift))
}

/// A row of a batch: what all its heads read.
struct Row<'a> {
    sizes: Sizes,
    number: usize,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    changes: Changes<'a>,
}

impl Row<'_> {
    /// Where a head's numbers lie within the width.
    fn part(&self, head: usize) -> (usize, usize, usize) {
        let count = self.sizes.head();
        (head * count, count, self.sizes.width)
    }

    /// Numbers of a head's row, and keys, filled up to whole vectors.
    fn steps(&self) -> (usize, usize) {
        let Sizes { keys, .. } = self.sizes;
        (
            self.sizes.head().next_multiple_of(LANES),
            keys.next_multiple_of(LANES),
        )
    }

    fn scale(&self) -> f32 {
        1.0 / (self.sizes.head() as f32).sqrt()
    }

    /// Gathers a head's rows, with the queries scaled, and makes its weights: `(queries, keys)`, rows filled up to whole vectors.
    #[inline(always)]
    fn weigh<S: Simd>(&self, simd: S, head: usize, room: &mut Room) {
        let part = self.part(head);
        gather(self.q, part, &mut room.q, self.scale());
        gather(self.k, part, &mut room.k, 1.0);
        gather(self.v, part, &mut room.v, 1.0);
        let (sizes, (step, keys)) = (self.sizes, self.steps());
        pack_turned(&room.k, step, sizes.head(), &mut room.panels);
        let shape = [sizes.queries, sizes.head(), sizes.keys];
        product(simd, &room.q, step, shape, &room.panels, &mut room.weights);
        for (query, weights) in room.weights.chunks_exact_mut(keys).enumerate() {
            let keep = self.kept(head, query);
            softmax(simd, &mut weights[..sizes.keys], keep);
        }
    }

    fn kept(&self, head: usize, query: usize) -> Option<&[u8]> {
        let at = [self.number, head, query];
        self.changes.kept(at, self.sizes.keys)
    }

    /// Multiplies `(queries, keys)`, rows filled up to whole vectors, by a head's factors, if there are some.
    #[inline(always)]
    fn multiply(&self, head: usize, values: &mut [f32]) {
        let Some(factors) = self.changes.factors else {
            return;
        };
        let (sizes, (_, keys)) = (self.sizes, self.steps());
        let first = (self.number * sizes.heads + head) * sizes.queries * sizes.keys;
        let factors = factors[first..].chunks_exact(sizes.keys);
        for (values, factors) in values.chunks_exact_mut(keys).zip(factors) {
            for (value, factor) in values.iter_mut().zip(factors) {
                *value *= factor;
            }
        }
    }
}

struct Forward<'a> {
    of: Row<'a>,
    room: &'a mut Room,
    output: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { of, room, output } = self;
        let (sizes, (step, keys)) = (of.sizes, of.steps());
        for head in 0..sizes.heads {
            of.weigh(simd, head, room);
            of.multiply(head, &mut room.weights);
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
            scatter(&room.product, of.part(head), output, 1.0);
        }
    }
}

struct Backward<'a> {
    of: Row<'a>,
    gradient: &'a [f32],
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
            of,
            gradient,
            room,
            pulled: [for_q, for_k, for_v],
        } = self;
        let (sizes, (step, keys)) = (of.sizes, of.steps());
        for head in 0..sizes.heads {
            let part = of.part(head);
            of.weigh(simd, head, room);
            gather(gradient, part, &mut room.gradient, 1.0);

            room.changed.copy_from_slice(&room.weights);
            of.multiply(head, &mut room.changed);
            let shape = [sizes.keys, sizes.queries, step];
            transposed_product(
                simd,
                &room.changed,
                keys,
                shape,
                &room.gradient,
                &mut room.product,
            );
            scatter(&room.product, part, for_v, 1.0);

            pack_turned(&room.v, step, sizes.head(), &mut room.panels);
            let shape = [sizes.queries, sizes.head(), sizes.keys];
            product(
                simd,
                &room.gradient,
                step,
                shape,
                &room.panels,
                &mut room.slopes,
            );
            of.multiply(head, &mut room.slopes);
            let rows = room.slopes.chunks_exact_mut(keys);
            for (query, (slopes, weights)) in rows.zip(room.weights.chunks_exact(keys)).enumerate()
            {
                let keep = of.kept(head, query);
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
            scatter(&room.product, part, for_q, of.scale());
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
