//! The lock of 2025 (`kvsrv1/lock`), which is the product's own; and what the course does not ask of it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use quorate::Error;
use quorate::logic::verify::Model;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use crate::lab::{Clerk, E, Lab, Put, Stop, ms};

/// Turns that a client had.
async fn client(clerk: Rc<Clerk>, stop: Stop) -> u32 {
    let mut turns = 0;
    let me = clerk.number.to_string();
    while !stop.is_set() {
        let guard = clerk.lock("l").acquire().await.expect("it waits as long as it takes");
        let (value, version) = clerk.get("l0").await.expect("it was put at the start");
        assert_eq!(value, "", "two holders");
        assert!(matches!(clerk.put("l0", &me, version).await, Put::Ok | Put::Maybe));
        sleep(ms(10)).await;
        assert!(matches!(clerk.put("l0", "", version + 1).await, Put::Ok | Put::Maybe));
        match guard.release().await {
            Ok(()) => turns += 1,
            other => panic!("a release came to {other:?}"),
        }
    }
    turns
}

/// The course asks for no minimum of turns: here each client has at least one.
pub async fn clients(lab: Rc<Lab>, count: u32) {
    lab.asker().put("l0", "", 0).await;
    let turns = lab.spawn(count, 2 * E, false, client).await;
    assert!(turns.iter().all(|turns| *turns > 0), "{turns:?}");
    lab.check_linearizable(Model::Versioned);
}

/// The course's lock may ignore its name. Here the holder of one keeps nobody from another.
pub async fn independent(lab: Rc<Lab>) {
    let clerk = lab.clerk().await;
    let first = clerk.lock("l1").acquire().await.expect("it is free");
    let other = lab.clerk().await;
    let second = other.lock("l2").acquire().await.expect("another lock is free");
    assert!(other.lock("l1").try_acquire().await.expect("an answer").is_none());
    first.release().await.expect("it was held");
    let third = other.lock("l1").acquire().await.expect("it is free again");
    assert!(third.token() > second.token());
}

/// A waiter is woken within 50 ms of the release. Packets take up to 5 ms here, so this says that nobody
/// waits for a timer.
pub async fn woken_at_once(lab: Rc<Lab>) {
    let clerk = lab.clerk().await;
    let mut guard = clerk.lock("l").acquire().await.expect("it is free");
    // The keeper of a lock lives with its client.
    lab.keep(clerk);
    for _ in 0..20 {
        let clerk = lab.session().await;
        let waiting = spawn_local(async move {
            let guard = clerk.lock("l").acquire().await.expect("it waits as long as it takes");
            (guard, Instant::now(), clerk)
        });
        while lab.asker().lock_status("l").await.expect("an answer").waiting == 0 {
            sleep(ms(1)).await;
        }
        // Its question has time to arrive.
        sleep(ms(100)).await;
        let released = Instant::now();
        guard.release().await.expect("it was held");
        let (next, woken, clerk) = waiting.await.expect("it runs to its end");
        let late = woken.saturating_duration_since(released);
        assert!(late < ms(50), "{late:?}");
        guard = next;
        lab.keep(clerk);
    }
}

/// A hundred clients, holders that vanish, and holders that are away for longer than their time to live and go on as if
/// nothing had happened. Whoever writes behind its fence is the holder: once a successor has written, nobody
/// before it writes any more. Meanwhile leaders lose their power.
pub async fn holders_crash(lab: Rc<Lab>) {
    const TTL: Duration = Duration::from_millis(500);
    let fenced_off = Rc::new(Cell::new(0));
    let mut running = Vec::new();
    for n in 0..100 {
        let clerk = lab.session().await;
        let (lab, fenced_off) = (lab.clone(), fenced_off.clone());
        running.push(spawn_local(async move {
            let guard = clerk.lock("l").with_ttl(TTL).acquire().await.expect("it waits as long as it takes");
            let fenced = clerk.fenced(guard.fence());
            let write = async || match fenced.append("log", format!("{} ", guard.token())).await {
                Ok(_) | Err(Error::Maybe) => {}
                Err(Error::LockLost { .. }) => fenced_off.set(fenced_off.get() + 1),
                Err(error) => panic!("a write came to {error}"),
            };
            write().await;
            match n % 10 {
                3 => clerk.away(true),
                7 => {
                    clerk.away(true);
                    sleep(TTL * 3).await;
                    clerk.away(false);
                    write().await;
                }
                _ => {
                    write().await;
                    let _ = guard.release().await;
                }
            }
            lab.keep(clerk);
        }));
    }
    let stop = Stop::default();
    let nemesis = {
        let (lab, stop) = (lab.clone(), stop.clone());
        spawn_local(async move {
            while !stop.is_set() {
                sleep(3 * E).await;
                if let Some(leader) = lab.cluster.leader() {
                    lab.cluster.lose_power(leader);
                    sleep(E).await;
                    lab.cluster.start_node(leader);
                }
            }
        })
    };
    for one in running {
        one.await.expect("a client runs to its end");
    }
    stop.now();
    nemesis.await.expect("it runs to its end");
    let (log, _) = lab.asker().get("log").await.expect("somebody wrote");
    let tokens: Vec<u64> = log.split_whitespace().map(|token| token.parse().expect("a number")).collect();
    assert!(tokens.is_sorted(), "a holder wrote after its successor: {tokens:?}");
    assert!(fenced_off.get() > 0, "nothing was put to the test");
}
