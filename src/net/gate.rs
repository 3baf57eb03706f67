//! What a node lets in from an accepted connection: nothing is believed before it has passed here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::handshake::Peer;
use super::outbound::Outbound;
use super::reference::Ref;
use super::router::{Ask, Router};
use crate::logic::ids::NodeId;
use crate::logic::raft::message::Envelope;
use crate::messages::client::{Request, Response, ServerError};
use crate::messages::wire::Packet;

/// When a connection is at its limit and not one response has come for so long, the open requests count as lost:
/// an actor that was restarted in between does not answer for its former life.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Checks the packets of one accepted connection and hands them to the router.
#[derive(Debug)]
pub struct Gate {
    router: Arc<Router>,
    peer: Peer,
    outbound: Outbound,
    max_in_flight: u64,
    /// Requests let in so far.
    asked: u64,
    /// Requests that the gate itself has answered.
    refused: u64,
    /// Responses to requests let in, when it was last looked.
    answered: u64,
    /// When that number had last grown.
    progress: Instant,
}

impl Gate {
    /// A gate for a connection to `peer`, whose responses go to `outbound`.
    pub fn new(router: Arc<Router>, peer: Peer, outbound: Outbound, max_in_flight: usize) -> Self {
        Gate {
            router,
            peer,
            outbound,
            max_in_flight: max_in_flight as u64,
            asked: 0,
            refused: 0,
            answered: 0,
            progress: Instant::now(),
        }
    }

    /// Passes a batch on; the sink of [`super::connection::Connection::run`].
    ///
    /// # Errors
    /// When the other side does what it may not; the text says what, and the connection must be closed.
    pub fn receive(&mut self, packets: Vec<Packet>) -> Result<(), String> {
        let mut envelopes = Vec::new();
        let mut asks = Vec::with_capacity(if self.peer == Peer::Client { packets.len() } else { 0 });
        for packet in packets {
            match packet {
                Packet::Raft(envelope) => envelopes.push(self.check_envelope(envelope)?),
                Packet::Request(request) => asks.extend(self.admit(request)),
                Packet::Response(_) => return Err("a response, but nothing was asked".to_owned()),
                Packet::Hello(_)
                | Packet::Welcome(_)
                | Packet::Goodbye { .. }
                | Packet::Ping(_)
                | Packet::Pong(_) => {
                    unreachable!("the connection keeps its own conversation to itself")
                }
            }
        }
        self.router.deliver_raft(envelopes);
        self.router.deliver_asks(asks);
        Ok(())
    }

    /// A node may speak for itself only, and to this node only.
    fn check_envelope(&self, envelope: Envelope) -> Result<Envelope, String> {
        let me: NodeId = self.router.me().node;
        match self.peer {
            Peer::Client => Err("a client may not send Raft messages".to_owned()),
            Peer::Node { node, .. } if envelope.from != node => {
                Err(format!("{node} sent a Raft message in the name of {}", envelope.from))
            }
            Peer::Node { node, .. } if envelope.to != me => {
                Err(format!("{node} sent a Raft message for {} to {me}", envelope.to))
            }
            Peer::Node { .. } => Ok(envelope),
        }
    }

    /// Lets a request in, or answers that there are too many.
    fn admit(&mut self, request: Request) -> Option<Ask> {
        let full = self.in_flight() >= self.max_in_flight && self.still_full();
        if full {
            let error = ServerError::Busy { limit: "max_requests_per_connection".to_owned() };
            let response = Response { id: request.id, result: Err(error) };
            // A queue that is full of unread responses ends the connection by itself.
            self.refused += u64::from(self.outbound.try_send(response).is_ok());
            return None;
        }
        self.asked += 1;
        Some(Ask { request, reply: Ref::Remote(self.outbound.clone()) })
    }

    /// Requests without a response. Late responses to forgotten requests may outnumber the requests.
    fn in_flight(&self) -> u64 {
        self.asked.saturating_sub(self.answered)
    }

    /// Counts the responses anew.
    fn still_full(&mut self) -> bool {
        let answered = self.outbound.responses().saturating_sub(self.refused);
        if answered > self.answered {
            self.answered = answered;
            self.progress = Instant::now();
        } else if self.progress.elapsed() >= FORGOTTEN_AFTER {
            self.asked = answered;
            self.answered = answered;
        }
        self.in_flight() >= self.max_in_flight
    }
}
