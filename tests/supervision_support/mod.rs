//! What the supervision tests share: a paused clock, a journal, and an actor that can be made to fail anywhere.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use quorate::actors::supervision::{ChildSpec, Registry, Slot, State, Strategy, Supervisor, SupervisorRef};
use quorate::logic::restart::RestartPolicy;
use tokio::time::Instant;

/// Runs a test on a clock that stands still while there is work, and jumps to the next timer when there is none.
pub fn paused<T>(test: impl Future<Output = T>) -> T {
    let system = System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime can be built")
    });
    system.block_on(test)
}

pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Lets everything that can happen now happen, and one virtual millisecond pass.
pub async fn settle() {
    tokio::time::sleep(ms(1)).await;
}

/// What happened, in order.
#[derive(Clone)]
pub struct Journal {
    lines: Arc<Mutex<Vec<(u64, String)>>>,
    epoch: Instant,
}

impl Journal {
    pub fn new() -> Self {
        Self { lines: Arc::default(), epoch: Instant::now() }
    }

    pub fn note(&self, line: impl Into<String>) {
        let at = self.epoch.elapsed().as_millis() as u64;
        self.lines.lock().unwrap().push((at, line.into()));
    }

    /// Takes the lines out.
    pub fn take(&self) -> Vec<String> {
        self.lines.lock().unwrap().drain(..).map(|(_, line)| line).collect()
    }

    /// Takes the lines out, each with its time in milliseconds.
    pub fn take_timed(&self) -> Vec<(u64, String)> {
        self.lines.lock().unwrap().drain(..).collect()
    }

    /// Takes the lines out as one text.
    pub fn text(&self) -> String {
        self.take().join(" ")
    }
}

/// Where a probe is to panic, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Factory,
    Started,
    Stopping,
    Stopped,
    Drop,
    Nowhere,
}

/// Notes `+name` when it starts, `-name` in its `stopped` hook and `~name` when it is dropped.
pub struct Probe {
    pub name: String,
    pub generation: u64,
    pub journal: Journal,
    pub panics: At,
    pub drops_noted: bool,
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.journal.note(format!("+{}{}", self.name, self.generation));
        assert_ne!(self.panics, At::Started, "in started");
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        assert_ne!(self.panics, At::Stopping, "in stopping");
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.journal.note(format!("-{}{}", self.name, self.generation));
        assert_ne!(self.panics, At::Stopped, "in stopped");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.drops_noted {
            self.journal.note(format!("~{}{}", self.name, self.generation));
        }
        assert_ne!(self.panics, At::Drop, "in drop");
    }
}

/// Panics.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Boom(pub &'static str);

/// Asks for the generation.
#[derive(Message)]
#[rtype(result = "u64")]
pub struct Which;

/// Makes it stop itself.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave;

impl Handler<Boom> for Probe {
    type Result = ();

    fn handle(&mut self, Boom(text): Boom, _: &mut Self::Context) {
        panic!("{text}");
    }
}

impl Handler<Which> for Probe {
    type Result = u64;

    fn handle(&mut self, Which: Which, _: &mut Self::Context) -> u64 {
        self.generation
    }
}

impl Handler<Leave> for Probe {
    type Result = ();

    fn handle(&mut self, Leave: Leave, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// A child that never fails by itself.
pub fn probe(name: &str, journal: &Journal) -> ChildSpec<Probe> {
    failing(name, journal, At::Nowhere, 0)
}

/// A child that panics at this place in its generations up to `until`.
pub fn failing(name: &str, journal: &Journal, at: At, until: u64) -> ChildSpec<Probe> {
    let (label, journal) = (name.to_owned(), journal.clone());
    ChildSpec::new(name, move |context| {
        let panics = if context.generation() <= until { at } else { At::Nowhere };
        assert_ne!(panics, At::Factory, "in the factory");
        let (name, journal) = (label.clone(), journal.clone());
        Probe { name, generation: context.generation(), journal, panics, drops_noted: false }
    })
}

/// A policy whose delays can be foretold: 0, 50, 100, 200, 400 ms.
pub fn exact() -> RestartPolicy {
    RestartPolicy::intensity(100, ms(10_000)).delays(ms(0), ms(50), ms(400)).jitter(0).stable_after(ms(1000))
}

/// A running supervisor `top` of probes `a`, `b`, `c`, with their slots.
pub struct Trio {
    pub journal: Journal,
    pub registry: Arc<Registry>,
    pub top: SupervisorRef,
    pub slots: [Slot<Probe>; 3],
}

impl Trio {
    pub async fn start(strategy: Strategy, policy: RestartPolicy) -> Self {
        let journal = Journal::new();
        let registry = Registry::new(1);
        let slots = ["a", "b", "c"].map(Slot::new);
        let mut spec = Supervisor::new("top", strategy).policy(policy);
        for (name, slot) in ["a", "b", "c"].into_iter().zip(&slots) {
            spec = spec.child(probe(name, &journal).slot(slot));
        }
        let top = spec.start(&registry);
        top.ready().await.expect("it comes up");
        assert_eq!(journal.text(), "+a1 +b1 +c1");
        Self { journal, registry, top, slots }
    }

    pub fn boom(&self, child: usize) {
        self.slots[child].port::<Boom>().tell(Boom("boom")).expect("it is up");
    }
}

/// The state of what is at a path.
pub fn state(registry: &Registry, path: &str) -> State {
    registry.status(path).expect("there is such a path").state
}
