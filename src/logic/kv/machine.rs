//! The state machine: committed commands in, outcomes out.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::command::{Command, KvError, LeaseId, LogCommand, Outcome, Reply, SessionId, Stamp};
use super::lease::Leases;
use super::limits::{at_most, caps};
use super::lock::Locks;
use super::row::{Life, RECORD_OVERHEAD, Row};
use super::rows::Rows;
use super::session::{Session, Sessions, Standing};
use super::snapshot::Frozen;
use super::state_hash::StateHash;
use crate::logic::ids::{GroupId, Index};

/// The replicated store of one group. The same commands at the same indices make the same machine and give the same
/// outcomes, wherever and whenever they are applied.
pub struct Machine {
    pub(super) group: GroupId,
    pub(super) applied: Index,
    pub(super) time_ms: u64,
    pub(super) rows: Rows,
    pub(super) leases: Leases,
    pub(super) locks: Locks,
    pub(super) sessions: Sessions,
    pub(super) scratch: Vec<u8>,
    /// Says something of the last entry alone; see [`granted`](Self::granted).
    pub(super) granted: Vec<LeaseId>,
    /// What the changes of the last entry cost; see [`effort`](Self::effort).
    pub(super) effort: u64,
    /// What the removal of what was due cost during the last entry.
    pub(super) upkeep: u64,
}

/// Figures about a machine, for admission, status and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Records, including those that are due and not yet removed.
    pub keys: u64,
    /// Memory that the records, the queues of locks and the replies kept for sessions take, in bytes: keys, values,
    /// names of locks and their owners, results of batches, and a fixed overhead for each.
    pub bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Leases.
    pub leases: u64,
    /// Log time in milliseconds.
    pub time_ms: u64,
    /// The last index applied.
    pub applied: Index,
}

impl Machine {
    /// The empty store of a group, with nothing applied.
    pub fn new(group: GroupId) -> Machine {
        Machine {
            group,
            applied: 0,
            time_ms: 0,
            rows: Rows::default(),
            leases: Leases::default(),
            locks: Locks::default(),
            sessions: Sessions::default(),
            scratch: Vec::new(),
            granted: Vec::new(),
            effort: 0,
            upkeep: 0,
        }
    }

    /// Carries out the command of the committed entry at `index`. Bytes that are no command get
    /// [`KvError::Malformed`], on every replica alike.
    ///
    /// # Panics
    /// When `index` does not follow [`applied`](Self::applied). No content of `encoded` makes it panic.
    pub fn apply(&mut self, index: Index, encoded: &Bytes) -> Outcome {
        match LogCommand::decode(encoded) {
            Ok(command) => self.apply_command(index, command),
            Err(error) => {
                self.skip(index);
                Err(error)
            }
        }
    }

    /// As [`apply`](Self::apply), for a command that is already decoded.
    ///
    /// # Panics
    /// When `index` does not follow [`applied`](Self::applied).
    pub fn apply_command(&mut self, index: Index, command: LogCommand) -> Outcome {
        self.skip(index);
        self.time_ms = self.time_ms.max(command.time_ms);
        self.expire(&command.command);
        match command.stamp {
            None => self.execute(command.command),
            Some(stamp) => self.execute_once(stamp, command.command),
        }
    }

    /// Passes over a committed entry that is not for the machine: a no-op or a membership.
    ///
    /// # Panics
    /// When `index` does not follow [`applied`](Self::applied).
    pub fn skip(&mut self, index: Index) {
        assert_eq!(index, self.applied + 1, "entries are applied one by one, in order");
        self.applied = index;
        self.granted.clear();
        (self.effort, self.upkeep) = (0, 0);
    }

    /// The group whose store this is.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The last index that was applied or skipped; 0 at the beginning.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Log time in milliseconds: the largest time of any command so far.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Figures about the state. Cheap.
    pub fn stats(&self) -> Stats {
        Stats {
            keys: self.rows.map().len() as u64,
            bytes: self.rows.bytes() + self.locks.bytes() + self.sessions.bytes(),
            sessions: self.sessions.table().len() as u64,
            leases: self.leases.table().len() as u64,
            time_ms: self.time_ms,
            applied: self.applied,
        }
    }

    /// What the last entry cost to apply: the bytes of the values it wrote, and a fixed amount for each change and for
    /// each thing that was due and removed. An append writes the value as a whole.
    pub fn effort(&self) -> u64 {
        self.effort + self.upkeep
    }

    /// The log time at which the next key, lease or session falls due; `None` when nothing ever does. When it is not
    /// after [`time_ms`](Self::time_ms), something due is still to be removed, which any next command (an
    /// [`Advance`](Command::Advance) at least) goes on with. Nobody sees the difference but the memory.
    pub fn next_deadline(&self) -> Option<u64> {
        let ended = self.leases.first_ended().map(|_| self.time_ms);
        [self.rows.next_deadline(), self.leases.next_deadline(), self.sessions.next_deadline(), ended]
            .into_iter()
            .flatten()
            .min()
    }

    /// A hash over everything replicated: equal on replicas with equal history, however they came to it. Takes time in
    /// proportion to sessions, their kept replies and leases, but not to keys.
    pub fn hash(&self) -> StateHash {
        self.freeze().hash()
    }

