//! Fairness within a thread.

use std::num::NonZeroU32;

use actix::fut::wrap_future;
use actix::{Actor, AsyncContext, Context};

/// Makes an actor with a flooded mailbox share its thread.
///
/// actix empties the mailbox before it looks at the actor's own timers, and before other actors of the thread get
/// their turn: a flood of 100,000 messages delays everything by its whole length. Call
/// [`handled`](Self::handled) for each message: every so often the actor then steps back for one round.
#[derive(Clone, Debug)]
pub struct Fair {
    every: NonZeroU32,
    left: u32,
}

impl Fair {
    /// Steps back after every so many messages; 64 is a good number.
    pub fn every(messages: NonZeroU32) -> Self {
        Self { every: messages, left: messages.get() }
    }

    /// A message was handled.
    pub fn handled<A: Actor<Context = Context<A>>>(&mut self, context: &mut Context<A>) {
        self.left -= 1;
        if self.left == 0 {
            self.left = self.every.get();
            context.wait(wrap_future(tokio::task::yield_now()));
        }
    }
}
