//! The link of this node to a peer: one actor for each, restarted on its own.

use std::sync::Arc;

use actix::prelude::*;

use super::known::Known;
use crate::net::link::{Link, LinkEvent};
use crate::net::opening::OpenError;

/// Told the peer's words when it refuses this node because of its data directory.
pub type Outcast = Arc<dyn Fn(String) + Send + Sync>;

/// Keeps a connection to a peer, for as long as it lives. The queue of what is to be sent is not its own, so that
/// senders do not notice a restart.
pub struct LinkActor {
    link: Option<Link>,
    known: Known,
    outcast: Outcast,
}

impl LinkActor {
    /// An actor that runs this link. `known` judges the peer's data directory.
    pub fn new(link: Link, known: Known, outcast: Outcast) -> Self {
        LinkActor { link: Some(link), known, outcast }
    }
}

impl Actor for LinkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let link = self.link.take().expect("an actor is started once");
        let (known, outcast) = (self.known.clone(), self.outcast.clone());
        let run = async move {
            link.run(&*known, |event| match event {
                LinkEvent::Packets(packets) => {
                    tracing::debug!(count = packets.len(), "packets on a link that carries none this way");
                }
                LinkEvent::Failed { reason: OpenError::Goodbye { reason, new_store: true } } => {
                    outcast(reason)
                }
                _ => {}
            })
            .await;
        };
        // Owned by the actor: it ends with it, and a panic in it is the actor's.
        ctx.spawn(run.into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}
