//! Ports, dynamic children, places and hangs.

mod supervision_support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use actix::prelude::*;
use quorate::actors::supervision::{
    AskError, ChildError, ChildSpec, Exit, Fair, Gone, OnHang, Place, Port, Registry, Restart, Slot, State,
    Strategy, Supervisor, Watchdog,
};
use quorate::logic::restart::RestartPolicy;
use supervision_support::{
    At, Boom, Journal, Probe, Trio, Which, exact, failing, ms, paused, probe, settle, state,
};

#[test]
fn a_port_follows_the_role_across_lives_and_refuses_in_the_gap() {
    paused(async {
        let policy = exact().delays(ms(20), ms(20), ms(20));
        let trio = Trio::start(Strategy::OneForOne, policy).await;
        let port: Port<Which> = trio.slots[0].port();
        assert!(port.is_up());
        assert_eq!(port.ask(Which, ms(5)).await, Ok(1));
        trio.boom(0);
        settle().await;
        assert!(!port.is_up());
        assert_eq!(port.tell(Which), Err(Gone));
        assert_eq!(port.ask(Which, ms(5)).await, Err(AskError::Gone));
        assert_eq!(port.generation(), 1, "the last one");
        tokio::time::sleep(ms(20)).await;
        assert_eq!(port.ask(Which, ms(5)).await, Ok(2));
        assert_eq!(port.clone().generation(), 2);
        trio.top.shutdown().await;
        assert_eq!(port.tell(Which), Err(Gone));
    });
}

#[test]
fn a_port_taken_before_the_first_start_works_afterwards() {
    paused(async {
        let journal = Journal::new();
        let slot = Slot::new("a");
        let port: Port<Which> = slot.port();
        assert_eq!((port.is_up(), port.generation(), port.tell(Which)), (false, 0, Err(Gone)));
        let top = Supervisor::new("top", Strategy::OneForOne).child(probe("a", &journal).slot(&slot));
        top.start(&Registry::new(1)).ready().await.expect("it comes up");
        assert_eq!(port.ask(Which, ms(5)).await, Ok(1));
    });
}

#[test]
fn a_port_neither_keeps_an_actor_alive_nor_is_needed_to() {
    paused(async {
        let journal = Journal::new();
        let top = Supervisor::new("top", Strategy::OneForOne).policy(exact()).child(probe("a", &journal));
        let registry = Registry::new(1);
        let top = top.start(&registry);
        tokio::time::sleep(ms(1000)).await;
        assert_eq!(journal.text(), "+a1", "without any address it runs on");
        let slot = Slot::new("b");
        let port: Port<Which> = slot.port();
        top.start_child(probe("b", &journal).slot(&slot)).await.expect("it starts");
        assert_eq!(top.stop_child("b").await, Ok(Exit::Stopped));
        assert!(!port.is_up());
        assert_eq!(journal.text(), "+b1 -b1");
    });
}

#[test]
fn an_answer_that_takes_too_long_is_a_timeout() {
    paused(async {
        let trio = Trio::start(Strategy::OneForOne, exact()).await;
        trio.registry.stall("top/a", ms(100)).expect("it runs");
        settle().await;
        assert_eq!(trio.slots[0].port().ask(Which, ms(50)).await, Err(AskError::Timeout));
        tokio::time::sleep(ms(60)).await;
        assert_eq!(trio.slots[0].port().ask(Which, ms(50)).await, Ok(1));
    });
}

