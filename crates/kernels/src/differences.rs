//! What the distances that are sums over coordinates share: `Σ_k f(x_k − y_k)` for every row of `x` and every row of `y`,
//! and the way back.
//!
//! All of them are computed from the differences themselves and not from inner products. `‖x‖² + ‖y‖² − 2 x·y` would be
//! one multiply-add a coordinate instead of a subtraction and a multiply-add, but loses half of the digits for rows that
//! are near one another, which is where a metric is learned (an f32 distance between unit rows would be off by up to
//! 3e-4). Differences give 0 exactly for equal rows, are never negative, and are symmetric to the last bit. The same holds
//! for the gradients: each is a sum over `x − y`, and no difference of two large sums.
//!
//! A tile of 4 rows of `x` and a panel of rows of `y` stays in registers; the result is the only `(n, m)` that is made.
//! On the way back, partners whose gradient is 0 for all rows of a tile are skipped: after mining, many are.

use std::borrow::Cow;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};

use crate::host::{by_type, give, read, slice};
use crate::lanes::Element;
use crate::slices::{dispatch, run};

/// Rows of `y` in a panel, and columns of a padded row.
const PANEL: usize = 64;
/// Rows of `x` in a tile, there and back.
const TILE: usize = 4;
/// Coordinates that are added up before their sum joins the others, so that long rows lose no digits.
const BLOCK: usize = 256;
/// Differences that one task takes, there and back.
const TASK: usize = 1 << 18;
const PULL_TASK: usize = 1 << 22;
/// Rows of `y` that pull on all rows of a task before the next ones do.
const CHUNK: usize = 64;

/// What is added up: `(x − y)²` or `|x − y|`.
const SQUARE: u8 = 0;
const ABSOLUTE: u8 = 1;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    Squared,
    Euclidean,
    Manhattan,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Squared => "squared_euclidean",
            Self::Euclidean => "euclidean",
            Self::Manhattan => "manhattan",
        }
    }

    fn term(self) -> u8 {
        match self {
            Self::Squared | Self::Euclidean => SQUARE,
            Self::Manhattan => ABSOLUTE,
        }
    }
}

/// Refuses shapes other than `(n, d)` and `(m, d)`.
pub(crate) fn check(name: &str, x: &Tensor, y: &Tensor) -> Result<()> {
    if x.rank() != 2 || y.rank() != 2 || x.dim(1)? != y.dim(1)? {
        bail!(
            "{name}: `x` has shape {:?}, `y` {:?}; they must be (n, d) and (m, d)",
            x.dims(),
            y.dims()
        );
    }
    if x.dtype() != y.dtype() {
        bail!(
            "{name}: `x` holds {:?}, `y` {:?}; they must agree",
            x.dtype(),
            y.dtype()
        );
    }
    Ok(())
}

/// The distances of tensors that [`crate::host::serves`] accepts, after [`check`].
pub(crate) fn matrix(kind: Kind, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.contiguous()?
        .apply_op2(&y.contiguous()?, Differences(kind))
}

/// `x_i − y_j` for every pair, in candle operations: `(n, d), (m, d) → (n, m, d)`.
pub(crate) fn all(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (n, m, d) = (x.dim(0)?, y.dim(0)?, x.dim(D::Minus1)?);
    x.unsqueeze(1)?.broadcast_as((n, m, d))? - y.unsqueeze(0)?.broadcast_as((n, m, d))?
}

struct Differences(Kind);

