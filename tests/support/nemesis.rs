//! Everything that may go wrong with the processes of a cluster, their disks and the network between them.

use std::time::{Duration, Instant};

use fastrand::Rng;
use quorate::Client;
use quorate::logic::ids::NodeId;
use quorate::messages::admin::Chaos;

use super::{Cluster, tail};

/// How long an order may take: a node may be down, and then there is nothing to order.
const ORDER: Duration = Duration::from_secs(1);

/// Something that goes wrong, until it is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A minority can neither reach the others nor be reached.
    Partition,
    /// One node is heard by nobody.
    Mute,
    /// One node hears nobody.
    Deaf,
    /// Two halves that only one node can both reach.
    Bridge,
    /// Every node reaches a majority, no two the same one.
    Ring,
    /// What is sent is late and in part lost, between all.
    Lossy,
    /// One process is killed, as `kill -9` does.
    Kill,
    /// The leader's process is killed.
    KillLeader,
    /// All processes are killed at once.
    KillAll,
    /// A process stands still.
    Stop,
    /// The leader's process stands still.
    StopLeader,
    /// The disk of a node is full.
    FullDisk,
    /// The disk of a node is slow.
    SlowDisk,
    /// The disk of a node hangs for a while.
    HungDisk,
    /// An actor panics, somewhere in a node.
    Panic,
}

impl Fault {
    pub const ALL: [Fault; 15] = [
        Fault::Partition,
        Fault::Mute,
        Fault::Deaf,
        Fault::Bridge,
        Fault::Ring,
        Fault::Lossy,
        Fault::Kill,
        Fault::KillLeader,
        Fault::KillAll,
        Fault::Stop,
        Fault::StopLeader,
        Fault::FullDisk,
        Fault::SlowDisk,
        Fault::HungDisk,
        Fault::Panic,
    ];
}

/// What cuts the links between nodes.
pub trait Wires {
    /// Nothing that `from` sends reaches `to`.
    async fn cut(&self, from: NodeId, to: NodeId);
    /// Everything reaches everybody again.
    async fn mend(&self);
}

/// Cuts links by asking the nodes to drop what they send: works everywhere.
pub struct AskedWires<'a> {
    pub cluster: &'a Cluster,
    pub admin: &'a Client,
}

impl Wires for AskedWires<'_> {
    async fn cut(&self, from: NodeId, to: NodeId) {
        // A node that is down sends nothing anyway.
        let order = Chaos::LinkDrop { peer: to, permille: 1000 };
        let _ = self.admin.with_deadline(ORDER).chaos(from, order).await;
    }

    /// Nothing to do: the nemesis heals whatever nodes were asked for.
    async fn mend(&self) {}
}

/// Whoever breaks things, and heals them.
pub struct Nemesis<'a, W> {
    pub cluster: &'a Cluster,
    pub admin: &'a Client,
    pub wires: W,
}

