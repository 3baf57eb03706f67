//! One attempt at a task, on a thread of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shelf::Shelf;
use super::shuffle::{FetchError, Fetcher, Piece};
use crate::actors::supervision::panic_text;
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::failure::{Cause, TaskFailure};
use crate::logic::mapreduce::job::Setup;
use crate::logic::mapreduce::record::{WorkerId, Yield};
use crate::logic::mapreduce::report::{Ending, Place, Progress, Work};
use crate::logic::mapreduce::skip::Skips;
use crate::logic::mapreduce::split::Split;
use crate::mapreduce::function::Functions;
use crate::mapreduce::input;
use crate::mapreduce::map::{run_map, run_map_only};
use crate::mapreduce::reduce::run_reduce;
use crate::mapreduce::run_file::{Extent, cannot_write};
use crate::mapreduce::source::{LocalSource, Source};
use crate::mapreduce::task::{Control, Env, MapTask, ReduceTask};
use crate::messages::mapreduce::{
    self as wire, MAX_EXTENTS, MapReduceReply, MapReduceRequest, Order, TaskInput,
};

/// What attempts of a worker have in common.
#[derive(Clone)]
pub struct Bench {
    /// Where they work, and put what they have finished.
    pub shelf: Shelf,
    /// How they get the output of other workers.
    pub fetcher: Fetcher,
    /// What one of them may use for its data, in bytes.
    pub memory_bytes: usize,
    /// The functions that are compiled in.
    pub functions: Arc<Functions>,
}

/// An attempt under way. Dropping it stops it.
pub struct Running {
    control: Arc<Control>,
    fetched: Arc<AtomicU64>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.cancel();
    }
}

impl Running {
    /// Asks it to stop.
    pub fn stop(&self) {
        self.control.cancel();
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let seen = self.control.progress();
        let fetched = self.fetched.load(Ordering::Relaxed);
        let permille = match seen.total_bytes {
            0 => 0,
            total => u16::try_from(seen.done_bytes.saturating_mul(1000) / total).unwrap_or(1000).min(1000),
        };
        Progress { steps: seen.beats.wrapping_add(fetched), permille, bytes: seen.done_bytes }
    }
}

/// One attempt: everything its thread needs.
struct Attempt {
    bench: Bench,
    work: Work,
    skips: Skips,
    setup: Arc<Setup>,
    control: Arc<Control>,
    fetched: Arc<AtomicU64>,
}

/// Starts an attempt; `on_end` is called on its thread when it has ended.
///
/// # Errors
/// When the system has no thread to give.
pub fn start(
    bench: &Bench,
    order: Order,
    setup: Arc<Setup>,
    on_end: impl FnOnce(Ending) + Send + 'static,
) -> io::Result<Running> {
    let running = Running { control: Arc::default(), fetched: Arc::default() };
    let (control, fetched) = (running.control.clone(), running.fetched.clone());
    let Order { work, input, skips } = order;
    let attempt = Attempt { bench: bench.clone(), work, skips, setup, control, fetched };
    std::thread::Builder::new().name(work.attempt.to_string()).spawn(move || {
        give_way();
        // A function that is compiled in may panic; that is a failure of the attempt like any other.
        let ending = catch_unwind(AssertUnwindSafe(|| attempt.run(input)));
        let ending = ending.unwrap_or_else(|panic| {
            Ending::Failed(TaskFailure::function(format!("the function panicked: {}", panic_text(&*panic))))
        });
        if !matches!(ending, Ending::Done(_)) {
            attempt.bench.shelf.clear(work);
        }
        on_end(ending);
    })?;
    Ok(running)
}

impl Attempt {
    fn run(&self, input: TaskInput) -> Ending {
        let result = match input {
            TaskInput::Split(split) => self.map(split),
            TaskInput::Sources(sources) => self.reduce(&sources),
        };
        match result {
            Ok(done) => Ending::Done(done),
            Err(ending) => ending,
        }
    }

    fn map(&self, split: Split) -> Result<Yield, Ending> {
        // Another worker may find the input where this one does not; the way to a store and the credentials for it are
        // each worker's own, too.
        input::check(&split.file, &self.control).map_err(|error| {
            let worker = self.bench.shelf.worker();
            let text = format!("worker {worker} cannot open the input {}: {error}", split.file);
            Ending::Failed(TaskFailure::machine(text))
        })?;
        let (setup, skips) = (self.setup.clone(), self.skips.clone());
        let task = MapTask { setup, attempt: self.work.attempt, split, skips };
        let env = self.env()?;
        if task.setup.is_map_only() {
            let part = run_map_only(&task, &env, &env.scratch, &self.control).map_err(Ending::Failed)?;
            return self.keep(&part.path, part.counters, part.skipped);
        }
        let output = run_map(&task, &env, &self.control).map_err(Ending::Failed)?;
        self.keep(&output.path, output.counters, output.skipped)
    }

