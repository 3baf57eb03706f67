//! A group of replicas with a network that holds every message until it is told what to do with it, and disks that
//! finish a write only when told so. Everything that happens is checked against the promises of Raft.

mod disk;
mod oracle;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate::logic::ids::{GroupId, Index, LogPosition, NodeId, Term};
use quorate::logic::raft::entry::SnapshotMeta;
use quorate::logic::raft::membership::Membership;
use quorate::logic::raft::message::Envelope;
use quorate::logic::raft::{Config, Input, Output, Raft, Restored, Role};

pub use disk::{Disk, Machine, State, Write};
pub use oracle::Oracle;

/// One node: what dies with the process, and what does not.
pub struct Node<S = Machine> {
    pub config: Config,
    pub raft: Option<Raft>,
    pub machine: S,
    /// Asked for, not on the disk yet.
    pub writing: VecDeque<Write<S>>,
    pub disk: Disk<S>,
    /// How often it was started.
    pub life: u32,
    /// Time that it has not been told of.
    pub elapsed: Duration,
    commit: Index,
}

/// The group.
pub struct Cluster<S = Machine> {
    pub nodes: BTreeMap<NodeId, Node<S>>,
    /// On their way, oldest first.
    pub network: VecDeque<Envelope>,
    pub oracle: Oracle,
    pub bootstrap: Membership,
    next_request: u64,
}

