//! Random histories of the log on a simulated disk, against a model.
//!
//! After every simulated crash the log must hold exactly what was acknowledged, or that plus the one call that was
//! under way: nothing less, nothing else, nothing by halves. `QUORATE_HISTORIES=100000 cargo test --profile soak --test
//! storage_histories` runs more of them; `QUORATE_SEED=n` runs one.

mod storage_model;

use std::sync::atomic::{AtomicU64, Ordering};

use quorate::storage::Rules;
use storage_model::history::{Totals, run};

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn acknowledged_writes_survive_every_history() {
    if let Some(seed) = from_environment("QUORATE_SEED") {
        let totals =
            run(seed, Rules::default()).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        println!("{totals:?}");
        return;
    }
    let histories = from_environment("QUORATE_HISTORIES").unwrap_or(2000);
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let next = AtomicU64::new(0);
    let totals = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut totals = Totals::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= histories {
                            return totals;
                        }
                        match run(seed, Rules::default()) {
                            Ok(more) => totals.add(more),
                            Err(violation) => panic!("QUORATE_SEED={seed}: {violation}"),
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().fold(Totals::default(), |mut sum, thread| {
            sum.add(thread.join().expect("a violation was found, see above"));
            sum
        })
    });
    println!("{histories} histories: {totals:?}");
    assert!(totals.appends > 50 * histories / 2, "the histories are too short to show anything: {totals:?}");
    assert!(totals.power_losses > histories / 2 && totals.process_crashes > histories / 4, "{totals:?}");
    assert!(totals.released > histories && totals.relocated > 0 && totals.refused > 0, "{totals:?}");
}

/// Every rule switched off must be missed, within this many histories.
const ENOUGH: u64 = 3000;

fn is_found(rules: Rules) {
    // The violation may be a panic of the log's own assertions: those need not be printed.
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..ENOUGH).find(|seed| !matches!(std::panic::catch_unwind(|| run(*seed, rules)), Ok(Ok(_))));
    let _ = std::panic::take_hook();
    assert!(found.is_some(), "no history misses the rule that is off in {rules:?}");
    println!("found by history {}", found.unwrap_or_default());
}

macro_rules! missed {
    ($($rule:ident),* $(,)?) => {
        $(#[test]
        fn $rule() {
            is_found(Rules { $rule: false, ..Rules::default() });
        })*
    };
}

/// One test for each rule of the log.
mod without {
    use super::*;

    missed! {
        tie_frames_to_their_place,
        one_unsynced_frame,
        repeat_hard_state,
        relocate_whole_logs,
        accept_missing_beginning,
        head_before_name,
        sync_name_before_reuse,
        sync_names_at_open,
        sync_files_at_open,
        evict_at_open,
        stop_at_failed_sync,
    }
}
