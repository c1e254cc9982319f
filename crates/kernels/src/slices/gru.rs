//! A layer of gated recurrent units over all steps of a batch, forward and backward, given what its inputs add up to.
//!
//! The batch is cut into blocks of rows, which know nothing of one another, and the blocks' weight gradients are added in their order. A
//! row that is past its length keeps its state. The gates of a row, each padded to whole vectors, stand beside one another.

use pulp::{Simd, WithSimd};

use super::gemm::{LANES, PANEL, Panels, Run, Update};
use super::rnn::products::{Columns, Rows};
use super::{Lease, dispatch, lease, multiply_add, run, set_vector, sigmoid, tanh, vector};

/// Rows of the batch that one task takes.
const ROWS: usize = 32;

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    pub(crate) hidden: usize,
    /// Whether the last step comes first.
    pub(crate) reverse: bool,
}

/// What the way back needs of the way there.
#[derive(Debug)]
pub(crate) struct Saved(Vec<Block>);

/// Some rows of the batch.
#[derive(Debug)]
struct Block {
    /// After their nonlinearities r, z, n, and what the state adds to n before r closes it: `(steps, rows, 4 units)`.
    gates: Lease,
    /// Before each step and after the last: `(steps + 1, rows, units)`.
    states: Lease,
}

impl Sizes {
    /// Hidden units with their padding.
    fn units(&self) -> usize {
        self.hidden.next_multiple_of(LANES)
    }

    fn work(&self) -> usize {
        self.batch * self.steps * 3 * self.units() * self.hidden
    }

    /// The step that is processed as the `order`-th.
    fn time(&self, order: usize) -> usize {
        match self.reverse {
            true => self.steps - 1 - order,
            false => order,
        }
    }

    /// All states, `(batch, steps, hidden)`. `sums` is what the inputs add up to with their bias, `(batch, steps, 3 hidden)`, `weights`
    /// are `(3 hidden, hidden + 1)` with the bias last, `first` is `(batch, hidden)`.
    pub(crate) fn forward(
        &self,
        lengths: &[u32],
        sums: &[f32],
        weights: &[f32],
        first: &[f32],
    ) -> (Vec<f32>, Saved) {
        let (steps, hidden) = (self.steps, self.hidden);
        let mut output = vec![0.0; self.batch * steps * hidden];
        let packed = self.packed(weights);
        let mut bias = vec![0.0; 3 * self.units()];
        for (gate, rows) in weights.chunks_exact(hidden * (hidden + 1)).enumerate() {
            for (unit, row) in rows.chunks_exact(hidden + 1).enumerate() {
                bias[gate * self.units() + unit] = row[hidden];
            }
        }
        let blocks = output
            .chunks_mut(ROWS * steps * hidden)
            .zip(lengths.chunks(ROWS))
            .enumerate()
            .collect();
        let saved = run(
            self.work(),
            blocks,
            |(block, (output, lengths)): (usize, (&mut [f32], &[u32]))| {
                let rows = lengths.len();
                let mut block_of = Block {
                    gates: lease(steps * rows * 4 * self.units()),
                    states: lease((steps + 1) * rows * self.units()),
                };
                let starts = first[block * ROWS * hidden..].chunks_exact(hidden);
                let states = block_of.states.chunks_exact_mut(self.units());
                for (state, start) in states.zip(starts).take(rows) {
                    state[..hidden].copy_from_slice(start);
                    state[hidden..].fill(0.0);
                }
                dispatch(Forward {
                    sizes: *self,
                    lengths,
                    sums: &sums[block * ROWS * steps * 3 * hidden..],
                    weights: (&packed, &bias),
                    block: &mut block_of,
                    output,
                });
                block_of
            },
        );
        (output, Saved(saved))
    }

    /// The gradients of the sums, the weights with the bias, and the first states.
    pub(crate) fn backward(
        &self,
        Saved(blocks): Saved,
        lengths: &[u32],
        weights: &[f32],
        gradient: &[f32],
    ) -> [Vec<f32>; 3] {
        let (steps, hidden, units) = (self.steps, self.hidden, self.units());
        let mut to_sums = vec![0.0; self.batch * steps * 3 * hidden];
        let mut to_first = vec![0.0; self.batch * hidden];
        // The weights the other way: `(3 units, hidden)`.
        let packed = Panels::pack_with(3 * units, hidden, |panel, rows| {
            let from = panel * PANEL;
            let columns = PANEL.min(hidden - from);
            for (at, row) in weights.chunks_exact(hidden + 1).enumerate() {
                let place = at / hidden * units + at % hidden;
                rows[place][..columns].copy_from_slice(&row[from..from + columns]);
            }
        });
        let tasks = blocks
            .into_iter()
            .zip(to_sums.chunks_mut(ROWS * steps * 3 * hidden))
            .zip(to_first.chunks_mut(ROWS * hidden))
            .map(|((block, to_sums), to_first)| (block, [to_sums, to_first]))
            .enumerate()
            .collect();
        let parts = run(
            2 * self.work(),
            tasks,
            |(number, (block, [to_sums, to_first])): (usize, (Block, [&mut [f32]; 2]))| {
                let first = number * ROWS;
                let rows = ROWS.min(self.batch - first);
                let mut total = lease((hidden + 1) * 3 * units);
                total.fill(0.0);
                dispatch(Backward {
                    sizes: *self,
                    lengths: &lengths[first..first + rows],
                    weights: &packed,
                    block,
                    gradient: &gradient[first * steps * hidden..][..rows * steps * hidden],
                    to_sums,
                    to_first,
                    total: &mut total,
                });
                total
            },
        );
        let mut total = vec![0.0; (hidden + 1) * 3 * units];
        for part in parts {
            total
                .iter_mut()
                .zip(&part[..])
                .for_each(|(sum, x)| *sum += x);
        }
        let mut to_weights = vec![0.0; weights.len()];
        for (at, row) in to_weights.chunks_exact_mut(hidden + 1).enumerate() {
            let place = at / hidden * units + at % hidden;
            for (k, value) in row.iter_mut().enumerate() {
                *value = total[k * 3 * units + place];
            }
        }
        [to_sums, to_weights, to_first]
    }

