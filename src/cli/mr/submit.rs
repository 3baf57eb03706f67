//! submit: run a job on the cluster.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::oneshot;

use super::job::JobArgs;
use super::local::picture;
use super::{jobs, show};
use crate::cli::cluster::{Cluster, ClusterArgs, explain};
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::logic::clerk::ClerkError;
use crate::logic::mapreduce::coordinator::JobState;
use crate::logic::mapreduce::job::{Job, Plan};
use crate::logic::mapreduce::record::JobId;
use crate::mapreduce::function::Functions;
use crate::mapreduce::output::OutputDirectory;
use crate::mapreduce::plan::plan;
use crate::mapreduce::task::Control;
use crate::messages::mapreduce::JobLine;
use crate::node::client::Client;
use crate::node::collect::{Collecting, no_output};
use crate::node::exit::{self, Failure};

/// The pause between two looks at a job that is waited for is a part of the time so far, within these bounds: so a
/// small job is not held up, and a long one costs the coordinator nothing.
const LOOKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];
const LOOKS_PER_TIME: u32 = 8;
/// A cluster that gives no answer for so long while a job is waited for is given up; the job goes on when it is back.
const PATIENCE: Duration = Duration::from_secs(120);

/// Run a job on the workers of the cluster, and fetch its output.
///
/// The job survives this command: when it is interrupted, the job goes on, and `quorate mr collect` fetches the output.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr submit wc --input books --output out --reducers 10
  quorate mr submit grep 'whale' -i 'books/*.txt' -o out
  quorate mr submit --mapper './m.py' --reducer 'uniq -c' --input /data --output out
  quorate mr submit sort -i /data -o out --detach    do not wait; see `quorate mr status`")]
pub(super) struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// Do not wait for the end; print the job's number
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// What a job that was waited for came to.
struct Finished {
    number: JobId,
    /// `None`: it could not be asked for once the output was there.
    line: Option<JobLine>,
    files: Vec<String>,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let job = self.job.job()?;
        let mut out = Output::new(self.cluster.json);
        if self.detach {
            let number = self.cluster.run(async |cluster| submit(cluster, job).await)?;
            out.either(format_args!("job {number}"), &json!({"job": number.0}))?;
            out.flush()?;
            return Ok(exit::OK);
        }
        let began = Instant::now();
        let finished = jobs::fill(&self.cluster, &self.job.output, async |cluster, output| {
            run(cluster, job, output).await
        })?;
        finished.show(&mut out, &self.job.output, began.elapsed())?;
        Ok(exit::OK)
    }
}

impl Finished {
    fn show(&self, out: &mut Output, directory: &Path, elapsed: Duration) -> Result<(), Failure> {
        let Finished { number, line, files } = self;
        let mut value = line.as_ref().map_or_else(|| json!({"job": number.0}), show::value);
        value["files"] = json!(files);
        value["elapsed_ms"] = json!(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        let (text, place) = match line {
            Some(line) => (show::full(line, jobs::now_ms()), line.output.clone()),
            None => (format!("job {number}: succeeded"), directory.display().to_string()),
        };
        out.either(format_args!("{text}\n{} files in {place}", files.len()), &value)?;
        out.flush()
    }
}

/// Plans the job for the slots there are, and submits it.
async fn submit(cluster: &Cluster, job: Job) -> Result<JobId, Failure> {
    let client = cluster.client();
    let workers = client.workers().await.map_err(explain)?;
    let slots: u32 = workers.iter().map(|worker| worker.slots).sum();
    if slots == 0 {
        return Err(Failure::new(
            exit::UNAVAILABLE,
            "no worker is up: wait until the nodes are, or start one with `quorate mr worker`",
        ));
    }
    let plan = planned(job, slots).await?;
    client.submit_job(fastrand::u64(..), plan).await.map_err(not_submitted)
}

/// What it means that submitting failed. Whoever submits again what has arrived has it run twice.
fn not_submitted(error: ClerkError) -> Failure {
    let failure = explain(error);
    if failure.code != exit::MAYBE {
        return failure;
    }
    let text = "no answer in time; the job may have been submitted: see `quorate mr list` before you submit it again, \
                and fetch its output with `quorate mr collect`";
    Failure::new(exit::MAYBE, text)
}

/// Plans a job on a thread of its own, so that a slow file system or store holds up neither Ctrl-C nor the connection.
async fn planned(job: Job, slots: u32) -> Result<Plan, Failure> {
    let control = Arc::new(Control::default());
    let _given_up = CancelOnDrop(control.clone());
    let (tell, planned) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("plan".into()).spawn(move || {
        // After Ctrl-C nobody listens any more.
        let _ = tell.send(plan(String::new(), job, slots, &Functions::builtin(), &control));
    });
    spawned.map_err(|error| Failure::internal(format!("cannot start a thread: {error}")))?;
    let planned =
        planned.await.map_err(|_| Failure::internal("a function panicked while the job was planned"))?;
    planned.map_err(Failure::usage)
}

/// A plan that nobody waits for any more is given up, and with it the mapper whose input is sampled.
struct CancelOnDrop(Arc<Control>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn run(cluster: &Cluster, job: Job, output: &OutputDirectory) -> Result<Finished, Failure> {
    let number = submit(cluster, job).await?;
    let client = cluster.client().with_deadline(PATIENCE);
    let goes_on = |failure: Failure| match failure.code {
        exit::UNAVAILABLE => {
            let text = format!("{}; job {number} goes on when the cluster is back", failure.message);
            Failure::new(failure.code, text)
        }
        _ => failure,
    };
    wait(&client, number).await.map_err(goes_on)?;
    let files = jobs::fetch(&client, number, output, &Arc::new(Collecting::default())).await?;
    // The output is there, so that this is not known is no failure of the job.
    let line = cluster.client().job(number).await;
    let line =
        line.inspect_err(|error| jobs::warn(format_args!("what job {number} did is not known: {error}")));
    let files = files.iter().map(|file| file.display().to_string()).collect();
    Ok(Finished { number, line: line.ok(), files })
}

/// Waits until the job is done, and shows how it gets on.
async fn wait(client: &Client, job: JobId) -> Result<(), Failure> {
    let progress = Progress::bar("mapreduce", 1000);
    let began = Instant::now();
    loop {
        let line = client.job(job).await.map_err(explain)?;
        if let Some(text) = no_output(job, &line.survey) {
            return Err(Failure::new(exit::REFUSED, text));
        }
        if line.survey.state == JobState::Succeeded {
            return Ok(());
        }
        let (done, text) = picture(&line.survey, began.elapsed());
        progress.set(done, text);
        tokio::time::sleep((began.elapsed() / LOOKS_PER_TIME).clamp(LOOKS[0], LOOKS[1])).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_have_submitted_a_job_is_told_to_look_before_it_runs_twice() {
        let timeout = |maybe| not_submitted(ClerkError::Timeout { maybe, cause: "no leader".into() });
        let (perhaps, surely_not) = (timeout(true), timeout(false));
        assert_eq!((perhaps.code, surely_not.code), (exit::MAYBE, exit::UNAVAILABLE));
        assert!(
            perhaps.message.contains("`quorate mr list` before you submit it again"),
            "{}",
            perhaps.message
        );
        assert!(surely_not.message.contains("nothing was changed"), "{}", surely_not.message);
    }
}
