//! Part D: snapshots. The service takes one after every tenth command, and the stored log stays small.

use crate::tasks::Lab;
use crate::tester::Course;

/// Most bytes that a server may have stored beside its snapshot.
const MAX_LOG: usize = 2000;

/// What happens to a follower in each round.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    Disconnect,
    Crash,
}

pub async fn snap(lab: Lab, fault: Fault, course: Course) {
    lab.agree(&lab.any_value(), 3).await;
    let mut leader = lab.leader().await;
    for round in 0..30 {
        let (mut victim, mut sender) = ((leader + 1) % 3, leader);
        if round % 3 == 1 {
            (victim, sender) = (sender, victim);
        }
        let others = if fault == Fault::Nothing { 3 } else { 2 };
        match fault {
            Fault::Nothing => {}
            Fault::Disconnect => lab.cut(victim),
            Fault::Crash => lab.crash(victim),
        }
        if fault != Fault::Nothing {
            lab.agree(&lab.any_value(), others).await;
        }
        for _ in 0..5 + lab.random(10) {
            lab.start(sender, &lab.any_value());
        }
        lab.agree(&lab.any_value(), others).await;
        let size = lab.log_size();
        assert!(size < MAX_LOG, "a stored log has {size} bytes");
        match fault {
            Fault::Nothing => continue,
            Fault::Disconnect => lab.join(victim),
            Fault::Crash => lab.restart(victim, course),
        }
        lab.agree(&lab.any_value(), 3).await;
        leader = lab.leader().await;
    }
    let taken = lab.with(|world| world.cluster.nodes.values().all(|node| node.disk.snapshot.is_some()));
    assert!(taken, "a server has no snapshot");
}

fn restart_all(lab: &Lab, course: Course) {
    (0..3).for_each(|at| lab.crash(at));
    (0..3).for_each(|at| lab.restart(at, course));
}

pub async fn all_crash(lab: Lab, course: Course) {
    lab.agree(&lab.any_value(), 3).await;
    for _ in 0..5 {
        for _ in 0..5 + lab.random(10) {
            lab.agree(&lab.any_value(), 3).await;
        }
        let before = lab.agree(&lab.any_value(), 3).await;
        restart_all(&lab, course);
        let after = lab.agree(&lab.any_value(), 3).await;
        assert!(after > before, "index {before} was followed by {after}");
    }
}

pub async fn init(lab: Lab, course: Course) {
    lab.agree(&lab.any_value(), 3).await;
    for _ in 0..11 {
        lab.agree(&lab.any_value(), 3).await;
    }
    restart_all(&lab, course);
    // Forces a write of what is persistent, which must not lose the snapshot.
    lab.agree(&lab.any_value(), 3).await;
    restart_all(&lab, course);
    lab.agree(&lab.any_value(), 3).await;
}
