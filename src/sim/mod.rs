//! The simulation: whole clusters of the product's own nodes and clients on one thread, in virtual time, with a network
//! and disks that fail. Everything follows from one seed, so a failure can be played again.
//!
//! What runs is the product: cores, actors, supervision, connections, log and snapshots. What is simulated is the world
//! around it ([`Environment`](crate::node::environment::Environment)): time, chance, the wires, the disks, and whatever
//! the product gives to threads.
//!
//! ```
//! use std::time::Duration;
//! use quorate::sim::{Cluster, ClusterOptions, simulate};
//!
//! let hash = simulate(async || {
//!     let cluster = Cluster::start(ClusterOptions::new(42, 3));
//!     let leader = cluster.wait_for_leader(Duration::from_secs(10)).await.expect("a leader");
//!     let client = cluster.client("client", |_| {}).await.expect("a client");
//!     client.put("greeting", "hello").await.expect("a write");
//!     cluster.lose_power(leader);
//!     let found = client.get("greeting").await.expect("the others go on").expect("it is there");
//!     assert_eq!(&found.value[..], b"hello");
//!     assert_eq!(cluster.watch().violations(), []);
//!     cluster.watch().hash()
//! });
//! # let _ = hash;
//! ```
//!
//! In reading order:
//!
//! * [`simulate`]: virtual time. [`host`]: a machine's tasks, which may stand still or be gone. [`machine`]: what of it
//!   outlives crashes. [`disk`]: how long disks take.
//! * [`cluster`]: [`Cluster`], the cluster and everything that can be done to it.
//! * [`watch`]: what happens, hashed and checked. [`book`]: what is known of every replica. [`invariants`]: the rules.
//!   [`trace`]: the hash, and lines for people. [`history`]: calls of clients.
//! * [`faults`], `nemesis`: what goes wrong. [`workload`]: what clients do. [`panics`]: which panics were not wanted.
//! * [`jobs`]: MapReduce jobs: the product's coordinators, and workers made of memory.
//! * [`run`]: all of that in one run from a [`Plan`]. [`timeline`]: what happened, for people.
//!
//! Invariants:
//! 1. The same seed gives the same run: the same hash, in one process and across processes.
//! 2. Nothing here changes what the nodes do. Where they need another world, they are given another environment.
//! 3. What is dropped with a machine never runs again, and what its disks had not synced may be lost.
//!
//! What it deliberately does not do: it does not simulate TCP below the byte stream, nor the page cache of more than
//! one process, nor threads that run at the same time (each node is one thread in production, too, but for its log).

pub mod book;
pub mod cluster;
pub mod disk;
pub mod faults;
pub mod history;
pub mod host;
pub mod invariants;
pub mod jobs;
pub mod machine;
mod nemesis;
pub mod panics;
mod run;
pub mod timeline;
pub mod trace;
pub mod watch;
pub mod workload;

use std::future::Future;

use tokio::task::LocalSet;

pub use cluster::{Cluster, ClusterOptions, SimClient};
pub use faults::{Fault, Faults};
pub use nemesis::Nemesis;
pub use run::{Outcome, Plan, run};
pub use watch::{Violation, Watch};

/// Runs a scenario in virtual time: whenever nothing can run, the clock leaps to the next timer. Returns what the
/// scenario returns, with everything that it started gone.
///
/// # Panics
/// Within another runtime, or when the scenario panics.
pub fn simulate<T, F: Future<Output = T>>(scenario: impl FnOnce() -> F) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime =
        builder.enable_time().start_paused(true).build().expect("a runtime without sockets needs nothing");
    let tasks = LocalSet::new();
    let result = tasks.block_on(&runtime, async { scenario().await });
    // While the clock is still virtual.
    let _inside = runtime.enter();
    drop(tasks);
    result
}
