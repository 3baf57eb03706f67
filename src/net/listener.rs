//! Accepts connections, up to a limit.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::quiet::QuietLog;
use super::settings::NetSettings;
use super::transport::{Acceptor, Stream, Transport};

/// Above the limit, so many connections more are accepted at once, only to be told that the node is full.
const REFUSABLE: usize = 64;

/// Pause after the system could not accept a connection, for example because too many files are open.
const PAUSE: Duration = Duration::from_millis(50);

/// A bound address.
pub struct Listener {
    acceptor: Box<dyn Acceptor>,
    max_connections: usize,
    open: Arc<AtomicUsize>,
}

/// A fresh connection, before its handshake ([`super::opening::accept`]).
#[derive(Debug)]
pub struct Accepted {
    /// The bytes.
    pub stream: Stream,
    /// The limit, when it is reached and this connection must be refused.
    pub crowded: Option<usize>,
    /// Counts the connection as open until it is dropped.
    pub permit: Permit,
}

/// A place among the open connections.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listener {
    /// Listens at `address`; port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken or makes no sense.
    pub async fn bind(transport: &dyn Transport, address: &str, settings: &NetSettings) -> io::Result<Self> {
        let acceptor = transport.bind(address).await?;
        Ok(Listener { acceptor, max_connections: settings.max_connections, open: Arc::default() })
    }

    /// Where it listens, with the port that was chosen.
    pub fn local_address(&self) -> String {
        self.acceptor.local_address()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Accepts for ever. `on` is called on the current thread and must not block; it starts whatever looks after
    /// the connection.
    pub async fn run(mut self, mut on: impl FnMut(Accepted)) -> Infallible {
        let log = QuietLog::default();
        loop {
            match self.acceptor.accept().await {
                Ok(stream) => {
                    if let Some(accepted) = self.admit(stream) {
                        on(accepted);
                    }
                }
                Err(error) => {
                    if let Some(repeats) = log.admit(&error.to_string()) {
                        tracing::warn!(%error, repeats, "cannot accept connections; trying again");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Counts the stream, or drops it when even the places for refusals are taken.
    fn admit(&self, stream: Stream) -> Option<Accepted> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(self.open.clone());
        if open >= self.max_connections + REFUSABLE {
            return None;
        }
        let crowded = (open >= self.max_connections).then_some(self.max_connections);
        Some(Accepted { stream, crowded, permit })
    }
}
