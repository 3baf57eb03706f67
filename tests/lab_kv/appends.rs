//! The replicated store of 2022 (3A, 3B): get, put and append, each exactly once. Its clerks have sessions.

use std::rc::Rc;

use quorate::logic::ids::NodeId;
use quorate::logic::verify::Model;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use crate::lab::{Clerk, E, Lab, Stop, ms};

#[derive(Clone, Copy)]
pub struct Load {
    pub clients: u32,
    pub crash: bool,
    pub partitions: bool,
    pub random_keys: bool,
}

fn element(client: u64, number: u64) -> String {
    format!("x {client} {number} y")
}

/// Every element of a client is there, once, and they are in order.
fn check_appends(value: &str, client: u64, elements: u64) {
    let mut behind = 0;
    for number in 0..elements {
        let element = element(client, number);
        let places: Vec<usize> = value.match_indices(&element).map(|(at, _)| at).collect();
        assert_eq!(places.len(), 1, "{element} is there {} times", places.len());
        assert!(places[0] >= behind, "{element} is in the wrong place");
        behind = places[0] + element.len();
    }
}

/// What a client did: its key, and how many elements it appended in this round.
struct Done {
    key: String,
    elements: u64,
}

async fn client(lab: Rc<Lab>, clerk: Rc<Clerk>, stop: Stop, place: u64, load: Load) -> Done {
    let own = place.to_string();
    let (mut elements, mut last) = (0, String::new());
    if !load.random_keys {
        clerk.plain_put(&own, "").await;
    }
    while !stop.is_set() {
        let random = lab.below(u64::from(load.clients)).to_string();
        let key = if load.random_keys { &random } else { &own };
        let next = element(place, elements);
        if lab.below(2) == 0 {
            clerk.append(key, &next).await;
            last += &next;
            elements += 1;
        } else if load.random_keys && lab.below(10) == 0 {
            clerk.plain_put(key, &next).await;
            elements += 1;
        } else {
            let value = clerk.plain_get(key).await;
            assert!(load.random_keys || value == last, "{value:?} instead of {last:?}");
        }
    }
    Done { key: own, elements }
}

pub async fn generic(lab: Rc<Lab>, load: Load) {
    for _ in 0..3 {
        let stop = Stop::default();
        let mut running = Vec::new();
        for place in 0..u64::from(load.clients) {
            let clerk = lab.session().await;
            running.push(spawn_local(client(lab.clone(), clerk, stop.clone(), place, load)));
        }
        let partitioner = if load.partitions {
            sleep(E).await;
            Some(lab.start_partitioner(stop.clone()))
        } else {
            None
        };
        sleep(5 * E).await;
        stop.now();
        if let Some(partitioner) = partitioner {
            partitioner.await.expect("it runs to its end");
            lab.connect_all();
            sleep(E).await;
        }
        if load.crash {
            lab.crash_all();
            sleep(E).await;
            lab.restart_all();
        }
        let mut total = 0;
        for (place, one) in (0..).zip(running) {
            let done = one.await.expect("a client runs to its end");
            total += done.elements;
            let value = lab.asker().plain_get(&done.key).await;
            if !load.random_keys {
                check_appends(&value, place, done.elements);
            }
        }
        assert!(total > 0, "nothing was done");
        lab.check_sizes().await;
    }
    lab.check_linearizable(Model::Versioned);
}

/// As with versions: no append waits for a timer.
pub async fn speed(lab: Rc<Lab>) {
    let clerk = lab.session().await;
    clerk.plain_get("x").await;
    let began = Instant::now();
    for number in 0..1000 {
        clerk.append("x", &element(0, number)).await;
    }
    assert!(began.elapsed() <= 1000 * ms(100) / 3, "{:?}", began.elapsed());
    check_appends(&clerk.plain_get("x").await, 0, 1000);
}

