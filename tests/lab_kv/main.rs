//! The scenarios of the course's labs over the product's own actors, under the names of the course, with its servers,
//! faults and limits, on virtual time: the versioned server and the lock of 2025, the replicated state machine and the
//! replicated store of 2025, the replicated store of 2022.
//!
//! ```text
//!   scenario                      course names, one file for each part
//!      |
//!     lab: network, crashes, partitions, time        how the course's network is mapped is said there
//!      |
//!   clients of the library (racers, appends, locks); raw connections for Submit
//!      |
//!   sim::Cluster: real nodes, supervision, bridge, log and snapshots on one thread
//! ```
//!
//! Where a check of the course is weak it is stronger here, and says so beside it. A history that cannot be decided
//! fails the run. At the end of each run the promises of Raft that the simulation watches must have held, too.
//!
//! `QUORATE_LAB_SEEDS=1000 cargo test --profile soak --test lab_kv -- --nocapture` plays each scenario on so many seeds, and
//! prints how long that took; `QUORATE_LAB_SEED=n` plays one.

mod appends;
mod lab;
#[path = "../lab_seeds/mod.rs"]
mod lab_seeds;
mod locks;
mod raw;
mod rsm;
mod single;
mod versioned;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use lab::{Lab, Setup};
use quorate::sim::simulate;

/// A scenario must end within this virtual time.
const LIMIT: Duration = Duration::from_secs(120);
/// Each scenario is played on so many seeds.
const SEEDS: u64 = 1;

type Body = fn(Rc<Lab>) -> Pin<Box<dyn Future<Output = ()>>>;

/// A row of the tables below.
struct Scenario {
    name: &'static str,
    setup: Setup,
    body: Body,
}

impl Scenario {
    fn play_on_all_seeds(&self) {
        lab_seeds::play_on_all(self.name, SEEDS, |seed| self.play(seed));
    }

    /// Plays it on one seed; returns the virtual time that it took.
    fn play(&self, seed: u64) -> Duration {
        let (setup, body) = (self.setup, self.body);
        let played = catch_unwind(AssertUnwindSafe(|| {
            simulate(async move || {
                let lab = Lab::start(seed, setup).await;
                body(lab.clone()).await;
                lab.finish()
            })
        }));
        match played {
            Ok(time) => {
                assert!(time <= LIMIT, "{} took {time:?} on seed {seed}", self.name);
                time
            }
            Err(cause) => {
                println!("REPRODUCE WITH: QUORATE_LAB_SEED={seed} cargo test --test lab_kv {}", self.name);
                std::panic::resume_unwind(cause);
            }
        }
    }
}

/// One test for each scenario: `name: servers, network, snapshots => body`, where `network` is reliable, quick
/// (reliable, and nothing takes long on any seed) or unreliable, and `snapshots` is none or the course's
/// `maxraftstate`.
macro_rules! scenarios {
    ($($name:ident: $servers:literal, $network:ident, $snapshots:expr => $body:path $([$($argument:expr),*])?;)*) => {
        $(#[test]
        #[allow(non_snake_case, reason = "the course's name")]
        fn $name() {
            Scenario {
                name: stringify!($name),
                setup: Setup {
                    servers: $servers,
                    reliable: stringify!($network) != "unreliable",
                    quick: stringify!($network) == "quick",
                    max_raft_state: $snapshots,
                },
                body: |lab| Box::pin($body(lab $(, $($argument),*)?)),
            }
            .play_on_all_seeds();
        })*
    };
}

use appends::Load as Appends;
use versioned::Load;

const NONE: Option<u64> = None;
const M: Option<u64> = Some(1000);

/// So many clients, crashes, partitions, random keys.
const fn load(clients: u32, crash: bool, partitions: bool, random_keys: bool) -> Load {
    Load { clients, crash, partitions, random_keys }
}

const fn appends(clients: u32, crash: bool, partitions: bool, random_keys: bool) -> Appends {
    Appends { clients, crash, partitions, random_keys }
}

