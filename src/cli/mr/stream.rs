//! mr stream: a job made of commands.

use super::local::run_here;
use super::options::JobArgs;
use crate::logic::mapreduce::job::{Fields, Function, Job};
use crate::logic::mapreduce::partition::Partitioning;
use crate::node::exit::Failure;

/// Run a job made of commands, as Hadoop Streaming does.
///
/// The mapper reads lines of input and writes lines `key TAB value`. The reducer reads such lines, sorted by key,
/// and writes lines of output. Commands are run by sh -c, so that pipes work.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A command that ends with a code other than 0 fails its task, which is tried again. On standard \
error it may write
reporter:counter:GROUP,NAME,AMOUNT and reporter:status:TEXT. Its environment tells where it is:
mapreduce_map_input_file, mapreduce_map_input_start, mapreduce_map_input_length, mapreduce_task_id,
mapreduce_task_attempt_id, mapreduce_task_partition, mapreduce_task_ismap, mapreduce_job_id, mapreduce_job_name,
mapreduce_job_maps, mapreduce_job_reduces.

Examples:
  quorate mr stream --mapper ./mapper.py --reducer ./reducer.py --input logs --output out
  quorate mr stream --mapper 'tr -cs A-Za-z \"\\n\"' --reducer 'uniq -c' --input books --output out
  quorate mr stream --mapper 'cut -f3' --combiner ./sum.py --reducer ./sum.py --input a.tsv.gz --output out --env LANG=C
  quorate mr stream --mapper cat --total-order --input data.tsv --output sorted"
)]
pub(super) struct Args {
    /// The command that maps
    #[arg(long, value_name = "COMMAND", help_heading = "Commands")]
    mapper: String,
    /// The command that combines: like a reducer, but its output are pairs again
    #[arg(long, value_name = "COMMAND", help_heading = "Commands")]
    combiner: Option<String>,
    /// The command that reduces [default: writes the pairs as they are]
    #[arg(long, value_name = "COMMAND", help_heading = "Commands")]
    reducer: Option<String>,
    /// Set a variable in the environment of the commands. May be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable, help_heading = "Commands")]
    env: Vec<(String, String)>,
    /// What stands between fields, one byte
    #[arg(long, value_name = "C", default_value = "\t", value_parser = parse_separator, help_heading = "Keys")]
    separator: u8,
    /// So many of the first fields are the key
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Keys")]
    key_fields: u32,
    /// Keys that agree in so many of the first fields go to the same reducer
    #[arg(long, value_name = "N", help_heading = "Keys")]
    partition_fields: Option<u32>,
    /// Partition by ranges, so that the outputs one after the other are sorted by key
    #[arg(long, conflicts_with = "partition_fields", help_heading = "Keys")]
    total_order: bool,
    /// What people call the job
    #[arg(long, default_value = "stream")]
    name: String,
    #[command(flatten)]
    pub(super) job: JobArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let (inputs, output) = self.job.places();
        let reducer = match self.reducer {
            Some(line) => Function::command(line),
            None => Function::builtin("pairs", Vec::new()),
        };
        let mut job = Job::new(self.name, inputs, Function::command(self.mapper), reducer, output);
        job.combiner = self.combiner.map(Function::command);
        job.environment = self.env;
        job.fields = Fields { separator: self.separator, key_fields: self.key_fields };
        job.partitioning = match self.partition_fields {
            Some(first) => Partitioning::Fields { separator: self.separator, first },
            None if self.total_order => Partitioning::Range,
            None => Partitioning::Hash,
        };
        self.job.apply(&mut job)?;
        run_here(job, &self.job.local_options(), self.job.json)
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

fn parse_separator(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if *byte != b'\n' => Ok(*byte),
        b"\\t" => Ok(b'\t'),
        _ => Err(format!("{text:?} is not one byte; a tab may be written \\t")),
    }
}
