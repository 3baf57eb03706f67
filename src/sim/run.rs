//! One run: a cluster, clients, faults, and whether every rule held.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, ClusterOptions};
use super::faults::{Fault, Faults};
use super::nemesis::Nemesis;
use super::panics::Collecting;
use super::simulate;
use super::trace::Line;
use super::watch::Violation;
use super::workload::{Customer, Manners, Recorder, read_all};
use crate::actors::supervision::panic_text;
use crate::logic::ids::NodeId;

/// How long a cluster may take, once everything is good again, until it serves and all replicas are equal.
const RECOVERY: Duration = Duration::from_secs(60);

/// What is to be played.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// How many nodes: an odd number from 3 on makes sense.
    pub nodes: u64,
    /// What may go wrong.
    pub faults: Faults,
    /// How long things go wrong, in virtual time; before and behind it everything is good.
    pub duration: Duration,
    /// How many clients.
    pub clients: u32,
    /// Whether the timeline is written.
    pub timeline: bool,
}

impl Plan {
    /// Five nodes, four clients, all faults, twenty seconds.
    pub fn new(seed: u64) -> Plan {
        Plan {
            seed,
            nodes: 5,
            faults: Faults::All,
            duration: Duration::from_secs(20),
            clients: 4,
            timeline: false,
        }
    }

    /// The command that plays it again.
    pub fn command(&self) -> String {
        let Plan { seed, nodes, faults, duration, clients, .. } = self;
        let duration = duration.as_millis();
        format!(
            "quorate sim --seed {seed} --nodes {nodes} --faults {faults} --duration {duration}ms --clients {clients}"
        )
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Rules that were broken; none, if all is well.
    pub violations: Vec<Violation>,
    /// A hash over everything that happened.
    pub hash: u64,
    /// Virtual time from the start to the end.
    pub time: Duration,
    /// Steps of replicas that were checked.
    pub steps: u64,
    /// Calls of clients.
    pub calls: u64,
    /// Calls that ended well.
    pub acknowledged: u64,
    /// Faults.
    pub faults: u64,
    /// Kinds of faults that this seed drew from.
    pub kinds: Vec<Fault>,
    /// Nodes that stayed down because their disk was damaged on purpose.
    pub lost: usize,
    /// What happened, if it was to be written down.
    pub timeline: Vec<Line>,
}

impl Outcome {
    /// Nothing is known of a run that broke off but why it did.
    fn broken_off(seed: u64, why: String) -> Outcome {
        let rule = "the simulation comes to its end".to_owned();
        Outcome {
            seed,
            violations: vec![Violation { at: Duration::ZERO, rule, what: why }],
            hash: 0,
            time: Duration::ZERO,
            steps: 0,
            calls: 0,
            acknowledged: 0,
            faults: 0,
            kinds: Vec::new(),
            lost: 0,
            timeline: Vec::new(),
        }
    }
}

/// Plays a run. If the simulation itself panics, which is a bug of its own, that is a violation like any other, so that
/// it does not go unnoticed among thousands of runs.
pub fn run(plan: &Plan) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| play_whole(plan)))
        .unwrap_or_else(|panic| Outcome::broken_off(plan.seed, panic_text(&*panic)))
}

fn play_whole(plan: &Plan) -> Outcome {
    let panics = Collecting::start();
    simulate(async || {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let kinds = plan.faults.draw(&mut random);
        let manners = manners(&kinds, &mut random);
        let cluster = Cluster::start(options(plan, &manners, &mut random));
        let recorder = Recorder::new(cluster.watch());
        let nemesis = Nemesis::new(&cluster, kinds.clone());
        play(plan, &cluster, &nemesis, &recorder, manners).await;
        let watch = cluster.watch();
        for text in panics.take() {
            watch.violation("no panics but those on purpose", text);
        }
        let (calls, acknowledged) = recorder.counts();
        let outcome = Outcome {
            seed: plan.seed,
            violations: watch.violations(),
            hash: watch.hash(),
            time: watch.now(),
            steps: watch.steps(),
            calls,
            acknowledged,
            faults: nemesis.strikes(),
            kinds,
            lost: nemesis.lost().len(),
            timeline: watch.take_timeline(),
        };
        for node in cluster.nodes() {
            cluster.crash(node);
        }
        outcome
    })
}

