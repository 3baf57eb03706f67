//! Running a job on this machine alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::function::Functions;
use super::output::OutputDirectory;
use super::plan::plan;
use super::task::{Control, Env, memory_for_slot};
use crate::logic::mapreduce::coordinator::JobSurvey;
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::job::{Attempt, Job, Plan};

/// How often one who waits for the plan looks whether the job was cancelled.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a job runs on this machine.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// Tasks at the same time; by default, one for each processor.
    pub slots: usize,
    /// What all tasks together may use, in bytes.
    pub memory_bytes: usize,
    /// Where map output is kept meanwhile; by default, in the output directory.
    pub scratch: Option<PathBuf>,
    /// The functions that jobs can name.
    pub functions: Arc<Functions>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            slots: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: 256 << 20,
            scratch: None,
            functions: Arc::new(Functions::builtin()),
        }
    }
}

/// What came of a job.
#[derive(Clone, Debug)]
pub struct JobReport {
    /// How long it took.
    pub elapsed: Duration,
    /// Map tasks.
    pub maps: u32,
    /// Reduce tasks. With none, each map task has a file of output.
    pub reducers: u32,
    /// Bytes of all inputs, as they lie on disk.
    pub input_bytes: u64,
    /// Attempts that failed and were made good.
    pub failures: u32,
    /// What the tasks counted.
    pub counters: Counters,
    /// Where the records are that were passed over, the first of them.
    pub skipped: Vec<String>,
    /// The output directory.
    pub output: PathBuf,
}

/// Why there is no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobFailure {
    /// The job cannot be run as it is; nothing was done.
    #[error("{0}")]
    Refused(String),
    /// A task failed for good; nothing is left of the output.
    #[error("{} failed{}: {why}", attempt.task, if attempt.number > 1 { " again and again, at last" } else { "" })]
    Failed {
        /// The attempt that was the last straw.
        attempt: Attempt,
        /// What happened, where, and what its user can do.
        why: String,
    },
    /// This machine could not finish it; nothing is left of the output.
    #[error("{0}")]
    Machine(String),
    /// It was told to stop; nothing is left of the output.
    #[error("the job was cancelled; nothing is left of its output")]
    Cancelled,
}

/// Runs a job on this machine, and returns when it is over.
///
/// `watch` is called about ten times a second. As soon as `cancel` is true, the job stops and what it has written
/// is removed.
///
/// # Errors
/// Why there is no output. Whatever was there before is untouched.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::AtomicBool;
///
/// use quorate::mapreduce::{builtin, local};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let (input, output) = (dir.path().join("in.txt"), dir.path().join("out"));
/// std::fs::write(&input, "to be or not to be")?;
/// let job = builtin::job("wc", &[], vec![input.display().to_string()], &output.display().to_string())?;
///
/// let cancel = Arc::new(AtomicBool::new(false));
/// local::run(job, &local::LocalOptions::default(), &cancel, |_| ())?;
/// assert_eq!(std::fs::read_to_string(output.join("part-r-00000"))?, "be\t2\nnot\t1\nor\t1\nto\t2\n");
/// # Ok(())
/// # }
/// ```
pub fn run(
    job: Job,
    options: &LocalOptions,
    cancel: &AtomicBool,
    mut watch: impl FnMut(&JobSurvey),
) -> Result<JobReport, JobFailure> {
    let start = Instant::now();
    let slots = u32::try_from(options.slots.max(1)).unwrap_or(u32::MAX);
    let plan = plan_unless_cancelled(job, slots, &options.functions, cancel)?;
    let directory = plan.setup.job.output.directory.clone();
    let output = OutputDirectory::create(directory.as_ref()).map_err(JobFailure::Refused)?;
    let finished = run_plan(plan, options, slots, &output, cancel, &mut watch).and_then(|finished| {
        output.succeed().map_err(|failure| JobFailure::Machine(failure.message))?;
        Ok(finished)
    });
    let (survey, skipped) = finished.inspect_err(|_| {
        // The failure itself is what the user must hear of.
        let _ = output.abandon();
    })?;
    Ok(JobReport {
        elapsed: start.elapsed(),
        maps: survey.map.tasks,
        reducers: survey.reduce.tasks,
        input_bytes: survey.input_bytes,
        failures: survey.map.failures + survey.reduce.failures,
        counters: survey.counters,
        skipped,
        output: directory.into(),
    })
}

