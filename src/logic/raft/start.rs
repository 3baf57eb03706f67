//! Starting a replica from what its disk holds.

use std::time::Duration;

use thiserror::Error;

use super::config::Config;
use super::durability::Disk;
use super::entry::{Entry, HardState, Payload, SnapshotMeta};
use super::input::Restored;
use super::log::Log;
use super::membership_change::History;
use super::output::{Output, Role, RoleChange};
use super::replica::{LIMIT, Raft, State};
use crate::logic::ids::LogPosition;

/// Why a replica cannot start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// The configuration breaks rules.
    #[error("invalid configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// What was found on disk does not fit together.
    #[error("the restored state is inconsistent: {0}")]
    Restored(String),
}

impl Raft {
    /// A replica as it was before it stopped. It starts as a follower.
    ///
    /// # Errors
    /// When the configuration breaks a rule or the restored parts do not fit together.
    pub fn new(config: Config, restored: Restored) -> Result<Self, StartError> {
        config.validate().map_err(StartError::Config)?;
        let Restored { mut hard_state, snapshot, entries, applied, bootstrap, led } = restored;
        let (base, entries, misfit) =
            fit_log(snapshot.as_ref(), entries).map_err(|text| StartError::Restored(text.into()))?;
        // What is committed may be applied, and a snapshot of that be durable, before this disk has the term. Then no
        // promise was given in that term.
        let outran = snapshot.as_ref().is_some_and(|meta| meta.last.term > hard_state.term);
        if let Some(meta) = snapshot.as_ref().filter(|_| outran) {
            hard_state = HardState { term: meta.last.term, vote: None };
        }
        let last_term = entries.last().map_or(base.term, |entry| entry.term);
        if last_term > hard_state.term || hard_state.term > LIMIT {
            let text = format!("the log ends in term {last_term}, but the term is {}", hard_state.term);
            return Err(StartError::Restored(text));
        }
        let mut history = match &snapshot {
            Some(meta) => History::new(meta.last.index, meta.membership.clone()),
            None => History::new(0, bootstrap),
        };
        for entry in &entries {
            if let Payload::Membership(membership) = &entry.payload
                && entry.index > history.since()
            {
                history.append(entry.index, membership.clone());
            }
        }
        let snapshot_index = snapshot.as_ref().map_or(0, |meta| meta.last.index);
        let applied = if mutant!(AppliesAgainAfterRestart) { 0 } else { applied };
        let applied = applied.max(snapshot_index);
        // A lease may rest on a reply that this replica gave just before it was restarted. None does where no term was
        // durable, or where it led itself: its own lease ended with it.
        let may_have_echoed = config.lease.is_some() && hard_state.term > 0 && led != Some(hard_state.term);
        let mut raft = Raft {
            rng: fastrand::Rng::with_seed(config.seed),
            now: Duration::ZERO,
            clock_is_fresh: false,
            heard_at: (may_have_echoed && !mutant!(ForgetsLoyalty)).then_some(Duration::ZERO),
            heard_since_tick: false,
            hard_state,
            log: Log::new(base, entries, applied, applied),
            history,
            state: State::Follower,
            leader: None,
            election_at: Duration::ZERO,
            echoed: 0,
            matched: 0,
            incoming: None,
            transfers: 0,
            disk: Disk::new(outran, if misfit { snapshot.clone() } else { None }),
            snapshot,
            cut_later: false,
            output: Output::default(),
            reported: RoleChange { role: Role::Follower, term: hard_state.term, leader: None },
            config,
        };
        raft.reset_election_timer();
        // The process may have ended between a snapshot and the cut behind it. A log that is full gets no other one.
        if let Some(last) = raft.snapshot.as_ref().map(|meta| meta.last) {
            raft.cut(last.index);
        }
        Ok(raft)
    }
}

/// Checks a restored log against the snapshot. Returns the base, the entries behind it, and whether the stored log
/// does not fit and must be dropped (the process died between installing a snapshot and dropping the old log).
fn fit_log(
    snapshot: Option<&SnapshotMeta>,
    mut entries: Vec<Entry>,
) -> Result<(LogPosition, Vec<Entry>, bool), &'static str> {
    let consecutive =
        |pair: &[Entry]| pair[1].index.checked_sub(1) == Some(pair[0].index) && pair[1].term >= pair[0].term;
    if entries.last().is_some_and(|entry| entry.index > LIMIT) || !entries.windows(2).all(consecutive) {
        return Err("the entries are not consecutive");
    }
    let snapshot = snapshot.map_or(LogPosition::default(), |meta| meta.last);
    let Some(first) = entries.first().map(Entry::position) else {
        return Ok((snapshot, entries, false));
    };
    if first.index > snapshot.index + 1 || first.index == 0 {
        return Err("entries are missing between the snapshot and the log");
    }
    let last = entries[entries.len() - 1].index;
    if first.index == snapshot.index + 1 {
        return if first.term < snapshot.term {
            Err("the log goes on in a lower term than the snapshot ends")
        } else {
            Ok((snapshot, entries, false))
        };
    }
    if last < snapshot.index || entries[(snapshot.index - first.index) as usize].term != snapshot.term {
        return Ok((snapshot, Vec::new(), true));
    }
    // The term before the first entry is not known, so the first entry serves as the base.
    entries.remove(0);
    Ok((first, entries, false))
}
