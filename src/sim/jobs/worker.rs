//! A worker made of memory: it speaks with the coordinator as the product's does, but its tasks only take time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::JobPlan;
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::partition::Partitioner;
use crate::logic::mapreduce::record::{JobId, WorkerId, WorkerLife, Yield};
use crate::logic::mapreduce::report::{Ending, Place, Progress, Report, Work};
use crate::messages::mapreduce::{TaskInput, TaskOrders};
use crate::sim::cluster::{Cluster, SimClient};
use crate::sim::host::Host;

/// How often each word occurs.
pub(super) type Counts = BTreeMap<String, u64>;

const SLOTS: u32 = 2;
/// As the product's worker does.
const PAUSE: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_millis(200);
const CALL_DEADLINE: Duration = Duration::from_secs(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
const FETCH_PATIENCE: Duration = Duration::from_secs(3);
/// A step of a task takes up to so many milliseconds.
const STEP_MS: u64 = 150;
/// One attempt in so many fails by itself.
const MISHAPS: u64 = 40;

/// Why output was not had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Its worker cannot be reached.
    Unreachable,
    /// Its worker does not have it.
    Gone,
}

/// All workers, and the text that they count.
pub(super) struct Crew {
    cluster: Cluster,
    text: Vec<String>,
    reduces: u32,
    pub(super) workers: Vec<Rc<Worker>>,
    random: RefCell<fastrand::Rng>,
}

/// A worker: what of it outlives its crashes, and its process while there is one.
pub(super) struct Worker {
    /// Its host in the network, and its address.
    pub(super) name: String,
    pub(super) disk: RefCell<Disk>,
    process: RefCell<Option<Host>>,
    pub(super) cut_off: Cell<bool>,
    pub(super) frozen: Cell<bool>,
}

/// What a worker has finished.
pub(super) struct Disk {
    worker: WorkerId,
    outputs: BTreeMap<Work, Output>,
    pub(super) full: bool,
}

#[derive(Clone)]
enum Output {
    Map(Vec<Counts>),
    Reduce(Counts),
}

impl Crew {
    pub(super) fn start(cluster: &Cluster, plan: &JobPlan, mut random: fastrand::Rng) -> Rc<Crew> {
        let text = (0..plan.maps).map(|_| write(&mut random)).collect();
        let worker = |number: usize| {
            Rc::new(Worker {
                name: format!("w{number}"),
                disk: RefCell::new(Disk::new(random.u64(1..))),
                process: RefCell::new(None),
                cut_off: Cell::new(false),
                frozen: Cell::new(false),
            })
        };
        let workers = (1..=plan.workers).map(worker).collect();
        let reduces = plan.reduces;
        let crew = Crew { cluster: cluster.clone(), text, reduces, workers, random: RefCell::new(random) };
        let crew = Rc::new(crew);
        crew.workers.iter().for_each(|worker| crew.start_worker(worker));
        crew
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What map task `index` reads.
    pub(super) fn text(&self, index: u32) -> &str {
        &self.text[index as usize]
    }

    /// What a program without any framework says.
    pub(super) fn reference(&self) -> Counts {
        let mut counts = Counts::new();
        self.text
            .iter()
            .for_each(|text| count(text, |word| *counts.entry(word.to_owned()).or_default() += 1));
        counts
    }

    pub(super) fn draw(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().u64(0..bound)
    }

    /// Starts a worker's process, if it does not run.
    pub(super) fn start_worker(self: &Rc<Self>, worker: &Rc<Worker>) {
        let mut process = worker.process.borrow_mut();
        if process.is_none() {
            let host = Host::new();
            drop(host.spawn(Life::live(self.clone(), worker.clone())));
            *process = Some(host);
        }
    }

    /// Ends all processes.
    pub(super) fn disband(&self) {
        self.workers.iter().for_each(|worker| worker.crash());
    }

    /// Waits until no worker keeps anything.
    pub(super) async fn is_tidy(&self) {
        while self.workers.iter().any(|worker| !worker.disk.borrow().outputs.is_empty()) {
            sleep(PAUSE).await;
        }
    }

    /// What `asker` gets of the output at a place, waiting for its worker for a while.
    async fn fetch(&self, job: JobId, place: &Place, asker: Option<&Worker>) -> Result<Output, Missed> {
        let since = Instant::now();
        loop {
            let there = self.workers.iter().find(|worker| worker.name == place.address);
            let reached = there.filter(|worker| {
                worker.answers()
                    && asker.is_none_or(|asker| asker.name == worker.name || !asker.cut_off.get())
            });
            if let Some(worker) = reached {
                let work = Work { job, attempt: place.attempt };
                return worker.disk.borrow().outputs.get(&work).cloned().ok_or(Missed::Gone);
            }
            if since.elapsed() >= FETCH_PATIENCE {
                return Err(Missed::Unreachable);
            }
            sleep(RETRY / 2).await;
        }
    }

    /// A part of the output of a job.
    pub(super) async fn fetch_part(&self, job: JobId, place: &Place) -> Result<Counts, Missed> {
        match self.fetch(job, place, None).await? {
            Output::Reduce(counts) => Ok(counts),
            Output::Map(_) => Err(Missed::Gone),
        }
    }
}

impl Worker {
    /// Ends the process, with everything that it has not finished.
    pub(super) fn crash(&self) {
        let process = self.process.borrow_mut().take();
        if let Some(process) = process {
            process.power_off();
        }
    }

