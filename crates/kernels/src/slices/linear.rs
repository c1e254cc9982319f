//! The three products of a linear layer: `Y = X Wᵀ`, and the gradients `dX = dY W` and `dW = dYᵀ X`.
//!
//! Of few rows the weights are read as they lie: packing them would take as long as the product. Of many they are packed,
//! once for all tiles. Both ways add in the same order of the inner dimension for every output, and
//! work is cut by rows or columns of the result, so that the number of threads does not show.

use pulp::{Simd, WithSimd};

use super::gemm::{LANES, PANEL, Panels, Run, Segments, TILE, Tile, Update};
use super::gemm::{columns_times_rows, rows_times_panel};
use super::{dispatch, lease, run};

/// Rows of the result that one task makes: whole tiles.
const ROWS: usize = 8 * TILE;
/// Columns of the result that one task makes, where it is cut so.
const COLUMNS: usize = 4 * PANEL;
/// Values of the inner dimension that are added up before their sum joins the others: a panel of them stays in the second
/// cache, and long sums lose no digits.
const DEPTH: usize = 512;
/// Rows up to which the weights are not packed.
const FEW: usize = 96;
/// Side of the squares that matrices are turned in.
const TURNED: usize = 32;
/// Rows that are added up before their sum joins the others, where columns are summed.
const BLOCK: usize = 32;
/// What adding a number up costs, in multiplications of a product.
const SUMMING: usize = 8;

/// The sizes of a layer and its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

impl Sizes {
    fn work(&self) -> usize {
        self.rows * self.inputs * self.outputs
    }

    fn is_empty(&self) -> bool {
        self.work() == 0
    }

    /// `X Wᵀ + b`: `(rows, outputs)`. `input` is `(rows, inputs)`, `weight` `(outputs, inputs)`, `bias` of `outputs` or none.
    pub(crate) fn forward(&self, input: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let &Self {
            rows,
            inputs,
            outputs,
        } = self;
        let mut output = vec![0.0; rows * outputs];
        if !self.is_empty() {
            if rows <= FEW {
                let packed = packed_columns(input, rows, inputs);
                let mut turned = lease(outputs * rows);
                self.product(weight, inputs, &packed, rows, &mut turned, &[]);
                turn(&turned, (outputs, rows), &mut output, rows);
                add_to_rows(bias, &mut output);
            } else {
                let packed = packed_columns(weight, outputs, inputs);
                self.product(input, inputs, &packed, outputs, &mut output, bias);
            }
        } else {
            add_to_rows(bias, &mut output);
        }
        output
    }

    /// `dY W`: `(rows, inputs)`.
    pub(crate) fn input_gradient(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        let &Self {
            rows,
            inputs,
            outputs,
        } = self;
        let mut found = vec![0.0; rows * inputs];
        if self.is_empty() {
            return found;
        }
        if rows > FEW {
            let packed = packed_rows(weight, outputs, inputs);
            self.product(gradient, outputs, &packed, inputs, &mut found, &[]);
            return found;
        }
        let mut turned = lease(outputs * rows);
        turn(gradient, (rows, outputs), &mut turned, outputs);
        let turned = &turned;
        let firsts: Vec<usize> = (0..inputs).step_by(COLUMNS).collect();
        let strips = run(self.work(), firsts, |first: usize| {
            let width = COLUMNS.min(inputs - first);
            let mut strip = lease(rows * COLUMNS);
            strip.fill(0.0);
            let whole = width / LANES * LANES;
            dispatch(Columns {
                a: turned,
                step: rows,
                rows,
                b: &weight[first..],
                stride: inputs,
                width: whole,
                depth: outputs,
                c: &mut strip,
                to: COLUMNS,
            });
            if whole < width {
                // The last columns, filled up: reading on would be in the next row.
                let mut last = lease(outputs * LANES);
                last.fill(0.0);
                let rows_of_weight = weight.chunks_exact(inputs);
                for (to, from) in last.chunks_exact_mut(LANES).zip(rows_of_weight) {
                    to[..width - whole].copy_from_slice(&from[first + whole..first + width]);
                }
                dispatch(Columns {
                    a: turned,
                    step: rows,
                    rows,
                    b: &last,
                    stride: LANES,
                    width: LANES,
                    depth: outputs,
                    c: &mut strip[whole..],
                    to: COLUMNS,
                });
            }
            strip
        });
        for (row, to) in found.chunks_exact_mut(inputs).enumerate() {
            for (strip, to) in strips.iter().zip(to.chunks_mut(COLUMNS)) {
                to.copy_from_slice(&strip[row * COLUMNS..][..to.len()]);
            }
        }
        found
    }

