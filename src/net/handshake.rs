//! Who may speak with whom: the judgement over the first frame of each side. Pure.
//!
//! ```text
//! dialler                      acceptor
//!    | -- Hello ----------------> |   judge_hello, judge_store
//!    | <------------ Welcome ---- |   or Goodbye with the reason
//!    |   judge_welcome,           |
//!    |   judge_store              |
//!    | -- Goodbye (if refused) -> |
//! ```

use std::pin::Pin;

use thiserror::Error;

use crate::logic::ids::NodeId;
use crate::messages::wire::{Hello, PROTOCOL_VERSION, Welcome};

/// Longest first frame that an acceptor reads, in bytes: before it knows who speaks, it spends little.
pub const MAX_HELLO: usize = 4 << 10;

/// Longest first frame that a dialler reads, in bytes: the welcome lists the addresses of all nodes.
pub const MAX_WELCOME: usize = 64 << 10;

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// Identity of its data directory.
    pub store: u64,
}

impl Identity {
    /// How this node introduces itself when it dials.
    pub fn hello(&self) -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            cluster: self.cluster.clone(),
            node: Some(self.node),
            store: self.store,
        }
    }

    /// How it answers when it is dialled. `nodes`: the addresses of all nodes of the cluster.
    pub fn welcome(&self, nodes: Vec<(NodeId, String)>) -> Welcome {
        Welcome {
            version: PROTOCOL_VERSION,
            cluster: self.cluster.clone(),
            node: self.node,
            store: self.store,
            nodes,
        }
    }
}

/// How a client introduces itself. An empty `cluster` accepts any.
pub fn client_hello(cluster: &str) -> Hello {
    Hello { version: PROTOCOL_VERSION, cluster: cluster.to_owned(), node: None, store: 0 }
}

/// Who is on the other side of a connection, after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client.
    Client,
    /// A node of the cluster.
    Node {
        /// Which.
        node: NodeId,
        /// Identity of its data directory.
        store: u64,
    },
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Client => write!(f, "client"),
            Peer::Node { node, .. } => write!(f, "{node}"),
        }
    }
}

/// Why a handshake was refused. The text goes to the other side and to the log, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The other side speaks another version.
    #[error(
        "protocol version {theirs} was offered, {ours} is spoken here: run the same release on both sides"
    )]
    Version {
        /// The version offered.
        theirs: u32,
        /// The version of this program.
        ours: u32,
    },
    /// The other side belongs elsewhere.
    #[error(
        "cluster `{theirs}` was named, this is cluster `{ours}`: \
         check the address and `cluster.id` in the configuration"
    )]
    Cluster {
        /// The cluster named.
        theirs: String,
        /// The cluster here.
        ours: String,
    },
    /// Somebody else lives at the address that was dialled.
    #[error(
        "{expected} was expected at this address, but {actual} answered: check the addresses in the configuration"
    )]
    WrongNode {
        /// Who was dialled.
        expected: NodeId,
        /// Who answered.
        actual: NodeId,
    },
    /// A node dials that nobody has told us of.
    #[error("{node} is none of the nodes of this cluster, whose members cannot be changed yet")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// The other side bears our own number.
    #[error("{node} is the number of both sides: give each node its own")]
    SameNode {
        /// The number.
        node: NodeId,
    },
    /// The node comes back with another data directory.
    #[error(
        "{node} shows another data directory ({actual:016x}) than before ({known:016x}), so it has forgotten its votes \
         and what it acknowledged: bring the old one back. If that is lost: when all others run and none lags, delete \
         the line of {node} in `peers.toml` in the data directory of each of them, and restart them one by one"
    )]
    Store {
        /// The node.
        node: NodeId,
        /// Identity of the data directory that it had.
        known: u64,
        /// The one that it has now.
        actual: u64,
    },
    /// The node is at its limit of connections.
    #[error("all {limit} connections are in use: close some, or raise `limits.max_connections`")]
    TooManyConnections {
        /// The limit.
        limit: usize,
    },
    /// The first frame is not what belongs there.
    #[error("the first frame must be {expected}: is this the right port?")]
    Unexpected {
        /// What belongs there.
        expected: &'static str,
    },
}

/// Whether a node may be spoken with. To say so may take a while, because it is remembered.
pub type Judgement = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// Judges a node by its number and its data directory; must not block.
pub type Acquaintance<'a> = &'a (dyn Fn(NodeId, u64) -> Judgement + Send + Sync);

/// A judgement that is known at once.
pub fn at_once(judgement: Result<(), Refusal>) -> Judgement {
    Box::pin(std::future::ready(judgement))
}

/// The [`Acquaintance`] of clients: any node may be spoken with.
pub fn anybody(_: NodeId, _: u64) -> Judgement {
    at_once(Ok(()))
}

/// The judgement over the data directory, which comes last.
///
/// # Errors
/// The reason to refuse.
pub async fn judge_store(peer: Peer, known: Acquaintance<'_>) -> Result<Peer, Refusal> {
    if let Peer::Node { node, store } = peer {
        known(node, store).await?;
    }
    Ok(peer)
}

/// The acceptor's judgement, but for [`judge_store`].
///
/// # Errors
/// The reason to refuse.
pub fn judge_hello(me: &Identity, hello: &Hello) -> Result<Peer, Refusal> {
    same_version(hello.version)?;
    match hello.node {
        None if hello.cluster.is_empty() => Ok(Peer::Client),
        None => same_cluster(&me.cluster, &hello.cluster).map(|()| Peer::Client),
        Some(node) => {
            same_cluster(&me.cluster, &hello.cluster)?;
            if node == me.node {
                return Err(Refusal::SameNode { node });
            }
            Ok(Peer::Node { node, store: hello.store })
        }
    }
}

/// The dialler's judgement, but for [`judge_store`]. `hello` is what it said itself, `expected` whom it wanted to
/// reach, if anybody.
///
/// # Errors
/// The reason to refuse.
pub fn judge_welcome(hello: &Hello, expected: Option<NodeId>, welcome: &Welcome) -> Result<Peer, Refusal> {
    same_version(welcome.version)?;
    if hello.node.is_some() || !hello.cluster.is_empty() {
        same_cluster(&hello.cluster, &welcome.cluster)?;
    }
    let actual = welcome.node;
    match expected {
        Some(expected) if expected != actual => return Err(Refusal::WrongNode { expected, actual }),
        _ => {}
    }
    Ok(Peer::Node { node: actual, store: welcome.store })
}

fn same_version(theirs: u32) -> Result<(), Refusal> {
    let ours = PROTOCOL_VERSION;
    if theirs == ours { Ok(()) } else { Err(Refusal::Version { theirs, ours }) }
}

fn same_cluster(ours: &str, theirs: &str) -> Result<(), Refusal> {
    if ours == theirs {
        return Ok(());
    }
    Err(Refusal::Cluster { theirs: printable(theirs), ours: ours.to_owned() })
}

/// Text of the other side, made fit for a log: on one line, without control characters, not too long.
pub(super) fn printable(text: &str) -> String {
    const LONGEST: usize = 512;
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}
