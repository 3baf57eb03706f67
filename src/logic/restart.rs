//! The restart policy: how often, and after what delay, something that failed is started again.
//!
//! Two questions are kept apart because a supervisor asks them at different levels. [`Intensity`] bounds how many
//! restarts a whole group may use up in a sliding window; past that the fault is not transient and somebody
//! higher up must decide. [`Backoff`] spaces the restarts of one thing, so that a fault that does not go away
//! by itself is not hammered. [`RestartState`] is both at once, for whoever restarts a single thing.
//!
//! Time comes in as a [`Duration`] since any fixed moment; it must not run backwards.

use std::collections::VecDeque;
use std::time::Duration;

/// How something that failed is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// At most this many restarts within [`window`](Self::window); one more failure is given up on. Zero: never
    /// restart.
    pub max_restarts: u32,
    /// Length of the sliding window.
    pub window: Duration,
    /// Delay before the first restart of a streak of failures. Zero by default: most faults are transient, and
    /// fail-over should not wait.
    pub first_delay: Duration,
    /// Delay before the second restart of a streak; it doubles with every further one.
    pub base_delay: Duration,
    /// The delay never grows beyond this.
    pub max_delay: Duration,
    /// Share of a delay, in thousandths (0 ..= 1000), that is left to chance: the delay is drawn uniformly from
    /// `[d * (1 - jitter), d]`. The first delay is not jittered.
    pub jitter_permille: u16,
    /// What has run this long is healthy: its next failure begins a new streak.
    pub stable_after: Duration,
}

impl Default for RestartPolicy {
    /// Ten restarts in thirty seconds; delays of 0, 50, 100, 200 ... 5000 ms with 20 % jitter; stable after ten
    /// seconds.
    fn default() -> Self {
        Self {
            max_restarts: 10,
            window: Duration::from_secs(30),
            first_delay: Duration::ZERO,
            base_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(5),
            jitter_permille: 200,
            stable_after: Duration::from_secs(10),
        }
    }
}

impl RestartPolicy {
    /// The default policy with another intensity: at most `max_restarts` within `window`.
    pub fn intensity(max_restarts: u32, window: Duration) -> Self {
        Self { max_restarts, window, ..Self::default() }
    }

    /// The policy that never restarts: the first failure is given up on.
    pub fn never() -> Self {
        Self { max_restarts: 0, ..Self::default() }
    }

    /// The same policy with delays of `first`, then `base` doubling up to `max`.
    pub fn delays(mut self, first: Duration, base: Duration, max: Duration) -> Self {
        (self.first_delay, self.base_delay, self.max_delay) = (first, base, max);
        self
    }

    /// The same policy with this share of chance, in thousandths; more than 1000 counts as 1000.
    pub fn jitter(mut self, permille: u16) -> Self {
        self.jitter_permille = permille.min(1000);
        self
    }

    /// The same policy with another time after which a streak of failures is forgotten.
    pub fn stable_after(mut self, healthy: Duration) -> Self {
        self.stable_after = healthy;
        self
    }
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after this delay.
    Restart(Duration),
    /// It failed too often: leave it to whoever is above.
    GiveUp,
}

/// Counts restarts in a sliding window.
#[derive(Clone, Debug)]
pub struct Intensity {
    max: usize,
    window: Duration,
    /// When the restarts of the current window were admitted, oldest first; never longer than `max`.
    admitted: VecDeque<Duration>,
}

impl Intensity {
    /// A window in which nothing happened yet.
    pub fn new(policy: &RestartPolicy) -> Self {
        Self { max: policy.max_restarts as usize, window: policy.window, admitted: VecDeque::new() }
    }

    /// May one more restart happen at `now`? If so, it is counted. A restart exactly one window old no longer
    /// counts.
    pub fn admit(&mut self, now: Duration) -> bool {
        while self.admitted.front().is_some_and(|at| now.saturating_sub(*at) >= self.window) {
            self.admitted.pop_front();
        }
        if self.admitted.len() >= self.max {
            return false;
        }
        self.admitted.push_back(now);
        true
    }
}

