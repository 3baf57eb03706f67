//! Real processes under fire, judged: clients do a bit of everything while links are cut, processes are killed and
//! stopped, and disks are slow, full or hang. The history of what they were told must be linearizable, every client must
//! be served again after every fault, and all replicas must be equal in the end.
//!
//! Short by default. For a long run: `QUORATE_FIRE_SECONDS=1800 cargo test --profile soak --test fire under_fire -- --nocapture`

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quorate::logic::ids::NodeId;
use quorate::logic::kv::command::{Change, Expect, Lifetime, Reply};
use quorate::logic::verify::{self, Action, Answer, Model, Operation, Report};
use quorate::{Client, ClientOptions};
use support::namespaces::Namespaces;
use support::nemesis::{AskedWires, Fault, Nemesis, Wires};
use support::recorder::{Recorder, perform};
use support::{Cluster, tail};

/// Everything may be restarted as often as this test likes. Small segments and logs, so that full disks are soon felt
/// and snapshots are common.
const CONFIG: &str = r#"
[chaos]
enabled = true
[supervision]
max_restarts = 1000
[launcher]
max_restarts = 100000
backoff_max_ms = 500
[storage]
segment_bytes = 1048576
snapshot_after_log_bytes = 1048576
keep_log_entries = 1000
"#;

const SESSIONS: usize = 12;
const STATELESS: usize = 4;

/// How long a client waits for an answer before it calls the fate of an operation unknown.
const PATIENCE: Duration = Duration::from_secs(5);

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

struct Run {
    seconds: u64,
    seed: u64,
    /// Longest pause of a client between two operations.
    pause: Duration,
}

impl Run {
    fn from_environment(short: u64) -> Run {
        let seconds = from_environment("QUORATE_FIRE_SECONDS");
        // A long history must fit into memory, and need not be denser.
        let pause = if seconds.is_some() { Duration::from_millis(30) } else { Duration::from_millis(10) };
        Run {
            seconds: seconds.unwrap_or(short),
            seed: from_environment("QUORATE_FIRE_SEED").unwrap_or(1),
            pause,
        }
    }
}

async fn clients(cluster: &Cluster, count: usize, stateless: bool) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let options = ClientOptions {
            stateless,
            deadline: Some(PATIENCE),
            ..ClientOptions::new(cluster.addresses.clone())
        };
        clients.push(Client::connect(options).await.expect("a client starts"));
    }
    clients
}

/// Inflicts faults, one or two at a time, and heals them, until the time is over. Says how often each happened.
async fn burn<W: Wires>(nemesis: &Nemesis<'_, W>, recorder: &Recorder, run: &Run) -> BTreeMap<Fault, u64> {
    let mut rng = fastrand::Rng::with_seed(run.seed);
    let mut happened = BTreeMap::new();
    let until = Instant::now() + Duration::from_secs(run.seconds);
    let mut waiting = Vec::new();
    while Instant::now() < until {
        // Every kind comes before any comes again.
        if waiting.len() < 2 {
            let mut more = Fault::ALL.to_vec();
            rng.shuffle(&mut more);
            more.append(&mut waiting);
            waiting = more;
        }
        for _ in 0..rng.usize(1..=2) {
            let fault = waiting.pop().expect("there are always two");
            nemesis.inflict(fault, &mut rng).await;
            *happened.entry(fault).or_default() += 1;
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(200..3000))).await;
        nemesis.heal().await;
        let healed = Instant::now();
        let served = recorder.all_have_succeeded_since(healed).await;
        let log = || tail(&nemesis.cluster.log(), 80);
        assert!(served, "seed {}: not every client is served after {happened:?}\n{}", run.seed, log());
        println!("{:?} left; {} operations answered", until - Instant::now(), recorder.acknowledged());
    }
    happened
}

/// Judges what was recorded; a history that is not good is kept.
fn judge(name: &str, run: &Run, history: Vec<Operation>) -> Report {
    let keep = || {
        let lines: String = history.iter().map(|operation| verify::line::write(operation) + "\n").collect();
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.jsonl", run.seed));
        std::fs::write(&path, lines).expect("the history is written");
        path
    };
    if std::env::var_os("QUORATE_FIRE_KEEP").is_some() {
        println!("history: {}", keep().display());
    }
    let report = verify::check(Model::Versioned, history.iter().cloned(), verify::DEFAULT_BUDGET)
        .expect("the history makes sense");
    if !report.is_linearizable() {
        panic!("{name}, seed {}: quorate verify {}\n{report:#?}", run.seed, keep().display());
    }
    report
}

/// How many operations of which kind, and how they ended.
fn kinds(history: &[Operation]) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for operation in history {
        let action = match &operation.action {
            Action::Get { .. } => "get",
            Action::Batch(_) => "batch",
            Action::Change(change) if change.value().is_none() => "delete",
            Action::Change(_) => "write",
        };
        let answer = match &operation.answer {
            Answer::Refused { .. } => "refused",
            Answer::Unknown => "unknown",
            Answer::Failed => "failed",
            _ => "done",
        };
        *kinds.entry(format!("{action} {answer}")).or_default() += 1;
    }
    kinds
}

