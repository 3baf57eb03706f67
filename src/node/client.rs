//! The client library: a [`Client`] is a clerk of one's own, with a method for everything the store can do.
//!
//! ```no_run
//! use quorate::{Client, ClientOptions, Error};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let client = Client::connect(ClientOptions::new(["127.0.0.1:7101"])).await?;
//! let version = client.put("greeting", "hello").await?;
//! match client.put_if("greeting", "good day", version).await {
//!     Ok(version) => println!("now at version {version}"),
//!     Err(Error::VersionMismatch { actual }) => println!("somebody was faster: version {actual}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `kv` | the store's methods |
//! | `lock` | locks, and fences |
//! | `pages` | walking over many keys |
//! | `admin` | questions and orders to nodes |
//! | `mapreduce` | jobs |
//! | `life` | the thread and the supervisor behind a client |

mod admin;
mod kv;
mod life;
mod lock;
mod mapreduce;
mod pages;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub use self::kv::{Lease, Versioned};
use self::life::Life;
pub use self::lock::{Fence, Lock, LockGuard, LockHolder, LockStatus};
pub use self::pages::{Page, PageLimit, Pages};
use crate::actors::clerk::{ClerkSettings, Invoke};
use crate::logic::clerk::{ClerkError, ClerkOptions, Op};
use crate::logic::ids::GroupId;
use crate::logic::kv::command::{Command, Reply};
use crate::messages::client::{Answer, Consistency};
use crate::net::NetSettings;
use crate::net::transport::{TcpTransport, Transport};

/// What a client is to be like.
#[derive(Clone)]
pub struct ClientOptions {
    /// Addresses (`host:port`) of some nodes; the others are learnt from them. At least one.
    pub endpoints: Vec<String>,
    /// Name of the cluster; a node of another is refused. Empty, the default: whichever answers.
    pub cluster: String,
    /// The group that is asked; group 1 unless said otherwise.
    pub group: GroupId,
    /// Keep no session: the server then keeps nothing for this client, and a change whose answer was lost may end in
    /// [`Error::Maybe`](ClerkError::Maybe). Off by default: a change takes effect exactly once.
    pub stateless: bool,
    /// How long a call may take; `None`: for ever. 10 s unless said otherwise. See [`Client::with_deadline`].
    pub deadline: Option<Duration>,
    /// How fresh reads are; linearizable unless said otherwise. See [`Client::with_consistency`].
    pub consistency: Consistency,
    /// After this long without an answer another attempt is made; 1 s unless said otherwise.
    pub attempt_timeout: Duration,
    /// Most calls under way at once; above, calls end in [`Error::Overloaded`](ClerkError::Overloaded). 16384 unless
    /// said otherwise.
    pub max_pending: usize,
    /// Limits and times of connections.
    pub net: NetSettings,
    /// What carries the bytes; TCP unless said otherwise.
    pub transport: Arc<dyn Transport>,
    /// Seed of the pauses between attempts; drawn at random unless said otherwise.
    pub seed: Option<u64>,
    /// Tells the claims of this client on a lock from those of all others, so no two clients may have the same; drawn
    /// at random unless said otherwise.
    pub identity: Option<u64>,
}

impl ClientOptions {
    /// The defaults, with these addresses.
    pub fn new<A: Into<String>>(endpoints: impl IntoIterator<Item = A>) -> Self {
        let clerk = ClerkOptions::default();
        ClientOptions {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            cluster: String::new(),
            group: GroupId(1),
            stateless: false,
            deadline: Some(Duration::from_secs(10)),
            consistency: Consistency::Linearizable,
            attempt_timeout: clerk.attempt_timeout,
            max_pending: clerk.max_pending,
            net: NetSettings::default(),
            transport: TcpTransport::shared(),
            seed: None,
            identity: None,
        }
    }

