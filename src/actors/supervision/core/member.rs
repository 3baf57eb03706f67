//! One child in the eyes of the core.

use std::time::Duration;

use crate::actors::supervision::child::{OnHang, Restart, Terms};
use crate::logic::restart::Backoff;

/// How long a killed child may take to be gone before it counts as blocking its thread.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not running; to be started if wanted.
    Down,
    Starting,
    Up,
    Stopping,
    Killing,
    /// Ended for good.
    Done,
}

/// A child, what is wanted of it, and how far it is from there.
#[derive(Debug)]
pub(super) struct Member {
    pub restart: Restart,
    pub shutdown: Option<Duration>,
    pub grace: Duration,
    pub on_hang: OnHang,
    pub dispensable: bool,
    /// Added while running: stopped together with its like, and forgotten when done.
    pub dynamic: bool,
    pub phase: Phase,
    pub generation: u64,
    pub wanted: bool,
    /// To be taken down, because it is restarted by order or with its group.
    pub cycle: bool,
    /// Has never been up, nor failed to come up.
    pub fresh: bool,
    /// Being killed because it hung.
    pub hung: bool,
    pub up_since: Duration,
    pub not_before: Duration,
    /// When a stop turns into a kill, or a kill into a report.
    pub deadline: Option<Duration>,
    pub backoff: Backoff,
}

impl Member {
    pub fn new(terms: &Terms, dynamic: bool, generation: u64, backoff: Backoff) -> Self {
        Self {
            restart: terms.restart,
            shutdown: terms.shutdown,
            grace: terms.hang.map_or(KILL_GRACE, |watch| watch.timeout),
            on_hang: terms.hang.map_or(OnHang::Report, |watch| watch.on_hang),
            dispensable: terms.dispensable,
            dynamic,
            phase: Phase::Down,
            generation,
            wanted: true,
            cycle: false,
            fresh: true,
            hung: false,
            up_since: Duration::ZERO,
            not_before: Duration::ZERO,
            deadline: None,
            backoff,
        }
    }

    pub fn alive(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Up | Phase::Stopping | Phase::Killing)
    }

    /// Where it is wanted.
    pub fn settled(&self) -> bool {
        self.phase == Phase::Done || (self.phase == Phase::Up && self.wanted && !self.cycle)
    }
}
