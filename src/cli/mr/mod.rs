//! mr: MapReduce.
//!
//! * `run.rs`: jobs that come with Quorate; `stream.rs`: jobs made of commands; `generate.rs`: input for trying things out.
//! * `options.rs`: the options that jobs have in common; `local.rs`: running one here, its progress and its report.

mod generate;
mod local;
mod options;
mod run;
mod stream;

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
    Stream(stream::Args),
    Generate(generate::Args),
}

impl Args {
    pub(super) fn json(&self) -> bool {
        match &self.action {
            Action::Run(args) => args.job.json,
            Action::Stream(args) => args.job.json,
            Action::Generate(args) => args.json,
        }
    }

    pub(super) fn run(self) -> Result<u8, Failure> {
        match self.action {
            Action::Run(args) => args.run(),
            Action::Stream(args) => args.run(),
            Action::Generate(args) => args.run(),
        }
    }
}
