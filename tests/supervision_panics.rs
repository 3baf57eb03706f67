//! A panic anywhere in an actor ends that life of it, is reported once, and harms nobody else.

mod supervision_support;

use std::time::Duration;

use actix::prelude::*;
use quorate::actors::supervision::{
    AskError, ChildSpec, Exit, Registry, Restart, Slot, Strategy, Supervisor, current_actor,
};
use supervision_support::{
    At, Boom, Journal, Leave, Probe, Which, exact, failing, ms, paused, probe, settle,
};

/// Starts `a` as specified next to a bystander; panics if the bystander is ever disturbed.
async fn beside_a_bystander(child: ChildSpec<Probe>, journal: &Journal) -> std::sync::Arc<Registry> {
    let registry = Registry::new(1);
    let bystander = Slot::<Probe>::new("z");
    let top = Supervisor::new("top", Strategy::OneForOne)
        .policy(exact())
        .child(child)
        .child(probe("z", journal).slot(&bystander))
        .start(&registry);
    tokio::time::sleep(ms(200)).await;
    assert!(top.is_up());
    assert_eq!(bystander.port::<Which>().ask(Which, ms(100)).await, Ok(1));
    registry
}

fn cause(registry: &Registry, path: &str) -> String {
    registry.status(path).expect("it is there").last_cause.expect("it ended once")
}

#[test]
fn in_the_factory() {
    paused(async {
        let journal = Journal::new();
        let registry = beside_a_bystander(failing("a", &journal, At::Factory, 2), &journal).await;
        assert_eq!(journal.text(), "+z1 +a3");
        assert!(cause(&registry, "top/a").contains("in the factory"));
    });
}

#[test]
fn in_started() {
    paused(async {
        let journal = Journal::new();
        let registry = beside_a_bystander(failing("a", &journal, At::Started, 2), &journal).await;
        assert_eq!(journal.text(), "+a1 +a2 +z1 +a3", "no hook of a poisoned actor runs");
        assert!(cause(&registry, "top/a").contains("in started"));
    });
}

/// `a`, which panics at `at` in its first life, is told to leave by itself.
async fn leaves(at: At) -> (String, String) {
    let journal = Journal::new();
    let slot = Slot::new("a");
    let child = failing("a", &journal, at, 1).slot(&slot).restart(Restart::Transient);
    let registry = beside_a_bystander(child, &journal).await;
    journal.take();
    slot.port::<Leave>().tell(Leave).expect("up");
    settle().await;
    (journal.text(), cause(&registry, "top/a"))
}

#[test]
fn in_stopping() {
    let (journal, cause) = paused(leaves(At::Stopping));
    assert_eq!(journal, "+a2");
    assert!(cause.contains("in stopping"), "{cause}");
}

#[test]
fn in_stopped() {
    let (journal, cause) = paused(leaves(At::Stopped));
    assert_eq!(journal, "-a1 +a2");
    assert!(cause.contains("in stopped"), "{cause}");
}

#[test]
fn in_the_destructor_after_a_normal_end() {
    let (journal, cause) = paused(leaves(At::Drop));
    assert_eq!(journal, "-a1 +a2");
    assert!(cause.contains("in drop"), "{cause}");
}

#[test]
fn in_a_handler_and_then_in_every_hook_without_aborting() {
    for at in [At::Stopping, At::Stopped, At::Drop] {
        paused(async {
            let journal = Journal::new();
            let slot = Slot::new("a");
            let registry = beside_a_bystander(failing("a", &journal, at, 1).slot(&slot), &journal).await;
            slot.port::<Boom>().tell(Boom("first")).expect("up");
            settle().await;
            assert_eq!(journal.text(), "+a1 +z1 +a2");
            assert_eq!(cause(&registry, "top/a"), "panicked: first", "the first panic is the cause");
        });
    }
}

#[test]
fn the_poisoned_actor_handles_nothing_more_and_its_queue_is_refused() {
    paused(async {
        let journal = Journal::new();
        let slot = Slot::new("a");
        let _registry = beside_a_bystander(probe("a", &journal).slot(&slot), &journal).await;
        let which = slot.port::<Which>();
        let before = which.ask(Which, ms(100));
        slot.port::<Boom>().tell(Boom("poison")).expect("up");
        let behind = which.ask(Which, ms(100));
        assert_eq!(before.await, Ok(1));
        assert_eq!(behind.await, Err(AskError::Gone));
        settle().await;
        assert_eq!(which.ask(Which, ms(100)).await, Ok(2));
    });
}

/// Fails in a way of its own in its first life.
struct Odd {
    way: Way,
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    RunLater,
    RunInterval,
    Spawn,
    Wait,
    ActFuture,
    StaysOnWhenStopped,
    BadPayload,
}

