//! The way back: gradients of the parameters and of the input.

use pulp::{Simd, WithSimd};

use super::Block;
use super::cell::uncell;
use super::products::{Columns, Rows};
use super::{NONE, ROWS, Saved, Sizes, split};
use crate::slices::gemm::{LANES, PANEL, Panels, Run, TILE, Update};
use crate::slices::{dispatch, lease, run};

/// Events whose outer products are added up before they join the weight gradient.
const DEPTH: usize = 256;

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
                let right = Run::one(&gate_values[first * gates + column..], gates);
                let product = |a: &[f32], rows: usize, step: usize, c: &mut [f32]| {
                    let left = Run::one(&a[first * step..], step);
                    simd.vectorize(Columns {
                        a: left,
                        rows,
                        d: right,
                        width: PANEL,
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
