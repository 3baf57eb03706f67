//! What a call may end in when it does not end well.

use thiserror::Error;

use crate::logic::kv::command::{KvError, Token, Version};

/// Why a call has no good answer; sorted by what the caller does next.
///
/// Only [`Maybe`](Self::Maybe) and [`Timeout`](Self::Timeout) with `maybe: true` leave open whether the change took
/// effect. Every other error says that it surely did not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClerkError {
    /// The key is absent: of a get, or of a change that expects a version above 0.
    #[error("no such key")]
    NotFound,
    /// The condition of the change does not hold: read again, decide again.
    #[error("the key has version {actual}, not the one expected")]
    VersionMismatch {
        /// The key's version now (0: absent).
        actual: Version,
    },
    /// A limit of the store would be passed: ask for less.
    #[error("{what} would be {asked}, above the limit {limit} = {max}")]
    Limit {
        /// Name of the limit, as in the configuration.
        limit: String,
        /// What is limited, in words.
        what: String,
        /// Its value.
        max: u64,
        /// What the request would have needed.
        asked: u64,
    },
    /// The lease is not known (any more): grant a new one.
    #[error("the lease has expired")]
    LeaseExpired,
    /// The lock is held by somebody else, and the claim did not want to wait.
    #[error("the lock is held, under token {token}")]
    LockHeld {
        /// Token of the holder.
        token: Token,
    },
    /// The lock is no longer held under the token that the change was to be made under, and nothing was changed: stop
    /// doing what the lock protects.
    #[error(
        "the lock is {}, not held under this token",
        .holder.map_or("free".to_owned(), |token| format!("held under token {token}"))
    )]
    LockLost {
        /// Token of the holder now, if there is one.
        holder: Option<Token>,
    },
    /// A change of the batch failed, so nothing of it was applied.
    #[error("change number {position} of the batch failed: {error}")]
    Batch {
        /// Which change, starting at 0.
        position: u32,
        /// Why.
        error: Box<ClerkError>,
    },
    /// The change may or may not have taken effect, and it will not be sent again: read to find out.
    #[error("the change may or may not have taken effect; read to find out")]
    Maybe,
    /// The deadline passed first. Trying again is safe only when `maybe` is false.
    #[error("no answer in time: {cause}{}", if *.maybe { " (the change may still have taken effect)" } else { "" })]
    Timeout {
        /// Whether the change may have taken effect, or may yet.
        maybe: bool,
        /// What stood in the way last, in words.
        cause: String,
    },
    /// Nobody can serve this: not a matter of trying again at once.
    #[error("{0}")]
    Unavailable(String),
    /// Too many calls are under way in this client already: wait for some of them.
    #[error("{limit} calls are under way already")]
    Overloaded {
        /// The limit.
        limit: usize,
    },
    /// The request makes no sense. Never retried.
    #[error("{0}")]
    Invalid(String),
}

impl ClerkError {
    /// Whether the change may have taken effect although the call failed.
    pub fn is_maybe(&self) -> bool {
        matches!(self, ClerkError::Maybe | ClerkError::Timeout { maybe: true, .. })
    }
}

impl From<KvError> for ClerkError {
    /// What the machine's refusal means to a caller, when it answers the only transmission of the command or one
    /// that is protected by a session.
    fn from(error: KvError) -> Self {
        match error {
            KvError::NoKey => ClerkError::NotFound,
            KvError::Version { actual } => ClerkError::VersionMismatch { actual },
            KvError::Batch { position, error } => {
                ClerkError::Batch { position, error: Box::new(ClerkError::from(*error)) }
            }
            KvError::Limit { limit, what, max, asked } => ClerkError::Limit { limit, what, max, asked },
            KvError::SessionExpired | KvError::Duplicate => ClerkError::Maybe,
            KvError::LeaseExpired => ClerkError::LeaseExpired,
            KvError::LockHeld { token } => ClerkError::LockHeld { token },
            KvError::Fenced { holder } => ClerkError::LockLost { holder },
            KvError::Malformed(text) => ClerkError::Invalid(format!("malformed command: {text}")),
        }
    }
}
