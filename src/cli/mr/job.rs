//! A job as the command line describes it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::text::{parse_duration, parse_size};
use crate::logic::mapreduce::job::{Form, Function, Job};
use crate::logic::mapreduce::split::is_url;
use crate::mapreduce::builtin;
use crate::node::exit::Failure;

/// What is to be done with which input.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Job")]
pub(super) struct JobArgs {
    /// The job: wc, indexer, grep PATTERN or sort; or leave it out and give --mapper and --reducer
    #[arg(value_name = "JOB", required_unless_present = "mapper", conflicts_with = "mapper")]
    application: Option<String>,
    /// What the job is told, such as the pattern of grep
    #[arg(value_name = "ARG", requires = "application")]
    args: Vec<String>,
    /// A file, a directory or a pattern, or an object (s3://...); may be given several times. Every worker must find it
    /// under this name
    #[arg(long, short, value_name = "PATH", required = true)]
    input: Vec<String>,
    /// The directory for the output, on this machine; it must not exist
    #[arg(long, short, value_name = "DIR")]
    pub(super) output: PathBuf,
    /// A shell command: reads lines, writes lines of key TAB value (Hadoop Streaming)
    #[arg(long, value_name = "COMMAND", requires = "reducer")]
    mapper: Option<String>,
    /// A shell command: reads lines of key TAB value in the order of the keys, writes the output
    #[arg(long, value_name = "COMMAND", requires = "mapper")]
    reducer: Option<String>,
    /// A shell command like a reducer, run over the output of each map task
    #[arg(long, value_name = "COMMAND", requires = "mapper")]
    combiner: Option<String>,
    /// How many reducers; without it, as many as the input asks for
    #[arg(long, short, value_name = "N")]
    reducers: Option<u32>,
    /// Input for one map task; without it, chosen by the size of the input and the slots of the cluster
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    split: Option<u64>,
    /// What to call the job
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Name the output files mr-out-N, with a blank between key and value, as the course labs do
    #[arg(long)]
    lab_names: bool,
    /// How often a task is tried before the job fails
    #[arg(long, value_name = "N", default_value_t = 4)]
    attempts: u32,
    /// Give a task up that shows no progress for so long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    task_timeout: Duration,
}

impl JobArgs {
    /// The job, with all paths made absolute: workers may run elsewhere.
    pub(super) fn job(&self) -> Result<Job, Failure> {
        let inputs = self.input.iter().map(|input| absolute(Path::new(input))).collect::<Result<_, _>>()?;
        let output = absolute(&self.output)?;
        let mut job = match (&self.application, &self.mapper, &self.reducer) {
            (Some(application), _, _) => {
                builtin::job(application, &self.args, inputs, &output).map_err(Failure::usage)?
            }
            (None, Some(mapper), Some(reducer)) => {
                let (mapper, reducer) = (Function::command(mapper), Function::command(reducer));
                Job::new("stream", inputs, mapper, reducer, output)
            }
            _ => return Err(Failure::usage("name a job, or give --mapper and --reducer")),
        };
        if let Some(combiner) = &self.combiner {
            job.combiner = Some(Function::command(combiner));
        }
        if let Some(name) = &self.name {
            job.name.clone_from(name);
        }
        if self.lab_names {
            job.output.form = Form::Labs;
        }
        job.reducers = self.reducers;
        job.limits.split_bytes = self.split;
        job.limits.attempts = self.attempts;
        job.limits.task_timeout_ms = u64::try_from(self.task_timeout.as_millis()).unwrap_or(u64::MAX);
        job.check().map_err(Failure::usage)?;
        Ok(job)
    }
}

fn absolute(path: &Path) -> Result<String, Failure> {
    if let Some(url) = path.to_str().filter(|text| is_url(text)) {
        return Ok(url.to_string());
    }
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("{} is no path: {error}", path.display())))?;
    let text = absolute.into_os_string().into_string();
    text.map_err(|path| Failure::usage(format!("the path {} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute_and_urls_stay() {
        assert_eq!(absolute(Path::new("s3://bucket/a/*.txt")).expect("a URL"), "s3://bucket/a/*.txt");
        assert!(absolute(Path::new("a/*.txt")).expect("a path").ends_with("/a/*.txt"));
    }
}