/// Where clocks leap, time is no measure for leases.
fn manners(kinds: &[Fault], random: &mut fastrand::Rng) -> Manners {
    let steady = !kinds.contains(&Fault::ClockLeap);
    Manners {
        think: Duration::from_millis([20, 200, 1000][random.usize(0..3)]),
        leases: steady,
        lease_reads: steady && random.bool(),
        padding: [0, 0, 100, 1000][random.usize(0..4)],
    }
}

fn options(plan: &Plan, manners: &Manners, random: &mut fastrand::Rng) -> ClusterOptions {
    let mut options = ClusterOptions::new(random.u64(..), plan.nodes);
    options.timeline = plan.timeline;
    let config = &mut options.config;
    let heartbeat = [60, 60, 120, 200][random.usize(0..4)];
    config.raft.heartbeat_ms = heartbeat;
    config.raft.election_timeout_min_ms = 5 * heartbeat;
    config.raft.election_timeout_max_ms = 10 * heartbeat;
    config.raft.lease_reads = manners.lease_reads;
    config.storage.snapshot_after_log_bytes = [2 << 10, 16 << 10, 1 << 20][random.usize(0..3)];
    config.storage.keep_log_entries = [0, 10, 1000][random.usize(0..3)];
    config.raft.inflight_appends = [1, 4, 256][random.usize(0..3)];
    config.raft.max_append_bytes = [200, 4 << 10, 1 << 20][random.usize(0..3)];
    config.limits.session_ttl_ms = [3000, 60_000][random.usize(0..2)];
    options
}

async fn play(plan: &Plan, cluster: &Cluster, nemesis: &Nemesis, recorder: &Recorder, manners: Manners) {
    let watch = cluster.watch();
    let mut customers = Vec::new();
    for number in 1..=plan.clients {
        match Customer::new(cluster, number, recorder.clone(), manners).await {
            Ok(customer) => customers.push(spawn_local(customer.shop())),
            Err(error) => watch.violation("clients", format!("client {number} does not start: {error}")),
        }
    }
    nemesis.rage(plan.duration).await;
    recorder.end();
    if watch.is_violated() {
        return;
    }
    let gone = async {
        for customer in customers {
            if let Err(error) = customer.await {
                watch.violation("clients", error.to_string());
            }
        }
    };
    if timeout(RECOVERY, gone).await.is_err() {
        watch.violation("progress", format!("clients still wait {RECOVERY:?} after everything was good"));
    }
    if let Err(what) = recover(cluster, nemesis, recorder).await {
        watch.violation("progress", what);
    }
    if watch.is_violated() {
        // A call that never ended may have had an effect, and is not written down.
        return;
    }
    watch.end();
    if let Err(what) = recorder.judge() {
        watch.violation("linearizability", what);
    }
}

/// Everything is good again: all keys can be read, and all replicas come to be equal.
async fn recover(cluster: &Cluster, nemesis: &Nemesis, recorder: &Recorder) -> Result<(), String> {
    let client = cluster.client("c0", |options| options.deadline = Some(RECOVERY)).await;
    let client = client.map_err(|error| format!("no client starts: {error}"))?;
    read_all(recorder, &client).await?;
    let deadline = Instant::now() + RECOVERY;
    loop {
        let lost = nemesis.lost();
        let there: Vec<NodeId> = cluster.nodes().into_iter().filter(|node| !lost.contains(node)).collect();
        let state =
            |node: &NodeId| cluster.watch().replica(*node, |replica| (replica.applied, replica.commit));
        let states: Vec<_> = there.iter().map(state).collect();
        if states.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(format!("replicas are not equal {RECOVERY:?} after everything was good: {states:?}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}
