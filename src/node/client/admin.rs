//! Questions and orders to nodes.

use std::time::Duration;

use super::{Client, misfit};
use crate::logic::clerk::{ClerkError, Op};
use crate::logic::ids::NodeId;
use crate::messages::admin::{ActorStatus, AdminReply, AdminRequest, Chaos, NodeStatus};
use crate::messages::client::Answer;

impl Client {
    /// The nodes known to this client by now: number, address, and whether there is a connection. It knows all of them
    /// once one node has answered.
    ///
    /// # Errors
    /// [`Unavailable`](ClerkError::Unavailable) when the client is just being restarted.
    pub async fn nodes(&self) -> Result<Vec<(NodeId, String, bool)>, ClerkError> {
        let timeout = self.deadline.unwrap_or(Duration::from_secs(10));
        let asked = self.life.nodes.ask(crate::actors::clerk::KnownNodes, timeout).await;
        asked.map_err(|error| ClerkError::Unavailable(format!("the client did not answer: {error}")))
    }

    /// What a node knows of itself and its groups; `None`: any node.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn status(&self, node: impl Into<Option<NodeId>>) -> Result<NodeStatus, ClerkError> {
        match self.admin(node.into(), AdminRequest::Status).await? {
            AdminReply::Status(status) => Ok(status),
            _ => Err(misfit()),
        }
    }

    /// The supervision tree of a node.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn tree(&self, node: impl Into<Option<NodeId>>) -> Result<ActorStatus, ClerkError> {
        match self.admin(node.into(), AdminRequest::Tree).await? {
            AdminReply::Tree(tree) => Ok(tree),
            _ => Err(misfit()),
        }
    }

    /// Asks the group's leader to hand its office to another voter; `None`: to the most up-to-date one. Returns when it
    /// has begun.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn transfer_leader(&self, to: impl Into<Option<NodeId>>) -> Result<(), ClerkError> {
        self.admin(None, AdminRequest::TransferLeader { to: to.into() }).await.map(drop)
    }

    /// Breaks something at a node on purpose. Sent once: if its answer is lost, it ends in
    /// [`Maybe`](ClerkError::Maybe).
    ///
    /// # Errors
    /// See [`ClerkError`]; [`Invalid`](ClerkError::Invalid) when the node does not allow it.
    pub async fn chaos(&self, node: NodeId, chaos: Chaos) -> Result<(), ClerkError> {
        self.admin(Some(node), AdminRequest::Chaos(chaos)).await.map(drop)
    }

    async fn admin(&self, node: Option<NodeId>, request: AdminRequest) -> Result<AdminReply, ClerkError> {
        match self.call(Op::Admin { request, node }).await? {
            Answer::Admin(reply) => Ok(*reply),
            Answer::Kv(_) | Answer::MapReduce(_) => Err(misfit()),
        }
    }
}
