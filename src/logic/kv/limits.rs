//! Limits, in two layers that must not be mixed up.
//!
//! **At the door** ([`Limits`]): the server that takes a request checks it against its own configuration before
//! proposing it. That is local policy: it may differ between nodes and change with a restart, because whatever passed
//! the door is in the log and is carried out by every replica, whatever its configuration says.
//!
//! **In the machine** ([`caps`]): constants of this program. They are looked at while applying, so they must be the
//! same wherever the same log is applied; changing one changes what an old log means.
//!
//! Where policy shapes the state for longer than one command (the terms of a session), the door writes it into the
//! command. Quotas over the whole store are the door's too: it compares with the machine's latest [`Stats`], so
//! commands under way at that moment may pass the quota by as much as they carry. Deletes are always let in.

use serde::{Deserialize, Serialize};

use super::command::{Change, Command, KvError, Lifetime, Query};
use super::machine::Stats;
use super::row::RECORD_OVERHEAD;

/// What the machine itself enforces, the same everywhere and for ever.
pub mod caps {
    /// Longest key in bytes.
    pub const KEY_BYTES: u64 = 64 << 10;
    /// Longest value in bytes; the only bound to the growth of a value by appending.
    pub const VALUE_BYTES: u64 = 8 << 20;
    /// Most changes in a batch.
    pub const BATCH_CHANGES: u64 = 16_384;
    /// Most bytes of keys and values in a batch.
    pub const BATCH_BYTES: u64 = 16 << 20;
    /// Most bytes that a batch may write, counted as [`Machine::effort`](crate::logic::kv::Machine::effort) does, but
    /// without what was due and removed on the way: when that happens is no matter of the batch. Each
    /// append writes the whole value anew, so a batch of a few bytes could otherwise keep every replica for seconds and
    /// take gigabytes, since what it replaces is kept until it has succeeded.
    pub const BATCH_EFFORT: u64 = 32 << 20;
    /// Most sessions.
    pub const SESSIONS: u64 = 1 << 20;
    /// Most commands of a session that may be under way; larger windows are cut to this.
    pub const SESSION_WINDOW: u32 = 4096;
    /// Most leases.
    pub const LEASES: u64 = 1 << 20;
    /// Most keys and values, in bytes, in the answer to a range or prefix (but always one pair).
    pub const REPLY_BYTES: u64 = 8 << 20;
    /// Most pairs in the answer to a range or prefix, and most records looked at for it: those that are due count, too.
    pub const REPLY_PAIRS: usize = 65_536;
    /// Most keys, leases and sessions that one command's passing of time removes; a batch removes two more for each of
    /// its changes.
    pub const EXPIRIES_PER_APPLY: usize = 256;
    /// Terms of a session whose command names none: time to live in milliseconds.
    pub const DEFAULT_SESSION_TTL_MS: u64 = 60_000;
    /// Terms of a session whose command names none: commands under way.
    pub const DEFAULT_SESSION_WINDOW: u32 = 1024;

    /// The most that the limit of this name may be.
    pub fn of(limit: &str) -> u64 {
        match limit {
            "max_key_bytes" => KEY_BYTES,
            "max_value_bytes" => VALUE_BYTES,
            "max_batch_changes" => BATCH_CHANGES,
            "max_batch_bytes" => BATCH_BYTES,
            "max_batch_effort" => BATCH_EFFORT,
            "max_reply_bytes" => REPLY_BYTES,
            "max_sessions" => SESSIONS,
            "session_window" => SESSION_WINDOW as u64,
            "max_leases" => LEASES,
            _ => u64::MAX,
        }
    }
}

