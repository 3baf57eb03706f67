//! The post office.
pub mod codec;
pub mod connection;
pub mod faults;
pub mod gate;
pub mod handshake;
pub mod link;
pub mod listener;
pub mod memory;
pub mod opening;
mod outbound;
mod quiet;
mod reference;
pub mod router;
mod settings;
mod shape;
pub mod transport;
mod writer;

pub use outbound::{Outbound, OutboundStats, SendError};
pub use quiet::QuietLog;
pub use reference::{Ref, Sink, Undelivered};
pub use settings::NetSettings;
