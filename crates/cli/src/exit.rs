//! Errors of the command, and the number a program ends with.

use std::path::PathBuf;

/// What the command says when it cannot go on; its kind is the exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A wrong argument or run file.
    #[error("{0}")]
    Usage(String),
    /// Data that cannot be used.
    #[error("{0}")]
    Data(String),
    /// A file that cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`.
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// Interrupted, and saved.
    #[error("interrupted at step {step}; {resume}")]
    Interrupted { step: u64, resume: String },
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    #[error(transparent)]
    Core(#[from] nearfar_core::Error),
    #[error(transparent)]
    Datasets(#[from] nearfar_datasets::Error),
    #[error(transparent)]
    Trainer(#[from] nearfar_trainer::Error),
    #[error(transparent)]
    Eval(#[from] nearfar_eval::Error),
    #[error(transparent)]
    Report(#[from] nearfar_report::Error),
}

impl Error {
    /// The exit code, by whose fault it is.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Data(_) => 3,
            Self::File { .. } => 5,
            Self::Interrupted { .. } => 75,
            Self::Core(error) => core_code(error),
            Self::Tensor(error) => nearfar_core::Error::of(error).map_or(1, core_code),
            Self::Trainer(error) => error.kind().map_or_else(|| self.source_code(), core_code),
            other => other.source_code(),
        }
    }

    /// Its name in JSON.
    pub(crate) fn kind(&self) -> &'static str {
        match self.code() {
            2 => "usage",
            3 => "data",
            4 => "not_finite",
            5 => "io",
            75 => "interrupted",
            _ => "failure",
        }
    }

    /// The message, then the causes, each on its own.
    pub(crate) fn chain(&self) -> (String, Vec<String>) {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(self);
        let message = first_line(&self.to_string());
        while let Some(cause) = source {
            let text = first_line(&cause.to_string());
            // candle and io wrap an error and print it themselves; once is enough.
            if causes.last() != Some(&text) && text != message {
                causes.push(text);
            }
            source = cause.source();
        }
        (message, causes)
    }

    /// For errors of our crates: the kind that the crate says.
    fn source_code(&self) -> u8 {
        // A core error or a full disk keeps its kind under whatever was said about it on the way.
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            if let Some(error) = cause.downcast_ref::<nearfar_core::Error>() {
                return core_code(error);
            }
            if let Some(error) = cause
                .downcast_ref::<candle_core::Error>()
                .and_then(nearfar_core::Error::of)
            {
                return core_code(error);
            }
            source = cause.source();
        }
        match self {
            Self::Datasets(_) => 3,
            Self::Trainer(error) => {
                use nearfar_trainer::Error as E;
                match error {
                    E::Settings(_)
                    | E::Frozen { .. }
                    | E::OtherRun { .. }
                    | E::Misfit { .. }
                    | E::Locked { .. } => 2,
                    E::Io { .. } | E::Corrupt { .. } | E::Save { .. } | E::NoneUsable { .. } => 5,
                    E::Batches { .. } | E::Sweep { .. } | E::EmptyEpoch { .. } => 3,
                    _ => 1,
                }
            }
            Self::Report(_) => 5,
            Self::Eval(_) => 3,
            _ => 1,
        }
    }
}

fn core_code(error: &nearfar_core::Error) -> u8 {
    match error {
        nearfar_core::Error::Settings(_) => 2,
        nearfar_core::Error::Input(_) | nearfar_core::Error::Shape(_) => 3,
        nearfar_core::Error::NonFinite { .. } => 4,
    }
}

/// candle appends a backtrace to some messages; a run file's error has its lines.
fn first_line(message: &str) -> String {
    match message
        .find("\n   0: ")
        .or_else(|| message.find("\nstack backtrace"))
    {
        Some(at) => message[..at].trim_end().to_string(),
        None => message.trim_end().to_string(),
    }
}

/// An error for whoever calls back into us.
pub(crate) fn boxed<E: std::error::Error + Send + Sync + 'static>(
    error: E,
) -> nearfar_core::BoxError {
    Box::new(error)
}

/// An error of the loader, as what it was.
pub(crate) fn unboxed(error: nearfar_core::BoxError) -> Error {
    match error.downcast::<nearfar_datasets::Error>() {
        Ok(error) => Error::Datasets(*error),
        Err(error) => Error::Data(error.to_string()),
    }
}
