//! The load: clients in a closed loop, each with one request under way.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Latencies above this count as this.
const LONGEST: Duration = Duration::from_secs(60);
/// Pause after a failure, so that a system that is down is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(20);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What every measurement needs to know.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What the clients do
    #[arg(long, value_enum)]
    op: Op,
    /// Clients; each has one request under way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub clients: u64,
    /// How long to measure; no matter for `fill`
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How long to run before that, uncounted
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warmup: u64,
    /// Different keys, chosen at random
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000)
    )]
    keys: u64,
    /// Bytes of a value
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(0..=1 << 20)
    )]
    value_size: u32,
    /// Output for programs: JSON on standard output, with the names that `quorate bench --json` has
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Op {
    /// Overwrite keys
    Put,
    /// Read keys
    Get,
    /// Write every key once
    Fill,
}

impl Op {
    fn name(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Get => "get",
            Op::Fill => "fill",
        }
    }
}

/// One client of a system.
pub trait Client {
    /// Sets a key; answered when the system says that the change is durable.
    fn put(&mut self, key: &[u8], value: &[u8]) -> impl Future<Output = anyhow::Result<()>>;
    /// Reads a key: the length of its value, if it is there.
    fn get(&mut self, key: &[u8]) -> impl Future<Output = anyhow::Result<Option<usize>>>;
}

/// Runs everything on this thread.
pub fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// A connection that sends small requests at once.
pub async fn connect(endpoint: &str) -> anyhow::Result<TcpStream> {
    let connect = timeout(CONNECT_WITHIN, TcpStream::connect(endpoint));
    let stream = connect.await?.with_context(|| format!("cannot connect to {endpoint}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Measures with these clients, which share `conns` connections, and prints the result.
pub async fn measure<C: Client + 'static>(clients: Vec<C>, conns: u64, args: Args) -> anyhow::Result<()> {
    let load = Rc::new(Load::new(&args));
    let began = Instant::now();
    let start = if args.op == Op::Fill { began } else { began + Duration::from_secs(args.warmup) };
    let end = (args.op != Op::Fill).then(|| start + Duration::from_secs(args.seconds));
    let tasks: Vec<_> =
        clients.into_iter().map(|client| spawn_local(load.clone().client(client, start, end))).collect();
    let seconds = if let Some(end) = end {
        sleep_until(end).await;
        // What is under way is given up.
        tasks.iter().for_each(JoinHandle::abort);
        args.seconds as f64
    } else {
        join(tasks).await?;
        began.elapsed().as_secs_f64()
    };
    let report = load.measured.borrow().report(&args, conns, seconds);
    println!("{}", if args.json { report.to_string() } else { format!("{report:#}") });
    let measured = load.measured.borrow();
    match &measured.first_error {
        Some(error) => anyhow::bail!("{} operations failed; the first: {error}", measured.errors),
        None => Ok(()),
    }
}

async fn join(tasks: Vec<JoinHandle<()>>) -> anyhow::Result<()> {
    for task in tasks {
        task.await.context("a client panicked")?;
    }
    Ok(())
}

struct Load {
    op: Op,
    keys: Vec<Vec<u8>>,
    value: Vec<u8>,
    measured: RefCell<Measured>,
}

impl Load {
    fn new(args: &Args) -> Self {
        Self {
            op: args.op,
            keys: keys(args.keys),
            // Bytes that cannot be compressed.
            value: std::iter::repeat_with(|| fastrand::u8(..)).take(args.value_size as usize).collect(),
            measured: RefCell::new(Measured::new()),
        }
    }

    /// A request, its answer, the next request; what is answered from `start` on and before `end` is counted.
    async fn client<C: Client>(self: Rc<Self>, mut client: C, start: Instant, end: Option<Instant>) {
        let mut random = fastrand::Rng::new();
        loop {
            let number = if self.op == Op::Fill {
                let mut measured = self.measured.borrow_mut();
                measured.filled += 1;
                measured.filled - 1
            } else {
                random.usize(..self.keys.len())
            };
            let Some(key) = self.keys.get(number) else { return };
            let sent = Instant::now();
            let outcome = self.one(&mut client, key).await;
            let answered = Instant::now();
            let failed = outcome.is_err();
            // The clock may wake us late to stop, on a machine that is busy.
            if answered >= start && end.is_none_or(|end| answered < end) {
                self.measured.borrow_mut().count(answered - sent, outcome);
            }
            if failed {
                sleep(AFTER_FAILURE).await;
            }
        }
    }

    async fn one<C: Client>(&self, client: &mut C, key: &[u8]) -> anyhow::Result<()> {
        if self.op != Op::Get {
            return client.put(key, &self.value).await;
        }
        // A system that answers without the value would be measured too fast.
        let length = client.get(key).await?.context("a key that was written is not there")?;
        anyhow::ensure!(length == self.value.len(), "a value of {length} bytes");
        Ok(())
    }
}

struct Measured {
    /// In microseconds.
    latencies: Histogram<u64>,
    /// Keys given out to be written.
    filled: usize,
    errors: u64,
    first_error: Option<String>,
}

impl Measured {
    fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3)
            .expect("bounds and digits that are allowed");
        Self { latencies, filled: 0, errors: 0, first_error: None }
    }

    fn count(&mut self, latency: Duration, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.latencies.saturating_record((latency.as_micros() as u64).max(1)),
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    fn report(&self, args: &Args, conns: u64, seconds: f64) -> Value {
        let operations = self.latencies.len();
        let rate = operations as f64 / seconds;
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        let latency = json!({
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": self.latencies.max(),
        });
        json!({
            "clients": args.clients, "connections": conns, "threads": 1, "keys": args.keys,
            "value_bytes": args.value_size, "seconds": seconds, "operations": operations,
            "operations_per_s": rate, "errors": self.errors, "first_error": self.first_error,
            args.op.name(): { "operations": operations, "operations_per_s": rate, "latency_us": latency },
        })
    }
}

/// `n` keys, all of one length: those that `quorate bench` uses.
fn keys(n: u64) -> Vec<Vec<u8>> {
    let digits = n.to_string().len();
    (0..n).map(|i| format!("bench:{i:0digits$}").into_bytes()).collect()
}

#[cfg(test)]
mod tests;
