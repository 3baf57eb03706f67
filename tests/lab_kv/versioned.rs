//! The replicated versioned store of 2025 (4B, 4C). Its clerks are stateless.

use std::rc::Rc;
use std::time::Duration;

use quorate::logic::ids::NodeId;
use quorate::logic::verify::Model;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use crate::lab::{Clerk, E, Lab, Put, Stop, ms};

#[derive(Clone, Copy)]
pub struct Load {
    pub clients: u32,
    pub crash: bool,
    pub partitions: bool,
    pub random_keys: bool,
}

/// How many puts of the racers succeeded, and how many perhaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Puts {
    pub ok: u64,
    pub maybe: u64,
}

/// Puts what it is, at the version that it saw last, and looks whether it is there.
pub async fn racer(clerk: Rc<Clerk>, stop: Stop, keys: Vec<String>, random: impl Fn(u64) -> u64) -> Puts {
    let mut puts = Puts::default();
    let mut seen = vec![0; keys.len()];
    while !stop.is_set() {
        let which = random(keys.len() as u64) as usize;
        loop {
            let version = seen[which];
            let value = format!("{{\"client\":{},\"version\":{version}}}", clerk.number);
            let put = clerk.put(&keys[which], &value, version).await;
            assert!(matches!(put, Put::Ok | Put::OtherVersion | Put::Maybe), "{put:?}");
            let (found, now) = clerk.get(&keys[which]).await.expect("somebody has put it");
            if put == Put::Ok && now == version + 1 {
                assert_eq!(found, value, "another value at the version that was ours");
            }
            seen[which] = now;
            match put {
                Put::Ok => puts.ok += 1,
                Put::Maybe => puts.maybe += 1,
                _ => continue,
            }
            break;
        }
    }
    puts
}

pub async fn race(lab: &Rc<Lab>, clients: u32, time: Duration, keys: Vec<String>) -> Puts {
    let all = lab
        .spawn(clients, time, false, |clerk, stop| {
            let lab = lab.clone();
            racer(clerk, stop, keys.clone(), move |bound| lab.below(bound))
        })
        .await;
    all.iter().fold(Puts::default(), |sum, one| Puts { ok: sum.ok + one.ok, maybe: sum.maybe + one.maybe })
}

/// The version of a key is the number of puts that succeeded; perhaps more, when some succeeded perhaps.
pub async fn check_count(lab: &Lab, puts: Puts, exact: bool) {
    let (_, version) = lab.asker().get("k").await.expect("somebody has put it");
    let Puts { ok, maybe } = puts;
    // Without a session only the answer to the first transmission is sure. Where the network loses packets and is cut,
    // a round of this lab has about six such answers and twenty others, and one in twenty rounds has none.
    let done = if exact { ok } else { ok + maybe };
    assert!(done > 0, "nothing was done: {puts:?}");
    if exact {
        assert_eq!((version, maybe), (ok, 0));
    } else {
        assert!((ok..=ok + maybe).contains(&version), "version {version}, {puts:?}");
    }
}

/// The course lets its partitions begin when its clients are about to stop. Here they begin with the clients, and these
/// race for a second after the first of them.
pub async fn generic(lab: Rc<Lab>, load: Load) {
    let exact = lab.setup.reliable && !load.crash && !load.partitions;
    let keys: Vec<String> = match load.random_keys {
        true => (0..100).map(|n| format!("k{n}")).collect(),
        false => vec!["k".to_owned()],
    };
    let mut sum = Puts::default();
    for _ in 0..3 {
        let stop = Stop::default();
        let partitioner = load.partitions.then(|| lab.start_partitioner(stop.clone()));
        let time = if load.partitions { 2 * E } else { E };
        let puts = race(&lab, load.clients, time, keys.clone()).await;
        sum = Puts { ok: sum.ok + puts.ok, maybe: sum.maybe + puts.maybe };
        if !load.random_keys {
            check_count(&lab, sum, exact).await;
        }
        lab.check_linearizable(Model::Versioned);
        if let Some(partitioner) = partitioner {
            stop.now();
            partitioner.await.expect("it runs to its end");
            lab.connect_all();
            sleep(E).await;
        }
        if load.crash {
            lab.crash_all();
            sleep(E).await;
            lab.restart_all();
        }
        lab.check_sizes().await;
    }
}

/// 33.3 ms for each of 1000 puts, one after the other, in virtual time: packets take up to 5 ms, so this says
/// that a put waits for no timer.
pub async fn speed(lab: Rc<Lab>) {
    let clerk = lab.clerk().await;
    clerk.get("x").await;
    let began = Instant::now();
    for n in 0..1000 {
        assert_eq!(clerk.put("k", &n.to_string(), n).await, Put::Ok);
    }
    assert!(began.elapsed() <= 1000 * ms(100) / 3, "{:?}", began.elapsed());
    assert_eq!(clerk.get("k").await, Some(("999".to_owned(), 1000)));
}