    /// The weights for the way there: `(hidden, 3 units)`; the padding is zero.
    fn packed(&self, weights: &[f32]) -> Panels {
        let (hidden, units) = (self.hidden, self.units());
        Panels::pack_with(hidden, 3 * units, |panel, rows| {
            for column in 0..PANEL.min(3 * units - panel * PANEL) {
                let (gate, unit) = (
                    (panel * PANEL + column) / units,
                    (panel * PANEL + column) % units,
                );
                if unit < hidden {
                    let source = &weights[(gate * hidden + unit) * (hidden + 1)..][..hidden];
                    for (row, value) in rows.iter_mut().zip(source) {
                        row[column] = *value;
                    }
                }
            }
        })
    }
}

struct Forward<'a> {
    sizes: Sizes,
    lengths: &'a [u32],
    sums: &'a [f32],
    /// Packed, and the bias.
    weights: (&'a Panels, &'a [f32]),
    block: &'a mut Block,
    output: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            sizes,
            lengths,
            sums,
            weights: (packed, bias),
            block,
            output,
        } = self;
        let (hidden, units, steps) = (sizes.hidden, sizes.units(), sizes.steps);
        let rows = lengths.len();
        let mut from_state = lease(rows * 3 * units);
        let mut from_input = lease(3 * units);
        from_input.fill(0.0);
        for order in 0..steps {
            let time = sizes.time(order);
            let (old, new) = block.states[order * rows * units..].split_at_mut(rows * units);
            let lives = |row: usize| time < lengths[row] as usize;
            if (0..rows).any(lives) {
                for panel in 0..(3 * units).div_ceil(PANEL) {
                    let column = panel * PANEL;
                    simd.vectorize(Rows {
                        a: old,
                        rows,
                        len: hidden,
                        strides: (units, 3 * units),
                        panel: packed.panel(panel),
                        width: PANEL.min(3 * units - column),
                        c: &mut from_state[column..],
                        update: Update::Set,
                    });
                }
            }
            for row in 0..rows {
                let old = &old[row * units..][..units];
                let new = &mut new[row * units..][..units];
                if lives(row) {
                    let place = (row * steps + time) * 3 * hidden;
                    let gates = from_input.chunks_exact_mut(units);
                    for (to, from) in gates.zip(sums[place..].chunks_exact(hidden)) {
                        to[..hidden].copy_from_slice(from);
                    }
                    let saved = &mut block.gates[(order * rows + row) * 4 * units..][..4 * units];
                    let state = &from_state[row * 3 * units..][..3 * units];
                    cell(simd, [&from_input, state, bias], old, saved, new);
                } else {
                    new.copy_from_slice(old);
                }
                output[(row * steps + time) * hidden..][..hidden].copy_from_slice(&new[..hidden]);
            }
        }
    }
}

/// One step of a row: what inputs, state and bias add up to, to gates and the new state.
#[inline(always)]
fn cell<S: Simd>(
    simd: S,
    [input, state, bias]: [&[f32]; 3],
    old: &[f32],
    saved: &mut [f32],
    new: &mut [f32],
) {
    let units = old.len();
    for at in (0..units).step_by(S::F32_LANES) {
        let of = |x: &[f32], gate: usize| vector(simd, x, gate * units + at);
        let recalled = |gate| simd.add_f32s(of(state, gate), of(bias, gate));
        let reset = sigmoid(simd, simd.add_f32s(of(input, 0), recalled(0)));
        let keep = sigmoid(simd, simd.add_f32s(of(input, 1), recalled(1)));
        let from_state = recalled(2);
        let fresh = tanh(simd, multiply_add(simd, reset, from_state, of(input, 2)));
        let moved = simd.sub_f32s(vector(simd, old, at), fresh);
        set_vector(simd, new, at, multiply_add(simd, keep, moved, fresh));
        for (gate, value) in [reset, keep, fresh, from_state].into_iter().enumerate() {
            set_vector(simd, saved, gate * units + at, value);
        }
    }
}