impl CustomOp2 for Differences {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_at: &Layout,
        y: &CpuStorage,
        y_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((n, d), (m, _)) = (x_at.shape().dims2()?, y_at.shape().dims2()?);
        by_type!(x.dtype(), self.0.name(), T => {
            Ok(give(forward(self.0, slice::<T>(x, x_at)?, slice::<T>(y, y_at)?, n, m, d), (n, m)))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        distance: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((n, d), m) = (x.dims2()?, y.dim(0)?);
        by_type!(x.dtype(), self.0.name(), T => {
            let (to_x, to_y) = read::<T, _>(x, |x| read(y, |y| read(distance, |distance| read(gradient, |gradient| {
                let weights = weights(self.0, distance, gradient);
                let to_x = pull(self.0, x, y, &weights, d);
                let to_y = pull(self.0, y, x, &transposed(&weights, n, m), d);
                Ok((to_x, to_y))
            }))))?;
            Ok((Some(Tensor::from_vec(to_x, (n, d), x.device())?), Some(Tensor::from_vec(to_y, (m, d), x.device())?)))
        })
    }
}

/// What each difference is multiplied by on the way back: the derivative of the distance, up to the difference itself.
fn weights<T: Element>(kind: Kind, distance: &[T], gradient: &[T]) -> Vec<T> {
    distance
        .iter()
        .zip(gradient)
        .map(|(&distance, &gradient)| weight(kind, distance, gradient))
        .collect()
}

#[inline(always)]
pub(crate) fn weight<T: Element>(kind: Kind, distance: T, gradient: T) -> T {
    match kind {
        Kind::Squared => gradient + gradient,
        // Rows that coincide pull on nothing.
        Kind::Euclidean if distance == T::ZERO => T::ZERO,
        Kind::Euclidean => gradient / distance,
        Kind::Manhattan => gradient,
    }
}

fn transposed<T: Element>(x: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut turned = vec![T::ZERO; x.len()];
    transpose(x, rows, columns, &mut turned);
    turned
}

pub(crate) fn transpose<T: Element>(x: &[T], rows: usize, columns: usize, turned: &mut [T]) {
    // Blocks of 8 by 8 stay in the cache for both sides, also where the rows are a power of two apart.
    for i in (0..rows).step_by(8) {
        for j in (0..columns).step_by(8) {
            for i in i..rows.min(i + 8) {
                let row = &x[i * columns..(i + 1) * columns];
                for (j, &x) in row.iter().enumerate().skip(j).take(8) {
                    turned[j * rows + i] = x;
                }
            }
        }
    }
}

/// The rows of `y` as panels of 64 columns: the k-th coordinates of 64 rows lie beside one another.
pub(crate) fn pack<T: Element>(y: &[T], m: usize, d: usize) -> Vec<T> {
    let mut packed = vec![T::ZERO; m.div_ceil(PANEL) * d * PANEL];
    if packed.is_empty() {
        return packed;
    }
    for (panel, packed) in packed.chunks_exact_mut(d * PANEL).enumerate() {
        let rows = y[panel * PANEL * d..].chunks_exact(d).take(PANEL);
        for (j, row) in rows.enumerate() {
            for (packed, &y) in packed[j..].iter_mut().step_by(PANEL).zip(row) {
                *packed = y;
            }
        }
    }
    packed
}

/// The distances of some rows of `x`, `d` long, to the `m` rows that were [packed](pack).
pub(crate) fn rows<T: Element>(
    kind: Kind,
    x: &[T],
    packed: &[T],
    result: &mut [T],
    m: usize,
    d: usize,
) {
    if d == 0 || m == 0 {
        result.fill(T::ZERO);
        return;
    }
    dispatch(Forward {
        kind,
        x,
        packed,
        result,
        m,
        d,
    });
}

fn forward<T: Element>(kind: Kind, x: &[T], y: &[T], n: usize, m: usize, d: usize) -> Vec<T> {
    let mut result = vec![T::ZERO; n * m];
    if result.is_empty() || d == 0 {
        return result;
    }
    // Work is cut by shape: whole tiles of rows, about as many as make a task.
    let size = (TASK / (m * d).max(1)).next_multiple_of(TILE).max(TILE);
    let tasks = result
        .chunks_mut(size * m)
        .zip(x.chunks(size * d))
        .collect();
    let packed = pack(y, m, d);
    run(n * m * d, tasks, |(result, x)| {
        rows(kind, x, &packed, result, m, d)
    });
    result
}

struct Forward<'a, T> {
    kind: Kind,
    x: &'a [T],
    packed: &'a [T],
    result: &'a mut [T],
    m: usize,
    d: usize,
}

impl<T: Element> WithSimd for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self {
            kind,
            x,
            packed,
            result,
            m,
            d,
        } = self;
        for (x, result) in x.chunks(TILE * d).zip(result.chunks_mut(TILE * m)) {
            for (panel, packed) in packed.chunks_exact(d * PANEL).enumerate() {
                let mut sums = [[T::ZERO; PANEL]; TILE];
                match kind.term() {
                    SQUARE => tile::<S, T, SQUARE>(s, x, packed, d, &mut sums),
                    _ => tile::<S, T, ABSOLUTE>(s, x, packed, d, &mut sums),
                }
                let (from, width) = (panel * PANEL, PANEL.min(m - panel * PANEL));
                for (result, sums) in result.chunks_exact_mut(m).zip(&sums) {
                    let result = &mut result[from..from + width];
                    result.copy_from_slice(&sums[..width]);
                    if kind == Kind::Euclidean {
                        for distance in result {
                            *distance = distance.sqrt();
                        }
                    }
                }
            }
        }
    }
}

/// The sums of a tile of rows of `x` with the rows of one panel; of fewer rows, one by one.
#[inline(always)]
fn tile<S: Simd, T: Element, const TERM: u8>(
    s: S,
    x: &[T],
    packed: &[T],
    d: usize,
    sums: &mut [[T; PANEL]; TILE],
) {
    if x.len() == TILE * d {
        panel_sums::<S, T, TILE, TERM>(s, x, packed, d, sums);
    } else {
        for (x, sums) in x.chunks_exact(d).zip(sums.chunks_exact_mut(1)) {
            panel_sums::<S, T, 1, TERM>(s, x, packed, d, sums);
        }
    }
}

