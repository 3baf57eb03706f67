//! A command line, its environment, and what it is run for.

use std::io::Write;

use super::explain;
use super::process::{self, Fed};
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::{Attempt, Phase, Setup};
use crate::logic::mapreduce::split::Split;
use crate::mapreduce::groups::Pairs;
use crate::mapreduce::records::Records;
use crate::mapreduce::task::Control;

/// A command of a task.
#[derive(Debug)]
pub(in crate::mapreduce) struct Command<'a> {
    /// Mapper, combiner or reducer: for people.
    pub(super) role: &'static str,
    pub(super) line: &'a str,
    pub(super) setup: &'a Setup,
    pub(super) attempt: Attempt,
    pub(super) split: Option<&'a Split>,
}

impl<'a> Command<'a> {
    pub(in crate::mapreduce) fn new(
        role: &'static str,
        line: &'a str,
        setup: &'a Setup,
        attempt: Attempt,
        split: Option<&'a Split>,
    ) -> Self {
        Self { role, line, setup, attempt, split }
    }

    /// What the command finds in its environment, beside what Quorate found in its own.
    ///
    /// These are the variables that Hadoop Streaming makes of the configuration of a job, under their present and their
    /// former names, as far as programs are known to look at them.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let Setup { id, job, maps, reducers, .. } = self.setup;
        let task = self.attempt.task;
        let letter = if task.phase == Phase::Map { "m" } else { "r" };
        let task_name = format!("task_{id}_{letter}_{:06}", task.index);
        let attempt_name = format!("attempt_{id}_{letter}_{:06}_{}", task.index, self.attempt.number - 1);
        let mut found: Vec<(&str, String)> = vec![
            ("mapreduce_job_id", id.clone()),
            ("mapreduce_job_name", job.name.clone()),
            ("mapreduce_job_maps", maps.to_string()),
            ("mapreduce_job_reduces", reducers.to_string()),
            ("mapreduce_job_output_dir", job.output.directory.clone()),
            ("mapreduce_task_id", task_name.clone()),
            ("mapreduce_task_attempt_id", attempt_name.clone()),
            ("mapreduce_task_partition", task.index.to_string()),
            ("mapreduce_task_ismap", (task.phase == Phase::Map).to_string()),
            ("mapred_job_id", id.clone()),
            ("mapred_job_name", job.name.clone()),
            ("mapred_map_tasks", maps.to_string()),
            ("mapred_reduce_tasks", reducers.to_string()),
            ("mapred_tip_id", task_name),
            ("mapred_task_id", attempt_name),
            ("mapred_task_partition", task.index.to_string()),
            ("mapred_task_is_map", (task.phase == Phase::Map).to_string()),
        ];
        if let Some(split) = self.split {
            found.extend([
                ("mapreduce_map_input_file", split.file.clone()),
                ("mapreduce_map_input_start", split.offset.to_string()),
                ("mapreduce_map_input_length", split.length.to_string()),
                ("map_input_file", split.file.clone()),
                ("map_input_start", split.offset.to_string()),
                ("map_input_length", split.length.to_string()),
            ]);
        }
        let own = job.environment.iter().cloned();
        found.into_iter().map(|(name, value)| (name.to_string(), value)).chain(own).collect()
    }

    /// Feeds it the lines of a split; `line` gets each line that it writes, `tell` how far it is fed.
    pub(in crate::mapreduce) fn map(
        &self,
        records: &mut Records<'_>,
        mut tell: impl FnMut(u64) + Send,
        control: &Control,
        line: impl FnMut(&[u8]) -> Result<(), TaskFailure>,
    ) -> Result<Counters, TaskFailure> {
        let feed = |stdin: &mut dyn Write| -> Fed {
            while let Some((_, line)) = records.next()? {
                stdin.write_all(line)?;
                stdin.write_all(b"\n")?;
                tell(records.offset());
            }
            Ok(())
        };
        process::run(self, control, feed, line).map_err(|broken| explain::failure(self, broken))
    }

    /// Feeds it pairs as lines; `line` gets each line that it writes.
    pub(in crate::mapreduce) fn reduce<P: Pairs + Send>(
        &self,
        pairs: &mut P,
        control: &Control,
        line: impl FnMut(&[u8]) -> Result<(), TaskFailure>,
    ) -> Result<Counters, TaskFailure> {
        let separator = self.setup.job.fields.separator;
        let feed = |stdin: &mut dyn Write| -> Fed {
            while let Some((key, value)) = pairs.peek() {
                stdin.write_all(key)?;
                stdin.write_all(&[separator])?;
                stdin.write_all(value)?;
                stdin.write_all(b"\n")?;
                pairs.advance()?;
                control.beat();
            }
            Ok(())
        };
        process::run(self, control, feed, line).map_err(|broken| explain::failure(self, broken))
    }
}
