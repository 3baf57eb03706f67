//! One life of a supervised actor: the future that builds it, runs it, and ends it without letting anything above
//! see a panic.
//!
//! tokio catches the panics of its tasks, but it drops the task while still unwinding; actix would then run
//! the hooks of the poisoned actor, and a second panic in them aborts the process. Here the panic is caught first,
//! the context is marked as terminated so that no hook runs, and only then is the actor dropped.

use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::Duration;

use actix::dev::ContextFut;
use actix::fut::wrap_future;
use actix::{Actor, ActorContext, Addr, Arbiter, AsyncContext, Context, System};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::child::{Building, ChildContext, Factory, Place, Recipe};
use super::core::ChildId;
use super::current::{self, CurrentActor};
use super::exit::{Exit, panic_text};
use super::orders::{Order, Orders};
use super::registry::Cell;
use super::runner::Event;

/// What a life is given to begin with.
pub(crate) struct Seat {
    pub context: ChildContext,
    /// Unique in the registry, growing: fences what earlier lives do late.
    pub life: u64,
    pub orders: Arc<Orders>,
    pub report: Report,
    /// Its entry in the registry.
    pub cell: Arc<Cell>,
}

/// The line from a life to its supervisor. Reports exactly one exit: [`Exit::Lost`] when it is dropped.
pub(crate) struct Report {
    to: Option<mpsc::UnboundedSender<Event>>,
    child: ChildId,
    generation: u64,
}

impl Report {
    pub fn new(to: mpsc::UnboundedSender<Event>, child: ChildId, generation: u64) -> Self {
        Self { to: Some(to), child, generation }
    }

    /// For the root of a tree, above which nobody listens.
    pub fn unheard() -> Self {
        Self { to: None, child: 0, generation: 0 }
    }

    pub fn is_heard(&self) -> bool {
        self.to.is_some()
    }

    pub fn up(&self) {
        if let Some(to) = &self.to {
            // A supervisor that is gone needs no report.
            let _ = to.send(Event::Up { child: self.child, generation: self.generation });
        }
    }

    pub fn exit(&mut self, exit: Exit) {
        if let Some(to) = self.to.take() {
            let _ = to.send(Event::Exit { child: self.child, generation: self.generation, exit });
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.exit(Exit::Lost);
    }
}

/// Takes a seat to its place and runs there what `make` makes of it.
pub(crate) fn settle<M, F>(place: &Place, mut seat: Seat, make: M)
where
    M: FnOnce(Seat) -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    match place {
        Place::Here => {
            tokio::task::spawn_local(make(seat));
        }
        // When the arbiter is dead the closure is dropped, and with it the seat: that reports `Lost`.
        Place::On(arbiter) => {
            arbiter.spawn_fn(move || {
                tokio::task::spawn_local(make(seat));
            });
        }
        Place::Own if System::try_current().is_none() => {
            seat.report.exit(Exit::Failed("an own arbiter needs a running actix System".to_owned()));
        }
        Place::Own => match Arbiter::try_new() {
            Err(e) => seat.report.exit(Exit::Failed(format!("no arbiter could be started: {e}"))),
            Ok(arbiter) => {
                arbiter.spawn_fn(move || {
                    tokio::task::spawn_local(async move {
                        make(seat).await;
                        Arbiter::current().stop();
                    });
                });
            }
        },
    }
}

/// A fault to be injected, at the place where the actor's own code runs.
enum Fault {
    Crash(String),
    Hang(Duration),
}

impl Fault {
    fn strike(self) {
        match self {
            Self::Crash(text) => panic!("{text}"),
            Self::Hang(long) => std::thread::sleep(long),
        }
    }
}

enum Body<A: Actor<Context = Context<A>>> {
    New,
    Building(Building<A>),
    /// The address keeps the mailbox connected: actix would stop an actor nobody can send to, while here stopping
    /// is always explicit.
    Running {
        future: Box<ContextFut<A, Context<A>>>,
        _keep: Addr<A>,
    },
    Over,
}

/// See the module.
pub(crate) struct Life<A: Actor<Context = Context<A>>> {
    recipe: Arc<Recipe<A>>,
    seat: Seat,
    body: Body<A>,
    identity: Option<Arc<CurrentActor>>,
    waker: Option<Waker>,
    announced: bool,
    told_to_stop: bool,
    fault: Option<Fault>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl<A: Actor<Context = Context<A>>> Life<A> {
    pub fn new(recipe: Arc<Recipe<A>>, seat: Seat) -> Self {
        let ChildContext { path, generation, .. } = &seat.context;
        let identity = Some(Arc::new(CurrentActor { path: path.clone(), generation: *generation }));
        Self {
            recipe,
            seat,
            body: Body::New,
            identity,
            waker: None,
            announced: false,
            told_to_stop: false,
            fault: None,
            stall: None,
        }
    }

    /// Runs the actor's own code (or that of its factory) as a panic boundary.
    fn guarded<T>(&mut self, run: impl FnOnce(&mut Self) -> T) -> Result<T, String> {
        let outer = current::exchange(self.identity.take());
        let result = catch_unwind(AssertUnwindSafe(|| run(self)));
        self.identity = current::exchange(outer);
        result.map_err(|payload| {
            let text = panic_text(&*payload);
            // A payload can be any value, so dropping it can run any code.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                mem::forget(again);
            }
            text
        })
    }

