//! Jobs in a simulation. The coordinators and the store they write to are the product's, on simulated nodes that
//! fail; the workers are made of memory: what their tasks do is to count words, and to take virtual time.
//!
//! So everything that decides about a job, and everything that keeps it, is played under faults from a seed. How a
//! worker reads and writes files is not: threads that block have no place in virtual time.
//!
//! * `worker`: a worker, and what of it outlives its crashes. `trouble`: what happens to workers.

mod trouble;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use self::worker::{Counts, Crew, Missed};
use super::cluster::{Cluster, ClusterOptions, SimClient};
use super::faults::Faults;
use super::nemesis::Nemesis;
use super::panics::Collecting;
use super::simulate;
use super::watch::Violation;
use crate::logic::mapreduce::coordinator::JobState;
use crate::logic::mapreduce::job::{Function, Job, Plan, Setup, TaskId};
use crate::logic::mapreduce::partition::Partitioner;
use crate::logic::mapreduce::record::{JobId, Record};
use crate::logic::mapreduce::report::{Place, Work};
use crate::logic::mapreduce::split::{Compression, Split};

/// How long a job may take once everything is good again.
const RECOVERY: Duration = Duration::from_secs(120);
/// Pause between two looks at a job.
const LOOK: Duration = Duration::from_millis(100);
/// A process whose machine lost its power on purpose is started again after so long.
const REVIVED: Duration = Duration::from_millis(300);

/// What is to be played.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// Decides everything.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u64,
    /// How many workers, of two slots each.
    pub workers: usize,
    /// How many map tasks.
    pub maps: u32,
    /// How many reduce tasks.
    pub reduces: u32,
    /// What may go wrong with nodes.
    pub faults: Faults,
    /// Whether workers crash, lose their disks, are cut off, stand still, and have full disks.
    pub trouble: bool,
    /// How long things go wrong.
    pub duration: Duration,
    /// When the machine of the leader, where the coordinator is, loses its power: so long after there is one.
    pub assassinations: Vec<Duration>,
}

impl JobPlan {
    /// Three nodes, four workers, twelve and four tasks, everything goes wrong for fifteen seconds.
    pub fn new(seed: u64) -> JobPlan {
        JobPlan {
            seed,
            nodes: 3,
            workers: 4,
            maps: 12,
            reduces: 4,
            faults: Faults::All,
            trouble: true,
            duration: Duration::from_secs(15),
            assassinations: Vec::new(),
        }
    }

