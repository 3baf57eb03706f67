//! What the course's tester can do with a group: faults, offers, looks, and the checks made of them.

use std::time::Duration;

use bytes::Bytes;
use quorate::logic::ids::Term;
use quorate::logic::raft::entry::Entry;
use quorate::logic::raft::{Input, Role};
use serde::Serialize;

use crate::server::Value;
use crate::tasks::Lab;
use crate::world::node;

/// The time after which an election has certainly had time to finish, in milliseconds.
pub const E: u64 = 1000;

/// Which course a scenario is of: they restart servers differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// A restarted server comes back disconnected.
    Y2022,
    /// A restart connects all servers again, even those that were cut off on purpose.
    Y2025,
}

/// A command that is a number.
pub fn number(value: u64) -> Value {
    Bytes::copy_from_slice(&value.to_le_bytes())
}

/// Faults, and the network.
impl Lab {
    pub fn servers(&self) -> usize {
        self.with(|world| world.servers.len())
    }

    pub fn is_up(&self, at: usize) -> bool {
        self.with(|world| world.is_up(at))
    }

    pub fn is_connected(&self, at: usize) -> bool {
        self.with(|world| world.network.connected[at])
    }

    pub fn cut(&self, at: usize) {
        self.with(|world| world.network.connected[at] = false);
    }

    pub fn join(&self, at: usize) {
        self.with(|world| world.network.connected[at] = true);
    }

    /// Server `from`, `from + 1`, ... around the ring.
    pub fn ring(&self, from: usize, offsets: impl IntoIterator<Item = usize>) -> Vec<usize> {
        offsets.into_iter().map(|offset| (from + offset) % self.servers()).collect()
    }

    pub fn crash(&self, at: usize) {
        self.cut(at);
        self.with(|world| world.crash(at));
    }

    /// Starts a server from its disk, crashing it first if it runs, and connects it.
    pub fn restart(&self, at: usize, course: Course) {
        self.with(|world| {
            if course == Course::Y2025 {
                world.servers[at].record.clear();
                world.network.connected.fill(true);
            }
            world.crash(at);
            world.restart(at);
        });
        self.join(at);
    }

    pub fn set_reliable(&self, reliable: bool) {
        self.with(|world| world.network.reliable = reliable);
    }

    /// A random number below `bound`.
    pub fn random(&self, bound: u64) -> u64 {
        self.with(|world| world.rng.u64(0..bound))
    }

    /// A random command.
    pub fn any_value(&self) -> Value {
        number(self.random(1 << 63))
    }
}

/// Raft's interface.
impl Lab {
    /// Offers a command to a server: its index and term, if the server leads.
    pub fn start(&self, at: usize, value: &Value) -> Option<(usize, Term)> {
        self.with(|world| {
            let id = world.cluster.request();
            let output = world.tell(at, Some(Input::Propose { id, command: value.clone() }));
            let (_, position) = output.accepted.into_iter().find(|(accepted, _)| *accepted == id)?;
            Some((world.servers[at].lab_index(position.index), position.term))
        })
    }

    /// Its term, and whether it believes to lead.
    pub fn state(&self, at: usize) -> Option<(Term, bool)> {
        self.with(|world| {
            let raft = world.cluster.node(node(at)).raft.as_ref()?;
            Some((raft.term(), raft.role() == Role::Leader))
        })
    }

    /// Bytes that the server with the most of them has stored, without its snapshot: the lab's raft state.
    pub fn log_size(&self) -> usize {
        fn encoded(value: &impl Serialize) -> usize {
            rmp_serde::to_vec(value).expect("what is stored can be encoded").len()
        }
        self.with(|world| {
            let disks = world.cluster.nodes.values().map(|node| &node.disk);
            let size = |entry: &Entry| encoded(entry);
            let sizes =
                disks.map(|disk| encoded(&disk.hard_state) + disk.entries.iter().map(size).sum::<usize>());
            sizes.max().unwrap_or_default()
        })
    }
}