    fn settings(&self) -> Result<ClerkSettings, ClerkError> {
        if self.endpoints.is_empty() {
            return Err(ClerkError::Invalid("a client needs the address of a node".to_owned()));
        }
        let clerk = ClerkOptions {
            endpoints: self.endpoints.clone(),
            cluster: self.cluster.clone(),
            stateless: self.stateless,
            attempt_timeout: self.attempt_timeout,
            max_pending: self.max_pending,
            max_in_flight: self.net.max_in_flight,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
            ..ClerkOptions::default()
        };
        Ok(ClerkSettings { clerk, net: self.net.clone(), transport: self.transport.clone() })
    }
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions")
            .field("endpoints", &self.endpoints)
            .field("cluster", &self.cluster)
            .field("group", &self.group)
            .field("stateless", &self.stateless)
            .field("deadline", &self.deadline)
            .field("consistency", &self.consistency)
            .finish_non_exhaustive()
    }
}

/// A client of a cluster. Clones share one clerk, that is one connection to each node and one session; any number of
/// calls may be under way at once, from any thread. A future that is dropped gives its call up; a change may take
/// effect all the same.
///
/// It ends with its last clone: the session is closed if a node can be reached just then, and expires otherwise.
#[derive(Clone, Debug)]
pub struct Client {
    life: Arc<Life>,
    group: GroupId,
    deadline: Option<Duration>,
    consistency: Consistency,
    fence: Option<Arc<Fence>>,
}

impl Client {
    /// A client with a background thread of its own, for any program that uses tokio.
    ///
    /// No node is waited for: the first call does that.
    ///
    /// # Errors
    /// [`Invalid`](ClerkError::Invalid) when there is no address; [`Unavailable`](ClerkError::Unavailable) when the
    /// thread could not be started.
    pub async fn connect(options: ClientOptions) -> Result<Client, ClerkError> {
        let life = Life::in_thread(&options).await?;
        Ok(Client::new(life, &options))
    }

    /// A client whose clerk runs on the current thread, which spares a hop between threads: for programs that live in
    /// an actix `System` or a tokio `LocalSet`, such as load generators and simulations.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub async fn local(options: ClientOptions) -> Result<Client, ClerkError> {
        let life = Life::here(&options).await?;
        Ok(Client::new(life, &options))
    }

    fn new(life: Life, options: &ClientOptions) -> Client {
        let ClientOptions { group, deadline, consistency, .. } = *options;
        Client { life: Arc::new(life), group, deadline, consistency, fence: None }
    }

    /// The same client, whose calls may take so long; `None`: for ever.
    pub fn with_deadline(&self, deadline: impl Into<Option<Duration>>) -> Client {
        Client { deadline: deadline.into(), ..self.clone() }
    }

    /// The same client, whose reads are this fresh.
    pub fn with_consistency(&self, consistency: Consistency) -> Client {
        Client { consistency, ..self.clone() }
    }

    /// The same client, asking this group.
    pub fn with_group(&self, group: GroupId) -> Client {
        Client { group, ..self.clone() }
    }

    /// The group that is asked.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Ends the session. Meant for the end of a program, when no call is under way: a change that is may end in
    /// [`Maybe`](ClerkError::Maybe). A later change opens another session.
    ///
    /// # Errors
    /// When no node could be asked in time; the session then expires by itself.
    pub async fn close(self) -> Result<(), ClerkError> {
        self.call(Op::Write(Command::CloseSession)).await.map(drop)
    }

    /// Makes any call.
    ///
    /// # Errors
    /// See [`ClerkError`].
    pub async fn call(&self, op: Op) -> Result<Answer, ClerkError> {
        let effect = op.has_effect();
        let (reply, result) = oneshot::channel();
        let invoke = Invoke { group: self.group, op, deadline: self.deadline, reply };
        if self.life.calls.tell(invoke).is_err() {
            return Err(ClerkError::Unavailable("the client is restarting; try again".to_owned()));
        }
        match result.await {
            Ok(outcome) => outcome,
            Err(_) if effect => Err(ClerkError::Maybe),
            Err(_) => Err(ClerkError::Unavailable("the client was restarted; try again".to_owned())),
        }
    }
}

fn reply(answer: Answer) -> Result<Reply, ClerkError> {
    match answer {
        Answer::Kv(reply) => Ok(reply),
        Answer::Admin(_) | Answer::MapReduce(_) => Err(misfit()),
    }
}

/// The answer is of a kind that does not belong to the question.
fn misfit() -> ClerkError {
    ClerkError::Invalid("the server's answer does not fit the question".to_owned())
}