    /// The same job when nothing goes wrong by chance.
    pub fn quiet(seed: u64) -> JobPlan {
        let faults = Faults::Only(BTreeSet::new());
        JobPlan { faults, trouble: false, duration: Duration::ZERO, ..JobPlan::new(seed) }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct JobOutcome {
    /// Rules that were broken; none, if all is well.
    pub violations: Vec<Violation>,
    /// A hash over everything that happened.
    pub hash: u64,
    /// Virtual time from the submission to the collected output.
    pub job_time: Duration,
    /// Attempts that were started.
    pub attempts: u64,
    /// Attempts that failed, or came to nothing with their worker.
    pub vain: u64,
    /// Outputs that were lost after their task had finished.
    pub reopened: u64,
    /// How often a coordinator came into office.
    pub offices: u64,
}

/// Plays a job from its submission until its output is collected and nothing is left of it.
pub fn run(plan: &JobPlan) -> JobOutcome {
    let panics = Collecting::start();
    simulate(async || {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let kinds = plan.faults.draw(&mut random);
        let mut options = ClusterOptions::new(random.u64(..), plan.nodes);
        options.config.mapreduce.enabled = true;
        options.config.mapreduce.worker = false;
        let cluster = Cluster::start(options);
        let crew = Crew::start(&cluster, plan, random);
        let nemesis = Nemesis::new(&cluster, kinds);
        let mut outcome = play(plan, &crew, &nemesis).await;
        for text in panics.take() {
            cluster.watch().violation("no panics but those on purpose", text);
        }
        outcome.violations = cluster.watch().violations();
        outcome.hash = cluster.watch().hash();
        crew.disband();
        for node in cluster.nodes() {
            cluster.crash(node);
        }
        outcome
    })
}

async fn play(plan: &JobPlan, crew: &Rc<Crew>, nemesis: &Nemesis) -> JobOutcome {
    let (cluster, watch) = (crew.cluster(), crew.cluster().watch());
    let began = watch.now();
    let user = spawn_local(User::run(crew.clone(), job(plan, crew)));
    for after in plan.assassinations.clone() {
        spawn_local(assassinate(cluster.clone(), after));
    }
    let nodes = async {
        if plan.duration > Duration::ZERO {
            nemesis.rage(plan.duration).await;
        }
    };
    let workers = async {
        if plan.trouble {
            trouble::rage(crew, plan.duration).await;
        }
    };
    tokio::join!(nodes, workers);
    let mut outcome = JobOutcome {
        violations: Vec::new(),
        hash: 0,
        job_time: Duration::ZERO,
        attempts: 0,
        vain: 0,
        reopened: 0,
        offices: 0,
    };
    match timeout(RECOVERY, user).await {
        Ok(Ok(Ok(report))) => {
            outcome.job_time = report.ended - began;
            outcome.offices = report.offices;
            if let Err(what) = judge(plan, crew, &report, &mut outcome) {
                watch.violation("the output and the history of a job", what);
            }
        }
        Ok(Ok(Err(what))) => watch.violation("a job succeeds", what),
        Ok(Err(error)) => watch.violation("a job succeeds", error.to_string()),
        Err(_) => watch.violation("progress", format!("the job is not done {RECOVERY:?} after all was good")),
    }
    if !watch.is_violated() && timeout(RECOVERY, crew.is_tidy()).await.is_err() {
        watch.violation("nothing is left", "workers keep output of a job that was collected".to_owned());
    }
    outcome
}

/// The coordinator's machine loses its power.
async fn assassinate(cluster: Cluster, after: Duration) {
    let led = cluster.wait_for_leader(RECOVERY).await;
    sleep(after).await;
    if let Some(leader) = led.ok().and_then(|_| cluster.leader()) {
        cluster.lose_power(leader);
        sleep(REVIVED).await;
        cluster.start_node(leader);
    }
}

fn job(plan: &JobPlan, crew: &Crew) -> Plan {
    let words = || Function::builtin("wc", Vec::new());
    let mut job = Job::new("simulated", vec!["text".to_owned()], words(), words(), "out");
    // Full disks may last, and are no reason to give up.
    job.limits.attempts = 10_000;
    let split = |index: u32| Split {
        file: format!("text-{index}"),
        offset: 0,
        length: crew.text(index).len() as u64,
        compression: Compression::Plain,
    };
    let (maps, reducers) = (plan.maps, plan.reduces);
    let setup = Setup { id: String::new(), job, maps, reducers, partitioner: Partitioner::Hash };
    Plan { setup, splits: (0..maps).map(split).collect() }
}

/// Whoever submits the job, waits for it, and collects the output.
struct User {
    crew: Rc<Crew>,
    client: SimClient,
    job: JobId,
}

/// What the user has in the end.
struct Report {
    parts: Vec<Counts>,
    history: Vec<(u64, Record)>,
    lines: u64,
    offices: u64,
    ended: Duration,
}

impl User {
    async fn run(crew: Rc<Crew>, plan: Plan) -> Result<Report, String> {
        let patient = |options: &mut crate::node::client::ClientOptions| options.deadline = Some(RECOVERY);
        let client = crew.cluster().client("user", patient).await.map_err(|error| error.to_string())?;
        let submitted = client.submit_job(crew.draw(), plan).await;
        let job = submitted.map_err(|error| format!("it is not taken: {error}"))?;
        let user = User { crew, client, job };
        let parts = user.collect().await?;
        user.client.job_collected(job).await.map_err(|error| error.to_string())?;
        let ended = user.crew.cluster().watch().now();
        let history = user.client.job_history(job).await.map_err(|error| error.to_string())?;
        let line = user.client.job(job).await.map_err(|error| error.to_string())?;
        let office = user.client.get("_quorate/mapreduce/office").await.map_err(|error| error.to_string())?;
        let lines = line.survey.counters.get("sim", "lines");
        Ok(Report { parts, history, lines, offices: office.map_or(0, |office| office.version), ended })
    }

    async fn collect(&self) -> Result<Vec<Counts>, String> {
        let mut found: Vec<Counts> = Vec::new();
        loop {
            let parts = self.client.job_parts(self.job).await.map_err(|error| error.to_string())?.0;
            if parts.is_empty() {
                let state = self.client.job(self.job).await.map_err(|error| error.to_string())?.survey.state;
                match state {
                    JobState::Running | JobState::Succeeded => sleep(LOOK).await,
                    state => return Err(format!("{state:?}")),
                }
                continue;
            }
            while let Some(place) = parts.get(found.len()) {
                match self.crew.fetch_part(self.job, place).await {
                    Ok(part) => found.push(part),
                    Err(missed) => {
                        self.miss(place, missed).await?;
                        break;
                    }
                }
            }
            if found.len() == parts.len() {
                return Ok(found);
            }
        }
    }

    async fn miss(&self, place: &Place, missed: Missed) -> Result<(), String> {
        let work = Work { job: self.job, attempt: place.attempt };
        let told = self.client.job_part_missing(work, format!("{missed:?}")).await;
        told.map_err(|error| error.to_string())
    }
}

/// Compares the output with that of a program without any framework, and looks through the history.
fn judge(plan: &JobPlan, crew: &Crew, report: &Report, outcome: &mut JobOutcome) -> Result<(), String> {
    let mut merged = Counts::new();
    for (part, index) in report.parts.iter().zip(0..) {
        for (word, count) in part {
            if Partitioner::Hash.partition(word.as_bytes(), plan.reduces) != index {
                return Err(format!("{word:?} is in part {index}"));
            }
            merged.insert(word.clone(), *count);
        }
    }
    let expected = crew.reference();
    if merged != expected {
        return Err(format!("the output is {merged:?}, and should be {expected:?}"));
    }
    let lines: u64 = (0..plan.maps).map(|map| crew.text(map).lines().count() as u64).sum();
    if report.lines != lines {
        return Err(format!("{} lines were counted, and there are {lines}", report.lines));
    }
    let mut finished: BTreeSet<TaskId> = BTreeSet::new();
    let mut attempts: BTreeMap<TaskId, u32> = BTreeMap::new();
    for (_, record) in &report.history {
        let Some(attempt) = record.attempt() else { continue };
        let task = attempt.task;
        let fits = match record {
            Record::Started { .. } => {
                let number = attempts.entry(task).or_default();
                *number += 1;
                outcome.attempts += 1;
                attempt.number == *number && !finished.contains(&task)
            }
            Record::Done { .. } => finished.insert(task),
            Record::Reopened { .. } => {
                outcome.reopened += 1;
                finished.remove(&task)
            }
            _ => {
                outcome.vain += 1;
                !finished.contains(&task)
            }
        };
        if !fits {
            return Err(format!("{record:?} does not follow from what was before"));
        }
    }
    Ok(())
}
