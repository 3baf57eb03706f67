//! Collecting the output of a job: from the workers that reduced into a directory here.
//!
//! It is a reducer's fetch, with one more turn: a part that its worker has lost is made again by the cluster, and then
//! collected. The directory is as that of a local job: complete, with `_SUCCESS` as its last file, or not there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::client::Client;
use super::mapreduce::FETCH_PATIENCE;
use crate::actors::mapreduce::shuffle::{FetchError, Fetcher, Piece, Shuffle, ShuffleSpec};
use crate::actors::supervision::{ChildSpec, Registry, Slot, Strategy, Supervisor};
use crate::logic::clerk::ClerkError;
use crate::logic::mapreduce::coordinator::{JobState, JobSurvey};
use crate::logic::mapreduce::job::Form;
use crate::logic::mapreduce::record::JobId;
use crate::logic::mapreduce::report::{Place, Work};
use crate::mapreduce::output::OutputDirectory;
use crate::mapreduce::run_file::cannot_write;
use crate::mapreduce::task::Part;
use crate::net::NetSettings;
use crate::net::transport::Transport;

/// Pause before the coordinator is asked again where the parts are.
const PAUSE: Duration = Duration::from_millis(200);

/// A part is looked for so often at workers that the cluster hears, but that cannot be reached from here. Between two
/// tries it is made again, elsewhere if possible.
const TRIES: u32 = 3;

/// Why the output was not collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The cluster could not be asked.
    #[error(transparent)]
    Cluster(#[from] ClerkError),
    /// The job has no output.
    #[error("{0}")]
    NoOutput(String),
    /// Who has a part is up, and cannot be reached from here.
    #[error("{0}")]
    Unreachable(String),
    /// The output cannot be written here.
    #[error("{0}")]
    Write(String),
}

/// Output that was collected.
#[derive(Debug)]
pub struct Collected {
    /// Its files.
    pub files: Vec<PathBuf>,
    /// Why the cluster could not be told. It may keep what it has of the output as if nobody had collected it.
    pub untold: Option<ClerkError>,
}

/// How far collecting has come; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Collecting {
    bytes: AtomicU64,
    stop: AtomicBool,
}

