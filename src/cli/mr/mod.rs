//! mr: MapReduce.
//!
//! On this machine:
//! * `run.rs`: jobs that come with Quorate; `stream.rs`: jobs made of commands; `generate.rs`: input for trying things
//!   out; `cat.rs`: the lines of inputs.
//! * `options.rs`: the options that jobs have in common; `keys.rs`: those of jobs made of commands; `local.rs`: running
//!   a job here, its progress and its report.
//!
//! On a cluster:
//! * `submit.rs`: submit; `job.rs`: a job as its command line describes it.
//! * `jobs.rs`: list, status, logs, cancel, collect; `worker.rs`: worker, workers; `show.rs`: a job, for people and
//!   machines.

mod cat;
mod generate;
mod job;
mod jobs;
mod keys;
mod local;
mod options;
mod run;
mod show;
mod stream;
mod submit;
mod worker;

use crate::node::exit::Failure;

/// MapReduce: word counts, indexes, sorts and your own scripts over many files, on all processors.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Run(run::Args),
    Stream(Box<stream::Args>),
    Generate(generate::Args),
    Cat(cat::Args),
    Submit(Box<submit::Args>),
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
            Action::Run(args) => args.job.json,
            Action::Stream(args) => args.job.json,
            Action::Generate(args) => args.json,
            Action::Cat(_) => false,
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

    pub(super) fn serves(&self) -> bool {
        matches!(self.action, Action::Worker(_))
    }

    pub(super) fn run(self) -> Result<u8, Failure> {
        match self.action {
            Action::Run(args) => args.run(),
            Action::Stream(args) => args.run(),
            Action::Generate(args) => args.run(),
            Action::Cat(args) => args.run(),
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
