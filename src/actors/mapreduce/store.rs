//! Asking the store of one's own node, past the network.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::logic::ids::GroupId;
use crate::logic::kv::command::{Change, Command, KvError, Pair, Query, Reply};
use crate::messages::client::{Answer, Consistency, Request, RequestBody, Response, ServerError};
use crate::net::Ref;

/// A store that does not answer for so long has lost its leader.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the store did not do as it was asked. A change may have taken effect all the same, unless it was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It refused; nothing has changed.
    #[error(transparent)]
    Refused(#[from] KvError),
    /// It could not.
    #[error("the store does not serve: {0}")]
    Unavailable(String),
}

/// The store of a group, at this node. It serves while this node leads the group.
#[derive(Clone)]
pub struct LocalStore {
    group: GroupId,
    requests: Ref<Request>,
    callers: Arc<Callers>,
}

#[derive(Default)]
struct Callers {
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Result<Answer, ServerError>>>>,
}

impl Callers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Result<Answer, ServerError>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops waiting when it is dropped.
struct Call<'a>(&'a Callers, u64);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl LocalStore {
    /// `connect` is given who takes the responses, and returns who takes the requests.
    pub fn new(group: GroupId, connect: impl FnOnce(Ref<Response>) -> Ref<Request>) -> Self {
        let callers = Arc::new(Callers::default());
        let answered = callers.clone();
        let replies = Ref::local(move |responses: Vec<Response>| {
            for Response { id, result } in responses {
                if let Some(caller) = answered.lock().remove(&id) {
                    // Whoever asked may have given up.
                    let _ = caller.send(result);
                }
            }
            Ok(())
        });
        LocalStore { group, requests: connect(replies), callers }
    }

    /// The value and version of a key; `None` when it is absent.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get(&self, key: Bytes) -> Result<Option<(Bytes, u64)>, StoreError> {
        match self.read(Query::Get { key }).await {
            Ok(Reply::Value { value, version }) => Ok(Some((value, version))),
            Err(StoreError::Refused(KvError::NoKey)) => Ok(None),
            Ok(_) => Err(misfit()),
            Err(error) => Err(error),
        }
    }

    /// All keys that begin with `prefix`, in order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn scan(&self, prefix: Bytes) -> Result<Vec<Pair>, StoreError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let (prefix, after_key) = (prefix.clone(), after.take());
            let query =
                Query::Prefix { prefix, after: after_key, max_keys: 0, max_bytes: 0, keys_only: false };
            let Reply::Pairs { pairs, cursor } = self.read(query).await? else { return Err(misfit()) };
            found.extend(pairs);
            match cursor {
                Some(cursor) => after = Some(cursor),
                None => return Ok(found),
            }
        }
    }

    /// Makes all changes, or none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn batch(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let body = RequestBody::Write { stamp: None, command: Command::Batch(changes) };
        match self.call(body).await? {
            Reply::Batch(_) => Ok(()),
            _ => Err(misfit()),
        }
    }

    async fn read(&self, query: Query) -> Result<Reply, StoreError> {
        self.call(RequestBody::Read { query, consistency: Consistency::Linearizable }).await
    }

    async fn call(&self, body: RequestBody) -> Result<Reply, StoreError> {
        let id = self.callers.next.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        self.callers.lock().insert(id, reply);
        let _call = Call(&self.callers, id);
        let request = Request { id, group: self.group, body };
        self.requests.tell(request).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        match timeout(PATIENCE, answer).await {
            Ok(Ok(Ok(Answer::Kv(reply)))) => Ok(reply),
            Ok(Ok(Ok(_))) => Err(misfit()),
            Ok(Ok(Err(ServerError::Refused(error)))) => Err(error.into()),
            Ok(Ok(Err(error))) => Err(StoreError::Unavailable(error.to_string())),
            Ok(Err(_)) => Err(StoreError::Unavailable("its actor was restarted".to_owned())),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {PATIENCE:?}"))),
        }
    }
}

fn misfit() -> StoreError {
    StoreError::Unavailable("the answer does not fit the question".to_owned())
}
