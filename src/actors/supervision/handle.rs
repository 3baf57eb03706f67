//! Talking to a running supervisor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot, watch};

use super::child::Child;
use super::exit::Exit;
use super::runner::Event;

/// A stable, cheap reference to a supervisor, good across its restarts.
#[derive(Clone)]
pub struct SupervisorRef {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    inbox: RwLock<Option<mpsc::UnboundedSender<Event>>>,
    stage: watch::Sender<Stage>,
}

/// How far a supervisor has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Idle,
    Starting,
    Up,
    Ended(Exit),
}

/// Why a supervisor did not do as it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChildError {
    /// The supervisor is not running, or is shutting down.
    #[error("the supervisor is not running")]
    SupervisorGone,
    /// It has a running child of that name already.
    #[error("there is a child called {0} already")]
    Duplicate(String),
    /// It has no child of that name.
    #[error("there is no child called {0}")]
    Unknown(String),
    /// The name is empty or contains a `/`.
    #[error("{0:?} is no name for a child")]
    BadName(String),
    /// The child ended before it was up. Whether it is tried again is up to its [`Restart`](super::Restart).
    #[error("the child did not start: {0}")]
    NotStarted(Exit),
}

/// What a supervisor can be asked to do.
pub(crate) enum Command {
    StartChild(Child, oneshot::Sender<Result<u64, ChildError>>),
    StopChild(String, oneshot::Sender<Result<Exit, ChildError>>),
    RestartChild(String, oneshot::Sender<Result<u64, ChildError>>),
    Shutdown,
}

impl SupervisorRef {
    pub(crate) fn new(name: Arc<str>) -> Self {
        let stage = watch::Sender::new(Stage::Idle);
        Self { shared: Arc::new(Shared { name, inbox: RwLock::new(None), stage }) }
    }

    /// Adds a child to the running supervisor and starts it. The order is given at once; the returned future,
    /// which may be dropped, yields the child's generation once it is up.
    ///
    /// The child belongs to this life of the supervisor: it is not started again when the supervisor itself is
    /// restarted. When it ended for good it disappears from the tree, and its name may be used again.
    pub fn start_child(&self, child: impl Into<Child>) -> Pending<u64> {
        let child = child.into();
        self.command(|reply| Command::StartChild(child, reply))
    }

    /// Stops a child for good. The order is given at once; the returned future, which may be dropped, yields
    /// how it ended.
    pub fn stop_child(&self, name: impl Into<String>) -> Pending<Exit> {
        let name = name.into();
        self.command(|reply| Command::StopChild(name, reply))
    }

    /// Restarts a child in good order (and those its strategy restarts with it), or starts a stopped one again.
    /// This counts as no failure. The future yields the new generation.
    pub fn restart_child(&self, name: impl Into<String>) -> Pending<u64> {
        let name = name.into();
        self.command(|reply| Command::RestartChild(name, reply))
    }

    /// Stops all children in reverse order and then the supervisor itself; yields how it ended. For the root of a
    /// tree: any other would be restarted by the one above. One that was never started has stopped already.
    pub async fn shutdown(&self) -> Exit {
        if *self.shared.stage.borrow() == Stage::Idle {
            return Exit::Stopped;
        }
        self.send(Event::Command(Command::Shutdown));
        self.ended().await
    }

    /// Waits until all children have been started.
    ///
    /// # Errors
    /// How the supervisor ended, if it ended instead.
    pub async fn ready(&self) -> Result<(), Exit> {
        match self.stage(|stage| matches!(stage, Stage::Up | Stage::Ended(_))).await {
            Stage::Ended(exit) => Err(exit),
            _ => Ok(()),
        }
    }

    /// Waits until the supervisor has ended.
    pub async fn ended(&self) -> Exit {
        match self.stage(|stage| matches!(stage, Stage::Ended(_))).await {
            Stage::Ended(exit) => exit,
            _ => Exit::Lost,
        }
    }

    /// Whether all its children have been started and it has not ended.
    pub fn is_up(&self) -> bool {
        *self.shared.stage.borrow() == Stage::Up
    }

    async fn stage(&self, reached: impl FnMut(&Stage) -> bool) -> Stage {
        let mut seen = self.shared.stage.subscribe();
        // The sender lives in `self`, so the channel cannot close under us.
        seen.wait_for(reached).await.map_or(Stage::Ended(Exit::Lost), |stage| stage.clone())
    }

    fn command<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, ChildError>>) -> Command) -> Pending<T> {
        let (reply, pending) = oneshot::channel();
        self.send(Event::Command(make(reply)));
        Pending(pending)
    }

    /// Undeliverable events are dropped, and with them their reply channels: that tells whoever waits.
    fn send(&self, event: Event) {
        let inbox = self.shared.inbox.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = inbox.as_ref() {
            let _ = inbox.send(event);
        }
    }

    pub(crate) fn attach(&self, inbox: mpsc::UnboundedSender<Event>) {
        *self.shared.inbox.write().unwrap_or_else(PoisonError::into_inner) = Some(inbox);
        self.shared.stage.send_replace(Stage::Starting);
    }

    pub(crate) fn up(&self) {
        self.shared.stage.send_replace(Stage::Up);
    }

    pub(crate) fn detach(&self, exit: Exit) {
        *self.shared.inbox.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.shared.stage.send_replace(Stage::Ended(exit));
    }
}

impl fmt::Debug for SupervisorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SupervisorRef({})", self.shared.name)
    }
}

/// The outcome of an order to a supervisor. It is carried out whether this is awaited or dropped.
#[derive(Debug)]
pub struct Pending<T>(oneshot::Receiver<Result<T, ChildError>>);

impl<T> Future for Pending<T> {
    type Output = Result<T, ChildError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|reply| reply.unwrap_or(Err(ChildError::SupervisorGone)))
    }
}