    /// Lets the process stand still, or go on.
    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.set(frozen);
        if let Some(process) = &*self.process.borrow() {
            process.freeze(frozen);
        }
    }

    fn answers(&self) -> bool {
        self.process.borrow().is_some() && !self.cut_off.get() && !self.frozen.get()
    }
}

impl Disk {
    /// An empty one; who has another disk is another worker.
    pub(super) fn new(id: u64) -> Disk {
        Disk { worker: WorkerId(id), outputs: BTreeMap::new(), full: false }
    }
}

/// A life of a worker.
struct Life {
    crew: Rc<Crew>,
    worker: Rc<Worker>,
    id: WorkerLife,
    state: RefCell<State>,
    /// There is something new to report.
    news: Notify,
}

#[derive(Default)]
struct State {
    running: BTreeMap<Work, Rc<Running>>,
    ended: BTreeMap<Work, Ending>,
    knows: BTreeSet<JobId>,
    token: u64,
}

#[derive(Default)]
struct Running {
    steps: Cell<u64>,
    stopped: Cell<bool>,
}

impl Life {
    async fn live(crew: Rc<Crew>, worker: Rc<Worker>) {
        let id = WorkerLife { worker: worker.disk.borrow().worker, boot: crew.draw() };
        let client = loop {
            let options = |options: &mut crate::node::client::ClientOptions| {
                options.stateless = true;
                options.deadline = Some(CALL_DEADLINE);
                options.attempt_timeout = ATTEMPT_TIMEOUT;
            };
            match crew.cluster.client(&worker.name, options).await {
                Ok(client) => break client,
                Err(_) => sleep(RETRY).await,
            }
        };
        let life = Life { crew, worker, id, state: RefCell::default(), news: Notify::new() };
        Rc::new(life).report(&client).await;
    }

