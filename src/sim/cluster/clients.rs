//! Clients of a simulated cluster.

use std::time::Duration;

use super::{Cluster, address};
use crate::logic::clerk::ClerkError;
use crate::node::client::{Client, ClientOptions};
use crate::sim::host::Host;

/// Clients.
impl Cluster {
    /// A client on a host of its own. `adjust` changes its options; it knows all nodes unless that says otherwise.
    ///
    /// # Errors
    /// As [`Client::local`].
    pub async fn client(
        &self,
        host: &str,
        adjust: impl FnOnce(&mut ClientOptions),
    ) -> Result<SimClient, ClerkError> {
        let mut options = ClientOptions::new(self.nodes().into_iter().map(address));
        options.transport = self.shared.network.host(host);
        options.seed = Some(self.random());
        options.identity = Some(self.random());
        options.attempt_timeout = Duration::from_millis(400);
        adjust(&mut options);
        let home = Host::new();
        let started = home.spawn(Client::local(options)).await;
        let client = started.map_err(|error| ClerkError::Unavailable(error.to_string()))??;
        Ok(SimClient { client, home })
    }
}

/// A client and the host that it lives on; without the host it answers nothing any more.
pub struct SimClient {
    client: Client,
    home: Host,
}

impl std::ops::Deref for SimClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for SimClient {
    fn drop(&mut self) {
        self.home.power_off();
    }
}
