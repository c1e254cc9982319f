//! A layer of long short-term memory over all steps of a batch, forward and backward.
//!
//! The batch is cut into blocks of rows, which know nothing of one another: there is no waiting between steps, and the
//! blocks' weight gradients are added in their order. Inside a block, every pair of a step and a row that is still within
//! its length is an *event*. Events are numbered step by step, so the rows of a step lie beside one another, and steps
//! beyond a row's length cost nothing. The state before an event is written by the event before it, straight to where
//! both the recurrent product and its weight gradient read it.
//!
//! The four gates of an event, each padded to whole vectors, stand beside one another: `i | f | g | o`.

use pulp::{Simd, WithSimd};

use super::gemm::{LANES, PANEL, Panels, Run, Segments, TILE, Tile, Update};
use super::gemm::{columns_times_rows, rows_times_panel};
use super::{Lease, dispatch, exp, lease, multiply_add, run};

/// Rows of the batch that one task takes.
const ROWS: usize = 32;
/// Events whose outer products are added up before they join the weight gradient.
const DEPTH: usize = 256;
/// No event.
const NONE: u32 = u32::MAX;

/// The sizes of a layer and its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    pub(crate) features: usize,
    pub(crate) hidden: usize,
    /// Whether the last step comes first.
    pub(crate) reverse: bool,
    /// Whether of the states of a row only the one after its last step leaves the layer, `(batch, hidden)`: states that nobody reads,
    /// and gradients of zeros for them, would be most of the memory of a step.
    pub(crate) only_last: bool,
}

impl Sizes {
    /// `W_ih (4h, f)`, `W_hh (4h, h)`, `b (4h)`.
    pub(crate) fn parameters(&self) -> usize {
        4 * self.hidden * (self.features + self.hidden + 1)
    }

    /// A gate with its padding.
    fn gate(&self) -> usize {
        self.hidden.next_multiple_of(LANES)
    }

    /// Four gates: a multiple of the panel.
    fn gates(&self) -> usize {
        4 * self.gate()
    }

    /// Numbers of a row that leave the layer.
    fn given(&self) -> usize {
        match self.only_last {
            true => self.hidden,
            false => self.steps * self.hidden,
        }
    }

    fn work(&self) -> usize {
        self.batch * self.steps * self.gates() * (self.features + self.hidden)
    }

    /// The step that is processed as the `order`-th.
    fn time(&self, order: usize) -> usize {
        if self.reverse {
            self.steps - 1 - order
        } else {
            order
        }
    }
}

/// What the way back needs of the way there.
#[derive(Debug)]
pub(crate) struct Saved {
    sizes: Sizes,
    blocks: Vec<Block>,
}

/// The events of some rows of the batch.
#[derive(Debug)]
struct Block {
    /// The first event of each step, in the order of processing, and the number of events.
    starts: Vec<usize>,
    rows: Vec<u32>,
    /// The event of the same row at the next step.
    next: Vec<u32>,
    /// Inputs, `(events, features)`.
    inputs: Lease,
    /// Outputs and cells before each event, `(events, gate)`.
    outputs: Lease,
    cells: Lease,
    /// The new cell's tanh, `(events, gate)`.
    tanhs: Lease,
    /// The gates after their nonlinearities, `(events, gates)`.
    gates: Lease,
}

impl Block {
    fn new(sizes: &Sizes, lengths: &[u32]) -> Self {
        let mut starts = vec![0];
        let (mut rows, mut next) = (Vec::new(), Vec::new());
        let mut last = vec![NONE; lengths.len()];
        for order in 0..sizes.steps {
            for (row, &length) in lengths.iter().enumerate() {
                if sizes.time(order) < length as usize {
                    let event = rows.len() as u32;
                    if last[row] != NONE {
                        next[last[row] as usize] = event;
                    }
                    last[row] = event;
                    rows.push(row as u32);
                    next.push(NONE);
                }
            }
            starts.push(rows.len());
        }
        let events = rows.len();
        Self {
            starts,
            rows,
            next,
            inputs: lease(events * sizes.features),
            outputs: lease(events * sizes.gate()),
            cells: lease(events * sizes.gate()),
            tanhs: lease(events * sizes.gate()),
            gates: lease(events * sizes.gates()),
        }
    }

