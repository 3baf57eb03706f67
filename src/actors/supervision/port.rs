//! Stable references: a sender holds a [`Port`] to a role, not an `Addr` to one life of an actor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, MailboxError, Message, Recipient};

/// Nobody plays the role right now: not started yet, between two lives, or gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the actor is not running")]
pub struct Gone;

/// Why a question got no answer. In each case the message may or may not have been handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody plays the role, or its actor died before it answered.
    #[error("the actor is not running")]
    Gone,
    /// No answer in time.
    #[error("the actor did not answer in time")]
    Timeout,
}

/// A role that one actor of type `A` plays at a time. The composition root creates it, gives it to the child
/// that fills it ([`ChildSpec::slot`](super::ChildSpec::slot)) and hands [`Port`]s on it to everybody else.
pub struct Slot<A: Actor> {
    role: Arc<Role<A>>,
}

struct Role<A: Actor> {
    name: Arc<str>,
    tenant: RwLock<Tenant<A>>,
}

struct Tenant<A: Actor> {
    /// Fences late comers: a life never displaces a younger one.
    life: u64,
    generation: u64,
    addr: Option<Addr<A>>,
}

impl<A: Actor<Context = Context<A>>> Slot<A> {
    /// An empty role. The name is for people only.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let tenant = RwLock::new(Tenant { life: 0, generation: 0, addr: None });
        Self { role: Arc::new(Role { name: name.into(), tenant }) }
    }

    /// A reference to this role for messages of type `M`. It may be taken before the role is ever filled.
    pub fn port<M>(&self) -> Port<M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Port { target: self.role.clone() }
    }

    /// The address of the life that fills the role now. Do not keep it: it is worthless after the next restart.
    pub fn addr(&self) -> Option<Addr<A>> {
        self.role.with(|tenant| tenant.addr.clone())
    }

    /// The generation that fills the role, or filled it last; zero if none ever did.
    pub fn generation(&self) -> u64 {
        self.role.with(|tenant| tenant.generation)
    }

    pub(crate) fn fill(&self, life: u64, generation: u64, addr: Addr<A>) {
        let mut tenant = self.role.tenant.write().unwrap_or_else(PoisonError::into_inner);
        if life > tenant.life {
            *tenant = Tenant { life, generation, addr: Some(addr) };
        }
    }

    /// Ends what this life and those before it have to do with the role, even if they have yet to fill it.
    pub(crate) fn vacate(&self, life: u64) {
        let gone = {
            let mut tenant = self.role.tenant.write().unwrap_or_else(PoisonError::into_inner);
            if tenant.life > life {
                return;
            }
            tenant.life = life;
            tenant.addr.take()
        };
        // Dropped outside the lock: it may be the last handle on the mailbox and run destructors of messages.
        drop(gone);
    }
}

impl<A: Actor> Clone for Slot<A> {
    fn clone(&self) -> Self {
        Self { role: self.role.clone() }
    }
}

impl<A: Actor> fmt::Debug for Slot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.role.name)
    }
}

impl<A: Actor> Role<A> {
    fn with<T>(&self, read: impl FnOnce(&Tenant<A>) -> T) -> T {
        read(&self.tenant.read().unwrap_or_else(PoisonError::into_inner))
    }
}

type Answer<R> = Pin<Box<dyn Future<Output = Result<R, MailboxError>> + Send>>;

/// What a port points to, with the actor's type erased.
trait Target<M: Message>: Send + Sync {
    fn tell(&self, message: M) -> Result<(), Gone>;
    fn ask(&self, message: M) -> Result<Answer<M::Result>, Gone>;
    fn is_up(&self) -> bool;
    fn generation(&self) -> u64;
    fn name(&self) -> &str;
}

impl<A, M> Target<M> for Role<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn tell(&self, message: M) -> Result<(), Gone> {
        self.with(|tenant| match &tenant.addr {
            Some(addr) if addr.connected() => {
                addr.do_send(message);
                Ok(())
            }
            _ => Err(Gone),
        })
    }

    fn ask(&self, message: M) -> Result<Answer<M::Result>, Gone> {
        self.with(|tenant| match &tenant.addr {
            Some(addr) if addr.connected() => Ok(Box::pin(addr.send(message)) as Answer<M::Result>),
            _ => Err(Gone),
        })
    }

    fn is_up(&self) -> bool {
        self.with(|tenant| tenant.addr.as_ref().is_some_and(Addr::connected))
    }

    fn generation(&self) -> u64 {
        self.with(|tenant| tenant.generation)
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A recipient outside any supervision tree.
struct Fixed<M: Message + Send>(Recipient<M>)
where
    M::Result: Send;

impl<M> Target<M> for Fixed<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn tell(&self, message: M) -> Result<(), Gone> {
        if !self.0.connected() {
            return Err(Gone);
        }
        self.0.do_send(message);
        Ok(())
    }

    fn ask(&self, message: M) -> Result<Answer<M::Result>, Gone> {
        if self.0.connected() { Ok(Box::pin(self.0.send(message))) } else { Err(Gone) }
    }

    fn is_up(&self) -> bool {
        self.0.connected()
    }

    fn generation(&self) -> u64 {
        1
    }

    fn name(&self) -> &str {
        "recipient"
    }
}

/// A stable reference to whichever actor plays a role and handles `M`. It survives restarts, never delivers to
/// a life that has ended, and keeps no actor from being stopped.
///
/// Between two lives, messages are refused rather than stored: a sender that must not lose a message repeats
/// it until it is answered, which a crash *after* delivery forces on it anyway.
pub struct Port<M: Message> {
    target: Arc<dyn Target<M>>,
}

impl<M> Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Sends without waiting: the message is put into the mailbox, in order with this sender's earlier ones.
    /// `Ok` does not promise that it is handled: the actor may die first.
    ///
    /// # Errors
    /// [`Gone`] when nobody plays the role; the message is dropped.
    pub fn tell(&self, message: M) -> Result<(), Gone> {
        self.target.tell(message)
    }

    /// Sends at once, and returns the future of the answer. Dropping it before the message was handled takes
    /// the message back. Meant for the outer edges of a system: an actor that waits for another can deadlock.
    ///
    /// # Errors
    /// The future yields [`AskError`] when there is no answer within `timeout`.
    pub fn ask(
        &self,
        message: M,
        timeout: Duration,
    ) -> impl Future<Output = Result<M::Result, AskError>> + Send + use<M> {
        let sent = self.target.ask(message);
        async move {
            let answer = sent.map_err(|Gone| AskError::Gone)?;
            match tokio::time::timeout(timeout, answer).await {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(MailboxError::Closed)) => Err(AskError::Gone),
                Ok(Err(MailboxError::Timeout)) | Err(_) => Err(AskError::Timeout),
            }
        }
    }

    /// Whether somebody plays the role right now.
    pub fn is_up(&self) -> bool {
        self.target.is_up()
    }

    /// The generation that plays the role, or played it last; zero if none ever did. It grows with every restart,
    /// so that what belongs to an earlier life can be told apart.
    pub fn generation(&self) -> u64 {
        self.target.generation()
    }
}

impl<M> From<Recipient<M>> for Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// A port to an actor that is not supervised, for tests and for the edges of a system.
    fn from(recipient: Recipient<M>) -> Self {
        Self { target: Arc::new(Fixed(recipient)) }
    }
}

impl<M: Message> Clone for Port<M> {
    fn clone(&self) -> Self {
        Self { target: self.target.clone() }
    }
}

impl<M: Message> fmt::Debug for Port<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.target.name())
    }
}
