//! What may stand in a frame between two processes. `docs/wire.md` describes every byte.

use serde::{Deserialize, Serialize};

use super::client::{Request, Response};
use crate::logic::ids::NodeId;
use crate::logic::raft::message::Envelope;

/// Version of the protocol. A node speaks with nodes and clients of the same version only.
pub const PROTOCOL_VERSION: u32 = 1;

/// The contents of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packet {
    /// First frame of the side that dialled.
    Hello(Hello),
    /// First frame of the side that accepted.
    Welcome(Welcome),
    /// The sender finds fault with the other side, or stops; the connection is closed after it.
    Goodbye {
        /// Why, in a sentence.
        reason: String,
        /// The other side is a node that shows another data directory than before.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        new_store: bool,
    },
    /// Are you alive?
    Ping(u64),
    /// I am; echo of the ping's number.
    Pong(u64),
    /// Client to node.
    Request(Request),
    /// Node to client.
    Response(Response),
    /// Node to node.
    Raft(Envelope),
}

/// Who dials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// The cluster it belongs to. A client may leave it empty.
    #[serde(default)]
    pub cluster: String,
    /// The node that dials; `None` for a client.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// Identity of the dialling node's data directory, drawn when it was created; 0 for a client.
    #[serde(default)]
    pub store: u64,
}

/// Who accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// Identity of its data directory.
    pub store: u64,
    /// Addresses of all nodes of the cluster, for clients that know only one.
    #[serde(default)]
    pub nodes: Vec<(NodeId, String)>,
}

impl From<Envelope> for Packet {
    fn from(envelope: Envelope) -> Self {
        Packet::Raft(envelope)
    }
}

impl From<Request> for Packet {
    fn from(request: Request) -> Self {
        Packet::Request(request)
    }
}

impl From<Response> for Packet {
    fn from(response: Response) -> Self {
        Packet::Response(response)
    }
}
