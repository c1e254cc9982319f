//! The arithmetic of the fast operations on plain slices: no tensor, no candle.
//!
//! Conventions:
//! - SIMD is written once, generically, against [`pulp::Simd`]; [`dispatch`] runs it with the instruction set of this
//!   machine. What lies between `dispatch` and the arithmetic is `#[inline(always)]`: a generic function that stays a
//!   call is compiled without the instruction set, and is forty times slower.
//! - Work is cut by shape and not by thread ([`run`]), and partial sums are added in index order, so results have the
//!   same bits for any number of threads.
//! - Large buffers are leased from a pool ([`lease`]): fresh memory costs more than the sums written to it.

pub(crate) mod attention;
pub(crate) mod conv;
mod exp;
pub(crate) mod gelu;
pub(crate) mod gemm;
pub(crate) mod gru;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod norm_act_pool;
pub(crate) mod optim;
pub(crate) mod rnn;
mod simd;
mod winograd;
mod workspace;

pub(crate) use self::exp::{exp, sigmoid, tanh};
pub use self::simd::{INSTRUCTION_SET_VARIABLE, instruction_set};
pub(crate) use self::simd::{dispatch, fma, has_fma, multiply_add, set_vector, vector};
pub(crate) use self::workspace::{Lease, lease, lease_bytes};

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

/// Multiplications below which waking a second thread costs more than it saves: about 50 µs of one core.
pub(crate) const PARALLEL_WORK: usize = 2 << 20;

/// Runs `task` on each of `tasks`, on all threads of the current rayon pool when there are more than
/// [`PARALLEL_WORK`] multiplications (or operations of that cost) in them together. Results are in the order of tasks.
pub(crate) fn run<T: Send, R: Send>(
    work: usize,
    tasks: Vec<T>,
    task: impl Fn(T) -> R + Send + Sync,
) -> Vec<R> {
    if tasks.len() < 2 || work <= PARALLEL_WORK || rayon::current_num_threads() < 2 {
        return tasks.into_iter().map(task).collect();
    }
    // Each task waits in its slot for a thread, and leaves its result there. So the parallel loop is compiled once, and
    // not for every kind of task.
    let slots: Vec<Mutex<Slot<T, R>>> = tasks
        .into_iter()
        .map(|task| Mutex::new(Slot::Task(task)))
        .collect();
    let fill = |i: usize| {
        let mut slot = slots[i].lock().unwrap_or_else(PoisonError::into_inner);
        if let Slot::Task(input) = std::mem::replace(&mut *slot, Slot::Taken) {
            *slot = Slot::Result(task(input));
        }
    };
    for_each(slots.len(), &fill);
    let results = slots.into_iter().map(|slot| {
        match slot.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Slot::Result(result) => result,
            Slot::Task(_) | Slot::Taken => {
                unreachable!("a panic of a task is passed on by the loop")
            }
        }
    });
    results.collect()
}

enum Slot<T, R> {
    Task(T),
    Taken,
    Result(R),
}

fn for_each(count: usize, f: &(dyn Fn(usize) + Sync)) {
    (0..count).into_par_iter().with_max_len(1).for_each(f);
}