    fn reduce(&self, places: &[Place]) -> Result<Yield, Ending> {
        let env = self.env()?;
        let sources = self.gather(places, &env.scratch)?;
        let (setup, skips) = (self.setup.clone(), self.skips.clone());
        let task = ReduceTask { setup, attempt: self.work.attempt, sources, skips };
        let output = run_reduce(&task, &env, &env.scratch, &self.control);
        let output = output.map_err(|failure| match &failure.cause {
            Cause::Lost { map, more } => {
                let lost = [*map].into_iter().chain(more.iter().copied());
                let lost: Vec<&Place> = lost.filter_map(|map| places.get(map as usize)).collect();
                let why = failure.message.clone();
                gone(&lost, why).unwrap_or(Ending::Failed(failure))
            }
            _ => Ending::Failed(failure),
        })?;
        self.keep(&output.path, output.counters, output.skipped)
    }

    fn env(&self) -> Result<Env, Ending> {
        let scratch = self.bench.shelf.bench(self.work).map_err(|error| machine(&error))?;
        Ok(Env { scratch, memory_bytes: self.bench.memory_bytes, functions: self.bench.functions.clone() })
    }

    fn keep(&self, path: &Path, counters: Counters, skipped: Vec<u64>) -> Result<Yield, Ending> {
        let bytes = self.bench.shelf.keep(self.work, path).map_err(|error| machine(&error))?;
        Ok(Yield { bytes, counters, skipped })
    }

    /// This partition of every map output: at its place where it is on this shelf, else in a file on the bench. So the
    /// merge reads from this disk alone, and what cannot be fetched is known before it begins.
    fn gather(&self, places: &[Place], scratch: &Path) -> Result<Vec<Arc<dyn Source>>, Ending> {
        let mut by_worker: BTreeMap<(WorkerId, &str), Vec<(u32, &Place)>> = BTreeMap::new();
        for (place, map) in places.iter().zip(0..) {
            by_worker.entry((place.worker, &place.address)).or_default().push((map, place));
        }
        let mut sources: BTreeMap<u32, LocalSource> = BTreeMap::new();
        for ((worker, address), places) in by_worker {
            if worker == self.bench.shelf.worker() {
                sources.extend(self.own(&places)?);
            } else {
                let path = scratch.join(format!("from-{worker}"));
                sources.extend(self.fetch_from(address, &places, &path)?);
            }
        }
        Ok(sources.into_values().map(|source| Arc::new(source) as Arc<dyn Source>).collect())
    }

    fn own(&self, places: &[(u32, &Place)]) -> Result<Vec<(u32, LocalSource)>, Ending> {
        let (Work { job, attempt }, shelf) = (self.work, &self.bench.shelf);
        let extent = |(_, place): &(u32, &Place)| shelf.extent(job, place.attempt, attempt.task.index);
        let found = places.iter().map(extent).collect();
        let extents = all_there(places, found, "it is not on this worker's disk")?;
        let source = |((map, place), extent): (&(u32, &Place), wire::Extent)| {
            let path = shelf.place(Work { job, attempt: place.attempt });
            (*map, LocalSource { map: *map, path, extent: local(extent, extent.offset) })
        };
        Ok(places.iter().zip(extents).map(source).collect())
    }

    /// Fetches the partition of all these outputs into one file.
    fn fetch_from(
        &self,
        address: &str,
        places: &[(u32, &Place)],
        path: &Path,
    ) -> Result<Vec<(u32, LocalSource)>, Ending> {
        let extents = self.extents(address, places)?;
        let cannot = |error: &io::Error| Ending::Failed(cannot_write(path, error));
        let mut file = BufWriter::new(File::create(path).map_err(|error| cannot(&error))?);
        let mut sources = Vec::new();
        let (mut lost, mut last_words) = (Vec::new(), String::new());
        let mut offset = 0;
        for ((map, place), extent) in places.iter().zip(extents) {
            let piece = Piece {
                work: Work { job: self.work.job, attempt: place.attempt },
                offset: extent.offset,
                length: Some(extent.length),
            };
            let mut counted = Counted { file: &mut file, fetched: &self.fetched };
            let fetched = self.bench.fetcher.fetch(address, piece, &mut counted, &|| self.goes_on());
            let length = match fetched {
                Ok(length) => length,
                Err(FetchError::Write(error)) => return Err(cannot(&error)),
                // The others are looked for all the same, so that all that is gone is told at once.
                Err(FetchError::Gone(why)) => {
                    lost.push(*place);
                    last_words = why;
                    continue;
                }
                Err(_) if !lost.is_empty() => break,
                Err(other) => return Err(self.missed(place, other)),
            };
            sources.push((*map, LocalSource { map: *map, path: path.into(), extent: local(extent, offset) }));
            offset += length;
        }
        file.flush().map_err(|error| cannot(&error))?;
        gone(&lost, cannot_be_had(&lost, &last_words)).map_or(Ok(sources), Err)
    }