impl Collecting {
    /// Bytes fetched so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Fetches the output of a finished job into `output`, and tells the cluster that it is there.
///
/// It runs on the current thread's `LocalSet`, with a thread of its own for the disk.
///
/// # Errors
/// See [`CollectError`]. What is at `output` then has no `_SUCCESS`; the cluster still has everything.
///
/// # Panics
/// Outside a `LocalSet`.
pub async fn collect(
    client: &Client,
    transport: Arc<dyn Transport>,
    job: JobId,
    output: &OutputDirectory,
    progress: &Arc<Collecting>,
) -> Result<Collected, CollectError> {
    let slot = Slot::<Shuffle>::new("shuffle");
    let spec = ShuffleSpec { cluster: String::new(), net: NetSettings::default(), transport };
    let child = ChildSpec::new("shuffle", move |_| Shuffle::new(spec.clone())).slot(&slot);
    let root =
        Supervisor::new("collect", Strategy::OneForOne).child(child).start(&Registry::new(fastrand::u64(..)));
    let fetcher = Fetcher { port: slot.port(), patience: FETCH_PATIENCE };
    let guard = StopOnDrop(progress.clone());
    let result = collect_with(&fetcher, client, job, output, progress).await;
    drop(guard);
    root.shutdown().await;
    result
}

/// Why a job has no output, and never will have, in words for its user. `None`: it has, or will have.
pub fn no_output(job: JobId, survey: &JobSurvey) -> Option<String> {
    match &survey.state {
        JobState::Running | JobState::Succeeded => None,
        JobState::Collected => Some(format!("job {job} has no output any more: it was collected")),
        JobState::Failed { attempt, why } => Some(format!("job {job} failed: {attempt}: {why}")),
        JobState::Cancelled if survey.was_given_up_when_done() => Some(format!(
            "job {job} has no output any more: it was cancelled once it was done, or nobody collected the output in \
             time (mapreduce.uncollected_ttl_s and max_uncollected set that); run it again"
        )),
        JobState::Cancelled => Some(format!("job {job} has no output: it was cancelled")),
    }
}

/// The thread that fetches ends soon after whoever waits for it.
struct StopOnDrop(Arc<Collecting>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

async fn collect_with(
    fetcher: &Fetcher,
    client: &Client,
    job: JobId,
    output: &OutputDirectory,
    progress: &Arc<Collecting>,
) -> Result<Collected, CollectError> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut tries = 0;
    loop {
        let (parts, form) = client.job_parts(job).await?;
        if parts.is_empty() {
            let survey = client.job(job).await?.survey;
            match survey.state {
                // No input and no reducers: there is nothing to fetch.
                JobState::Succeeded if survey.map.tasks + survey.reduce.tasks == 0 => {}
                _ => match no_output(job, &survey) {
                    Some(text) => return Err(CollectError::NoOutput(text)),
                    None => {
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            }
        }
        while let Some(place) = parts.get(files.len()) {
            match part(fetcher, job, place, form, output, progress).await {
                Ok(file) => {
                    files.push(file);
                    tries = 0;
                }
                Err(FetchError::Write(error)) => return Err(CollectError::Write(error.to_string())),
                Err(error) => {
                    tries += u32::from(out_of_reach(client, &error, place).await?);
                    if tries == TRIES {
                        return Err(CollectError::Unreachable(beyond(job, &error)));
                    }
                    tracing::info!(%error, attempt = %place.attempt, "a part of the output is made again");
                    let work = Work { job, attempt: place.attempt };
                    client.job_part_missing(work, error.to_string()).await?;
                    break;
                }
            }
        }
        if files.len() == parts.len() {
            output.succeed().map_err(|failure| CollectError::Write(failure.message))?;
            // From here on nothing takes the output away again: the cluster may have heard it, and dropped its own.
            let untold = client.job_collected(job).await.err();
            return Ok(Collected { files, untold });
        }
    }
}

/// Whether the cluster hears the worker that cannot be reached from here. One that is gone is another matter: what it
/// had is made again by those that are left.
async fn out_of_reach(client: &Client, error: &FetchError, place: &Place) -> Result<bool, ClerkError> {
    if !matches!(error, FetchError::Unreachable(_)) {
        return Ok(false);
    }
    let workers = client.workers().await?;
    Ok(workers.iter().any(|known| known.worker == place.worker && known.address == place.address))
}

fn beyond(job: JobId, error: &FetchError) -> String {
    format!(
        "{error}, though the cluster hears it; give the workers addresses that can be reached from here (mr worker \
         --advertise), or collect where they can: the job stays as it is, and `quorate mr collect {job}` fetches its \
         output"
    )
}

/// Fetches one part, and puts it in its place.
async fn part(
    fetcher: &Fetcher,
    job: JobId,
    place: &Place,
    form: Form,
    output: &OutputDirectory,
    progress: &Arc<Collecting>,
) -> Result<PathBuf, FetchError> {
    let (reply, done) = oneshot::channel();
    let (fetcher, place, progress) = (fetcher.clone(), place.clone(), progress.clone());
    let directory = output.path().to_path_buf();
    let thread = std::thread::Builder::new().name("collect".to_owned()).spawn(move || {
        let fetched = fetch_part(&fetcher, job, &place, form, &directory, &progress);
        let _ = reply.send(fetched);
    });
    thread.map_err(|error| unwritten(format!("cannot start a thread: {error}")))?;
    done.await.unwrap_or_else(|_| Err(unwritten("fetching was cut short")))
}

fn fetch_part(
    fetcher: &Fetcher,
    job: JobId,
    place: &Place,
    form: Form,
    directory: &Path,
    progress: &Collecting,
) -> Result<PathBuf, FetchError> {
    let output = OutputDirectory::of_running_job(directory);
    let path = output.attempts().join(place.attempt.to_string());
    let cannot = |error: std::io::Error| unwritten(cannot_write(&path, &error).message);
    let file = File::create(&path).map_err(cannot)?;
    let mut counted = Counted { file: &file, progress };
    let piece = Piece { work: Work { job, attempt: place.attempt }, offset: 0, length: None };
    let go_on = || !progress.stop.load(Ordering::Relaxed);
    fetcher.fetch(&place.address, piece, &mut counted, &go_on).map_err(|error| match error {
        FetchError::Write(error) => cannot(error),
        other => other,
    })?;
    file.sync_all().map_err(cannot)?;
    let name = form.file_name(place.attempt.task);
    let done = Part { path: path.clone(), name, counters: Default::default(), skipped: Vec::new() };
    output.commit(&done).map_err(|failure| unwritten(failure.message))
}

/// It is the disk here that fails, not the worker that was asked.
fn unwritten(text: impl Into<String>) -> FetchError {
    FetchError::Write(std::io::Error::other(text.into()))
}

struct Counted<'a> {
    file: &'a File,
    progress: &'a Collecting,
}

impl std::io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.progress.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
