//! What a client may be told: the other half of the vocabulary, and like [`command`](super::command) a part of the
//! client protocol.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::command::{LeaseId, SessionId, Token, Version};

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its lease; the index in it is the token.
    pub lease: LeaseId,
    /// Who claimed the lock, as the claim said.
    pub owner: Bytes,
    /// The lease ends after so many milliseconds of log time unless it is renewed.
    pub left_ms: u64,
}

/// One key of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The key.
    pub key: Bytes,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
    /// The version.
    pub version: Version,
}

/// What a change of one key came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Changed {
    /// Put or append: the key's new version.
    Version(Version),
    /// Delete: whether there was anything to delete.
    Deleted {
        /// Whether the key existed.
        existed: bool,
    },
    /// A check or fence that held.
    Held,
}

/// The answer to a command or query that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To a single change.
    Changed(Changed),
    /// To a batch that was applied: one for each change, in order.
    Batch(Vec<Changed>),
    /// To `OpenSession`.
    Session {
        /// The new session.
        session: SessionId,
        /// It expires when untouched for this long.
        ttl_ms: u64,
        /// Most commands that may be under way (sent and not yet acknowledged) at once.
        window: u32,
    },
    /// To `GrantLease` and `RenewLease`.
    Lease {
        /// The lease.
        lease: LeaseId,
        /// Its time to live.
        ttl_ms: u64,
    },
    /// To `KeepAlive`, `CloseSession`, `RevokeLease`, `Advance`.
    Done,
    /// To a get of a key that exists.
    Value {
        /// The value.
        value: Bytes,
        /// Its version.
        version: Version,
    },
    /// To a range or prefix.
    Pairs {
        /// The pairs, in byte order of the keys.
        pairs: Vec<Pair>,
        /// Where to continue, when not everything fitted: pass it as `start` of a range or `after` of a prefix.
        /// For a range it is the first key left out, for a prefix the one before it. There may be one without pairs:
        /// so many keys whose time was over were passed that the rest is left for another answer.
        cursor: Option<Bytes>,
    },
    /// To `Claim`.
    Claim {
        /// The lease that has the place in the queue; the index in it is the token.
        lease: LeaseId,
        /// Its time to live.
        ttl_ms: u64,
        /// Whether it holds the lock.
        held: bool,
    },
    /// To the question whose turn it is.
    Turn {
        /// Whether it is that lease's.
        held: bool,
    },
    /// To the question who holds a lock.
    Lock {
        /// The holder, if there is one.
        holder: Option<Holder>,
        /// How many wait behind it.
        waiting: u64,
    },
}

/// Why a command or query was not carried out. Every replica answers the same, and the state is unchanged
/// (but for the session's book-keeping).
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum KvError {
    /// A get, or a change that expects a version above 0, of a key that is absent.
    #[error("no such key")]
    NoKey,
    /// The condition does not hold.
    #[error("the key has version {actual}, not the one expected")]
    Version {
        /// The key's version now (0: absent).
        actual: Version,
    },
    /// A change of a batch failed, so nothing of the batch was applied.
    #[error("change number {position} of the batch failed: {error}")]
    Batch {
        /// Which change, starting at 0.
        position: u32,
        /// Why.
        error: Box<KvError>,
    },
    /// A limit would be passed. The text names the limit, its value, and what was asked for.
    #[error("{what} would be {asked}, above the limit {limit} = {max}")]
    Limit {
        /// Name of the limit, as in the configuration: `max_key_bytes`, ...
        limit: String,
        /// What is limited, in words.
        what: String,
        /// Its value.
        max: u64,
        /// What the request would have needed.
        asked: u64,
    },
    /// The session is not known: it expired or was closed. Commands of it may or may not have been applied.
    #[error("the session has expired")]
    SessionExpired,
    /// The number is below what the client itself has acknowledged: a very late duplicate; it was applied or
    /// refused before, and its reply is forgotten.
    #[error("a late duplicate of a command whose answer was acknowledged")]
    Duplicate,
    /// The lease is not known: it expired or was revoked.
    #[error("the lease has expired")]
    LeaseExpired,
    /// The lock is held, and the claim did not want to queue up.
    #[error("the lock is held, under token {token}")]
    LockHeld {
        /// Token of the holder.
        token: Token,
    },
    /// The lock of a fence is not held under the fence's token: whoever sends this holds the lock no longer.
    #[error("the lock is {}, not held under this token", held_by(*holder))]
    Fenced {
        /// Token of the holder, if there is one.
        holder: Option<Token>,
    },
    /// The bytes are not a command. Never retried.
    #[error("malformed command: {0}")]
    Malformed(String),
}

/// A holder in words.
fn held_by(holder: Option<Token>) -> String {
    holder.map_or_else(|| "free".to_owned(), |token| format!("held under token {token}"))
}

/// What every command and query ends in.
pub type Outcome = Result<Reply, KvError>;
