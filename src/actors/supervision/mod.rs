//! Supervision of actix actors, after Erlang/OTP: actors that fail are built anew, by rules, at their old place.
//!
//! actix's own `Supervisor` does not restart an actor that panics; it dies silently, and everybody who holds its
//! `Addr` talks to nobody from then on. Here an actor is a [child](ChildSpec) of a [`Supervisor`]: a factory that
//! can build it again and again, and the terms on which it is. What other actors hold is a [`Port`] to its role,
//! which is the same before and after.
//!
//! ```
//! use std::time::Duration;
//! use actix::prelude::*;
//! use quorate::actors::supervision::{ChildSpec, Port, Registry, Slot, Strategy, Supervisor};
//!
//! /// A counter that cannot count beyond two.
//! struct Counter(u64);
//!
//! impl Actor for Counter {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message)]
//! #[rtype(result = "u64")]
//! struct Count;
//!
//! impl Handler<Count> for Counter {
//!     type Result = u64;
//!     fn handle(&mut self, _: Count, _: &mut Self::Context) -> u64 {
//!         assert!(self.0 < 2, "too much");
//!         self.0 += 1;
//!         self.0
//!     }
//! }
//!
//! System::new().block_on(async {
//!     // The role comes first, so that references to it can be handed out before anybody plays it.
//!     let slot = Slot::<Counter>::new("counter");
//!     let counter: Port<Count> = slot.port();
//!
//!     let registry = Registry::new(42);
//!     let root = Supervisor::new("app", Strategy::OneForOne)
//!         .child(ChildSpec::new("counter", |_| Counter(0)).slot(&slot))
//!         .on_give_up(|exit| eprintln!("that is too much: {exit}"))
//!         .start(&registry);
//!     root.ready().await.expect("all children start");
//!
//!     let second = Duration::from_secs(1);
//!     assert_eq!(counter.ask(Count, second).await, Ok(1));
//!     assert_eq!(counter.ask(Count, second).await, Ok(2));
//!     assert!(counter.ask(Count, second).await.is_err(), "it panicked");
//!
//!     // A fresh counter plays the role; the port is the same.
//!     while counter.generation() < 2 {
//!         tokio::task::yield_now().await;
//!     }
//!     assert_eq!(counter.ask(Count, second).await, Ok(1));
//!     assert_eq!(registry.status("app/counter").map(|status| status.restarts), Some(1));
//!     root.shutdown().await;
//! });
//! ```
//!
//! # The tour
//!
//! For users, in reading order:
//!
//! * `child.rs`: [`ChildSpec`] (how an actor is built: at once, with a possible error, after an asynchronous
//!   preparation, or only once), its [`Restart`] kind, its [`Place`], and whether others can do without it.
//! * `supervisor.rs`: [`Supervisor`], its [`Strategy`], its [policy](crate::logic::restart::RestartPolicy). A
//!   supervisor can be a child.
//! * `handle.rs`: [`SupervisorRef`]: adding, stopping and restarting children while it runs; waiting; shutdown.
//! * `port.rs`: [`Slot`] and [`Port`].
//! * `exit.rs`: [`Exit`], why a life ended.
//! * `registry.rs`, `status.rs`: [`Registry`], the directory of a tree: [`Status`] for people, faults for tests.
//! * `current.rs`: who is running on this thread; [`install_panic_hook`]. `watchdog.rs`: [`Watchdog`], against
//!   blocked threads. `fair.rs`: [`Fair`], against floods.
//!
//! Behind them:
//!
//! * `life.rs`: the future that is one life of an actor, and the boundary at which panics end.
//! * `orders.rs`: how a supervisor reaches a life past its mailbox.
//! * `core.rs`: every decision of a supervisor, as a state machine without tasks or clocks; `heartbeat.rs`:
//!   when a child counts as hung.
//! * `runner.rs`: the task that feeds the core and does as it says.
//!
//! # What holds
//!
//! * A panic in a handler, hook, timer, future, factory or destructor ends one life of one actor. A poisoned actor
//!   handles no further message, none of its hooks run, and it is dropped before its successor is built.
//! * A supervisor hears of every life's end exactly once, also when the thread under it went away.
//! * A child has one life at a time (an abandoned one excepted, see [`OnHang::Abandon`]), and its generations grow,
//!   also when a supervisor above it is restarted.
//! * A port never delivers to a life that has ended; what was in the mailbox of that life is lost.
//! * Children start in order, each when the one before is up, and stop in reverse order. A supervisor has ended
//!   only when all of its children have.
//! * Stopping is always explicit: no lost or kept address ends or prolongs a life.
//! * In [`Place::Here`] nothing but a `LocalSet` and tokio's clock is needed: whole trees run in a simulation, and
//!   run the same way every time.
//!
//! # What is left to you
//!
//! * `ResponseFuture` and `spawn_local` tasks do not belong to the actor that started them: they outlive it, and a
//!   panic in one is nobody's. Use `ResponseActFuture` and `ctx.spawn` for whatever has effects.
//! * Messages are lost in the gap between two lives, and with a mailbox. Repeat what matters, and make repeating
//!   it harmless.
//! * State shared between actors may be half changed after a panic. Share handles, and let a factory read state
//!   back from where it is safe.
//! * A blocked thread cannot be stopped, only noticed: let [`Registry::on_hang`] end the process, and let whatever
//!   started the process start it again.
//! * On a paused clock, time runs ahead of other threads. Tests on one keep everything in [`Place::Here`].
//! * A panic needs `panic = "unwind"`.

pub use child::{Child, ChildContext, ChildSpec, OnHang, Place, Restart};
pub use current::{CurrentActor, current_actor, install_panic_hook};
pub use exit::Exit;
pub(crate) use exit::panic_text;
pub use fair::Fair;
pub use handle::{ChildError, Pending, SupervisorRef};
pub use port::{AskError, Gone, Port, Slot};
pub use registry::{Hang, NoSuchActor, Registry};
pub use status::{State, Status};
pub use supervisor::{Strategy, Supervisor};
pub use watchdog::Watchdog;

mod child;
mod core;
mod current;
mod exit;
mod fair;
mod handle;
mod heartbeat;
mod life;
mod orders;
mod port;
mod registry;
mod runner;
mod status;
mod supervisor;
mod watchdog;
