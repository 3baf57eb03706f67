//! Options that all jobs have, and those of jobs on this machine.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::text::{parse_duration, parse_size};
use crate::logic::mapreduce::job::{Form, Job};
use crate::mapreduce::local::LocalOptions;
use crate::node::exit::Failure;

/// How a job is cut into tasks, and what bounds them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Work")]
pub(super) struct WorkArgs {
    /// Name the output files mr-out-N, with a blank between key and value, as the course labs do
    #[arg(long)]
    lab_names: bool,
    /// How many reducers, and so output files; 0: what the mapper writes is the output [default: by the size of the
    /// input]
    #[arg(long, short, value_name = "N")]
    reducers: Option<u32>,
    /// Input for one map task [default: by the size of the input]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    split: Option<u64>,
    /// Compress map output: for slow disks and networks
    #[arg(long)]
    compress: bool,
    /// The longest line, and the longest key with its value
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = parse_size)]
    max_record: u64,
    /// How often a task is tried before the job fails
    #[arg(long, value_name = "N", default_value_t = 4)]
    attempts: u32,
    /// Pass over up to N records of each task at which it fails twice: lines of a mapper, or keys of a reducer that is
    /// compiled in
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip_bad_records: u32,
    /// Give up a try that makes no progress for so long (30s, 5m)
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    task_timeout: Duration,
}

impl WorkArgs {
    /// Sets in a job what these options say, and checks it.
    pub(super) fn apply(&self, job: &mut Job) -> Result<(), Failure> {
        job.reducers = self.reducers;
        job.compress = self.compress;
        if self.lab_names {
            job.output.form = Form::Labs;
        }
        job.limits.split_bytes = self.split;
        job.limits.max_record_bytes = u32::try_from(self.max_record).unwrap_or(u32::MAX);
        job.limits.attempts = self.attempts;
        job.limits.skip_bad_records = self.skip_bad_records;
        job.limits.task_timeout_ms = u64::try_from(self.task_timeout.as_millis()).unwrap_or(u64::MAX);
        job.check().map_err(Failure::usage)
    }
}

/// What a job on this machine reads and writes, and what of the machine it may use.
#[derive(Debug, clap::Args)]
pub(super) struct LocalArgs {
    /// A file, a directory, a quoted pattern such as 'books/*.txt', or an object (s3://bucket/key); .gz and .zst are
    /// unpacked. May be repeated
    #[arg(long, short, required = true, value_name = "PATH", help_heading = "Files")]
    input: Vec<String>,
    /// The directory for the output; it must not exist
    #[arg(long, short, value_name = "DIR", help_heading = "Files")]
    output: String,
    /// Keep map output here meanwhile [default: in the output directory]
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    scratch: Option<PathBuf>,
    /// Tasks at the same time [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Work")]
    slots: Option<u16>,
    /// Memory for all tasks together
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_size, help_heading = "Work")]
    memory: u64,
    #[command(flatten)]
    work: WorkArgs,
    /// Run on this machine, without a cluster
    #[arg(long, help_heading = "Work")]
    local: bool,
    /// Output for programs: JSON on standard output, errors too
    #[arg(long)]
    pub(super) json: bool,
}

impl LocalArgs {
    /// The inputs and the output directory, which a job begins with.
    pub(super) fn places(&self) -> (Vec<String>, String) {
        (self.input.clone(), self.output.clone())
    }

    /// Sets in a job what these options say.
    pub(super) fn apply(&self, job: &mut Job) -> Result<(), Failure> {
        self.work.apply(job)
    }

    pub(super) fn local_options(&self) -> LocalOptions {
        let defaults = LocalOptions::default();
        LocalOptions {
            slots: self.slots.map_or(defaults.slots, usize::from),
            memory_bytes: usize::try_from(self.memory).unwrap_or(usize::MAX),
            scratch: self.scratch.clone(),
            ..defaults
        }
    }
}
