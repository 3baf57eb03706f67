//! Progress of the attempts of a job: which have stalled, and which are slow enough for a second attempt beside them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::logic::mapreduce::job::{Attempt, Phase};
use crate::logic::mapreduce::report::Progress;

/// So many of the last durations of a phase are remembered.
const MEMORY: usize = 101;
/// Below so many, it is not known yet how long a task of the phase takes.
const EXPERIENCE: usize = 3;
/// A straggler has taken so many times as long as half of the finished tasks.
const SLOW: u32 = 3;

/// What was observed of the attempts of a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    running: BTreeMap<Attempt, Observed>,
    durations: BTreeMap<Phase, VecDeque<Duration>>,
}

/// What was observed of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    pub(super) since: Duration,
    pub(super) progress: Progress,
    moved: Duration,
}

impl Watch {
    /// An attempt is running; or it was before this coordinator came, and is observed from now on.
    pub(super) fn begin(&mut self, attempt: Attempt, now: Duration) {
        self.running.insert(attempt, Observed { since: now, progress: Progress::default(), moved: now });
    }

    pub(super) fn observe(&mut self, attempt: Attempt, progress: Progress, now: Duration) {
        if let Some(observed) = self.running.get_mut(&attempt) {
            if progress.steps != observed.progress.steps {
                observed.moved = now;
            }
            observed.progress = progress;
        }
    }

    pub(super) fn finish(&mut self, attempt: Attempt, now: Duration) {
        if let Some(observed) = self.running.remove(&attempt) {
            let durations = self.durations.entry(attempt.task.phase).or_default();
            if durations.len() == MEMORY {
                durations.pop_front();
            }
            durations.push_back(now.saturating_sub(observed.since));
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(Attempt) -> bool) {
        self.running.retain(|attempt, _| keep(*attempt));
    }

    /// Attempts that have not moved for so long.
    pub(super) fn stalled(&self, now: Duration, limit: Duration) -> impl Iterator<Item = Attempt> {
        let stalled = self.running.iter().filter(move |(_, seen)| now.saturating_sub(seen.moved) >= limit);
        stalled.map(|(attempt, _)| *attempt)
    }

    /// Attempts of this phase are not to blame for the time so far.
    pub(super) fn excuse(&mut self, phase: Phase, now: Duration) {
        let waiting = self.running.iter_mut().filter(|(attempt, _)| attempt.task.phase == phase);
        waiting.for_each(|(_, seen)| seen.moved = now);
    }

    pub(super) fn of(&self, attempt: Attempt) -> Option<Observed> {
        self.running.get(&attempt).copied()
    }

    /// Attempts of a phase that have run for at least `least`, and far longer than the others took, the slowest first.
    pub(super) fn stragglers(&self, phase: Phase, now: Duration, least: Duration) -> Vec<Attempt> {
        let Some(usual) = self.usual(phase) else { return Vec::new() };
        let limit = least.max(usual * SLOW);
        let age = |seen: &Observed| now.saturating_sub(seen.since);
        let slow =
            self.running.iter().filter(|(attempt, seen)| attempt.task.phase == phase && age(seen) >= limit);
        let mut slow: Vec<_> = slow.map(|(attempt, seen)| (seen.since, *attempt)).collect();
        slow.sort_unstable();
        slow.into_iter().map(|(_, attempt)| attempt).collect()
    }

    /// How long half of the finished tasks took at most.
    fn usual(&self, phase: Phase) -> Option<Duration> {
        let durations = self.durations.get(&phase).filter(|durations| durations.len() >= EXPERIENCE)?;
        let mut sorted: Vec<_> = durations.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}
