//! The limits and times of the bridge.

use std::time::Duration;

/// Limits and times of connections. `Default` is what a node uses unless its configuration says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetSettings {
    /// Longest frame in bytes, its header not counted. It must hold a snapshot chunk and a full append.
    pub max_frame: usize,
    /// How long dialling may take until the connection stands.
    pub connect_timeout: Duration,
    /// How long the handshake may take.
    pub handshake_timeout: Duration,
    /// After this long without a word from the other side, it is asked whether it lives.
    pub ping_after: Duration,
    /// After this long without a word from the other side, or without getting rid of a byte, it counts as dead.
    pub idle_timeout: Duration,
    /// Most packets that may wait to be written on one connection.
    pub queue_packets: usize,
    /// Most bytes that may wait to be written on one connection.
    pub queue_bytes: usize,
    /// Bytes after which a batch of frames is written.
    pub write_batch: usize,
    /// Longest pause before the first attempt to redial; each pause is drawn from zero to its bound (full jitter).
    pub retry_first: Duration,
    /// The bound doubles with each failure, up to this.
    pub retry_cap: Duration,
    /// Most connections that a node accepts at once.
    pub max_connections: usize,
    /// Most requests of one connection that may be unanswered at once.
    pub max_in_flight: usize,
}

impl Default for NetSettings {
    fn default() -> Self {
        NetSettings {
            max_frame: 16 << 20,
            connect_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(2),
            ping_after: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(4),
            queue_packets: 16_384,
            queue_bytes: 32 << 20,
            write_batch: 128 << 10,
            retry_first: Duration::from_millis(30),
            retry_cap: Duration::from_secs(1),
            max_connections: 1024,
            max_in_flight: 1024,
        }
    }
}
