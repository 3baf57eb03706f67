//! bench: how fast is it? `load.rs` makes the load, `direct.rs` makes it without the client library, `report.rs` says
//! what came of it.
//!
//! A closed loop: each client has one request under way and sends the next when the answer is there, so the latencies
//! are those a client sees at this load, and the rate is what so many clients get. The warm-up (dialling, opening
//! sessions) is not counted.

mod direct;
mod load;
mod report;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;

use super::cluster::{Cluster, ClusterArgs, ENDPOINTS_VARIABLE};
use super::output::Output;
use super::progress::Progress;
use crate::logic::ids::GroupId;
use crate::node::exit::Failure;
use load::{Load, Shared};
use report::Report;

/// Measure how many operations per second the cluster answers, and how fast.
///
/// Each client has one request under way. `get` and `mixed` write their keys first. Exit code 1: some operations
/// failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate bench put
  quorate bench put --clients 256 --value-size 1024 --seconds 30
  quorate bench get --keys 1000000
  quorate bench mixed --read-percent 90 --json
  quorate bench put --direct                    without the client library
  quorate bench put --clients 1                 latency of one client alone")]
pub(super) struct Args {
    /// What the clients do
    #[arg(value_enum)]
    workload: Workload,
    /// Clients; each has one request under way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one())]
    clients: u64,
    /// Connections to the cluster, shared evenly by the clients [default: one a client, at most 64]
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    conns: Option<u64>,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: u32,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = at_least_one())]
    seconds: u64,
    /// How long to run before that, uncounted
    #[arg(long, value_name = "S", default_value_t = 1)]
    warmup: u64,
    /// Different keys, chosen at random
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = at_least_one())]
    keys: u64,
    /// Share of reads in `mixed`
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    read_percent: u8,
    /// Do not write the keys first
    #[arg(long)]
    no_fill: bool,
    /// Speak to the leader without the client library: what the cluster does, and not what routing and retries cost
    #[arg(long)]
    direct: bool,
    /// Threads that make the load
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one())]
    threads: u64,
    /// What the keys begin with
    #[arg(long, default_value = "bench:")]
    key_prefix: String,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Workload {
    /// Overwrite keys
    Put,
    /// Read keys, linearizably
    Get,
    /// Both
    Mixed,
}

/// Numbers that may not be zero, with a bound that keeps a slip of the finger from filling the memory.
fn at_least_one() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=10_000_000)
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let target = self.cluster.target(std::env::var(ENDPOINTS_VARIABLE).ok())?;
        let load = Arc::new(self.load(target));
        self.prepare(&load)?;
        let report = self.measure(&load)?;
        let mut out = Output::new(self.cluster.json);
        if out.json {
            out.value(&report.json())?;
        } else {
            out.line(report.text())?;
        }
        out.flush()?;
        report.verdict()
    }

    fn load(&self, target: super::cluster::Target) -> Load {
        let conns = self.conns.unwrap_or(self.clients.min(64)).min(self.clients);
        let read_percent = match self.workload {
            Workload::Put => 0,
            Workload::Get => 100,
            Workload::Mixed => self.read_percent,
        };
        Load {
            target,
            group: GroupId(self.cluster.group),
            timeout: self.cluster.timeout,
            stateless: self.cluster.stateless,
            direct: self.direct,
            clients: self.clients,
            conns,
            // A thread without a connection would have nothing to do.
            threads: self.threads.min(conns),
            read_percent,
            keys: load::keys(&self.key_prefix, self.keys),
            value: load::value(self.value_size),
            warmup: Duration::from_secs(self.warmup),
            measured: Duration::from_secs(self.seconds),
        }
    }

    /// Finds out early whether the cluster serves, and writes the keys where they are to be read.
    fn prepare(&self, load: &Load) -> Result<(), Failure> {
        actix::System::new().block_on(async {
            let cluster =
                Cluster::connect(load.target.clone(), load.timeout, load.stateless).await?.group(load.group);
            cluster.probe(load.group).await?;
            if load.read_percent > 0 && !self.no_fill {
                let progress = Progress::bar("writing the keys", load.keys.len() as u64);
                load::fill(&cluster, load, |done| progress.set(done, format!("{done} keys"))).await?;
            }
            cluster.close().await;
            Ok(())
        })
    }

    fn measure(&self, load: &Arc<Load>) -> Result<Report, Failure> {
        let shared = Arc::new(Shared::default());
        let start = Instant::now() + load.warmup;
        let threads: Vec<_> = (0..load.threads)
            .map(|thread| {
                let (load, shared) = (load.clone(), shared.clone());
                let run = if load.direct { direct::run } else { load::run };
                let work = move || run(&load, thread, start, &shared);
                std::thread::Builder::new().name(format!("bench-{thread}")).spawn(work)
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::internal(format!("cannot start a thread: {error}")))?;
        self.watch(load, start, &shared);
        let mut report = Report::new(load);
        for thread in threads {
            let measured =
                thread.join().map_err(|_| Failure::internal("a thread that made load panicked"))?;
            report.add(&measured?);
        }
        Ok(report)
    }

    /// Shows the rate while the threads work.
    fn watch(&self, load: &Load, start: Instant, shared: &Shared) {
        const STEP: Duration = Duration::from_millis(200);
        let total = (load.warmup + load.measured).as_millis();
        let began = start - load.warmup;
        let progress = Progress::bar("measuring", u64::try_from(total).unwrap_or(u64::MAX));
        let mut before = 0;
        while began.elapsed() < load.warmup + load.measured && !shared.failed.load(Ordering::Relaxed) {
            std::thread::sleep(STEP.min((start + load.measured).saturating_duration_since(Instant::now())));
            let done = shared.done.load(Ordering::Relaxed);
            let rate = (done - before) * 1000 / 200;
            before = done;
            progress.set(
                u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                format!("{rate} operations/s"),
            );
        }
    }
}