    fn events(&self) -> usize {
        self.rows.len()
    }
}

/// All hidden states of a batch, `(batch, steps, hidden)`; beyond a row's length its last state, or 0 where the last step
/// comes first. Or the last state of each row, `(batch, hidden)`; of a row without steps 0. `lengths` are at most `sizes.steps`.
pub(crate) fn forward(
    sizes: Sizes,
    lengths: &[u32],
    input: &[f32],
    parameters: &[f32],
) -> (Vec<f32>, Saved) {
    let mut output = vec![0.0; sizes.batch * sizes.given()];
    if sizes.batch * sizes.steps * sizes.hidden == 0 {
        return (
            output,
            Saved {
                sizes,
                blocks: Vec::new(),
            },
        );
    }
    let weights = Weights::new(sizes, parameters);
    let size = ROWS * sizes.steps;
    let blocks = lengths
        .chunks(ROWS)
        .zip(output.chunks_mut(ROWS * sizes.given()))
        .enumerate()
        .collect();
    let blocks = run(sizes.work(), blocks, |(i, (lengths, output))| {
        let mut block = Block::new(&sizes, lengths);
        let input = &input[i * size * sizes.features..];
        gather(&sizes, &mut block, input);
        dispatch(Forward {
            sizes,
            block: &mut block,
            weights: &weights,
            output,
        });
        hold(&sizes, lengths, output);
        block
    });
    (output, Saved { sizes, blocks })
}

/// Copies the inputs of a block in the order of its events.
fn gather(sizes: &Sizes, block: &mut Block, input: &[f32]) {
    let width = sizes.features;
    for order in 0..sizes.steps {
        for event in block.starts[order]..block.starts[order + 1] {
            let from = (block.rows[event] as usize * sizes.steps + sizes.time(order)) * width;
            block.inputs[event * width..][..width].copy_from_slice(&input[from..][..width]);
        }
    }
}

/// Repeats the last state of each row to the end.
fn hold(sizes: &Sizes, lengths: &[u32], output: &mut [f32]) {
    if sizes.reverse || sizes.only_last {
        return;
    }
    let width = sizes.hidden;
    for (states, &length) in output.chunks_exact_mut(sizes.steps * width).zip(lengths) {
        let length = length as usize;
        if length > 0 {
            for step in length..sizes.steps {
                states.copy_within((length - 1) * width..length * width, step * width);
            }
        }
    }
}

/// The weights packed for the way there.
struct Weights {
    /// `(features, gates)` and `(hidden, gates)`.
    input: Panels,
    hidden: Panels,
    bias: Vec<f32>,
}

impl Weights {
    fn new(sizes: Sizes, parameters: &[f32]) -> Self {
        let (input, hidden, bias) = split(&sizes, parameters);
        let (h, gate) = (sizes.hidden, sizes.gate());
        // Column c of all gates is unit c % gate of gate c / gate; the padding stays zero.
        let pack = |weight: &[f32], width: usize| {
            Panels::pack_with(width, sizes.gates(), |panel, rows| {
                for column in 0..PANEL {
                    let (q, unit) = (
                        (panel * PANEL + column) / gate,
                        (panel * PANEL + column) % gate,
                    );
                    if unit < h {
                        let source = &weight[(q * h + unit) * width..][..width];
                        for (row, &value) in rows.iter_mut().zip(source) {
                            row[column] = value;
                        }
                    }
                }
            })
        };
        let mut padded = vec![0.0; sizes.gates()];
        for (padded, bias) in padded.chunks_exact_mut(gate).zip(bias.chunks_exact(h)) {
            padded[..h].copy_from_slice(bias);
        }
        Self {
            input: pack(input, sizes.features),
            hidden: pack(hidden, h),
            bias: padded,
        }
    }
}