impl<S: State> Cluster<S> {
    /// Starts a node for each id of `nodes`. Those in `bootstrap` know of it, the others wait to be added.
    pub fn new(
        nodes: impl IntoIterator<Item = u64>,
        bootstrap: Membership,
        tune: impl Fn(&mut Config),
    ) -> Self {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            network: VecDeque::new(),
            oracle: Oracle::default(),
            bootstrap,
            next_request: 0,
        };
        for id in nodes {
            let mut config = Config::new(GroupId(1), NodeId(id), id);
            tune(&mut config);
            let node = Node {
                config,
                raft: None,
                machine: S::default(),
                writing: VecDeque::new(),
                disk: Disk::default(),
                life: 0,
                elapsed: Duration::ZERO,
                commit: 0,
            };
            cluster.nodes.insert(NodeId(id), node);
            cluster.start(NodeId(id), 0, None);
        }
        cluster
    }

    pub fn node(&self, id: NodeId) -> &Node<S> {
        &self.nodes[&id]
    }

    pub fn node_mut(&mut self, id: NodeId) -> &mut Node<S> {
        self.nodes.get_mut(&id).expect("the node exists")
    }

    pub fn is_up(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.raft.is_some())
    }

    /// The leader of the highest term.
    pub fn leader(&self) -> Option<NodeId> {
        let rafts = self.nodes.iter().filter_map(|(id, node)| Some((id, node.raft.as_ref()?)));
        let leaders = rafts.filter(|(_, raft)| raft.role() == Role::Leader);
        leaders.max_by_key(|(_, raft)| raft.term()).map(|(id, _)| *id)
    }

    /// A new number for a request.
    pub fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// Tells a node something. What it wants done is collected by [`Cluster::flush`].
    pub fn step(&mut self, id: NodeId, input: Input) {
        if let Some(raft) = &mut self.nodes.get_mut(&id).expect("the node exists").raft {
            if let Input::Read { id: read, .. } = &input {
                self.oracle.read_begins(*read);
            }
            raft.step(input);
        }
    }

    /// Takes the node's output, carries it out, checks it, and returns it.
    pub fn flush(&mut self, id: NodeId) -> Output {
        let node = self.nodes.get_mut(&id).expect("the node exists");
        let Some(raft) = &mut node.raft else { return Output::default() };
        let output = raft.ready();
        let done = output.clone();
        if let Some(persist) = output.persist {
            self.oracle.entries_written(raft, &persist);
            node.writing.push_back(Write::Persist(persist));
        }
        node.writing.extend(output.store_chunks.into_iter().map(Write::Chunk));
        for envelope in &output.send {
            self.oracle.promise_made(raft, &node.disk, envelope);
        }
        self.network.extend(output.send);
        if let Some(meta) = output.load {
            let (snapshot, machine) =
                node.disk.received.clone().expect("a received snapshot is to be loaded");
            assert_eq!(snapshot, meta, "another snapshot is to be loaded than was received");
            self.oracle.snapshot_loaded(&snapshot, machine.digest());
            node.machine = machine;
        }
        for entry in &output.committed {
            node.machine.apply(entry);
            self.oracle.applied(entry, node.machine.digest());
        }
        for (read, index) in &output.reads {
            self.oracle.read_answered(*read, *index);
        }
        if let Some(position) = output.compact {
            node.writing.push_back(Write::Compact(position));
        }
        for wanted in output.snapshot_wanted {
            let answer = match node.disk.read_chunk(wanted.snapshot, wanted.number) {
                Some((meta, data, last)) => {
                    Input::ChunkRead { to: wanted.to, meta, number: wanted.number, last, data }
                }
                // It was asked for before it was known how many there are.
                None if node.disk.has_snapshot(wanted.snapshot) => continue,
                None => Input::ChunkUnavailable { to: wanted.to, snapshot: wanted.snapshot },
            };
            raft.step(answer);
        }
        if let Some(change) = output.role {
            self.oracle.role_changed(raft, change, id, node.life);
        }
        let commit = raft.commit();
        assert!(commit >= node.commit, "{id}: the commit index went back from {} to {commit}", node.commit);
        node.commit = commit;
        if done.role.is_some() || !done.committed.is_empty() || !done.send.is_empty() {
            self.check_commit(id);
        }
        done
    }

    /// What a leader has committed is on a quorum of disks.
    fn check_commit(&mut self, id: NodeId) {
        let Some(raft) = &self.nodes[&id].raft else { return };
        let commit = raft.commit();
        if raft.role() == Role::Leader
            && commit > self.oracle.committed()
            && let Some(position) = raft.position(commit)
        {
            let has_it = |voter: &NodeId| self.nodes.get(voter).is_some_and(|node| node.disk.holds(position));
            let membership = raft.membership();
            for voters in [&membership.voters, &membership.outgoing] {
                let count = voters.iter().filter(|voter| has_it(voter)).count();
                assert!(
                    voters.is_empty() || count > voters.len() / 2,
                    "{id} committed {position}, which is on {count} disks of {voters:?}"
                );
            }
            self.oracle.commit_reached(commit);
        }
    }

    /// Lets the node's disk finish its next write; `false` if there is none. The node is told, not flushed.
    pub fn persist_one(&mut self, id: NodeId) -> bool {
        let node = self.nodes.get_mut(&id).expect("the node exists");
        let Some(write) = node.writing.pop_front() else { return false };
        if let (Some(input), Some(raft)) = (node.disk.write(write), &mut node.raft) {
            raft.step(input);
        }
        true
    }

    /// Begins to write a snapshot of what the node has applied.
    pub fn take_snapshot(&mut self, id: NodeId) -> Option<LogPosition> {
        let machine = self.node(id).machine.clone();
        self.write_snapshot(id, machine)
    }

    /// Begins to write a snapshot of this state, which the node had when it had applied so much.
    pub fn write_snapshot(&mut self, id: NodeId, machine: S) -> Option<LogPosition> {
        let node = self.nodes.get_mut(&id).expect("the node exists");
        let meta: SnapshotMeta = node.raft.as_ref()?.snapshot_meta(machine.applied())?;
        let position = meta.last;
        node.writing.push_back(Write::Snapshot(meta, machine));
        Some(position)
    }

    /// The process dies: what was not written is lost.
    pub fn crash(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        node.raft = None;
        node.writing.clear();
        node.machine = S::default();
    }

    /// The process starts again.
    pub fn restart(&mut self, id: NodeId) {
        self.crash(id);
        let machine = self.node(id).disk.snapshot.as_ref().map(|(_, machine)| machine.clone());
        self.node_mut(id).machine = machine.unwrap_or_default();
        self.start(id, 0, None);
    }

    /// Only the replica is rebuilt: the disk finishes its writes, and the state machine lives on.
    pub fn rebuild(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        let led = node.raft.as_ref().filter(|raft| raft.role() == Role::Leader).map(Raft::term);
        node.raft = None;
        while self.persist_one(id) {}
        let applied = self.node(id).machine.applied();
        self.start(id, applied, led);
        if self.node(id).disk.hard_state.vote == Some(id) {
            self.step(id, Input::Campaign);
        }
    }

    fn start(&mut self, id: NodeId, applied: Index, led: Option<Term>) {
        let knows = self.bootstrap.voters.contains(&id) || self.bootstrap.learners.contains(&id);
        let bootstrap = if knows { self.bootstrap.clone() } else { Membership::default() };
        let node = self.nodes.get_mut(&id).expect("the node exists");
        node.life += 1;
        node.commit = 0;
        node.elapsed = Duration::ZERO;
        node.disk.incoming = None;
        let restored = Restored {
            hard_state: node.disk.hard_state,
            snapshot: node.disk.snapshot.as_ref().map(|(meta, _)| meta.clone()),
            entries: node.disk.entries.clone(),
            applied,
            bootstrap,
            led,
        };
        let mut config = node.config.clone();
        config.seed = config.seed.wrapping_add(u64::from(node.life) << 32);
        node.raft = Some(Raft::new(config, restored).expect("what was written can be restored"));
    }
}

/// A command of the test machine.
pub fn command(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