/// What a server lets in. See the module's text for how this relates to [`caps`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest key in bytes.
    pub max_key_bytes: u64,
    /// Longest value that a request may carry, in bytes. Appending may build longer ones, up to [`caps::VALUE_BYTES`].
    pub max_value_bytes: u64,
    /// Most changes in a batch.
    pub max_batch_changes: u64,
    /// Most bytes of keys and values in a batch.
    pub max_batch_bytes: u64,
    /// Most bytes of keys and values in the answer to a range or prefix.
    pub max_reply_bytes: u64,
    /// Above this size of the store, as [`Stats::bytes`] counts it, only what does not let it grow is let in.
    pub max_store_bytes: u64,
    /// Most sessions.
    pub max_sessions: u64,
    /// Most commands of a session that may be under way at once.
    pub session_window: u32,
    /// A session expires when untouched for this long, in milliseconds.
    pub session_ttl_ms: u64,
    /// Most leases.
    pub max_leases: u64,
    /// Shortest time to live of a lease in milliseconds; a shorter wish is raised to it, and the reply says so.
    pub min_lease_ttl_ms: u64,
    /// Longest time to live of a lease in milliseconds.
    pub max_lease_ttl_ms: u64,
    /// Longest time to live of a key in milliseconds.
    pub max_key_ttl_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Limits {
            max_key_bytes: 4 << 10,
            max_value_bytes: 1 << 20,
            max_batch_changes: 1024,
            max_batch_bytes: 2 << 20,
            max_reply_bytes: 1 << 20,
            max_store_bytes: 4 << 30,
            max_sessions: 100_000,
            session_window: caps::DEFAULT_SESSION_WINDOW,
            session_ttl_ms: caps::DEFAULT_SESSION_TTL_MS,
            max_leases: 100_000,
            min_lease_ttl_ms: 500,
            max_lease_ttl_ms: DAY_MS,
            max_key_ttl_ms: 3650 * DAY_MS,
        }
    }
}

impl Limits {
    /// Everything that is wrong with these limits, one sentence each, beginning with the field's name.
    pub fn problems(&self) -> Vec<String> {
        let bounded = [
            ("max_key_bytes", self.max_key_bytes),
            ("max_value_bytes", self.max_value_bytes),
            ("max_batch_changes", self.max_batch_changes),
            ("max_batch_bytes", self.max_batch_bytes),
            ("max_reply_bytes", self.max_reply_bytes),
            ("max_store_bytes", self.max_store_bytes),
            ("max_sessions", self.max_sessions),
            ("session_window", self.session_window.into()),
            ("session_ttl_ms", self.session_ttl_ms),
            ("max_leases", self.max_leases),
        ];
        let shortest_lease = ("min_lease_ttl_ms", self.min_lease_ttl_ms, self.max_lease_ttl_ms);
        let mut problems: Vec<String> = bounded
            .into_iter()
            .map(|(name, value)| (name, value, caps::of(name)))
            .chain([shortest_lease])
            .filter(|(_, value, max)| *value == 0 || value > max)
            .map(|(name, value, max)| format!("{name} = {value} must be between 1 and {max}"))
            .collect();
        if self.max_batch_bytes < self.max_key_bytes.saturating_add(self.max_value_bytes) {
            problems.push(format!(
                "max_batch_bytes = {} must hold the largest single change, max_key_bytes + max_value_bytes",
                self.max_batch_bytes
            ));
        }
        problems
    }

    /// Checks a client's command before it is proposed, and fills in what this server's policy decides. What is
    /// returned is what belongs into the log.
    ///
    /// # Errors
    /// [`KvError::Limit`], within [`KvError::Batch`] when a change of a batch is at fault.
    pub fn admit(&self, mut command: Command, stats: &Stats) -> Result<Command, KvError> {
        let mut growth = 0;
        match &mut command {
            Command::Change(change) => growth = self.check_change(change)?,
            Command::Batch(changes) => growth = self.check_batch(changes)?,
            Command::OpenSession | Command::OpenSessionAs { .. } => {
                at_most("max_sessions", "sessions", self.max_sessions, stats.sessions + 1)?;
                command = Command::OpenSessionAs { ttl_ms: self.session_ttl_ms, window: self.session_window };
            }
            Command::GrantLease { ttl_ms } => self.admit_lease(ttl_ms, stats)?,
            Command::Claim { lock, owner, ttl_ms, .. } => {
                self.check_key(lock)?;
                self.check_key(owner)?;
                self.admit_lease(ttl_ms, stats)?;
                growth = (lock.len() + owner.len()) as u64 + RECORD_OVERHEAD;
            }
            Command::KeepAlive
            | Command::CloseSession
            | Command::RenewLease { .. }
            | Command::RevokeLease { .. }
            | Command::Advance => {}
        }
        if growth > 0 {
            let asked = stats.bytes.saturating_add(growth);
            at_most("max_store_bytes", "the store's bytes", self.max_store_bytes, asked)?;
        }
        Ok(command)
    }

