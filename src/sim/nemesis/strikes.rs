//! What each kind of fault does, and how it ends.

use std::time::Duration;

use tokio::time::sleep;

use super::{ALL_OF_THEM, Nemesis};
use crate::logic::ids::NodeId;
use crate::net::faults::LinkFaults;
use crate::sim::faults::Fault;
use crate::sim::panics::ON_PURPOSE;
use crate::sim::trace::{Kind, Who};

const SECOND: Duration = Duration::from_secs(1);

impl Nemesis {
    pub(super) async fn strike(self, kind: Fault) {
        let node = self.any_node();
        match kind {
            Fault::Crash => self.go_down(self.victims(node), false, 0).await,
            Fault::Power => self.go_down(self.victims(node), true, 0).await,
            Fault::Torn => self.go_down(vec![node], true, 1 + self.draw(8)).await,
            Fault::Panic => self.panic(node),
            Fault::Hang => self.hang(node),
            Fault::Freeze => self.freeze(node).await,
            Fault::Partition => self.partition().await,
            Fault::OneWay => self.one_way().await,
            Fault::SlowLink => self.slow_link().await,
            Fault::Loss => self.packets("loses packets", 0, |f, share| f.set_drop_permille(share)).await,
            Fault::Duplicate => {
                self.packets("sends packets twice", 0, |f, share| f.set_duplicate_permille(share)).await;
            }
            Fault::Reorder => {
                self.packets("lets packets overtake", 1, |f, ms| f.set_scatter_ms(u64::from(ms))).await;
            }
            Fault::Reset => self.reset(),
            Fault::SlowDisk => self.slow_disk(node).await,
            Fault::FullDisk => self.full_disk(node).await,
            Fault::DiskError => self.disk_error(node),
            Fault::BitFlip => self.flip_bit(node).await,
            Fault::ClockLeap => self.leap(node),
            Fault::Transfer => self.transfer().await,
            Fault::ClockRate => {}
        }
    }

    /// Some node; the leader more often than others.
    fn any_node(&self) -> NodeId {
        let nodes = self.cluster().nodes();
        match self.cluster().leader() {
            Some(leader) if self.chance(0.3) => leader,
            _ => nodes[self.draw(nodes.len())],
        }
    }

    fn victims(&self, node: NodeId) -> Vec<NodeId> {
        if self.chance(ALL_OF_THEM) { self.cluster().nodes() } else { vec![node] }
    }

    fn fault(&self, text: impl FnOnce() -> String) {
        self.cluster().watch().note(Who::World, Kind::Fault, text);
    }

    fn healed(&self, text: impl FnOnce() -> String) {
        self.cluster().watch().note(Who::World, Kind::Heal, text);
    }

    /// Takes nodes down and starts them again. `calls`: after so many calls its disk takes no more, before the power
    /// is lost; 0: at once.
    async fn go_down(&self, nodes: Vec<NodeId>, power: bool, calls: usize) {
        let free =
            |node: &NodeId| !self.0.held.borrow().contains(node) && !self.0.lost.borrow().contains(node);
        let nodes: Vec<NodeId> = nodes.into_iter().filter(free).collect();
        self.0.held.borrow_mut().extend(nodes.iter().copied());
        if calls > 0 {
            for node in &nodes {
                self.cluster().machine(*node).log.stop_after(calls as u64);
            }
            sleep(self.time_up_to(Duration::from_millis(80))).await;
        }
        for node in &nodes {
            match power {
                true => {
                    self.fault(|| format!("{node} loses its power"));
                    self.cluster().lose_power(*node);
                }
                false => {
                    self.fault(|| format!("the process of {node} is killed"));
                    self.cluster().crash(*node);
                }
            }
        }
        for node in nodes {
            sleep(self.time_up_to(SECOND)).await;
            self.bring_up(node).await;
        }
    }

    /// Starts a node that was held down, some time later.
    async fn bring_up(&self, node: NodeId) {
        if !self.0.over.get() && self.chance(0.3) {
            sleep(self.time_up_to(5 * SECOND)).await;
        }
        self.0.held.borrow_mut().remove(&node);
        self.start(node);
    }