    fn extents(&self, address: &str, places: &[(u32, &Place)]) -> Result<Vec<wire::Extent>, Ending> {
        let mut found = Vec::new();
        for places in places.chunks(MAX_EXTENTS) {
            let maps = places.iter().map(|(_, place)| place.attempt).collect();
            let partition = self.work.attempt.task.index;
            let request = MapReduceRequest::Extents { job: self.work.job, partition, maps };
            let Some((_, first)) = places.first() else { continue };
            let reply = self.bench.fetcher.ask(address, &request, &|| self.goes_on());
            match reply.map_err(|error| self.missed(first, error))? {
                MapReduceReply::Extents(extents) if extents.len() == places.len() => {
                    let why = format!("the worker at {address} does not have it");
                    found.extend(all_there(places, extents, &why)?);
                }
                _ => return Err(starved(first, false, "its worker answers something else than was asked")),
            }
        }
        Ok(found)
    }

    fn goes_on(&self) -> bool {
        !self.control.is_cancelled()
    }

    fn missed(&self, place: &Place, error: FetchError) -> Ending {
        match error {
            FetchError::Unreachable(why) => starved(place, false, &why),
            FetchError::Gone(why) => starved(place, true, &why),
            FetchError::Stopped => Ending::Failed(TaskFailure::cancelled()),
            FetchError::Write(error) => machine(&error),
        }
    }
}

/// Counts what is written: a reducer that fetches makes progress.
struct Counted<'a> {
    file: &'a mut BufWriter<File>,
    fetched: &'a AtomicU64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn local(extent: wire::Extent, offset: u64) -> Extent {
    let wire::Extent { length, pairs, raw_bytes, longest_block, .. } = extent;
    Extent { offset, length, pairs, raw_bytes, longest_block }
}

fn starved(place: &Place, gone: bool, why: &str) -> Ending {
    Ending::Starved { map: place.attempt, more: Vec::new(), gone, why: cannot_be_had(&[place], why) }
}

/// All outputs at once that are gone. Told one by one, each would cost an attempt, and a task that so many attempts
/// were lost of fails its job.
fn gone(lost: &[&Place], why: String) -> Option<Ending> {
    let (first, others) = lost.split_first()?;
    let more = others.iter().map(|place| place.attempt).collect();
    Some(Ending::Starved { map: first.attempt, more, gone: true, why })
}

fn cannot_be_had(lost: &[&Place], why: &str) -> String {
    let first = lost.first().map(|place| place.attempt.to_string()).unwrap_or_default();
    let others = match lost.len().saturating_sub(1) {
        0 => String::new(),
        many => format!(", and of {many} more map tasks,"),
    };
    format!("the output of {first}{others} cannot be had: {why}")
}

/// What was found of each output; or all that is gone.
fn all_there(
    places: &[(u32, &Place)],
    found: Vec<Option<wire::Extent>>,
    why: &str,
) -> Result<Vec<wire::Extent>, Ending> {
    let pairs = places.iter().zip(&found).filter(|(_, extent)| extent.is_none());
    let lost: Vec<&Place> = pairs.map(|((_, place), _)| *place).collect();
    gone(&lost, cannot_be_had(&lost, why)).map_or_else(|| Ok(found.into_iter().flatten().collect()), Err)
}

fn machine(error: &io::Error) -> Ending {
    Ending::Failed(TaskFailure::machine(format!("the worker's disk: {error}")))
}

/// Lets everything else on the machine go first, the rest of this process above all. The commands that an attempt runs
/// inherit it.
fn give_way() {
    #[cfg(target_os = "linux")]
    // SAFETY: it takes a plain number. On Linux it concerns the calling thread alone, and is relative to what the
    // process was started with. If it fails, the priority is as before.
    unsafe {
        libc::nice(10);
    }
}
