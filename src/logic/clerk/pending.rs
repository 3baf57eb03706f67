//! The calls under way.

use std::time::Duration;

use super::call::{CallId, Op};
use super::endpoints::EndpointId;
use crate::logic::ids::GroupId;
use crate::logic::kv::command::SessionId;

/// For whom a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A caller.
    Caller(CallId),
    /// The clerk, to open a session.
    Open,
    /// The clerk, to keep a session.
    KeepAlive,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Waits for a place in a session.
    Unstamped,
    /// Waits for somebody to send it to.
    Ready,
    /// Sent, and not answered.
    Sent { to: EndpointId, at: Duration },
    /// Waits for its time.
    Pausing { until: Duration },
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) owner: Owner,
    pub(super) group: GroupId,
    pub(super) op: Op,
    /// When it is given up.
    pub(super) deadline: Option<Duration>,
    pub(super) state: State,
    /// For how long the server may keep the attempt under way before it answers.
    pub(super) kept: Duration,
    /// How often it was sent. Stays at its maximum, where an old attempt can no longer be told from the newest.
    pub(super) attempts: u16,
    /// Whether an earlier attempt may have been carried out.
    pub(super) unknown: bool,
    /// Its session and number there, once it has them.
    pub(super) stamp: Option<(SessionId, u64)>,
    /// Pauses taken because of this call itself.
    pub(super) pauses: u32,
    /// Nodes that did not host the group, in a row.
    pub(super) strangers: usize,
    /// What stood in the way last.
    pub(super) obstacle: Obstacle,
}

/// What stood in the way of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Nothing yet.
    None,
    /// The node was not the leader.
    NotLeader(EndpointId),
    /// The node was at a limit.
    Busy(String),
    /// Leadership was lost meanwhile.
    Deposed(EndpointId),
    /// The link broke.
    LinkLost(EndpointId),
    /// No answer in time.
    Silence(EndpointId),
}

impl Pending {
    pub(super) fn new(owner: Owner, group: GroupId, op: Op, deadline: Option<Duration>) -> Self {
        Pending {
            owner,
            group,
            op,
            deadline,
            state: State::Ready,
            kept: Duration::ZERO,
            attempts: 0,
            unknown: false,
            stamp: None,
            pauses: 0,
            strangers: 0,
            obstacle: Obstacle::None,
        }
    }

    /// Whether the change may have taken effect, or may yet.
    pub(super) fn may_take_effect(&self) -> bool {
        self.op.has_effect() && (self.unknown || matches!(self.state, State::Sent { .. }))
    }

    /// When it needs attention without any other input.
    pub(super) fn due(&self, attempt_timeout: Duration) -> Option<Duration> {
        let own = match self.state {
            State::Sent { at, .. } => Some(at + attempt_timeout + self.kept),
            State::Pausing { until } => Some(until),
            State::Unstamped | State::Ready => None,
        };
        [own, self.deadline].into_iter().flatten().min()
    }
}

/// The number of a request: the call's serial number, and the attempt. So an answer to an earlier attempt is told from
/// one to the newest, and both find their call.
pub(super) fn request_id(serial: u64, attempt: u16) -> u64 {
    serial << 16 | u64::from(attempt)
}

/// The parts of a [`request_id`].
pub(super) fn parse_request_id(id: u64) -> (u64, u16) {
    (id >> 16, id as u16)
}
