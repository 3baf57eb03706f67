//! mr run: a job that comes with Quorate.

use super::local::run_here;
use super::options::LocalArgs;
use crate::mapreduce::builtin;
use crate::node::exit::Failure;

/// Run a job that comes with Quorate: wc, indexer, grep PATTERN or sort.
///
/// wc counts how often each word occurs; indexer lists the files in which each word occurs; grep finds the lines
/// that match a regular expression, in the order of each file; sort sorts lines by their bytes. It runs on all
/// processors of this machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The output is a directory with a file for each reducer, part-r-00000 and so on, and the empty \
file _SUCCESS as soon as all of them are there. A job that fails or is interrupted leaves nothing. The outputs of
sort, one after the other, are sorted.

Examples:
  quorate mr run wc --input 'books/*.txt' --output counts
  quorate mr run wc --input 'books/*.txt' --output out --reducers 10 --lab-names
  quorate mr run indexer --input books --output index
  quorate mr run grep 'err(or)?' --input /var/log/app --output found
  quorate mr run sort --input big.txt --output sorted --memory 1G --json"
)]
pub(super) struct Args {
    /// wc, indexer, grep or sort
    application: String,
    /// What it needs to know: a pattern for grep
    arguments: Vec<String>,
    #[command(flatten)]
    pub(super) job: LocalArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let (inputs, output) = self.job.places();
        let mut job =
            builtin::job(&self.application, &self.arguments, inputs, &output).map_err(Failure::usage)?;
        self.job.apply(&mut job)?;
        run_here(job, &self.job.local_options(), self.job.json)
    }
}
