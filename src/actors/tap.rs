//! What a watcher may see of a group's actors: for a simulation, which checks it against the rules of consensus.

use std::fmt;
use std::sync::Arc;

use crate::logic::ids::{GroupId, Index, LogPosition};
use crate::logic::kv::StateHash;
use crate::logic::raft::{Output, Restored};

/// Watches the actors of a node. Called on their thread, in the middle of their work: it must not block and must not
/// talk to them.
pub trait Tap: Send + Sync {
    /// Something happened in a group.
    fn see(&self, group: GroupId, seen: Seen<'_>);
}

/// What happened.
pub enum Seen<'a> {
    /// The Raft peer begins its `life`-th life from what its disk held.
    PeerStarts {
        /// Which life.
        life: u64,
        /// What the disk held.
        restored: &'a Restored,
    },
    /// The Raft peer is about to carry this out.
    Output {
        /// Its commit index.
        commit: Index,
        /// What it is about to do.
        output: &'a Output,
    },
    /// The Raft peer has heard that what it had asked to persist under this ticket is durable.
    Durable {
        /// The ticket.
        ticket: u64,
    },
    /// The applier begins with, or installs, a state that comes from a snapshot (or the empty one).
    Loaded {
        /// What is in it.
        last: LogPosition,
        /// The state's hash.
        hash: StateHash,
    },
    /// The applier has applied an entry.
    Applied {
        /// The entry.
        position: LogPosition,
        /// Hash of the state behind it.
        hash: StateHash,
    },
}

/// A place for a watcher. In production there is none, and a place costs a look at a null pointer.
#[derive(Clone, Default)]
pub struct TapPoint(Option<Arc<dyn Tap>>);

impl TapPoint {
    /// A place with a watcher.
    pub fn new(tap: Arc<dyn Tap>) -> Self {
        TapPoint(Some(tap))
    }

    /// Shows the watcher something, if there is one.
    pub(crate) fn show<'a>(&self, group: GroupId, seen: impl FnOnce() -> Seen<'a>) {
        if let Some(tap) = &self.0 {
            tap.see(group, seen());
        }
    }
}

impl fmt::Debug for TapPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TapPoint({})", if self.0.is_some() { "watched" } else { "unwatched" })
    }
}
