//! Whom a node speaks with: nodes of the cluster, each with the data directory that it always had.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::environment::PeerMemory;
use super::identity::IdentityError;
use crate::actors::background::{Background, Joint};
use crate::actors::known::Known;
use crate::logic::ids::NodeId;
use crate::net::handshake::{Refusal, at_once};
use crate::net::router::Router;

/// Judges nodes by what the router and `peers` know of them. `peers` writes to the disk when a node comes for the first
/// time, so it is asked on `thread`; about a node that was let in before, it is not asked again.
pub(super) fn acquaintance(router: Arc<Router>, peers: Box<dyn PeerMemory>, thread: Background) -> Known {
    let peers = Mutex::new(peers);
    let memory = Arc::new(Memory { router: router.clone(), peers, admitted: Mutex::default() });
    let asked: Mutex<BTreeMap<NodeId, Joint<Result<(), Refusal>>>> = Mutex::default();
    Arc::new(move |node, store| {
        // It knows each node by one directory, from the first time on.
        let checked = router.check_store(node, store);
        if checked.is_err() || lock(&memory.admitted).contains(&node) {
            return at_once(checked);
        }
        let joint = lock(&asked).entry(node).or_default().clone();
        let memory = memory.clone();
        let answer = joint.ask(&thread, move || memory.admit(node, store));
        Box::pin(async move {
            match answer.await {
                Ok(judgement) => judgement,
                // Nobody will ever say. The handshake ends by itself after a while.
                Err(_) => pending().await,
            }
        })
    })
}

struct Memory {
    router: Arc<Router>,
    peers: Mutex<Box<dyn PeerMemory>>,
    /// Nodes that were let in.
    admitted: Mutex<BTreeSet<NodeId>>,
}

impl Memory {
    /// Blocks.
    fn admit(&self, node: NodeId, store: u64) -> Result<(), Refusal> {
        let admitted = lock(&self.peers).admit(node, store);
        match admitted {
            Ok(()) => {
                lock(&self.admitted).insert(node);
                Ok(())
            }
            Err(IdentityError::NewStore { known, found, .. }) => {
                // It took the first directory that it saw for the right one.
                self.router.set_store(node, known);
                Err(Refusal::Store { node, known, actual: found })
            }
            Err(error) => {
                // Not the peer's fault, and it showed no other directory than before in this life.
                tracing::error!(%error, "cannot remember the data directory of {node}");
                Ok(())
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::actors::background::Job;
    use crate::net::handshake::Identity;

    /// Knows of node 2 that it had store 5, and counts how often it is asked.
    struct Peers(Arc<AtomicU32>);

    impl PeerMemory for Peers {
        fn admit(&mut self, node: NodeId, store: u64) -> Result<(), IdentityError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if (node, store) == (NodeId(2), 5) {
                return Ok(());
            }
            Err(IdentityError::NewStore { node, known: 5, found: store })
        }
    }

    fn router() -> Arc<Router> {
        let me = Identity { cluster: "test".into(), node: NodeId(1), store: 1 };
        Router::new(me, [(NodeId(2), "n2:1".to_owned()), (NodeId(3), "n3:1".to_owned())])
    }

    #[tokio::test]
    async fn the_disk_is_asked_on_the_thread_and_once_for_each_node() {
        let (jobs, asked): (Arc<Mutex<Vec<Job>>>, Arc<AtomicU32>) = Default::default();
        let queue = jobs.clone();
        let thread = Background::queue(move |job| lock(&queue).push(job));
        let known = acquaintance(router(), Box::new(Peers(asked.clone())), thread);
        let (first, second) = (known(NodeId(2), 5), known(NodeId(2), 5));
        assert_eq!(asked.load(Ordering::Relaxed), 0, "nothing blocks here");
        std::mem::take(&mut *lock(&jobs)).into_iter().for_each(|job| job());
        assert_eq!((first.await, second.await), (Ok(()), Ok(())));
        assert_eq!(known(NodeId(2), 5).await, Ok(()), "and it is known from now on");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let node = NodeId(2);
        assert_eq!(known(node, 6).await, Err(Refusal::Store { node, known: 5, actual: 6 }));
    }

    #[tokio::test]
    async fn a_node_that_shows_another_directory_than_before_the_start_is_refused() {
        let known = acquaintance(router(), Box::new(Peers(Arc::default())), Background::queue(|job| job()));
        let node = NodeId(2);
        assert_eq!(known(node, 6).await, Err(Refusal::Store { node, known: 5, actual: 6 }));
        assert_eq!(known(node, 5).await, Ok(()), "it is let in when it shows the right one again");
        let node = NodeId(3);
        assert_eq!(known(node, 6).await, Err(Refusal::Store { node, known: 5, actual: 6 }));
        assert_eq!(known(node, 6).await, Err(Refusal::Store { node, known: 5, actual: 6 }));
        assert_eq!(known(NodeId(4), 6).await, Err(Refusal::UnknownNode { node: NodeId(4) }));
    }
}
