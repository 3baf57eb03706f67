//! Lets things go wrong, one after the other and several at once, and makes them good again. `strikes` is what each
//! kind of fault does.

mod strikes;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::cluster::Cluster;
use super::faults::Fault;
use super::invariants::FASTEST_CLOCK;
use super::trace::{Kind, Who};
use crate::logic::ids::NodeId;
use crate::node::exit::DAMAGED;

/// How often the power of all machines fails when that of one would.
const ALL_OF_THEM: f64 = 0.15;

/// Lets things go wrong. Clones are the same one.
#[derive(Clone)]
pub struct Nemesis(Rc<Inner>);

struct Inner {
    cluster: Cluster,
    kinds: Vec<Fault>,
    random: RefCell<fastrand::Rng>,
    /// Longest pause between two faults.
    pause: Duration,
    /// Nodes that are down because of a fault, which will start them again.
    held: RefCell<BTreeSet<NodeId>>,
    /// Nodes with a flipped bit on their disks.
    flipped: RefCell<BTreeSet<NodeId>>,
    /// Nodes that stay down, because their disk is damaged.
    lost: RefCell<BTreeSet<NodeId>>,
    over: Cell<bool>,
    strikes: Cell<u64>,
}

impl Nemesis {
    /// Something to fear.
    pub fn new(cluster: &Cluster, kinds: Vec<Fault>) -> Nemesis {
        let mut random = fastrand::Rng::with_seed(cluster.random());
        let pause = Duration::from_millis([400, 1500, 4000][random.usize(0..3)]);
        Nemesis(Rc::new(Inner {
            cluster: cluster.clone(),
            kinds,
            random: RefCell::new(random),
            pause,
            held: RefCell::default(),
            flipped: RefCell::default(),
            lost: RefCell::default(),
            over: Cell::new(false),
            strikes: Cell::new(0),
        }))
    }

    /// Strikes for so long; then makes everything good.
    pub async fn rage(&self, time: Duration) {
        spawn_local(self.clone().launcher());
        let end = self.cluster().watch().now() + time;
        if self.0.kinds.contains(&Fault::ClockRate) {
            self.spread_clock_rates();
        }
        loop {
            let pause = self.time_up_to(self.0.pause);
            let left = end.saturating_sub(self.cluster().watch().now());
            sleep(pause.min(left)).await;
            if self.cluster().watch().now() >= end || self.cluster().watch().is_violated() {
                break;
            }
            let kinds: Vec<Fault> = self.0.kinds.iter().copied().filter(|k| *k != Fault::ClockRate).collect();
            if !kinds.is_empty() {
                let kind = kinds[self.draw(kinds.len())];
                self.0.strikes.set(self.0.strikes.get() + 1);
                spawn_local(self.clone().strike(kind));
            }
        }
        self.make_good();
    }

    /// How many faults there were.
    pub fn strikes(&self) -> u64 {
        self.0.strikes.get()
    }

    /// Nodes that stay down.
    pub fn lost(&self) -> BTreeSet<NodeId> {
        self.0.lost.borrow().clone()
    }

    /// No new faults, and all nodes up that can be.
    fn make_good(&self) {
        let cluster = self.cluster();
        self.0.over.set(true);
        cluster.watch().note(Who::World, Kind::Heal, || "everything is made good".to_owned());
        cluster.heal_network();
        for node in cluster.nodes() {
            cluster.freeze(node, false);
            self.restore_disk(node);
            self.0.held.borrow_mut().remove(&node);
            if cluster.failure(node).is_some() {
                self.bury(node);
            }
            self.start(node);
        }
    }

    /// Does what `quorate up` does: starts again what has ended.
    async fn launcher(self) {
        loop {
            self.cluster().process_ended().await;
            for node in self.cluster().nodes() {
                if self.cluster().failure(node).is_some() && !self.0.held.borrow().contains(&node) {
                    self.bury(node);
                    let nemesis = self.clone();
                    spawn_local(async move {
                        sleep(nemesis.time_up_to(Duration::from_millis(500))).await;
                        nemesis.start(node);
                    });
                }
            }
        }
    }

    /// Takes note of a process that has ended by itself.
    fn bury(&self, node: NodeId) {
        let cluster = self.cluster();
        let Some(failure) = cluster.failure(node) else { return };
        cluster.crash(node);
        if self.0.flipped.borrow().contains(&node) {
            cluster.watch().note(Who::Node(node), Kind::End, || "stays down: its disk is damaged".to_owned());
            self.0.lost.borrow_mut().insert(node);
        } else if failure.code == DAMAGED {
            cluster.watch().violation("no damage of its own", format!("{node} does not start: {failure}"));
        }
    }

    fn start(&self, node: NodeId) {
        let (held, lost) = (self.0.held.borrow(), self.0.lost.borrow());
        if !held.contains(&node) && !lost.contains(&node) {
            self.cluster().start_node(node);
        }
    }

    fn spread_clock_rates(&self) {
        let cluster = self.cluster();
        // Where clocks leap, nothing rests on them.
        let leaps = self.0.kinds.contains(&Fault::ClockLeap);
        let spread = if leaps { 0.2 } else { FASTEST_CLOCK - 1.01 };
        for node in cluster.nodes() {
            let rate = 1.0 + spread * (2.0 * self.0.random.borrow_mut().f64() - 1.0);
            *cluster.machine(node).clock_rate.borrow_mut() = rate;
            cluster
                .watch()
                .note(Who::Node(node), Kind::Fault, || format!("its clock runs {rate:.3} s a second"));
        }
    }

    fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    fn draw(&self, below: usize) -> usize {
        self.0.random.borrow_mut().usize(0..below)
    }

    fn chance(&self, probability: f64) -> bool {
        self.0.random.borrow_mut().f64() < probability
    }

    fn time_up_to(&self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.0.random.borrow_mut().u64(0..=longest))
    }
}
