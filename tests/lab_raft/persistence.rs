//! Part C: persistence, on reliable and unreliable networks.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::server::Value;
use crate::tasks::Lab;
use crate::tester::{Course, E, number};

/// 2022 only isolates a server that 2025 crashes, and crashes it when it is to be started again.
fn take_out(lab: &Lab, at: usize, course: Course) {
    match course {
        Course::Y2022 => lab.cut(at),
        Course::Y2025 => lab.crash(at),
    }
}

pub async fn persist_1(lab: Lab, course: Course) {
    lab.agree(&number(11), 3).await;
    if course == Course::Y2025 {
        (0..3).for_each(|at| lab.crash(at));
    }
    (0..3).for_each(|at| lab.restart(at, course));
    lab.agree(&number(12), 3).await;
    let first = lab.leader().await;
    take_out(&lab, first, course);
    lab.restart(first, course);
    lab.agree(&number(13), 3).await;
    let second = lab.leader().await;
    take_out(&lab, second, course);
    lab.agree(&number(14), 2).await;
    lab.restart(second, course);
    lab.wait(4, 3, None).await;
    let follower = (lab.leader().await + 1) % 3;
    take_out(&lab, follower, course);
    lab.agree(&number(15), 2).await;
    lab.restart(follower, course);
    lab.agree(&number(16), 3).await;
}

pub async fn persist_2(lab: Lab, course: Course) {
    let mut values = (11..).map(number);
    let mut next = || values.next().expect("numbers do not end");
    for _ in 0..5 {
        lab.agree(&next(), 5).await;
        let leader = lab.leader().await;
        let at = lab.ring(leader, 0..5);
        [1, 2].into_iter().for_each(|i| take_out(&lab, at[i], course));
        lab.agree(&next(), 3).await;
        [0, 3, 4].into_iter().for_each(|i| take_out(&lab, at[i], course));
        [1, 2].into_iter().for_each(|i| lab.restart(at[i], course));
        if course == Course::Y2025 {
            // A restart connects everybody, but these are down.
            assert!([0, 3, 4].iter().all(|i| !lab.is_up(at[*i])));
        }
        lab.sleep(E).await;
        lab.restart(at[3], course);
        lab.agree(&next(), 3).await;
        match course {
            Course::Y2022 => [4, 0].into_iter().for_each(|i| lab.join(at[i])),
            Course::Y2025 => [4, 0].into_iter().for_each(|i| lab.restart(at[i], course)),
        }
    }
    lab.agree(&number(1000), 5).await;
}

pub async fn persist_3(lab: Lab, course: Course) {
    lab.agree(&number(101), 3).await;
    let leader = lab.leader().await;
    let at = lab.ring(leader, 0..3);
    lab.cut(at[2]);
    lab.agree(&number(102), 2).await;
    lab.crash(at[0]);
    lab.crash(at[1]);
    lab.join(at[2]);
    lab.restart(at[0], course);
    assert_eq!(lab.agree(&number(103), 2).await, 3, "what a majority had agreed on got lost");
    lab.restart(at[1], course);
    lab.agree(&number(104), 3).await;
}

/// Offers a command to every server that runs; returns the last that accepted it.
fn offer_everywhere(lab: &Lab, value: &Value) -> Option<(usize, usize)> {
    let accepted = |at| lab.start(at, value).map(|(index, _)| (at, index));
    (0..lab.servers()).filter_map(accepted).last()
}

async fn sleep_a_little(lab: &Lab) {
    let long = lab.random(1000) < 100;
    let millis = if long { lab.random(E / 2) } else { lab.random(13) };
    lab.sleep(millis).await;
}

pub async fn figure_8(lab: Lab, course: Course) {
    lab.agree(&lab.any_value(), 1).await;
    for _ in 0..1000 {
        let leader = offer_everywhere(&lab, &lab.any_value());
        sleep_a_little(&lab).await;
        if let Some((leader, _)) = leader {
            lab.crash(leader);
        }
        if (0..5).filter(|at| lab.is_up(*at)).count() < 3 {
            let lucky = lab.random(5) as usize;
            if !lab.is_up(lucky) {
                lab.restart(lucky, course);
            }
        }
    }
    restore(&lab, course);
    lab.agree(&lab.any_value(), 5).await;
}

