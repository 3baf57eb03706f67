//! Options of jobs made of commands: what their lines mean, and where they go.

use crate::logic::mapreduce::job::{Fields, Function, Job};
use crate::logic::mapreduce::partition::Partitioning;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Keys")]
pub(super) struct KeyArgs {
    /// What stands between fields, one byte
    #[arg(long, value_name = "C", default_value = "\t", value_parser = parse_separator)]
    separator: u8,
    /// So many of the first fields are the key
    #[arg(long, value_name = "N", default_value_t = 1)]
    key_fields: u32,
    /// Keys that agree in so many of the first fields go to the same reducer
    #[arg(long, value_name = "N")]
    partition_fields: Option<u32>,
    /// Partition by ranges, so that the outputs one after the other are sorted by key
    #[arg(long, conflicts_with = "partition_fields")]
    total_order: bool,
    /// Set a variable in the environment of the commands. May be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<(String, String)>,
}

impl KeyArgs {
    /// Whether any of them was given another value than it has by itself.
    pub(super) fn are_given(&self) -> bool {
        let KeyArgs { separator, key_fields, partition_fields, total_order, env } = self;
        *total_order
            || partition_fields.is_some()
            || !env.is_empty()
            || (*separator, *key_fields) != (b'\t', 1)
    }

    /// A job made of commands. Without a reducer, each pair is a line: key, tab, value.
    pub(super) fn job(
        &self,
        name: &str,
        places: (Vec<String>, String),
        mapper: &str,
        combiner: Option<&str>,
        reducer: Option<&str>,
    ) -> Job {
        let reducer = match reducer {
            Some(line) => Function::command(line),
            None => Function::builtin("pairs", Vec::new()),
        };
        let (inputs, output) = places;
        let mut job = Job::new(name, inputs, Function::command(mapper), reducer, output);
        job.combiner = combiner.map(Function::command);
        job.environment.clone_from(&self.env);
        job.fields = Fields { separator: self.separator, key_fields: self.key_fields };
        job.partitioning = match self.partition_fields {
            Some(first) => Partitioning::Fields { separator: self.separator, first },
            None if self.total_order => Partitioning::Range,
            None => Partitioning::Hash,
        };
        job
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
