//! Sessions: what makes a retried command take effect once (Raft dissertation, section 6.3).
//!
//! The dissertation lets a client have one command under way; here it may have a window of them, in any order. The
//! server keeps the reply of each until the client acknowledges it with `acked_below`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use super::command::{KvError, Outcome, Reply, SessionId};

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) ttl_ms: u64,
    pub(super) window: u32,
    /// Log time of its last command.
    pub(super) touched_ms: u64,
    /// The client has the replies of everything below.
    pub(super) acked_below: u64,
    /// Replies of commands that were carried out and not yet acknowledged.
    pub(super) replies: BTreeMap<u64, Outcome>,
}

/// What a command of a session turns out to be.
pub(super) enum Standing {
    /// Not seen before: carry it out.
    Fresh,
    /// A retry of one that was carried out, with this outcome.
    Answered(Outcome),
    /// A late duplicate of one whose reply the client has acknowledged.
    Acknowledged,
    /// Not seen before, but the window is full.
    WindowFull,
}

impl Session {
    /// It is dead from this log time on.
    pub(super) fn deadline_ms(&self) -> u64 {
        self.touched_ms.saturating_add(self.ttl_ms)
    }

    /// Returns the memory of the replies that it forgets.
    fn acknowledge(&mut self, acked_below: u64) -> u64 {
        self.acked_below = self.acked_below.max(acked_below);
        if mutant!(RepliesPileUp) {
            return 0;
        }
        let mut freed = 0;
        while let Some(first) = self.replies.first_entry()
            && *first.key() < self.acked_below
        {
            freed += footprint(&first.remove());
        }
        freed
    }

    /// Memory of the replies, in bytes, roughly.
    fn reply_bytes(&self) -> u64 {
        self.replies.values().map(footprint).sum()
    }

    /// What the command with this number is.
    pub(super) fn standing(&self, seq: u64) -> Standing {
        if seq < self.acked_below && !mutant!(LateDuplicates) {
            Standing::Acknowledged
        } else if let Some(outcome) = self.replies.get(&seq) {
            if mutant!(RetriesAgain) { Standing::Fresh } else { Standing::Answered(outcome.clone()) }
        } else if self.replies.len() >= self.window as usize {
            Standing::WindowFull
        } else {
            Standing::Fresh
        }
    }
}

/// Memory that a kept reply takes, in bytes, roughly. Only that of a batch, or an error's text, can be long.
fn footprint(outcome: &Outcome) -> u64 {
    const REPLY: usize = 96;
    let more = match outcome {
        Ok(Reply::Batch(results)) => std::mem::size_of_val(&results[..]),
        Err(KvError::Batch { .. } | KvError::Limit { .. } | KvError::Malformed(_)) => REPLY,
        _ => 0,
    };
    (REPLY + more) as u64
}

/// All sessions. `table` is replicated state; the rest follows from it.
#[derive(Default)]
pub(super) struct Sessions {
    table: OrdMap<SessionId, Arc<Session>>,
    by_deadline: BTreeSet<(u64, SessionId)>,
    /// Memory of all kept replies.
    bytes: u64,
}

impl Sessions {
    pub(super) fn table(&self) -> &OrdMap<SessionId, Arc<Session>> {
        &self.table
    }

    /// Memory of the replies that are kept, in bytes, roughly: what a client does not acknowledge stays.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a session that is not there yet.
    pub(super) fn add(&mut self, id: SessionId, session: Session) {
        self.bytes += session.reply_bytes();
        self.by_deadline.insert((session.deadline_ms(), id));
        let old = self.table.insert(id, Arc::new(session));
        assert!(old.is_none(), "session {id:?} was opened twice");
    }

    /// Notes a command of the session: it was in use at `now_ms`, and the client acknowledges replies. `None` when the
    /// session is dead.
    pub(super) fn touch(&mut self, id: SessionId, now_ms: u64, acked_below: u64) -> Option<&Session> {
        let lives = |session: &Session| session.deadline_ms() > now_ms || mutant!(DeadSessionsServe);
        let session = self.table.get_mut(&id).filter(|session| lives(session))?;
        let session = Arc::make_mut(session);
        if session.touched_ms != now_ms {
            self.by_deadline.remove(&(session.deadline_ms(), id));
            session.touched_ms = now_ms;
            self.by_deadline.insert((session.deadline_ms(), id));
        }
        self.bytes -= session.acknowledge(acked_below);
        Some(session)
    }

    /// Keeps the outcome of a command for its retries.
    pub(super) fn remember(&mut self, id: SessionId, seq: u64, outcome: Outcome) {
        if let Some(session) = self.table.get_mut(&id) {
            self.bytes += footprint(&outcome);
            let before = Arc::make_mut(session).replies.insert(seq, outcome);
            self.bytes -= before.as_ref().map_or(0, footprint);
        }
    }

    pub(super) fn remove(&mut self, id: SessionId) {
        if let Some(session) = self.table.remove(&id) {
            self.bytes -= session.reply_bytes();
            self.by_deadline.remove(&(session.deadline_ms(), id));
        }
    }

    /// When the first session falls due.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let first = self.by_deadline.first().map(|(deadline_ms, _)| *deadline_ms);
        first.filter(|_| !mutant!(DeadSessionsServe))
    }

    /// The session that is due first, if it is due at `now_ms`.
    pub(super) fn first_due(&self, now_ms: u64) -> Option<SessionId> {
        let (deadline_ms, id) = self.by_deadline.first()?;
        (*deadline_ms <= now_ms && !mutant!(DeadSessionsServe)).then_some(*id)
    }
}
