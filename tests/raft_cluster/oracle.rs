//! The promises of Raft (paper, figure 3), and those about disks and reads, checked as things happen.

use std::collections::{BTreeMap, HashMap};

use quorate::logic::ids::{Index, NodeId, Term};
use quorate::logic::raft::entry::{Entry, Payload, SnapshotMeta};
use quorate::logic::raft::message::{AppendOutcome, Envelope, Message};
use quorate::logic::raft::{Persist, Raft, Role, RoleChange};

use super::disk::{Disk, State};

/// What is known to have happened.
#[derive(Default)]
pub struct Oracle {
    /// Who led in a term, in which life.
    leaders: BTreeMap<Term, (NodeId, u32)>,
    /// Every entry that was ever written: its payload and the term of the entry before it.
    written: HashMap<(Index, Term), (Payload, Term)>,
    /// What was applied at index 1, 2, ...: the term, and the state after it.
    applied: Vec<(Term, u64)>,
    /// Highest index that a leader has committed.
    committed: Index,
    /// For each read under way, what had been committed before it began.
    reads: HashMap<u64, Index>,
}

impl Oracle {
    /// Election safety and leader completeness.
    pub fn role_changed(&mut self, raft: &Raft, change: RoleChange, node: NodeId, life: u32) {
        if change.role != Role::Leader {
            return;
        }
        let first = *self.leaders.entry(change.term).or_insert((node, life));
        assert_eq!(first, (node, life), "two leaders in term {}", change.term);
        let Some((term, _)) = self.applied.last() else { return };
        let index = self.applied.len() as Index;
        let base = raft.status().base.index;
        let has_it = index < base || raft.position(index).is_some_and(|position| position.term == *term);
        assert!(has_it, "{node} leads in term {} without the committed entry {index}@{term}", change.term);
    }

    /// Log matching: an entry of the same index and term has the same content and the same past, everywhere.
    pub fn entries_written(&mut self, raft: &Raft, persist: &Persist) {
        let Some(first) = persist.entries.first() else { return };
        let before = raft.position(first.index - 1).expect("the entry before is in the log, or is its base");
        let mut past = before.term;
        for entry in &persist.entries {
            let known =
                self.written.entry((entry.index, entry.term)).or_insert((entry.payload.clone(), past));
            assert_eq!(
                (&known.0, known.1),
                (&entry.payload, past),
                "two logs differ at {}",
                entry.position()
            );
            past = entry.term;
        }
    }

    /// Nothing that promises durability leaves before the disk has it.
    pub fn promise_made<S: State>(&self, raft: &Raft, disk: &Disk<S>, envelope: &Envelope) {
        let Envelope { term, to, from, body, .. } = envelope;
        let voted_for = |candidate| {
            let stored = disk.hard_state;
            stored.term > *term || (stored.term == *term && stored.vote == Some(candidate))
        };
        match body {
            Message::VoteReply { pre: false, granted: true } => {
                assert!(voted_for(*to), "{from} votes for {to} in term {term} before that is on its disk");
            }
            Message::RequestVote { pre: false, .. } => {
                assert!(voted_for(*from), "{from} campaigns in term {term} before that is on its disk");
            }
            Message::AppendReply { outcome: AppendOutcome::Accepted { matched }, .. } if *matched > 0 => {
                assert!(
                    disk.hard_state.term >= *term,
                    "{from} acknowledges in a term that is not on its disk"
                );
                if *term == raft.term()
                    && let Some(position) = raft.position(*matched)
                {
                    assert!(disk.holds(position), "{from} acknowledges {position} before its disk has it");
                }
            }
            Message::SnapshotReply { last, installed: true, .. } if *term == raft.term() => {
                assert!(disk.holds(*last), "{from} has the snapshot {last} before its disk has it");
            }
            _ => {}
        }
    }

    /// State machine safety.
    pub fn applied(&mut self, entry: &Entry, digest: u64) {
        let at = entry.index as usize - 1;
        assert!(at <= self.applied.len(), "entry {} is applied before all earlier ones", entry.position());
        if at == self.applied.len() {
            self.applied.push((entry.term, digest));
        }
        assert_eq!(
            self.applied[at],
            (entry.term, digest),
            "two different entries are applied at index {}",
            entry.index
        );
    }

    /// A snapshot holds the same state as applying would have given.
    pub fn snapshot_loaded(&self, meta: &SnapshotMeta, digest: u64) {
        let known = self.applied.get(meta.last.index as usize - 1);
        assert_eq!(known, Some(&(meta.last.term, digest)), "the snapshot {} is wrong", meta.last);
    }

    pub fn committed(&self) -> Index {
        self.committed
    }

    pub fn commit_reached(&mut self, index: Index) {
        self.committed = self.committed.max(index);
    }

    /// A read must see everything that was committed, hence possibly acknowledged, before it began.
    pub fn read_begins(&mut self, read: u64) {
        self.reads.insert(read, self.committed.max(self.applied.len() as Index));
    }

    pub fn read_answered(&mut self, read: u64, index: Index) {
        let floor = self.reads.remove(&read).expect("a read is answered once");
        assert!(index >= floor, "read {read} sees {index}, but {floor} was committed before it began");
    }
}
