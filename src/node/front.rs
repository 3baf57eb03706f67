//! The front of a process that others dial: its listener, and the connections that it accepted.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::actors::known::Known;
use crate::actors::listener::{ListenerActor, ListenerSpec};
use crate::actors::supervision::{ChildSpec, Strategy, Supervisor};
use crate::logic::restart::RestartPolicy;
use crate::net::router::Router;
use crate::net::transport::Transport;
use crate::net::{NetSettings, QuietLog};

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