/// Everybody runs and is connected.
fn restore(lab: &Lab, course: Course) {
    for at in 0..lab.servers() {
        if !lab.is_up(at) {
            lab.restart(at, course);
        }
        lab.join(at);
    }
}

pub async fn unreliable_agree(lab: Lab) {
    let mut background = Vec::new();
    for i in 1..50 {
        for j in 0..4 {
            let task_lab = lab.clone();
            background.push(lab.spawn(async move { task_lab.agree(&number(100 * i + j), 1).await }));
        }
        lab.agree(&number(i), 1).await;
    }
    lab.set_reliable(true);
    for agreement in background {
        agreement.end().await;
    }
    lab.agree(&number(100), 5).await;
}

pub async fn figure_8_unreliable(lab: Lab) {
    lab.agree(&number(lab.random(10_000)), 1).await;
    let mut up = 5;
    for iteration in 0..1000 {
        if iteration == 200 {
            lab.with(|world| world.network.long_reordering = true);
        }
        let accepted: Vec<usize> = {
            let value = number(lab.random(10_000));
            (0..5).filter(|at| lab.start(*at, &value).is_some() && lab.is_connected(*at)).collect()
        };
        sleep_a_little(&lab).await;
        if let Some(leader) = accepted.last()
            && lab.random(1000) < 500
        {
            lab.cut(*leader);
            up -= 1;
        }
        if up < 3 {
            let lucky = lab.random(5) as usize;
            if !lab.is_connected(lucky) {
                lab.join(lucky);
                up += 1;
            }
        }
    }
    (0..5).for_each(|at| lab.join(at));
    lab.agree(&lab.any_value(), 5).await;
}

/// Servers come and go while three clients offer commands; whatever a client saw applied must stay.
pub async fn churn(lab: Lab, course: Course) {
    let stop = Rc::new(Cell::new(false));
    let clients: Vec<_> = (0..3).map(|me| lab.spawn(client(lab.clone(), me, stop.clone()))).collect();
    for _ in 0..20 {
        let any = || lab.random(5) as usize;
        if lab.random(1000) < 200 {
            lab.cut(any());
        }
        if lab.random(1000) < 500 {
            let lucky = any();
            if !lab.is_up(lucky) {
                lab.restart(lucky, course);
            }
            lab.join(lucky);
        }
        if lab.random(1000) < 200 {
            let unlucky = any();
            if lab.is_up(unlucky) {
                lab.crash(unlucky);
            }
        }
        lab.sleep(700).await;
    }
    lab.sleep(E).await;
    lab.set_reliable(true);
    restore(&lab, course);
    stop.set(true);
    let mut seen = Vec::new();
    for client in clients {
        seen.extend(client.end().await);
    }
    assert!(!seen.is_empty(), "no client saw a command of its own applied");
    lab.sleep(E).await;
    let last = lab.agree(&lab.any_value(), 5).await;
    let mut applied = BTreeSet::new();
    for index in 1..=last {
        applied.extend(lab.wait(index, 5, None).await);
    }
    for value in seen {
        assert!(applied.contains(&value), "a command that was applied is gone");
    }
}

/// Returns the commands that it saw applied.
async fn client(lab: Lab, me: u64, stop: Rc<Cell<bool>>) -> Vec<Value> {
    let mut seen = Vec::new();
    while !stop.get() {
        // An offer takes a moment, or a leader that was cut off could be offered any number of commands in no time.
        lab.sleep(1).await;
        let value = lab.any_value();
        match offer_everywhere(&lab, &value) {
            None => lab.sleep(79 + 17 * me).await,
            Some((_, index)) => {
                for pause in [10, 20, 50, 100, 200] {
                    let (count, what) = lab.committed(index);
                    if count > 0 {
                        if what.as_ref() == Some(&value) {
                            seen.push(value);
                        }
                        break;
                    }
                    lab.sleep(pause).await;
                }
            }
        }
    }
    seen
}
