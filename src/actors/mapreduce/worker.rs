//! A worker: tells the coordinator what is the case, does what it is told, and tells again.
//!
//! What it knows of attempts ends with its life: the next life reports itself as another one, and gets their tasks
//! anew. What was finished stands on the shelf, which outlives it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::attempt::{self, Bench, Running};
use crate::actors::background::Background;
use crate::logic::mapreduce::failure::{Cause, TaskFailure};
use crate::logic::mapreduce::job::Setup;
use crate::logic::mapreduce::record::{JobId, WorkerLife};
use crate::logic::mapreduce::report::{Ending, Report, Work};
use crate::messages::mapreduce::{MapReduceReply, MapReduceRequest, Order, TaskOrders};

/// Pause between two reports when nothing has changed, beside the time for which the coordinator holds a report back.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause after a report that did not reach the coordinator.
const RETRY: Duration = Duration::from_millis(200);

/// What a call of the coordinator comes to.
pub type Calling = Pin<Box<dyn Future<Output = Result<MapReduceReply, String>>>>;
/// Calls the coordinator, wherever it is in office.
pub type CallCoordinator = Arc<dyn Fn(MapReduceRequest) -> Calling + Send + Sync>;

/// What a worker is given.
#[derive(Clone)]
pub struct WorkerSpec {
    /// How many attempts it runs at once.
    pub slots: u32,
    /// Where its depot is reached; empty until that is known.
    pub address: Arc<dyn Fn() -> String + Send + Sync>,
    /// How it reaches the coordinator.
    pub call: CallCoordinator,
    /// What its attempts have in common.
    pub bench: Bench,
    /// A thread for removing what is not needed any more.
    pub sweeper: Background,
}

/// See the module.
pub struct WorkerActor {
    spec: WorkerSpec,
    life: WorkerLife,
    keeps: BTreeSet<JobId>,
    setups: BTreeMap<JobId, Arc<Setup>>,
    running: BTreeMap<Work, Running>,
    /// What the coordinator has not acknowledged.
    ended: BTreeMap<Work, Ending>,
    /// The report under way, or the pause before the next one.
    next: Option<SpawnHandle>,
    /// The latest term of office that it has heard of.
    token: u64,
    /// What stood in the way of the last report; it is logged once.
    trouble: Option<String>,
}

/// From the thread of an attempt.
#[derive(Message)]
#[rtype(result = "()")]
struct Ended {
    work: Work,
    ending: Ending,
}

