//! Clerk and KV server: requests and responses, correlated by number.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::admin::{AdminReply, AdminRequest};
use super::mapreduce::{MapReduceReply, MapReduceRequest};
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::kv::command::{Command, KvError, Query, Reply, Stamp};

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the client, unique among its requests on this connection; echoed by the response.
    pub id: u64,
    /// The group that is asked.
    pub group: GroupId,
    /// What is asked.
    pub body: RequestBody,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestBody {
    /// Change something.
    Write {
        /// Place in the session; `None` for a stateless client.
        #[serde(default)]
        stamp: Option<Stamp>,
        /// What to do. `Advance` is refused: it is the leader's own.
        command: Command,
    },
    /// Ask something.
    Read {
        /// The question.
        query: Query,
        /// How fresh the answer must be.
        #[serde(default)]
        consistency: Consistency,
    },
    /// Ask or tell the node itself.
    Admin(AdminRequest),
    /// Jobs: asked of their coordinator at the group's leader, or of a worker.
    MapReduce(MapReduceRequest),
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Reflects every write that was acknowledged before the read began (ReadIndex, dissertation section 6.4).
    #[default]
    Linearizable,
    /// The same as long as clocks run at about the same speed: answered from the leader's lease (section 6.4.1).
    Lease,
    /// Whatever the asked node has applied, however old.
    Stale,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Echo of the request's number.
    pub id: u64,
    /// The answer.
    pub result: Result<Answer, ServerError>,
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To a write or read.
    Kv(Reply),
    /// To an admin request.
    Admin(Box<AdminReply>),
    /// To a request about jobs.
    MapReduce(MapReduceReply),
}

/// Why there is no good answer; sorted by what the client does next.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ServerError {
    /// Final: the request was understood and refused.
    #[error(transparent)]
    Refused(KvError),
    /// Surely not executed: ask the leader, if it is named.
    #[error("this node does not lead the group")]
    NotLeader {
        /// Who is believed to lead.
        leader: Option<NodeId>,
    },
    /// Surely not executed: the server is at a limit; try again a little later.
    #[error("the server is at its limit of {limit}; try again later")]
    Busy {
        /// Name of the limit.
        limit: String,
    },
    /// Leadership was lost while the command was under way: it may or may not take effect.
    /// With a session, retry: it takes effect once. Without one, report `Maybe`.
    #[error("leadership was lost while the command was under way")]
    Unknown,
    /// Surely not executed: the node does not host that group.
    #[error("the node does not host that group")]
    NoSuchGroup,
    /// Final: the request makes no sense (malformed, or not allowed here).
    #[error("{0}")]
    Invalid(String),
}
