//! Kinds of errors that survive the way through candle.

/// What can be wrong in tensor code, so that a caller can tell bad data from bad settings from a step that is not finite.
///
/// Tensor code returns [`candle_core::Result`]; `?` puts an `Error` into one, where [`Error::of`] finds it again.
///
/// ```
/// use nearfar_core::Error;
///
/// fn checked() -> candle_core::Result<()> {
///     Err(Error::Settings("`margin` is too large".into()))?
/// }
/// let error = checked().unwrap_err();
/// assert!(matches!(Error::of(&error), Some(Error::Settings(_))));
/// assert_eq!(error.to_string(), "`margin` is too large");
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Shapes or lengths that do not fit one another; both are in the message.
    #[error("{0}")]
    Shape(String),
    /// Data that cannot be used, and what would be right.
    #[error("{0}")]
    Input(String),
    /// Settings that are out of range or do not fit together.
    #[error("{0}")]
    Settings(String),
    /// A value that should be a number is not.
    #[error(
        "{what} is not finite at step {step}; lower the learning rate, clip the gradients, or look for bad values in the data"
    )]
    NonFinite {
        /// What is not finite: `the loss`, `the gradient of conv1.weight`.
        what: String,
        /// The step at which it was seen.
        step: u64,
    },
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        // `Error::wrap` would keep a `Display` only; an `io::Error` gives the value back.
        candle_core::Error::Io(std::io::Error::other(error))
    }
}

impl Error {
    /// Our error inside one of candle's, under whatever context it has collected.
    pub fn of(error: &candle_core::Error) -> Option<&Self> {
        use candle_core::Error as E;
        match error {
            E::Io(error) => error.get_ref()?.downcast_ref(),
            E::Context { inner, .. }
            | E::WithPath { inner, .. }
            | E::WithBacktrace { inner, .. } => Self::of(inner),
            E::WrappedContext { wrapped, .. } => wrapped.downcast_ref().and_then(Self::of),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_found_under_context_and_backtrace() {
        let error = candle_core::Error::from(Error::NonFinite {
            what: "the loss".into(),
            step: 3,
        });
        let error = error.bt().context("while training");
        assert!(
            matches!(Error::of(&error), Some(Error::NonFinite { step: 3, .. })),
            "{error:?}"
        );
        assert_eq!(Error::of(&candle_core::Error::Msg("other".into())), None);
    }
}
