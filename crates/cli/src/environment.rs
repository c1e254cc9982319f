//! What the program finds in its environment when it starts.

/// Sees to it that the environment is [the one to train with](nearfar_trainer::ENVIRONMENT), but for what the user has set. The program
/// starts itself again in its own place. Where that is not possible it goes on as it is: results are the same.
pub(crate) fn settle() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;

        let mut missing = nearfar_trainer::ENVIRONMENT.to_vec();
        missing.retain(|(name, _)| std::env::var_os(name).is_none());
        let Ok(program) = std::env::current_exe() else {
            return;
        };
        if missing.is_empty() {
            return;
        }
        let mut arguments = std::env::args_os();
        let mut command = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Comes back only if it fails.
        let _ = command.args(arguments).envs(missing).exec();
    }
}
