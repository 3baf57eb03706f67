//! The vocabulary of the store: what a client may ask for and what it may be told.
//!
//! These types are the client protocol (`docs/wire.md`) and the replicated commands at once; they are encoded as
//! MessagePack maps with the field names below, so fields may be added but never renamed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::logic::ids::{GroupId, Index};

/// The version of a key: 1 after the first put, one more with every change; 0 means that the key is absent.
pub type Version = u64;

/// A session: the group that opened it and the index of the log entry that did. Unique for ever, because an index
/// is used once; so a delayed duplicate can never be taken for a command of a younger session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// Group in whose log the session was opened.
    pub group: GroupId,
    /// Index of the entry that opened it.
    pub index: Index,
}

/// A lease: like a session, named by the entry that granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId {
    /// Group in whose log the lease was granted.
    pub group: GroupId,
    /// Index of the entry that granted it.
    pub index: Index,
}

/// The right to be the holder of a lock: the index of the log entry that gave the holder its place in the queue. It
/// grows from holder to holder of a lock.
pub type Token = u64;

/// The place of a command in its session (exactly-once: Raft dissertation, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The session.
    pub session: SessionId,
    /// Number of the command in the session: 1, 2, ... A retry carries the same number.
    pub seq: u64,
    /// Every command below this number has been answered to the client, so its cached reply may be dropped. At least 1.
    pub acked_below: u64,
}

/// What must hold for a conditional change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// No condition.
    #[default]
    Any,
    /// The key must be absent. The same as `Version(0)`.
    Absent,
    /// The key must have this version.
    Version(Version),
}

/// How long a value stays without being touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Until deleted.
    #[default]
    Forever,
    /// This many milliseconds of log time after the change.
    Ttl(u64),
    /// As long as the lease lives.
    Lease(LeaseId),
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Replace the value.
    Put {
        /// The key.
        key: Bytes,
        /// The new value.
        value: Bytes,
        /// Condition.
        #[serde(default)]
        expect: Expect,
        /// How long it stays.
        #[serde(default)]
        lifetime: Lifetime,
    },
    /// Add bytes at the end of the value; an absent key counts as empty.
    Append {
        /// The key.
        key: Bytes,
        /// The bytes to add.
        value: Bytes,
        /// Condition.
        #[serde(default)]
        expect: Expect,
    },
    /// Remove the key. Deleting an absent key with `Expect::Any` succeeds with `existed: false`.
    Delete {
        /// The key.
        key: Bytes,
        /// Condition.
        #[serde(default)]
        expect: Expect,
    },
    /// Change nothing, but fail the batch unless the condition holds (a guard on a key that is only read).
    Check {
        /// The key.
        key: Bytes,
        /// Condition.
        expect: Expect,
    },
    /// Change nothing, but fail the batch unless a lock is held, now, under this token: what a holder that was
    /// replaced without noticing can never do any more.
    Fence {
        /// Name of the lock.
        lock: Bytes,
        /// The token that its holder was given.
        token: Token,
    },
}

impl Change {
    /// The key that is changed or checked; of a fence, the name of the lock.
    pub fn key(&self) -> &Bytes {
        match self {
            Change::Put { key, .. }
            | Change::Append { key, .. }
            | Change::Delete { key, .. }
            | Change::Check { key, .. }
            | Change::Fence { lock: key, .. } => key,
        }
    }

    /// The bytes that a put or append brings along.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Change::Put { value, .. } | Change::Append { value, .. } => Some(value),
            Change::Delete { .. } | Change::Check { .. } | Change::Fence { .. } => None,
        }
    }
}

/// What goes through the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// One change.
    Change(Change),
    /// Several changes, all or none, in order; each sees the effect of those before it.
    Batch(Vec<Change>),
    /// Open a session. The answer names it.
    OpenSession,
    /// Open a session on these terms: what the log holds for `OpenSession`. The server that takes the request writes
    /// its configured terms into it (`Limits::admit`), so that they are the same on every replica.
    OpenSessionAs {
        /// The session expires when untouched for this many milliseconds of log time.
        ttl_ms: u64,
        /// Most commands that may be under way (sent and not yet acknowledged) at once.
        window: u32,
    },
    /// Touch a session so that it does not expire, and acknowledge replies; carried by the stamp.
    KeepAlive,
    /// End a session and forget its replies; carried by the stamp.
    CloseSession,
    /// Grant a lease of so many milliseconds of log time.
    GrantLease {
        /// Time to live in milliseconds.
        ttl_ms: u64,
    },
    /// Start the lease's time anew.
    RenewLease {
        /// The lease.
        lease: LeaseId,
    },
    /// End the lease and delete its keys.
    RevokeLease {
        /// The lease.
        lease: LeaseId,
    },
    /// Nothing but the passing of time: lets due keys, leases and sessions expire.
    Advance,
    /// Take a place in the queue of a lock, by a lease that is granted with it. Whoever is the first in the queue is
    /// the holder. Renewing the lease keeps the place, revoking it leaves the queue, and so releases the lock.
    Claim {
        /// Name of the lock. Locks and keys have nothing to do with each other.
        lock: Bytes,
        /// Who asks, such as a random number. If this owner has a place, that is the answer, and its time starts
        /// anew: so asking again does no harm.
        owner: Bytes,
        /// Time to live of the lease in milliseconds.
        ttl_ms: u64,
        /// Whether to queue up behind others; otherwise the claim is refused when the lock is held.
        queue: bool,
    },
}

/// One command as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCommand {
    /// Log time of the leader that proposed it, in milliseconds. The machine's clock is the maximum so far, so it
    /// never runs backwards; it stands still while there is no leader, which only ever lengthens a lease.
    pub time_ms: u64,
    /// Place in the client's session; `None` for a stateless client.
    pub stamp: Option<Stamp>,
    /// What to do.
    pub command: Command,
}

/// A question that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// The value of one key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Keys in byte order from `start` (inclusive) to `end` (exclusive; `None`: to the last key).
    Range {
        /// First key.
        start: Bytes,
        /// First key no longer wanted.
        #[serde(default)]
        end: Option<Bytes>,
        /// At most so many pairs; 0 means as many as the byte budget allows.
        #[serde(default)]
        max_keys: u32,
        /// At most so many bytes of keys and values (at least one pair is returned); 0 means the server's limit.
        #[serde(default)]
        max_bytes: u32,
        /// Leave the values out.
        #[serde(default)]
        keys_only: bool,
    },
    /// Keys that begin with `prefix`, from `after` (exclusive) where given.
    Prefix {
        /// The prefix.
        prefix: Bytes,
        /// The cursor of an earlier reply: continue behind this key.
        #[serde(default)]
        after: Option<Bytes>,
        /// As in `Range`.
        #[serde(default)]
        max_keys: u32,
        /// As in `Range`.
        #[serde(default)]
        max_bytes: u32,
        /// As in `Range`.
        #[serde(default)]
        keys_only: bool,
    },
    /// Who holds a lock, and how many wait.
    Lock {
        /// Name of the lock.
        lock: Bytes,
    },
    /// Whether it is the turn of this lease, that is, whether it holds the lock that it claims.
    Turn {
        /// The lease.
        lease: LeaseId,
        /// When it is not, the server keeps the question until it is, or until so many milliseconds have passed (but
        /// it has a limit of its own).
        #[serde(default)]
        wait_ms: u32,
    },
}

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
        /// It is a key of the reply for a prefix (its last), and the first key left out for a range.
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
