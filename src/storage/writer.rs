//! The thread that writes the log, and the one that prepares its spare segments.
//!
//! The log thread takes everything that is queued, writes it as one frame, and then completes all of it: the slower the
//! disk, the larger the frames. Completions are called in the order of submission, on the log's thread, so they must
//! be short: send a message, no more. `stepped` does the same work without threads, whenever it is told to.

mod stepped;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;

use super::batch::{Batch, Recovered, RecoveredGroup};
use super::disk::Disk;
use super::error::{OpenError, StorageError};
use super::log::{Log, LogOptions};
use super::segment::Chore;
use crate::logic::ids::GroupId;

pub use self::stepped::{Completed, SteppedLog};

/// What is called on the log's thread once a batch is durable, or is not going to be.
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;
/// What is called on the log's thread with the state of a group.
pub type Reloaded = Box<dyn FnOnce(Result<RecoveredGroup, StorageError>) + Send>;
/// What is called once, on the log's thread, when storage has failed and the process must end.
pub type Fatal = Box<dyn FnOnce(StorageError) + Send>;

/// Bytes of batches that are put into one frame. Beyond this a larger frame saves no time per byte.
const FRAME_TARGET: usize = 4 << 20;

enum Item {
    Append(Batch, usize, Done),
    Reload(GroupId, Reloaded),
    Finished(Chore, Result<(), StorageError>),
}

#[derive(Default)]
struct Queue {
    items: Vec<Item>,
    closing: bool,
    stopped: bool,
    /// Whoever waits for work without a thread.
    waker: Option<Waker>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    pending: AtomicUsize,
    full: AtomicBool,
    disk_bytes: AtomicU64,
    heavy: Mutex<Vec<GroupId>>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an item, or gives it back if the log has stopped.
    fn push(&self, item: Item) -> Option<Item> {
        let mut queue = self.queue();
        if queue.stopped || queue.closing && !matches!(item, Item::Finished(..)) {
            return Some(item);
        }
        let first = queue.items.is_empty();
        queue.items.push(item);
        let waker = queue.waker.take();
        drop(queue);
        if first {
            self.filled.notify_one();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }
}

/// Owner of the log's threads. Dropping it writes what is queued, and joins them.
pub struct LogWriter {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl LogWriter {
    /// Opens the log and starts its threads. `fatal` is called at most once; the node must then end the process, since
    /// only a new start finds out what is on disk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn start(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        fatal: Fatal,
    ) -> Result<(LogWriter, WalHandle, Recovered), OpenError> {
        let (writer, receiver, recovered) = Writer::open(Arc::clone(&disk), options, fatal)?;
        let shared = Arc::clone(&writer.shared);
        let back = Arc::clone(&shared);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(body).map_err(|error| OpenError::io("start", name, &error))
        };
        let threads = vec![
            spawn("wal", Box::new(move || writer.run()))?,
            spawn("wal-spares", Box::new(move || do_chores(&*disk, &receiver, &back)))?,
        ];
        let handle = WalHandle { shared: Arc::clone(&shared) };
        Ok((LogWriter { shared, threads }, handle, recovered))
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.shared.queue().closing = true;
        self.shared.filled.notify_one();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log has panicked");
            }
        }
    }
}

/// The way to the log's thread.
#[derive(Clone)]
pub struct WalHandle {
    shared: Arc<Shared>,
}

impl WalHandle {
    /// Queues a batch; `done` is called when it is durable, after those of everything submitted before.
    ///
    /// If the disk is full, `done` gets [`StorageError::Full`]: the batch is refused, and so are all later ones of this
    /// group, since they build on it, until the group calls [`WalHandle::reload`] and goes on from what it gets.
    /// If the log has stopped, `done` is called at once, on this thread, with [`StorageError::Stopped`].
    pub fn submit(&self, batch: Batch, done: Done) {
        let cost = batch.cost();
        self.shared.pending.fetch_add(cost, Ordering::Relaxed);
        if let Some(Item::Append(_, _, done)) = self.shared.push(Item::Append(batch, cost, done)) {
            self.shared.pending.fetch_sub(cost, Ordering::Relaxed);
            done(Err(StorageError::Stopped));
        }
    }