    /// Carries out the orders that have come in; `Some`: the life ends.
    fn obey(&mut self) -> Option<Exit> {
        while let Some(order) = self.seat.orders.take() {
            match order {
                Order::Kill => return Some(Exit::Killed),
                Order::Stop => match &mut self.body {
                    Body::Running { future, .. } => {
                        self.told_to_stop = true;
                        future.ctx().stop();
                    }
                    _ => return Some(Exit::Stopped),
                },
                Order::Ping(number) => {
                    if let Body::Running { future, .. } = &mut self.body {
                        let orders = self.seat.orders.clone();
                        future.ctx().spawn(wrap_future(async move { orders.answer(number) }));
                    }
                }
                Order::Crash(text) => self.fault = Some(Fault::Crash(text)),
                Order::Hang(long) => self.fault = Some(Fault::Hang(long)),
                Order::Stall(long) => self.stall = Some(Box::pin(tokio::time::sleep(long))),
            }
        }
        None
    }

    fn advance(&mut self, cx: &mut TaskContext<'_>) -> Poll<Exit> {
        if let Some(fault) = self.fault.take() {
            fault.strike();
        }
        loop {
            match &mut self.body {
                Body::Running { future, .. } => {
                    ready!(Pin::new(&mut **future).poll(cx));
                    return Poll::Ready(if self.told_to_stop { Exit::Stopped } else { Exit::Normal });
                }
                Body::Building(building) => match ready!(building.as_mut().poll(cx)) {
                    Ok(actor) => self.embody(actor),
                    Err(text) => return Poll::Ready(Exit::Failed(text)),
                },
                Body::New => match &self.recipe.factory {
                    Factory::Later(build) => self.body = Body::Building(build(self.seat.context.clone())),
                    Factory::Now(build) => match build(&self.seat.context) {
                        Ok(actor) => self.embody(actor),
                        Err(text) => return Poll::Ready(Exit::Failed(text)),
                    },
                },
                Body::Over => unreachable!("a life is not polled after its end"),
            }
        }
    }

    fn embody(&mut self, actor: A) {
        let mut context = Context::new();
        context.set_mailbox_capacity(self.recipe.mailbox);
        let address = context.address();
        let future = Box::new(context.into_future(actor));
        self.body = Body::Running { future, _keep: address.clone() };
        if let Some(slot) = &self.recipe.slot {
            slot.fill(self.seat.life, self.seat.context.generation, address);
        }
    }

    /// Takes the actor out of its role and drops it without running its hooks; the text of a panic in a
    /// destructor.
    fn bury(&mut self) -> Option<String> {
        let mut body = mem::replace(&mut self.body, Body::Over);
        let buried = self.guarded(|this| {
            if let Some(slot) = &this.recipe.slot {
                slot.vacate(this.seat.life);
            }
            if let Body::Running { future, .. } = &mut body {
                future.ctx().terminate();
            }
            drop(body);
        });
        buried.err()
    }

    fn turn(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.seat.orders.listen(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
        if let Some(exit) = self.obey() {
            return self.end(exit);
        }
        if let Some(stall) = &mut self.stall {
            ready!(stall.as_mut().poll(cx));
            self.stall = None;
        }
        match self.guarded(|this| this.advance(cx)) {
            Err(text) => self.end(Exit::Panicked(text)),
            Ok(Poll::Ready(exit)) => self.end(exit),
            Ok(Poll::Pending) => {
                if !self.announced && matches!(self.body, Body::Running { .. }) {
                    self.announced = true;
                    self.seat.report.up();
                }
                Poll::Pending
            }
        }
    }

    /// The report comes last: locks, files and ports of this life are free before a successor starts.
    fn end(&mut self, exit: Exit) -> Poll<()> {
        let exit = match self.bury() {
            Some(text) if !exit.is_failure() => Exit::Panicked(text),
            _ => exit,
        };
        self.seat.report.exit(exit);
        Poll::Ready(())
    }
}

impl<A: Actor<Context = Context<A>>> Future for Life<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.seat.orders.poll_begins();
        let polled = this.turn(cx);
        this.seat.orders.poll_ends();
        polled
    }
}

/// The runtime went away under the actor: it is dropped as if it had been killed, and its report says `Lost`.
impl<A: Actor<Context = Context<A>>> Drop for Life<A> {
    fn drop(&mut self) {
        if !matches!(self.body, Body::Over) {
            self.bury();
        }
    }
}