fn split<'a>(sizes: &Sizes, parameters: &'a [f32]) -> (&'a [f32], &'a [f32], &'a [f32]) {
    let (input, rest) = parameters.split_at(4 * sizes.hidden * sizes.features);
    let (hidden, bias) = rest.split_at(4 * sizes.hidden * sizes.hidden);
    (input, hidden, bias)
}

struct Forward<'a> {
    sizes: Sizes,
    block: &'a mut Block,
    weights: &'a Weights,
    output: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            sizes,
            block,
            weights,
            output,
        } = self;
        let (h, gate, gates) = (sizes.hidden, sizes.gate(), sizes.gates());
        let Block {
            starts,
            rows,
            next,
            inputs,
            outputs,
            cells,
            tanhs,
            gates: gate_values,
        } = block;
        // Events that nobody writes to begin from nothing.
        let mut begins = vec![true; rows.len()];
        for &next in next.iter().filter(|next| **next != NONE) {
            begins[next as usize] = false;
        }
        for event in (0..rows.len()).filter(|event| begins[*event]) {
            outputs[event * gate..][..gate].fill(0.0);
            cells[event * gate..][..gate].fill(0.0);
        }
        let (mut new_cell, mut new_output) = (vec![0.0; gate], vec![0.0; gate]);
        for order in 0..sizes.steps {
            let (from, to) = (starts[order], starts[order + 1]);
            if from == to {
                continue;
            }
            let recurs = (from..to).any(|event| !begins[event]);
            for panel in 0..gates / PANEL {
                let column = panel * PANEL;
                let mut product = |a: &[f32], stride: usize, weight: &Panels, update: Update| {
                    simd.vectorize(Rows {
                        a: &a[from * stride..],
                        rows: to - from,
                        len: weight.rows(),
                        strides: (stride, gates),
                        panel: weight.panel(panel),
                        width: PANEL,
                        c: &mut gate_values[from * gates + column..],
                        update,
                    });
                };
                product(inputs, sizes.features, &weights.input, Update::Set);
                if recurs {
                    product(outputs, gate, &weights.hidden, Update::Add);
                }
            }
            for event in from..to {
                cell(
                    simd,
                    &mut gate_values[event * gates..][..gates],
                    &weights.bias,
                    &cells[event * gate..][..gate],
                    &mut tanhs[event * gate..][..gate],
                    &mut new_cell,
                    &mut new_output,
                );
                let (row, last) = (rows[event] as usize, next[event] == NONE);
                let place = match sizes.only_last {
                    true => row * h,
                    false => (row * sizes.steps + sizes.time(order)) * h,
                };
                if last || !sizes.only_last {
                    output[place..][..h].copy_from_slice(&new_output[..h]);
                }
                if !last {
                    let next = next[event] as usize * gate;
                    cells[next..][..gate].copy_from_slice(&new_cell);
                    outputs[next..][..gate].copy_from_slice(&new_output);
                }
            }
        }
    }
}

/// One event: sums to gates, old cell to new cell and output.
#[inline(always)]
fn cell<S: Simd>(
    simd: S,
    gates: &mut [f32],
    bias: &[f32],
    old_cell: &[f32],
    tanhs: &mut [f32],
    new_cell: &mut [f32],
    new_output: &mut [f32],
) {
    let [i, f, g, o] = four::<S>(gates);
    let vectors = i.len();
    let bias = S::as_simd_f32s(bias).0;
    let old = &S::as_simd_f32s(old_cell).0[..vectors];
    let tanhs = &mut S::as_mut_simd_f32s(tanhs).0[..vectors];
    let new = &mut S::as_mut_simd_f32s(new_cell).0[..vectors];
    let out = &mut S::as_mut_simd_f32s(new_output).0[..vectors];
    let (bi, bf) = (&bias[..vectors], &bias[vectors..][..vectors]);
    let (bg, bo) = (
        &bias[2 * vectors..][..vectors],
        &bias[3 * vectors..][..vectors],
    );
    for v in 0..vectors {
        i[v] = sigmoid(simd, simd.add_f32s(i[v], bi[v]));
        f[v] = sigmoid(simd, simd.add_f32s(f[v], bf[v]));
        g[v] = tanh(simd, simd.add_f32s(g[v], bg[v]));
        o[v] = sigmoid(simd, simd.add_f32s(o[v], bo[v]));
        new[v] = multiply_add(simd, f[v], old[v], simd.mul_f32s(i[v], g[v]));
        tanhs[v] = tanh(simd, new[v]);
        out[v] = simd.mul_f32s(o[v], tanhs[v]);
    }
}

