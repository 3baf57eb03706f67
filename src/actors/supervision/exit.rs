//! How the life of a supervised actor ends.

use std::fmt;

/// Why a life ended. Every life ends with exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The actor stopped itself.
    Normal,
    /// It stopped because it was told to.
    Stopped,
    /// It was killed: it was told to stop and did not in time, or it was killed on purpose. Its hooks did not run.
    Killed,
    /// It panicked: in a handler, a hook, a timer, a future of its own, its factory or its destructor.
    Panicked(String),
    /// Its factory returned this error.
    Failed(String),
    /// The thread, arbiter or task set it lived on went away under it.
    Lost,
    /// It stopped answering and was killed or abandoned for it.
    Hung,
    /// A supervisor whose children failed too often.
    GaveUp(String),
}

impl Exit {
    /// Whether a [`Transient`](super::Restart::Transient) child is restarted after this: everything except a
    /// stop of its own accord or by order.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Normal | Self::Stopped)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("stopped of its own accord"),
            Self::Stopped => f.write_str("stopped by order"),
            Self::Killed => f.write_str("killed"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Failed(text) => write!(f, "could not be built: {text}"),
            Self::Lost => f.write_str("its thread went away"),
            Self::Hung => f.write_str("hung"),
            Self::GaveUp(text) => write!(f, "gave up: {text}"),
        }
    }
}

/// The text of a panic, as far as its payload carries one.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else {
        "(no text)".to_owned()
    }
}
