//! What a tree looks like right now.

use serde::{Deserialize, Serialize};

use crate::messages::admin::ActorStatus;

/// What a child is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is being built, or waits for its turn to be.
    #[default]
    Starting,
    /// It is up.
    Running,
    /// It failed and waits to be started again.
    BackingOff,
    /// It was told to stop.
    Stopping,
    /// It ended for good.
    Stopped,
    /// It does not answer.
    Hung,
}

impl State {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing-off",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Hung => "hung",
        }
    }
}

/// A child and what is below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name under its supervisor.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Its current or last generation. A static child's is the number of times it was started; a dynamic child's
    /// may be greater, because no generation is used twice under a supervisor's name.
    pub generation: u64,
    /// How many times it was started again, except by an order given to itself: after a failure of its own, or of
    /// one that took it along.
    pub restarts: u64,
    /// How it ended last, if it did.
    pub last_cause: Option<String>,
    /// Its children in start order, when it is a supervisor.
    pub children: Vec<Status>,
}

/// The one place where the library meets the application it lives in.
impl From<Status> for ActorStatus {
    fn from(status: Status) -> Self {
        let Status { name, state, generation, restarts, last_cause, children } = status;
        let children = children.into_iter().map(Self::from).collect();
        Self { name, state: state.as_str().to_owned(), generation, restarts, last_cause, children }
    }
}