impl WorkerActor {
    /// A worker in a new life. Reads its directory.
    pub fn new(spec: WorkerSpec) -> Self {
        let shelf = &spec.bench.shelf;
        WorkerActor {
            life: WorkerLife { worker: shelf.worker(), boot: fastrand::u64(1..) },
            keeps: shelf.jobs().into_iter().collect(),
            spec,
            setups: BTreeMap::new(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            next: None,
            token: 0,
            trouble: None,
        }
    }

    /// Reports now. A report that is under way is given up: this one says all that it said.
    fn report(&mut self, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.next.take() {
            ctx.cancel_future(earlier);
        }
        let address = (self.spec.address)();
        if address.is_empty() {
            return self.report_after(PAUSE, ctx);
        }
        let said: Vec<Work> = self.ended.keys().copied().collect();
        let report = Report {
            life: self.life,
            address,
            slots: self.spec.slots,
            running: self.running.iter().map(|(work, running)| (*work, running.progress())).collect(),
            ended: self.ended.iter().map(|(work, ending)| (*work, ending.clone())).collect(),
            keeps: self.keeps.iter().copied().collect(),
            knows: self.setups.keys().copied().collect(),
        };
        let reply = (self.spec.call)(MapReduceRequest::Report(Box::new(report)));
        let handle = ctx.spawn(reply.into_actor(self).map(move |reply, worker, ctx| {
            worker.next = None;
            match reply {
                Ok(MapReduceReply::Orders(orders)) if orders.token < worker.token.max(1) => {
                    // From a coordinator that was replaced and does not know it yet, or to a report that was overtaken.
                    worker.report_after(PAUSE, ctx);
                }
                Ok(MapReduceReply::Orders(orders)) => {
                    worker.token = orders.token;
                    worker.trouble = None;
                    said.iter().for_each(|work| drop(worker.ended.remove(work)));
                    let pause = if worker.obey(*orders, ctx) { Duration::ZERO } else { PAUSE };
                    worker.report_after(pause, ctx);
                }
                Ok(_) => worker.stumble("the answer does not fit the question".to_owned(), ctx),
                Err(error) => worker.stumble(error, ctx),
            }
        }));
        self.next = Some(handle);
    }

    fn stumble(&mut self, trouble: String, ctx: &mut Context<Self>) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(trouble, "the worker does not reach the coordinator; trying again");
            self.trouble = Some(trouble);
        }
        self.report_after(RETRY, ctx);
    }

    fn report_after(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        self.next = Some(ctx.run_later(pause, |worker, ctx| {
            worker.next = None;
            worker.report(ctx);
        }));
    }

    /// Does as it is told; whether that changed what is to be reported.
    fn obey(&mut self, orders: TaskOrders, ctx: &mut Context<Self>) -> bool {
        let mut news = false;
        for (job, setup) in orders.setups {
            news |= self.setups.insert(job, Arc::new(setup)).is_none();
        }
        for order in orders.start {
            news |= self.start(order, ctx);
        }
        for work in orders.stop {
            if let Some(running) = self.running.get(&work) {
                running.stop();
            }
        }
        for job in orders.forget {
            news |= self.forget(job);
        }
        news
    }

    fn start(&mut self, order: Order, ctx: &mut Context<Self>) -> bool {
        let work = order.work;
        if self.running.contains_key(&work) || self.ended.contains_key(&work) {
            return false;
        }
        // An order without a setup is repeated with one, since this worker does not say that it knows it.
        let Some(setup) = self.setups.get(&work.job).cloned() else { return false };
        self.keeps.insert(work.job);
        let me = ctx.address();
        let started = attempt::start(&self.spec.bench, order, setup, move |ending| {
            me.do_send(Ended { work, ending });
        });
        match started {
            Ok(running) => drop(self.running.insert(work, running)),
            Err(error) => {
                let failure = TaskFailure::machine(format!("the worker cannot start a thread: {error}"));
                self.ended.insert(work, Ending::Failed(failure));
            }
        }
        true
    }

    /// Removes all there is of a job, as soon as none of its attempts works on it.
    fn forget(&mut self, job: JobId) -> bool {
        let working: Vec<&Running> =
            self.running.iter().filter(|(work, _)| work.job == job).map(|(_, running)| running).collect();
        if !working.is_empty() {
            working.into_iter().for_each(Running::stop);
            return false;
        }
        self.setups.remove(&job);
        self.ended.retain(|work, _| work.job != job);
        let shelf = self.spec.bench.shelf.clone();
        self.spec.sweeper.run(move || {
            if let Err(error) = shelf.forget(job) {
                tracing::warn!(%job, %error, "cannot remove what was kept of a job");
            }
        });
        self.keeps.remove(&job)
    }
}

impl Actor for WorkerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        tracing::info!(worker = %self.life.worker, slots = self.spec.slots, "worker is up");
        self.report(ctx);
    }
}

impl Handler<Ended> for WorkerActor {
    type Result = ();

    fn handle(&mut self, Ended { work, ending }: Ended, ctx: &mut Self::Context) {
        self.running.remove(&work);
        let stopped = matches!(&ending, Ending::Failed(failure) if failure.cause == Cause::Cancelled);
        if !stopped {
            if let Ending::Failed(failure) = &ending {
                tracing::info!(job = %work.job, attempt = %work.attempt, %failure, "an attempt failed");
            }
            self.ended.insert(work, ending);
        }
        self.report(ctx);
    }
}
