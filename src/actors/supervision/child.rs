//! What a supervisor needs to know of a child: how to build it, where it lives, when to restart it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, ArbiterHandle, Context};

use super::life::{self, Seat};
use super::port::Slot;
use super::registry::Registry;
use super::supervisor::Supervisor;

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always, also when it stopped of its own accord.
    #[default]
    Permanent,
    /// Only after a failure ([`Exit::is_failure`](super::Exit::is_failure)).
    Transient,
    /// Never. A dynamic temporary child disappears from the tree when it ends.
    Temporary,
}

/// The thread a child lives on.
#[derive(Clone, Debug, Default)]
pub enum Place {
    /// Its supervisor's own thread and task set. Needs nothing of actix but its actors: this is the place for
    /// simulations.
    #[default]
    Here,
    /// An arbiter that somebody else keeps.
    On(ArbiterHandle),
    /// A new arbiter for every life of the child, stopped with it. Needs a running actix `System`.
    Own,
}

/// What becomes of a child that hangs and does not even react to being killed, because it blocks its thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnHang {
    /// It is reported to [`Registry::on_hang`] and waited for: a blocked thread cannot be stopped, so the
    /// process should be.
    #[default]
    Report,
    /// It is reported, given up for lost and counts as failed, so that it is restarted at its [`Place`] (which had
    /// better be [`Place::Own`]). Its ports already point nowhere, but should it ever wake up, the side effects of
    /// the handler it hangs in still happen; it is dropped right after that.
    Abandon,
}

/// Watching for a child that no longer answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HangWatch {
    /// A child that did not answer a ping within this time hangs. Not zero.
    pub timeout: Duration,
    /// What becomes of it when killing it has no effect.
    pub on_hang: OnHang,
}

/// What a factory may know of the life it builds an actor for.
#[derive(Clone)]
pub struct ChildContext {
    pub(crate) path: Arc<str>,
    pub(crate) generation: u64,
    pub(crate) registry: Arc<Registry>,
}

impl ChildContext {
    /// The actor's path in the tree, such as `node/group-1/raft`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Which life this is. It grows with every start, also across restarts of the supervisors above.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The registry of the tree.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

impl fmt::Debug for ChildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildContext({} #{})", self.path, self.generation)
    }
}

/// The settings that actors and supervisors have in common as children.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub restart: Restart,
    pub place: Place,
    /// How long an ordered stop may take before the child is killed; `None`: as long as it likes.
    pub shutdown: Option<Duration>,
    pub hang: Option<HangWatch>,
    /// Its supervisor never gives up because of it.
    pub dispensable: bool,
}

/// A child of a supervisor: an actor or another supervisor, with its type erased.
#[derive(Clone)]
pub struct Child {
    pub(crate) name: Arc<str>,
    pub(crate) terms: Terms,
    pub(crate) launch: Arc<dyn Launch>,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({}, {:?})", self.name, self.terms)
    }
}

/// Starts one life.
pub(crate) trait Launch: Send + Sync {
    fn launch(&self, seat: Seat, place: &Place);

    /// Takes a life out of its role from outside, because it hangs.
    fn evict(&self, life: u64);
}

/// An actor under construction, or why it could not be built.
pub(crate) type Building<A> = Pin<Box<dyn Future<Output = Result<A, String>>>>;

type BuildNow<A> = dyn Fn(&ChildContext) -> Result<A, String> + Send + Sync;
type BuildLater<A> = dyn Fn(ChildContext) -> Building<A> + Send + Sync;

/// Builds the actor of one life.
pub(crate) enum Factory<A> {
    Now(Box<BuildNow<A>>),
    Later(Box<BuildLater<A>>),
}

/// How to build and treat an actor. Every life begins with a fresh actor from the factory, never with what a
/// crashed one left behind.
pub struct ChildSpec<A: Actor> {
    name: Arc<str>,
    factory: Factory<A>,
    terms: Terms,
    mailbox: usize,
    slot: Option<Slot<A>>,
}

impl<A: Actor<Context = Context<A>>> ChildSpec<A> {
    /// A child built by a factory that cannot fail (a panic in it is caught and counts as a failure).
    pub fn new<F>(name: impl Into<Arc<str>>, factory: F) -> Self
    where
        F: Fn(&ChildContext) -> A + Send + Sync + 'static,
    {
        Self::with(name, Factory::Now(Box::new(move |context| Ok(factory(context)))))
    }

    /// A child whose factory may fail, which counts like a crash.
    pub fn fallible<F, E>(name: impl Into<Arc<str>>, factory: F) -> Self
    where
        F: Fn(&ChildContext) -> Result<A, E> + Send + Sync + 'static,
        E: fmt::Display,
    {
        Self::with(name, Factory::Now(Box::new(move |context| factory(context).map_err(|e| e.to_string()))))
    }

