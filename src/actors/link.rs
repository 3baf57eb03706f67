//! The link of this node to a peer: one actor for each, restarted on its own.

use actix::prelude::*;

use super::known::Known;
use crate::net::link::{Link, LinkEvent};

/// Keeps a connection to a peer, for as long as it lives. The queue of what is to be sent is not its own, so that
/// senders do not notice a restart.
pub struct LinkActor {
    link: Option<Link>,
    known: Known,
}

impl LinkActor {
    /// An actor that runs this link. `known` judges the peer's data directory.
    pub fn new(link: Link, known: Known) -> Self {
        LinkActor { link: Some(link), known }
    }
}

impl Actor for LinkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let link = self.link.take().expect("an actor is started once");
        let known = self.known.clone();
        let run = async move {
            link.run(&*known, |event| {
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
