//! The replicated state machine of 2025 (4A, and one of 4C). The machine is a counter.
//!
//! | the course | here |
//! |---|---|
//! | Inc, its result | an append of one byte to a key; the key's new version, which counts the appends |
//! | Null | a check of a key that is absent: it goes through the log and changes nothing |
//! | Dec, which must never be executed | a put of another key: it must never be there, on any server |
//! | Submit | one request on a connection of its own to that server, without a session and never repeated (`raw`) |
//! | ErrWrongLeader, or another error | any error, or the end of the connection |
//! | the counter of a server | the version of the key as that server has applied it (a stale read) |

use std::rc::Rc;
use std::time::Duration;

use quorate::logic::ids::NodeId;
use quorate::logic::kv::command::{Change, Changed, Command, Expect, Lifetime, Reply};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::lab::{E, Lab, ms};
use crate::raw::{look, submit};

/// How long `inc` and its like try.
const BUDGET: Duration = Duration::from_secs(10);

fn inc() -> Command {
    Command::Change(Change::Append { key: "counter".into(), value: "i".into(), expect: Expect::Any })
}

fn null() -> Command {
    Command::Change(Change::Check { key: "nothing".into(), expect: Expect::Absent })
}

fn dec() -> Command {
    let (key, value) = ("dec".into(), "executed".into());
    Command::Change(Change::Put { key, value, expect: Expect::Any, lifetime: Lifetime::Forever })
}

/// The tester's way to submit: servers in turn, those that are cut skipped, until one says that it is done.
struct Tester {
    lab: Rc<Lab>,
    last_good: std::cell::Cell<u64>,
}

impl Tester {
    fn new(lab: &Rc<Lab>) -> Rc<Tester> {
        Rc::new(Tester { lab: lab.clone(), last_good: std::cell::Cell::new(1) })
    }

    /// `None`: nobody has done it in ten seconds.
    async fn try_all(&self, command: Command, cut: &[NodeId]) -> Option<Reply> {
        let began = Instant::now();
        let count = self.lab.nodes().len() as u64;
        while began.elapsed() < BUDGET {
            let first = self.last_good.get();
            for server in (0..count).map(|step| NodeId((first - 1 + step) % count + 1)) {
                if cut.contains(&server) {
                    continue;
                }
                if let Ok(reply) = submit(&self.lab, server, command.clone()).await {
                    self.last_good.set(server.0);
                    return Some(reply);
                }
            }
            sleep(ms(50)).await;
        }
        None
    }

    async fn inc(&self, cut: &[NodeId]) -> u64 {
        match self.try_all(inc(), cut).await {
            Some(Reply::Changed(Changed::Version(count))) => count,
            other => panic!("an increment came to {other:?}"),
        }
    }

    /// So many servers come to this count.
    async fn check(&self, count: u64, servers: usize) {
        let mut pause = 10;
        let mut there = 0;
        for _ in 0..30 {
            there = 0;
            for server in self.lab.nodes() {
                if counter(&self.lab, server).await == Some(count) {
                    there += 1;
                }
            }
            if there >= servers {
                return;
            }
            sleep(ms(pause)).await;
            pause = (2 * pause).min(1280);
        }
        panic!("{there} servers have come to {count}, not {servers}");
    }

    /// So many at once; each returns whether it was done in time.
    fn storm(self: &Rc<Self>, command: Command, count: usize) -> Vec<JoinHandle<Option<Reply>>> {
        let one = |_| {
            let (tester, command) = (self.clone(), command.clone());
            spawn_local(async move { tester.try_all(command, &[]).await })
        };
        (0..count).map(one).collect()
    }

    async fn restart_all(&self) {
        self.lab.crash_all();
        sleep(E).await;
        self.lab.restart_all();
    }
}

/// How far a server's counter is; `None`: it cannot be asked.
async fn counter(lab: &Lab, server: NodeId) -> Option<u64> {
    match look(lab, server, "counter").await {
        Ok(Reply::Value { version, .. }) => Some(version),
        _ => None,
    }
}

pub async fn basic(lab: Rc<Lab>) {
    let tester = Tester::new(&lab);
    for count in 1..=10 {
        assert_eq!(tester.inc(&[]).await, count);
        tester.check(count, 3).await;
    }
}

pub async fn concurrent(lab: Rc<Lab>) {
    let tester = Tester::new(&lab);
    for one in tester.storm(inc(), 50) {
        assert!(one.await.expect("it runs to its end").is_some());
    }
    tester.check(50, 3).await;
}