    /// A child that has to prepare itself before it can be built, such as by reading its state back from a disk.
    /// The future runs at the child's place; it is dropped when the child is stopped meanwhile.
    pub fn prepared<F, R, E>(name: impl Into<Arc<str>>, factory: F) -> Self
    where
        F: Fn(ChildContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, E>> + 'static,
        E: fmt::Display,
    {
        let factory = move |context| {
            let building = factory(context);
            Box::pin(async move { building.await.map_err(|e| e.to_string()) }) as Building<A>
        };
        Self::with(name, Factory::Later(Box::new(factory)))
    }

    /// A child that can be built only once, because its factory uses something up, such as an accepted
    /// connection. It is [`Temporary`](Restart::Temporary).
    pub fn once<F>(name: impl Into<Arc<str>>, factory: F) -> Self
    where
        F: FnOnce(&ChildContext) -> A + Send + 'static,
    {
        let factory = Mutex::new(Some(factory));
        let build = move |context: &ChildContext| {
            let factory = factory.lock().unwrap_or_else(PoisonError::into_inner).take();
            factory.map(|build| build(context)).ok_or_else(|| "it can be built only once".to_owned())
        };
        Self::with(name, Factory::Now(Box::new(build))).restart(Restart::Temporary)
    }

    fn with(name: impl Into<Arc<str>>, factory: Factory<A>) -> Self {
        let terms = Terms {
            restart: Restart::Permanent,
            place: Place::Here,
            shutdown: Some(Duration::from_secs(5)),
            hang: None,
            dispensable: false,
        };
        Self { name: name.into(), factory, terms, mailbox: 0, slot: None }
    }

    /// When it is restarted; [`Restart::Permanent`] unless said otherwise.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.terms.restart = restart;
        self
    }

    /// Where it lives; [`Place::Here`] unless said otherwise.
    pub fn place(mut self, place: Place) -> Self {
        self.terms.place = place;
        self
    }

    /// How many messages `send` lets into the mailbox; zero, the default, is unbounded. It is no protection
    /// against floods: `do_send`, and so [`Port::tell`](super::Port::tell), ignore it. actix's own default of
    /// 16 costs most of the throughput of pipelined requests.
    pub fn mailbox(mut self, capacity: usize) -> Self {
        self.mailbox = capacity;
        self
    }

    /// How long an ordered stop may take before the actor is killed; five seconds unless said otherwise. An actor
    /// whose `stopping` hook answers `Continue` runs on until then.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.terms.shutdown = Some(timeout);
        self
    }

    /// Watch for hangs: the actor is pinged through its own context, so that it hangs when it blocks its
    /// thread, and also when it waits for ever in `ctx.wait`. Unwatched unless asked for.
    ///
    /// # Panics
    /// If `timeout` is zero.
    pub fn hang_timeout(mut self, timeout: Duration, on_hang: OnHang) -> Self {
        assert!(!timeout.is_zero(), "a hang timeout must not be zero");
        self.terms.hang = Some(HangWatch { timeout, on_hang });
        self
    }

    /// Its siblings can do without it: however often it fails, its supervisor does not give up because of it, but tries
    /// again after pauses that grow to the longest of the policy.
    pub fn dispensable(mut self) -> Self {
        self.terms.dispensable = true;
        self
    }

    /// The role it plays: every life of the child fills it.
    pub fn slot(mut self, slot: &Slot<A>) -> Self {
        self.slot = Some(slot.clone());
        self
    }
}

impl<A: Actor> fmt::Debug for ChildSpec<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildSpec({}, {:?})", self.name, self.terms)
    }
}

/// How an actor comes to life: a [`ChildSpec`] without what only its supervisor needs.
pub(crate) struct Recipe<A: Actor> {
    pub factory: Factory<A>,
    pub mailbox: usize,
    pub slot: Option<Slot<A>>,
}

struct ActorLaunch<A: Actor>(Arc<Recipe<A>>);

impl<A: Actor<Context = Context<A>>> Launch for ActorLaunch<A> {
    fn launch(&self, seat: Seat, place: &Place) {
        let recipe = self.0.clone();
        life::settle(place, seat, move |seat| life::Life::new(recipe, seat));
    }

    fn evict(&self, life: u64) {
        if let Some(slot) = &self.0.slot {
            slot.vacate(life);
        }
    }
}

impl<A: Actor<Context = Context<A>>> From<ChildSpec<A>> for Child {
    fn from(spec: ChildSpec<A>) -> Self {
        let ChildSpec { name, factory, terms, mailbox, slot } = spec;
        let recipe = Arc::new(Recipe { factory, mailbox, slot });
        Self { name, terms, launch: Arc::new(ActorLaunch(recipe)) }
    }
}

impl From<Supervisor> for Child {
    fn from(spec: Supervisor) -> Self {
        spec.into_child()
    }
}
