//! The standard error of a command: `reporter:` lines are taken in, of the rest the tail is kept.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};

use crate::logic::mapreduce::counters::Counters;
use crate::mapreduce::task::Control;

/// So much of it is shown when the command fails.
const TAIL: usize = 2 << 10;
/// A line is looked at up to here.
const LONGEST_LINE: u64 = 4 << 10;
const COUNTER: &[u8] = b"reporter:counter:";
const STATUS: &[u8] = b"reporter:status:";

/// What a command said on standard error.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) counters: Counters,
    pub(super) tail: String,
}

/// Listens to a command.
pub(super) struct Reporter<'a> {
    control: &'a Control,
    counters: Counters,
    tail: VecDeque<u8>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(control: &'a Control) -> Self {
        Self { control, counters: Counters::default(), tail: VecDeque::new() }
    }

    /// Listens until the last process of the command has closed it.
    pub(super) fn listen(mut self, stderr: impl Read) -> Said {
        let mut stderr = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut stderr).take(LONGEST_LINE).read_until(b'\n', &mut line) {
                Ok(read) if read > 0 => self.hear(&line),
                _ => break,
            }
        }
        let tail: Vec<u8> = self.tail.into();
        Said { counters: self.counters, tail: String::from_utf8_lossy(&tail).trim_end().to_string() }
    }

    fn hear(&mut self, line: &[u8]) {
        if let Some(rest) = line.strip_prefix(STATUS) {
            self.control.set_status(String::from_utf8_lossy(rest).trim().to_string());
        } else if line.strip_prefix(COUNTER).is_none_or(|rest| self.count(rest).is_none()) {
            self.tail.extend(line);
            let surplus = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..surplus);
        }
    }

    /// `group,name,amount`; the name may hold commas.
    fn count(&mut self, text: &[u8]) -> Option<()> {
        let text = String::from_utf8_lossy(text);
        let (group, rest) = text.trim().split_once(',')?;
        let (name, amount) = rest.rsplit_once(',')?;
        self.counters.add(group, name, amount.trim().parse().ok()?);
        self.control.beat();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_status_are_taken_in_and_the_rest_is_the_tail() {
        let control = Control::default();
        let text = "reporter:counter:g,n,2\nhello\nreporter:counter:g,n,3\nreporter:status:half way\n\
                    reporter:counter:g,n,x\nreporter:counter:g,a,b,1\nbye\n";
        let said = Reporter::new(&control).listen(text.as_bytes());
        assert_eq!((said.counters.get("g", "n"), said.counters.get("g", "a,b")), (5, 1));
        assert_eq!(said.tail, "hello\nreporter:counter:g,n,x\nbye");
        assert_eq!(control.progress().status.as_deref(), Some("half way"));
    }

    #[test]
    fn much_of_it_is_not_kept() {
        let control = Control::default();
        let text = "x".repeat(1 << 20) + "\nthe end\n";
        let said = Reporter::new(&control).listen(text.as_bytes());
        assert!(said.tail.len() <= TAIL && said.tail.ends_with("x\nthe end"), "{}", said.tail);
    }
}
