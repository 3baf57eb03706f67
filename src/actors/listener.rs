//! The listener of a node, and the actors that look after accepted connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::prelude::*;

use super::known::Known;
use super::supervision::{ChildSpec, SupervisorRef};
use crate::net::listener::{Accepted, Listener};
use crate::net::router::Router;
use crate::net::serve::serve;
use crate::net::transport::Transport;
use crate::net::{NetSettings, QuietLog};

/// What listener and connections are given.
#[derive(Clone)]
pub struct ListenerSpec {
    /// Where to listen.
    pub address: String,
    /// Told where it listens, with the port that the system chose.
    pub listening: Arc<dyn Fn(String) + Send + Sync>,
    /// What carries the bytes.
    pub transport: Arc<dyn Transport>,
    /// Limits and times.
    pub settings: NetSettings,
    /// Where requests and messages go.
    pub router: Arc<Router>,
    /// Judges nodes that dial.
    pub known: Known,
    /// Under whom connections live.
    pub connections: SupervisorRef,
    /// Numbers connections over all lives of the listener.
    pub count: Arc<AtomicU64>,
    /// Keeps repeated refusals from filling the log.
    pub quiet: Arc<QuietLog>,
}

/// Accepts connections and starts an actor for each.
pub struct ListenerActor {
    spec: ListenerSpec,
    listener: Option<Listener>,
}

impl ListenerActor {
    /// Binds the address.
    ///
    /// # Errors
    /// A sentence with the address, when it cannot be bound.
    pub async fn bind(spec: ListenerSpec) -> Result<Self, String> {
        let bound = Listener::bind(&*spec.transport, &spec.address, &spec.settings).await;
        let listener = bound.map_err(|error| format!("cannot listen at {}: {error}", spec.address))?;
        tracing::info!(address = listener.local_address(), "listening");
        (spec.listening)(listener.local_address());
        Ok(ListenerActor { spec, listener: Some(listener) })
    }
}

impl Actor for ListenerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let listener = self.listener.take().expect("an actor is started once");
        let spec = self.spec.clone();
        let run = listener.run(move |accepted| {
            let number = spec.count.fetch_add(1, Ordering::Relaxed);
            let spec_of_child = spec.clone();
            let child = ChildSpec::once(format!("connection-{number}"), move |_| ConnectionActor {
                spec: spec_of_child,
                accepted: Some(accepted),
            });
            drop(spec.connections.start_child(child));
        });
        ctx.spawn(run.into_actor(self).map(|never, _, _| match never {}));
    }
}

/// Looks after one accepted connection: handshake, then requests in and responses out, until it ends.
pub struct ConnectionActor {
    spec: ListenerSpec,
    accepted: Option<Accepted>,
}

impl Actor for ConnectionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let accepted = self.accepted.take().expect("an actor is started once");
        let spec = self.spec.clone();
        let run =
            async move { serve(accepted, spec.router, &*spec.known, &spec.settings, &spec.quiet).await };
        // How it ended was logged where it was decided.
        ctx.spawn(run.into_actor(self).map(|_, _, ctx| ctx.stop()));
    }
}
