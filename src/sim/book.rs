//! What has been seen of every replica of a group: the invariants look it up here.

use std::collections::{BTreeMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use crate::actors::tap::Seen;
use crate::logic::ids::{Index, LogPosition, NodeId, Term};
use crate::logic::raft::entry::{Entry, HardState, Payload};
use crate::logic::raft::{Output, Persist, Restored, Role};

/// An entry without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMark {
    /// Its term.
    pub term: Term,
    /// A digest of what it asks for.
    pub digest: u64,
}

impl EntryMark {
    /// Of an entry.
    pub fn of(entry: &Entry) -> EntryMark {
        let digest = match &entry.payload {
            Payload::Noop => 1,
            Payload::Command(command) => xxh3_64(command),
            Payload::Membership(membership) => xxh3_64(&membership.to_bytes()),
        };
        EntryMark { term: entry.term, digest }
    }
}

/// A log, and term and vote.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    /// Term and vote.
    pub hard_state: HardState,
    /// The snapshot that stands for everything up to there.
    pub base: LogPosition,
    /// The entries, those that the snapshot stands for included as far as they were seen.
    pub entries: BTreeMap<Index, EntryMark>,
}

impl Shadow {
    fn of(restored: &Restored) -> Shadow {
        Shadow {
            hard_state: restored.hard_state,
            base: restored.snapshot.as_ref().map_or(LogPosition::default(), |meta| meta.last),
            entries: restored.entries.iter().map(|entry| (entry.index, EntryMark::of(entry))).collect(),
        }
    }

    /// Applies a write.
    pub fn write(&mut self, change: &Change) {
        if let Some(last) = change.install {
            if self.entries.get(&last.index).is_none_or(|entry| entry.term != last.term) {
                self.entries.clear();
            }
            self.base = last;
        }
        if let Some(hard_state) = change.hard_state {
            self.hard_state = hard_state;
        }
        if let Some((first, _)) = change.entries.first() {
            self.entries.split_off(first);
            self.entries.extend(change.entries.iter().copied());
        }
    }

    /// Whether it holds the entry, or a snapshot that stands for it.
    pub fn holds(&self, index: Index, term: Term) -> bool {
        index <= self.base.index || self.entries.get(&index).is_some_and(|entry| entry.term == term)
    }

    /// The term of the entry at `index`, as far as that is known.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entries.get(&index).map(|entry| entry.term)
    }
}

/// One write to the disk.
#[derive(Clone, Debug)]
pub struct Change {
    ticket: u64,
    install: Option<LogPosition>,
    hard_state: Option<HardState>,
    /// The entries appended.
    pub entries: Vec<(Index, EntryMark)>,
}

impl Change {
    fn of(persist: &Persist) -> Change {
        Change {
            ticket: persist.ticket,
            install: persist.snapshot.as_ref().map(|meta| meta.last),
            hard_state: persist.hard_state,
            entries: persist.entries.iter().map(|entry| (entry.index, EntryMark::of(entry))).collect(),
        }
    }
}

/// A replica.
#[derive(Debug, Default)]
pub struct Replica {
    /// What it has in memory.
    pub log: Shadow,
    /// What it was told to be durable.
    pub durable: Shadow,
    /// What it has asked to be made durable since.
    pub pending: VecDeque<Change>,
    /// What it had asked for in the step that is being looked at.
    pub latest: Option<Change>,
    /// What was durable, and what pending, when its life before this one ended; until the first step.
    pub before: Option<(Shadow, VecDeque<Change>)>,
    /// What it is.
    pub role: Option<Role>,
    /// Its term.
    pub term: Term,
    /// Whom it follows.
    pub leader: Option<NodeId>,
    /// Its commit index.
    pub commit: Index,
    /// What its store holds.
    pub applied: Index,
}

impl Replica {
    fn start(&mut self, restored: &Restored) {
        let log = Shadow::of(restored);
        let was = std::mem::take(self);
        *self = Replica {
            durable: log.clone(),
            before: Some((was.durable, was.pending)),
            role: Some(Role::Follower),
            term: restored.hard_state.term,
            log,
            applied: was.applied,
            ..Replica::default()
        };
    }

    fn step(&mut self, commit: Index, output: &Output) {
        self.before = None;
        self.commit = commit;
        self.latest = output.persist.as_ref().map(Change::of);
        if let Some(change) = &self.latest {
            self.log.write(change);
            self.pending.push_back(change.clone());
        }
        if let Some(change) = output.role {
            (self.role, self.term, self.leader) = (Some(change.role), change.term, change.leader);
        }
    }

    fn persisted(&mut self, ticket: u64) {
        while let Some(change) = self.pending.pop_front_if(|change| change.ticket <= ticket) {
            self.durable.write(&change);
        }
    }
}

/// All replicas of a group.
#[derive(Debug, Default)]
pub struct Book {
    /// The replicas.
    pub replicas: BTreeMap<NodeId, Replica>,
    /// Every committed entry.
    pub committed: BTreeMap<Index, EntryMark>,
    /// How many voters the group has.
    pub voters: usize,
}

impl Book {
    /// Of a group with so many voters.
    pub fn new(voters: usize) -> Book {
        Book { voters, ..Book::default() }
    }

    /// Notes what was seen.
    pub fn note(&mut self, node: NodeId, seen: &Seen<'_>) {
        let replica = self.replicas.entry(node).or_default();
        match seen {
            Seen::PeerStarts { restored, .. } => replica.start(restored),
            Seen::Output { commit, output } => replica.step(*commit, output),
            Seen::Durable { ticket } => replica.persisted(*ticket),
            Seen::Loaded { last, .. } => replica.applied = last.index,
            Seen::Applied { position, .. } => replica.applied = position.index,
        }
    }

    /// Notes that entries are committed; the invariants have looked at them.
    pub fn note_committed(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.committed.entry(entry.index).or_insert_with(|| EntryMark::of(entry));
        }
    }

    /// The process of a node has ended, whatever it was.
    pub fn note_down(&mut self, node: NodeId) {
        if let Some(replica) = self.replicas.get_mut(&node) {
            (replica.role, replica.leader) = (None, None);
        }
    }
}
