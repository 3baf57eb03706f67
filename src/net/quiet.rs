//! Keeps a peer that is refused again and again from filling the log.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Lets each distinct line through once in a while, and not too many distinct ones of a kind: strangers choose what
/// they are refused for. Lines of a kind begin with the same word.
#[derive(Debug)]
pub struct QuietLog {
    every: Duration,
    kinds: Mutex<BTreeMap<String, Kind>>,
}

#[derive(Debug, Default)]
struct Kind {
    lines: BTreeMap<String, Line>,
    /// Lines that were suppressed because there were too many distinct ones.
    crowded_out: u64,
}

#[derive(Debug)]
struct Line {
    logged: Instant,
    suppressed: u64,
}

impl QuietLog {
    /// Most distinct lines of a kind let through in that while.
    const LINES: usize = 8;
    /// Most kinds.
    const KINDS: usize = 64;

    /// Each line at most once in `every`.
    pub fn new(every: Duration) -> Self {
        QuietLog { every, kinds: Mutex::default() }
    }

    /// Whether the line should be logged now; if so, how many were suppressed since the last time: the same, and
    /// others of its kind that there was no room for.
    pub fn admit(&self, line: &str) -> Option<u64> {
        let now = Instant::now();
        let fresh = |known: &Line| now.duration_since(known.logged) < self.every;
        let mut kinds = self.kinds.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let word = line.split(' ').next().unwrap_or_default();
        if !kinds.contains_key(word) && kinds.len() >= Self::KINDS {
            kinds.retain(|_, kind| kind.lines.values().any(fresh));
            if kinds.len() >= Self::KINDS {
                return None;
            }
        }
        let Kind { lines, crowded_out } = kinds.entry(word.to_owned()).or_default();
        if let Some(known) = lines.get_mut(line).filter(|known| fresh(known)) {
            known.suppressed += 1;
            return None;
        }
        if !lines.contains_key(line) && lines.len() >= Self::LINES {
            lines.retain(|_, known| fresh(known));
            if lines.len() >= Self::LINES {
                *crowded_out += 1;
                return None;
            }
        }
        let before = lines.insert(line.to_owned(), Line { logged: now, suppressed: 0 });
        Some(before.map_or(0, |known| known.suppressed) + std::mem::take(crowded_out))
    }
}

impl Default for QuietLog {
    /// Once in half a minute.
    fn default() -> Self {
        QuietLog::new(Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_repeated_once_in_a_while_with_the_number_suppressed() {
        let log = QuietLog::new(Duration::from_secs(30));
        assert_eq!(log.admit("a"), Some(0));
        assert_eq!((log.admit("a"), log.admit("a"), log.admit("b")), (None, None, Some(0)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!((log.admit("a"), log.admit("a")), (Some(2), None));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_are_all_different_neither_fill_the_log_nor_hide_another_kind() {
        let log = QuietLog::new(Duration::from_secs(30));
        let lines =
            |kind: &str| (0..1000).filter(|number| log.admit(&format!("{kind} {number}")).is_some()).count();
        assert_eq!(lines("noise"), QuietLog::LINES);
        assert_eq!(log.admit("something else"), Some(0));
        let kinds = (0..1000).filter(|kind| log.admit(&format!("n{kind} is not known")).is_some()).count();
        assert_eq!(kinds, QuietLog::KINDS - 2);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(log.admit("noise again"), Some(1000 - QuietLog::LINES as u64));
        assert_eq!(log.admit("n999 is not known"), Some(0));
    }
}
