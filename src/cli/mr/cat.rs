//! mr cat: the lines of inputs.

use std::ops::Range;

use crate::cli::output::Output;
use crate::mapreduce::cat::cat;
use crate::node::exit::{self, Failure};

/// Write the lines of inputs, unpacked: files, directories, patterns, and objects in stores.
///
/// It writes what the mapper of a job would read. With --bytes, only the lines that begin in a range of bytes: those of
/// one map task.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr cat 'logs/*.gz' | head
  quorate mr cat s3://bucket/logs/today.txt --bytes 1048576-2097152")]
pub(super) struct Args {
    /// A file, a directory, a quoted pattern, or an object (s3://bucket/key)
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// Only lines that begin at the first of these bytes or later, and before the second; in a packed file, bytes count
    /// as unpacked
    #[arg(long, value_name = "FROM-TO", value_parser = parse_range)]
    bytes: Option<Range<u64>>,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let mut out = Output::new(false);
        let refuse = |text| Failure::new(exit::REFUSED, text);
        let written = cat(&self.inputs, self.bytes, refuse, |line| {
            out.raw(line)?;
            out.raw(b"\n")
        });
        // What was read before something went wrong is written all the same.
        out.flush().and(written)?;
        Ok(exit::OK)
    }
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once('-').and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.ok_or_else(|| format!("{text:?} is not FROM-TO, such as 0-1000"))
}
