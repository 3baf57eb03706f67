//! Locks over the actors of the product: three nodes and many clients in one process, over a network in memory.

mod embedded_support;

use std::rc::Rc;
use std::time::Duration;

use embedded_support::{Embedded, HOSTS, NODES};
use quorate::logic::ids::NodeId;
use quorate::logic::kv::command::{Change, Changed, Expect, Lifetime};
use quorate::node::client::LockGuard;
use quorate::{Client, Error};
use tokio::task::LocalSet;

/// The shortest that a node grants: for those who are to lose their locks.
const SHORT: Duration = Duration::from_millis(500);
/// For those who are not, however busy the machine is.
const LONG: Duration = Duration::from_secs(3600);

async fn all(test: impl AsyncFnOnce(Rc<Embedded>)) {
    LocalSet::new().run_until(async { test(Rc::new(Embedded::start().await)).await }).await;
}

async fn client(cluster: &Embedded, host: &str) -> Client {
    let nodes: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
    cluster.client(host, &nodes).await.with_deadline(Duration::from_secs(60))
}

async fn acquire(client: &Client, lock: &'static str, ttl: Duration) -> LockGuard {
    client.lock(lock).with_ttl(ttl).acquire().await.expect("the lock is acquired")
}

/// Waits until so many are in line behind the holder.
async fn until_waiting(client: &Client, lock: &'static str, waiting: u64) {
    embedded_support::within("the queue", async || {
        let status = client.lock_status(lock).await.expect("it can be asked for");
        (status.holder.is_some() && status.waiting == waiting).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_holder_at_a_time_and_the_others_come_in_order() {
    all(async |cluster| {
        let asker = client(&cluster, "asker").await;
        assert!(asker.lock_status("l").await.expect("it can be asked for").holder.is_none());
        let first = asker.lock("l").with_owner("first").with_ttl(LONG).acquire().await.expect("it is free");
        let other = asker.lock("another").acquire().await.expect("another lock is another lock");
        assert!(asker.lock("l").try_acquire().await.expect("an answer").is_none());
        assert!(asker.get("l").await.expect("a read").is_none(), "a lock is no key");

        let mut waiters = Vec::new();
        for n in 0..5_u64 {
            let waiter = client(&cluster, &format!("waiter-{n}")).await;
            waiters.push(tokio::task::spawn_local(async move { acquire(&waiter, "l", LONG).await }));
            until_waiting(&asker, "l", n + 1).await;
        }
        let holder = asker.lock_status("l").await.expect("it can be asked for").holder.expect("it is held");
        assert_eq!(holder.token, first.token());
        assert!(holder.owner.starts_with(b"first#"));

        let mut token = first.token();
        first.release().await.expect("it was held");
        for waiter in waiters {
            let guard = waiter.await.expect("it waits");
            assert!(guard.token() > token && guard.is_held());
            token = guard.token();
            // Dropped without a word: released in the background.
            drop(guard);
        }
        other.release().await.expect("it was held");
        assert!(asker.lock("l").acquire().await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_waiter_that_gives_up_leaves_the_queue() {
    all(async |cluster| {
        let asker = client(&cluster, "asker").await;
        let forever = asker.lock("l").with_ttl(LONG);
        let first = forever.acquire().await.expect("it is free");
        let second = forever.clone();
        let second = tokio::task::spawn_local(async move { second.acquire().await });
        until_waiting(&asker, "l", 1).await;
        let third = forever.clone();
        let third = tokio::task::spawn_local(async move { third.acquire().await });
        until_waiting(&asker, "l", 2).await;
        second.abort();
        until_waiting(&asker, "l", 1).await;
        first.release().await.expect("it was held");
        third.await.expect("it waits").expect("it is its turn").release().await.expect("it was held");
    })
    .await;
}

#[tokio::test]
async fn a_holder_that_is_cut_off_loses_the_lock_and_can_change_nothing() {
    all(async |cluster| {
        let near = client(&cluster, "near").await;
        let far = client(&cluster, "far").await;
        let old = acquire(&far, "l", SHORT).await;
        cluster.part("far", &HOSTS, true);
        let new = acquire(&near, "l", LONG).await;
        assert!(new.token() > old.token());
        old.lost().await;
        assert!(!old.is_held());
        near.fenced(new.fence()).put("k", "by the second").await.expect("it holds the lock");

        cluster.part("far", &HOSTS, false);
        let late = far.fenced(old.fence());
        let lost = Error::LockLost { holder: Some(new.token()) };
        assert_eq!(late.put("k", "too late").await, Err(lost.clone()));
        assert_eq!(late.append("k", "too late").await, Err(lost.clone()));
        assert_eq!(late.delete("k").await, Err(lost.clone()));
        assert_eq!(late.batch(Vec::new()).await, Err(lost));
        assert_eq!(old.release().await, Err(Error::LockLost { holder: None }));
        let found = near.get("k").await.expect("a read").expect("it was put");
        assert_eq!(&found.value[..], b"by the second");
    })
    .await;
}

#[tokio::test]
async fn changes_behind_a_fence_are_told_what_became_of_them_as_without_one() {
    all(async |cluster| {
        let client = client(&cluster, "client").await;
        let guard = acquire(&client, "l", LONG).await;
        let fenced = client.fenced(guard.fence());
        assert_eq!(fenced.put("k", "1").await, Ok(1));
        assert_eq!(fenced.append("k", "2").await, Ok(2));
        assert_eq!(fenced.put_if("k", "3", 7).await, Err(Error::VersionMismatch { actual: 2 }));
        assert_eq!(fenced.put_if("absent", "3", 7).await, Err(Error::NotFound));
        assert_eq!(fenced.cas("k", Some(b"12"), "3").await, Ok(Ok(3)));
        assert_eq!(fenced.delete("k").await, Ok(true));
        let put = |key: &'static str, expect| {
            let (key, value) = (key.into(), "v".into());
            Change::Put { key, value, expect, lifetime: Lifetime::Forever }
        };
        let changes = |expect| vec![put("a", Expect::Any), put("b", expect)];
        assert_eq!(fenced.batch(changes(Expect::Absent)).await, Ok(vec![Changed::Version(1); 2]));
        let error = Box::new(Error::VersionMismatch { actual: 1 });
        assert_eq!(fenced.batch(changes(Expect::Absent)).await, Err(Error::Batch { position: 1, error }));
        guard.release().await.expect("it was held");
        assert_eq!(fenced.put("k", "4").await, Err(Error::LockLost { holder: None }));
    })
    .await;
}

#[tokio::test]
async fn a_lock_outlives_its_leader() {
    all(async |cluster| {
        let nodes: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
        let holder = client(&cluster, "holder").await;
        let waiter = client(&cluster, "waiter").await;
        let guard = acquire(&holder, "l", LONG).await;
        let waiting = tokio::task::spawn_local(async move { acquire(&waiter, "l", LONG).await });
        until_waiting(&holder, "l", 1).await;
        let old = cluster.leader(&holder, &nodes).await;
        let next = nodes.iter().copied().find(|node| *node != old);
        holder.transfer_leader(next).await.expect("it begins");
        embedded_support::within("another leader", async || {
            (cluster.leader(&holder, &nodes).await != old).then_some(())
        })
        .await;
        assert!(holder.fenced(guard.fence()).put("k", "v").await.is_ok());
        guard.release().await.expect("it is still held");
        waiting.await.expect("the waiter is woken").release().await.expect("it was held");
    })
    .await;
}

/// What became of the holders.
struct Tally {
    held: usize,
    fenced_off: usize,
}

/// Many clients want one lock. Holders write their tokens, behind their fence; some of them are cut off for longer than
/// their time to live and go on afterwards, some for ever. Whatever they believe: once a holder has written, nobody
/// before it writes any more.
#[tokio::test]
async fn of_two_holders_at_most_one_writes() {
    const CLIENTS: usize = 100;
    all(async |cluster| {
        let mut running = Vec::new();
        for n in 0..CLIENTS {
            let cluster = cluster.clone();
            running.push(tokio::task::spawn_local(async move {
                let host = format!("client-{n}");
                contend(&cluster, &host, n).await
            }));
        }
        let mut tally = Tally { held: 0, fenced_off: 0 };
        for client in running {
            let one = client.await.expect("the client runs");
            tally.held += one.held;
            tally.fenced_off += one.fenced_off;
        }
        let asker = client(&cluster, "asker").await;
        let log = asker.get("log").await.expect("a read").expect("somebody wrote").value;
        let log = String::from_utf8(log.to_vec()).expect("numbers");
        let tokens: Vec<u64> = log.split_whitespace().map(|token| token.parse().expect("a number")).collect();
        println!("{} turns, {} writes, {} of them too late", tally.held, tokens.len(), tally.fenced_off);
        assert!(tokens.is_sorted(), "a holder wrote after its successor: {tokens:?}");
        assert!(tally.held >= CLIENTS && tally.fenced_off > 0, "nothing was put to the test");
    })
    .await;
}

async fn contend(cluster: &Embedded, host: &str, n: usize) -> Tally {
    let me = client(cluster, host).await;
    let mut tally = Tally { held: 1, fenced_off: 0 };
    let guard = acquire(&me, "l", SHORT).await;
    let fenced = me.fenced(guard.fence());
    let mut write = async || match fenced.append("log", format!("{} ", guard.token())).await {
        Err(Error::LockLost { .. }) => tally.fenced_off += 1,
        other => assert!(other.is_ok(), "{other:?}"),
    };
    write().await;
    match n % 20 {
        // Goes away for good.
        7 => cluster.part(host, &HOSTS, true),
        // Is away for too long, and goes on as if nothing had happened.
        13 => {
            cluster.part(host, &HOSTS, true);
            tokio::time::sleep(SHORT * 2).await;
            cluster.part(host, &HOSTS, false);
            for _ in 0..3 {
                write().await;
            }
        }
        _ => {
            write().await;
            match guard.release().await {
                Ok(()) | Err(Error::LockLost { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    tally
}
