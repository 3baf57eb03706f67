//! The directory of a worker: what its attempts have finished, until the job is over.
//!
//! ```text
//! worker             its identity, drawn when the directory was made
//! job-7/map-3.1      the output of a finished attempt
//! job-7/_reduce-0.1  where an attempt works; gone when it ends, or when the worker starts again
//! ```
//!
//! It is found again by the worker's next life, so work that was finished need not be done again. What stands in it
//! is not synced: output that a power failure damages is noticed by its checksums, and made again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::logic::mapreduce::job::{Attempt, Phase};
use crate::logic::mapreduce::record::{JobId, WorkerId};
use crate::logic::mapreduce::report::Work;
use crate::mapreduce::run_file::Index;
use crate::messages::mapreduce::Extent;

/// Indices of map outputs that are kept in memory.
const INDICES: usize = 256;

/// The directory of a worker.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
    worker: WorkerId,
    indices: Arc<Mutex<BTreeMap<Work, Arc<Index>>>>,
    _lock: Arc<File>,
}

impl Shelf {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// A sentence: when it cannot be used, or another process uses it.
    pub fn open(dir: &Path) -> Result<Shelf, String> {
        let shown = dir.display();
        let failed = |error: io::Error| format!("cannot use the worker's directory {shown}: {error}");
        fs::create_dir_all(dir).map_err(failed)?;
        // Attempts change their directory to none of ours, so paths in it must stay good.
        let dir = fs::canonicalize(dir).map_err(failed)?;
        let path = dir.join("worker");
        let file = File::options().create(true).read(true).append(true).open(&path).map_err(failed)?;
        file.try_lock().map_err(|_| format!("the worker's directory {shown} is used by another process"))?;
        let worker = identity(&path).map_err(failed)?;
        let shelf = Shelf { dir, worker, indices: Arc::default(), _lock: Arc::new(file) };
        shelf.tidy();
        Ok(shelf)
    }

    /// Whose it is.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Jobs of which there is anything.
    pub fn jobs(&self) -> Vec<JobId> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let number = |name: String| name.strip_prefix("job-")?.parse().ok().map(JobId);
        let mut jobs: Vec<JobId> = entries
            .flatten()
            .filter_map(|entry| number(entry.file_name().to_string_lossy().into_owned()))
            .collect();
        jobs.sort_unstable();
        jobs
    }

    /// Makes a directory for an attempt to work in, empty.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn bench(&self, work: Work) -> io::Result<PathBuf> {
        let bench = self.job(work.job).join(format!("_{}", work.attempt));
        if bench.exists() {
            fs::remove_dir_all(&bench)?;
        }
        fs::create_dir_all(&bench)?;
        Ok(bench)
    }

    /// Puts the output of an attempt in its place; whatever else stands on its bench goes away.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep(&self, work: Work, output: &Path) -> io::Result<u64> {
        let place = self.place(work);
        fs::rename(output, &place)?;
        self.clear(work);
        Ok(fs::metadata(&place)?.len())
    }

    /// Removes the bench of an attempt. What cannot be removed now is when the worker starts again.
    pub fn clear(&self, work: Work) {
        let _ = fs::remove_dir_all(self.job(work.job).join(format!("_{}", work.attempt)));
    }

    /// Removes all that there is of a job.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget(&self, job: JobId) -> io::Result<()> {
        self.indices.lock().unwrap_or_else(PoisonError::into_inner).retain(|work, _| work.job != job);
        match fs::remove_dir_all(self.job(job)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where the output of a finished attempt is.
    pub fn place(&self, work: Work) -> PathBuf {
        self.job(work.job).join(work.attempt.to_string())
    }

    /// Where a partition lies in the output of a map attempt; `None`: there is no such output, or it is damaged.
    pub fn extent(&self, job: JobId, attempt: Attempt, partition: u32) -> Option<Extent> {
        let work = Work { job, attempt };
        let known = self.indices.lock().unwrap_or_else(PoisonError::into_inner).get(&work).cloned();
        let index = match known {
            // The file may have been lost since: better known now, with all others, than when it is read.
            Some(index) if attempt.task.phase == Phase::Map && self.place(work).exists() => index,
            _ => self.read_index(work)?,
        };
        let extent = index.0.get(partition as usize)?;
        Some(Extent {
            offset: extent.offset,
            length: extent.length,
            pairs: extent.pairs,
            raw_bytes: extent.raw_bytes,
            longest_block: extent.longest_block,
        })
    }

    fn read_index(&self, work: Work) -> Option<Arc<Index>> {
        let index = Index::read(&self.place(work));
        let index =
            index.inspect_err(|error| tracing::warn!(attempt = %work.attempt, %error, "no map output")).ok();
        let index = Arc::new(index?);
        let mut indices = self.indices.lock().unwrap_or_else(PoisonError::into_inner);
        if indices.len() >= INDICES {
            indices.pop_first();
        }
        indices.insert(work, index.clone());
        Some(index)
    }

    /// Bytes of the output of a finished attempt, and its length. `None`: there is no such output.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(&self, work: Work, offset: u64, length: u32) -> io::Result<Option<(Bytes, u64)>> {
        let mut file = match File::open(self.place(work)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = file.metadata()?.len();
        let wanted = u64::from(length).min(size.saturating_sub(offset));
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        file.take(wanted).read_to_end(&mut bytes)?;
        Ok(Some((bytes.into(), size)))
    }

    fn job(&self, job: JobId) -> PathBuf {
        self.dir.join(format!("job-{job}"))
    }

    /// Removes what attempts of an earlier life have left on their benches.
    fn tidy(&self) {
        for job in self.jobs() {
            let Ok(entries) = fs::read_dir(self.job(job)) else { continue };
            for entry in
                entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('_'))
            {
                if let Err(error) = fs::remove_dir_all(entry.path()) {
                    tracing::warn!(path = %entry.path().display(), %error, "cannot remove an unfinished attempt");
                }
            }
        }
    }
}

