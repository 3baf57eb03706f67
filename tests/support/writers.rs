//! Clients that write without a pause, remember when each write began and was acknowledged, and can tell afterwards
//! whether every one of them took effect exactly once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quorate::Client;
use tokio::task::JoinHandle;

use super::{Cluster, tail};

/// Appends to one key before the next key is begun.
const PER_KEY: usize = 200;

/// Longer than anything that a test does to a cluster.
const PATIENCE: Duration = Duration::from_secs(60);

/// An acknowledged write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub began: Instant,
    pub acknowledged: Instant,
}

impl Write {
    pub fn took(&self) -> Duration {
        self.acknowledged - self.began
    }
}

/// Clients at work. Each has a connection and a session of its own.
pub struct Writers {
    stop: Arc<AtomicBool>,
    writes: Vec<Arc<Mutex<Vec<Write>>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts `count` clients that append small values, each with a pause of `pace` between its writes.
    pub async fn start(cluster: &Cluster, count: usize, pace: Duration) -> Writers {
        let mut writers = Writers { stop: Arc::default(), writes: Vec::new(), tasks: Vec::new() };
        for me in 0..count {
            let client = cluster.client().await.with_deadline(PATIENCE);
            let writes = Arc::new(Mutex::new(Vec::new()));
            writers.writes.push(writes.clone());
            writers.tasks.push(tokio::spawn(write(client, me, pace, writers.stop.clone(), writes)));
        }
        while writers.all().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        writers
    }

    /// All writes so far that were acknowledged, in no order.
    pub fn all(&self) -> Vec<Write> {
        self.writes.iter().flat_map(|writes| writes.lock().expect("no writer panics").clone()).collect()
    }

    /// Waits until every client had a write acknowledged that began after `moment`.
    pub async fn all_have_written_since(&self, moment: Instant) {
        let since = |writes: &Arc<Mutex<Vec<Write>>>| {
            writes.lock().expect("no writer panics").last().is_some_and(|write| write.began > moment)
        };
        while !self.writes.iter().all(since) {
            assert!(self.tasks.iter().all(|task| !task.is_finished()), "a writer has failed");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The slowest write that was under way at some time from `from` to `to`; zero if there was none.
    pub fn slowest(&self, from: Instant, to: Instant) -> Duration {
        let overlaps = |write: &Write| write.began <= to && write.acknowledged >= from;
        self.all().into_iter().filter(overlaps).map(|write| write.took()).max().unwrap_or_default()
    }

    /// The longest time from `from` to `to` in which no write at all was acknowledged.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let mut moments: Vec<Instant> = self.all().iter().map(|write| write.acknowledged).collect();
        moments.retain(|moment| (from..to).contains(moment));
        moments.extend([from, to]);
        moments.sort_unstable();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Stops the clients, and returns what they wrote.
    ///
    /// # Panics
    /// When a write was refused, was lost, or took effect twice.
    pub async fn finish(mut self, cluster: &Cluster) -> Vec<Write> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                panic!("a writer failed: {error}\n{}", tail(&cluster.log(), 60));
            }
        }
        let reader = cluster.client().await.with_deadline(PATIENCE);
        for (me, writes) in self.writes.iter().enumerate() {
            let count = writes.lock().expect("no writer panics").len();
            for first in (0..count).step_by(PER_KEY) {
                let expected: String = (first..count.min(first + PER_KEY)).map(element).collect();
                let found = reader.get(key(me, first)).await.expect("a read succeeds");
                let found = found.map(|found| String::from_utf8_lossy(&found.value).into_owned());
                assert_eq!(found, Some(expected), "{}\n{}", key(me, first), tail(&cluster.log(), 60));
            }
        }
        self.all()
    }
}

async fn write(
    client: Client,
    me: usize,
    pace: Duration,
    stop: Arc<AtomicBool>,
    writes: Arc<Mutex<Vec<Write>>>,
) {
    for number in 0.. {
        let began = Instant::now();
        client.append(key(me, number), element(number)).await.expect("a write succeeds in the end");
        let acknowledged = Instant::now();
        writes.lock().expect("no reader panics").push(Write { began, acknowledged });
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
    }
}

fn key(me: usize, number: usize) -> String {
    format!("writers/{me}/{}", number / PER_KEY)
}

fn element(number: usize) -> String {
    format!("{number};")
}
