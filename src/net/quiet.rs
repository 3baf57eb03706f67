//! Keeps a peer that is refused again and again from filling the log.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Lets each distinct line through once in a while.
#[derive(Debug)]
pub struct QuietLog {
    every: Duration,
    lines: Mutex<BTreeMap<String, Line>>,
}

#[derive(Debug)]
struct Line {
    logged: Instant,
    suppressed: u64,
}

impl QuietLog {
    /// Most distinct lines remembered; when there are more, it forgets all of them and starts again.
    const LINES: usize = 64;

    /// Each line at most once in `every`.
    pub fn new(every: Duration) -> Self {
        QuietLog { every, lines: Mutex::new(BTreeMap::new()) }
    }

    /// Whether the line should be logged now; if so, how often it was suppressed since the last time.
    pub fn admit(&self, line: &str) -> Option<u64> {
        let now = Instant::now();
        let mut lines = self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = lines.get_mut(line) {
            if now.duration_since(known.logged) < self.every {
                known.suppressed += 1;
                return None;
            }
            known.logged = now;
            return Some(std::mem::take(&mut known.suppressed));
        }
        if lines.len() >= Self::LINES {
            lines.clear();
        }
        lines.insert(line.to_owned(), Line { logged: now, suppressed: 0 });
        Some(0)
    }
}

impl Default for QuietLog {
    /// Once in half a minute.
    fn default() -> Self {
        QuietLog::new(Duration::from_secs(30))
    }
}
