//! Locks: one holder at a time among all clients, and a token by which the store knows the holder.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::{Client, misfit, reply};
use crate::logic::clerk::{ClerkError, Op};
use crate::logic::kv::command::{Change, Command, LeaseId, Query, Reply, Token};
use crate::messages::client::{Answer, Consistency};

/// How long a lock stays with a holder that is not heard of, unless said otherwise.
const DEFAULT_TTL: Duration = Duration::from_secs(10);
/// The question whose turn it is is asked again after this long, should the server not have answered it.
const WAIT_MS: u32 = 10_000;
/// No node lets a lease live longer; what one says is not believed beyond it.
const LONGEST_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Pause after a renewal that failed for another reason than time.
const RETRY: Duration = Duration::from_millis(50);

/// The right to change what a lock protects: the lock's name, and the token that its holder was given.
///
/// Changes of a client made by [`Client::fenced`] are refused once the lock is no longer held under this token. It is
/// plain data: a holder may pass it to others who work for it, also in other processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Name of the lock.
    pub lock: Bytes,
    /// Grows from holder to holder of the lock.
    pub token: Token,
}

impl Fence {
    /// The fence as a part of a batch.
    pub fn change(&self) -> Change {
        Change::Fence { lock: self.lock.clone(), token: self.token }
    }
}

/// Who holds a lock, as [`Client::lock_status`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockStatus {
    /// The holder, if there is one.
    pub holder: Option<LockHolder>,
    /// How many wait behind it.
    pub waiting: u64,
}

/// The holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Its token.
    pub token: Token,
    /// Its lease: revoking that takes the lock from it.
    pub lease: LeaseId,
    /// What it calls itself, and a number that no other claim has.
    pub owner: Bytes,
    /// For how long it holds the lock unless it renews.
    pub left: Duration,
}

/// A lock of the cluster, by name. Nothing is asked before [`acquire`](Self::acquire).
///
/// It is held by a lease of the store: a holder that crashes, or cannot reach the cluster, loses it after
/// [`ttl`](Self::with_ttl). Nobody can make a holder *notice* in time that it was paused for longer than that, so what
/// the lock protects should be written with the lock's [`Fence`].
///
/// Waiting is first come, first served, in the order of the log; a waiter that crashes leaves the queue after its
/// `ttl`. The server wakes the next in line, so nobody polls.
///
/// ```no_run
/// # async fn demo(client: quorate::Client) -> Result<(), quorate::Error> {
/// let guard = client.lock("reports").acquire().await?;
/// // Refused as soon as somebody else holds the lock, whatever this process believes.
/// client.fenced(guard.fence()).put("reports/newest", "2024-05-01").await?;
/// guard.release().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Lock {
    client: Client,
    name: Bytes,
    owner: String,
    ttl: Duration,
}

impl Client {
    /// A lock of this name. Locks and keys have nothing to do with each other, and neither have locks of different
    /// names.
    pub fn lock(&self, name: impl Into<Bytes>) -> Lock {
        let client = Client { fence: None, ..self.clone() };
        Lock { client, name: name.into(), owner: String::new(), ttl: DEFAULT_TTL }
    }

    /// The same client, all of whose changes of keys (single ones and batches) are refused with
    /// [`LockLost`](ClerkError::LockLost) unless the lock is held under the fence's token at that moment. Its reads,
    /// and what it does with leases, are as before.
    pub fn fenced(&self, fence: Fence) -> Client {
        Client { fence: Some(Arc::new(fence)), ..self.clone() }
    }

    /// Who holds a lock, and how many wait for it.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn lock_status(&self, name: impl Into<Bytes>) -> Result<LockStatus, ClerkError> {
        let Reply::Lock { holder, waiting } = self.read(Query::Lock { lock: name.into() }).await? else {
            return Err(misfit());
        };
        let holder = holder.map(|holder| LockHolder {
            token: holder.lease.index,
            lease: holder.lease,
            owner: holder.owner,
            left: Duration::from_millis(holder.left_ms),
        });
        Ok(LockStatus { holder, waiting })
    }
}

impl Lock {
    /// How long the lock stays with a holder that is not heard of, and a place in the queue with a waiter; 10 s
    /// unless said otherwise. The cluster raises it to `limits.min_lease_ttl_ms` and refuses more than
    /// `limits.max_lease_ttl_ms`. Renewals are sent after a third of it.
    pub fn with_ttl(self, ttl: Duration) -> Lock {
        Lock { ttl, ..self }
    }