struct Backward<'a> {
    sizes: Sizes,
    lengths: &'a [u32],
    weights: &'a Panels,
    block: Block,
    gradient: &'a [f32],
    to_sums: &'a mut [f32],
    to_first: &'a mut [f32],
    /// `(hidden + 1, 3 units)`
    total: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            sizes,
            lengths,
            weights,
            block,
            gradient,
            to_sums,
            to_first,
            total,
        } = self;
        let (hidden, units, steps) = (sizes.hidden, sizes.units(), sizes.steps);
        let rows = lengths.len();
        // Of the products with the state, `(steps, rows, 3 units)`.
        let mut slopes = lease(steps * rows * 3 * units);
        slopes.fill(0.0);
        let mut to_state = lease(rows * units);
        to_state.fill(0.0);
        let mut to_fresh = lease(units);
        for order in (0..steps).rev() {
            let time = sizes.time(order);
            for row in 0..rows {
                let place = row * steps + time;
                let to_state = &mut to_state[row * units..][..units];
                let given = &gradient[place * hidden..][..hidden];
                to_state.iter_mut().zip(given).for_each(|(to, x)| *to += x);
                if time >= lengths[row] as usize {
                    continue;
                }
                let event = order * rows + row;
                let slopes = &mut slopes[event * 3 * units..][..3 * units];
                let gates = &block.gates[event * 4 * units..][..4 * units];
                let old = &block.states[event * units..][..units];
                uncell(simd, gates, old, to_state, slopes, &mut to_fresh);
                let to_sums = &mut to_sums[place * 3 * hidden..][..3 * hidden];
                to_sums[..hidden].copy_from_slice(&slopes[..hidden]);
                to_sums[hidden..2 * hidden].copy_from_slice(&slopes[units..][..hidden]);
                to_sums[2 * hidden..].copy_from_slice(&to_fresh[..hidden]);
            }
            for column in (0..units).step_by(PANEL) {
                simd.vectorize(Rows {
                    a: &slopes[order * rows * 3 * units..],
                    rows,
                    len: 3 * units,
                    strides: (3 * units, units),
                    panel: weights.panel(column / PANEL),
                    width: PANEL.min(units - column),
                    c: &mut to_state[column..],
                    update: Update::Add,
                });
            }
        }
        for (to, from) in to_first
            .chunks_exact_mut(hidden)
            .zip(to_state.chunks_exact(units))
        {
            to.copy_from_slice(&from[..hidden]);
        }

        // The gradients of the weights are products over all steps and rows.
        let (events, width) = (steps * rows, 3 * units);
        let (to_weights, to_bias) = total.split_at_mut(hidden * width);
        for column in (0..width).step_by(PANEL) {
            let wide = PANEL.min(width - column);
            simd.vectorize(Columns {
                a: Run::one(&block.states, units),
                rows: hidden,
                d: Run::one(&slopes[column..], width),
                width: wide,
                count: events,
                c: &mut to_weights[column..],
                stride: width,
            });
        }
        for slopes in slopes.chunks_exact(width) {
            to_bias
                .iter_mut()
                .zip(slopes)
                .for_each(|(sum, x)| *sum += x);
        }
    }
}

/// One step of a row backward: the gradient of the new state becomes what the old one has of it directly; those of the products with the
/// state are `slopes`, and `to_fresh` is that of what the inputs add to n.
#[inline(always)]
fn uncell<S: Simd>(
    simd: S,
    gates: &[f32],
    old: &[f32],
    to_state: &mut [f32],
    slopes: &mut [f32],
    to_fresh: &mut [f32],
) {
    let units = old.len();
    let one = simd.splat_f32s(1.0);
    let mul = |x, y| simd.mul_f32s(x, y);
    for at in (0..units).step_by(S::F32_LANES) {
        let of = |gate: usize| vector(simd, gates, gate * units + at);
        let (reset, keep, fresh, from_state) = (of(0), of(1), of(2), of(3));
        let to = vector(simd, to_state, at);
        let moved = simd.sub_f32s(vector(simd, old, at), fresh);
        let kept = mul(to, keep);
        let bent = simd.sub_f32s(one, mul(fresh, fresh));
        let into = mul(simd.sub_f32s(to, kept), bent);
        let of_keep = mul(mul(to, moved), mul(keep, simd.sub_f32s(one, keep)));
        let of_reset = mul(mul(into, from_state), mul(reset, simd.sub_f32s(one, reset)));
        set_vector(simd, slopes, at, of_reset);
        set_vector(simd, slopes, units + at, of_keep);
        set_vector(simd, slopes, 2 * units + at, mul(into, reset));
        set_vector(simd, to_fresh, at, into);
        set_vector(simd, to_state, at, kept);
    }
}
