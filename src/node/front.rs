//! The front of a process that others dial: its listener, and the connections that it accepted.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::exit::{Failure, UNAVAILABLE};
use crate::actors::known::Known;
use crate::actors::listener::{ListenerActor, ListenerSpec};
use crate::actors::supervision::{ChildSpec, Strategy, Supervisor};
use crate::logic::restart::RestartPolicy;
use crate::net::router::Router;
use crate::net::transport::Transport;
use crate::net::{NetSettings, QuietLog};

/// How often, and how long after the last time, an address that is taken is tried again: whoever ends at this moment
/// may still be listening.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Says why nobody can listen at an address. Without this question its listener would be started again and again.
pub(super) async fn probe(transport: &dyn Transport, address: &str) -> Result<(), Failure> {
    let mut tries = 1;
    loop {
        match transport.bind(address).await {
            Ok(_) => return Ok(()),
            Err(error) if tries >= TRIES => {
                return Err(no_listener(address, &error));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        tries += 1;
    }
}

fn no_listener(address: &str, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::AddrInUse => {
            let text = format!("cannot listen at {address}: {error}; is another node running here?");
            Failure::new(UNAVAILABLE, text)
        }
        ErrorKind::AddrNotAvailable => Failure::usage(format!(
            "cannot listen at {address}: {error}; it is not of this machine: is the node's id right, and its address?"
        )),
        _ => Failure::new(
            UNAVAILABLE,
            format!("cannot listen at {address}: {error}; correct the node's address"),
        ),
    }
}

/// What a front is made of.
pub(super) struct Front {
    /// Where to listen.
    pub(super) address: String,
    /// Told where it listens.
    pub(super) listening: Arc<dyn Fn(String) + Send + Sync>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) net: NetSettings,
    pub(super) router: Arc<Router>,
    /// Judges nodes that dial.
    pub(super) known: Known,
    pub(super) policy: RestartPolicy,
}

impl Front {
    /// The supervisor of both.
    pub(super) fn supervisor(self) -> Supervisor {
        let connections = Supervisor::new("connections", Strategy::OneForOne).policy(self.policy.clone());
        let spec = ListenerSpec {
            address: self.address,
            listening: self.listening,
            transport: self.transport,
            settings: self.net,
            router: self.router,
            known: self.known,
            connections: connections.handle(),
            count: Arc::new(AtomicU64::new(1)),
            quiet: Arc::new(QuietLog::default()),
        };
        let listener = ChildSpec::prepared("listener", move |_| ListenerActor::bind(spec.clone()));
        Supervisor::new("front", Strategy::OneForOne).policy(self.policy).child(connections).child(listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::transport::TcpTransport;
    use crate::node::exit::USAGE;

    #[tokio::test(start_paused = true)]
    async fn the_address_of_another_machine_is_a_mistake_and_a_taken_one_is_not() {
        // Set aside for examples: no machine has it.
        let elsewhere = probe(&TcpTransport, "203.0.113.1:7101").await.expect_err("not here");
        assert_eq!(elsewhere.code, USAGE, "{elsewhere}");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound").to_string();
        assert_eq!(probe(&TcpTransport, &address).await.expect_err("taken").code, UNAVAILABLE);
    }
}