    /// A copy of everything replicated, as of now, to be written as a snapshot by another thread. Takes about a
    /// microsecond, whatever the size; afterwards each first change of a shared part of the map copies that part.
    pub fn freeze(&self) -> Frozen {
        Frozen::of(self)
    }

    /// Whether the record is there as far as anybody can see.
    pub(super) fn is_alive(&self, row: &Row) -> bool {
        match row.life() {
            Life::Forever => true,
            Life::Until(deadline_ms) => deadline_ms > self.time_ms,
            Life::Leased(lease) => mutant!(LeasesNeverEnd) || self.leases.is_alive(lease, self.time_ms),
        }
    }

    /// The record of the key, unless it is due.
    pub(super) fn live(&self, key: &[u8]) -> Option<&Row> {
        self.rows.get(key).filter(|row| self.is_alive(row))
    }

    /// Removes what is due, in a fixed order, but not more than a command can afford: more than it can add, so that a
    /// store does not fill up with what nobody sees any more.
    fn expire(&mut self, command: &Command) {
        let additions = if let Command::Batch(changes) = command { changes.len() } else { 0 };
        let most = caps::EXPIRIES_PER_APPLY + 2 * additions.min(caps::BATCH_CHANGES as usize);
        let left = self.remove_due(most);
        self.upkeep += (most - left) as u64 * RECORD_OVERHEAD;
    }

    /// Returns how many more could have been removed.
    fn remove_due(&mut self, most: usize) -> usize {
        let mut left = most;
        while left > 0
            && let Some(id) = self.sessions.first_due(self.time_ms)
        {
            self.sessions.remove(id);
            left -= 1;
        }
        while left > 0
            && let Some(id) = self.leases.first_due(self.time_ms)
        {
            self.end_lease(id);
            left -= 1;
        }
        while left > 0
            && let Some(id) = self.leases.first_ended()
        {
            match self.rows.first_of_lease(id) {
                Some(key) => {
                    self.rows.replace(key, None);
                    left -= 1;
                }
                None => self.leases.forget_ended(id),
            }
        }
        while left > 0
            && let Some(key) = self.rows.first_due(self.time_ms)
        {
            self.rows.replace(key, None);
            left -= 1;
        }
        left
    }

    fn execute_once(&mut self, stamp: Stamp, command: Command) -> Outcome {
        let Some(session) = self.sessions.touch(stamp.session, self.time_ms, stamp.acked_below) else {
            return Err(KvError::SessionExpired);
        };
        match command {
            // These two may be repeated without harm, so they need neither a number nor a place in the window: a
            // client whose window is full can still acknowledge.
            Command::KeepAlive => return Ok(Reply::Done),
            Command::CloseSession => {
                self.sessions.remove(stamp.session);
                return Ok(Reply::Done);
            }
            _ => {}
        }
        match session.standing(stamp.seq) {
            Standing::Answered(outcome) => return outcome,
            Standing::Acknowledged => return Err(KvError::Duplicate),
            Standing::WindowFull => {
                let (max, asked) = (u64::from(session.window), session.replies.len() as u64 + 1);
                return at_most("session_window", "unacknowledged commands of the session", max, asked)
                    .map(|()| Reply::Done);
            }
            Standing::Fresh => {}
        }
        let outcome = self.execute(command);
        self.sessions.remember(stamp.session, stamp.seq, outcome.clone());
        outcome
    }

    fn execute(&mut self, command: Command) -> Outcome {
        match command {
            Command::Change(change) => self.change(&change).map(|(changed, _)| Reply::Changed(changed)),
            Command::Batch(changes) => self.batch(&changes),
            Command::OpenSession => {
                self.open_session(caps::DEFAULT_SESSION_TTL_MS, caps::DEFAULT_SESSION_WINDOW)
            }
            Command::OpenSessionAs { ttl_ms, window } => self.open_session(ttl_ms, window),
            Command::KeepAlive | Command::CloseSession => {
                Err(KvError::Malformed("a command about a session must be stamped with it".to_owned()))
            }
            Command::GrantLease { ttl_ms } => {
                self.new_lease(ttl_ms, None).map(|lease| Reply::Lease { lease, ttl_ms })
            }
            Command::Claim { lock, owner, ttl_ms, queue } => self.claim_lock(&lock, &owner, ttl_ms, queue),
            Command::RenewLease { lease } => match self.leases.renew(lease, self.time_ms) {
                Some(ttl_ms) => Ok(Reply::Lease { lease, ttl_ms }),
                None => Err(KvError::LeaseExpired),
            },
            Command::RevokeLease { lease } => {
                if !self.leases.is_alive(lease, self.time_ms) {
                    return Err(KvError::LeaseExpired);
                }
                self.end_lease(lease);
                Ok(Reply::Done)
            }
            Command::Advance => Ok(Reply::Done),
        }
    }

    fn open_session(&mut self, ttl_ms: u64, window: u32) -> Outcome {
        let asked = self.sessions.table().len() as u64 + 1;
        at_most("max_sessions", "sessions", caps::SESSIONS, asked)?;
        let id = SessionId { group: self.group, index: self.applied };
        let window = window.clamp(1, caps::SESSION_WINDOW);
        let session =
            Session { ttl_ms, window, touched_ms: self.time_ms, acked_below: 1, replies: Default::default() };
        self.sessions.add(id, session);
        Ok(Reply::Session { session: id, ttl_ms, window })
    }
}
