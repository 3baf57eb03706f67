//! The lab's network. A call is a request and its replies; what becomes of each is drawn from the seed.
//!
//! | | |
//! |---|---|
//! | switched off | the call fails after 0 to 6999 ms |
//! | unreliable | 0 to 26 ms late; one request in ten is lost, and one reply in ten: the call fails at once |
//! | long reordering | two replies in three are 200 to 2199 ms late |
//!
//! The core sends messages, not calls, and may answer one append twice (once that it leads, once that the entries are
//! durable). Each of its replies has the fate of a reply, and each failure of a call is told to the caller as
//! [`PeerUnreachable`](quorate::logic::raft::Input::PeerUnreachable), which is what a broken link means to it.

use std::time::Duration;

use fastrand::Rng;
use quorate::logic::raft::message::{Envelope, Message};
use serde::Serialize;

use crate::world::server;

/// What becomes of a message.
pub enum Fate {
    Arrives { after: Duration },
    Fails { after: Duration },
}

/// See the module.
pub struct Network {
    pub connected: Vec<bool>,
    pub reliable: bool,
    pub long_reordering: bool,
    /// Requests that were handed to a server.
    pub handled: u64,
    /// Bytes of all requests that were attempted, and of all replies that arrived, as on the wire.
    pub bytes: u64,
}

impl Network {
    pub fn new(servers: usize) -> Self {
        Network {
            connected: vec![true; servers],
            reliable: true,
            long_reordering: false,
            handled: 0,
            bytes: 0,
        }
    }

    pub fn is_request(body: &Message) -> bool {
        match body {
            Message::RequestVote { .. }
            | Message::Append { .. }
            | Message::SnapshotChunk { .. }
            | Message::TimeoutNow => true,
            Message::VoteReply { .. } | Message::AppendReply { .. } | Message::SnapshotReply { .. } => false,
        }
    }

    /// Decides over a message that is sent now. `is_up`: whether the process it is sent to lives.
    pub fn fate(&mut self, rng: &mut Rng, envelope: &Envelope, is_up: bool) -> Fate {
        let is_request = Network::is_request(&envelope.body);
        if is_request {
            self.bytes += size(envelope);
        }
        let is_linked = self.connected[server(envelope.from)] && self.connected[server(envelope.to)] && is_up;
        let mut after = Duration::from_micros(rng.u64(30..300));
        match (is_request, is_linked) {
            (true, false) => Fate::Fails { after: Duration::from_millis(rng.u64(0..7000)) },
            (false, false) => Fate::Fails { after: Duration::ZERO },
            (true, true) => {
                if !self.reliable {
                    after += Duration::from_micros(rng.u64(0..27_000));
                }
                if self.loses(rng) { Fate::Fails { after } } else { Fate::Arrives { after } }
            }
            (false, true) => {
                if self.loses(rng) {
                    return Fate::Fails { after };
                }
                if self.long_reordering && rng.u16(0..900) < 600 {
                    let bound = rng.u64(0..2000);
                    after += Duration::from_millis(200 + rng.u64(0..=bound));
                }
                Fate::Arrives { after }
            }
        }
    }

    fn loses(&self, rng: &mut Rng) -> bool {
        !self.reliable && rng.u16(0..1000) < 100
    }

    /// Counts what a server is given.
    pub fn arrived(&mut self, envelope: &Envelope) {
        if Network::is_request(&envelope.body) {
            self.handled += 1;
        } else {
            self.bytes += size(envelope);
        }
    }
}

/// Bytes of a message on the wire.
fn size(message: &impl Serialize) -> u64 {
    struct Counter(u64);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    let mut serializer = rmp_serde::Serializer::new(&mut counter).with_struct_map();
    message.serialize(&mut serializer).expect("a message can be encoded");
    counter.0
}
