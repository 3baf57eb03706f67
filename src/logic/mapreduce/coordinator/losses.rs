//! What is given up: workers that are silent, attempts that stall, output that cannot be had, or that nobody collects.

use super::{Coordinator, Entry, Records, Worker};
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::{Attempt, Phase, TaskId};
use crate::logic::mapreduce::record::{JobId, Record, WorkerId, WorkerLife};
use crate::logic::mapreduce::report::Work;

/// So many reducers have to miss the output of a map task before it is made again, unless it is surely gone.
const STRIKES: u32 = 2;

impl Coordinator {
    /// A reducer misses the output of a map task.
    pub(super) fn strike(&mut self, job: JobId, map: Attempt, gone: bool, why: &str, records: &mut Records) {
        let given_up = self.holder(job, map).is_some_and(|holder| !self.workers.contains_key(&holder));
        let Some(entry) = self.jobs.get_mut(&job) else { return };
        let strikes = entry.strikes.entry(map).or_default();
        *strikes += 1;
        if gone || given_up || *strikes >= STRIKES {
            entry.strikes.remove(&map);
            // Another reducer may have said so before: then it does not fit.
            self.reopen(job, map, why, records);
        }
    }

    /// Output cannot be had: it is made again, and so is all that its holder has of the phase if nobody hears of that
    /// worker. Otherwise each piece would be missed one after the other, and each after some time.
    pub(super) fn reopen(&mut self, job: JobId, attempt: Attempt, why: &str, records: &mut Records) {
        let holder = self.holder(job, attempt).filter(|holder| !self.workers.contains_key(holder));
        let mut missed = vec![attempt];
        if let (Some(holder), Some(entry)) = (holder, self.jobs.get(&job)) {
            let phase = attempt.task.phase;
            let held = entry.table.tasks(phase).iter().zip(0..).filter_map(|(task, index)| {
                let done = task.done.as_ref().filter(|done| done.worker == holder)?;
                Some(Attempt { task: TaskId { phase, index }, number: done.number })
            });
            missed.extend(held.filter(|other| *other != attempt));
        }
        for attempt in missed {
            let _ = self.note(job, Record::Reopened { attempt, why: why.to_owned() }, records);
        }
    }

    /// Who has the output of this attempt, if it is the one that counts.
    fn holder(&self, job: JobId, attempt: Attempt) -> Option<WorkerId> {
        let done = self.jobs.get(&job)?.table.task(attempt.task)?.done.as_ref()?;
        (done.number == attempt.number).then_some(done.worker)
    }

    /// Whoever missed the output of this worker may find it now.
    pub(super) fn forgive(&mut self, worker: WorkerId) {
        for Entry { table, strikes, .. } in self.jobs.values_mut() {
            let holder = |attempt: &Attempt| Some(table.task(attempt.task)?.done.as_ref()?.worker);
            strikes.retain(|attempt, _| holder(attempt) != Some(worker));
        }
    }

    pub(super) fn give_up_workers(&mut self, records: &mut Records) {
        let silent = |worker: &Worker| self.now.saturating_sub(worker.heard) >= self.patience.worker;
        let gone: Vec<WorkerId> = self.workers.iter().filter(|(_, w)| silent(w)).map(|(id, _)| *id).collect();
        for worker in gone {
            self.workers.remove(&worker);
            let why = format!("its worker was not heard for {:?}", self.patience.worker);
            self.end_lives(worker, None, &why, records);
        }
    }

    /// Ends what this worker runs, but for the life with this number.
    pub(super) fn end_lives(&mut self, worker: WorkerId, but: Option<u64>, why: &str, records: &mut Records) {
        let over = |life: WorkerLife| life.worker == worker && Some(life.boot) != but;
        for work in self.running_where(over) {
            let record = Record::Lost { attempt: work.attempt, why: why.to_owned() };
            let _ = self.note(work.job, record, records);
        }
    }

    fn running_where(&self, wanted: impl Fn(WorkerLife) -> bool) -> Vec<Work> {
        let all = self.jobs.iter().flat_map(|(job, entry)| {
            entry.table.running().map(|(attempt, life)| (Work { job: *job, attempt }, life))
        });
        all.filter(|(_, life)| wanted(*life)).map(|(work, _)| work).collect()
    }

    pub(super) fn give_up_stalled(&mut self, records: &mut Records) {
        let mut stalled = Vec::new();
        for (job, entry) in &mut self.jobs {
            if entry.table.phase() == Phase::Map {
                // A reducer cannot get on while the output of a map task is made again.
                entry.watch.excuse(Phase::Reduce, self.now);
            }
            let attempts = entry.watch.stalled(self.now, entry.shape.stall);
            stalled.extend(attempts.map(|attempt| (Work { job: *job, attempt }, entry.shape.stall)));
        }
        for (work, stall) in stalled {
            let message = format!("no progress for {stall:?}");
            let failure = TaskFailure::function(message);
            let _ = self.note(work.job, Record::Failed { attempt: work.attempt, failure }, records);
        }
    }

    /// Whoever forgets to collect must not fill the workers' disks, nor the store. The time is counted from when this
    /// coordinator saw the job finished: then no wall clock that jumps can take output away, and each coordinator that
    /// takes over grants all of it anew. The number bounds what that may come to.
    pub(super) fn give_up_uncollected(&mut self, records: &mut Records) {
        let mut waiting = Vec::new();
        for (job, entry) in &mut self.jobs {
            let waits = entry.table.succeeded() && entry.table.verdict().is_none();
            entry.waits_since = waits.then(|| entry.waits_since.unwrap_or(self.now));
            waiting.extend(entry.waits_since.map(|since| (since, *job)));
        }
        waiting.sort_unstable();
        let too_many = waiting.len().saturating_sub(self.patience.most_uncollected);
        for (place, (since, job)) in waiting.into_iter().enumerate() {
            if place < too_many || self.now.saturating_sub(since) >= self.patience.uncollected {
                let _ = self.note(job, Record::Cancelled, records);
            }
        }
    }
}
