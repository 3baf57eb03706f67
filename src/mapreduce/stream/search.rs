//! Looks for the lines at which a mapper that is a command fails, and passes over them.
//!
//! Nobody knows how far a command had come that failed: it reads ahead. So its lines are given to it in batches, each
//! to a process of its own, and a batch at which it fails is halved until a single line is left. What a batch comes to
//! is known only at its end, so each is tried first, with its output thrown away, and then run: nothing need be kept.
//!
//! This is right only if the command does with a line what it does, whatever came before. It is done when a job allows
//! it, and when the command has failed twice in the ordinary way.

use std::io::Write;
use std::ops::Range;

use super::command::Command;
use super::explain;
use super::process::{self, Broken, Fed};
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::mapreduce::records::Records;
use crate::mapreduce::task::Control;

/// A batch has so many bytes, or one line.
const BATCH: usize = 1 << 20;

/// See the module.
pub(in crate::mapreduce) struct Search<'a> {
    command: &'a Command<'a>,
    control: &'a Control,
    /// How many lines may be passed over.
    most: u32,
    found: Vec<u64>,
    counters: Counters,
}

/// Lines, one behind the other.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    /// Where each line begins in the file, and where it is in the text, with its end.
    lines: Vec<(u64, Range<usize>)>,
}

impl<'a> Search<'a> {
    pub(in crate::mapreduce) fn new(command: &'a Command<'a>, control: &'a Control, most: u32) -> Self {
        Self { command, control, most, found: Vec::new(), counters: Counters::default() }
    }

    /// Feeds the command the lines of a split. Returns what it counted, and the places of the lines that are passed
    /// over.
    pub(in crate::mapreduce) fn map(
        mut self,
        records: &mut Records<'_>,
        mut tell: impl FnMut(u64),
        line: &mut impl FnMut(&[u8]) -> Result<(), TaskFailure>,
    ) -> Result<(Counters, Vec<u64>), TaskFailure> {
        loop {
            let batch = Batch::read(records, &mut tell)?;
            if batch.lines.is_empty() {
                return Ok((self.counters, self.found));
            }
            self.settle(&batch, 0..batch.lines.len(), line)?;
        }
    }

    fn settle(
        &mut self,
        batch: &Batch,
        lines: Range<usize>,
        line: &mut impl FnMut(&[u8]) -> Result<(), TaskFailure>,
    ) -> Result<(), TaskFailure> {
        let broken = match self.feed(batch.text(&lines), |_| Ok(())) {
            Ok(_) => {
                let counted = self.feed(batch.text(&lines), line);
                let counted = counted.map_err(|broken| explain::failure(self.command, broken))?;
                self.counters.merge(&counted);
                return Ok(());
            }
            Err(Broken::Otherwise(failure)) => return Err(failure),
            Err(broken) => broken,
        };
        if lines.len() > 1 {
            let middle = lines.start + lines.len() / 2;
            self.settle(batch, lines.start..middle, line)?;
            return self.settle(batch, middle..lines.end, line);
        }
        if self.found.len() >= self.most as usize {
            return Err(explain::failure(self.command, broken));
        }
        self.found.push(batch.lines[lines.start].0);
        Ok(())
    }

    fn feed(
        &self,
        text: &[u8],
        line: impl FnMut(&[u8]) -> Result<(), TaskFailure>,
    ) -> Result<Counters, Broken> {
        self.control.beat();
        process::run(
            self.command,
            self.control,
            |stdin: &mut dyn Write| -> Fed { Ok(stdin.write_all(text)?) },
            line,
        )
    }
}

impl Batch {
    fn read(records: &mut Records<'_>, tell: &mut impl FnMut(u64)) -> Result<Self, TaskFailure> {
        let mut batch = Self::default();
        while batch.text.len() < BATCH {
            let Some((place, line)) = records.next()? else { break };
            let start = batch.text.len();
            batch.text.extend_from_slice(line);
            batch.text.push(b'\n');
            batch.lines.push((place, start..batch.text.len()));
            tell(records.offset());
        }
        Ok(batch)
    }

    fn text(&self, lines: &Range<usize>) -> &[u8] {
        &self.text[self.lines[lines.start].1.start..self.lines[lines.end - 1].1.end]
    }
}
