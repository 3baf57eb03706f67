//! Locks: one holder at a time among all clients, and a token by which the store knows the holder. `keeper` keeps a
//! place in the queue.

mod keeper;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use self::keeper::{Keeper, Parting, State};
use super::{Client, misfit, reply};
use crate::logic::clerk::ClerkError;
use crate::logic::kv::command::{Change, LeaseId, Query, Reply, Token};

/// How long a lock stays with a holder that is not heard of, unless said otherwise.
const DEFAULT_TTL: Duration = Duration::from_secs(10);

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

    /// Waits until this client (and its clones) has given up every lock that it held or waited for. Dropping a guard,
    /// or a future that waits for a lock, gives it up in the background; if the process ends before that, the place in
    /// the queue stays for its time to live, and may even become that of the holder.
    pub async fn locks_given_up(&self) {
        // An error: nobody counts any more. That cannot be, while this client lives.
        let _ = self.life.locks.subscribe().wait_for(|count| *count == 0).await;
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
    /// queue, in the background: see [`Client::locks_given_up`].
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
        life.keep(keeper.run(ended))?;
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
