//! Part B: replication.

use bytes::Bytes;
use quorate::logic::ids::Term;

use crate::server::Value;
use crate::tasks::Lab;
use crate::tester::{E, number};

pub async fn basic_agree(lab: Lab) {
    for index in 1..=3 {
        assert_eq!(lab.committed(index).0, 0, "something is applied before anything was offered");
        assert_eq!(lab.agree_at_once(&number(100 * index as u64), 3).await, index);
    }
}

/// Stricter than the course, which allows 200 000 bytes (four copies): a command travels once to each follower.
pub async fn rpc_bytes(lab: Lab) {
    lab.agree_at_once(&number(99), 3).await;
    let before = lab.with(|world| world.network.bytes);
    for index in 2..=11 {
        let text: Vec<u8> = lab.with(|world| (0..5000).map(|_| world.rng.alphanumeric() as u8).collect());
        assert_eq!(lab.agree_at_once(&Bytes::from(text), 3).await, index);
    }
    let spent = lab.with(|world| world.network.bytes) - before;
    assert!(
        (100_000..=120_000).contains(&spent),
        "{spent} bytes for 10 commands of 5000 bytes to 2 followers"
    );
}

pub async fn follower_failure(lab: Lab) {
    lab.agree_at_once(&number(101), 3).await;
    let first = lab.leader().await;
    lab.cut((first + 1) % 3);
    lab.agree_at_once(&number(102), 2).await;
    lab.sleep(E).await;
    lab.agree_at_once(&number(103), 2).await;
    let second = lab.leader().await;
    lab.ring(second, 1..=2).into_iter().for_each(|at| lab.cut(at));
    let (index, _) = lab.start(second, &number(104)).expect("the leader takes an offer");
    assert_eq!(index, 4);
    lab.sleep(2 * E).await;
    lab.no_agreement(4);
}

pub async fn leader_failure(lab: Lab) {
    lab.agree_at_once(&number(101), 3).await;
    let first = lab.leader().await;
    lab.cut(first);
    lab.agree_at_once(&number(102), 2).await;
    lab.sleep(E).await;
    lab.agree_at_once(&number(103), 2).await;
    let second = lab.leader().await;
    lab.cut(second);
    for at in 0..3 {
        lab.start(at, &number(104));
    }
    lab.sleep(2 * E).await;
    lab.no_agreement(4);
}

pub async fn fail_agree(lab: Lab) {
    lab.agree_at_once(&number(101), 3).await;
    let leader = lab.leader().await;
    let follower = (leader + 1) % 3;
    lab.cut(follower);
    lab.agree_at_once(&number(102), 2).await;
    lab.agree_at_once(&number(103), 2).await;
    lab.sleep(E).await;
    lab.agree_at_once(&number(104), 2).await;
    lab.agree_at_once(&number(105), 2).await;
    lab.join(follower);
    lab.agree(&number(106), 3).await;
    lab.sleep(E).await;
    lab.agree(&number(107), 3).await;
}

pub async fn fail_no_agree(lab: Lab) {
    lab.agree_at_once(&number(10), 5).await;
    let first = lab.leader().await;
    let away = lab.ring(first, 1..=3);
    away.iter().for_each(|at| lab.cut(*at));
    let (index, _) = lab.start(first, &number(20)).expect("the leader takes an offer");
    assert_eq!(index, 2);
    lab.sleep(2 * E).await;
    lab.no_agreement(2);
    away.iter().for_each(|at| lab.join(*at));
    let second = lab.leader().await;
    let (index, _) = lab.start(second, &number(30)).expect("the leader takes an offer");
    assert!((2..=3).contains(&index), "index {index}");
    lab.agree(&number(1000), 5).await;
}

pub async fn concurrent_starts(lab: Lab) {
    for attempt in 0..5 {
        if attempt > 0 {
            lab.sleep(3 * E).await;
        }
        let leader = lab.leader().await;
        let Some((_, term)) = lab.start(leader, &number(1)) else { continue };
        let offers: Vec<_> = (0..5).map(|i| lab.spawn(offer_soon(lab.clone(), leader, 100 + i))).collect();
        let mut accepted = Vec::new();
        for offer in offers {
            accepted.extend(offer.end().await.filter(|(_, of)| *of == term).map(|(index, _)| index));
        }
        if !is_in_term(&lab, term) {
            continue;
        }
        let mut applied = Vec::new();
        for index in accepted {
            applied.push(lab.wait(index, 3, Some(term)).await);
        }
        if applied.iter().all(Option::is_some) {
            for value in 100..105 {
                assert!(applied.contains(&Some(number(value))), "{value} is missing among what was applied");
            }
            return;
        }
    }
    panic!("the term changed in each of five attempts");
}

