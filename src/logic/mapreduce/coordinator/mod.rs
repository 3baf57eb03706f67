//! The coordinator of all jobs of a cluster: who does what, who is given up, who gets a second try. Pure.
//!
//! One door: [`Coordinator::step`] is given a moment and an input, and appends to [`Records`] what must be written
//! before anybody hears of it. What workers are to do is asked for afterwards ([`Coordinator::orders`]), so it can be
//! asked for again.
//!
//! What is durable is in the job's [`Table`]; all else here (progress, moments, who was heard when) is observation, and
//! may be forgotten: a coordinator that takes over observes anew.
//!
//! * `watch`: progress of attempts; which have stalled, which are stragglers.
//! * `assign`: which worker gets which task.
//! * `losses`: what is given up: workers that are silent, attempts that stall, output that cannot be had, or that
//!   nobody collects.
//! * `survey`: the picture for people.

mod assign;
mod losses;
mod survey;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::survey::{JobState, JobSurvey, PhaseSurvey, Straggler};
use self::watch::Watch;
use super::failure::Cause;
use super::job::{Attempt, Phase, Plan, TaskId};
use super::record::{JobId, Misfit, Record, WorkerId, WorkerLife};
use super::report::{Ending, Orders, Place, Report, Work};
use super::skip::Skips;
use super::table::{Rules, Table};

/// Longer texts of failures are cut, in bytes.
const LONGEST_TEXT: usize = 8 << 10;

/// No life of a worker has this number.
const NO_LIFE: u64 = 0;

/// How patient a coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A worker that was not heard for so long is given up, and what it ran is given to others.
    pub worker: Duration,
    /// No second attempt is made of a task that has run for less.
    pub straggler: Duration,
    /// Output that nobody has collected for so long is given up.
    pub uncollected: Duration,
    /// The output of so many jobs may wait. Of more, what has waited longest is given up.
    pub most_uncollected: usize,
}

/// What a coordinator needs to know of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Map tasks.
    pub maps: u32,
    /// Reduce tasks.
    pub reduces: u32,
    /// What bounds attempts.
    pub rules: Rules,
    /// An attempt without progress for so long has failed.
    pub stall: Duration,
    /// Bytes of input.
    pub input_bytes: u64,
}

impl From<&Plan> for Shape {
    fn from(Plan { setup, splits }: &Plan) -> Self {
        Shape {
            maps: setup.maps,
            reduces: setup.reducers,
            rules: Rules::from(&setup.job.limits),
            stall: Duration::from_millis(setup.job.limits.task_timeout_ms),
            input_bytes: splits.iter().fold(0, |sum, split| sum.saturating_add(split.length)),
        }
    }
}

/// What a coordinator can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A job that is new, or was begun by another coordinator: then with its records.
    Job {
        /// Its number; not used before.
        job: JobId,
        /// What there is to do.
        shape: Shape,
        /// What has happened.
        records: Vec<Record>,
    },
    /// From a worker.
    Report(Report),
    /// A user gives a job up.
    Cancel(JobId),
    /// The output of a job has been collected.
    Collected(JobId),
    /// Whoever collects the output cannot get this part of it.
    Missing {
        /// The part.
        work: Work,
        /// What happened.
        why: String,
    },
    /// Time has passed.
    Tick,
}

/// What must be written before it is acted on, in order.
pub type Records = Vec<(JobId, Record)>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Coordinator {
    patience: Patience,
    now: Duration,
    jobs: BTreeMap<JobId, Entry>,
    workers: BTreeMap<WorkerId, Worker>,
}

/// A job, and what was observed of it.
#[derive(Clone, Debug)]
struct Entry {
    table: Table,
    shape: Shape,
    watch: Watch,
    /// How often the output of a finished attempt was missed.
    strikes: BTreeMap<Attempt, u32>,
    /// Since when its output waits to be collected, as far as this coordinator has seen.
    waits_since: Option<Duration>,
}

/// A worker that was heard not long ago.
#[derive(Clone, Debug)]
struct Worker {
    boot: u64,
    /// Empty until it reports: an earlier coordinator knew it.
    address: String,
    slots: u32,
    heard: Duration,
    running: Vec<Work>,
    keeps: Vec<JobId>,
}

