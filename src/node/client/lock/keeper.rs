//! Keeps a place in the queue of a lock, or the lock.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::{Client, Lock, misfit, reply};
use crate::logic::clerk::{ClerkError, Op};
use crate::logic::kv::command::{Command, LeaseId, Query, Reply, Token};
use crate::messages::client::{Answer, Consistency};

/// The question whose turn it is is asked again after this long, should the server not have answered it.
const WAIT_MS: u32 = 10_000;
/// No node lets a lease live longer; what one says is not believed beyond it.
const LONGEST_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Pause after a renewal that failed for another reason than time.
const RETRY: Duration = Duration::from_millis(50);

/// Where the outcome of a release goes.
pub(super) type Parting = oneshot::Sender<Result<(), ClerkError>>;

/// Up to when a lease lives that was granted or renewed by a request sent at `sent`: its time began later. A little is
/// left out for clocks that run at different speeds.
fn lives_until(sent: Instant, ttl: Duration) -> Instant {
    sent + ttl - ttl / 64
}

/// What the keeper has come to.
#[derive(Debug)]
pub(super) enum State {
    Waiting,
    Held {
        token: Token,
        /// Up to this moment no other can be the holder.
        until: Instant,
    },
    /// It is not held, and will not be.
    Over(ClerkError),
}

/// Takes a place in the queue, keeps it, and gives it up. Runs beside the clerk, so that a caller whose own runtime is
/// busy keeps its lock.
pub(super) struct Keeper {
    pub lock: Lock,
    pub owner: Bytes,
    pub queue: bool,
    pub state: watch::Sender<State>,
}

/// A place in the queue.
struct Place {
    lease: LeaseId,
    ttl: Duration,
    held: bool,
    /// The lease lives at least up to this moment: what was confirmed last was sent a time to live before it.
    until: Instant,
}

impl Keeper {
    pub async fn run(self, mut ended: oneshot::Receiver<Parting>) {
        loop {
            let claimed = tokio::select! {
                biased;
                claimed = self.claim(&self.lock.client, self.queue) => claimed,
                // Nobody waits any more. Whether there is a place cannot be known without asking again.
                _ = &mut ended => return self.withdraw().await,
            };
            let place = match claimed {
                Ok(place) => place,
                Err(error) => return self.over(error),
            };
            if !self.keep(place, &mut ended).await {
                return;
            }
        }
    }

    /// Keeps a place until the end. True: the place was lost before the caller was told, and another is wanted.
    async fn keep(&self, mut place: Place, ended: &mut oneshot::Receiver<Parting>) -> bool {
        let mut turn = std::pin::pin!(self.turn(place.lease));
        loop {
            if place.held {
                if self.is_waited_for() && Instant::now() >= place.until {
                    // The answer came so late that the lock may be lost again, and nobody was told that it was held.
                    return true;
                }
                self.state.send_replace(State::Held { token: place.lease.index, until: place.until });
            }
            tokio::select! {
                biased;
                parting = &mut *ended => {
                    self.part(&place, parting.ok()).await;
                    return false;
                }
                renewed = self.renew(&place) => match renewed {
                    Some(until) => place.until = until,
                    None if place.held => {
                        self.over(ClerkError::LockLost { holder: None });
                        return false;
                    }
                    None => return true,
                },
                () = &mut turn, if !place.held => place.held = true,
            }
        }
    }

    /// Whether the caller has not been told yet that the lock is held.
    fn is_waited_for(&self) -> bool {
        matches!(*self.state.borrow(), State::Waiting)
    }

    /// Leaves a queue in which there may be a place.
    async fn withdraw(&self) {
        let client = self.lock.client.with_deadline(self.lock.ttl);
        if let Ok(place) = self.claim(&client, false).await {
            // It ends by itself otherwise.
            let _ = client.revoke_lease(place.lease).await;
        }
    }

    /// Takes a place, or finds the one that this owner has already, so that asking again does no harm.
    async fn claim(&self, client: &Client, queue: bool) -> Result<Place, ClerkError> {
        let Lock { name, ttl, .. } = &self.lock;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        loop {
            let sent = Instant::now();
            let (lock, owner) = (name.clone(), self.owner.clone());
            let claim = Command::Claim { lock, owner, ttl_ms, queue };
            match client.call(Op::Write(claim)).await.and_then(reply) {
                Ok(Reply::Claim { lease, ttl_ms, held }) => {
                    let ttl = Duration::from_millis(ttl_ms).min(LONGEST_TTL);
                    return Ok(Place { lease, ttl, held, until: lives_until(sent, ttl) });
                }
                Ok(_) => return Err(misfit()),
                Err(ClerkError::Maybe) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a third of the time to live, and starts it anew. `None`: the lease has ended, or may have.
    async fn renew(&self, place: &Place) -> Option<Instant> {
        sleep_until(place.until - place.ttl * 2 / 3).await;
        loop {
            let sent = Instant::now();
            let left = place.until.checked_duration_since(sent).filter(|left| !left.is_zero())?;
            match self.lock.client.with_deadline(left).renew_lease(place.lease).await {
                Ok(_) => return Some(lives_until(sent, place.ttl)),
                Err(ClerkError::LeaseExpired) => return None,
                Err(_) => tokio::time::sleep(RETRY.min(left)).await,
            }
        }
    }

    /// Returns when it is this lease's turn. When the lease ends meanwhile, that is for the renewal to notice.
    async fn turn(&self, lease: LeaseId) {
        let client = self.lock.client.with_deadline(None);
        loop {
            // Not more of them than leave room for other requests.
            let _permit = client.life.turns.acquire().await;
            let query = Query::Turn { lease, wait_ms: WAIT_MS };
            let op = Op::Read { query, consistency: Consistency::Linearizable, node: None };
            match client.call(op).await {
                Ok(Answer::Kv(Reply::Turn { held: true })) => return,
                Ok(_) => {}
                Err(ClerkError::LeaseExpired) => std::future::pending().await,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    fn over(&self, error: ClerkError) {
        self.state.send_replace(State::Over(error));
    }

    /// Leaves the queue.
    async fn part(&self, place: &Place, parting: Option<Parting>) {
        let mut outcome = self.lock.client.revoke_lease(place.lease).await;
        let surely_held = place.held && Instant::now() < place.until;
        outcome = match outcome {
            // No session stands for it: an earlier attempt has done it.
            Err(ClerkError::Maybe) if surely_held => Ok(()),
            Err(ClerkError::LeaseExpired | ClerkError::Maybe) => Err(ClerkError::LockLost { holder: None }),
            outcome => outcome,
        };
        self.over(ClerkError::LockLost { holder: None });
        if let Some(parting) = parting {
            // A caller that no longer waits wants no outcome.
            let _ = parting.send(outcome);
        }
    }
}
