//! mr: MapReduce jobs.
//!
//! * `job.rs`: a job as the command line describes it.
//! * `submit.rs`: submit. `jobs.rs`: list, status, logs, cancel, collect. `worker.rs`: worker, workers.
//! * `show.rs`: a job for people and for machines.

mod job;
mod jobs;
mod show;
mod submit;
mod worker;

use crate::node::exit::Failure;

/// Run MapReduce jobs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Submit(submit::Args),
    List(jobs::ListArgs),
    Status(jobs::StatusArgs),
    Logs(jobs::LogsArgs),
    Cancel(jobs::CancelArgs),
    Collect(jobs::CollectArgs),
    Workers(worker::WorkersArgs),
    Worker(worker::Args),
}

impl Args {
    pub(super) fn json(&self) -> bool {
        match &self.action {
            Action::Submit(args) => args.cluster.json,
            Action::List(args) => args.cluster.json,
            Action::Status(args) => args.cluster.json,
            Action::Logs(args) => args.cluster.json,
            Action::Cancel(args) => args.cluster.json,
            Action::Collect(args) => args.cluster.json,
            Action::Workers(args) => args.cluster.json,
            Action::Worker(_) => false,
        }
    }

    pub(super) fn run(self) -> Result<u8, Failure> {
        match self.action {
            Action::Submit(args) => args.run(),
            Action::List(args) => args.run(),
            Action::Status(args) => args.run(),
            Action::Logs(args) => args.run(),
            Action::Cancel(args) => args.run(),
            Action::Collect(args) => args.run(),
            Action::Workers(args) => args.run(),
            Action::Worker(args) => args.run(),
        }
    }
}
