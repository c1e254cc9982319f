//! A thread with room for deep graphs.

use std::io;
use std::thread;

/// What [`on_large_stack`] reserves. Memory is taken as it is used.
pub const STACK_BYTES: usize = 256 << 20;

/// Runs something on a thread with a stack of [`STACK_BYTES`], and waits for it.
///
/// candle walks and drops a graph recursively: on the usual 8 MiB a chain of some 50,000 operations ends the process, and threads
/// have 2 MiB. Here chains of up to some 500,000 are safe, far more than a training step makes; a recurrent network that is unrolled
/// further must be cut. A run with its data and observers need not be [`Send`]: make it inside.
///
/// ```
/// let sum = nearfar_trainer::on_large_stack(|| (1..=4).sum::<i32>())?;
/// assert_eq!(sum, 10);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// When the system gives no such thread.
///
/// # Panics
/// If `work` does: the panic goes on in the caller.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("training".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor, Var};

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
