//! One reference for an actor, wherever it lives.

use std::sync::Arc;

use super::outbound::{Outbound, SendError};
use crate::messages::wire::Packet;

/// Messages that an actor did not take, and why not.
#[derive(Debug)]
pub struct Undelivered<M> {
    /// The messages.
    pub messages: Vec<M>,
    /// Why.
    pub why: SendError,
}

/// The way into an actor of this process: takes messages in order, does not block.
pub type Sink<M> = Arc<dyn Fn(Vec<M>) -> Result<(), Undelivered<M>> + Send + Sync>;

/// A reference to an actor that takes `M`. Whoever holds it does not know whether its messages cross the network.
///
/// Messages of one sender arrive in order, at most once, perhaps never: an answer is the only proof.
pub enum Ref<M> {
    /// It lives in this process.
    Local(Sink<M>),
    /// It lives behind a connection.
    Remote(Outbound),
}

impl<M: Into<Packet>> Ref<M> {
    /// An actor of this process.
    pub fn local(sink: impl Fn(Vec<M>) -> Result<(), Undelivered<M>> + Send + Sync + 'static) -> Self {
        Ref::Local(Arc::new(sink))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When it was surely not delivered.
    pub fn tell(&self, message: M) -> Result<(), SendError> {
        match self {
            Ref::Local(sink) => sink(vec![message]).map_err(|undelivered| undelivered.why),
            Ref::Remote(outbound) => outbound.try_send(message),
        }
    }

    /// Sends messages in order; to an actor of this process, in one go.
    ///
    /// # Errors
    /// When at least one of them was surely not delivered.
    pub fn tell_all(&self, messages: Vec<M>) -> Result<(), SendError> {
        match self {
            Ref::Local(sink) => sink(messages).map_err(|undelivered| undelivered.why),
            Ref::Remote(outbound) => outbound.try_send_all(messages),
        }
    }
}

impl<M> Clone for Ref<M> {
    fn clone(&self) -> Self {
        match self {
            Ref::Local(sink) => Ref::Local(sink.clone()),
            Ref::Remote(outbound) => Ref::Remote(outbound.clone()),
        }
    }
}

impl<M> From<Outbound> for Ref<M> {
    fn from(outbound: Outbound) -> Self {
        Ref::Remote(outbound)
    }
}

impl<M> std::fmt::Debug for Ref<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ref::Local(_) => write!(f, "Ref::Local"),
            Ref::Remote(_) => write!(f, "Ref::Remote"),
        }
    }
}
