//! A layer of long short-term memory over all steps of a batch, forward and backward.
//!
//! The batch is cut into blocks of rows, which know nothing of one another: there is no waiting between steps, and the
//! blocks' weight gradients are added in their order. Inside a block, every pair of a step and a row that is still within
//! its length is an *event*. Events are numbered step by step, so the rows of a step lie beside one another, and steps
//! beyond a row's length cost nothing. The state before an event is written by the event before it, straight to where
//! both the recurrent product and its weight gradient read it.
//!
//! The four gates of an event, each padded to whole vectors, stand beside one another: `i | f | g | o`.

mod backward;
mod cell;
mod forward;
pub(super) mod products;

pub(crate) use backward::backward;
pub(crate) use forward::forward;

use super::gemm::LANES;
use super::{Lease, lease};

/// Rows of the batch that one task takes.
const ROWS: usize = 32;
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
    /// Whether of the states of a row only the one after its last step leaves the layer, `(batch, hidden)`. The gates and cells of all
    /// steps are kept for the way back either way; what is saved is a copy of the states, and a gradient of zeros for those that nobody
    /// reads.
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

fn split<'a>(sizes: &Sizes, parameters: &'a [f32]) -> (&'a [f32], &'a [f32], &'a [f32]) {
    let (input, rest) = parameters.split_at(4 * sizes.hidden * sizes.features);
    let (hidden, bias) = rest.split_at(4 * sizes.hidden * sizes.hidden);
    (input, hidden, bias)
}

#[cfg(test)]
mod tests {
    use super::*;

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
