//! The shell over a network in memory, with a paused clock.

use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use tokio::task::LocalSet;

use super::fake::FakeCluster;
use super::*;
use crate::actors::supervision::{ChildSpec, Port, Registry, Slot, Strategy, Supervisor};
use crate::logic::clerk::ClerkError;
use crate::logic::kv::command::{Change, Command, Expect, Lifetime, Query, Reply};
use crate::messages::client::{Answer, Consistency};
use crate::net::memory::MemoryNetwork;

fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

struct Rig {
    network: MemoryNetwork,
    cluster: Rc<FakeCluster>,
    registry: Arc<Registry>,
    calls: Port<Invoke>,
    _slot: Slot<ClerkActor>,
}

/// Three nodes, of which the clerk is told the first.
async fn rig(options: ClerkOptions) -> Rig {
    let network = MemoryNetwork::new(1);
    let cluster = FakeCluster::new();
    let nodes: Vec<_> = (1..=3).map(|n| (NodeId(n), format!("n{n}:1"))).collect();
    for (NodeId(n), address) in &nodes {
        cluster.serve(*n, address, &network.host(&format!("n{n}")), nodes.clone()).await;
    }
    let clerk = ClerkOptions { endpoints: vec!["n1:1".into()], ..options };
    let settings = ClerkSettings { clerk, net: NetSettings::default(), transport: network.host("client") };
    let slot = Slot::new("clerk");
    let registry = Registry::new(1);
    let child = ChildSpec::new("clerk", move |_| ClerkActor::new(settings.clone())).slot(&slot);
    let root = Supervisor::new("client", Strategy::OneForOne).child(child).start(&registry);
    root.ready().await.expect("it starts");
    Rig { network, cluster, registry, calls: slot.port(), _slot: slot }
}

impl Rig {
    fn invoke(&self, op: Op, deadline: Option<Duration>) -> oneshot::Receiver<Outcome> {
        let (reply, result) = oneshot::channel();
        self.calls.tell(Invoke { group: GroupId(1), op, deadline, reply }).expect("the clerk runs");
        result
    }

    async fn call(&self, op: Op) -> Outcome {
        self.invoke(op, Some(Duration::from_secs(20))).await.expect("the clerk answers")
    }
}

fn put(value: &[u8]) -> Op {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::copy_from_slice(value));
    Op::Write(Command::Change(Change::Put { key, value, expect: Expect::Any, lifetime: Lifetime::Forever }))
}

fn get() -> Op {
    let query = Query::Get { key: Bytes::from_static(b"k") };
    Op::Read { query, consistency: Consistency::Linearizable, node: None }
}

fn value(outcome: Outcome) -> Bytes {
    match outcome {
        Ok(Answer::Kv(Reply::Value { value, .. })) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_reach_the_leader_wherever_it_goes() {
    run(async {
        let rig = rig(ClerkOptions::default()).await;
        for leader in [1, 3, 2, 1] {
            rig.cluster.leader.set(leader);
            assert!(rig.call(put(&[leader as u8])).await.is_ok());
            assert_eq!(value(rig.call(get()).await), &[leader as u8][..]);
        }
        assert_eq!(rig.cluster.sessions.get(), 1, "one session for all");
    });
}

#[test]
fn broken_connections_are_made_anew() {
    run(async {
        let rig = rig(ClerkOptions::default()).await;
        for round in 0..5_u8 {
            assert!(rig.call(put(&[round])).await.is_ok());
            (1..=3).for_each(|n| rig.network.break_connections("client", &format!("n{n}")));
        }
        assert_eq!(value(rig.call(get()).await), &[4][..]);
    });
}

#[test]
fn a_node_that_hangs_is_left() {
    run(async {
        let rig = rig(ClerkOptions::default()).await;
        assert!(rig.call(put(b"a")).await.is_ok());
        rig.cluster.silent.set(1);
        rig.cluster.leader.set(2);
        let start = Instant::now();
        assert!(rig.call(put(b"b")).await.is_ok());
        assert!(start.elapsed() < Duration::from_millis(1200), "{:?}", start.elapsed());
    });
}

#[test]
fn deadlines_are_kept() {
    run(async {
        let rig = rig(ClerkOptions { stateless: true, ..Default::default() }).await;
        assert!(rig.call(put(b"a")).await.is_ok());
        rig.cluster.silent.set(1);
        let start = Instant::now();
        let outcome = rig.invoke(put(b"b"), Some(Duration::from_millis(40))).await.expect("an answer");
        assert!(matches!(outcome, Err(ClerkError::Timeout { maybe: true, .. })), "{outcome:?}");
        let late = start.elapsed() - Duration::from_millis(40);
        assert!(late <= 2 * GRAIN + Duration::from_millis(1), "{late:?} late");
    });
}

#[test]
fn a_crash_ends_the_calls_and_the_next_life_serves() {
    run(async {
        let rig = rig(ClerkOptions::default()).await;
        assert!(rig.call(put(b"a")).await.is_ok());
        rig.cluster.silent.set(1);
        let call = rig.invoke(put(b"b"), None);
        tokio::time::sleep(Duration::from_millis(50)).await;
        rig.registry.crash("client/clerk", "on purpose").expect("it runs");
        assert!(call.await.is_err(), "nobody knows what became of it");
        rig.cluster.silent.set(0);
        while !rig.calls.is_up() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(value(rig.call(get()).await), &b"a"[..]);
    });
}

#[test]
fn what_does_not_fit_in_a_frame_is_refused() {
    run(async {
        let rig = rig(ClerkOptions { stateless: true, ..Default::default() }).await;
        let outcome = rig.call(put(&vec![0; NetSettings::default().max_frame])).await;
        assert!(matches!(outcome, Err(ClerkError::Invalid(_))), "{outcome:?}");
        assert!(rig.call(put(b"a")).await.is_ok(), "the connection stands");
    });
}

#[test]
fn callers_that_go_away_leave_nothing_behind() {
    run(async {
        let rig = rig(ClerkOptions { max_pending: 10, ..Default::default() }).await;
        assert!(rig.call(put(b"a")).await.is_ok());
        for node in 1..=3 {
            rig.network.partition(&["client"], &[&format!("n{node}")], true);
        }
        for _ in 0..10 {
            drop(rig.invoke(put(b"b"), None));
        }
        let crowded = rig.invoke(put(b"c"), None).await.expect("an answer");
        assert_eq!(crowded, Err(ClerkError::Overloaded { limit: 10 }));
        tokio::time::sleep(Duration::from_secs(5)).await;
        for node in 1..=3 {
            rig.network.partition(&["client"], &[&format!("n{node}")], false);
        }
        assert!(rig.call(put(b"d")).await.is_ok());
    });
}

#[test]
fn thousands_of_calls_at_once() {
    run(async {
        let rig = rig(ClerkOptions::default()).await;
        let calls: Vec<_> = (0..5000).map(|_| rig.invoke(put(b"x"), None)).collect();
        for call in calls {
            assert!(call.await.expect("an answer").is_ok());
        }
        let Ok(Answer::Kv(Reply::Value { version, .. })) = rig.call(get()).await else { panic!("a value") };
        assert_eq!(version, 5000);
    });
}
