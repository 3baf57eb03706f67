//! The store's methods.

use std::time::Duration;

use bytes::Bytes;

use super::{Client, misfit, reply};
use crate::logic::clerk::{ClerkError, Op};
use crate::logic::ids::NodeId;
use crate::logic::kv::command::{Change, Changed, Command, Expect, LeaseId, Lifetime, Query, Reply, Version};
use crate::messages::client::Consistency;

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// Its version: 1 after the first put, one more with every change.
    pub version: Version,
}

/// A lease: keys put under it disappear when it is not renewed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// How long it lives without being renewed.
    pub ttl: Duration,
}

impl Client {
    /// The value of a key; `None` when it is absent.
    ///
    /// # Errors
    /// See [`ClerkError`]. A read never ends in `Maybe`.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Versioned>, ClerkError> {
        found(self.read(Query::Get { key: key.into() }).await)
    }

    /// The value of a key as this node has it, however old; for looking at a node.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`Invalid`](ClerkError::Invalid) when the cluster has no such node.
    pub async fn get_from(
        &self,
        node: NodeId,
        key: impl Into<Bytes>,
    ) -> Result<Option<Versioned>, ClerkError> {
        let query = Query::Get { key: key.into() };
        let op = Op::Read { query, consistency: Consistency::Stale, node: Some(node) };
        found(self.call(op).await.and_then(reply))
    }

    /// Puts a value, whatever was there. Returns the key's new version.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Version, ClerkError> {
        self.put_with(key, value, Expect::Any, Lifetime::Forever).await
    }

    /// Puts a value if the key has this version (0: if it is absent): compare and set. Returns the new version.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`VersionMismatch`](ClerkError::VersionMismatch) when it has another,
    /// [`NotFound`](ClerkError::NotFound) when it is absent and should not be.
    pub async fn put_if(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        version: Version,
    ) -> Result<Version, ClerkError> {
        self.put_with(key, value, Expect::Version(version), Lifetime::Forever).await
    }

    /// Puts a value if the key is absent.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`VersionMismatch`](ClerkError::VersionMismatch) when the key exists.
    pub async fn create(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Version, ClerkError> {
        self.put_with(key, value, Expect::Absent, Lifetime::Forever).await
    }

    /// Puts a value on all terms there are. Returns the key's new version.
    ///
    /// # Errors
    /// See [`ClerkError`]; as for [`put_if`](Self::put_if), and [`LeaseExpired`](ClerkError::LeaseExpired) when the
    /// lease of `lifetime` is not known.
    pub async fn put_with(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        expect: Expect,
        lifetime: Lifetime,
    ) -> Result<Version, ClerkError> {
        let (key, value) = (key.into(), value.into());
        version(self.change(Change::Put { key, value, expect, lifetime }).await?)
    }

    /// Adds bytes at the end of a value; an absent key counts as empty. Returns the new version.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn append(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Version, ClerkError> {
        let (key, value) = (key.into(), value.into());
        version(self.change(Change::Append { key, value, expect: Expect::Any }).await?)
    }

    /// Removes a key. Returns whether it existed.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<bool, ClerkError> {
        self.delete_with(key.into(), Expect::Any).await
    }

    /// Removes a key if it has this version.
    ///
    /// # Errors
    /// See [`ClerkError`]; as for [`put_if`](Self::put_if).
    pub async fn delete_if(&self, key: impl Into<Bytes>, version: Version) -> Result<(), ClerkError> {
        self.delete_with(key.into(), Expect::Version(version)).await.map(drop)
    }

    async fn delete_with(&self, key: Bytes, expect: Expect) -> Result<bool, ClerkError> {
        match self.change(Change::Delete { key, expect }).await? {
            Changed::Deleted { existed } => Ok(existed),
            _ => Err(misfit()),
        }
    }

    /// Replaces a value if the key has exactly the value `old` (`None`: if it is absent). Returns the new version, or
    /// what is there instead.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn cas(
        &self,
        key: impl Into<Bytes>,
        old: Option<&[u8]>,
        new: impl Into<Bytes>,
    ) -> Result<Result<Version, Option<Versioned>>, ClerkError> {
        let (key, new) = (key.into(), new.into());
        loop {
            let found = self.get(key.clone()).await?;
            if found.as_ref().map(|found| &*found.value) != old {
                return Ok(Err(found));
            }
            let version = found.map_or(0, |found| found.version);
            match self.put_if(key.clone(), new.clone(), version).await {
                // Somebody was faster; what is there now may still be what was expected.
                Err(ClerkError::VersionMismatch { .. } | ClerkError::NotFound) => {}
                outcome => return outcome.map(Ok),
            }
        }
    }

    /// Makes several changes, all or none, in order.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`Batch`](ClerkError::Batch) names the change that failed.
    pub async fn batch(&self, changes: Vec<Change>) -> Result<Vec<Changed>, ClerkError> {
        let Some(fence) = &self.fence else { return self.plain_batch(changes).await };
        let fenced = std::iter::once(fence.change()).chain(changes).collect();
        match self.plain_batch(fenced).await {
            Ok(changed) => Ok(changed.into_iter().skip(1).collect()),
            Err(ClerkError::Batch { position: 0, error }) => Err(*error),
            Err(ClerkError::Batch { position, error }) => {
                Err(ClerkError::Batch { position: position - 1, error })
            }
            Err(error) => Err(error),
        }
    }

    async fn plain_batch(&self, changes: Vec<Change>) -> Result<Vec<Changed>, ClerkError> {
        match self.write(Command::Batch(changes)).await? {
            Reply::Batch(changed) => Ok(changed),
            _ => Err(misfit()),
        }
    }

    /// Grants a lease of this length (in whole milliseconds), or longer: the cluster raises it to
    /// `limits.min_lease_ttl_ms`. The lease says what it became.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`Limit`](ClerkError::Limit) when it is longer than `limits.max_lease_ttl_ms`.
    pub async fn grant_lease(&self, ttl: Duration) -> Result<Lease, ClerkError> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        lease(self.write(Command::GrantLease { ttl_ms }).await?)
    }

    /// Starts the time of a lease anew.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`LeaseExpired`](ClerkError::LeaseExpired) when it is too late.
    pub async fn renew_lease(&self, id: LeaseId) -> Result<Lease, ClerkError> {
        lease(self.write(Command::RenewLease { lease: id }).await?)
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    /// See [`ClerkError`]; [`LeaseExpired`](ClerkError::LeaseExpired) when it has ended before.
    pub async fn revoke_lease(&self, id: LeaseId) -> Result<(), ClerkError> {
        self.write(Command::RevokeLease { lease: id }).await.map(drop)
    }

    /// Makes a change of one key, on all terms there are.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn change(&self, change: Change) -> Result<Changed, ClerkError> {
        if self.fence.is_some() {
            return match self.batch(vec![change]).await {
                Ok(changed) => changed.into_iter().next().ok_or_else(misfit),
                Err(ClerkError::Batch { error, .. }) => Err(*error),
                Err(error) => Err(error),
            };
        }
        match self.write(Command::Change(change)).await? {
            Reply::Changed(changed) => Ok(changed),
            _ => Err(misfit()),
        }
    }

    async fn write(&self, command: Command) -> Result<Reply, ClerkError> {
        self.call(Op::Write(command)).await.and_then(reply)
    }

    /// Asks with the client's consistency.
    pub(super) async fn read(&self, query: Query) -> Result<Reply, ClerkError> {
        let op = Op::Read { query, consistency: self.consistency, node: None };
        self.call(op).await.and_then(reply)
    }
}

fn found(reply: Result<Reply, ClerkError>) -> Result<Option<Versioned>, ClerkError> {
    match reply {
        Ok(Reply::Value { value, version }) => Ok(Some(Versioned { value, version })),
        Ok(_) => Err(misfit()),
        Err(ClerkError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn version(changed: Changed) -> Result<Version, ClerkError> {
    match changed {
        Changed::Version(version) => Ok(version),
        _ => Err(misfit()),
    }
}

fn lease(reply: Reply) -> Result<Lease, ClerkError> {
    match reply {
        Reply::Lease { lease, ttl_ms } => Ok(Lease { id: lease, ttl: Duration::from_millis(ttl_ms) }),
        _ => Err(misfit()),
    }
}
