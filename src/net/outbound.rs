//! The queue in front of a connection's writer: bounded by packets and by bytes, filled from any thread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use thiserror::Error;
use tokio::sync::Notify;

use super::settings::NetSettings;
use crate::logic::kv::command::Reply;
use crate::messages::client::{Answer, Response, ServerError};
use crate::messages::wire::Packet;

/// Bytes that are counted for an answer that says no more than [`ServerError::Busy`].
const BUSY_COST: usize = 128;

/// Why something was not taken for sending. Nothing of it will be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The queue, or the actor's mailbox, is full.
    #[error("the queue is full")]
    Full,
    /// The connection or actor is gone for good.
    #[error("the receiver is gone")]
    Closed,
    /// Raft traffic for a peer that is not connected at the moment; it would be stale later.
    #[error("the peer is not connected")]
    Down,
    /// The packet would not fit in a frame.
    #[error("the message is larger than a frame may be")]
    TooLarge,
    /// Nobody is known at the address.
    #[error("nobody is known at that address")]
    NoRoute,
}

/// What has happened at a queue so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboundStats {
    /// Packets waiting or being written.
    pub waiting: usize,
    /// Bytes of those, by [`Packet::cost`].
    pub waiting_bytes: usize,
    /// Packets taken since the beginning.
    pub accepted: u64,
    /// Packets refused because of a full queue.
    pub refused_full: u64,
    /// Raft packets lost because the peer was not connected.
    pub lost_down: u64,
}

/// The sending end of a connection. Clones feed the same queue, first in first out.
#[derive(Clone)]
pub struct Outbound {
    shared: Arc<Shared>,
}

struct Shared {
    max_packets: usize,
    max_bytes: usize,
    max_frame: usize,
    state: Mutex<State>,
    /// For the writer: there is something to write.
    wake: Notify,
    /// For the connection: it must end.
    ended: Notify,
}

struct State {
    packets: VecDeque<(Packet, usize)>,
    /// Whether the writer sleeps and has to be woken.
    sleeping: bool,
    /// Raft packets are taken only while the peer is connected.
    connected: bool,
    closed: bool,
    ping: Option<u64>,
    pong: Option<u64>,
    /// A response had to be refused: the client does not read.
    overrun: bool,
    /// Responses taken since the beginning; the gate compares it with the requests it let in.
    responses: u64,
    stats: OutboundStats,
}

impl Outbound {
    /// An empty queue with the limits of `settings`. `connected`: whether there is a connection already; while
    /// there is none, Raft packets are refused as [`SendError::Down`] and all others wait.
    pub fn new(settings: &NetSettings, connected: bool) -> Self {
        let state = State {
            packets: VecDeque::new(),
            sleeping: false,
            connected,
            closed: false,
            ping: None,
            pong: None,
            overrun: false,
            responses: 0,
            stats: OutboundStats::default(),
        };
        let shared = Shared {
            max_packets: settings.queue_packets,
            max_bytes: settings.queue_bytes,
            max_frame: settings.max_frame,
            state: Mutex::new(state),
            wake: Notify::new(),
            ended: Notify::new(),
        };
        Outbound { shared: Arc::new(shared) }
    }

    /// Queues a packet. Does not block. A response that is too large for a frame is replaced by an error with the
    /// same number, so that its client is not left waiting.
    ///
    /// # Errors
    /// When the packet was not taken. After a refused response the connection is closed, because its client does
    /// not read what it asked for.
    pub fn try_send(&self, packet: impl Into<Packet>) -> Result<(), SendError> {
        let mut packet = packet.into();
        let mut cost = packet.cost();
        if cost > self.shared.max_frame {
            let Packet::Response(response) = &packet else { return Err(SendError::TooLarge) };
            packet = Packet::Response(too_large(response.id, self.shared.max_frame));
            cost = packet.cost();
        }
        let mut state = self.lock();
        let taken = state.push(packet, cost, self.shared.max_packets, self.shared.max_bytes);
        let wake = taken.is_ok() && std::mem::take(&mut state.sleeping);
        let overrun = state.overrun;
        drop(state);
        if wake {
            self.shared.wake.notify_one();
        }
        if overrun {
            self.shared.ended.notify_one();
        }
        taken
    }

    /// Queues several packets in order. Those that were not taken are lost.
    ///
    /// # Errors
    /// The first reason for which one was not taken, as in [`Outbound::try_send`].
    pub fn try_send_all<P: Into<Packet>>(
        &self,
        packets: impl IntoIterator<Item = P>,
    ) -> Result<(), SendError> {
        let mut outcome = Ok(());
        for packet in packets {
            outcome = outcome.and(self.try_send(packet));
        }
        outcome
    }

    /// Closes the queue: what waits is dropped, later packets are refused as [`SendError::Closed`].
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.packets.clear();
        state.stats.waiting = 0;
        state.stats.waiting_bytes = 0;
        drop(state);
        self.shared.ended.notify_one();
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// What has happened so far.
    pub fn stats(&self) -> OutboundStats {
        self.lock().stats
    }

