//! A job as the command line describes it.

use std::path::{Path, PathBuf};

use super::keys::KeyArgs;
use super::options::WorkArgs;
use crate::logic::mapreduce::job::Job;
use crate::logic::mapreduce::split::is_url;
use crate::mapreduce::builtin;
use crate::node::exit::Failure;

/// What is to be done with which input.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Job")]
pub(super) struct JobArgs {
    /// The job: wc, indexer, grep PATTERN or sort; or leave it out and give --mapper
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
    #[arg(long, value_name = "COMMAND")]
    mapper: Option<String>,
    /// A shell command: reads lines of key TAB value in the order of the keys, writes the output [default: each key,
    /// a tab and the value, if there is one]
    #[arg(long, value_name = "COMMAND")]
    reducer: Option<String>,
    /// A shell command like a reducer, run over the output of each map task
    #[arg(long, value_name = "COMMAND")]
    combiner: Option<String>,
    /// What to call the job
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    work: WorkArgs,
}

impl JobArgs {
    /// The job, with all paths made absolute: workers may run elsewhere.
    pub(super) fn job(&self) -> Result<Job, Failure> {
        let inputs = self.input.iter().map(|input| absolute(Path::new(input))).collect::<Result<_, _>>()?;
        let output = absolute(&self.output)?;
        let mut job = match (&self.application, &self.mapper) {
            (Some(application), _) if self.is_about_commands() => {
                return Err(Failure::usage(format!(
                    "{application} knows its own keys and reducer; commands, separators, fields, orders and variables \
                     are for jobs with a --mapper"
                )));
            }
            (Some(application), _) => {
                builtin::job(application, &self.args, inputs, &output).map_err(Failure::usage)?
            }
            (None, Some(mapper)) => {
                let (combiner, reducer) = (self.combiner.as_deref(), self.reducer.as_deref());
                self.keys.job("stream", (inputs, output), mapper, combiner, reducer)
            }
            (None, None) => return Err(Failure::usage("name a job, or give --mapper")),
        };
        if let Some(name) = &self.name {
            job.name.clone_from(name);
        }
        self.work.apply(&mut job)?;
        Ok(job)
    }

    /// Whether something was said that only commands have. clap cannot require a mapper for it: a requirement that an
    /// application excludes is waived.
    fn is_about_commands(&self) -> bool {
        self.keys.are_given() || self.reducer.is_some() || self.combiner.is_some()
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
