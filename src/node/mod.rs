//! Composition: configuration, putting a node together, running node processes, logging.

pub mod client;
pub mod config;
pub mod exit;
pub mod identity;
pub mod launcher;
pub mod logging;

use crate::logic::ids::NodeId;
use config::Config;
use exit::Failure;

// SEAM: the assembly of a node takes this place: `mod assembly; pub use assembly::run_node;`, with this signature.
/// Runs a node in this process until it is told to end (SIGINT or SIGTERM); returns the exit code of the process.
/// The logger is installed before.
///
/// # Errors
/// When the node cannot be started.
pub fn run_node(_config: &Config, node: NodeId) -> Result<i32, Failure> {
    Err(Failure::internal(format!("{node} cannot run: nodes are not assembled yet")))
}