pub async fn one_key(lab: Rc<Lab>) {
    lab.session().await.plain_put("k", "").await;
    let mut running = Vec::new();
    for place in 0..5 {
        let clerk = lab.session().await;
        running.push(spawn_local(async move {
            for number in 0..10 {
                clerk.append("k", &element(place, number)).await;
            }
        }));
    }
    for one in running {
        one.await.expect("a client runs to its end");
    }
    let value = lab.asker().plain_get("k").await;
    (0..5).for_each(|place| check_appends(&value, place, 10));
    lab.check_linearizable(Model::Versioned);
}

/// Here, too, the minority's get must end after the partition has healed.
pub async fn one_partition(lab: Rc<Lab>) {
    lab.asker().plain_put("1", "13").await;
    let (majority, minority) = lab.make_partition().await;
    lab.partition(&majority, &minority);
    let a = lab.new_clerk(false, &majority).await;
    let (b, c) = (lab.new_clerk(false, &minority).await, lab.new_clerk(false, &minority).await);
    a.plain_put("1", "14").await;
    assert_eq!(a.plain_get("1").await, "14");

    let mut put = {
        let b = b.clone();
        spawn_local(async move { b.plain_put("1", "15").await })
    };
    let mut get = {
        let c = c.clone();
        spawn_local(async move { c.plain_get("1").await })
    };
    assert!(timeout(E, &mut put).await.is_err(), "a minority has put");
    assert!(timeout(ms(1), &mut get).await.is_err(), "a minority has answered");
    assert_eq!(a.plain_get("1").await, "14");
    a.plain_put("1", "16").await;
    assert_eq!(a.plain_get("1").await, "16");

    lab.connect_all();
    for clerk in [&a, &b, &c] {
        clerk.reach(&lab.nodes());
    }
    sleep(E).await;
    timeout(3 * E, put).await.expect("the put ends in time").expect("it runs to its end");
    timeout(3 * E, get).await.expect("the get ends in time").expect("it runs to its end");
    assert_eq!(a.plain_get("1").await, "15");
    lab.check_linearizable(Model::Versioned);
}

pub async fn snapshot_rpc(lab: Rc<Lab>) {
    let (n1, n2, n3) = (NodeId(1), NodeId(2), NodeId(3));
    let asker = lab.asker();
    asker.plain_put("a", "A").await;
    assert_eq!(asker.plain_get("a").await, "A");
    lab.partition(&[n1, n2], &[n3]);
    let clerk = lab.new_clerk(false, &[n1, n2]).await;
    for n in 0..50 {
        clerk.plain_put(&n.to_string(), &n.to_string()).await;
    }
    sleep(E).await;
    clerk.plain_put("b", "B").await;
    let bytes = lab.log_bytes(&[n1, n2]).await;
    assert!(bytes <= 8000, "the log has {bytes} bytes");

    lab.partition(&[n1, n3], &[n2]);
    let clerk = lab.new_clerk(false, &[n1, n3]).await;
    clerk.plain_put("c", "C").await;
    clerk.plain_put("d", "D").await;
    for (key, value) in [("a", "A"), ("b", "B"), ("1", "1"), ("49", "49")] {
        assert_eq!(clerk.plain_get(key).await, value);
    }
    lab.connect_all();
    asker.plain_put("e", "E").await;
    for (key, value) in [("c", "C"), ("e", "E"), ("1", "1")] {
        assert_eq!(asker.plain_get(key).await, value);
    }
    lab.check_linearizable(Model::Versioned);
}

/// The asker keeps no session, so that the snapshot is that of one key alone.
pub async fn snapshot_size(lab: Rc<Lab>) {
    let asker = lab.asker();
    for _ in 0..200 {
        for value in ["0", "1"] {
            asker.plain_put("x", value).await;
            assert_eq!(asker.plain_get("x").await, value);
        }
    }
    lab.check_sizes().await;
    let bytes = lab.snapshot_bytes();
    assert!((1..=500).contains(&bytes), "the snapshot has {bytes} bytes");
}
