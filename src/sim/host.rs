//! A simulated machine as far as tasks go: a task set of its own, which can stand still, or be gone at once.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// The tasks of one machine. They are polled by a task of the simulation, so none of them runs after
/// [`Host::power_off`], and none during a freeze.
#[derive(Clone)]
pub struct Host(Rc<RefCell<Inner>>);

struct Inner {
    tasks: Option<LocalSet>,
    frozen: bool,
    waker: Option<Waker>,
}

impl Host {
    /// A machine without tasks.
    ///
    /// # Panics
    /// Outside of [`simulate`](super::simulate).
    pub fn new() -> Host {
        let inner = Inner { tasks: Some(LocalSet::new()), frozen: false, waker: None };
        let host = Host(Rc::new(RefCell::new(inner)));
        let polled = host.0.clone();
        spawn_local(poll_fn(move |context| {
            let inner = &mut *polled.borrow_mut();
            let Some(tasks) = &mut inner.tasks else { return Poll::Ready(()) };
            inner.waker = Some(context.waker().clone());
            if !inner.frozen {
                // That all tasks have ended says nothing: others may be added.
                let _ = Pin::new(tasks).poll(context);
            }
            Poll::Pending
        }));
        host
    }

    /// Adds a task.
    ///
    /// # Panics
    /// After [`Host::power_off`], and when called by a task of this host.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let inner = self.0.borrow();
        let handle = inner.tasks.as_ref().expect("the machine is on").spawn_local(task);
        drop(inner);
        self.wake();
        handle
    }

    /// Stands still, or goes on: what came in meanwhile, timers included, is then there all at once. As a process does
    /// that is stopped, or a machine that swaps.
    pub fn freeze(&self, frozen: bool) {
        self.0.borrow_mut().frozen = frozen;
        self.wake();
    }

    /// Ends all tasks at once, wherever they are.
    pub fn power_off(&self) {
        let tasks = self.0.borrow_mut().tasks.take();
        self.wake();
        // What the tasks held is dropped without the lock: others may be woken by that.
        drop(tasks);
    }

    fn wake(&self) {
        if let Some(waker) = self.0.borrow_mut().waker.take() {
            waker.wake();
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Host::new()
    }
}
