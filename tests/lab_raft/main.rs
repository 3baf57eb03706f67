//! The scenarios of the Raft labs of 2025 (3A to 3D) and 2022 (2A to 2D) against the real core, under the names of the
//! course, with its groups, faults and limits, on virtual time.
//!
//! ```text
//!   scenario (tasks) --> tester: faults, offers, looks     course names, one file for each part
//!        |                  |
//!        v                  v
//!   virtual time       server: start, state, snapshot, apply     the lab's interface, and its indexes
//!                           |
//!                           v
//!                   logic/raft (the product's core), checked at every step by `raft_cluster::oracle`
//!                      |             |
//!                      v             v
//!                   network       disk: one sync for all that waits; what was not synced is lost in a crash
//! ```
//!
//! Three things differ from the course, and are stricter or neutral:
//! * a new leader's no-op takes an index, which the adapter hides (`server`);
//! * the lab persists by a call that returns when all is stored; here a disk takes its time, and a crash loses what it
//!   had not finished, so that whoever speaks before it is durable is caught;
//! * the promises of Raft's figure 3 are checked at every step, not only what was applied.
//!
//! `QUORATE_LAB_SEEDS=1000 cargo test --profile soak --test lab_raft -- --nocapture` plays each scenario on so many seeds,
//! and prints how long that took; `QUORATE_LAB_SEED=n` plays one.

mod elections;
#[path = "../lab_seeds/mod.rs"]
mod lab_seeds;
mod network;
mod persistence;
#[path = "../raft_cluster/mod.rs"]
#[allow(dead_code, reason = "the random histories use more of it")]
mod raft_cluster;
mod replication;
mod server;
mod snapshots;
mod tasks;
mod tester;
mod world;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Duration;

use snapshots::Fault::{Crash, Disconnect, Nothing};
use tasks::Lab;
use tester::Course::{Y2022, Y2025};
use world::World;

/// A scenario must end within this virtual time.
const LIMIT: Duration = Duration::from_secs(120);
/// Each scenario is played on so many seeds.
const SEEDS: u64 = 10;

/// A row of the tables below.
struct Scenario {
    name: &'static str,
    servers: usize,
    reliable: bool,
    snapshots: bool,
    body: fn(Lab) -> Pin<Box<dyn Future<Output = ()>>>,
}

impl Scenario {
    fn play_on_all_seeds(&self) {
        lab_seeds::play_on_all(self.name, SEEDS, |seed| self.play(seed));
    }

    /// Plays it on one seed; returns the virtual time that it took.
    fn play(&self, seed: u64) -> Duration {
        let lab = Lab::new(World::new(seed, self.servers, self.snapshots));
        lab.set_reliable(self.reliable);
        let body = (self.body)(lab.clone());
        let played = catch_unwind(AssertUnwindSafe(|| {
            lab.run(body);
            assert!(lab.now() <= LIMIT, "it took longer than {LIMIT:?}");
        }));
        if let Err(cause) = played {
            println!(
                "REPRODUCE WITH: QUORATE_LAB_SEED={seed} cargo test --test lab_raft {} (failed after {:.3} s)",
                self.name,
                lab.now().as_secs_f64()
            );
            println!("{}", lab.with(|world| world.picture()));
            std::panic::resume_unwind(cause);
        }
        lab.now()
    }
}

/// One test for each scenario: `name: servers, network, snapshots or none => body`.
macro_rules! scenarios {
    ($($name:ident: $servers:literal, $network:ident $(, $snapshots:ident)? => $body:path $([$($argument:expr),*])?;)*) => {
        $(#[test]
        #[allow(non_snake_case, reason = "the course's name")]
        fn $name() {
            Scenario {
                name: stringify!($name),
                servers: $servers,
                reliable: stringify!($network) == "reliable",
                snapshots: [$(stringify!($snapshots))?].contains(&"snapshots"),
                body: |lab| Box::pin($body(lab $(, $($argument),*)?)),
            }
            .play_on_all_seeds();
        })*
    };
}