    async fn report(self: Rc<Self>, client: &SimClient) {
        loop {
            let report = self.picture();
            let said: Vec<Work> = report.ended.iter().map(|(work, _)| *work).collect();
            let reply = tokio::select! {
                biased;
                // What is under way is given up: the next report says all that it said.
                () = self.news.notified() => continue,
                reply = client.report(report) => reply,
            };
            match reply {
                Ok(orders) if orders.token < self.state.borrow().token.max(1) => sleep(PAUSE).await,
                Ok(orders) => {
                    self.state.borrow_mut().ended.retain(|work, _| !said.contains(work));
                    self.obey(orders);
                    sleep(PAUSE).await;
                }
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    fn picture(&self) -> Report {
        let state = self.state.borrow();
        let progress = |running: &Running| Progress { steps: running.steps.get(), permille: 0, bytes: 0 };
        let disk = self.worker.disk.borrow();
        let keeps = disk.outputs.keys().chain(state.running.keys()).map(|work| work.job);
        Report {
            life: self.id,
            address: self.worker.name.clone(),
            slots: SLOTS,
            running: state.running.iter().map(|(work, running)| (*work, progress(running))).collect(),
            ended: state.ended.iter().map(|(work, ending)| (*work, ending.clone())).collect(),
            keeps: keeps.collect::<BTreeSet<_>>().into_iter().collect(),
            knows: state.knows.iter().copied().collect(),
        }
    }

    fn obey(self: &Rc<Self>, orders: TaskOrders) {
        let mut state = self.state.borrow_mut();
        state.token = orders.token;
        state.knows.extend(orders.setups.iter().map(|(job, _)| *job));
        for order in orders.start {
            let known = state.running.contains_key(&order.work) || state.ended.contains_key(&order.work);
            if known || !state.knows.contains(&order.work.job) {
                continue;
            }
            let running = Rc::new(Running::default());
            state.running.insert(order.work, running.clone());
            spawn_local(self.clone().attempt(order.work, order.input, running));
        }
        for work in &orders.stop {
            if let Some(running) = state.running.get(work) {
                running.stopped.set(true);
            }
        }
        for job in orders.forget {
            if state.running.keys().all(|work| work.job != job) {
                state.knows.remove(&job);
                state.ended.retain(|work, _| work.job != job);
                self.worker.disk.borrow_mut().outputs.retain(|work, _| work.job != job);
            }
        }
    }

    async fn attempt(self: Rc<Self>, work: Work, input: TaskInput, running: Rc<Running>) {
        let ending = self.perform(work, input, &running).await;
        let mut state = self.state.borrow_mut();
        state.running.remove(&work);
        if !running.stopped.get() {
            state.ended.insert(work, ending);
        }
        drop(state);
        self.news.notify_one();
    }

    async fn perform(&self, work: Work, input: TaskInput, running: &Running) -> Ending {
        for _ in 0..1 + self.crew.below(8) {
            sleep(Duration::from_millis(self.crew.below(STEP_MS))).await;
            running.steps.set(running.steps.get() + 1);
            if running.stopped.get() {
                return Ending::Failed(TaskFailure::cancelled());
            }
        }
        if self.crew.below(MISHAPS) == 0 {
            return Ending::Failed(TaskFailure::function("bad luck"));
        }
        let mut counters = Counters::default();
        let output = match input {
            TaskInput::Split(_) => {
                let text = self.crew.text(work.attempt.task.index);
                counters.add("sim", "lines", text.lines().count() as u64);
                Output::Map(self.crew.map(text))
            }
            TaskInput::Sources(places) => match self.reduce(work, &places, running).await {
                Ok(counts) => Output::Reduce(counts),
                Err(ending) => return ending,
            },
        };
        let mut disk = self.worker.disk.borrow_mut();
        if disk.full {
            return Ending::Failed(TaskFailure::machine("the disk is full"));
        }
        disk.outputs.insert(work, output);
        Ending::Done(Yield { bytes: 1, counters, skipped: Vec::new() })
    }

    async fn reduce(&self, work: Work, places: &[Place], running: &Running) -> Result<Counts, Ending> {
        let mut counts = Counts::new();
        for place in places {
            let output = self.crew.fetch(work.job, place, Some(&self.worker)).await;
            running.steps.set(running.steps.get() + 1);
            let output = output.map_err(|missed| Ending::Starved {
                map: place.attempt,
                more: Vec::new(),
                gone: missed == Missed::Gone,
                why: format!("{missed:?}"),
            })?;
            let Output::Map(partitions) = output else { continue };
            for (word, count) in &partitions[work.attempt.task.index as usize] {
                *counts.entry(word.clone()).or_default() += count;
            }
        }
        Ok(counts)
    }
}

impl Crew {
    fn map(&self, text: &str) -> Vec<Counts> {
        let mut partitions = vec![Counts::new(); self.reduces as usize];
        count(text, |word| {
            let partition = Partitioner::Hash.partition(word.as_bytes(), self.reduces);
            *partitions[partition as usize].entry(word.to_owned()).or_default() += 1;
        });
        partitions
    }
}

/// A few lines of words.
fn write(random: &mut fastrand::Rng) -> String {
    let mut text = String::new();
    for _ in 0..random.usize(1..6) {
        for _ in 0..random.usize(1..8) {
            text.push_str(&format!("word{} ", random.u8(0..40)));
        }
        text.push('\n');
    }
    text
}

fn count(text: &str, each: impl FnMut(&str)) {
    text.split_whitespace().for_each(each);
}