    fn panic(&self, node: NodeId) {
        let Some(registry) = self.cluster().registry(node) else { return };
        let actors = registry.actors();
        if actors.is_empty() {
            return;
        }
        let path = &actors[self.draw(actors.len())];
        self.fault(|| format!("{path} of {node} panics"));
        // It may have ended just now.
        let _ = registry.crash(path, ON_PURPOSE);
    }

    fn hang(&self, node: NodeId) {
        let Some(registry) = self.cluster().registry(node) else { return };
        let actors = registry.actors();
        if actors.is_empty() {
            return;
        }
        let path = &actors[self.draw(actors.len())];
        let time = self.time_up_to([SECOND, 15 * SECOND][self.draw(2)]);
        self.fault(|| format!("{path} of {node} does nothing for {time:?}"));
        let _ = registry.stall(path, time);
    }

    async fn freeze(&self, node: NodeId) {
        let time = self.time_up_to([SECOND / 2, 6 * SECOND][self.draw(2)]);
        self.fault(|| format!("the process of {node} stands still for {time:?}"));
        self.cluster().freeze(node, true);
        sleep(time).await;
        self.cluster().freeze(node, false);
    }

    async fn partition(&self) {
        let mut nodes = self.cluster().nodes();
        let one: Vec<NodeId> = match self.cluster().leader() {
            Some(leader) if self.chance(0.4) => vec![leader],
            _ => {
                self.0.random.borrow_mut().shuffle(&mut nodes);
                nodes[..1 + self.draw(nodes.len() - 1)].to_vec()
            }
        };
        let other: Vec<NodeId> = self.cluster().nodes().into_iter().filter(|n| !one.contains(n)).collect();
        self.fault(|| format!("{} are parted from {}", list(&one), list(&other)));
        self.cluster().partition(&one, &other, true);
        sleep(self.time_up_to(8 * SECOND)).await;
        self.cluster().partition(&one, &other, false);
        self.healed(|| format!("{} and {} are joined", list(&one), list(&other)));
    }

    fn two_nodes(&self) -> (NodeId, NodeId) {
        let mut nodes = self.cluster().nodes();
        self.0.random.borrow_mut().shuffle(&mut nodes);
        (nodes[0], nodes[1])
    }

    async fn one_way(&self) {
        let (from, to) = self.two_nodes();
        self.fault(|| format!("nothing gets from {from} to {to}"));
        self.cluster().cut(from, to, true);
        sleep(self.time_up_to(6 * SECOND)).await;
        self.cluster().cut(from, to, false);
        self.healed(|| format!("the way from {from} to {to} is open"));
    }

    async fn slow_link(&self) {
        let (one, other) = self.two_nodes();
        let most = self.time_up_to(Duration::from_millis([20, 300][self.draw(2)]));
        self.fault(|| format!("everything from {one} to {other} and back takes up to {most:?}"));
        self.cluster().delay(one, other, Duration::ZERO..=most);
        self.cluster().delay(other, one, Duration::ZERO..=most);
        sleep(self.time_up_to(8 * SECOND)).await;
        self.cluster().delay(one, other, Duration::ZERO..=Duration::ZERO);
        self.cluster().delay(other, one, Duration::ZERO..=Duration::ZERO);
        self.healed(|| format!("{one} and {other} are near each other"));
    }

    /// Something happens to the Raft packets of a node.
    async fn packets(&self, what: &str, kind: usize, set: impl Fn(&LinkFaults, u16)) {
        let from = self.any_node();
        let strength = [[20, 200, 600], [3, 20, 150]][kind][self.draw(3)];
        let unit = ["permille", "ms"][kind];
        self.fault(|| format!("{from} {what} ({strength} {unit})"));
        let all = |strength: u16| {
            for to in self.cluster().nodes() {
                if let Some(faults) = self.cluster().link_faults(from, to) {
                    set(&faults, strength);
                }
            }
        };
        all(strength);
        sleep(self.time_up_to(8 * SECOND)).await;
        all(0);
        self.healed(|| format!("{from} no longer {what}"));
    }

