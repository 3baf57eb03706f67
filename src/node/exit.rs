//! Exit codes of the binary, and an error that carries one.

/// All went well.
pub const OK: u8 = 0;
/// The request was understood and refused: no such key, another version, a limit; or a check failed.
pub const REFUSED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// The cluster, or something that is needed, cannot be reached or used now; try again.
pub const UNAVAILABLE: u8 = 3;
/// A write may or may not have taken effect.
pub const MAYBE: u8 = 4;
/// Data on disk are damaged. Starting again does not help.
pub const DAMAGED: u8 = 65;
/// A bug of Quorate, or a failure of the machine.
pub const INTERNAL: u8 = 70;
/// Ended by Ctrl-C or a signal; what was begun was undone.
pub const INTERRUPTED: u8 = 130;

/// Whoever read standard output went away before the end, as `| head` does; shells show the same code where other
/// programs end by SIGPIPE.
pub const UNREAD: u8 = 141;

/// Why a command failed: a sentence for people, and the exit code of the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happened, and what to do about it.
    pub message: String,
    /// One of the codes of this module, not [`OK`].
    pub code: u8,
}

impl Failure {
    /// A failure with one of the codes of this module.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { message: message.into(), code }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// A failure of the machine or of Quorate itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(INTERNAL, message)
    }

    /// A word for the kind of failure, for output that machines read.
    pub fn kind(&self) -> &'static str {
        match self.code {
            REFUSED => "refused",
            USAGE => "usage",
            UNAVAILABLE => "unavailable",
            MAYBE => "maybe",
            DAMAGED => "damaged",
            INTERRUPTED => "interrupted",
            _ => "internal",
        }
    }
}

impl From<super::config::ConfigProblems> for Failure {
    fn from(problems: super::config::ConfigProblems) -> Self {
        Self::usage(problems.to_string())
    }
}