    /// `dYᵀ X`: `(outputs, inputs)`.
    pub(crate) fn weight_gradient(&self, gradient: &[f32], input: &[f32]) -> Vec<f32> {
        let &Self {
            rows,
            inputs,
            outputs,
        } = self;
        let mut found = vec![0.0; outputs * inputs];
        if self.is_empty() {
            return found;
        }
        let strips = Panels::pack_with(rows, inputs, |p, panel| {
            for (to, from) in panel.iter_mut().zip(input.chunks_exact(inputs)) {
                let from = &from[p * PANEL..inputs.min((p + 1) * PANEL)];
                to[..from.len()].copy_from_slice(from);
            }
        });
        let strips = &strips;
        let tasks = found.chunks_mut(ROWS * inputs).enumerate().collect();
        run(self.work(), tasks, |(task, c): (usize, &mut [f32])| {
            let (first, count) = (task * ROWS, c.len() / inputs);
            // The gradient's columns of this task beside one another.
            let mut a = lease(rows * ROWS);
            let from = gradient.chunks_exact(outputs);
            for (to, from) in a.chunks_exact_mut(ROWS).zip(from) {
                to[..count].copy_from_slice(&from[first..first + count]);
            }
            let mut last = lease(ROWS * PANEL);
            for p in 0..inputs.div_ceil(PANEL) {
                let width = PANEL.min(inputs - p * PANEL);
                let whole = width.is_multiple_of(LANES);
                if !whole {
                    last.fill(0.0);
                }
                let (c, to) = match whole {
                    true => (&mut c[p * PANEL..], inputs),
                    false => (&mut last[..], PANEL),
                };
                dispatch(Columns {
                    a: &a,
                    step: ROWS,
                    rows: count,
                    b: strips.panel(p).as_flattened(),
                    stride: PANEL,
                    width: width.next_multiple_of(LANES),
                    depth: rows,
                    c,
                    to,
                });
            }
            let over = inputs % PANEL;
            if !over.is_multiple_of(LANES) {
                for (to, from) in c.chunks_exact_mut(inputs).zip(last.chunks_exact(PANEL)) {
                    to[inputs - over..].copy_from_slice(&from[..over]);
                }
            }
        });
        found
    }

    /// The sums of `dY` over the rows.
    pub(crate) fn bias_gradient(&self, gradient: &[f32]) -> Vec<f32> {
        let firsts: Vec<usize> = (0..self.outputs).step_by(COLUMNS).collect();
        let work = gradient.len() * SUMMING;
        let sums = run(work, firsts, |first: usize| {
            dispatch(Sums {
                values: gradient,
                stride: self.outputs,
                first,
                width: COLUMNS.min(self.outputs - first),
            })
        });
        sums.concat()
    }

    /// Rows of `a` times what was packed, plus what is added to each of them, if anything is: `(rows, columns)`.
    fn product(
        &self,
        a: &[f32],
        depth: usize,
        packed: &[Panels],
        columns: usize,
        c: &mut [f32],
        add: &[f32],
    ) {
        let width = columns.next_multiple_of(LANES);
        let tasks = c.chunks_mut(ROWS * columns).enumerate().collect();
        run(self.work(), tasks, |(task, c): (usize, &mut [f32])| {
            let a = &a[task * ROWS * depth..];
            let rows = |c| Rows {
                a,
                depth,
                packed,
                c,
                width,
            };
            if width == columns {
                dispatch(rows(c));
            } else {
                // Whole vectors would write into the next row.
                let mut padded = lease(c.len() / columns * width);
                dispatch(rows(&mut padded));
                cut(&padded, columns, c);
            }
            add_to_rows(add, c);
        });
    }
}

/// Adds the same to each row, if there is something to add.
fn add_to_rows(add: &[f32], to: &mut [f32]) {
    if !add.is_empty() {
        for row in to.chunks_exact_mut(add.len()) {
            row.iter_mut().zip(add).for_each(|(y, b)| *y += b);
        }
    }
}

/// The sums of some columns of a matrix, over the rows.
struct Sums<'a> {
    values: &'a [f32],
    /// From a row to the next.
    stride: usize,
    first: usize,
    /// At most [`COLUMNS`].
    width: usize,
}

impl WithSimd for Sums<'_> {
    type Output = Vec<f32>;

    /// Of each block of rows in f32, and of the blocks in f64: long sums lose no digits.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let Self {
            values,
            stride,
            first,
            width,
        } = self;
        let mut sums = [0f64; COLUMNS];
        for block in values.chunks(BLOCK * stride) {
            let mut part = [0f32; COLUMNS];
            for row in block.chunks_exact(stride) {
                let row = &row[first..first + width];
                part.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            let pairs = sums.iter_mut().zip(&part);
            pairs.for_each(|(sum, x)| *sum += f64::from(*x));
        }
        sums[..width].iter().map(|sum| *sum as f32).collect()
    }
}