/// `rows` rows of A, `len` long, times a panel. (A call: in line, the many places it is used at would take the compiler
/// minutes.)
struct Rows<'a> {
    a: &'a [f32],
    rows: usize,
    len: usize,
    /// From row to row in A and in C.
    strides: (usize, usize),
    panel: &'a [[f32; PANEL]],
    width: usize,
    c: &'a mut [f32],
    update: Update,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            rows,
            len,
            strides,
            panel,
            width,
            c,
            update,
        } = self;
        for first in (0..rows).step_by(TILE) {
            let count = TILE.min(rows - first);
            let at = |stride: usize| std::array::from_fn(|r| (first + r.min(count - 1)) * stride);
            let tile = Tile {
                count,
                from: at(strides.0),
                to: at(strides.1),
            };
            rows_times_panel(simd, a, tile, Segments::one(len), panel, width, c, update);
        }
    }
}

/// [`columns_times_rows`] over whole panels as a call.
struct Columns<'a> {
    a: Run<'a>,
    rows: usize,
    d: Run<'a>,
    count: usize,
    c: &'a mut [f32],
    stride: usize,
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            rows,
            d,
            count,
            c,
            stride,
        } = self;
        columns_times_rows(simd, a, rows, d, PANEL, (count, 1), c, stride);
    }
}

/// The four gates as vectors.
#[inline(always)]
fn four<S: Simd>(gates: &mut [f32]) -> [&mut [S::f32s]; 4] {
    let vectors = S::as_mut_simd_f32s(gates).0;
    let gate = vectors.len() / 4;
    let (i, rest) = vectors.split_at_mut(gate);
    let (f, rest) = rest.split_at_mut(gate);
    let (g, o) = rest.split_at_mut(gate);
    [i, f, g, &mut o[..gate]]
}

/// The gradients of the parameters, as they are laid out, and of the input if it is asked for. What was saved is used up.
pub(crate) fn backward(
    saved: Saved,
    lengths: &[u32],
    parameters: &[f32],
    gradient: &[f32],
    for_input: bool,
) -> (Vec<f32>, Option<Vec<f32>>) {
    let Saved { sizes, blocks } = saved;
    let mut to_parameters = vec![0.0; sizes.parameters()];
    let mut to_input = for_input.then(|| vec![0.0; sizes.batch * sizes.steps * sizes.features]);
    if blocks.is_empty() {
        return (to_parameters, to_input);
    }
    let (input, hidden, _) = split(&sizes, parameters);
    // The weights the other way: `(gates, features)` and `(gates, hidden)`, with zero rows for the padding of the gates.
    let pack = |weight: &[f32], width: usize| {
        Panels::pack_with(sizes.gates(), width, |panel, rows| {
            let first = panel * PANEL;
            let columns = PANEL.min(width - first);
            for q in 0..4 {
                for unit in 0..sizes.hidden {
                    let source = &weight[(q * sizes.hidden + unit) * width + first..][..columns];
                    rows[q * sizes.gate() + unit][..columns].copy_from_slice(source);
                }
            }
        })
    };
    let hidden = pack(hidden, sizes.hidden);
    let input = for_input.then(|| pack(input, sizes.features));
    let size = ROWS * sizes.steps * sizes.features;
    let input_chunks: Vec<Option<&mut [f32]>> = match &mut to_input {
        Some(to_input) if size > 0 => to_input.chunks_mut(size).map(Some).collect(),
        _ => blocks.iter().map(|_| None).collect(),
    };
    let gradients = gradient.chunks(ROWS * sizes.given());
    let tasks = blocks
        .into_iter()
        .zip(lengths.chunks(ROWS))
        .zip(gradients)
        .zip(input_chunks)
        .collect();
    let weights = (&hidden, input.as_ref());
    let parts = run(
        2 * sizes.work(),
        tasks,
        |(((mut block, lengths), gradient), to_input)| {
            let mut sums = lease((sizes.features + sizes.hidden + 1) * sizes.gates());
            sums.fill(0.0);
            let sums_of_block = &mut sums;
            dispatch(Backward {
                sizes,
                block: &mut block,
                lengths,
                weights,
                gradient,
                to_input,
                sums: sums_of_block,
            });
            sums
        },
    );
    let mut parts = parts.into_iter();
    let mut total = parts.next().expect("there is at least one block");
    for part in parts {
        total
            .iter_mut()
            .zip(&part[..])
            .for_each(|(total, part)| *total += part);
    }
    unpack(&sizes, &total, &mut to_parameters);
    (to_parameters, to_input)
}