#[test]
fn dynamic_children_come_and_go() {
    paused(async {
        let journal = Journal::new();
        let registry = Registry::new(1);
        let pool = Supervisor::new("pool", Strategy::OneForOne);
        let pool_ref = pool.handle();
        let top = Supervisor::new("top", Strategy::OneForOne).policy(exact()).child(pool).start(&registry);
        top.ready().await.expect("it comes up");
        for n in 0..3 {
            let name = format!("c{n}");
            let journal = journal.clone();
            let child = ChildSpec::once(name.clone(), move |context| Probe {
                name,
                generation: context.generation(),
                journal,
                panics: At::Nowhere,
                drops_noted: false,
            });
            drop(pool_ref.start_child(child));
        }
        settle().await;
        assert_eq!(registry.paths(), ["top", "top/pool", "top/pool/c0", "top/pool/c1", "top/pool/c2"]);
        let duplicate = pool_ref.start_child(probe("c1", &journal)).await;
        assert_eq!(duplicate, Err(ChildError::Duplicate("c1".into())));
        let misnamed = pool_ref.start_child(probe("a/b", &journal)).await;
        assert_eq!(misnamed, Err(ChildError::BadName("a/b".into())));
        registry.crash("top/pool/c1", "chaos").expect("it runs");
        settle().await;
        assert_eq!(registry.paths(), ["top", "top/pool", "top/pool/c0", "top/pool/c2"]);
        assert_eq!(pool_ref.stop_child("c0").await, Ok(Exit::Stopped));
        assert_eq!(pool_ref.stop_child("c0").await, Err(ChildError::Unknown("c0".into())));
        assert_eq!(registry.total_restarts(), 0);
        journal.take();
        let generation = pool_ref.start_child(probe("c1", &journal)).await.expect("the name is free again");
        assert!(generation > 1, "no generation of a name is used twice");
        assert_eq!(top.shutdown().await, Exit::Stopped);
        assert_eq!(journal.text(), "+c12 -c12 -c21");
    });
}

#[test]
fn thousands_of_dynamic_children() {
    paused(async {
        let registry = Registry::new(1);
        let journal = Journal::new();
        let pool = Supervisor::new("pool", Strategy::OneForOne).start(&registry);
        pool.ready().await.expect("it comes up");
        for n in 0..5000 {
            drop(pool.start_child(probe(&format!("c{n}"), &journal).restart(Restart::Temporary)));
        }
        settle().await;
        assert_eq!(registry.actors().len(), 5000);
        assert_eq!(pool.shutdown().await, Exit::Stopped);
        assert_eq!(registry.paths(), ["pool"]);
        assert_eq!(journal.take().len(), 10_000, "all of them stopped in good order");
    });
}

#[test]
fn a_permanent_dynamic_child_is_restarted_but_not_across_its_supervisor() {
    paused(async {
        let journal = Journal::new();
        let registry = Registry::new(1);
        let pool = Supervisor::new("pool", Strategy::OneForOne).policy(exact());
        let pool_ref = pool.handle();
        let top = Supervisor::new("top", Strategy::OneForOne).policy(exact()).child(pool).start(&registry);
        top.ready().await.expect("it comes up");
        pool_ref.start_child(probe("d", &journal)).await.expect("it starts");
        registry.crash("top/pool/d", "chaos").expect("it runs");
        settle().await;
        assert_eq!(journal.text(), "+d1 +d2");
        registry.crash("top/pool", "chaos").expect("it runs");
        settle().await;
        assert_eq!(journal.text(), "");
        assert_eq!(registry.paths(), ["top", "top/pool"]);
        pool_ref.start_child(probe("d", &journal)).await.expect("the same handle still works");
        assert_eq!(journal.text(), "+d3");
    });
}

#[test]
fn a_dynamic_child_that_does_not_start_says_so() {
    paused(async {
        let journal = Journal::new();
        let pool = Supervisor::new("pool", Strategy::OneForOne).start(&Registry::new(1));
        let child = failing("c", &journal, At::Started, 1).restart(Restart::Temporary);
        match pool.start_child(child).await {
            Err(ChildError::NotStarted(Exit::Panicked(text))) => assert!(text.contains("in started")),
            other => panic!("{other:?}"),
        }
    });
}

/// An actor that waits for ever, without blocking its thread.
struct Stuck(u64);

impl Actor for Stuck {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.0 == 1 {
            ctx.wait(actix::fut::wrap_future(std::future::pending()));
        }
    }
}