impl Actor for Odd {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.generation > 1 {
            return;
        }
        match self.way {
            Way::RunLater => {
                ctx.run_later(ms(10), |_, _| panic!("odd"));
            }
            Way::RunInterval => {
                ctx.run_interval(ms(10), |_, _| panic!("odd"));
            }
            Way::Spawn => {
                ctx.spawn(actix::fut::wrap_future(async { panic!("odd") }));
            }
            Way::Wait => ctx.wait(actix::fut::wrap_future(async {
                tokio::time::sleep(ms(10)).await;
                panic!("odd");
            })),
            Way::ActFuture | Way::StaysOnWhenStopped | Way::BadPayload => ctx.address().do_send(Fail),
        }
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        match self.way {
            Way::StaysOnWhenStopped => Running::Continue,
            _ => Running::Stop,
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

/// Panics when it is dropped.
struct Nasty;

impl Drop for Nasty {
    fn drop(&mut self) {
        panic!("the payload of a panic panics");
    }
}

impl Handler<Fail> for Odd {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Fail: Fail, _: &mut Self::Context) -> Self::Result {
        match self.way {
            Way::ActFuture => Box::pin(
                async { tokio::time::sleep(ms(10)).await }.into_actor(self).map(|(), _, _| panic!("odd")),
            ),
            Way::BadPayload => std::panic::panic_any(Nasty),
            _ => panic!("odd"),
        }
    }
}

#[test]
fn in_timers_futures_and_responses() {
    use Way::*;
    for way in [RunLater, RunInterval, Spawn, Wait, ActFuture, StaysOnWhenStopped, BadPayload] {
        paused(async {
            let registry = Registry::new(1);
            let odd = ChildSpec::new("odd", move |context| Odd { way, generation: context.generation() })
                .shutdown_timeout(ms(50));
            let top = Supervisor::new("top", Strategy::OneForOne).policy(exact()).child(odd).start(&registry);
            tokio::time::sleep(ms(100)).await;
            let status = registry.status("top/odd").expect("it is there");
            assert_eq!((status.generation, status.restarts), (2, 1), "{way:?}");
            let expected = if matches!(way, BadPayload) { "panicked: (no text)" } else { "panicked: odd" };
            assert_eq!(status.last_cause.as_deref(), Some(expected), "{way:?}");
            let began = tokio::time::Instant::now();
            assert_eq!(top.shutdown().await, Exit::Stopped);
            let took = began.elapsed();
            if matches!(way, StaysOnWhenStopped) {
                assert_eq!(took, ms(50), "it would not stop and was killed");
            } else {
                assert_eq!(took, Duration::ZERO, "{way:?}");
            }
        });
    }
}

#[test]
fn a_factory_may_fail_with_an_error() {
    paused(async {
        let journal = Journal::new();
        let noted = journal.clone();
        let child = ChildSpec::fallible("a", move |context| {
            if context.generation() < 3 {
                return Err(format!("no disk yet ({})", context.generation()));
            }
            let (journal, generation) = (noted.clone(), context.generation());
            Ok(Probe { name: "a".into(), generation, journal, panics: At::Nowhere, drops_noted: false })
        });
        let registry = beside_a_bystander(child, &journal).await;
        assert_eq!(journal.text(), "+z1 +a3");
        assert_eq!(cause(&registry, "top/a"), "could not be built: no disk yet (2)");
    });
}

#[test]
fn a_factory_may_prepare_itself_and_fail_or_panic_meanwhile() {
    paused(async {
        let journal = Journal::new();
        let noted = journal.clone();
        let child = ChildSpec::prepared("a", move |context| {
            let (journal, generation) = (noted.clone(), context.generation());
            async move {
                journal.note(format!("?a{generation}"));
                tokio::time::sleep(ms(10)).await;
                assert_ne!(generation, 1, "while preparing");
                if generation == 2 {
                    return Err("read error");
                }
                Ok(Probe { name: "a".into(), generation, journal, panics: At::Nowhere, drops_noted: false })
            }
        });
        let registry = beside_a_bystander(child, &journal).await;
        assert_eq!(journal.text(), "?a1 ?a2 +z1 ?a3 +a3");
        assert_eq!(cause(&registry, "top/a"), "could not be built: read error");
    });
}

#[test]
fn a_preparation_under_way_is_dropped_by_a_stop() {
    paused(async {
        let registry = Registry::new(1);
        let journal = Journal::new();
        let noted = journal.clone();
        let child = ChildSpec::prepared("a", move |_| {
            let held = Probe {
                name: "held".into(),
                generation: 0,
                journal: noted.clone(),
                panics: At::Nowhere,
                drops_noted: true,
            };
            async move {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Ok::<_, String>(held)
            }
        });
        let top = Supervisor::new("top", Strategy::OneForOne).child(child).start(&registry);
        settle().await;
        assert_eq!(top.shutdown().await, Exit::Stopped);
        assert_eq!(journal.take_timed(), [(1, "~held0".to_owned())]);
    });
}

/// Tells, when asked, who the library says is running.
struct Mirror;

impl Actor for Mirror {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "String")]
struct WhoAmI;

impl Handler<WhoAmI> for Mirror {
    type Result = String;

    fn handle(&mut self, WhoAmI: WhoAmI, _: &mut Self::Context) -> String {
        current_actor().map_or_else(String::new, |actor| format!("{}#{}", actor.path, actor.generation))
    }
}

#[test]
fn the_current_actor_is_known_while_it_runs_and_only_then() {
    paused(async {
        let registry = Registry::new(1);
        let slot = Slot::new("mirror");
        let spec =
            Supervisor::new("top", Strategy::OneForOne).child(ChildSpec::new("m", |_| Mirror).slot(&slot));
        spec.start(&registry).ready().await.expect("it comes up");
        assert_eq!(slot.port::<WhoAmI>().ask(WhoAmI, ms(10)).await.as_deref(), Ok("top/m#1"));
        assert_eq!(current_actor(), None);
    });
}
