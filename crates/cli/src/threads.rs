//! The threads of candle's own operations.

/// What candle reads their number from, once.
#[cfg(unix)]
const VARIABLE: &str = "CANDLE_NUM_THREADS";

/// Sees to it that candle's element-wise operations run in the thread that calls them, unless the user has chosen a number.
///
/// They have threads of their own, beside those of the kernels and of the matrix products, which wait in a loop after each
/// operation: a training step on two cores then takes up to three times as long. candle has no function to set their number,
/// and changing the environment of a running process is not safe, so the program starts itself again in its own place. Where
/// that is not possible it goes on as it is: results are the same.
pub(crate) fn settle() {
    #[cfg(unix)]
    if std::env::var_os(VARIABLE).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;

        let mut arguments = std::env::args_os();
        let mut command = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Comes back only if it fails.
        let _ = command.args(arguments).env(VARIABLE, "1").exec();
    }
}
