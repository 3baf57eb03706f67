//! mr stream: a job made of commands.

use super::keys::KeyArgs;
use super::local::run_here;
use super::options::LocalArgs;
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
  quorate mr stream --mapper 'grep -v DEBUG' --reducers 0 --input logs --output shorter
  quorate mr stream --mapper cat --total-order --input data.tsv --output sorted"
)]
pub(super) struct Args {
    /// The command that maps
    #[arg(long, value_name = "COMMAND", help_heading = "Commands")]
    mapper: String,
    /// The command that combines: like a reducer, but its output are pairs again
    #[arg(long, value_name = "COMMAND", help_heading = "Commands")]
    combiner: Option<String>,
    /// The command that reduces [default: each key, a tab and the value, if there is one]
    #[arg(long, value_name = "COMMAND", help_heading = "Commands")]
    reducer: Option<String>,
    #[command(flatten)]
    keys: KeyArgs,
    /// What people call the job
    #[arg(long, default_value = "stream")]
    name: String,
    #[command(flatten)]
    pub(super) job: LocalArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let (combiner, reducer) = (self.combiner.as_deref(), self.reducer.as_deref());
        let mut job = self.keys.job(&self.name, self.job.places(), &self.mapper, combiner, reducer);
        self.job.apply(&mut job)?;
        run_here(job, &self.job.local_options(), self.job.json)
    }
}