/// A matrix `(columns, depth)` packed to stand on the right, turned, in blocks of the inner dimension.
fn packed_columns(matrix: &[f32], columns: usize, depth: usize) -> Vec<Panels> {
    let blocks = (0..depth).step_by(DEPTH);
    let of_block = |first: usize| {
        let count = DEPTH.min(depth - first);
        Panels::pack_with(count, columns, |p, panel| {
            let rows = matrix[p * PANEL * depth..].chunks(depth).take(PANEL);
            let rows: Vec<&[f32]> = rows.map(|row| &row[first..first + count]).collect();
            for (block, panel) in panel.chunks_mut(TURNED).enumerate() {
                for (column, row) in rows.iter().enumerate() {
                    for (to, x) in panel.iter_mut().zip(&row[block * TURNED..]) {
                        to[column] = *x;
                    }
                }
            }
        })
    };
    blocks.map(of_block).collect()
}

/// The same of a matrix `(depth, columns)`.
fn packed_rows(matrix: &[f32], depth: usize, columns: usize) -> Vec<Panels> {
    let blocks = (0..depth).step_by(DEPTH);
    let of_block = |first: usize| {
        let count = DEPTH.min(depth - first);
        Panels::pack_with(count, columns, |p, panel| {
            let rows = matrix[first * columns..].chunks_exact(columns);
            for (to, row) in panel.iter_mut().zip(rows) {
                let row = &row[p * PANEL..columns.min((p + 1) * PANEL)];
                to[..row.len()].copy_from_slice(row);
            }
        })
    };
    blocks.map(of_block).collect()
}

/// Turns a matrix of `rows` whose rows lie `stride` apart, of which the first `columns` are wanted: `(columns, rows)`.
fn turn(from: &[f32], (rows, stride): (usize, usize), to: &mut [f32], columns: usize) {
    for first in (0..rows).step_by(TURNED) {
        let count = TURNED.min(rows - first);
        for begin in (0..columns).step_by(TURNED) {
            for column in begin..columns.min(begin + TURNED) {
                let to = &mut to[column * rows + first..][..count];
                for (i, to) in to.iter_mut().enumerate() {
                    *to = from[(first + i) * stride + column];
                }
            }
        }
    }
}

/// Rows without what they were filled up with.
fn cut(padded: &[f32], columns: usize, to: &mut [f32]) {
    let from = padded.chunks_exact(columns.next_multiple_of(LANES));
    for (to, from) in to.chunks_exact_mut(columns).zip(from) {
        to.copy_from_slice(&from[..columns]);
    }
}

/// Rows of A, beside one another, times all panels.
struct Rows<'a> {
    a: &'a [f32],
    depth: usize,
    packed: &'a [Panels],
    c: &'a mut [f32],
    width: usize,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            depth,
            packed,
            c,
            width,
        } = self;
        let rows = c.len() / width;
        for (block, panels) in packed.iter().enumerate() {
            let update = if block == 0 { Update::Set } else { Update::Add };
            let segments = Segments::one(panels.rows());
            for p in 0..width.div_ceil(PANEL) {
                let (panel, wide) = (panels.panel(p), PANEL.min(width - p * PANEL));
                for first in (0..rows).step_by(TILE) {
                    let count = TILE.min(rows - first);
                    let row = |r: usize| first + r.min(count - 1);
                    let tile = Tile {
                        count,
                        from: std::array::from_fn(|r| row(r) * depth + block * DEPTH),
                        to: std::array::from_fn(|r| row(r) * width + p * PANEL),
                    };
                    rows_times_panel(simd, a, tile, segments, panel, wide, c, update);
                }
            }
        }
    }
}

/// Adds `Σ_p A[p][i] B[p][..width]` to rows `i` of C. `width` is in whole vectors.
struct Columns<'a> {
    a: &'a [f32],
    /// From a row of A to the next.
    step: usize,
    /// Rows of C.
    rows: usize,
    b: &'a [f32],
    /// From a row of B to the next.
    stride: usize,
    width: usize,
    depth: usize,
    c: &'a mut [f32],
    /// From a row of C to the next.
    to: usize,
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for first in (0..self.depth).step_by(DEPTH) {
            let count = DEPTH.min(self.depth - first);
            let a = Run::one(&self.a[first * self.step..], self.step);
            for column in (0..self.width).step_by(PANEL) {
                let b = Run::one(&self.b[first * self.stride + column..], self.stride);
                let width = PANEL.min(self.width - column);
                let c = &mut self.c[column..];
                columns_times_rows(
                    simd,
                    a,
                    self.rows,
                    b,
                    width,
                    [count, 1, 1],
                    c,
                    self.to,
                    Update::Add,
                );
            }
        }
    }
}