pub async fn leader_failure(lab: Rc<Lab>) {
    let tester = Tester::new(&lab);
    let count = tester.inc(&[]).await;
    tester.check(count, 3).await;
    let old = NodeId(tester.last_good.get());
    lab.cut(old, true);
    let count = tester.inc(&[old]).await;
    tester.check(count, 2).await;
    lab.cut(old, false);
    tester.check(count, 3).await;
}

pub async fn leader_partition(lab: Rc<Lab>) {
    let tester = Tester::new(&lab);
    let count = tester.inc(&[]).await;
    tester.check(count, 3).await;
    let old = lab.leader().await;
    let others: Vec<NodeId> = lab.nodes().into_iter().filter(|node| *node != old).collect();
    lab.partition(&others, &[old]);
    let decs: Vec<JoinHandle<_>> = (0..100)
        .map(|_| {
            let lab = lab.clone();
            spawn_local(async move { submit(&lab, old, dec()).await })
        })
        .collect();
    sleep(ms(10)).await;
    let count = tester.inc(&[old]).await;
    sleep(E).await;
    assert!(!decs.iter().all(JoinHandle::is_finished), "a leader that hears nobody gave all callers up");
    lab.connect_all();
    let healed = Instant::now();
    for one in decs {
        let left = E.saturating_sub(healed.elapsed());
        let done = timeout(left, one).await.expect("it returns within a second").expect("it runs to its end");
        assert!(done.is_err(), "a command of a leader that was cut off was done: {done:?}");
    }
    tester.check(count, 3).await;
    for server in lab.nodes() {
        let found = look(&lab, server, "dec").await;
        assert!(found.is_err(), "{server} has executed it");
    }
}

async fn hundred(tester: &Tester) {
    for _ in 0..100 {
        let count = tester.inc(&[]).await;
        tester.check(count, 3).await;
    }
}

pub async fn restart_replay(lab: Rc<Lab>) {
    let tester = Tester::new(&lab);
    hundred(&tester).await;
    tester.restart_all().await;
    assert_eq!(tester.inc(&[]).await, 101);
    sleep(E).await;
    tester.check(101, 3).await;
}

/// All return within 11 s: their own budget is 10 s.
async fn all_return(storm: Vec<JoinHandle<Option<Reply>>>) {
    let began = Instant::now();
    for one in storm {
        let left = Duration::from_secs(11).saturating_sub(began.elapsed());
        timeout(left, one).await.expect("it returns").expect("it runs to its end");
    }
}

pub async fn shutdown(lab: Rc<Lab>) {
    let tester = Tester::new(&lab);
    let storm = tester.storm(null(), 100);
    sleep(ms(20)).await;
    lab.crash_all();
    all_return(storm).await;
}

pub async fn restart_submit(lab: Rc<Lab>) {
    let tester = Tester::new(&lab);
    hundred(&tester).await;
    tester.restart_all().await;
    assert_eq!(tester.inc(&[]).await, 101);
    sleep(E).await;
    let storm = tester.storm(null(), 100);
    sleep(ms(20)).await;
    lab.crash_all();
    all_return(storm).await;
    lab.restart_all();
    let count = tester.inc(&[]).await;
    tester.check(count, 3).await;
}

/// In the course's shutdown there is mostly no leader yet, so nothing is pending when the servers go down. Here
/// everything is: the leader has been cut off before it was asked.
pub async fn shutdown_pending(lab: Rc<Lab>) {
    let old = lab.leader().await;
    lab.cut(old, true);
    let pending: Vec<JoinHandle<_>> = (0..100)
        .map(|_| {
            let lab = lab.clone();
            spawn_local(async move { submit(&lab, old, null()).await })
        })
        .collect();
    sleep(ms(20)).await;
    assert!(pending.iter().all(|one| !one.is_finished()), "something was done without a majority");
    lab.cluster.stop(old).await;
    let down = Instant::now();
    for one in pending {
        let left = E.saturating_sub(down.elapsed());
        let done = timeout(left, one).await.expect("it returns within a second").expect("it runs to its end");
        assert!(done.is_err(), "{done:?}");
    }
}

pub async fn snapshot(lab: Rc<Lab>) {
    let tester = Tester::new(&lab);
    for _ in 0..100 {
        tester.inc(&[]).await;
    }
    tester.check(100, 3).await;
    let bytes = lab.log_bytes(&lab.nodes()).await;
    assert!(bytes <= 2000 && lab.snapshot_bytes() > 0, "the log has {bytes} bytes");
    tester.restart_all().await;
    assert_eq!(tester.inc(&[]).await, 101);
    tester.check(101, 3).await;
}