scenarios! {
    // 2025: the versioned server
    TestReliablePut: 1, reliable, NONE => single::reliable_put;
    TestPutConcurrentReliable: 1, reliable, NONE => single::put_concurrent;
    TestMemPutManyClientsReliable: 1, reliable, NONE => single::many_clients;
    TestUnreliableNet: 1, unreliable, NONE => single::unreliable_net;
    // 2025: the lock
    TestOneClientReliable: 1, reliable, NONE => locks::clients[1];
    TestManyClientsReliable: 1, reliable, NONE => locks::clients[10];
    TestOneClientUnreliable: 1, unreliable, NONE => locks::clients[1];
    TestManyClientsUnreliable: 1, unreliable, NONE => locks::clients[10];
    LocksAreIndependent: 3, unreliable, NONE => locks::independent;
    LockHoldersCrash: 3, reliable, NONE => locks::holders_crash;
    AWaiterIsWokenAtOnce: 3, quick, NONE => locks::woken_at_once;
    // 2025: the replicated state machine
    TestBasic4A: 3, reliable, NONE => rsm::basic;
    TestConcurrent4A: 3, reliable, NONE => rsm::concurrent;
    TestLeaderFailure4A: 3, reliable, NONE => rsm::leader_failure;
    TestLeaderPartition4A: 3, reliable, NONE => rsm::leader_partition;
    TestRestartReplay4A: 3, reliable, NONE => rsm::restart_replay;
    TestShutdown4A: 3, reliable, NONE => rsm::shutdown;
    TestRestartSubmit4A: 3, reliable, NONE => rsm::restart_submit;
    TestSnapshot4C: 3, reliable, M => rsm::snapshot;
    ShutdownWithPendingSubmits: 3, reliable, NONE => rsm::shutdown_pending;
    // 2025: the replicated store
    TestBasic4B: 5, reliable, NONE => versioned::generic[load(1, false, false, false)];
    TestSpeed4B: 3, quick, NONE => versioned::speed;
    TestConcurrent4B: 5, reliable, NONE => versioned::generic[load(5, false, false, false)];
    TestUnreliable4B: 5, unreliable, NONE => versioned::generic[load(5, false, false, false)];
    TestOnePartition4B: 5, unreliable, NONE => versioned::one_partition;
    TestManyPartitionsOneClient4B: 5, reliable, NONE => versioned::generic[load(1, false, true, false)];
    TestManyPartitionsManyClients4B: 5, reliable, NONE => versioned::generic[load(5, false, true, false)];
    TestPersistOneClient4B: 5, reliable, NONE => versioned::generic[load(1, true, false, false)];
    TestPersistConcurrent4B: 5, reliable, NONE => versioned::generic[load(5, true, false, false)];
    TestPersistConcurrentUnreliable4B: 5, unreliable, NONE => versioned::generic[load(5, true, false, false)];
    TestPersistPartition4B: 5, reliable, NONE => versioned::generic[load(5, true, true, false)];
    TestPersistPartitionUnreliable4B: 5, unreliable, NONE => versioned::generic[load(5, true, true, false)];
    TestPersistPartitionUnreliableLinearizable4B: 7, unreliable, NONE =>
        versioned::generic[load(15, true, true, true)];
    TestSnapshotRPC4C: 3, reliable, M => versioned::snapshot_rpc;
    TestSnapshotSize4C: 3, reliable, M => versioned::snapshot_size;
    TestSpeed4C: 3, quick, M => versioned::speed;
    TestSnapshotRecover4C: 5, reliable, M => versioned::generic[load(1, true, false, false)];
    TestSnapshotRecoverManyClients4C: 5, reliable, M => versioned::generic[load(20, true, false, false)];
    TestSnapshotUnreliable4C: 5, unreliable, M => versioned::generic[load(5, false, false, false)];
    TestSnapshotUnreliableRecover4C: 5, unreliable, M => versioned::generic[load(5, true, false, false)];
    TestSnapshotUnreliableRecoverConcurrentPartition4C: 5, unreliable, M =>
        versioned::generic[load(5, true, true, false)];
    TestSnapshotUnreliableRecoverConcurrentPartitionLinearizable4C: 7, unreliable, M =>
        versioned::generic[load(15, true, true, true)];
    MissingKeysAreToldApart: 3, unreliable, NONE => versioned::missing_keys;
    // 2022: the replicated store
    TestBasic3A: 5, reliable, NONE => appends::generic[appends(1, false, false, false)];
    TestSpeed3A: 3, quick, NONE => appends::speed;
    TestConcurrent3A: 5, reliable, NONE => appends::generic[appends(5, false, false, false)];
    TestUnreliable3A: 5, unreliable, NONE => appends::generic[appends(5, false, false, false)];
    TestUnreliableOneKey3A: 3, unreliable, NONE => appends::one_key;
    TestOnePartition3A: 5, reliable, NONE => appends::one_partition;
    TestManyPartitionsOneClient3A: 5, reliable, NONE => appends::generic[appends(1, false, true, false)];
    TestManyPartitionsManyClients3A: 5, reliable, NONE => appends::generic[appends(5, false, true, false)];
    TestPersistOneClient3A: 5, reliable, NONE => appends::generic[appends(1, true, false, false)];
    TestPersistConcurrent3A: 5, reliable, NONE => appends::generic[appends(5, true, false, false)];
    TestPersistConcurrentUnreliable3A: 5, unreliable, NONE => appends::generic[appends(5, true, false, false)];
    TestPersistPartition3A: 5, reliable, NONE => appends::generic[appends(5, true, true, false)];
    TestPersistPartitionUnreliable3A: 5, unreliable, NONE => appends::generic[appends(5, true, true, false)];
    TestPersistPartitionUnreliableLinearizable3A: 7, unreliable, NONE =>
        appends::generic[appends(15, true, true, true)];
    TestSnapshotRPC3B: 3, reliable, M => appends::snapshot_rpc;
    TestSnapshotSize3B: 3, reliable, M => appends::snapshot_size;
    TestSpeed3B: 3, quick, M => appends::speed;
    TestSnapshotRecover3B: 5, reliable, M => appends::generic[appends(1, true, false, false)];
    TestSnapshotRecoverManyClients3B: 5, reliable, M => appends::generic[appends(20, true, false, false)];
    TestSnapshotUnreliable3B: 5, unreliable, M => appends::generic[appends(5, false, false, false)];
    TestSnapshotUnreliableRecover3B: 5, unreliable, M => appends::generic[appends(5, true, false, false)];
    TestSnapshotUnreliableRecoverConcurrentPartition3B: 5, unreliable, M =>
        appends::generic[appends(5, true, true, false)];
    TestSnapshotUnreliableRecoverConcurrentPartitionLinearizable3B: 7, unreliable, M =>
        appends::generic[appends(15, true, true, true)];
}
