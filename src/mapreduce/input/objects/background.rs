//! The thread on which requests run, and waiting for them.

use std::future::Future;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::task::AbortHandle;

use super::trouble::Trouble;
use crate::mapreduce::task::Control;

/// A request, repeated by the store's client or not, has so long. It is less than an attempt is given without progress
/// by default, so that a user hears what was waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(45);
/// How often one who waits looks whether the task was cancelled.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Something under way. It is given up when this is dropped.
pub(super) struct Pending<T> {
    answer: Receiver<Result<T, Trouble>>,
    task: AbortHandle,
}

/// Lets something be done in the background.
pub(super) fn start<T: Send + 'static>(
    work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
) -> Result<Pending<T>, Trouble> {
    let (tell, answer) = channel();
    let task = background().map_err(Trouble::NoThread)?.spawn(async move {
        // Who does not wait any more needs no answer.
        let _ = tell.send(work.await);
    });
    Ok(Pending { answer, task: task.abort_handle() })
}

impl<T> Pending<T> {
    /// Waits for the answer, or until the task is cancelled.
    pub(super) fn wait(self, control: &Control) -> Result<T, Trouble> {
        loop {
            match self.answer.recv_timeout(LOOK_EVERY) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) if control.is_cancelled() => return Err(Trouble::Cancelled),
                Err(RecvTimeoutError::Timeout) => {}
                // It panicked, which is a bug of the store's client. What it said is in the log.
                Err(RecvTimeoutError::Disconnected) => return Err(Trouble::Panicked),
            }
        }
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer of a store, if it comes in time.
pub(super) async fn in_time<T>(
    request: impl Future<Output = Result<T, object_store::Error>>,
) -> Result<T, Trouble> {
    let answer = tokio::time::timeout(PATIENCE, request).await.map_err(|_| Trouble::Silence)?;
    answer.map_err(Trouble::Store)
}

/// The runtime of the thread; starts it at the first call.
fn background() -> io::Result<Handle> {
    static RUNNING: Mutex<Option<Handle>> = Mutex::new(None);
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*running {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().thread_name("objects-file").build()?;
    let handle = runtime.handle().clone();
    let serve = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("objects".into()).spawn(serve)?;
    Ok(running.insert(handle).clone())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_is_given_up() {
        let answer = in_time(std::future::pending::<Result<(), object_store::Error>>()).await;
        assert!(matches!(answer, Err(Trouble::Silence)));
    }

    #[test]
    fn who_is_cancelled_waits_no_longer() {
        let control = Control::default();
        let begun = Instant::now();
        let waited = std::thread::scope(|threads| {
            let waiter = threads.spawn(|| {
                let pending = start(std::future::pending::<Result<(), Trouble>>()).expect("a thread");
                pending.wait(&control)
            });
            std::thread::sleep(LOOK_EVERY);
            control.cancel();
            waiter.join().expect("no panic")
        });
        assert!(matches!(waited, Err(Trouble::Cancelled)));
        assert!(begun.elapsed() < PATIENCE / 2);
    }

    #[test]
    fn a_panic_in_the_background_ends_the_wait_and_nothing_else() {
        let broken = start(async { panic!("on purpose") }).expect("a thread");
        let waited: Result<(), Trouble> = broken.wait(&Control::default());
        assert!(matches!(waited, Err(Trouble::Panicked)));
        let next = start(async { Ok(7) }).expect("a thread");
        assert!(matches!(next.wait(&Control::default()), Ok(7)));
    }
}
