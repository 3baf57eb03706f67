//! What a leader knows of one follower, and what it may send to it.
//!
//! ```text
//!            accepted at the probed position
//!     Probe ---------------------------------> Replicate     entries are pipelined
//!       ^  <---------------------------------     |
//!       |     refused, link broken                |  next entry is compacted away
//!       |                                         v
//!       +------------------------------------- Snapshot
//!                      installed
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use super::entry::SnapshotMeta;
use crate::logic::ids::Index;

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    /// Known to be equal to the leader's log and durable up to here. Never lowered.
    pub matched: Index,
    /// The next entry to send; above `matched`.
    pub next: Index,
    /// How it is being served.
    pub mode: Mode,
    /// Highest confirmation round that it echoed.
    pub round: u64,
    /// When it last answered.
    pub contact: Duration,
}

#[derive(Debug)]
pub(super) enum Mode {
    /// Where the logs match is being found out: one append at a time.
    Probe {
        /// One is on its way; only heartbeats until it is answered.
        waiting: bool,
    },
    /// The logs match up to `next - 1` unless something was lost.
    Replicate(Window),
    /// It needs a snapshot.
    Snapshot(Transfer),
}

/// Appends on their way: the last index and the bytes of each.
#[derive(Debug, Default)]
pub(super) struct Window {
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Window {
    pub fn is_full(&self, max_appends: usize, max_bytes: usize) -> bool {
        self.appends.len() >= max_appends || (self.bytes >= max_bytes && !self.appends.is_empty())
    }

    pub fn add(&mut self, last: Index, bytes: usize) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn free_up_to(&mut self, matched: Index) {
        while let Some((last, bytes)) = self.appends.front().copied() {
            if last > matched {
                break;
            }
            self.bytes -= bytes;
            self.appends.pop_front();
        }
    }
}

/// A snapshot on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub meta: SnapshotMeta,
    /// Chunks below this one are stored by the follower.
    pub stored: u32,
    /// The next chunk to ask the shell for.
    pub wanted: u32,
    /// How many there are, once the last was read.
    pub total: Option<u32>,
    /// When it last moved, to repeat what was lost.
    pub moved_at: Duration,
    /// How often it had to begin anew.
    setbacks: u32,
    /// It is paused until then.
    resumes_at: Duration,
}

/// A pause doubles so many times.
const DOUBLINGS: u32 = 5;

impl Transfer {
    pub fn new(meta: SnapshotMeta, now: Duration) -> Self {
        Transfer { meta, stored: 0, wanted: 0, total: None, moved_at: now, setbacks: 0, resumes_at: now }
    }

    /// Goes on with another snapshot. What went wrong with this one will probably go wrong with that one, too.
    pub fn switch_to(&mut self, meta: SnapshotMeta, now: Duration) {
        let (setbacks, resumes_at) = (self.setbacks, self.resumes_at);
        *self = Transfer { setbacks, resumes_at, ..Transfer::new(meta, now) };
    }

    /// Whether nothing is to be sent now, because the follower could not store what it was sent.
    pub fn is_paused(&self, now: Duration) -> bool {
        now < self.resumes_at
    }

    /// The chunks to ask for now. Until the follower has answered, only one: it may have stored some before.
    pub fn take_wanted(&mut self, window: u32) -> std::ops::Range<u32> {
        let window = if self.stored == 0 { 1 } else { window };
        let end = self.stored.saturating_add(window).min(self.total.unwrap_or(u32::MAX));
        let wanted = self.wanted..end.max(self.wanted);
        self.wanted = wanted.end;
        wanted
    }

    /// The follower wants `next`; returns whether that is news. `patience`: the shortest pause.
    pub fn on_reply(&mut self, next: u32, now: Duration, patience: Duration) -> bool {
        let begins_anew = next < self.stored || (next == 0 && self.wanted > 0);
        if next == self.stored && !begins_anew {
            return false;
        }
        self.stored = next;
        self.moved_at = now;
        if begins_anew {
            self.wanted = next;
            self.resumes_at = now.saturating_add(self.pause(patience));
            self.setbacks = self.setbacks.saturating_add(1);
        } else {
            self.wanted = self.wanted.max(next);
            self.resumes_at = now;
        }
        true
    }

    /// The first time there is none: the follower may just have been restarted. Then they grow, because its disk is
    /// probably full, and will be for a while. They do so until the snapshot is there: that a part of it was stored
    /// says nothing, for that is deleted.
    fn pause(&self, patience: Duration) -> Duration {
        match self.setbacks.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => patience.saturating_mul(1 << doublings.min(DOUBLINGS)),
        }
    }

    /// Repeats from the chunk that the follower lacks; when it lacks none, the last chunk asks for news.
    pub fn repeat(&mut self, now: Duration) {
        let last = self.total.map_or(u32::MAX, |total| total.saturating_sub(1));
        self.wanted = self.stored.min(last);
        self.moved_at = now;
    }
}

impl Progress {
    /// A follower of which nothing is known; `next` is a guess.
    pub fn new(next: Index, now: Duration) -> Self {
        Progress { matched: 0, next, mode: Mode::Probe { waiting: false }, round: 0, contact: now }
    }

    /// The follower's log equals the leader's up to `matched`, durably.
    pub fn accept(&mut self, matched: Index) {
        self.matched = self.matched.max(matched);
        match &mut self.mode {
            Mode::Probe { .. } => {
                if self.matched + 1 >= self.next {
                    self.next = self.matched + 1;
                    self.mode = Mode::Replicate(Window::default());
                }
            }
            Mode::Replicate(window) => {
                window.free_up_to(self.matched);
                self.next = self.next.max(self.matched + 1);
            }
            Mode::Snapshot(_) => {}
        }
    }

