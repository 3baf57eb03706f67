//! The dialling side of a pair of nodes: keeps one connection to a peer, for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connection::Disconnect;
use super::faults::LinkFaults;
use super::handshake::{Acquaintance, Peer};
use super::opening::{OpenError, dial};
use super::outbound::Outbound;
use super::quiet::QuietLog;
use super::settings::NetSettings;
use super::transport::Transport;
use crate::logic::ids::NodeId;
use crate::messages::wire::{Hello, Packet};

/// What a link tells its owner.
#[derive(Debug)]
pub enum LinkEvent {
    /// The peer is connected. What was queued for it as Raft traffic before is gone.
    Up {
        /// The peer.
        node: NodeId,
        /// Identity of its data directory.
        store: u64,
    },
    /// The peer is not connected any more; the link redials.
    Down {
        /// Why.
        reason: Disconnect,
    },
    /// The peer could not be reached, or one side refused the other; the link tries again.
    Failed {
        /// Why.
        reason: OpenError,
    },
    /// Packets of the peer, in order. A peer speaks on its own link, so this is rarely used.
    Packets(Vec<Packet>),
}

/// A link to a peer node. Each node has one to each other node, and sends its own Raft traffic over it; the peer's
/// comes in over the peer's link.
pub struct Link {
    /// The peer.
    pub to: NodeId,
    /// Where it lives.
    pub address: String,
    /// How this node introduces itself.
    pub hello: Hello,
    /// What carries the bytes.
    pub transport: Arc<dyn Transport>,
    /// Limits and times.
    pub settings: NetSettings,
    /// What is to be sent. It outlives connections, and the link itself when its owner starts another one with it.
    pub outbound: Outbound,
    /// Faults on purpose.
    pub faults: Arc<LinkFaults>,
    /// Seed for the pauses between attempts.
    pub seed: u64,
}

impl Link {
    /// Dials, runs the connection, and dials again, until the queue is closed or the future is dropped.
    /// `known` judges the peer's data directory; `on` is called on the current thread and must not block.
    pub async fn run(self, known: Acquaintance<'_>, mut on: impl FnMut(LinkEvent)) {
        let log = QuietLog::default();
        let mut pauses = Backoff::new(self.settings.retry_first, self.settings.retry_cap, self.seed);
        while !self.outbound.is_closed() {
            let dialled =
                dial(&*self.transport, &self.address, &self.hello, Some(self.to), known, &self.settings);
            match dialled.await {
                Ok((connection, _)) => {
                    let since = Instant::now();
                    let Peer::Node { node, store } = connection.peer() else {
                        unreachable!("a welcome comes from a node");
                    };
                    let reason = {
                        let _connected = Connected::new(&self.outbound);
                        tracing::info!(peer = %node, address = %self.address, "link is up");
                        on(LinkEvent::Up { node, store });
                        let sink = |packets| {
                            on(LinkEvent::Packets(packets));
                            Ok(())
                        };
                        connection.run(&self.outbound, &self.faults, sink).await
                    };
                    tracing::warn!(peer = %self.to, address = %self.address, %reason, "link is down");
                    on(LinkEvent::Down { reason });
                    // A peer that accepts and hangs up at once is as good as one that is not there.
                    if since.elapsed() >= self.settings.retry_cap {
                        pauses.reset();
                    }
                }
                Err(reason) => {
                    if let Some(repeats) = log.admit(&reason.to_string()) {
                        tracing::warn!(peer = %self.to, address = %self.address, %reason, repeats, "cannot link");
                    }
                    on(LinkEvent::Failed { reason });
                }
            }
            sleep(pauses.next()).await;
        }
    }
}

/// Declares the queue connected, until it is dropped with whatever runs the connection.
struct Connected<'a>(&'a Outbound);

impl<'a> Connected<'a> {
    fn new(outbound: &'a Outbound) -> Self {
        outbound.set_connected(true);
        Connected(outbound)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.set_connected(false);
    }
}

/// Exponential back-off with full jitter: each pause is drawn between zero and a bound that doubles up to a cap.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    bound: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// The first pause is at most `first`, none is longer than `cap`.
    pub fn new(first: Duration, cap: Duration, seed: u64) -> Self {
        Backoff { first, cap, bound: first, random: fastrand::Rng::with_seed(seed) }
    }

    /// The next pause.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and nobody iterates over it")]
    pub fn next(&mut self) -> Duration {
        let pause = self.bound.mul_f64(self.random.f64());
        self.bound = (self.bound * 2).min(self.cap);
        // Never zero: a link that fails at once must not keep the thread busy.
        pause.max(Duration::from_millis(1))
    }

    /// After a success: the next pause is short again.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
}
