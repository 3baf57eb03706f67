//! Orders from a supervisor to one life of a child. They do not pass through the mailbox, so that they also
//! reach an actor that is flooded or waits.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Stop in good order, with all hooks.
    Stop,
    /// Be dropped at once, without hooks.
    Kill,
    /// Answer with this number once the actor gets to its own work.
    Ping(u64),
    /// Panic with this text.
    Crash(String),
    /// Block the thread.
    Hang(Duration),
    /// Do nothing, without blocking the thread.
    Stall(Duration),
}

/// The line to one life. A new life gets a new line, so that a late order cannot hit the wrong one.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pending: AtomicBool,
    line: Mutex<Line>,
    /// Odd while the actor is being polled. Written by its thread alone.
    polls: AtomicU64,
    answered: AtomicU64,
}

#[derive(Debug, Default)]
struct Line {
    queue: VecDeque<Order>,
    waker: Option<Waker>,
}

impl Orders {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn give(&self, order: Order) {
        let waker = {
            let mut line = self.line();
            line.queue.push_back(order);
            self.pending.store(true, Ordering::Release);
            line.waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Says whom to wake; has to precede [`Orders::take`], or an order given in between would go unnoticed.
    pub fn listen(&self, waker: &Waker) {
        self.line().waker = Some(waker.clone());
    }

    /// The next order; costs one atomic load when there is none.
    pub fn take(&self) -> Option<Order> {
        if !self.pending.load(Ordering::Acquire) {
            return None;
        }
        let mut line = self.line();
        let order = line.queue.pop_front();
        self.pending.store(!line.queue.is_empty(), Ordering::Release);
        order
    }

    /// Waits for the next order.
    pub async fn next(&self) -> Order {
        poll_fn(|cx: &mut Context<'_>| {
            self.listen(cx.waker());
            self.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub fn poll_begins(&self) {
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    pub fn poll_ends(&self) {
        self.poll_begins();
    }

    /// How many times polls began or ended.
    pub fn polls(&self) -> u64 {
        self.polls.load(Ordering::Acquire)
    }

    pub fn answer(&self, ping: u64) {
        self.answered.store(ping, Ordering::Release);
    }

    /// The last ping that was answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }
}