    fn reset(&self) {
        let (one, other) = self.two_nodes();
        self.fault(|| format!("the connections of {one} and {other} break"));
        self.cluster().network().break_connections(&one.to_string(), &other.to_string());
    }

    async fn slow_disk(&self, node: NodeId) {
        let longest = Duration::from_millis([20, 100, 1500][self.draw(3)]);
        self.fault(|| format!("the disk of {node} takes up to {longest:?}"));
        self.cluster().machine(node).pace.set_longest(longest);
        sleep(self.time_up_to(8 * SECOND)).await;
        self.restore_disk(node);
        self.healed(|| format!("the disk of {node} is fast again"));
    }

    async fn full_disk(&self, node: NodeId) {
        let room = self.draw(60_000) as u64;
        self.fault(|| format!("the disk of {node} is full after {room} bytes"));
        let machine = self.cluster().machine(node);
        machine.log.limit_space(room);
        machine.snapshots.limit_space(room);
        sleep(self.time_up_to(8 * SECOND)).await;
        self.restore_disk(node);
        self.healed(|| format!("the disk of {node} has room again"));
    }

    pub(super) fn restore_disk(&self, node: NodeId) {
        let machine = self.cluster().machine(node);
        machine.pace.set_longest(Duration::from_millis(2));
        machine.log.unlimit_space();
        machine.snapshots.unlimit_space();
    }

    fn disk_error(&self, node: NodeId) {
        let calls = self.draw(6) as u32;
        let (sync, snapshots) = (self.chance(0.5), self.chance(0.2));
        let machine = self.cluster().machine(node);
        let disk = if snapshots { &machine.snapshots } else { &machine.log };
        match sync {
            true => disk.fail_sync_in(calls),
            false => disk.fail_write_in(calls),
        }
        let call = if sync { "sync" } else { "write" };
        let of = if snapshots { "snapshots" } else { "log" };
        self.fault(|| format!("a {call} of the {of} of {node} will fail"));
    }

    /// A bit flips while a node is down. What is written last cannot be told from a torn write, so it is spared; and
    /// a majority must keep what it promised, so no more than a minority is hit.
    async fn flip_bit(&self, node: NodeId) {
        let allowed = (self.cluster().nodes().len() - 1) / 2;
        let hit = self.0.flipped.borrow().clone();
        if self.0.held.borrow().contains(&node) || hit.contains(&node) || hit.len() >= allowed {
            return;
        }
        self.0.held.borrow_mut().insert(node);
        self.cluster().crash(node);
        let machine = self.cluster().machine(node);
        let mut log = machine.log.files();
        if let Some(last) = log.iter().rposition(|(name, _)| name.ends_with(".wal")) {
            log.remove(last);
        }
        let log = log.into_iter().map(|file| (&machine.log, file));
        let snapshots = machine.snapshots.files().into_iter().map(|file| (&machine.snapshots, file));
        let files: Vec<_> = log.chain(snapshots).filter(|(_, (_, length))| *length > 0).collect();
        if !files.is_empty() {
            let (disk, (name, length)) = &files[self.draw(files.len())];
            let offset = self.0.random.borrow_mut().u64(0..*length);
            disk.flip_bit(name, offset, self.draw(8) as u8);
            self.0.flipped.borrow_mut().insert(node);
            self.fault(|| format!("the process of {node} is killed, and a bit flips in {name} at {offset}"));
        }
        sleep(self.time_up_to(SECOND)).await;
        self.bring_up(node).await;
    }

    fn leap(&self, node: NodeId) {
        let by = self.time_up_to([SECOND / 2, 20 * SECOND][self.draw(2)]);
        self.fault(|| format!("the clock of {node} leaps by {by:?}"));
        if let Some(clock) = &*self.cluster().machine(node).clock.borrow() {
            clock.leap(by);
        }
    }

    async fn transfer(&self) {
        let to = self.any_node();
        self.fault(|| format!("the leader is asked to hand over to {to}"));
        if let Ok(client) = self.cluster().client("operator", |_| {}).await {
            let _ = client.with_deadline(2 * SECOND).transfer_leader(to).await;
        }
    }
}

fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}