impl<W: Wires> Nemesis<'_, W> {
    /// Lets a fault happen. It lasts until [`heal`](Self::heal).
    pub async fn inflict(&self, fault: Fault, rng: &mut Rng) {
        let mut nodes: Vec<NodeId> = self.cluster.nodes().collect();
        rng.shuffle(&mut nodes);
        let (victim, others) = nodes.split_first().expect("a cluster has nodes");
        match fault {
            Fault::Partition => {
                let (minority, majority) = nodes.split_at(rng.usize(1..=(nodes.len() - 1) / 2));
                self.part(minority, majority).await;
            }
            Fault::Mute => self.cut_all(&[*victim], others).await,
            Fault::Deaf => self.cut_all(others, &[*victim]).await,
            Fault::Bridge => {
                let (one, other) = others.split_at(others.len() / 2);
                self.part(one, other).await;
            }
            Fault::Ring => self.ring(&nodes).await,
            Fault::Lossy => self.make_lossy(rng).await,
            Fault::Kill => self.signal(*victim, libc::SIGKILL),
            Fault::KillLeader => self.signal(self.leader(*victim).await, libc::SIGKILL),
            Fault::KillAll => {
                for node in &nodes {
                    self.signal(*node, libc::SIGKILL);
                }
            }
            Fault::Stop => self.signal(*victim, libc::SIGSTOP),
            Fault::StopLeader => self.signal(self.leader(*victim).await, libc::SIGSTOP),
            Fault::FullDisk => {
                let after_bytes = Some(rng.u64(0..1 << 20));
                self.order(*victim, Chaos::DiskFull { after_bytes }).await;
            }
            Fault::SlowDisk => self.order(*victim, Chaos::DiskDelay { ms: rng.u64(5..100) }).await,
            Fault::HungDisk => self.order(*victim, Chaos::DiskHang { ms: rng.u64(500..3000) }).await,
            Fault::Panic => self.order(*victim, Chaos::Panic { actor: "*".into() }).await,
        }
    }

    /// A process that is just being started again is left alone.
    fn signal(&self, node: NodeId, signal: i32) {
        self.cluster.signal(node, signal);
    }

    async fn part(&self, some: &[NodeId], others: &[NodeId]) {
        self.cut_all(some, others).await;
        self.cut_all(others, some).await;
    }

    async fn cut_all(&self, from: &[NodeId], to: &[NodeId]) {
        for from in from {
            for to in to {
                self.wires.cut(*from, *to).await;
            }
        }
    }

    /// In a circle each node keeps as many neighbours as make a majority with it.
    async fn ring(&self, nodes: &[NodeId]) {
        let reach = nodes.len() / 4;
        for (at, from) in nodes.iter().enumerate() {
            for (there, to) in nodes.iter().enumerate() {
                let distance = at.abs_diff(there).min(nodes.len() - at.abs_diff(there));
                if distance > reach.max(1) {
                    self.wires.cut(*from, *to).await;
                }
            }
        }
    }

    async fn make_lossy(&self, rng: &mut Rng) {
        let (ms, permille) = (rng.u64(1..150), rng.u16(10..200));
        for node in self.cluster.nodes() {
            for peer in self.cluster.nodes().filter(|peer| *peer != node) {
                self.order(node, Chaos::LinkDelay { peer, ms }).await;
                self.order(node, Chaos::LinkDrop { peer, permille }).await;
            }
        }
    }

    /// The leader that a node tells of, else `otherwise`.
    async fn leader(&self, otherwise: NodeId) -> NodeId {
        let status = self.admin.with_deadline(ORDER).status(None).await;
        status.ok().and_then(|status| status.groups.first()?.leader).unwrap_or(otherwise)
    }

    /// A node that cannot be reached may have another fault already, and is left alone.
    async fn order(&self, node: NodeId, order: Chaos) {
        let _ = self.admin.with_deadline(ORDER).chaos(node, order).await;
    }

    /// Heals everything, and returns when every node has obeyed: one that ended is started again.
    ///
    /// # Panics
    /// When a node does not answer within a minute.
    pub async fn heal(&self) {
        self.wires.mend().await;
        for node in self.cluster.nodes() {
            self.cluster.signal(node, libc::SIGCONT);
        }
        for node in self.cluster.nodes() {
            let peers = self.cluster.nodes().filter(|peer| *peer != node);
            let links = peers
                .flat_map(|peer| [Chaos::LinkDelay { peer, ms: 0 }, Chaos::LinkDrop { peer, permille: 0 }]);
            let disk = [Chaos::DiskDelay { ms: 0 }, Chaos::DiskFull { after_bytes: None }];
            for order in links.chain(disk) {
                self.insist(node, order).await;
            }
        }
    }

    async fn insist(&self, node: NodeId, order: Chaos) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let admin = self.admin.with_deadline(ORDER);
        while let Err(error) = admin.chaos(node, order.clone()).await {
            self.cluster.revive();
            let log = || tail(&self.cluster.log(), 60);
            assert!(Instant::now() < deadline, "{node} does not heal: {order:?}: {error}\n{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