/// The sums of `R` rows of `x` with the rows of one panel.
#[inline(always)]
fn panel_sums<S: Simd, T: Element, const R: usize, const TERM: u8>(
    s: S,
    x: &[T],
    packed: &[T],
    d: usize,
    sums: &mut [[T; PANEL]],
) {
    let mut from = 0;
    while from < d {
        let to = d.min(from + BLOCK);
        let mut rows: [&[T]; R] = [&[]; R];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = &x[r * d + from..r * d + to];
        }
        let packed = &packed[from * PANEL..to * PANEL];
        // As many vectors at once as leave registers for the rest: 4 by 4 of 32, 4 by 2 of 16.
        let width = size_of::<T::Lanes<S>>() / size_of::<T>();
        let mut column = 0;
        while column < PANEL {
            if const { S::REGISTER_COUNT >= 32 } && column + 4 * width <= PANEL {
                strip::<S, T, R, 4, TERM>(s, &rows, packed, column, sums);
                column += 4 * width;
            } else {
                strip::<S, T, R, 2, TERM>(s, &rows, packed, column, sums);
                column += 2 * width;
            }
        }
        from = to;
    }
}

#[inline(always)]
fn strip<S: Simd, T: Element, const R: usize, const V: usize, const TERM: u8>(
    s: S,
    rows: &[&[T]; R],
    packed: &[T],
    column: usize,
    sums: &mut [[T; PANEL]],
) {
    let zero = T::splat(s, T::ZERO);
    let width = V * (size_of::<T::Lanes<S>>() / size_of::<T>());
    let mut totals = [[zero; V]; R];
    for (k, y) in packed.chunks_exact(PANEL).enumerate() {
        let y = &T::lanes::<S>(&y[column..column + width]).0[..V];
        for r in 0..R {
            let x = T::splat(s, rows[r][k]);
            for v in 0..V {
                let total = totals[r][v];
                let difference = T::minus(s, x, y[v]);
                totals[r][v] = match TERM {
                    SQUARE => T::mul_add(s, difference, difference, total),
                    _ => T::plus(s, total, T::absolute(s, difference)),
                };
            }
        }
    }
    for r in 0..R {
        let sums = &mut T::lanes_mut::<S>(&mut sums[r][column..column + width]).0[..V];
        for v in 0..V {
            sums[v] = T::plus(s, sums[v], totals[r][v]);
        }
    }
}

/// `Σ_j w_ij (x_i − y_j)` for every row of `x`: for Manhattan distances with the sign in place of the
/// difference.
fn pull<T: Element>(kind: Kind, x: &[T], y: &[T], weights: &[T], d: usize) -> Vec<T> {
    let mut pulled = vec![T::ZERO; x.len()];
    if x.is_empty() || y.is_empty() {
        return pulled;
    }
    let m = y.len() / d;
    let y = pad(y, d);
    let size = (PULL_TASK / (m * d)).max(1);
    let chunks = x.chunks(size * d).zip(weights.chunks(size * m));
    let tasks = pulled.chunks_mut(size * d).zip(chunks).collect();
    run(x.len() * m, tasks, |(pulled, (x, weights))| {
        pull_rows(kind, x, &y, weights, pulled, d);
    });
    pulled
}

/// The same for some rows of `x`, added to `pulled`, with rows of `y` that were [padded](pad).
pub(crate) fn pull_rows<T: Element>(
    kind: Kind,
    x: &[T],
    y: &[T],
    weights: &[T],
    pulled: &mut [T],
    d: usize,
) {
    let padded = d.next_multiple_of(PANEL);
    if d == 0 || y.is_empty() {
        return;
    }
    dispatch(Pull {
        term: kind.term(),
        x,
        y,
        weights,
        pulled,
        m: y.len() / padded,
        d,
        padded,
    });
}

/// Rows of whole panels, so that the inner loop has no rest.
pub(crate) fn pad<T: Element>(x: &[T], d: usize) -> Cow<'_, [T]> {
    let padded = d.next_multiple_of(PANEL);
    if padded == d {
        return Cow::Borrowed(x);
    }
    let mut wide = vec![T::ZERO; x.len() / d * padded];
    for (wide, x) in wide.chunks_exact_mut(padded).zip(x.chunks_exact(d)) {
        wide[..d].copy_from_slice(x);
    }
    Cow::Owned(wide)
}

struct Pull<'a, T> {
    term: u8,
    x: &'a [T],
    y: &'a [T],
    weights: &'a [T],
    pulled: &'a mut [T],
    m: usize,
    d: usize,
    padded: usize,
}

