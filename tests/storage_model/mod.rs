//! What the log should hold, said as simply as possible; and random batches that follow from it.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod history;

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate::logic::ids::{GroupId, Index, LogPosition, NodeId};
use quorate::logic::raft::entry::{Entry, HardState, Payload, SnapshotMeta};
use quorate::logic::raft::membership::Membership;
use quorate::storage::{Batch, RecoveredGroup, SnapshotMark};

/// State of all groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model(pub BTreeMap<GroupId, RecoveredGroup>);

impl Model {
    /// What a log recovered; groups that were never changed do not count.
    pub fn of(mut groups: BTreeMap<GroupId, RecoveredGroup>) -> Model {
        groups.retain(|_, group| *group != RecoveredGroup::default());
        Model(groups)
    }

    /// The meaning of a batch.
    pub fn apply(&mut self, batch: &Batch) {
        let group = self.0.entry(batch.group).or_default();
        if let Some(hard_state) = batch.hard_state {
            group.hard_state = hard_state;
        }
        if let Some(mark) = &batch.snapshot {
            group.snapshot = Some(mark.clone());
        }
        if let Some(to) = batch.reset {
            let matches = to == group.compacted || group.entries.iter().any(|entry| entry.position() == to);
            group.entries.retain(|entry| matches && entry.index > to.index);
            group.compacted = to;
        }
        if let Some(first) = batch.entries.first() {
            group.entries.retain(|entry| entry.index < first.index);
            group.entries.extend(batch.entries.iter().cloned());
        }
        if let Some(to) = batch.compact_to.filter(|to| to.index > group.compacted.index) {
            group.entries.retain(|entry| entry.index > to.index);
            group.compacted = to;
        }
    }

    /// A batch that may follow.
    pub fn random_batch(&self, group: GroupId, rng: &mut fastrand::Rng) -> Batch {
        let default = RecoveredGroup::default();
        let state = self.0.get(&group).unwrap_or(&default);
        let mut batch = Batch::new(group);
        if rng.u8(0..8) == 0 {
            batch.hard_state = Some(next_hard_state(state.hard_state, rng));
        }
        match rng.u8(0..20) {
            0 => snapshot_and_compact(state, &mut batch, rng),
            1 => install(state, &mut batch, rng),
            2 => batch.snapshot = random_mark(state, group, rng),
            3 => batch.compact_to = state.snapshot.as_ref().map(|mark| mark.meta.last),
            _ => batch.entries = random_entries(state, rng),
        }
        if batch == Batch::new(group) {
            batch.entries = random_entries(state, rng);
        }
        batch
    }
}

fn next_hard_state(old: HardState, rng: &mut fastrand::Rng) -> HardState {
    let node = Some(NodeId(rng.u64(1..4)));
    match rng.u8(0..3) {
        0 if old.vote.is_none() => HardState { vote: node, ..old },
        1 => HardState { term: old.term + 1, vote: None },
        _ => HardState { term: old.term + 1, vote: node },
    }
}

fn position_of(state: &RecoveredGroup, index: Index) -> LogPosition {
    let found = state.entries.iter().find(|entry| entry.index == index);
    found.map_or(state.compacted, Entry::position)
}

fn random_mark(state: &RecoveredGroup, group: GroupId, rng: &mut fastrand::Rng) -> Option<SnapshotMark> {
    let index = rng.u64(state.compacted.index..=state.last().index);
    let last = position_of(state, index);
    let older = state.snapshot.as_ref().is_some_and(|mark| mark.meta.last.index > last.index);
    (last.index > 0 && !older).then(|| mark_at(last, group, rng))
}

fn mark_at(last: LogPosition, group: GroupId, rng: &mut fastrand::Rng) -> SnapshotMark {
    let membership = Membership::of_voters((1..=rng.u64(1..4)).map(NodeId));
    SnapshotMark {
        meta: SnapshotMeta { group, last, membership },
        name: format!("{last}"),
        digest: rng.u32(..),
    }
}

fn snapshot_and_compact(state: &RecoveredGroup, batch: &mut Batch, rng: &mut fastrand::Rng) {
    batch.snapshot = random_mark(state, batch.group, rng);
    batch.compact_to = batch
        .snapshot
        .as_ref()
        .map(|mark| position_of(state, rng.u64(state.compacted.index..=mark.meta.last.index)));
}

fn install(state: &RecoveredGroup, batch: &mut Batch, rng: &mut fastrand::Rng) {
    let covered = state.snapshot.as_ref().map_or(0, |mark| mark.meta.last.index).max(state.compacted.index);
    let index = covered + rng.u64(1..6);
    let mut to = LogPosition { index, term: state.last().term + rng.u64(0..2) };
    if rng.bool() && state.entries.iter().any(|entry| entry.index == index) {
        to = position_of(state, index);
    }
    batch.snapshot = Some(mark_at(to, batch.group, rng));
    batch.reset = Some(to);
}

fn random_entries(state: &RecoveredGroup, rng: &mut fastrand::Rng) -> Vec<Entry> {
    let (from, last) = (state.compacted.index + 1, state.last());
    // Never below the snapshot: what it covers is committed.
    let from =
        from.max(state.snapshot.as_ref().map_or(0, |mark| mark.meta.last.index) + 1).min(last.index + 1);
    let first = if rng.u8(0..6) == 0 { rng.u64(from..=last.index + 1) } else { last.index + 1 };
    let term = last.term + u64::from(first <= last.index || rng.u8(0..10) == 0);
    let count = if rng.u8(0..30) == 0 { 20 } else { rng.u64(1..4) };
    (first..first + count)
        .map(|index| {
            let payload = match rng.u8(0..20) {
                0 => Payload::Noop,
                1 => Payload::Membership(Membership::of_voters((1..=rng.u64(1..4)).map(NodeId))),
                _ => {
                    let length = if rng.u8(0..200) == 0 { 10_000 } else { rng.usize(0..300) };
                    Payload::Command(Bytes::from(vec![rng.u8(..); length]))
                }
            };
            Entry { index, term, payload }
        })
        .collect()
}