/// Reads the identity of a directory, or draws it.
fn identity(path: &Path) -> io::Result<WorkerId> {
    let text = fs::read_to_string(path)?;
    if let Ok(id) = u64::from_str_radix(text.trim(), 16) {
        return Ok(WorkerId(id));
    }
    let id = fastrand::u64(1..);
    fs::write(path, format!("{id:016x}\n"))?;
    Ok(WorkerId(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::mapreduce::job::TaskId;

    fn work(job: u64) -> Work {
        Work { job: JobId(job), attempt: Attempt { task: TaskId::map(3), number: 1 } }
    }

    #[test]
    fn what_is_finished_is_found_again_and_what_is_not_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let shelf = Shelf::open(dir.path()).expect("an empty directory");
        assert!(Shelf::open(dir.path()).is_err_and(|text| text.contains("another process")));
        let bench = shelf.bench(work(7)).expect("a bench");
        fs::write(bench.join("x"), "hello").expect("written");
        assert_eq!(shelf.keep(work(7), &bench.join("x")).expect("kept"), 5);
        let unfinished = shelf.bench(work(8)).expect("a bench");
        let worker = shelf.worker();
        drop(shelf);
        let shelf = Shelf::open(dir.path()).expect("the same directory");
        assert_eq!((shelf.worker(), shelf.jobs()), (worker, vec![JobId(7), JobId(8)]));
        assert!(!unfinished.exists() && !bench.exists());
        let (bytes, size) = shelf.read(work(7), 1, 3).expect("readable").expect("there");
        assert_eq!((&bytes[..], size), (&b"ell"[..], 5));
        assert_eq!(shelf.read(work(7), 9, 3).expect("readable"), Some((Bytes::new(), 5)));
        assert_eq!(shelf.extent(JobId(7), work(7).attempt, 0), None, "that is no map output");
        shelf.forget(JobId(7)).expect("removed");
        assert_eq!(shelf.read(work(7), 0, 1).expect("readable"), None);
        assert_eq!(shelf.jobs(), [JobId(8)]);
    }
}
