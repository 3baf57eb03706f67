//! How the peer tells its core the time: with every batch of inputs, and when the core asked for it.

use std::time::Duration;

use actix::prelude::*;

use super::RaftPeer;
use crate::logic::raft::Input;

/// Shortest time after which the core is told the time again when nothing else happens.
const GRAIN: Duration = Duration::from_millis(1);

impl RaftPeer {
    pub(super) fn tick(&mut self) {
        let now = self.spec.clock.now();
        self.core.step(Input::Tick { elapsed: now.saturating_sub(self.told) });
        self.told = now;
    }

    /// Sets the timer for what the core does next without being told. One that is set for earlier stays: it finds
    /// nothing to do, and is set again. So a follower that hears from its leader sets no timer each time.
    pub(super) fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let wait = self.core.until_timer().max(GRAIN);
        let at = self.told.saturating_add(wait);
        if self.timer.is_some_and(|(set, _)| set <= at) {
            return;
        }
        let handle = ctx.run_later(wait, |peer, ctx| {
            peer.timer = None;
            peer.flush(ctx);
        });
        if let Some((_, late)) = self.timer.replace((at, handle)) {
            ctx.cancel_future(late);
        }
    }
}
