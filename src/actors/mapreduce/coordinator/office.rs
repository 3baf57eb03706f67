//! What a coordinator knows while it is in office: the core, the files of the jobs, and who waits for what.
//!
//! It breathes: it takes in all that has arrived, hands out what is to be written, and holds its breath until that is
//! written. So whenever it answers, the core says what the store says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Asked;
use super::budget::as_many_as_fit;
use crate::actors::caller::Caller;
use crate::actors::mapreduce::journal::{Head, Journal, Stored, pieces};
use crate::actors::mapreduce::store::StoreError;
use crate::logic::mapreduce::coordinator::{Coordinator, Input, Patience, Records, Shape};
use crate::logic::mapreduce::job::{Attempt, MOST_REDUCERS, Phase, Plan};
use crate::logic::mapreduce::record::{JobId, Record, WorkerId};
use crate::logic::mapreduce::report::{Report, Work};
use crate::messages::client::{Answer, ServerError};
use crate::messages::mapreduce::{MapReduceReply, MapReduceRequest, Order, TaskInput, TaskOrders};

/// A report is answered after so long at the latest, so that its worker knows that the coordinator lives.
const HOLD: Duration = Duration::from_millis(400);
/// Jobs that have ended are remembered, the newest of them.
pub(super) const MOST_ENDED: usize = 100;
/// More jobs at once are refused. Those that wait to be collected have a bound of their own.
const MOST_RUNNING: usize = 1000;

/// See the module.
pub(super) struct Office {
    journal: Journal,
    pub(super) core: Coordinator,
    pub(super) jobs: BTreeMap<JobId, JobFile>,
    pub(super) last_job: JobId,
    inbox: VecDeque<Asked>,
    writing: bool,
    /// Answered when what is being written is written.
    questions: Vec<Asked>,
    polls: BTreeMap<WorkerId, Poll>,
}

/// What is known of a job beside its tasks.
pub(super) struct JobFile {
    pub(super) head: Head,
    pub(super) plan: Arc<Plan>,
    pub(super) history: Vec<(u64, Record)>,
    /// Number of the next value with records.
    next: u64,
}

impl JobFile {
    pub(super) fn locate(&self, attempt: Attempt, why: String) -> String {
        self.plan.setup.locate(&self.plan.splits, attempt, why)
    }
}

/// A report that waits for something to do.
struct Poll {
    caller: Caller,
    since: Duration,
    /// It said something that its worker wants acknowledged.
    urgent: bool,
    /// Jobs whose setup the worker has.
    knows: Vec<JobId>,
}

/// What is to be written before anything else is taken in.
pub(super) struct Writes {
    journal: Journal,
    jobs: Vec<(JobId, Head, Arc<Plan>, Vec<Caller>)>,
    records: BTreeMap<JobId, (u64, Vec<(u64, Record)>)>,
    removals: Vec<(JobId, u64, u64)>,
}

/// What has been written.
pub struct Written {
    jobs: Vec<(JobId, Head, Arc<Plan>, Vec<Caller>)>,
    records: BTreeMap<JobId, (u64, Vec<(u64, Record)>)>,
}

impl Writes {
    /// Writes it all.
    pub(super) async fn perform(self) -> Result<Written, StoreError> {
        for (job, pieces, values) in self.removals {
            self.journal.remove(job, pieces, values).await?;
        }
        for (job, head, plan, _) in &self.jobs {
            let pieces = pieces(plan).map_err(StoreError::Unavailable)?;
            self.journal.create(*job, head.clone(), pieces).await?;
        }
        let mut records = BTreeMap::new();
        for (job, (next, new)) in self.records {
            let next = self.journal.append(job, next, new.clone()).await?;
            records.insert(job, (next, new));
        }
        Ok(Written { jobs: self.jobs, records })
    }
}

impl Office {
    /// Enters with what the store has.
    pub(super) fn new(
        journal: Journal,
        patience: Patience,
        now: Duration,
        stored: BTreeMap<JobId, Stored>,
        last_job: JobId,
    ) -> Self {
        let mut core = Coordinator::new(patience);
        let mut jobs = BTreeMap::new();
        for (job, Stored { head, plan, records, next }) in stored {
            let history = records.clone();
            let records = records.into_iter().map(|(_, record)| record).collect();
            // Learning of a job decides nothing yet, so there is nothing to write.
            core.step(now, Input::Job { job, shape: Shape::from(&plan), records }, &mut Records::new());
            jobs.insert(job, JobFile { head, plan: Arc::new(plan), history, next });
        }
        Office {
            journal,
            core,
            jobs,
            last_job,
            inbox: VecDeque::new(),
            writing: false,
            questions: Vec::new(),
            polls: BTreeMap::new(),
        }
    }