#[test]
fn an_actor_that_waits_for_ever_is_killed_and_restarted() {
    paused(async {
        let registry = Registry::new(1);
        let stuck = ChildSpec::new("s", |context| Stuck(context.generation()))
            .hang_timeout(ms(1000), OnHang::Report)
            .restart(Restart::Transient);
        let top = Supervisor::new("top", Strategy::OneForOne).policy(exact()).child(stuck).start(&registry);
        top.ready().await.expect("it comes up");
        tokio::time::sleep(ms(1499)).await;
        assert_eq!(
            registry.status("top/s").expect("there").generation,
            1,
            "half a timeout, then a whole one"
        );
        tokio::time::sleep(ms(2)).await;
        let status = registry.status("top/s").expect("there");
        assert_eq!((status.generation, status.state), (2, State::Running));
        assert_eq!(status.last_cause.as_deref(), Some("hung"));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(registry.total_restarts(), 1, "a healthy one is left alone");
    });
}

/// Blocks its thread in its first life until it is released.
struct Blocker {
    generation: u64,
    release: Arc<Mutex<mpsc::Receiver<()>>>,
    journal: Journal,
}

impl Actor for Blocker {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Block;

impl Handler<Block> for Blocker {
    type Result = ();

    fn handle(&mut self, Block: Block, _: &mut Self::Context) {
        let _ = self.release.lock().unwrap().recv();
    }
}

impl Handler<Which> for Blocker {
    type Result = u64;

    fn handle(&mut self, Which: Which, _: &mut Self::Context) -> u64 {
        self.generation
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        self.journal.note(format!("~{}", self.generation));
    }
}

fn blocker(slot: &Slot<Blocker>, journal: &Journal) -> (ChildSpec<Blocker>, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel();
    let (held, journal) = (Arc::new(Mutex::new(held)), journal.clone());
    let spec = ChildSpec::new("x", move |context| Blocker {
        generation: context.generation(),
        release: held.clone(),
        journal: journal.clone(),
    });
    (spec.slot(slot), release)
}

/// Real time: a paused clock would run ahead of the other thread.
#[test]
fn an_actor_that_blocks_its_own_thread_is_reported_abandoned_and_replaced() {
    System::new().block_on(async {
        let registry = Registry::new(1);
        let (hung, mut reports) = tokio::sync::mpsc::unbounded_channel();
        registry.on_hang(move |hang| hung.send((hang.path.to_string(), hang.generation)).unwrap());
        let (slot, journal) = (Slot::new("x"), Journal::new());
        let (spec, release) = blocker(&slot, &journal);
        let spec = spec.place(Place::Own).hang_timeout(ms(50), OnHang::Abandon);
        let top = Supervisor::new("top", Strategy::OneForOne).policy(exact()).child(spec).start(&registry);
        top.ready().await.expect("it comes up");
        slot.port::<Block>().tell(Block).expect("up");
        assert_eq!(reports.recv().await, Some(("top/x".into(), 1)));
        while slot.port::<Which>().ask(Which, Duration::from_secs(5)).await != Ok(2) {
            tokio::task::yield_now().await;
        }
        assert_eq!(journal.text(), "", "the first life is still in its handler");
        release.send(()).expect("it waits");
        while journal.text() != "~1" {
            tokio::task::yield_now().await;
        }
        assert_eq!(slot.port::<Which>().ask(Which, Duration::from_secs(5)).await, Ok(2));
        assert_eq!(registry.total_restarts(), 1, "its late report changed nothing");
        top.shutdown().await;
    });
}

/// The supervisor shares the blocked thread, so that only the watchdog can see it.
#[test]
fn the_watchdog_sees_a_thread_blocked_together_with_its_supervisor() {
    System::new().block_on(async {
        let registry = Registry::new(1);
        let (hung, reports) = mpsc::channel();
        let (slot, journal) = (Slot::new("x"), Journal::new());
        let (spec, release) = blocker(&slot, &journal);
        let seen = registry.clone();
        registry.on_hang(move |hang| {
            hung.send((hang.path.to_string(), state(&seen, &hang.path))).unwrap();
            release.send(()).unwrap();
        });
        let _watchdog = Watchdog::start(&registry, ms(40)).expect("a thread can be started");
        let top = Supervisor::new("top", Strategy::OneForOne).child(spec).start(&registry);
        top.ready().await.expect("it comes up");
        slot.port::<Block>().tell(Block).expect("up");
        assert_eq!(slot.port().ask(Which, Duration::from_secs(30)).await, Ok(1));
        assert_eq!(reports.recv(), Ok(("top/x".into(), State::Hung)));
        while state(&registry, "top/x") != State::Running {
            tokio::task::yield_now().await;
        }
        top.shutdown().await;
    });
}

/// Holds up whoever drops it, until it is let go.
struct Clinging(Mutex<mpsc::Receiver<()>>, mpsc::Sender<bool>);

impl Drop for Clinging {
    fn drop(&mut self) {
        let let_go = self.0.get_mut().unwrap().recv_timeout(Duration::from_secs(30)).is_ok();
        let _ = self.1.send(let_go);
    }
}

/// A watched tree, and something clinging that is let go as soon as somebody is reported.
struct Held {
    registry: Arc<Registry>,
    reported: mpsc::Receiver<String>,
    let_go: mpsc::Receiver<bool>,
    _watchdog: Watchdog,
}

impl Held {
    fn new() -> (Self, Clinging) {
        let registry = Registry::new(1);
        let (release, held) = mpsc::channel();
        let (report, reported) = mpsc::channel();
        let (drops, let_go) = mpsc::channel();
        registry.on_hang(move |hang| {
            report.send(hang.path.to_string()).unwrap();
            let _ = release.send(());
        });
        let watchdog = Watchdog::start(&registry, ms(40)).expect("a thread can be started");
        (Self { registry, reported, let_go, _watchdog: watchdog }, Clinging(Mutex::new(held), drops))
    }

