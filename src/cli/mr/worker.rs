//! worker, workers: processes that run tasks.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::cluster::{ClusterArgs, ENDPOINTS_VARIABLE, explain};
use crate::cli::output::Output;
use crate::messages::mapreduce::WorkerLine;
use crate::node::config::LogConfig;
use crate::node::exit::{self, Failure};
use crate::node::logging;
use crate::node::worker::{self, WorkerOptions};

/// List the workers that the cluster has heard of late.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr workers")]
pub(super) struct WorkersArgs {
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Run a worker that is no node of the cluster, until Ctrl-C.
///
/// Workers share no directory with each other: they fetch from each other what they need. Only the input of a job must
/// be found by all of them under the same path.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr worker --dir /var/tmp/worker
  quorate mr worker --dir w1 --slots 4 --endpoints a:7101,b:7101 --listen 0.0.0.0:7200 --advertise worker-1")]
pub(super) struct Args {
    /// Its directory, of its own. Kept over restarts, what it has finished need not be done again
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Tasks that it runs at once; 0: as many as there are processors
    #[arg(long, value_name = "N", default_value_t = 0)]
    slots: u32,
    /// Memory that all of them together may use for their data, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = mebibytes())]
    memory: u64,
    /// Where it listens, for other workers; port 0: any. On another machine than theirs: its own address, or 0.0.0.0
    /// with `--advertise`
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: String,
    /// The host under which other workers reach it, where that differs
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

fn mebibytes() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(16..1_048_576)
}

fn value(worker: &WorkerLine) -> Value {
    json!({
        "worker": worker.worker.to_string(), "address": worker.address, "slots": worker.slots,
    })
}

impl WorkersArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let workers = self.cluster.run(async |cluster| cluster.client().workers().await.map_err(explain))?;
        let mut out = Output::new(self.cluster.json);
        if out.json {
            out.value(&workers.iter().map(value).collect::<Value>())?;
        }
        for worker in workers.iter().filter(|_| !self.cluster.json) {
            out.line(format_args!("{}  {}  {} slots", worker.worker, worker.address, worker.slots))?;
        }
        out.flush()?;
        Ok(exit::OK)
    }
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        logging::init(&LogConfig::default())?;
        let target = self.cluster.target(std::env::var(ENDPOINTS_VARIABLE).ok())?;
        let options = WorkerOptions {
            cluster: target.known.map(|(id, _)| id).unwrap_or_default(),
            listen: self.listen,
            advertise: self.advertise,
            slots: self.slots,
            memory_bytes: self.memory << 20,
            ..WorkerOptions::new(target.endpoints, self.dir)
        };
        worker::run(options)?;
        Ok(exit::OK)
    }
}