/// The sums `(features + hidden + 1, gates)` in the order of the parameters.
fn unpack(sizes: &Sizes, sums: &[f32], parameters: &mut [f32]) {
    let (h, gate, gates) = (sizes.hidden, sizes.gate(), sizes.gates());
    let (input, rest) = parameters.split_at_mut(4 * h * sizes.features);
    let (hidden, bias) = rest.split_at_mut(4 * h * h);
    let (input_sums, rest) = sums.split_at(sizes.features * gates);
    let (hidden_sums, bias_sums) = rest.split_at(h * gates);
    for (weight, sums, width) in [
        (input, input_sums, sizes.features),
        (hidden, hidden_sums, h),
    ] {
        // Blocks of 16 by 16 stay in the cache for both sides.
        for q in 0..4 {
            for units in (0..h).step_by(16) {
                for columns in (0..width).step_by(16) {
                    for unit in units..h.min(units + 16) {
                        let row = &mut weight[(q * h + unit) * width..][..width];
                        for (k, value) in row.iter_mut().enumerate().skip(columns).take(16) {
                            *value = sums[k * gates + q * gate + unit];
                        }
                    }
                }
            }
        }
    }
    for (bias, sums) in bias.chunks_exact_mut(h).zip(bias_sums.chunks_exact(gate)) {
        bias.copy_from_slice(&sums[..h]);
    }
}