    /// The follower refused an append behind `prev`; `retry` is the last index where the logs may still match.
    /// Returns whether the refusal says anything new.
    pub fn reject(&mut self, prev: Index, retry: Index) -> bool {
        let current = match self.mode {
            Mode::Probe { .. } => prev == self.next - 1,
            Mode::Replicate(_) => prev > self.matched && prev < self.next,
            Mode::Snapshot(_) => false,
        };
        if mutant!(LateRefusalRaisesMatch) && !current && self.next == self.matched + 1 {
            self.matched = self.matched.max(prev);
            self.next = self.matched + 1;
        }
        if current && prev > self.matched {
            self.probe_from(prev.min(retry.saturating_add(1)));
            return true;
        }
        false
    }

    /// Falls back to finding out where the logs match, beginning before `next`.
    pub fn probe_from(&mut self, next: Index) {
        self.next = next.max(self.matched + 1);
        self.mode = Mode::Probe { waiting: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn replicating(matched: Index, next: Index) -> Progress {
        Progress { matched, next, mode: Mode::Replicate(Window::default()), round: 0, contact: NOW }
    }

    #[test]
    fn a_late_refusal_moves_nothing() {
        let mut progress = replicating(10, 11);
        assert!(!progress.reject(5, 3));
        assert!(!progress.reject(10, 3));
        assert!(!progress.reject(11, 3));
        assert_eq!((progress.matched, progress.next), (10, 11));
        progress.probe_from(20);
        assert!(!progress.reject(15, 12), "it answers another probe");
        assert!(progress.reject(19, 12));
        assert_eq!((progress.matched, progress.next), (10, 13));
    }

    #[test]
    fn a_refusal_never_backs_up_behind_what_is_known() {
        let mut progress = replicating(10, 20);
        assert!(progress.reject(15, 4));
        assert_eq!((progress.matched, progress.next), (10, 11));
        assert!(matches!(progress.mode, Mode::Probe { waiting: false }));
    }

    #[test]
    fn a_refusal_with_a_hint_above_the_probe_goes_down_all_the_same() {
        let mut progress = Progress::new(20, NOW);
        assert!(progress.reject(19, u64::MAX));
        assert_eq!(progress.next, 19);
    }

    #[test]
    fn the_window_frees_what_is_acknowledged() {
        let mut window = Window::default();
        window.add(5, 100);
        window.add(9, 50);
        assert!(window.is_full(2, 1000) && window.is_full(9, 150) && !window.is_full(3, 151));
        window.free_up_to(8);
        assert!(!window.is_full(2, 51));
        assert!(window.is_full(9, 50));
    }

    fn transfer() -> Transfer {
        let meta = SnapshotMeta {
            group: crate::logic::ids::GroupId(1),
            last: crate::logic::ids::LogPosition { index: 9, term: 1 },
            membership: Default::default(),
        };
        Transfer::new(meta, NOW)
    }

    const PATIENCE: Duration = Duration::from_secs(1);

    #[test]
    fn a_transfer_that_begins_anew_again_and_again_pauses_longer_and_longer() {
        let (mut transfer, mut now) = (transfer(), NOW);
        let mut pauses = Vec::new();
        for round in 0..9 {
            assert_eq!(transfer.take_wanted(4), 0..1);
            if round % 2 == 0 {
                // The disk takes some of it.
                assert!(transfer.on_reply(3, now, PATIENCE));
                assert_eq!(transfer.take_wanted(4), 3..7);
            }
            assert!(transfer.on_reply(0, now, PATIENCE));
            assert!(!transfer.on_reply(0, now, PATIENCE), "it answers a chunk that was on its way");
            if round == 4 {
                transfer.switch_to(transfer.meta.clone(), now);
            }
            let begun = now;
            while transfer.is_paused(now) {
                now += PATIENCE / 2;
            }
            pauses.push((now - begun).as_secs());
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 32, 32]);
    }

    #[test]
    fn a_pause_ends_when_the_follower_goes_on() {
        let mut transfer = transfer();
        for _ in 0..2 {
            transfer.take_wanted(4);
            transfer.on_reply(0, NOW, PATIENCE);
        }
        assert!(transfer.is_paused(NOW));
        assert!(transfer.on_reply(1, NOW, PATIENCE), "a chunk that was on its way was stored");
        assert!(!transfer.is_paused(NOW));
        assert_eq!(transfer.take_wanted(4), 1..5);
    }

    #[test]
    fn a_transfer_resumes_where_the_follower_says() {
        let mut transfer = transfer();
        assert_eq!(transfer.take_wanted(4), 0..1);
        assert!(transfer.take_wanted(4).is_empty());
        assert!(transfer.on_reply(5, NOW, PATIENCE), "it had stored five chunks before");
        assert_eq!(transfer.take_wanted(4), 5..9);
        assert!(!transfer.on_reply(5, NOW, PATIENCE));
        transfer.total = Some(7);
        assert!(transfer.on_reply(6, NOW, PATIENCE));
        assert!(transfer.take_wanted(4).is_empty());
        transfer.repeat(NOW);
        assert_eq!(transfer.take_wanted(4), 6..7);
        assert!(transfer.on_reply(7, NOW, PATIENCE));
        transfer.repeat(NOW);
        assert_eq!(transfer.take_wanted(4), 6..7, "nothing is missing: the last chunk asks for news");
        assert!(transfer.on_reply(0, NOW, PATIENCE), "it lost everything");
        assert_eq!(transfer.take_wanted(4), 0..1);
    }
}