    fn admit_lease(&self, ttl_ms: &mut u64, stats: &Stats) -> Result<(), KvError> {
        at_most("max_leases", "leases", self.max_leases, stats.leases + 1)?;
        at_most("max_lease_ttl_ms", "the lease's milliseconds", self.max_lease_ttl_ms, *ttl_ms)?;
        *ttl_ms = self.min_lease_ttl_ms.max(*ttl_ms);
        Ok(())
    }

    /// Checks a query and cuts its byte budget to what this server answers at once.
    ///
    /// # Errors
    /// [`KvError::Limit`] when a key is too long.
    pub fn admit_query(&self, mut query: Query) -> Result<Query, KvError> {
        match &mut query {
            Query::Get { key } | Query::Lock { lock: key } => self.check_key(key)?,
            Query::Turn { .. } => {}
            Query::Range { start, end, max_bytes, .. } => {
                self.check_key(start)?;
                self.check_key(end.as_deref().unwrap_or_default())?;
                *max_bytes = self.reply_bytes(*max_bytes);
            }
            Query::Prefix { prefix, after, max_bytes, .. } => {
                self.check_key(prefix)?;
                self.check_key(after.as_deref().unwrap_or_default())?;
                *max_bytes = self.reply_bytes(*max_bytes);
            }
        }
        Ok(query)
    }

    fn reply_bytes(&self, wished: u32) -> u32 {
        let most = u32::try_from(self.max_reply_bytes).unwrap_or(u32::MAX);
        if wished == 0 { most } else { wished.min(most) }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), KvError> {
        at_most("max_key_bytes", "the key's bytes", self.max_key_bytes, key.len() as u64)
    }

    /// Returns by how much the store may grow.
    fn check_change(&self, change: &Change) -> Result<u64, KvError> {
        self.check_key(change.key())?;
        if let Change::Put { lifetime: Lifetime::Ttl(ttl_ms), .. } = change {
            at_most("max_key_ttl_ms", "the key's milliseconds", self.max_key_ttl_ms, *ttl_ms)?;
        }
        let Some(value) = change.value() else { return Ok(0) };
        at_most("max_value_bytes", "the value's bytes", self.max_value_bytes, value.len() as u64)?;
        Ok((change.key().len() + value.len()) as u64 + RECORD_OVERHEAD)
    }

    fn check_batch(&self, changes: &[Change]) -> Result<u64, KvError> {
        at_most("max_batch_changes", "changes in the batch", self.max_batch_changes, changes.len() as u64)?;
        at_most("max_batch_bytes", "the batch's bytes", self.max_batch_bytes, batch_bytes(changes))?;
        let mut growth = 0;
        for (position, change) in changes.iter().enumerate() {
            growth += self.check_change(change).map_err(|error| at_position(position, error))?;
        }
        Ok(growth)
    }
}

/// Bytes of all keys and values of a batch.
pub(super) fn batch_bytes(changes: &[Change]) -> u64 {
    changes
        .iter()
        .map(|change| (change.key().len() + change.value().map_or(0, |value| value.len())) as u64)
        .sum()
}

/// The error of a batch because of one of its changes.
pub(super) fn at_position(position: usize, error: KvError) -> KvError {
    KvError::Batch { position: position as u32, error: Box::new(error) }
}

/// `Ok` unless `asked` is above `max`; the error names the limit.
pub(super) fn at_most(limit: &str, what: &str, max: u64, asked: u64) -> Result<(), KvError> {
    if asked <= max {
        return Ok(());
    }
    Err(KvError::Limit { limit: limit.to_owned(), what: what.to_owned(), max, asked })
}

#[cfg(test)]
mod tests;