/// Looks and checks.
impl Lab {
    /// Waits about five seconds at most for a leader among the connected servers, and returns that of the highest term.
    pub async fn leader(&self) -> usize {
        for _ in 0..10 {
            self.sleep(450 + self.random(100)).await;
            let connected = (0..self.servers()).filter(|at| self.is_connected(*at));
            let mut leaders: Vec<(Term, usize)> = connected
                .filter_map(|at| self.state(at).filter(|(_, leads)| *leads).map(|(term, _)| (term, at)))
                .collect();
            leaders.sort_unstable();
            assert!(
                leaders.windows(2).all(|pair| pair[0].0 != pair[1].0),
                "two leaders in a term: {leaders:?}"
            );
            if let Some((_, leader)) = leaders.last() {
                return *leader;
            }
        }
        panic!("expected a leader within ten looks, but there is none");
    }

    /// The term of all connected servers.
    pub fn terms(&self) -> Term {
        let connected = (0..self.servers()).filter(|at| self.is_connected(*at));
        let terms: Vec<Term> = connected.filter_map(|at| Some(self.state(at)?.0)).collect();
        assert!(terms.windows(2).all(|pair| pair[0] == pair[1]), "connected servers are in terms {terms:?}");
        *terms.first().expect("a server is connected")
    }

    /// No connected server may claim to lead.
    pub fn no_leader(&self) {
        for at in (0..self.servers()).filter(|at| self.is_connected(*at)) {
            let leads = self.state(at).is_some_and(|(_, leads)| leads);
            assert!(!leads, "expected no leader, but server {at} claims to lead");
        }
    }

    /// How many servers have applied a command at `index`, and which. Any two must have applied the same.
    pub fn committed(&self, index: usize) -> (usize, Option<Value>) {
        self.with(|world| {
            let mut found = world.servers.iter().filter_map(|server| server.record.get(index - 1));
            let Some(first) = found.next() else { return (0, None) };
            let mut count = 1;
            for other in found {
                assert_eq!(first, other, "servers have applied different commands at index {index}");
                count += 1;
            }
            (count, Some(first.clone()))
        })
    }

    pub fn no_agreement(&self, index: usize) {
        let (count, _) = self.committed(index);
        assert_eq!(count, 0, "{count} servers have applied index {index} without a majority");
    }

    /// Offers the command until `count` servers have applied it; the offer is repeated if it is lost.
    pub async fn agree(&self, value: &Value, count: usize) -> usize {
        self.agreement(value, count, true).await
    }

    /// The same, but the first offer that is accepted must do.
    pub async fn agree_at_once(&self, value: &Value, count: usize) -> usize {
        self.agreement(value, count, false).await
    }

    async fn agreement(&self, value: &Value, count: usize, retry: bool) -> usize {
        let give_up = self.now() + Duration::from_secs(10);
        let mut at = 0;
        while self.now() < give_up {
            let accepted = (0..self.servers()).find_map(|_| {
                at = (at + 1) % self.servers();
                if self.is_connected(at) { self.start(at, value) } else { None }
            });
            let Some((index, _)) = accepted else {
                self.sleep(50).await;
                continue;
            };
            let patience = self.now() + Duration::from_secs(2);
            while self.now() < patience {
                let (applied, what) = self.committed(index);
                if applied >= count && what.as_ref() == Some(value) {
                    return index;
                }
                self.sleep(20).await;
            }
            assert!(
                retry,
                "{count} servers have not agreed within 2 s on what was accepted at index {index}"
            );
        }
        panic!("{count} servers have not come to agree within 10 s");
    }

    /// Waits about 31 s at most until `count` servers have applied `index`. `None` if a server has left `term` before.
    pub async fn wait(&self, index: usize, count: usize, term: Option<Term>) -> Option<Value> {
        let mut pause = 10;
        for _ in 0..30 {
            if self.committed(index).0 >= count {
                break;
            }
            self.sleep(pause).await;
            pause = (pause * 2).min(1280);
            let has_moved_on =
                |at| self.state(at).is_some_and(|(now, _)| term.is_some_and(|term| now > term));
            if (0..self.servers()).any(has_moved_on) {
                return None;
            }
        }
        let (applied, value) = self.committed(index);
        assert!(applied >= count, "only {applied} of {count} servers have applied index {index}");
        value
    }
}
