//! Who may be spoken with.

use std::sync::Arc;

use crate::logic::ids::NodeId;
use crate::net::handshake::Judgement;

/// Judges a node by the identity of its data directory: a node that lost its data must not speak under its old name,
/// because it has forgotten what it promised.
pub type Known = Arc<dyn Fn(NodeId, u64) -> Judgement + Send + Sync>;