    /// Whom the watchdog has seen.
    fn seen(&self) -> String {
        assert_eq!(self.let_go.recv(), Ok(true), "the watchdog has seen nobody");
        self.reported.recv().expect("whoever was let go was reported")
    }
}

/// An actor that takes something clinging with it.
struct Hoarder {
    _with: Clinging,
}

impl Actor for Hoarder {
    type Context = Context<Self>;
}

#[test]
fn the_watchdog_sees_a_thread_blocked_by_a_destructor() {
    System::new().block_on(async {
        let (held, clinging) = Held::new();
        let top = Supervisor::new("top", Strategy::OneForOne).start(&held.registry);
        let hoarder = ChildSpec::once("x", move |_| Hoarder { _with: clinging });
        top.start_child(hoarder).await.expect("it comes up");
        top.stop_child("x").await.expect("it ends");
        assert_eq!(held.seen(), "top/x");
        top.shutdown().await;
    });
}

/// A child that is gone is forgotten by its supervisor, and with it the factory and all that this had.
#[test]
fn the_watchdog_sees_a_thread_blocked_by_a_supervisor() {
    System::new().block_on(async {
        let (held, clinging) = Held::new();
        let journal = Journal::new();
        let top = Supervisor::new("top", Strategy::OneForOne).start(&held.registry);
        let child = ChildSpec::new("x", move |context| {
            let _kept = &clinging;
            let (name, journal) = ("x".to_owned(), journal.clone());
            Probe { name, generation: context.generation(), journal, panics: At::Nowhere, drops_noted: false }
        });
        top.start_child(child).await.expect("it comes up");
        top.stop_child("x").await.expect("it ends");
        top.shutdown().await;
        assert_eq!(held.seen(), "top");
    });
}

#[test]
fn children_live_on_the_arbiter_they_are_given() {
    System::new().block_on(async {
        let (registry, journal, slot) = (Registry::new(1), Journal::new(), Slot::new("x"));
        let arbiter = Arbiter::new();
        let spec = probe("a", &journal).place(Place::On(arbiter.handle())).slot(&slot);
        let heard = Arc::new(Mutex::new(None));
        let call = heard.clone();
        let top = Supervisor::new("top", Strategy::OneForOne)
            .policy(RestartPolicy::intensity(2, Duration::from_secs(60)).delays(ms(0), ms(0), ms(0)))
            .on_give_up(move |exit| *call.lock().unwrap() = Some(exit.clone()))
            .child(spec)
            .child(probe("b", &journal).place(Place::Own))
            .start(&registry);
        top.ready().await.expect("it comes up");
        slot.port::<Boom>().tell(Boom("boom")).expect("up");
        while slot.port::<Which>().ask(Which, Duration::from_secs(5)).await != Ok(2) {
            tokio::task::yield_now().await;
        }
        // A dead arbiter takes its actors along, and no restart there can help.
        arbiter.stop();
        arbiter.join().expect("it ends");
        assert_eq!(top.ended().await, Exit::GaveUp("its thread went away".into()));
        assert_eq!(*heard.lock().unwrap(), Some(Exit::GaveUp("its thread went away".into())));
        assert_eq!(journal.text(), "+a1 +b1 +a2 -b1", "no hook runs on a dead arbiter");
    });
}

#[test]
fn a_local_set_and_a_clock_are_enough() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let host = tokio::task::LocalSet::new();
    host.block_on(&runtime, async {
        let journal = Journal::new();
        let registry = Registry::new(1);
        let top = Supervisor::new("top", Strategy::OneForAll)
            .policy(exact())
            .child(probe("a", &journal))
            .child(probe("b", &journal))
            .start(&registry);
        top.ready().await.expect("it comes up");
        registry.crash("top/a", "chaos").expect("it runs");
        settle().await;
        assert_eq!(journal.text(), "+a1 +b1 -b1 +a2 +b2");
        let own = top.start_child(probe("c", &journal).place(Place::Own).restart(Restart::Temporary)).await;
        assert!(matches!(own, Err(ChildError::NotStarted(Exit::Failed(_)))), "{own:?}");
    });
}

