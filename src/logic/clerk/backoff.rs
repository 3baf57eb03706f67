//! Waiting before trying again: exponential, with full jitter, so that many clients do not come back in step.

use std::time::Duration;

/// Shortest wait.
const FLOOR: Duration = Duration::from_millis(10);
/// Width of the first waits' jitter; it doubles with each later failure.
const SPREAD: Duration = Duration::from_millis(40);
/// So many waits are short: an actor of the leader that failed is back, or another leader elected, before long, and a
/// wait that has doubled since would be longer than that itself.
const SHORT: u32 = 5;

/// How long to wait after `failures` failures in a row (0: the first): between 10 ms and 50 ms at first, then up to
/// twice as wide each time, never longer than `cap`.
pub(super) fn pause(failures: u32, cap: Duration, rng: &mut fastrand::Rng) -> Duration {
    let room = cap.saturating_sub(FLOOR).as_micros() as u64;
    let spread =
        (SPREAD.as_micros() as u64).saturating_mul(1 << failures.saturating_sub(SHORT - 1).min(16)).min(room);
    FLOOR.min(cap) + Duration::from_micros(rng.u64(0..=spread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_spread_out_and_stay_below_the_cap() {
        let mut rng = fastrand::Rng::with_seed(1);
        let cap = Duration::from_millis(500);
        let longest = |n, rng: &mut fastrand::Rng| (0..200).map(|_| pause(n, cap, rng)).max();
        assert!(longest(0, &mut rng) <= Some(Duration::from_millis(50)));
        assert!(longest(0, &mut rng) > Some(Duration::from_millis(40)));
        assert!(longest(4, &mut rng) <= Some(Duration::from_millis(50)));
        assert!(longest(7, &mut rng) > Some(Duration::from_millis(250)));
        for failures in 0..40 {
            for _ in 0..50 {
                let pause = pause(failures, cap, &mut rng);
                assert!(pause >= FLOOR && pause <= cap, "{pause:?} after {failures}");
            }
        }
        assert_eq!(pause(9, Duration::from_millis(2), &mut rng), Duration::from_millis(2));
    }
}
