//! Running one node as a process.

use std::pin::pin;

use actix::System;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::assembly::{Node, STOP_TIMEOUT};
use super::config::Config;
use super::exit::Failure;
use crate::actors::supervision::install_panic_hook;
use crate::logic::ids::NodeId;
use crate::mapreduce::task::{allow_more_open_files, give_back_memory};
use crate::net::transport::TcpTransport;

/// Runs node `id` until it is told to stop (SIGTERM, SIGINT) or cannot go on.
///
/// # Errors
/// Why it did not start, or could not go on; the exit code is in it.
pub fn run(config: &Config, id: NodeId) -> Result<(), Failure> {
    install_panic_hook();
    allow_more_open_files();
    if config.mapreduce.enabled {
        give_back_memory();
    }
    System::new().block_on(async {
        // Before anything is begun: a signal that comes early would end the process at once.
        let mut told = pin!(told_to_stop()?);
        let mut node = tokio::select! {
            biased;
            () = &mut told => return Ok(()),
            started = Node::start(config, id, TcpTransport::shared()) => started?,
        };
        tracing::info!(node = id.0, version = env!("CARGO_PKG_VERSION"), "node is up");
        let outcome = tokio::select! {
            failure = node.failed() => Err(failure),
            () = &mut told => Ok(()),
        };
        if timeout(STOP_TIMEOUT, node.stop()).await.is_err() {
            tracing::warn!(
                "the node did not stop in order within {STOP_TIMEOUT:?}; what is acknowledged is on disk"
            );
        }
        outcome
    })
}

/// Listens to the signals that tell a process to stop, from now on; what is returned yields when one comes.
pub(super) fn told_to_stop() -> Result<impl Future<Output = ()>, Failure> {
    let no_signals = |error: std::io::Error| Failure::internal(format!("cannot listen to signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}