async fn offer_soon(lab: Lab, at: usize, value: u64) -> Option<(usize, Term)> {
    let micros = lab.random(100);
    lab.pass(std::time::Duration::from_micros(micros)).await;
    lab.start(at, &number(value))
}

fn is_in_term(lab: &Lab, term: Term) -> bool {
    (0..lab.servers()).all(|at| lab.state(at).is_some_and(|(now, _)| now == term))
}

pub async fn rejoin(lab: Lab) {
    lab.agree(&number(101), 3).await;
    let first = lab.leader().await;
    lab.cut(first);
    for value in 102..=104 {
        lab.start(first, &number(value));
    }
    lab.agree(&number(103), 2).await;
    let second = lab.leader().await;
    lab.cut(second);
    lab.join(first);
    lab.agree(&number(104), 2).await;
    lab.join(second);
    lab.agree(&number(105), 3).await;
}

fn offer_many(lab: &Lab, at: usize) {
    for _ in 0..50 {
        lab.start(at, &lab.any_value());
    }
}

async fn agree_on_many(lab: &Lab) {
    for _ in 0..50 {
        lab.agree(&lab.any_value(), 3).await;
    }
}

pub async fn backup(lab: Lab) {
    lab.agree(&lab.any_value(), 5).await;
    let first = lab.leader().await;
    let (minority, majority) = (lab.ring(first, 0..2), lab.ring(first, 2..5));
    majority.iter().for_each(|at| lab.cut(*at));
    offer_many(&lab, first);
    lab.sleep(E / 2).await;
    minority.iter().for_each(|at| lab.cut(*at));
    majority.iter().for_each(|at| lab.join(*at));
    agree_on_many(&lab).await;
    let second = lab.leader().await;
    let mut other = (first + 2) % 5;
    if other == second {
        other = (second + 1) % 5;
    }
    lab.cut(other);
    offer_many(&lab, second);
    lab.sleep(E / 2).await;
    (0..5).for_each(|at| lab.cut(at));
    minority.iter().for_each(|at| lab.join(*at));
    lab.join(other);
    agree_on_many(&lab).await;
    (0..5).for_each(|at| lab.join(at));
    lab.agree(&lab.any_value(), 5).await;
}

pub async fn count(lab: Lab) {
    let handled = || lab.with(|world| world.network.handled);
    lab.leader().await;
    let election = handled();
    assert!((1..=30).contains(&election), "{election} requests until there was a leader");
    for attempt in 0..5 {
        if attempt > 0 {
            lab.sleep(3 * E).await;
        }
        let leader = lab.leader().await;
        let before = handled();
        let Some((first, term)) = lab.start(leader, &number(1)) else { continue };
        let Some(offered) = offer_eleven(&lab, leader, first, term) else { continue };
        let mut in_time = true;
        for (index, value) in (first + 1..).zip(&offered) {
            let applied = lab.wait(index, 3, Some(term)).await;
            assert!(applied.is_none() || applied.as_ref() == Some(value), "another command at {index}");
            in_time &= applied.is_some();
        }
        if !in_time || !is_in_term(&lab, term) {
            continue;
        }
        let agreement = handled() - before;
        assert!(agreement <= 42, "{agreement} requests for 12 commands");
        let before = handled();
        lab.sleep(E).await;
        let idle = handled() - before;
        assert!(idle <= 60, "{idle} requests in an idle second");
        return;
    }
    panic!("the term changed in each of five attempts");
}

/// `None` when the leader or its term changed.
fn offer_eleven(lab: &Lab, leader: usize, first: usize, term: Term) -> Option<Vec<Value>> {
    let mut offered = Vec::new();
    for index in first + 1..=first + 11 {
        let value = number(lab.random(1 << 31));
        let (accepted, now) = lab.start(leader, &value)?;
        if now != term {
            return None;
        }
        assert_eq!(accepted, index, "commands of one leader get consecutive indexes");
        offered.push(value);
    }
    Some(offered)
}
