//! What a supervisor is: its strategy, its policy and its children.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::logic::restart::RestartPolicy;

use super::child::{Child, Launch, Place, Restart, Terms};
use super::exit::Exit;
use super::handle::SupervisorRef;
use super::life::{self, Seat};
use super::registry::Registry;
use super::runner;

/// Which children are restarted together with one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Only itself: the children do not depend on each other.
    OneForOne,
    /// All of them: none can go on without the others.
    OneForAll,
    /// Itself and those started after it: children depend on earlier ones.
    RestForOne,
}

/// A supervisor to be: start it as the root of a tree ([`start`](Self::start)) or make it a
/// [`child`](Self::child) of another.
#[derive(Debug)]
pub struct Supervisor {
    pub(crate) plan: Plan,
    terms: Terms,
}

/// What every life of a supervisor begins with.
pub(crate) struct Plan {
    pub name: Arc<str>,
    pub strategy: Strategy,
    pub policy: RestartPolicy,
    pub children: Vec<Child>,
    pub handle: SupervisorRef,
    pub on_give_up: Option<GiveUp>,
    pub escalation: Option<RestartPolicy>,
}

/// Called when the root of a tree fails.
pub(crate) type GiveUp = Box<dyn Fn(&Exit) + Send + Sync>;

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({}, {:?}, {:?})", self.name, self.strategy, self.children)
    }
}

impl Supervisor {
    /// A supervisor without children, with the default [`RestartPolicy`].
    pub fn new(name: impl Into<Arc<str>>, strategy: Strategy) -> Self {
        let name = name.into();
        let handle = SupervisorRef::new(name.clone());
        let policy = RestartPolicy::default();
        let (children, on_give_up, escalation) = (Vec::new(), None, None);
        let plan = Plan { name, strategy, policy, children, handle, on_give_up, escalation };
        let terms = Terms {
            restart: Restart::Permanent,
            place: Place::Here,
            shutdown: None,
            hang: None,
            dispensable: false,
        };
        Self { plan, terms }
    }

    /// How often, and after what delays, children are restarted. The intensity counts for all of them together,
    /// a group restart once; the back-off is each child's own, or the group's where they restart as a group.
    pub fn policy(mut self, policy: RestartPolicy) -> Self {
        self.plan.policy = policy;
        self
    }

    /// How often supervisors below that gave up are restarted, where that is counted apart from failures of actors.
    /// Each of them has failed often already, which takes time: with the same intensity at both levels nothing would
    /// ever get past the upper one. Only the intensity of this policy counts, and its window should be well above the
    /// time in which a supervisor below gives up a few times.
    pub fn escalation(mut self, policy: RestartPolicy) -> Self {
        self.plan.escalation = Some(policy);
        self
    }

    /// Adds a child. Children start in the order in which they were added, each when the one before is up, and
    /// stop in the reverse order.
    ///
    /// # Panics
    /// If there is a child of that name already, or the name is empty or contains a `/`.
    pub fn child(mut self, child: impl Into<Child>) -> Self {
        let child = child.into();
        assert!(valid_name(&child.name), "{:?} is no name for a child of {}", child.name, self.plan.name);
        let taken = self.plan.children.iter().any(|other| other.name == child.name);
        assert!(!taken, "{} has two children called {}", self.plan.name, child.name);
        self.plan.children.push(child);
        self
    }

    /// As a child: when it is restarted; [`Restart::Permanent`] unless said otherwise.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.terms.restart = restart;
        self
    }

    /// As a child: where it lives, and so its children that live [`Place::Here`].
    pub fn place(mut self, place: Place) -> Self {
        self.terms.place = place;
        self
    }

    /// As a child: how long an ordered stop of the whole subtree may take before it is killed. Without a limit
    /// unless said otherwise, because the actors in it have limits of their own.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.terms.shutdown = Some(timeout);
        self
    }

    /// As a child: as [`ChildSpec::dispensable`](super::ChildSpec::dispensable), for the whole subtree.
    pub fn dispensable(mut self) -> Self {
        self.terms.dispensable = true;
        self
    }

    /// As the root: called, once, when it ended by a failure, such as its children failing too often. There
    /// is nobody above it, so this should end the process with a non-zero code.
    pub fn on_give_up(mut self, call: impl Fn(&Exit) + Send + Sync + 'static) -> Self {
        self.plan.on_give_up = Some(Box::new(call));
        self
    }

    /// A reference to this supervisor that stays good across its restarts; it can be taken before it starts.
    pub fn handle(&self) -> SupervisorRef {
        self.plan.handle.clone()
    }

    /// Starts it as the root of a tree, on the current thread's `LocalSet` (an actix `System` or arbiter
    /// has one).
    ///
    /// # Panics
    /// If there is no current tokio runtime with a `LocalSet`, or the registry has a root of this name already.
    pub fn start(self, registry: &Arc<Registry>) -> SupervisorRef {
        let handle = self.handle();
        runner::start_root(Arc::new(self.plan), registry);
        handle
    }

    pub(crate) fn into_child(self) -> Child {
        let name = self.plan.name.clone();
        Child { name, terms: self.terms, launch: Arc::new(SupervisorLaunch(Arc::new(self.plan))) }
    }
}

/// Whether something may be called this in a path.
pub(crate) fn valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/')
}

struct SupervisorLaunch(Arc<Plan>);

impl Launch for SupervisorLaunch {
    fn launch(&self, seat: Seat, place: &Place) {
        let plan = self.0.clone();
        life::settle(place, seat, move |seat| runner::run(plan, seat));
    }

    /// A supervisor plays no role that ports point to.
    fn evict(&self, _life: u64) {}
}
