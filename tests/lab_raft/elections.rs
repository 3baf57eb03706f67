//! Part A: elections.

use crate::tasks::Lab;
use crate::tester::E;

/// Stricter than the course, which only warns when the term changes: nothing is broken, so nobody may campaign.
pub async fn initial_election(lab: Lab) {
    let first = lab.leader().await;
    lab.sleep(50).await;
    let before = lab.terms();
    assert!(before >= 1, "the term is {before}");
    lab.sleep(2 * E).await;
    assert_eq!(lab.terms(), before, "the term changed although nothing failed");
    assert_eq!(lab.leader().await, first, "the leader changed although nothing failed");
}

pub async fn re_election(lab: Lab) {
    let first = lab.leader().await;
    lab.cut(first);
    lab.leader().await;
    lab.join(first);
    let second = lab.leader().await;
    let next = (second + 1) % lab.servers();
    lab.cut(second);
    lab.cut(next);
    lab.sleep(2 * E).await;
    lab.no_leader();
    lab.join(next);
    lab.leader().await;
    lab.join(second);
    lab.leader().await;
}

pub async fn many_elections(lab: Lab) {
    lab.leader().await;
    for _ in 0..9 {
        let servers = lab.servers() as u64;
        let drawn: Vec<usize> = (0..3).map(|_| lab.random(servers) as usize).collect();
        drawn.iter().for_each(|at| lab.cut(*at));
        lab.leader().await;
        drawn.iter().for_each(|at| lab.join(*at));
    }
    lab.leader().await;
}