/// Plans a job on a thread of its own: a file system may take its time, and a mapper whose input is sampled, too. When
/// the job is cancelled, nobody waits for them.
fn plan_unless_cancelled(
    job: Job,
    slots: u32,
    functions: &Arc<Functions>,
    cancel: &AtomicBool,
) -> Result<Plan, JobFailure> {
    let control = Arc::new(Control::default());
    let (tell, planned) = channel();
    let (functions, shared) = (functions.clone(), control.clone());
    let spawned = std::thread::Builder::new().name("plan".into()).spawn(move || {
        // When the job was cancelled, nobody listens any more.
        let _ = tell.send(plan(job_id(), job, slots, &functions, &shared));
    });
    spawned.map_err(|error| JobFailure::Machine(format!("cannot start a thread: {error}")))?;
    loop {
        match planned.recv_timeout(LOOK_EVERY) {
            Ok(plan) => return plan.map_err(JobFailure::Refused),
            Err(RecvTimeoutError::Timeout) if cancel.load(Ordering::Relaxed) => {
                control.cancel();
                return Err(JobFailure::Cancelled);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(JobFailure::Refused("a function panicked while the job was planned".into()));
            }
        }
    }
}

fn run_plan(
    plan: Plan,
    options: &LocalOptions,
    slots: u32,
    output: &OutputDirectory,
    cancel: &AtomicBool,
    watch: &mut dyn FnMut(&JobSurvey),
) -> Result<(JobSurvey, Vec<String>), JobFailure> {
    let scratch = Scratch::create(&plan, options, output)?;
    let env = Env {
        scratch: scratch.path.clone(),
        memory_bytes: memory_for_slot(options.memory_bytes, slots as usize),
        functions: options.functions.clone(),
    };
    let mut crew = Crew::new(plan, env, slots, output);
    let result = crew.run(cancel, watch);
    crew.dismiss();
    result.map(|survey| {
        let skipped = crew.places(&survey.skipped);
        (survey, skipped)
    })
}

/// Unique among the jobs of this machine.
fn job_id() -> String {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}_{}", since_1970.as_millis(), std::process::id())
}

/// Where map output is kept; removed with everything in it.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn create(plan: &Plan, options: &LocalOptions, output: &OutputDirectory) -> Result<Self, JobFailure> {
        let parent = options.scratch.clone().unwrap_or_else(|| output.attempts());
        let path = parent.join(format!("quorate-{}", plan.setup.id));
        std::fs::create_dir_all(&path).map_err(|error| {
            JobFailure::Refused(format!("cannot make the scratch directory {}: {error}", path.display()))
        })?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A thread that hangs may still hold a file in it.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::mapreduce::job::Function;
    use crate::logic::mapreduce::partition::Partitioning;

    #[test]
    fn a_job_can_be_cancelled_while_it_is_planned() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_string();
        std::fs::write(path("in"), "to be\nor not\n").expect("written");
        let (hangs, pairs) = (Function::command("exec sleep 100000"), Function::builtin("pairs", Vec::new()));
        let mut job = Job::new("hangs", vec![path("in")], hangs, pairs, path("out"));
        (job.reducers, job.partitioning) = (Some(2), Partitioning::Range);
        job.limits.task_timeout_ms = u64::MAX;
        let cancelled = run(job, &LocalOptions::default(), &AtomicBool::new(true), |_| ());
        assert_eq!(cancelled.expect_err("it never ends"), JobFailure::Cancelled);
        assert!(!dir.path().join("out").exists());
    }
}