    /// Responses taken since the beginning.
    pub(super) fn responses(&self) -> u64 {
        self.lock().responses
    }

    /// Asks the peer whether it lives. Only the youngest question is kept, and it overtakes what waits.
    pub(super) fn ping(&self, number: u64) {
        self.control(|state| state.ping = Some(number));
    }

    /// Answers the peer's ping, as above.
    pub(super) fn pong(&self, number: u64) {
        self.control(|state| state.pong = Some(number));
    }

    fn control(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.sleeping = false;
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Declares the peer connected or not. Raft packets that waited from before are dropped: they are stale.
    pub(super) fn set_connected(&self, connected: bool) {
        let mut state = self.lock();
        state.connected = connected;
        (state.ping, state.pong) = (None, None);
        let State { packets, stats, .. } = &mut *state;
        packets.retain(|(packet, cost)| {
            let stale = matches!(packet, Packet::Raft(_));
            if stale {
                stats.lost_down += 1;
                stats.waiting -= 1;
                stats.waiting_bytes -= cost;
            }
            !stale
        });
    }

    /// Waits until the connection must end, and says why.
    pub(super) async fn ended(&self) -> EndOfQueue {
        loop {
            {
                let state = self.lock();
                if state.closed {
                    return EndOfQueue::Closed;
                }
                if state.overrun {
                    return EndOfQueue::Overrun;
                }
            }
            self.shared.ended.notified().await;
        }
    }

    /// Waits for packets and moves all of them into `batch`, which must be empty. They count as waiting until
    /// [`Outbound::written`]. Safe to cancel.
    pub(super) async fn next_batch(&self, batch: &mut VecDeque<(Packet, usize)>) {
        assert!(batch.is_empty(), "the previous batch must be finished first");
        while !self.take_batch(batch) {
            self.shared.wake.notified().await;
        }
    }

    fn take_batch(&self, batch: &mut VecDeque<(Packet, usize)>) -> bool {
        let mut state = self.lock();
        std::mem::swap(&mut state.packets, batch);
        if let Some(number) = state.ping.take() {
            batch.push_front((Packet::Ping(number), 0));
        }
        if let Some(number) = state.pong.take() {
            batch.push_front((Packet::Pong(number), 0));
        }
        state.sleeping = batch.is_empty();
        !state.sleeping
    }

    /// So many packets and bytes have left (or were lost) and make room.
    pub(super) fn written(&self, packets: usize, bytes: usize) {
        let mut state = self.lock();
        state.stats.waiting = state.stats.waiting.saturating_sub(packets);
        state.stats.waiting_bytes = state.stats.waiting_bytes.saturating_sub(bytes);
    }

    /// Puts the unwritten rest of a batch back in front, for the next connection.
    pub(super) fn give_back(&self, mut rest: VecDeque<(Packet, usize)>) {
        let mut state = self.lock();
        rest.retain(|(_, cost)| *cost > 0);
        if !state.closed {
            rest.append(&mut state.packets);
            state.packets = rest;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves counters at worst one packet off; the queue itself stays usable.
        self.shared.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn push(
        &mut self,
        mut packet: Packet,
        mut cost: usize,
        max_packets: usize,
        mut max_bytes: usize,
    ) -> Result<(), SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        if !self.connected && matches!(packet, Packet::Raft(_)) {
            self.stats.lost_down += 1;
            return Err(SendError::Down);
        }
        let response = matches!(packet, Packet::Response(_));
        if self.stats.waiting_bytes + cost > max_bytes
            && let Some(busy) = instead(&packet)
        {
            (packet, cost) = (busy, BUSY_COST);
            max_bytes = max_bytes.saturating_add(max_packets.saturating_mul(BUSY_COST));
        }
        if self.stats.waiting >= max_packets || self.stats.waiting_bytes + cost > max_bytes {
            self.stats.refused_full += 1;
            self.overrun |= response;
            return Err(SendError::Full);
        }
        self.responses += u64::from(response);
        self.stats.waiting += 1;
        self.stats.waiting_bytes += cost;
        self.stats.accepted += 1;
        self.packets.push_back((packet, cost));
        Ok(())
    }
}

/// Why the connection of a queue must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndOfQueue {
    /// It was closed.
    Closed,
    /// A response did not fit any more.
    Overrun,
}

/// What is said instead of an answer that may as well be asked for again, the content of the store, when there is no
/// room for it. Disconnected, a client that reads as fast as its network can would ask for all of it again.
fn instead(packet: &Packet) -> Option<Packet> {
    match packet {
        Packet::Response(Response {
            id,
            result: Ok(Answer::Kv(Reply::Value { .. } | Reply::Pairs { .. })),
        }) => {
            let result = Err(ServerError::Busy { limit: "queue_bytes".to_owned() });
            Some(Packet::Response(Response { id: *id, result }))
        }
        _ => None,
    }
}

fn too_large(id: u64, limit: usize) -> Response {
    let text = format!("the answer would not fit in a frame of {limit} bytes; ask for less at once");
    Response { id, result: Err(ServerError::Invalid(text)) }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
