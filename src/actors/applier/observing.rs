//! What the applier says of itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::Applier;
use crate::messages::group::{ApplierStatus, ObserveApplier};

/// To itself: a status was given.
#[derive(Message)]
#[rtype(result = "()")]
struct Observed;

impl Applier {
    /// Answers all who ask for the status by now, on another thread: the hash goes over all sessions and leases, and
    /// there may be a million of them. Whoever asks meanwhile is answered next, together.
    fn observe(&mut self, ctx: &mut Context<Self>) {
        if self.observing || self.observers.is_empty() {
            return;
        }
        self.observing = true;
        let (observers, me) = (std::mem::take(&mut self.observers), ctx.address());
        let (applied, stats, time_ms) =
            (self.state.last.index, self.state.machine.stats(), self.state.machine.time_ms());
        let frozen = self.state.machine.freeze();
        self.spec.reader.run(move || {
            if let Ok(hash) = catch_unwind(AssertUnwindSafe(move || frozen.hash().to_string())) {
                let status = ApplierStatus { applied, stats, time_ms, hash };
                for observer in observers {
                    let _ = observer.send(status.clone());
                }
            }
            me.do_send(Observed);
        });
    }
}

impl Handler<ObserveApplier> for Applier {
    type Result = ResponseFuture<Option<ApplierStatus>>;

    fn handle(&mut self, _: ObserveApplier, ctx: &mut Self::Context) -> Self::Result {
        let (observer, status) = oneshot::channel();
        self.observers.push(observer);
        self.observe(ctx);
        Box::pin(async { status.await.ok() })
    }
}

impl Handler<Observed> for Applier {
    type Result = ();

    fn handle(&mut self, _: Observed, ctx: &mut Self::Context) {
        self.observing = false;
        self.observe(ctx);
    }
}