struct Backward<'a> {
    sizes: Sizes,
    block: &'a mut Block,
    lengths: &'a [u32],
    /// Of the hidden state and of the input.
    weights: (&'a Panels, Option<&'a Panels>),
    gradient: &'a [f32],
    to_input: Option<&'a mut [f32]>,
    sums: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            sizes,
            block,
            lengths,
            weights,
            gradient,
            to_input,
            sums,
        } = self;
        let (h, gate, gates) = (sizes.hidden, sizes.gate(), sizes.gates());
        let events = block.events();
        let Block {
            starts,
            rows,
            next,
            inputs,
            outputs,
            cells,
            tanhs,
            gates: gate_values,
        } = block;

        // From the last step to the first: gates become their sums' gradients, in place. What goes on to outputs and
        // cells before an event is kept for one step.
        let most = (0..sizes.steps)
            .map(|order| starts[order + 1] - starts[order])
            .max()
            .unwrap_or(0);
        let (mut to_outputs, mut to_outputs_later) = (lease(most * gate), lease(most * gate));
        let (mut to_cells, mut to_cells_later) = (lease(most * gate), lease(most * gate));
        let mut to_output = vec![0.0; gate];
        for order in (0..sizes.steps).rev() {
            let (from, to) = (starts[order], starts[order + 1]);
            if from == to {
                continue; // Nor has the step before or after it anything of it.
            }
            for event in from..to {
                let (row, time) = (rows[event] as usize, sizes.time(order));
                let given = |time: usize| match sizes.only_last {
                    true => &gradient[row * h..][..h],
                    false => &gradient[(row * sizes.steps + time) * h..][..h],
                };
                match sizes.only_last && next[event] != NONE {
                    true => to_output.fill(0.0),
                    false => to_output[..h].copy_from_slice(given(time)),
                }
                let later = (next[event] != NONE).then(|| (next[event] as usize - to) * gate);
                match later {
                    Some(later) => add(&mut to_output, &to_outputs_later[later..][..gate]),
                    // The last state is held to the end, and gathers what is asked of it there.
                    None if !sizes.reverse && !sizes.only_last => {
                        for time in lengths[row] as usize..sizes.steps {
                            add(&mut to_output[..h], given(time));
                        }
                    }
                    None => {}
                }
                let to_cell = &mut to_cells[(event - from) * gate..][..gate];
                match later {
                    Some(later) => to_cell.copy_from_slice(&to_cells_later[later..][..gate]),
                    None => to_cell.fill(0.0),
                }
                uncell(
                    simd,
                    &mut gate_values[event * gates..][..gates],
                    &cells[event * gate..][..gate],
                    &tanhs[event * gate..][..gate],
                    &to_output,
                    to_cell,
                );
            }
            // Nothing is before the first step.
            if order > 0 {
                for panel in 0..h.div_ceil(PANEL) {
                    let column = panel * PANEL;
                    simd.vectorize(Rows {
                        a: &gate_values[from * gates..],
                        rows: to - from,
                        len: gates,
                        strides: (gates, gate),
                        panel: weights.0.panel(panel),
                        width: PANEL.min(gate - column),
                        c: &mut to_outputs[column..],
                        update: Update::Set,
                    });
                }
            }
            std::mem::swap(&mut to_outputs, &mut to_outputs_later);
            std::mem::swap(&mut to_cells, &mut to_cells_later);
        }

        // The gradients of the weights are products over all events.
        let (input_sums, rest) = sums.split_at_mut(sizes.features * gates);
        let (hidden_sums, bias_sums) = rest.split_at_mut(h * gates);
        for first in (0..events).step_by(DEPTH) {
            let depth = DEPTH.min(events - first);
            for column in (0..gates).step_by(PANEL) {
                let right = Run {
                    data: &gate_values[first * gates + column..],
                    step: gates,
                    jump: 0,
                };
                let product = |a: &[f32], rows: usize, step: usize, c: &mut [f32]| {
                    let left = Run {
                        data: &a[first * step..],
                        step,
                        jump: 0,
                    };
                    simd.vectorize(Columns {
                        a: left,
                        rows,
                        d: right,
                        count: depth,
                        c: &mut c[column..],
                        stride: gates,
                    });
                };
                product(inputs, sizes.features, sizes.features, input_sums);
                product(outputs, h, gate, hidden_sums);
            }
            for event in first..first + depth {
                add(bias_sums, &gate_values[event * gates..][..gates]);
            }
        }

        // So is that of the input, row by row.
        if let (Some(to_input), Some(weights)) = (to_input, weights.1) {
            let mut scratch = [0.0; TILE * PANEL];
            let mut times = vec![0; events];
            for order in 0..sizes.steps {
                times[starts[order]..starts[order + 1]].fill(sizes.time(order));
            }
            for column in (0..sizes.features).step_by(PANEL) {
                let width = PANEL.min(sizes.features - column);
                let weight = weights.panel(column / PANEL);
                for first in (0..events).step_by(TILE) {
                    let count = TILE.min(events - first);
                    simd.vectorize(Rows {
                        a: &gate_values[first * gates..],
                        rows: count,
                        len: gates,
                        strides: (gates, PANEL),
                        panel: weight,
                        width: width.next_multiple_of(LANES),
                        c: &mut scratch,
                        update: Update::Set,
                    });
                    for (r, event) in (first..first + count).enumerate() {
                        let place = (rows[event] as usize * sizes.steps + times[event])
                            * sizes.features
                            + column;
                        to_input[place..][..width].copy_from_slice(&scratch[r * PANEL..][..width]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn add(sum: &mut [f32], x: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += x;
    }
}

/// One event backward: gates become the gradients of their sums, and the gradient of the new cell, as later events see it,
/// becomes that of the old one.
#[inline(always)]
fn uncell<S: Simd>(
    simd: S,
    gates: &mut [f32],
    old_cell: &[f32],
    tanhs: &[f32],
    to_output: &[f32],
    to_cell: &mut [f32],
) {
    let one = simd.splat_f32s(1.0);
    let [i, f, g, o] = four::<S>(gates);
    let vectors = i.len();
    let old = &S::as_simd_f32s(old_cell).0[..vectors];
    let tanhs = &S::as_simd_f32s(tanhs).0[..vectors];
    let to_output = &S::as_simd_f32s(to_output).0[..vectors];
    let to_cell = &mut S::as_mut_simd_f32s(to_cell).0[..vectors];
    let mul = |x, y| simd.mul_f32s(x, y);
    // The slopes of the logistic function and of tanh at their values.
    let logistic = |y| simd.mul_f32s(y, simd.sub_f32s(one, y));
    let hyperbolic = |y| simd.sub_f32s(one, simd.mul_f32s(y, y));
    for v in 0..vectors {
        let (iv, fv, gv, ov, out) = (i[v], f[v], g[v], o[v], to_output[v]);
        let cell = multiply_add(simd, mul(out, ov), hyperbolic(tanhs[v]), to_cell[v]);
        o[v] = mul(mul(out, tanhs[v]), logistic(ov));
        i[v] = mul(mul(cell, gv), logistic(iv));
        g[v] = mul(mul(cell, iv), hyperbolic(gv));
        f[v] = mul(mul(cell, old[v]), logistic(fv));
        to_cell[v] = mul(cell, fv);
    }
}

#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

#[inline(always)]
fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let e = exp(simd, simd.add_f32s(x, x));
    simd.sub_f32s(
        one,
        simd.div_f32s(simd.splat_f32s(2.0), simd.add_f32s(one, e)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nonlinear<'a>(&'a mut [f32], bool);

    impl WithSimd for Nonlinear<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, _) = S::as_mut_simd_f32s(self.0);
            for x in vectors {
                *x = if self.1 {
                    tanh(simd, *x)
                } else {
                    sigmoid(simd, *x)
                };
            }
        }
    }

    #[test]
    fn nonlinearities_are_right_to_two_units_in_the_last_place_of_one() {
        let x: Vec<f32> = (0..4096).map(|i| (i as f32 - 2048.0) / 20.0).collect();
        for (is_tanh, exact) in [
            (true, f64::tanh as fn(f64) -> f64),
            (false, |x| 1.0 / (1.0 + (-x).exp())),
        ] {
            let mut y = x.clone();
            dispatch(Nonlinear(&mut y, is_tanh));
            for (&x, &y) in x.iter().zip(&y) {
                assert!(
                    (f64::from(y) - exact(f64::from(x))).abs() < 2.4e-7,
                    "at {x}: {y}"
                );
            }
        }
    }

    #[test]
    fn events_of_a_step_lie_beside_one_another() {
        let sizes = Sizes {
            batch: 3,
            steps: 3,
            features: 1,
            hidden: 1,
            reverse: false,
            only_last: false,
        };
        let block = Block::new(&sizes, &[2, 0, 3]);
        assert_eq!(block.starts, [0, 2, 4, 5]);
        assert_eq!(block.rows, [0, 2, 0, 2, 2]);
        assert_eq!(block.next, [2, 3, NONE, 4, NONE]);
        let block = Block::new(
            &Sizes {
                reverse: true,
                ..sizes
            },
            &[2, 0, 3],
        );
        assert_eq!(block.starts, [0, 1, 3, 5]);
        assert_eq!(block.rows, [2, 0, 2, 0, 2]);
        assert_eq!(block.next, [2, 3, 4, NONE, NONE]);
    }
}