#[test]
fn a_power_cut_runs_no_hooks() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (registry, slot) = (Registry::new(1), Slot::<Probe>::new("a"));
    let (host, journal) = runtime.block_on(async {
        let host = tokio::task::LocalSet::new();
        let journal = Journal::new();
        let spec = Supervisor::new("top", Strategy::OneForOne).child(probe("a", &journal).slot(&slot));
        let top = host.run_until(async { spec.start(&registry) }).await;
        host.run_until(top.ready()).await.expect("it comes up");
        (host, journal)
    });
    runtime.block_on(async { drop(host) });
    assert_eq!(journal.text(), "+a1");
    assert_eq!(slot.port::<Which>().tell(Which), Err(Gone));
    assert_eq!(state(&registry, "top"), State::Stopped);
}

/// Counts its messages, and its ticks meanwhile.
struct Flooded {
    fair: Option<Fair>,
    ticks: Arc<AtomicU64>,
}

impl Actor for Flooded {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Drop1;

impl Handler<Drop1> for Flooded {
    type Result = ();

    fn handle(&mut self, Drop1: Drop1, ctx: &mut Self::Context) {
        if let Some(fair) = &mut self.fair {
            fair.handled(ctx);
        }
    }
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Ticks;

impl Handler<Ticks> for Flooded {
    type Result = u64;

    fn handle(&mut self, Ticks: Ticks, _: &mut Self::Context) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }
}

/// How many turns another task of the thread gets while 640 messages are handled.
fn turns_during_a_flood(fair: bool) -> u64 {
    paused(async move {
        let (slot, ticks) = (Slot::new("f"), Arc::new(AtomicU64::new(0)));
        let counter = ticks.clone();
        let child = ChildSpec::new("f", move |_| Flooded {
            fair: fair.then(|| Fair::every(64.try_into().expect("not zero"))),
            ticks: counter.clone(),
        });
        let top =
            Supervisor::new("top", Strategy::OneForOne).child(child.slot(&slot)).start(&Registry::new(1));
        top.ready().await.expect("it comes up");
        for _ in 0..640 {
            slot.port::<Drop1>().tell(Drop1).expect("up");
        }
        let answer = slot.port::<Ticks>().ask(Ticks, ms(1000));
        let other = tokio::task::spawn_local(async move {
            loop {
                ticks.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let turns = answer.await.expect("it answers");
        other.abort();
        turns
    })
}

#[test]
fn a_fair_actor_gives_others_their_turn_during_a_flood() {
    assert!(turns_during_a_flood(false) <= 1);
    assert!(turns_during_a_flood(true) >= 9);
}