/// The growing delay between the restarts of one thing.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RestartPolicy,
    /// Failures in a row, without a stable period between them.
    streak: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    /// A back-off at its beginning. Equal seeds give equal delays.
    pub fn new(policy: &RestartPolicy, seed: u64) -> Self {
        Self { policy: policy.clone(), streak: 0, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The delay after a failure of something that had run for `alive` (zero: it never came up).
    pub fn next(&mut self, alive: Duration) -> Duration {
        if alive >= self.policy.stable_after {
            self.streak = 0;
        }
        self.streak = self.streak.saturating_add(1);
        match self.streak {
            1 => self.policy.first_delay,
            n => {
                let doublings = (n - 2).min(31);
                let delay = self.policy.base_delay.saturating_mul(1 << doublings).min(self.policy.max_delay);
                self.jittered(delay)
            }
        }
    }

    fn jittered(&mut self, delay: Duration) -> Duration {
        let chance = u32::from(self.policy.jitter_permille.min(1000));
        if chance == 0 {
            return delay;
        }
        let kept = 1000 - self.rng.u32(0..=chance);
        delay.saturating_mul(kept) / 1000
    }
}

/// Intensity and back-off of one thing.
#[derive(Clone, Debug)]
pub struct RestartState {
    intensity: Intensity,
    backoff: Backoff,
}

impl RestartState {
    /// A state without failures. Equal seeds give equal delays.
    pub fn new(policy: &RestartPolicy, seed: u64) -> Self {
        Self { intensity: Intensity::new(policy), backoff: Backoff::new(policy, seed) }
    }

    /// It failed at `now`, having run for `alive` (zero: it never came up).
    pub fn failed(&mut self, now: Duration, alive: Duration) -> Decision {
        if self.intensity.admit(now) { Decision::Restart(self.backoff.next(alive)) } else { Decision::GiveUp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn exact() -> RestartPolicy {
        RestartPolicy::intensity(100, ms(10_000))
            .delays(ms(0), ms(50), ms(400))
            .jitter(0)
            .stable_after(ms(1000))
    }

    #[test]
    fn the_first_restart_is_immediate_and_later_ones_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(&exact(), 1);
        let delays: Vec<_> = (0..6).map(|_| backoff.next(ms(10))).collect();
        assert_eq!(delays, [ms(0), ms(50), ms(100), ms(200), ms(400), ms(400)]);
    }

    #[test]
    fn a_stable_period_begins_a_new_streak() {
        let mut backoff = Backoff::new(&exact(), 1);
        backoff.next(ms(0));
        assert_eq!(backoff.next(ms(999)), ms(50));
        assert_eq!(backoff.next(ms(1000)), ms(0));
        assert_eq!(backoff.next(ms(0)), ms(50));
    }

    #[test]
    fn the_window_slides() {
        let mut intensity = Intensity::new(&RestartPolicy::intensity(2, ms(100)));
        assert!(intensity.admit(ms(0)));
        assert!(intensity.admit(ms(60)));
        assert!(!intensity.admit(ms(99)), "two restarts lie within 100 ms");
        assert!(intensity.admit(ms(100)), "the first is one window old");
        assert!(!intensity.admit(ms(159)));
        assert!(intensity.admit(ms(160)));
    }

    #[test]
    fn a_policy_of_zero_restarts_gives_up_at_once() {
        let mut state = RestartState::new(&RestartPolicy::never(), 1);
        assert_eq!(state.failed(ms(5), ms(5)), Decision::GiveUp);
    }

    #[test]
    fn jitter_stays_in_its_band_and_depends_on_nothing_but_the_seed() {
        let policy = exact().jitter(250);
        let run = |seed| {
            let mut backoff = Backoff::new(&policy, seed);
            (0..20).map(|_| backoff.next(ms(0))).collect::<Vec<_>>()
        };
        let delays = run(7);
        assert_eq!(delays, run(7));
        assert_ne!(delays, run(8));
        assert_eq!(delays[0], ms(0));
        for delay in &delays[4..] {
            assert!((ms(300)..=ms(400)).contains(delay), "{delay:?}");
        }
    }

    #[test]
    fn extreme_policies_do_not_overflow() {
        let policy = RestartPolicy::intensity(u32::MAX, Duration::MAX)
            .delays(Duration::MAX, Duration::MAX, Duration::MAX)
            .jitter(u16::MAX);
        let mut state = RestartState::new(&policy, 1);
        for _ in 0..100 {
            assert!(matches!(state.failed(Duration::MAX, Duration::ZERO), Decision::Restart(_)));
        }
    }
}