    /// Queues a read of a group's state from the files, behind everything submitted before. What a rebuilt group starts
    /// from.
    pub fn reload(&self, group: GroupId, done: Reloaded) {
        if let Some(Item::Reload(_, done)) = self.shared.push(Item::Reload(group, done)) {
            done(Err(StorageError::Stopped));
        }
    }

    /// Bytes submitted and not yet completed. Nothing is refused for being too much: whoever submits keeps within a
    /// bound by looking at this.
    pub fn pending_bytes(&self) -> usize {
        self.shared.pending.load(Ordering::Relaxed)
    }

    /// Whether the last frame was refused because the disk is full.
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Bytes of the log on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.shared.disk_bytes.load(Ordering::Relaxed)
    }

    /// Groups that keep old segments from being given up and are too large to be moved: they should take a snapshot.
    pub fn heavy_groups(&self) -> Vec<GroupId> {
        self.shared.heavy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Does what takes long and touches no live segment.
fn do_chores(disk: &dyn Disk, chores: &mpsc::Receiver<Chore>, back: &Shared) {
    for chore in chores {
        let result = chore.run(disk);
        if back.push(Item::Finished(chore, result)).is_some() {
            return;
        }
    }
}

/// The frame being put together.
#[derive(Default)]
struct Work {
    batches: Vec<Batch>,
    done: Vec<(Done, usize)>,
    bytes: usize,
    /// Groups with a refused batch: what they submit makes no sense before they have reloaded.
    refused: BTreeSet<GroupId>,
}

struct Writer {
    log: Log,
    shared: Arc<Shared>,
    chores: mpsc::Sender<Chore>,
    fatal: Option<Fatal>,
    work: Work,
    /// Completions that somebody else will deliver; `None`: they are called at once.
    later: Option<Vec<Completion>>,
}

/// The end of a batch or a read: calls whoever waits for it.
type Completion = Box<dyn FnOnce() + Send>;

impl Writer {
    fn open(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        fatal: Fatal,
    ) -> Result<(Writer, mpsc::Receiver<Chore>, Recovered), OpenError> {
        let (log, recovered) = Log::open(disk, options)?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            pending: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            disk_bytes: AtomicU64::new(log.disk_bytes()),
            heavy: Mutex::default(),
        });
        let (chores, receiver) = mpsc::channel();
        let writer = Writer { log, shared, chores, fatal: Some(fatal), work: Work::default(), later: None };
        Ok((writer, receiver, recovered))
    }

    fn complete(&mut self, completion: impl FnOnce() + Send + 'static) {
        match &mut self.later {
            None => completion(),
            Some(later) => later.push(Box::new(completion)),
        }
    }

    fn run(mut self) {
        let mut items = Vec::new();
        let mut result = self.maintain();
        while result.is_ok() && self.next(&mut items) {
            result = self.process(&mut items);
        }
        if let Err(error) = result {
            self.stop(error);
            for item in items.drain(..) {
                refuse(item, &self.shared);
            }
        }
    }

    /// Waits for work; false when the log is closed and nothing is left.
    fn next(&mut self, items: &mut Vec<Item>) -> bool {
        let mut queue = self.shared.queue();
        while queue.items.is_empty() && !queue.closing {
            queue = self.shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut queue.items, items);
        !items.is_empty()
    }

    /// Processes items in order. On an error those not reached stay in `items`.
    fn process(&mut self, items: &mut Vec<Item>) -> Result<(), StorageError> {
        let mut rest = std::mem::take(items).into_iter();
        let result = self.process_each(&mut rest);
        *items = rest.collect();
        result
    }

    fn process_each(&mut self, items: &mut std::vec::IntoIter<Item>) -> Result<(), StorageError> {
        for item in items {
            match item {
                Item::Append(batch, cost, done) => {
                    if self.work.bytes > 0 && self.work.bytes + cost > FRAME_TARGET {
                        self.flush()?;
                    }
                    self.add(batch, cost, done);
                }
                Item::Reload(group, done) => {
                    self.flush()?;
                    self.work.refused.remove(&group);
                    let result = self.log.reload(group);
                    let failure = result.as_ref().err().cloned();
                    self.complete(move || done(result));
                    failure.map_or(Ok(()), Err)?;
                }
                Item::Finished(chore, result) => self.log.finish(chore, result)?,
            }
        }
        self.flush()?;
        self.maintain()
    }

    fn add(&mut self, batch: Batch, cost: usize, done: Done) {
        if self.work.refused.contains(&batch.group) {
            // In order: behind what is already in the frame nothing is overtaken, since a group in the frame is not
            // refused.
            self.shared.pending.fetch_sub(cost, Ordering::Relaxed);
            let full = StorageError::Full { file: "the log".to_owned(), needed: cost as u64 };
            return self.complete(move || done(Err(full)));
        }
        self.work.batches.push(batch);
        self.work.done.push((done, cost));
        self.work.bytes += cost;
    }

    /// Writes the frame and completes its batches.
    fn flush(&mut self) -> Result<(), StorageError> {
        if self.work.batches.is_empty() {
            return Ok(());
        }
        let result = self.log.append(&self.work.batches);
        self.shared.full.store(matches!(result, Err(StorageError::Full { .. })), Ordering::Relaxed);
        if result.is_err() {
            self.work.refused.extend(self.work.batches.iter().map(|batch| batch.group));
        }
        self.work.batches.clear();
        self.work.bytes = 0;
        let mut waiting = std::mem::take(&mut self.work.done);
        for (done, cost) in waiting.drain(..) {
            self.shared.pending.fetch_sub(cost, Ordering::Relaxed);
            let result = result.clone();
            self.complete(move || done(result));
        }
        // It goes back with its memory.
        self.work.done = waiting;
        match result {
            Err(error) if error.is_fatal() => Err(error),
            _ => Ok(()),
        }
    }

    fn maintain(&mut self) -> Result<(), StorageError> {
        self.log.collect()?;
        for chore in self.log.chores() {
            // If the other thread is gone, the log makes its spares itself.
            if let Err(mpsc::SendError(chore)) = self.chores.send(chore) {
                let result = chore.run(&*self.log.disk);
                self.log.finish(chore, result)?;
            }
        }
        self.shared.disk_bytes.store(self.log.disk_bytes(), Ordering::Relaxed);
        let mut heavy = self.shared.heavy.lock().unwrap_or_else(PoisonError::into_inner);
        if heavy.as_slice() != self.log.heavy_groups() {
            heavy.clear();
            heavy.extend_from_slice(self.log.heavy_groups());
        }
        Ok(())
    }

    /// Stops accepting, fails what is queued, and tells the node.
    fn stop(&mut self, error: StorageError) {
        tracing::error!(%error, "the log has stopped");
        let mut queue = self.shared.queue();
        queue.stopped = true;
        let left = std::mem::take(&mut queue.items);
        drop(queue);
        let work = std::mem::take(&mut self.work);
        for (done, cost) in work.done {
            self.shared.pending.fetch_sub(cost, Ordering::Relaxed);
            done(Err(StorageError::Stopped));
        }
        for item in left {
            refuse(item, &self.shared);
        }
        if let Some(fatal) = self.fatal.take() {
            fatal(error);
        }
    }
}

impl Drop for Writer {
    /// A panic on this thread is a bug, and leaves the log as unknown as a failed write does.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the thread of the log has panicked".to_owned();
            self.stop(StorageError::Failed { call: "append", file: "the log".to_owned(), reason });
        }
        self.shared.queue().stopped = true;
    }
}

fn refuse(item: Item, shared: &Shared) {
    match item {
        Item::Append(_, cost, done) => {
            shared.pending.fetch_sub(cost, Ordering::Relaxed);
            done(Err(StorageError::Stopped));
        }
        Item::Reload(_, done) => done(Err(StorageError::Stopped)),
        Item::Finished(..) => {}
    }
}

#[cfg(test)]
mod tests;