impl Coordinator {
    /// A coordinator that knows of no job.
    pub fn new(patience: Patience) -> Self {
        Coordinator { patience, now: Duration::ZERO, jobs: BTreeMap::new(), workers: BTreeMap::new() }
    }

    /// Takes an input at `now`, which must not run backwards.
    pub fn step(&mut self, now: Duration, input: Input, records: &mut Records) {
        self.now = self.now.max(now);
        match input {
            // What follows from it is decided by the next input, whose records are written.
            Input::Job { job, shape, records } => return self.take_job(job, shape, &records),
            Input::Report(report) => self.take_report(report, records),
            Input::Cancel(job) => drop(self.note(job, Record::Cancelled, records)),
            Input::Collected(job) => drop(self.note(job, Record::Collected, records)),
            Input::Missing { work, mut why } => {
                cut(&mut why);
                self.reopen(work.job, work.attempt, &why, records);
            }
            Input::Tick => {}
        }
        self.give_up_workers(records);
        self.give_up_stalled(records);
        self.give_up_uncollected(records);
        self.assign(records);
    }

    /// What this worker should do, by its last report and what was decided since.
    pub fn orders(&self, worker: WorkerId) -> Orders {
        let Some(known) = self.workers.get(&worker) else { return Orders::default() };
        let life = WorkerLife { worker, boot: known.boot };
        let mut orders = Orders::default();
        for (job, entry) in &self.jobs {
            let mine = entry.table.running().filter(|(_, by)| *by == life);
            let work = mine.map(|(attempt, _)| Work { job: *job, attempt });
            orders.start.extend(work.filter(|work| !known.running.contains(work)));
        }
        let vain = |work: &&Work| self.runner(**work) != Some(life);
        orders.stop = known.running.iter().filter(vain).copied().collect();
        let over = |job: &&JobId| self.jobs.get(job).is_none_or(|entry| entry.table.verdict().is_some());
        orders.forget = known.keeps.iter().filter(over).copied().collect();
        orders
    }

    /// Where the output of each map task is, for a reducer. Empty until all of them are done, and while whoever holds
    /// one of them may still be heard: a reducer that was sent nowhere would have that map task made again.
    pub fn sources(&self, job: JobId) -> Vec<Place> {
        self.places(job, Phase::Map)
    }

    /// Where each part of the output is: of reduce tasks, or of map tasks if there are no others. Empty as
    /// [`sources`](Self::sources) are, and once it was collected or given up.
    pub fn parts(&self, job: JobId) -> Vec<Place> {
        let map_only = self.table(job).is_some_and(|table| table.tasks(Phase::Reduce).is_empty());
        self.places(job, if map_only { Phase::Map } else { Phase::Reduce })
    }

    /// What this attempt passes over.
    pub fn skips(&self, work: Work) -> Skips {
        self.table(work.job).map(|table| table.skips(work.attempt.task)).unwrap_or_default()
    }

    /// The tasks of a job.
    pub fn table(&self, job: JobId) -> Option<&Table> {
        self.jobs.get(&job).map(|entry| &entry.table)
    }

    /// All jobs.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// Forgets a job that has ended.
    pub fn forget(&mut self, job: JobId) {
        if self.jobs.get(&job).is_some_and(|entry| entry.table.verdict().is_some()) {
            self.jobs.remove(&job);
        }
    }

