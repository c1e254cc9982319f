//! Threads with room for deep graphs.

use std::io;

/// What [`on_large_stack`] reserves for each thread. Memory is taken as it is used.
pub const STACK_BYTES: usize = 256 << 20;

/// Runs something in a pool of threads with stacks of [`STACK_BYTES`], and waits for it. There are as many threads as in the pool it is
/// called in, or as rayon gives by default.
///
/// candle walks and drops a graph recursively: on the usual 8 MiB a chain of some 50,000 operations ends the process, and threads
/// have 2 MiB. Here chains of up to some 500,000 are safe, far more than a training step makes; a recurrent network that is unrolled
/// further must be cut. A run with its data and observers need not be [`Send`]: make it inside.
///
/// A step that runs inside of the pool works itself at what it divides: outside it would hand over each operation to the pool and sleep
/// until that is done, a few dozen times.
///
/// ```
/// let sum = nearfar_trainer::on_large_stack(|| (1..=4).sum::<i32>())?;
/// assert_eq!(sum, 10);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When the system gives no such threads.
///
/// # Panics
/// If `work` does: the panic goes on in the caller.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let inside = rayon::current_thread_index().map(|_| rayon::current_num_threads());
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(inside.unwrap_or(0)) // 0 is the default.
        .thread_name(|index| format!("training {index}"))
        .stack_size(STACK_BYTES)
        .build();
    Ok(pool.map_err(io::Error::other)?.install(work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor, Var};

    #[test]
    fn there_are_as_many_threads_as_outside() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        let inside = pool
            .expect("three threads")
            .install(|| on_large_stack(rayon::current_num_threads));
        assert_eq!(inside.expect("three more"), 3);
    }

    #[test]
    fn a_deep_graph_goes_backward() {
        let gradient = on_large_stack(|| -> candle_core::Result<f32> {
            let x = Var::new(1f32, &Device::Cpu)?;
            let mut y: Tensor = x.as_tensor().clone();
            for _ in 0..100_000 {
                y = (y + 0.0)?; // 50,000 of them end a thread of 8 MiB.
            }
            y.backward()?.get(&x).expect("a chain").to_scalar()
        });
        assert_eq!(gradient.expect("a thread").expect("a gradient"), 1.0);
    }
}