    /// What the holder is called in [`LockStatus`]; for people.
    pub fn with_owner(self, owner: impl Into<String>) -> Lock {
        Lock { owner: owner.into(), ..self }
    }

    /// Waits until the lock is held; for ever, as long as the cluster can be reached. Dropping the future leaves the
    /// queue.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`Timeout`](ClerkError::Timeout) when the cluster does not answer within the client's
    /// deadline.
    pub async fn acquire(&self) -> Result<LockGuard, ClerkError> {
        self.claim(true).await
    }

    /// Takes the lock if it is free; `None`: it is held.
    ///
    /// # Errors
    /// As for [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>, ClerkError> {
        match self.claim(false).await {
            Ok(guard) => Ok(Some(guard)),
            Err(ClerkError::LockHeld { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn claim(&self, queue: bool) -> Result<LockGuard, ClerkError> {
        let life = &self.client.life;
        let number = life.claims.fetch_add(1, Ordering::Relaxed);
        let owner = format!("{}#{:016x}-{number}", self.owner, life.identity);
        let (state, seen) = watch::channel(State::Waiting);
        let (end, ended) = oneshot::channel();
        let keeper = Keeper { lock: self.clone(), owner: owner.into(), queue, state };
        life.spawn(keeper.run(ended))?;
        let mut guard = LockGuard { name: self.name.clone(), token: 0, seen, end: Some(end) };
        let state = guard.seen.wait_for(|state| !matches!(state, State::Waiting)).await;
        match state.as_deref() {
            Ok(State::Held { token, .. }) => guard.token = *token,
            Ok(State::Over(error)) => return Err(error.clone()),
            Ok(State::Waiting) | Err(_) => return Err(ended_early()),
        }
        drop(state);
        Ok(guard)
    }
}

fn ended_early() -> ClerkError {
    ClerkError::Unavailable("the client has ended".to_owned())
}

/// A lock that is held. Dropping it releases the lock in the background; a process that ends at once may be gone before
/// that, and then the lock is free after its time to live: so [`release`](Self::release) it.
#[derive(Debug)]
pub struct LockGuard {
    name: Bytes,
    token: Token,
    seen: watch::Receiver<State>,
    /// Taken when it is released; dropping it is the signal.
    end: Option<oneshot::Sender<Parting>>,
}

impl LockGuard {
    /// The token: grows from holder to holder of this lock.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Name and token, for [`Client::fenced`].
    pub fn fence(&self) -> Fence {
        Fence { lock: self.name.clone(), token: self.token }
    }

    /// Whether the lock is held, as far as can be known here: the last renewal that the cluster confirmed was sent
    /// less than the time to live ago. True means little to a process that may be paused; see [`Fence`].
    pub fn is_held(&self) -> bool {
        matches!(*self.seen.borrow(), State::Held { until, .. } if Instant::now() < until)
    }

    /// Returns when the lock is lost: it was taken away, or could not be renewed in time.
    pub async fn lost(&self) {
        let mut seen = self.seen.clone();
        // An error: whoever renews is gone, and so is the lock, soon.
        let _ = seen.wait_for(|state| matches!(state, State::Over(_))).await;
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`LockLost`](ClerkError::LockLost) when it was lost before. In any case it is not held any
    /// more, or will not be renewed.
    pub async fn release(mut self) -> Result<(), ClerkError> {
        let (parting, answer) = oneshot::channel();
        let told = self.end.take().is_some_and(|end| end.send(parting).is_ok());
        if !told {
            return Err(ClerkError::LockLost { holder: None });
        }
        answer.await.unwrap_or_else(|_| Err(ended_early()))
    }
}

/// Where the outcome of a release goes.
type Parting = oneshot::Sender<Result<(), ClerkError>>;

/// Up to when a lease lives that was granted or renewed by a request sent at `sent`: its time began later. A little is
/// left out for clocks that run at different speeds.
fn lives_until(sent: Instant, ttl: Duration) -> Instant {
    sent + ttl - ttl / 64
}

/// What the keeper has come to.
#[derive(Debug)]
enum State {
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
struct Keeper {
    lock: Lock,
    owner: Bytes,
    queue: bool,
    state: watch::Sender<State>,
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
    async fn run(self, mut ended: oneshot::Receiver<Parting>) {
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