async fn under_fire<W: Wires>(name: &str, nemesis: Nemesis<'_, W>, run: Run) {
    let cluster = nemesis.cluster;
    let sessions = clients(cluster, SESSIONS, false).await;
    let recorder = Recorder::start(sessions, clients(cluster, STATELESS, true).await, run.pause, run.seed);
    let happened = burn(&nemesis, &recorder, &run).await;
    let acknowledged = recorder.acknowledged();
    let history = recorder.finish().await;
    let settled = cluster.settled(nemesis.admin).await;
    let hashes: Vec<_> = settled.iter().map(|status| status.groups[0].hash.clone()).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {settled:#?}");
    let kinds = kinds(&history);
    let began = Instant::now();
    let report = judge(name, &run, history);
    assert!(report.direct > 0 && report.searched > 0, "a part of the judge had nothing to do: {report:?}");
    println!(
        "{name}: {} s, seed {}: {acknowledged} operations acknowledged, linearizable ({} keys, judged in {:.2?}), replicas \
         equal\n  faults: {happened:?}\n  operations: {kinds:?}",
        run.seconds,
        run.seed,
        report.keys,
        began.elapsed()
    );
}

#[tokio::test]
async fn five_processes_under_fire() {
    let cluster = Cluster::start(5, CONFIG);
    let admin = cluster.client().await;
    let nemesis =
        Nemesis { cluster: &cluster, admin: &admin, wires: AskedWires { cluster: &cluster, admin: &admin } };
    under_fire("processes under fire", nemesis, Run::from_environment(10)).await;
}

/// The same where links are cut by a router between real networks. A machine that does not allow it is told so.
#[test]
fn three_processes_with_networks_of_their_own_under_fire() {
    // The thread enters a namespace for good, so it is one of its own, and all that works is started from it.
    let work = || {
        let namespaces = match Namespaces::enter(3) {
            Ok(namespaces) => namespaces,
            Err(why) => return println!("SKIPPED: no network namespaces on this machine: {why}"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let cluster = Cluster::start_in(&namespaces, CONFIG).await;
            let admin = cluster.client().await;
            let nemesis = Nemesis { cluster: &cluster, admin: &admin, wires: &namespaces };
            under_fire("networks under fire", nemesis, Run::from_environment(8)).await;
        });
    };
    if let Err(panic) = std::thread::spawn(work).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A read that asks for no more than "stale" is one, on a follower that is cut off, and the judge says so: what this
/// file looks for can be found.
#[tokio::test]
async fn a_stale_read_of_a_real_follower_is_found() {
    let cluster = Cluster::start(3, CONFIG);
    let client = cluster.client().await;
    let began = Instant::now();
    let now = || u64::try_from(began.elapsed().as_nanos()).expect("a short test");
    let leader = cluster.leader(&client).await;
    let follower = cluster.nodes().find(|node| *node != leader).expect("there are three");
    let mut history = Vec::new();
    let mut record = async |action: Action, stale_at: Option<NodeId>| {
        let call = now();
        let result = match (stale_at, &action) {
            (Some(node), Action::Get { key }) => match client.get_from(node, key.clone()).await {
                Ok(Some(found)) => Ok(Reply::Value { value: found.value, version: found.version }),
                Ok(None) => Err(quorate::Error::NotFound),
                Err(error) => Err(error),
            },
            _ => perform(&client, &action).await,
        };
        let answer = Answer::of(&action, &result);
        history.push(Operation { client: 1, call, returned: now(), action, answer });
    };
    let put = |value: &'static str| {
        Action::Change(Change::Put {
            key: "k".into(),
            value: value.into(),
            expect: Expect::Any,
            lifetime: Lifetime::Forever,
        })
    };
    record(put("old"), None).await;
    let wires = AskedWires { cluster: &cluster, admin: &client };
    for node in cluster.nodes().filter(|node| *node != follower) {
        wires.cut(node, follower).await;
    }
    record(put("new"), None).await;
    record(Action::Get { key: "k".into() }, None).await;
    record(Action::Get { key: "k".into() }, Some(follower)).await;
    let report = verify::check(Model::Versioned, history, verify::DEFAULT_BUDGET).expect("it makes sense");
    assert_eq!(report.violations.len(), 1, "{report:#?}");
    assert!(report.violations[0].operations.contains(&4), "{report:#?}");
}

/// The course's speed scenario: a thousand operations, one after the other; it asks for 33.3 s.
#[tokio::test]
async fn a_thousand_puts_one_after_the_other() {
    let cluster = Cluster::start(3, "");
    let client = cluster.client().await;
    client.put("warm", "up").await.expect("a put succeeds");
    let began = Instant::now();
    for number in 1..=1000 {
        let version = client.put("k", format!("{number}")).await.expect("a put succeeds");
        assert_eq!(version, number, "a put took effect not exactly once");
    }
    println!("1000 sequential puts of one client, three processes: {:.3?}", began.elapsed());
}
