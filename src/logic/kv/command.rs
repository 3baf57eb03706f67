//! The vocabulary of the store: what a client may ask for and what it may be told.
//!
//! These types are the client protocol (`docs/wire.md`) and the replicated commands at once; they are encoded as
//! MessagePack maps with the field names below, so fields may be added but never renamed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use super::answer::{Changed, Holder, KvError, Outcome, Pair, Reply};
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

    /// The condition on the key's version; a fence has none.
    pub fn expect(&self) -> Expect {
        match self {
            Change::Put { expect, .. }
            | Change::Append { expect, .. }
            | Change::Delete { expect, .. }
            | Change::Check { expect, .. } => *expect,
            Change::Fence { .. } => Expect::Any,
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
