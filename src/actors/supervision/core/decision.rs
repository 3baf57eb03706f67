//! What the core decides.

use std::time::Duration;

use super::ChildId;

/// One thing to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start {
        child: ChildId,
        generation: u64,
    },
    Stop(ChildId),
    Kill(ChildId),
    /// It does not even react to being killed; `abandoned`: call [`Core::abandon`](super::Core::abandon), nobody waits
    /// for it.
    Unkillable {
        child: ChildId,
        abandoned: bool,
    },
}

/// What an exit leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The report came from an earlier life.
    Stale,
    /// It was to end.
    Expected,
    /// It ended by itself and stays so.
    Over,
    /// It (or its group) is started again after this delay.
    Restart(Duration),
    /// One failure too many.
    GiveUp,
}
