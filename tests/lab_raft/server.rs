//! The lab's Raft interface over the real core: start, state, snapshot, apply.
//!
//! # Indexes
//! A new leader of Quorate appends a no-op, which takes an index; the lab knows commands only. So the index that a
//! scenario sees is the number of commands up to there: the first command has index 1, whatever no-ops came before.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use quorate::logic::ids::Index;
use quorate::logic::raft::Output;
use quorate::logic::raft::entry::{Entry, Payload};

use crate::raft_cluster::{Machine, Node, State};

/// A command of a scenario.
pub type Value = Bytes;

/// The service above Raft: it keeps every command, and takes a snapshot after every tenth.
#[derive(Clone, Default)]
pub struct Service {
    /// Command 1, 2, ...
    pub values: Vec<Value>,
    machine: Machine,
    pub snapshots: bool,
    /// Snapshots that the service took from inside the loop that applies, not yet given to Raft.
    pub frozen: Vec<Service>,
}

impl State for Service {
    const CHUNK_BYTES: usize = 512;

    fn apply(&mut self, entry: &Entry) {
        self.machine.apply(entry);
        if let Payload::Command(value) = &entry.payload {
            self.values.push(value.clone());
            if self.snapshots && (self.values.len() + 1).is_multiple_of(10) {
                let copy = Service { frozen: Vec::new(), ..self.clone() };
                self.frozen.push(copy);
            }
        }
    }

    fn applied(&self) -> Index {
        self.machine.applied()
    }

    fn digest(&self) -> u64 {
        self.machine.digest()
    }

    fn bytes(&self) -> Vec<u8> {
        let machine = Bytes::from(self.machine.bytes());
        rmp_serde::to_vec(&(machine, &self.values)).expect("values can be encoded")
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (machine, values): (Bytes, Vec<Value>) =
            rmp_serde::from_slice(bytes).expect("a snapshot holds what was written");
        Service { values, machine: Machine::from_bytes(&machine), snapshots: true, frozen: Vec::new() }
    }
}

/// What the tester knows of a server.
#[derive(Default)]
pub struct Server {
    /// When its core was last told the time.
    pub told: Duration,
    /// When its core wants to be told again.
    pub timer: Option<Duration>,
    /// So many writes are being synced.
    pub syncing: usize,
    /// The command at each lab index that this server has applied, or knows from a snapshot.
    pub record: Vec<Value>,
    /// Up to here it has applied in this life.
    pub applied: usize,
    /// Where the log begins, counted in entries and in commands...
    base: (Index, usize),
    /// ...and the entries behind it that carry no command.
    silent: BTreeSet<Index>,
}

impl Server {
    /// It was just started with what its disk holds. A snapshot is taken in before Raft is heard.
    pub fn started(&mut self, node: &Node<Service>, now: Duration) {
        self.told = now;
        self.syncing = 0;
        self.rebase(&node.machine);
        self.note(&node.disk.entries);
        self.take_in(&node.machine);
    }

    fn rebase(&mut self, service: &Service) {
        self.base = (service.applied(), service.values.len());
        self.silent.clear();
    }

    fn note(&mut self, entries: &[Entry]) {
        let silent = entries.iter().filter(|entry| !matches!(entry.payload, Payload::Command(_)));
        self.silent.extend(silent.map(|entry| entry.index).filter(|index| *index > self.base.0));
    }

    /// The lab's index of a command.
    pub fn lab_index(&self, index: Index) -> usize {
        let entries = (index - self.base.0) as usize;
        self.base.1 + entries - self.silent.range(..=index).count()
    }

    /// Keeps up with what the log holds.
    pub fn follow_log(&mut self, output: &Output, node: &Node<Service>) {
        if output.load.is_some() {
            let (_, service) = node.disk.received.as_ref().expect("a snapshot was received");
            self.rebase(service);
            self.take_in(service);
        }
        let Some(persist) = &output.persist else { return };
        if let Some(first) = persist.entries.first() {
            self.silent.split_off(&first.index);
        }
        self.note(&persist.entries);
    }

    fn take_in(&mut self, service: &Service) {
        let shared = self.record.len().min(service.values.len());
        assert_eq!(
            self.record[..shared],
            service.values[..shared],
            "a snapshot differs from what was applied"
        );
        if service.values.len() > shared {
            self.record = service.values.clone();
        }
        self.applied = service.values.len();
    }

    /// Hears what was applied: each command once, in order, and never another than before.
    pub fn deliver(&mut self, output: &Output, service: &Service) {
        for entry in &output.committed {
            let Payload::Command(value) = &entry.payload else { continue };
            self.applied += 1;
            assert_eq!(
                self.lab_index(entry.index),
                self.applied,
                "commands are applied one by one, in order"
            );
            match self.record.get(self.applied - 1) {
                Some(known) => {
                    assert_eq!(known, value, "another command is applied again at {}", self.applied)
                }
                None => self.record.push(value.clone()),
            }
        }
        assert_eq!(self.applied, service.values.len(), "the service has applied what was delivered");
    }
}