scenarios! {
    // 2025
    TestInitialElection3A: 3, reliable => elections::initial_election;
    TestReElection3A: 3, reliable => elections::re_election;
    TestManyElections3A: 7, reliable => elections::many_elections;
    TestBasicAgree3B: 3, reliable => replication::basic_agree;
    TestRPCBytes3B: 3, reliable => replication::rpc_bytes;
    TestFollowerFailure3B: 3, reliable => replication::follower_failure;
    TestLeaderFailure3B: 3, reliable => replication::leader_failure;
    TestFailAgree3B: 3, reliable => replication::fail_agree;
    TestFailNoAgree3B: 5, reliable => replication::fail_no_agree;
    TestConcurrentStarts3B: 3, reliable => replication::concurrent_starts;
    TestRejoin3B: 3, reliable => replication::rejoin;
    TestBackup3B: 5, reliable => replication::backup;
    TestCount3B: 3, reliable => replication::count;
    TestPersist13C: 3, reliable => persistence::persist_1[Y2025];
    TestPersist23C: 5, reliable => persistence::persist_2[Y2025];
    TestPersist33C: 3, reliable => persistence::persist_3[Y2025];
    TestFigure83C: 5, reliable => persistence::figure_8[Y2025];
    TestUnreliableAgree3C: 5, unreliable => persistence::unreliable_agree;
    TestFigure8Unreliable3C: 5, unreliable => persistence::figure_8_unreliable;
    TestReliableChurn3C: 5, reliable => persistence::churn[Y2025];
    TestUnreliableChurn3C: 5, unreliable => persistence::churn[Y2025];
    TestSnapshotBasic3D: 3, reliable, snapshots => snapshots::snap[Nothing, Y2025];
    TestSnapshotInstall3D: 3, reliable, snapshots => snapshots::snap[Disconnect, Y2025];
    TestSnapshotInstallUnreliable3D: 3, unreliable, snapshots => snapshots::snap[Disconnect, Y2025];
    TestSnapshotInstallCrash3D: 3, reliable, snapshots => snapshots::snap[Crash, Y2025];
    TestSnapshotInstallUnCrash3D: 3, unreliable, snapshots => snapshots::snap[Crash, Y2025];
    TestSnapshotAllCrash3D: 3, unreliable, snapshots => snapshots::all_crash[Y2025];
    TestSnapshotInit3D: 3, unreliable, snapshots => snapshots::init[Y2025];
    // 2022
    TestInitialElection2A: 3, reliable => elections::initial_election;
    TestReElection2A: 3, reliable => elections::re_election;
    TestManyElections2A: 7, reliable => elections::many_elections;
    TestBasicAgree2B: 3, reliable => replication::basic_agree;
    TestRPCBytes2B: 3, reliable => replication::rpc_bytes;
    TestFailAgree2B: 3, reliable => replication::fail_agree;
    TestFailNoAgree2B: 5, reliable => replication::fail_no_agree;
    TestConcurrentStarts2B: 3, reliable => replication::concurrent_starts;
    TestRejoin2B: 3, reliable => replication::rejoin;
    TestBackup2B: 5, reliable => replication::backup;
    TestCount2B: 3, reliable => replication::count;
    TestPersist12C: 3, reliable => persistence::persist_1[Y2022];
    TestPersist22C: 5, reliable => persistence::persist_2[Y2022];
    TestPersist32C: 3, reliable => persistence::persist_3[Y2022];
    TestFigure82C: 5, reliable => persistence::figure_8[Y2022];
    TestUnreliableAgree2C: 5, unreliable => persistence::unreliable_agree;
    TestFigure8Unreliable2C: 5, unreliable => persistence::figure_8_unreliable;
    TestReliableChurn2C: 5, reliable => persistence::churn[Y2022];
    TestUnreliableChurn2C: 5, unreliable => persistence::churn[Y2022];
    TestSnapshotBasic2D: 3, reliable, snapshots => snapshots::snap[Nothing, Y2022];
    TestSnapshotInstall2D: 3, reliable, snapshots => snapshots::snap[Disconnect, Y2022];
    TestSnapshotInstallUnreliable2D: 3, unreliable, snapshots => snapshots::snap[Disconnect, Y2022];
    TestSnapshotInstallCrash2D: 3, reliable, snapshots => snapshots::snap[Crash, Y2022];
    TestSnapshotInstallUnCrash2D: 3, unreliable, snapshots => snapshots::snap[Crash, Y2022];
    TestSnapshotAllCrash2D: 3, reliable, snapshots => snapshots::all_crash[Y2022];
}

#[test]
fn a_seed_is_a_whole_history() {
    let scenario = Scenario {
        name: "churn",
        servers: 5,
        reliable: false,
        snapshots: false,
        body: |lab| Box::pin(persistence::churn(lab, Y2025)),
    };
    assert_eq!(scenario.play(7), scenario.play(7));
}