    pub(super) fn token(&self) -> u64 {
        self.journal.token()
    }

    pub(super) fn take_in(&mut self, asks: VecDeque<Asked>) {
        self.inbox.extend(asks);
    }

    /// Takes in what has arrived. What it returns must be written, and [`written`](Self::written) be called, before it
    /// takes in more.
    pub(super) fn pump(&mut self, now: Duration, wall: u64) -> Option<Writes> {
        if self.writing {
            return None;
        }
        let mut records = Records::new();
        let mut jobs: Vec<(JobId, Head, Arc<Plan>, Vec<Caller>)> = Vec::new();
        while let Some((caller, request)) = self.inbox.pop_front() {
            match request {
                MapReduceRequest::Report(report) => self.take_report(now, caller, *report, &mut records),
                MapReduceRequest::Submit { token, plan } => {
                    self.take_submission(wall, caller, token, *plan, &mut jobs);
                }
                question => {
                    if let Some(input) = change(&question) {
                        self.core.step(now, input, &mut records);
                    }
                    self.questions.push((caller, question));
                }
            }
        }
        self.core.step(now, Input::Tick, &mut records);
        let removals = self.forget_old();
        if records.is_empty() && jobs.is_empty() && removals.is_empty() {
            self.settle(now);
            return None;
        }
        self.writing = true;
        Some(Writes { journal: self.journal.clone(), jobs, records: self.file(records, wall), removals })
    }

    fn file(&self, records: Records, wall: u64) -> BTreeMap<JobId, (u64, Vec<(u64, Record)>)> {
        let mut files: BTreeMap<JobId, (u64, Vec<(u64, Record)>)> = BTreeMap::new();
        for (job, mut record) in records {
            let file = self.jobs.get(&job);
            if let (Some(file), Record::Failed { attempt, failure }) = (file, &mut record) {
                failure.message = file.locate(*attempt, std::mem::take(&mut failure.message));
            }
            let next = file.map_or(0, |file| file.next);
            files.entry(job).or_insert((next, Vec::new())).1.push((wall, record));
        }
        files
    }

    /// All is written: whoever waited may be told.
    pub(super) fn written(&mut self, now: Duration, written: Written) {
        self.writing = false;
        for (job, (next, records)) in written.records {
            if let Some(file) = self.jobs.get_mut(&job) {
                file.next = next;
                file.history.extend(records);
            }
        }
        self.settle(now);
        for (job, head, plan, callers) in written.jobs {
            let shape = Shape::from(&*plan);
            self.jobs.insert(job, JobFile { head, plan, history: Vec::new(), next: 0 });
            self.core.step(now, Input::Job { job, shape, records: Vec::new() }, &mut Records::new());
            for caller in callers {
                answer(caller, MapReduceReply::Submitted { job });
            }
        }
    }

    fn take_report(&mut self, now: Duration, caller: Caller, report: Report, records: &mut Records) {
        let worker = report.life.worker;
        let (urgent, knows) = (!report.ended.is_empty(), report.knows.clone());
        self.core.step(now, Input::Report(report), records);
        let poll = Poll { caller, since: now, urgent, knows };
        if let Some(earlier) = self.polls.insert(worker, poll) {
            answer(earlier.caller, MapReduceReply::Orders(Box::default()));
        }
    }

    fn take_submission(
        &mut self,
        wall: u64,
        caller: Caller,
        token: u64,
        plan: Plan,
        new: &mut Vec<(JobId, Head, Arc<Plan>, Vec<Caller>)>,
    ) {
        if let Some((job, _)) = self.jobs.iter().find(|(_, file)| file.head.token == token) {
            return answer(caller, MapReduceReply::Submitted { job: *job });
        }
        if let Some((.., callers)) = new.iter_mut().find(|(_, head, ..)| head.token == token) {
            return callers.push(caller);
        }
        if self.running() + new.len() >= MOST_RUNNING {
            return caller.answer(Err(ServerError::Busy { limit: format!("{MOST_RUNNING} jobs") }));
        }
        let pieces = match check(&plan).and_then(|()| pieces(&plan)) {
            Ok(pieces) => pieces.len() as u64,
            Err(text) => return caller.answer(Err(ServerError::Invalid(text))),
        };
        self.last_job.0 += 1;
        let mut plan = plan;
        plan.setup.id = format!("job-{}", self.last_job);
        let head = Head { token, submitted_ms: wall, pieces };
        new.push((self.last_job, head, Arc::new(plan), vec![caller]));
    }

