//! The link of this node to a peer: one actor for each, restarted on its own.

use std::sync::Arc;

use actix::prelude::*;

use crate::net::link::{Link, LinkEvent};
use crate::net::router::Router;

/// Keeps a connection to a peer, for as long as it lives. The queue of what is to be sent is not its own, so that
/// senders do not notice a restart.
pub struct LinkActor {
    make: Box<dyn Fn() -> Link + Send>,
    router: Arc<Router>,
}

impl LinkActor {
    /// An actor that runs the link that `make` describes.
    pub fn new(router: Arc<Router>, make: impl Fn() -> Link + Send + 'static) -> Self {
        LinkActor { make: Box::new(make), router }
    }
}

impl Actor for LinkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let link = (self.make)();
        let router = self.router.clone();
        let run = async move {
            let known = |node, store| router.check_store(node, store);
            link.run(&known, |event| {
                if let LinkEvent::Packets(packets) = event {
                    tracing::debug!(count = packets.len(), "packets on a link that carries none this way");
                }
            })
            .await;
        };
        // Owned by the actor: it ends with it, and a panic in it is the actor's.
        ctx.spawn(run.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}