    /// Workers that were heard by this coordinator, and their slots.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerId, &str, u32)> {
        let heard = self.workers.iter().filter(|(_, worker)| !worker.address.is_empty());
        heard.map(|(id, worker)| (*id, worker.address.as_str(), worker.slots))
    }

    fn places(&self, job: JobId, phase: Phase) -> Vec<Place> {
        // Of a job that has ended nothing is kept: whoever was sent there would miss it, and nobody would make it
        // again.
        let Some(entry) = self.jobs.get(&job).filter(|entry| entry.table.verdict().is_none()) else {
            return Vec::new();
        };
        let places = entry.table.tasks(phase).iter().zip(0..).map(|(task, index)| {
            let done = task.done.as_ref()?;
            let attempt = Attempt { task: TaskId { phase, index }, number: done.number };
            let address = match self.workers.get(&done.worker) {
                Some(unheard) if unheard.address.is_empty() => return None,
                Some(worker) => worker.address.clone(),
                // It was given up. Whoever looks for the output learns that, and it is made again.
                None => String::new(),
            };
            Some(Place { attempt, worker: done.worker, address })
        });
        places.collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    fn runner(&self, work: Work) -> Option<WorkerLife> {
        self.jobs.get(&work.job).and_then(|entry| entry.table.runner(work.attempt))
    }

    fn take_job(&mut self, job: JobId, shape: Shape, records: &[Record]) {
        let mut table = Table::new(shape.maps, shape.reduces, shape.rules);
        for record in records {
            // A record that does not fit changed nothing when it was written, either.
            let _ = table.apply(record);
        }
        let mut watch = Watch::default();
        for (attempt, life) in table.running() {
            watch.begin(attempt, self.now);
            // Whoever ran something for the coordinator before is given time to be heard by this one.
            self.workers.entry(life.worker).or_insert_with(|| Worker::unheard(life.boot, self.now));
        }
        let tasks = [Phase::Map, Phase::Reduce].into_iter().flat_map(|phase| table.tasks(phase));
        for done in tasks.filter(|_| table.verdict().is_none()).filter_map(|task| task.done.as_ref()) {
            // So is whoever holds something: what it finished counts in each of its lives.
            self.workers.entry(done.worker).or_insert_with(|| Worker::unheard(NO_LIFE, self.now));
        }
        self.jobs.insert(job, Entry { table, shape, watch, strikes: BTreeMap::new(), waits_since: None });
    }

    /// Applies a record, and if it fits lets it be written.
    fn note(&mut self, job: JobId, record: Record, records: &mut Records) -> Result<(), Misfit> {
        let entry = self.jobs.get_mut(&job).ok_or(Misfit::Ended)?;
        entry.table.apply(&record)?;
        match &record {
            Record::Started { attempt, .. } => entry.watch.begin(*attempt, self.now),
            Record::Done { attempt, .. } => entry.watch.finish(*attempt, self.now),
            _ => {}
        }
        let Entry { table, watch, .. } = entry;
        watch.retain(|attempt| table.runner(attempt).is_some());
        records.push((job, record));
        Ok(())
    }

    fn take_report(&mut self, report: Report, records: &mut Records) {
        let Report { life, address, slots, running, ended, keeps, knows: _ } = report;
        let known = self.workers.get(&life.worker);
        if known.is_none_or(|known| known.boot != life.boot) {
            self.end_lives(life.worker, Some(life.boot), "its worker was restarted", records);
            self.forgive(life.worker);
        }
        for (work, progress) in &running {
            if self.runner(*work) == Some(life)
                && let Some(entry) = self.jobs.get_mut(&work.job)
            {
                entry.watch.observe(work.attempt, *progress, self.now);
            }
        }
        for (work, ending) in ended {
            if self.runner(work) == Some(life) {
                self.take_ending(work, ending, records);
            }
        }
        let running = running.into_iter().map(|(work, _)| work).collect();
        let worker = Worker { boot: life.boot, address, slots, heard: self.now, running, keeps };
        self.workers.insert(life.worker, worker);
    }

    fn take_ending(&mut self, Work { job, attempt }: Work, ending: Ending, records: &mut Records) {
        let record = match ending {
            Ending::Done(result) => Record::Done { attempt, result },
            Ending::Failed(failure) if failure.cause == Cause::Cancelled => {
                Record::Lost { attempt, why: "its worker was told to stop".to_owned() }
            }
            Ending::Failed(mut failure) => {
                cut(&mut failure.message);
                Record::Failed { attempt, failure }
            }
            Ending::Starved { map, more, gone, mut why } => {
                cut(&mut why);
                for map in std::iter::once(map).chain(more) {
                    self.strike(job, map, gone, &why, records);
                }
                Record::Lost { attempt, why }
            }
        };
        // The attempt is running, so this fits, unless the strike has ended the job.
        let _ = self.note(job, record, records);
    }
}

/// The text of a failure is kept, so it is kept short. What is most to the point stands at its beginning and its end.
fn cut(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        let head = text.floor_char_boundary(LONGEST_TEXT / 2);
        let tail = text.ceil_char_boundary(text.len() - LONGEST_TEXT / 2);
        *text = format!("{} [...] {}", &text[..head], &text[tail..]);
    }
}

impl Worker {
    fn unheard(boot: u64, now: Duration) -> Self {
        Worker { boot, address: String::new(), slots: 0, heard: now, running: Vec::new(), keeps: Vec::new() }
    }
}