    /// Jobs that are neither finished nor given up.
    fn running(&self) -> usize {
        let tables = self.jobs.keys().filter_map(|job| self.core.table(*job));
        tables.filter(|table| !table.succeeded() && table.verdict().is_none()).count()
    }

    fn ended(&self) -> impl Iterator<Item = JobId> {
        self.jobs
            .keys()
            .copied()
            .filter(|job| self.core.table(*job).is_some_and(|table| table.verdict().is_some()))
    }

    /// Forgets the oldest of too many jobs that have ended.
    fn forget_old(&mut self) -> Vec<(JobId, u64, u64)> {
        let ended: Vec<JobId> = self.ended().collect();
        let old = &ended[..ended.len().saturating_sub(MOST_ENDED)];
        let mut removals = Vec::new();
        for job in old {
            self.core.forget(*job);
            if let Some(file) = self.jobs.remove(job) {
                removals.push((*job, file.head.pieces, file.next));
            }
        }
        removals
    }

    /// Answers what can be answered. The core says nothing now that is not written.
    fn settle(&mut self, now: Duration) {
        for (caller, question) in std::mem::take(&mut self.questions) {
            let reply = self.reply(&question);
            caller.answer(reply.map(Answer::MapReduce));
        }
        let workers: Vec<WorkerId> = self.polls.keys().copied().collect();
        for worker in workers {
            let Some(poll) = self.polls.get(&worker) else { continue };
            let orders = self.orders(worker, &poll.knows);
            let idle = orders.start.is_empty() && orders.stop.is_empty() && orders.forget.is_empty();
            let due = poll.urgent || !idle || now.saturating_sub(poll.since) >= HOLD;
            if due && let Some(poll) = self.polls.remove(&worker) {
                answer(poll.caller, MapReduceReply::Orders(Box::new(orders)));
            }
        }
    }

    fn orders(&self, worker: WorkerId, knows: &[JobId]) -> TaskOrders {
        let orders = self.core.orders(worker);
        let (token, stop, forget) = (self.token(), orders.stop, orders.forget);
        let start = orders.start.into_iter().filter_map(|work| {
            let input = self.input(self.jobs.get(&work.job)?, work)?;
            Some(Order { work, input, skips: self.core.skips(work) })
        });
        let start = as_many_as_fit(start);
        let jobs: BTreeSet<JobId> = start.iter().map(|order| order.work.job).collect();
        let setups = jobs.into_iter().filter(|job| !knows.contains(job));
        let setups = setups.filter_map(|job| Some((job, self.jobs.get(&job)?.plan.setup.clone()))).collect();
        TaskOrders { token, start, setups, stop, forget }
    }

    /// What an attempt works on; `None` while the output of a map task is made again.
    fn input(&self, file: &JobFile, work: Work) -> Option<TaskInput> {
        let task = work.attempt.task;
        match task.phase {
            Phase::Map => file.plan.splits.get(task.index as usize).cloned().map(TaskInput::Split),
            Phase::Reduce => {
                let sources = self.core.sources(work.job);
                (sources.len() == file.plan.splits.len()).then_some(TaskInput::Sources(sources))
            }
        }
    }
}

/// What a question changes, if it changes anything.
fn change(question: &MapReduceRequest) -> Option<Input> {
    match question {
        MapReduceRequest::Cancel { job } => Some(Input::Cancel(*job)),
        MapReduceRequest::Collected { job } => Some(Input::Collected(*job)),
        MapReduceRequest::Missing { work, why } => Some(Input::Missing { work: *work, why: why.clone() }),
        _ => None,
    }
}

fn check(plan: &Plan) -> Result<(), String> {
    let setup = &plan.setup;
    setup.job.check()?;
    if plan.splits.len() as u64 != u64::from(setup.maps) {
        return Err(format!("the plan has {} splits for {} map tasks", plan.splits.len(), setup.maps));
    }
    if setup.reducers > MOST_REDUCERS {
        return Err(format!("{} reducers are not possible", setup.reducers));
    }
    Ok(())
}

fn answer(caller: Caller, reply: MapReduceReply) {
    caller.answer(Ok(Answer::MapReduce(reply)));
}
