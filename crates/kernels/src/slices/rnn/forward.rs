//! The way there: all steps of a block of rows.

use pulp::{Simd, WithSimd};

use super::cell::cell;
use super::products::Rows;
use super::{Block, NONE, ROWS, Saved, Sizes, split};
use crate::slices::gemm::{PANEL, Panels, Update};
use crate::slices::{dispatch, run};

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
