//! The life of an accepted connection, from its first byte to its last.

use std::sync::Arc;

use super::connection::Disconnect;
use super::faults::LinkFaults;
use super::gate::Gate;
use super::handshake::Acquaintance;
use super::listener::Accepted;
use super::opening::{OpenError, accept};
use super::outbound::Outbound;
use super::quiet::QuietLog;
use super::router::Router;
use super::settings::NetSettings;

/// Performs the handshake, lets packets in through a [`Gate`] and sends the answers, until the connection ends.
/// `known` judges nodes that dial. Dropping the future closes the connection.
///
/// # Errors
/// When the handshake failed; that is in the log already.
pub async fn serve(
    accepted: Accepted,
    router: Arc<Router>,
    known: Acquaintance<'_>,
    settings: &NetSettings,
    log: &QuietLog,
) -> Result<Disconnect, OpenError> {
    let Accepted { stream, crowded, permit } = accepted;
    let connection = accept(stream, router.me(), router.nodes(), known, crowded, settings, log).await?;
    let (peer, remote) = (connection.peer(), connection.remote().to_owned());
    tracing::debug!(%peer, %remote, "connected");
    let outbound = Outbound::new(settings, true);
    let _closing = Closing(&outbound);
    let mut gate = Gate::new(router.clone(), peer, outbound.clone(), settings.max_in_flight);
    let end = connection.run(&outbound, &LinkFaults::default(), |packets| gate.receive(packets)).await;
    drop(permit);
    match &end {
        Disconnect::Closed | Disconnect::Stopped | Disconnect::Goodbye(_) => {
            tracing::debug!(%peer, %remote, %end, "disconnected");
        }
        fault => {
            if let Some(repeats) = log.admit(&fault.to_string()) {
                tracing::warn!(%peer, %remote, reason = %fault, repeats, "connection ended");
            }
        }
    }
    Ok(end)
}

/// Closes the queue, also when the future is dropped: whoever still holds it learns that nobody reads.
struct Closing<'a>(&'a Outbound);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