impl<T: Element> WithSimd for Pull<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self {
            term,
            x,
            y,
            weights,
            pulled,
            m,
            d,
            padded,
        } = self;
        let (tiles, chunks) = ((x.len() / d).div_ceil(TILE), m.div_ceil(CHUNK));
        // Who pulls on whom, for each tile of rows and each chunk of `y`.
        let mut partners = vec![(0, [T::ZERO; TILE]); tiles * m];
        let mut ends = Vec::with_capacity(tiles * chunks + 1);
        let mut count = 0;
        ends.push(0);
        for weights in weights.chunks(TILE * m) {
            for chunk in (0..m).step_by(CHUNK) {
                for j in chunk..m.min(chunk + CHUNK) {
                    let mut pulls = [T::ZERO; TILE];
                    for (pull, weights) in pulls.iter_mut().zip(weights.chunks_exact(m)) {
                        *pull = weights[j];
                    }
                    // Written always and kept if it counts: a jump here would be mispredicted.
                    partners[count] = (j, pulls);
                    count += usize::from(pulls.iter().any(|&pull| pull != T::ZERO));
                }
                ends.push(count);
            }
        }
        let mut wide = vec![T::ZERO; tiles * TILE * padded];
        for (wide, x) in wide.chunks_exact_mut(padded).zip(x.chunks_exact(d)) {
            wide[..d].copy_from_slice(x);
        }
        let mut sums = vec![T::ZERO; wide.len()];
        // A chunk of `y` in the width of a strip stays in the cache while all rows of `x` go by.
        let vectors = if const { S::REGISTER_COUNT >= 32 } {
            2
        } else {
            1
        };
        let width = vectors * (size_of::<T::Lanes<S>>() / size_of::<T>());
        for from in (0..padded).step_by(width) {
            for chunk in 0..chunks {
                for tile in 0..tiles {
                    let at = tile * chunks + chunk;
                    let partners = &partners[ends[at]..ends[at + 1]];
                    let rows = tile * TILE * padded..(tile + 1) * TILE * padded;
                    let (x, sums) = (&wide[rows.clone()], &mut sums[rows]);
                    match term {
                        SQUARE => strip_back::<S, T, SQUARE>(s, x, y, padded, from, partners, sums),
                        _ => strip_back::<S, T, ABSOLUTE>(s, x, y, padded, from, partners, sums),
                    }
                }
            }
        }
        for (pulled, sums) in pulled.chunks_exact_mut(d).zip(sums.chunks_exact(padded)) {
            for (pulled, &sum) in pulled.iter_mut().zip(sums) {
                *pulled += sum;
            }
        }
    }
}

#[inline(always)]
fn strip_back<S: Simd, T: Element, const TERM: u8>(
    s: S,
    x: &[T],
    y: &[T],
    padded: usize,
    from: usize,
    partners: &[(usize, [T; TILE])],
    sums: &mut [T],
) {
    // What a tile needs of registers: sums and rows of `x`, 4 by 2 of 32 or 4 by 1 of 16 each.
    if const { S::REGISTER_COUNT >= 32 } {
        gather::<S, T, 2, TERM>(s, x, y, padded, from, partners, sums);
    } else {
        gather::<S, T, 1, TERM>(s, x, y, padded, from, partners, sums);
    }
}

/// What the partners pull on a tile of rows, in the `V` vectors of columns from `from` on.
#[inline(always)]
fn gather<S: Simd, T: Element, const V: usize, const TERM: u8>(
    s: S,
    x: &[T],
    y: &[T],
    padded: usize,
    from: usize,
    partners: &[(usize, [T; TILE])],
    sums: &mut [T],
) {
    let width = V * (size_of::<T::Lanes<S>>() / size_of::<T>());
    let mut rows = [[T::splat(s, T::ZERO); V]; TILE];
    for (r, row) in rows.iter_mut().enumerate() {
        row.copy_from_slice(&T::lanes::<S>(&x[r * padded + from..][..width]).0[..V]);
    }
    let mut totals = [[T::splat(s, T::ZERO); V]; TILE];
    for (j, pulls) in partners {
        let y = &T::lanes::<S>(&y[j * padded + from..][..width]).0[..V];
        for r in 0..TILE {
            let weight = T::splat(s, pulls[r]);
            for v in 0..V {
                let total = totals[r][v];
                let difference = T::minus(s, rows[r][v], y[v]);
                totals[r][v] = match TERM {
                    SQUARE => T::mul_add(s, weight, difference, total),
                    _ => T::plus(s, total, T::with_sign(s, weight, difference)),
                };
            }
        }
    }
    for r in 0..TILE {
        let sums = &mut T::lanes_mut::<S>(&mut sums[r * padded + from..][..width]).0[..V];
        for v in 0..V {
            sums[v] = T::plus(s, sums[v], totals[r][v]);
        }
    }
}
