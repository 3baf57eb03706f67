//! Which worker gets which task.
//!
//! Jobs are served in the order in which they came; a later one gets the slots that the earlier ones cannot use. When
//! nothing of a phase waits any more, idle slots run second attempts of its stragglers (the paper's backup tasks).

use std::collections::BTreeMap;

use super::{Coordinator, Records};
use crate::logic::mapreduce::job::{Attempt, TaskId};
use crate::logic::mapreduce::record::{JobId, Record, WorkerId, WorkerLife};
use crate::logic::mapreduce::table::Table;

impl Coordinator {
    /// Gives idle slots something to do, the emptiest worker first.
    pub(super) fn assign(&mut self, records: &mut Records) {
        let mut free = self.free_slots();
        while let Some((worker, slots)) = emptiest(&free) {
            let Some((job, task)) = self.pick(worker, &free) else {
                free.remove(&worker);
                continue;
            };
            free.insert(worker, slots - 1);
            let Some(entry) = self.jobs.get(&job) else { continue };
            let number = entry.table.task(task).map_or(0, |task| task.attempts) + 1;
            let boot = self.workers.get(&worker).map_or(0, |known| known.boot);
            let by = WorkerLife { worker, boot };
            let record = Record::Started { attempt: Attempt { task, number }, by };
            if self.note(job, record, records).is_err() {
                free.remove(&worker);
            }
        }
    }

    fn free_slots(&self) -> BTreeMap<WorkerId, u32> {
        let heard = self.workers.iter().filter(|(_, worker)| !worker.address.is_empty());
        let mut free: BTreeMap<WorkerId, u32> = heard.map(|(id, worker)| (*id, worker.slots)).collect();
        for (_, life) in self.jobs.values().flat_map(|entry| entry.table.running()) {
            if let Some(slots) = free.get_mut(&life.worker) {
                *slots = slots.saturating_sub(1);
            }
        }
        free
    }

    fn pick(&self, worker: WorkerId, free: &BTreeMap<WorkerId, u32>) -> Option<(JobId, TaskId)> {
        let waiting = |job: &JobId| self.jobs.get(job).and_then(|entry| waiting(&entry.table, worker, free));
        let first = self.jobs.keys().find_map(|job| waiting(job).map(|task| (*job, task)));
        first.or_else(|| {
            self.jobs.keys().find_map(|job| self.straggler(*job, worker).map(|task| (*job, task)))
        })
    }

    /// A task that is under way elsewhere, alone, and takes far longer than others did.
    fn straggler(&self, job: JobId, worker: WorkerId) -> Option<TaskId> {
        let entry = self.jobs.get(&job)?;
        let phase = entry.table.phase();
        let slow = entry.watch.stragglers(phase, self.now, self.patience.straggler);
        slow.into_iter().map(|attempt| attempt.task).find(|task| {
            let mut runners = entry.table.running_of(*task).map(|(_, life)| life.worker);
            runners.next().is_some_and(|runner| runner != worker) && runners.next().is_none()
        })
    }
}

/// A task that waits. One that came to grief at this worker before is left to the other idle workers, if it did not
/// come to grief at all of them.
fn waiting(table: &Table, worker: WorkerId, free: &BTreeMap<WorkerId, u32>) -> Option<TaskId> {
    let avoids = |task: TaskId, worker: WorkerId| table.task(task).is_some_and(|t| t.avoid.contains(&worker));
    let others =
        || free.iter().filter(|(other, slots)| **other != worker && **slots > 0).map(|(other, _)| *other);
    let welcome = table.ready().find(|task| !avoids(*task, worker));
    welcome.or_else(|| table.ready().find(|task| others().all(|other| avoids(*task, other))))
}

fn emptiest(free: &BTreeMap<WorkerId, u32>) -> Option<(WorkerId, u32)> {
    let most = free.iter().filter(|(_, slots)| **slots > 0).max_by_key(|(_, slots)| **slots);
    most.map(|(worker, slots)| (*worker, *slots))
}
