//! The load: clients in a closed loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;

use crate::cli::cluster::{Cluster, Target, join_all};
use crate::logic::clerk::ClerkError;
use crate::logic::ids::GroupId;
use crate::logic::kv::command::{Change, Command, Expect, Lifetime};
use crate::node::client::Client;
use crate::node::exit::Failure;

/// Latencies above this count as this.
const LONGEST: Duration = Duration::from_secs(60);
/// Pause after a failure, so that a cluster that is down is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(20);
/// Keys are written in batches of so many, and so many batches at a time.
const FILL_BATCH: usize = 128;
const FILL_WIDTH: usize = 16;

/// What is to be measured.
pub(super) struct Load {
    pub(super) target: Target,
    pub(super) group: GroupId,
    pub(super) timeout: Duration,
    pub(super) stateless: bool,
    /// Without the client library.
    pub(super) direct: bool,
    pub(super) clients: u64,
    pub(super) conns: u64,
    pub(super) threads: u64,
    pub(super) read_percent: u8,
    pub(super) keys: Vec<Bytes>,
    pub(super) value: Bytes,
    pub(super) warmup: Duration,
    pub(super) measured: Duration,
}

/// What the threads tell while they work.
#[derive(Default)]
pub(super) struct Shared {
    /// Operations that were answered, the warm-up's included.
    pub(super) done: AtomicU64,
    /// A thread could not do its work.
    pub(super) failed: AtomicBool,
}

/// What a thread measured.
pub(super) struct Measured {
    /// Latencies in microseconds.
    pub(super) reads: Histogram<u64>,
    pub(super) writes: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl Measured {
    pub(super) fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3)
                .expect("bounds and digits that are allowed")
        };
        Self { reads: histogram(), writes: histogram(), errors: 0, first_error: None }
    }

    pub(super) fn count(&mut self, is_read: bool, latency: Duration, error: Option<&ClerkError>) {
        if let Some(error) = error {
            self.errors += 1;
            self.first_error.get_or_insert_with(|| error.to_string());
            return;
        }
        let histogram = if is_read { &mut self.reads } else { &mut self.writes };
        histogram.saturating_record((latency.as_micros() as u64).max(1));
    }
}

/// `n` keys, all of one length, in one piece of memory.
pub(super) fn keys(prefix: &str, n: u64) -> Vec<Bytes> {
    let digits = n.to_string().len();
    let length = prefix.len() + digits;
    let mut all = BytesMut::new();
    for i in 0..n {
        all.put_slice(format!("{prefix}{i:0digits$}").as_bytes());
    }
    let all = all.freeze();
    all.chunks(length).map(|key| all.slice_ref(key)).collect()
}

/// Bytes that cannot be compressed.
pub(super) fn value(size: u32) -> Bytes {
    std::iter::repeat_with(|| fastrand::u8(..)).take(size as usize).collect()
}

pub(super) fn put(load: &Load, key: &Bytes) -> Change {
    Change::Put {
        key: key.clone(),
        value: load.value.clone(),
        expect: Expect::Any,
        lifetime: Lifetime::Forever,
    }
}

/// Writes every key.
pub(super) async fn fill(cluster: &Cluster, load: &Load, progress: impl Fn(u64)) -> Result<(), Failure> {
    // Batches have a limit in bytes as well; half of the default leaves room.
    let batch = ((1 << 20) / (load.value.len() + load.keys[0].len() + 64)).clamp(1, FILL_BATCH);
    let mut done = 0;
    for round in load.keys.chunks(batch * FILL_WIDTH) {
        let writes = round
            .chunks(batch)
            .map(|keys| cluster.write(Command::Batch(keys.iter().map(|key| put(load, key)).collect())));
        join_all(writes).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        done += round.len() as u64;
        progress(done);
    }
    Ok(())
}

/// How many of `n` things fall to thread `thread` of `threads`.
pub(super) fn share(n: u64, thread: u64, threads: u64) -> u64 {
    n / threads + u64::from(thread < n % threads)
}

/// Runs the clients of one thread, on this thread; what is answered within the measured time after `start` is counted.
pub(super) fn run(
    load: &Arc<Load>,
    thread: u64,
    start: Instant,
    shared: &Arc<Shared>,
) -> Result<Measured, Failure> {
    let measured = Rc::new(RefCell::new(Measured::new()));
    let result = actix::System::new().block_on(async {
        let conns = share(load.conns, thread, load.threads);
        let clients = share(load.clients, thread, load.threads);
        let connect = |_| Cluster::connect(load.target.clone(), load.timeout, load.stateless);
        let clusters = join_all((0..conns).map(connect)).await;
        let clusters: Vec<Cluster> = clusters
            .into_iter()
            .map(|cluster| Ok(cluster?.group(load.group)))
            .collect::<Result<_, Failure>>()?;
        // A task for each, so that an answer wakes one client and not all.
        let tasks: Vec<_> = (0..clients)
            .map(|number| {
                let client = clusters[(number % conns) as usize].client().clone();
                let one = OneClient {
                    client,
                    load: load.clone(),
                    shared: shared.clone(),
                    measured: measured.clone(),
                };
                tokio::task::spawn_local(one.run(start))
            })
            .collect();
        tokio::time::sleep_until((start + load.measured).into()).await;
        // What is under way is given up.
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        let result = measured.replace(Measured::new());
        join_all(clusters.into_iter().map(Cluster::close)).await;
        Ok(result)
    });
    if result.is_err() {
        shared.failed.store(true, Ordering::Relaxed);
    }
    result
}

/// One client: a request, its answer, the next request.
struct OneClient {
    client: Client,
    load: Arc<Load>,
    shared: Arc<Shared>,
    measured: Rc<RefCell<Measured>>,
}

impl OneClient {
    async fn run(self, start: Instant) {
        let mut random = fastrand::Rng::new();
        loop {
            let key = self.load.keys[random.usize(..self.load.keys.len())].clone();
            let is_read = random.u8(..100) < self.load.read_percent;
            let sent = Instant::now();
            let outcome = if is_read {
                // Every key was written before: one that is missing is a wrong answer.
                self.client.get(key).await.and_then(|found| found.map(drop).ok_or(ClerkError::NotFound))
            } else {
                self.client.put(key, self.load.value.clone()).await.map(drop)
            };
            let answered = Instant::now();
            self.shared.done.fetch_add(1, Ordering::Relaxed);
            if (start..start + self.load.measured).contains(&answered) {
                self.measured.borrow_mut().count(is_read, answered - sent, outcome.as_ref().err());
            }
            if outcome.is_err() {
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_different_and_of_one_length() {
        let keys = keys("k:", 101);
        assert_eq!(keys.len(), 101);
        assert_eq!((&keys[0][..], &keys[100][..]), (&b"k:000"[..], &b"k:100"[..]));
    }

    #[test]
    fn shares_add_up() {
        for (n, threads) in [(64, 1), (64, 3), (5, 5), (7, 4)] {
            let total: u64 = (0..threads).map(|thread| share(n, thread, threads)).sum();
            assert_eq!(total, n);
            assert!((0..threads).all(|thread| share(n, thread, threads) > 0));
        }
    }
}