/// The course only polls the minority's get after the partition has healed; here it must end, too.
pub async fn one_partition(lab: Rc<Lab>) {
    let version = lab.asker().put_until("1", "13", 0).await;
    let (majority, minority) = lab.make_partition().await;
    lab.partition(&majority, &minority);
    let a = lab.new_clerk(true, &majority).await;
    let (b, c) = (lab.new_clerk(true, &minority).await, lab.new_clerk(true, &minority).await);
    let version = a.put_until("1", "14", version).await;
    a.check_get("1", "14", version).await;

    let mut put = {
        let b = b.clone();
        spawn_local(async move { b.put_until("1", "15", version).await })
    };
    let mut get = {
        let c = c.clone();
        spawn_local(async move { c.get("1").await })
    };
    assert!(timeout(E, &mut put).await.is_err(), "a minority has put");
    assert!(timeout(ms(1), &mut get).await.is_err(), "a minority has answered");
    a.check_get("1", "14", version).await;
    let version = a.put_until("1", "16", version).await;
    a.check_get("1", "16", version).await;

    lab.connect_all();
    for clerk in [&b, &c] {
        clerk.reach(&lab.nodes());
    }
    sleep(E).await;
    let version = timeout(3 * E, put).await.expect("the put ends in time").expect("it runs to its end");
    timeout(3 * E, get).await.expect("the get ends in time").expect("it runs to its end");
    a.reach(&lab.nodes());
    a.check_get("1", "15", version).await;
    lab.check_linearizable(Model::Versioned);
}

/// A server that was away is given a snapshot.
pub async fn snapshot_rpc(lab: Rc<Lab>) {
    let (n1, n2, n3) = (NodeId(1), NodeId(2), NodeId(3));
    let asker = lab.asker();
    let version = asker.put_until("a", "A", 0).await;
    asker.check_get("a", "A", version).await;
    lab.partition(&[n1, n2], &[n3]);
    let clerk = lab.new_clerk(true, &[n1, n2]).await;
    for n in 0..50 {
        clerk.put_until(&n.to_string(), &n.to_string(), 0).await;
    }
    sleep(E).await;
    clerk.put_until("b", "B", 0).await;
    let bytes = lab.log_bytes(&[n1, n2]).await;
    assert!(bytes <= 8000, "the log has {bytes} bytes");

    lab.partition(&[n1, n3], &[n2]);
    let clerk = lab.new_clerk(true, &[n1, n3]).await;
    clerk.put_until("c", "C", 0).await;
    clerk.put_until("d", "D", 0).await;
    for (key, value) in [("a", "A"), ("b", "B"), ("1", "1"), ("49", "49")] {
        assert_eq!(clerk.get(key).await.map(|found| found.0).as_deref(), Some(value));
    }
    lab.connect_all();
    asker.put_until("e", "E", 0).await;
    for (key, value) in [("c", "C"), ("e", "E"), ("1", "1")] {
        assert_eq!(asker.get(key).await.map(|found| found.0).as_deref(), Some(value));
    }
    lab.check_linearizable(Model::Versioned);
}

pub async fn snapshot_size(lab: Rc<Lab>) {
    let asker = lab.asker();
    let mut version = 0;
    for _ in 0..200 {
        for value in ["0", "1"] {
            version = asker.put_until("x", value, version).await;
            asker.check_get("x", value, version).await;
        }
    }
    lab.check_sizes().await;
    let bytes = lab.snapshot_bytes();
    assert!((1..=500).contains(&bytes), "the snapshot has {bytes} bytes");
}

/// Nothing in the course asks for a key that is not there, through Raft.
pub async fn missing_keys(lab: Rc<Lab>) {
    let clerk = lab.clerk().await;
    assert_eq!(clerk.get("nothing").await, None);
    // Without a session a clerk whose first answer was lost cannot know that nobody has deleted the key since.
    assert!(matches!(clerk.put("nothing", "v", 1).await, Put::NoKey | Put::Maybe));
    assert_eq!(clerk.get("nothing").await, None);
    assert!(matches!(clerk.put("nothing", "v", 0).await, Put::Ok | Put::Maybe));
    assert!(matches!(clerk.put("nothing", "v", 7).await, Put::OtherVersion | Put::Maybe));
    clerk.check_get("nothing", "v", 1).await;
    lab.check_linearizable(Model::Versioned);
}
