//! What a caller asks of the clerk.

use std::time::Duration;

use super::error::ClerkError;
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::kv::command::{Command, Query};
use crate::messages::admin::AdminRequest;
use crate::messages::client::{Answer, Consistency};
use crate::messages::mapreduce::MapReduceRequest;

/// Names a call between the clerk and its user, who chooses it; echoed with the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What a call ends in.
pub type Outcome = Result<Answer, ClerkError>;

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Name of the call, unique among those under way.
    pub id: CallId,
    /// The group that is asked.
    pub group: GroupId,
    /// What is asked.
    pub op: Op,
    /// Give up after this long; `None`: never.
    pub deadline: Option<Duration>,
}

/// What a call asks for.
#[derive(Clone, Debug)]
pub enum Op {
    /// Change something. `CloseSession` ends the clerk's session, if there is one; it is meant for the end, when
    /// nothing else is under way. The other session commands and `Advance` are refused: they are the clerk's and the
    /// leader's own.
    Write(Command),
    /// Ask something.
    Read {
        /// The question.
        query: Query,
        /// How fresh the answer must be.
        consistency: Consistency,
        /// For a stale read: the node that is asked; `None`: any.
        node: Option<NodeId>,
    },
    /// Ask or tell a node itself.
    Admin {
        /// The question or order.
        request: AdminRequest,
        /// Which node; `None`: any, or for a transfer the leader of the call's group.
        node: Option<NodeId>,
    },
    /// Ask or tell the coordinator of jobs, which sits at the group's leader. All of it may be repeated without harm.
    MapReduce(MapReduceRequest),
}

/// Where a call has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// To the group's leader.
    Leader,
    /// To this node, and to no other.
    Node(NodeId),
    /// To any node.
    Any,
}

impl Op {
    /// Where it has to go.
    pub(super) fn lane(&self) -> Lane {
        match self {
            Op::Write(_) => Lane::Leader,
            Op::Read { consistency: Consistency::Stale, node, .. } => node.map_or(Lane::Any, Lane::Node),
            Op::Read { .. } => Lane::Leader,
            Op::Admin { node: Some(node), .. } => Lane::Node(*node),
            Op::Admin { request: AdminRequest::TransferLeader { .. }, .. } => Lane::Leader,
            Op::Admin { .. } => Lane::Any,
            Op::MapReduce(_) => Lane::Leader,
        }
    }

    /// For how long the server may keep the question before it answers.
    pub(super) fn kept(&self) -> Duration {
        match self {
            Op::Read { query: Query::Turn { wait_ms, .. }, .. } => Duration::from_millis((*wait_ms).into()),
            _ => Duration::ZERO,
        }
    }

    /// Whether it may change anything.
    pub fn has_effect(&self) -> bool {
        match self {
            Op::Write(_) => true,
            Op::Read { .. } => false,
            Op::MapReduce(request) => request.has_effect(),
            Op::Admin { request, .. } => !matches!(request, AdminRequest::Status | AdminRequest::Tree),
        }
    }

    /// What is wrong with it as the request of a caller, if anything is.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self {
            Op::Write(Command::OpenSession | Command::OpenSessionAs { .. } | Command::KeepAlive) => {
                Some("sessions are the clerk's own affair")
            }
            Op::MapReduce(request) if request.is_for_worker() => Some("a worker is asked directly"),
            Op::Write(Command::Advance) => Some("`Advance` is the leader's own command"),
            _ => None,
        }
    }
}
