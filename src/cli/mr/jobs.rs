//! list, status, logs, cancel, collect: jobs that were submitted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::show;
use crate::cli::cluster::{Cluster, ClusterArgs, explain};
use crate::cli::output::Output;
use crate::logic::mapreduce::record::JobId;
use crate::mapreduce::output::OutputDirectory;
use crate::net::transport::TcpTransport;
use crate::node::client::Client;
use crate::node::collect::{CollectError, Collected, Collecting, collect};
use crate::node::exit::{self, Failure};

/// Reads the number of a job: `7` or `job-7`.
fn parse_job(text: &str) -> Result<JobId, String> {
    let number = text.strip_prefix("job-").unwrap_or(text).parse();
    number
        .map(JobId)
        .map_err(|_| format!("{text:?} is no job; write its number, as `quorate mr list` shows it"))
}

/// List the jobs of the cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr list
  quorate mr list --json")]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Show how a job is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr status 7")]
pub(super) struct StatusArgs {
    /// The job
    #[arg(value_parser = parse_job)]
    job: JobId,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Show what happened to a job: every attempt, who ran it, and how it ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr logs 7
  quorate mr logs 7 --failures    only what went wrong")]
pub(super) struct LogsArgs {
    /// The job
    #[arg(value_parser = parse_job)]
    job: JobId,
    /// Only attempts that failed or were lost, and output that was lost
    #[arg(long)]
    failures: bool,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Give a job up. The output of one that is done need not be kept for you any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr cancel 7")]
pub(super) struct CancelArgs {
    /// The job
    #[arg(value_parser = parse_job)]
    job: JobId,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Fetch the output of a job that was submitted with --detach, waiting until it is done.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr collect 7 --output out")]
pub(super) struct CollectArgs {
    /// The job
    #[arg(value_parser = parse_job)]
    job: JobId,
    /// The directory for the output, on this machine; it must not exist
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

impl ListArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let jobs = self.cluster.run(async |cluster| cluster.client().jobs().await.map_err(explain))?;
        let mut out = Output::new(self.cluster.json);
        if out.json {
            out.value(&jobs.iter().map(show::value).collect())?;
        } else if jobs.is_empty() {
            out.line("no jobs")?;
        }
        for job in jobs.iter().filter(|_| !self.cluster.json) {
            out.line(show::line(job, now_ms()))?;
        }
        out.flush()?;
        Ok(exit::OK)
    }
}

impl StatusArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let job = self.cluster.run(async |cluster| cluster.client().job(self.job).await.map_err(explain))?;
        let mut out = Output::new(self.cluster.json);
        out.either(show::full(&job, now_ms()), &show::value(&job))?;
        out.flush()?;
        Ok(exit::OK)
    }
}

impl LogsArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let history = self
            .cluster
            .run(async |cluster| cluster.client().job_history(self.job).await.map_err(explain))?;
        let mut out = Output::new(self.cluster.json);
        let first = history.first().map_or(0, |(at, _)| *at);
        for (at, record) in &history {
            let (what, text) = show::record(record);
            if self.failures && !["failed", "lost", "reopened"].contains(&what) {
                continue;
            }
            let attempt = record.attempt().map(|attempt| attempt.to_string()).unwrap_or_default();
            let seconds = at.saturating_sub(first) as f64 / 1000.0;
            let value = json!({"unix_ms": at, "attempt": attempt, "what": what, "text": text});
            out.either(format_args!("{seconds:>9.3}  {attempt:<14} {what:<9} {text}"), &value)?;
        }
        out.flush()?;
        Ok(exit::OK)
    }
}

impl CancelArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let job = self.cluster.run(async |cluster| {
            cluster.client().cancel_job(self.job).await.map_err(explain)?;
            cluster.client().job(self.job).await.map_err(explain)
        })?;
        // One that had failed, or was collected, stays what it was.
        let state = show::state_word(&job.survey.state);
        let mut out = Output::new(self.cluster.json);
        out.either(state, &json!({"job": self.job.0, "state": state, "cancelled": state == "cancelled"}))?;
        out.flush()?;
        Ok(exit::OK)
    }
}

impl CollectArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let files = fill(&self.cluster, &self.output, async |cluster, output| {
            fetch(cluster.client(), self.job, output, &Arc::new(Collecting::default())).await
        })?;
        let mut out = Output::new(self.cluster.json);
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let text = format!("job {}: {} files in {}", self.job, files.len(), self.output.display());
        out.either(text, &json!({"job": self.job.0, "files": names}))?;
        out.flush()?;
        Ok(exit::OK)
    }
}

/// Makes a directory for output, and does the work that fills it. When that fails, or somebody interrupts it with
/// Ctrl-C or SIGTERM, the directory goes away again, unless it is complete.
pub(super) fn fill<T>(
    cluster: &ClusterArgs,
    path: &Path,
    work: impl AsyncFnOnce(&Cluster, &OutputDirectory) -> Result<T, Failure>,
) -> Result<T, Failure> {
    cluster.run(async |cluster| {
        let deaf = |error| Failure::internal(format!("cannot listen to signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
        let output = OutputDirectory::create(path).map_err(Failure::usage)?;
        let done = tokio::select! {
            done = work(cluster, &output) => done,
            _ = interrupt.recv() => Err(interrupted(&output)),
            _ = terminate.recv() => Err(interrupted(&output)),
        };
        done.inspect_err(|_| abandon(&output))
    })
}

fn interrupted(output: &OutputDirectory) -> Failure {
    let text = if output.is_complete() {
        "interrupted, but the output is complete; the cluster may not know and keep its own: `quorate mr cancel` \
         lets it drop that"
    } else {
        "interrupted; a job that was submitted goes on: see `quorate mr list`, fetch its output with `quorate mr \
         collect`, or cancel it with `quorate mr cancel`"
    };
    Failure::new(exit::INTERRUPTED, text)
}

/// Collects the output of a job.
pub(super) async fn fetch(
    client: &Client,
    job: JobId,
    output: &OutputDirectory,
    progress: &Arc<Collecting>,
) -> Result<Vec<PathBuf>, Failure> {
    let collected = collect(client, TcpTransport::shared(), job, output, progress).await;
    let Collected { files, untold } = collected.map_err(|error| match error {
        CollectError::Cluster(error) => explain(error),
        CollectError::NoOutput(text) => Failure::new(exit::REFUSED, text),
        CollectError::Write(text) | CollectError::Unreachable(text) => Failure::new(exit::UNAVAILABLE, text),
    })?;
    if let Some(error) = untold {
        warn(format_args!(
            "the output is complete, but the cluster may not know ({}); `quorate mr cancel {job}` lets it drop its \
             own",
            explain(error).message
        ));
    }
    Ok(files)
}

/// Tells what went wrong where the command goes well all the same.
pub(super) fn warn(text: impl std::fmt::Display) {
    // Nor does it matter whether anybody can be told.
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

/// Removes an output directory that came to nothing, so that the next try finds the place free.
fn abandon(output: &OutputDirectory) {
    if let Err(error) = output.abandon() {
        warn(format_args!(
            "cannot remove the unfinished output directory {}: {error}",
            output.path().display()
        ));
    }
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
