//! What happens to simulated workers: one thing after the other, and several at once. Everything ends by itself.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::worker::{Crew, Disk, Worker};

/// Longest pause between two.
const PAUSE_MS: u64 = 1500;

/// Lets things happen for so long.
pub(super) async fn rage(crew: &Rc<Crew>, time: Duration) {
    let watch = crew.cluster().watch();
    let end = watch.now() + time;
    while watch.now() < end {
        sleep(Duration::from_millis(crew.below(PAUSE_MS))).await;
        let victim = crew.workers[crew.below(crew.workers.len() as u64) as usize].clone();
        let (kind, lasts) = (crew.below(6), Duration::from_millis(crew.below(6000)));
        spawn_local(strike(crew.clone(), victim, kind, lasts));
    }
}

async fn strike(crew: Rc<Crew>, victim: Rc<Worker>, kind: u64, lasts: Duration) {
    match kind {
        // Its process is killed, and started again.
        0 | 1 => {
            victim.crash();
            sleep(lasts / 3).await;
            crew.start_worker(&victim);
        }
        // So is its disk lost.
        2 => {
            victim.crash();
            *victim.disk.borrow_mut() = Disk::new(crew.draw().max(1));
            sleep(lasts).await;
            crew.start_worker(&victim);
        }
        // Nobody reaches it.
        3 => {
            cut(&crew, &victim, true);
            sleep(lasts).await;
            cut(&crew, &victim, false);
        }
        4 => {
            victim.freeze(true);
            sleep(lasts).await;
            victim.freeze(false);
        }
        _ => {
            victim.disk.borrow_mut().full = true;
            sleep(lasts).await;
            victim.disk.borrow_mut().full = false;
        }
    }
}

fn cut(crew: &Crew, victim: &Worker, cut: bool) {
    victim.cut_off.set(cut);
    let network = crew.cluster().network();
    for node in crew.cluster().nodes() {
        network.partition(&[&victim.name], &[&node.to_string()], cut);
    }
}
