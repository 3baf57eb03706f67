//! Strategies, intensity, back-off, escalation, shutdown: whole trees on a paused clock.

mod supervision_support;

use std::sync::{Arc, Mutex};

use quorate::actors::supervision::{
    ChildError, ChildSpec, Exit, Port, Registry, Restart, Slot, State, Strategy, Supervisor,
};
use quorate::logic::restart::RestartPolicy;
use supervision_support::{
    At, Boom, Journal, Leave, Probe, Trio, Which, exact, failing, ms, paused, probe, settle, state,
};

#[test]
fn one_for_one_restarts_only_the_one_that_failed() {
    paused(async {
        let trio = Trio::start(Strategy::OneForOne, exact()).await;
        trio.boom(1);
        settle().await;
        assert_eq!(trio.journal.text(), "+b2");
        assert_eq!(trio.registry.total_restarts(), 1);
    });
}

#[test]
fn one_for_all_stops_in_reverse_and_starts_in_order() {
    paused(async {
        let trio = Trio::start(Strategy::OneForAll, exact()).await;
        trio.boom(1);
        settle().await;
        assert_eq!(trio.journal.text(), "-c1 -a1 +a2 +b2 +c2");
        assert_eq!(trio.registry.total_restarts(), 3);
    });
}

#[test]
fn rest_for_one_restarts_the_younger_ones() {
    paused(async {
        let trio = Trio::start(Strategy::RestForOne, exact()).await;
        trio.boom(1);
        settle().await;
        assert_eq!(trio.journal.text(), "-c1 +b2 +c2");
        trio.boom(2);
        tokio::time::sleep(ms(60)).await;
        assert_eq!(trio.journal.text(), "+c3");
    });
}

#[test]
fn an_injected_crash_is_a_failure_like_any_other() {
    paused(async {
        let trio = Trio::start(Strategy::OneForOne, exact()).await;
        trio.registry.crash("top/c", "chaos").expect("it runs");
        settle().await;
        assert_eq!(trio.journal.text(), "+c2");
        let cause = trio.registry.status("top/c").expect("it is there").last_cause;
        assert_eq!(cause.as_deref(), Some("panicked: chaos"));
        assert!(trio.registry.crash("top/nobody", "chaos").is_err());
    });
}

#[test]
fn a_restart_takes_no_virtual_time_at_first_and_then_doubles() {
    paused(async {
        let journal = Journal::new();
        let registry = Registry::new(1);
        let top = Supervisor::new("top", Strategy::OneForOne)
            .policy(exact())
            .child(failing("a", &journal, At::Started, 5))
            .start(&registry);
        top.ready().await.expect("the sixth life stays");
        let times: Vec<_> = journal.take_timed().into_iter().map(|(at, _)| at).collect();
        assert_eq!(times, [0, 0, 50, 150, 350, 750]);
    });
}

#[test]
fn a_stable_period_ends_the_streak() {
    paused(async {
        let trio = Trio::start(Strategy::OneForOne, exact()).await;
        for expected in [0, 50, 100] {
            trio.boom(0);
            let crashed = tokio::time::Instant::now();
            while !trio.slots[0].port::<Which>().is_up() || crashed.elapsed().is_zero() {
                settle().await;
            }
            let waited = crashed.elapsed().as_millis() as u64;
            assert!((expected..=expected + 2).contains(&waited), "waited {waited} of {expected} ms");
        }
        tokio::time::sleep(ms(1000)).await;
        trio.journal.take();
        trio.boom(0);
        settle().await;
        assert_eq!(trio.journal.text(), "+a5", "at once again");
    });
}

/// A child that fails as soon as it is up, two supervisors below the root. Whether the root gives up within a minute.
async fn root_gives_up_on_a_hopeless_grandchild(escalation: Option<RestartPolicy>) -> bool {
    let policy = || RestartPolicy::intensity(4, ms(1000)).delays(ms(0), ms(50), ms(100));
    let hopeless = ChildSpec::fallible("hopeless", |_| Err::<Probe, _>("never"));
    let below = Supervisor::new("below", Strategy::OneForOne).policy(policy()).child(hopeless);
    let top = Supervisor::new("top", Strategy::OneForOne).policy(policy()).child(below);
    let top = match escalation {
        Some(escalation) => top.escalation(escalation),
        None => top,
    };
    let top = top.start(&Registry::new(1));
    let gave_up = tokio::time::timeout(ms(60_000), top.ended()).await;
    if gave_up.is_err() {
        top.shutdown().await;
    }
    gave_up.is_ok()
}

#[test]
fn a_child_that_always_fails_below_another_supervisor_gets_through_to_the_root() {
    paused(async {
        let seldom = RestartPolicy::intensity(3, ms(10_000));
        assert!(root_gives_up_on_a_hopeless_grandchild(Some(seldom)).await);
        assert!(!root_gives_up_on_a_hopeless_grandchild(None).await, "then this is no test");
    });
}

/// Neither an actor nor a supervisor whose actors fail for ever.
#[test]
fn the_root_does_without_what_is_dispensable() {
    paused(async {
        let journal = Journal::new();
        let never = |name: &str| ChildSpec::fallible(name, |_| Err::<Probe, _>("never"));
        let below = Supervisor::new("below", Strategy::OneForOne).policy(RestartPolicy::never());
        let top = Supervisor::new("top", Strategy::OneForOne)
            .policy(RestartPolicy::never().delays(ms(0), ms(50), ms(400)).jitter(0))
            .child(never("a").dispensable())
            .child(below.child(never("b")).dispensable())
            .child(probe("c", &journal).slot(&Slot::new("c")));
        let registry = Registry::new(1);
        let top = top.start(&registry);
        tokio::time::sleep(ms(60_000)).await;
        assert_eq!(journal.text(), "+c1");
        for path in ["top/a", "top/below"] {
            let restarts = registry.status(path).expect("it is there").restarts;
            assert!((150..=156).contains(&restarts), "{path}: {restarts} restarts, 400 ms apart");
        }
        top.shutdown().await;
    });
}

#[test]
fn too_many_restarts_in_the_window_end_the_root() {
    paused(async {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let journal = Journal::new();
        let registry = Registry::new(1);
        let slot = Slot::<Probe>::new("b");
        let call = heard.clone();
        let policy = RestartPolicy::intensity(2, ms(1000)).delays(ms(0), ms(0), ms(0));
        let top = Supervisor::new("top", Strategy::OneForOne)
            .policy(policy)
            .on_give_up(move |exit| call.lock().unwrap().push(exit.clone()))
            .child(probe("a", &journal))
            .child(probe("b", &journal).slot(&slot))
            .start(&registry);
        top.ready().await.expect("it comes up");
        for _ in 0..3 {
            slot.port::<Boom>().tell(Boom("again")).expect("it is up");
            settle().await;
        }
        assert_eq!(top.ended().await, Exit::GaveUp("panicked: again".into()));
        assert_eq!(journal.text(), "+a1 +b1 +b2 +b3 -a1");
        assert_eq!(*heard.lock().unwrap(), [Exit::GaveUp("panicked: again".into())]);
        assert_eq!(slot.port::<Boom>().tell(Boom("late")), Err(quorate::actors::supervision::Gone));
        assert_eq!(state(&registry, "top"), State::Stopped);
    });
}

#[test]
fn failures_spread_over_more_than_the_window_are_forgiven() {
    paused(async {
        let policy = RestartPolicy::intensity(2, ms(1000)).delays(ms(0), ms(0), ms(0));
        let trio = Trio::start(Strategy::OneForOne, policy).await;
        for _ in 0..10 {
            trio.boom(0);
            tokio::time::sleep(ms(501)).await;
        }
        assert!(trio.top.is_up());
        assert_eq!(trio.registry.total_restarts(), 10);
    });
}

/// `top` (one-for-one) over `mid` (one-for-all, gives up on the second failure) over `a`, `b`.
async fn nested(
    journal: &Journal,
    slot: &Slot<Probe>,
) -> (Arc<Registry>, quorate::actors::supervision::SupervisorRef) {
    let registry = Registry::new(1);
    let mid = Supervisor::new("mid", Strategy::OneForAll)
        .policy(RestartPolicy::intensity(1, ms(1000)).delays(ms(0), ms(0), ms(0)))
        .child(probe("a", journal).slot(slot))
        .child(probe("b", journal));
    let top = Supervisor::new("top", Strategy::OneForOne)
        .policy(exact())
        .child(mid)
        .child(probe("c", journal))
        .start(&registry);
    top.ready().await.expect("it comes up");
    (registry, top)
}

#[test]
fn giving_up_escalates_to_the_parent_and_generations_keep_growing() {
    paused(async {
        let journal = Journal::new();
        let slot = Slot::new("a");
        let (registry, top) = nested(&journal, &slot).await;
        let port: Port<Which> = slot.port();
        assert_eq!(journal.text(), "+a1 +b1 +c1");
        slot.port::<Boom>().tell(Boom("one")).expect("up");
        settle().await;
        assert_eq!(journal.text(), "-b1 +a2 +b2");
        slot.port::<Boom>().tell(Boom("two")).expect("up");
        settle().await;
        assert_eq!(journal.text(), "-b2 +a3 +b3", "the parent restarted all of `mid`, and not `c`");
        assert_eq!(port.generation(), 3);
        assert_eq!(port.ask(Which, ms(100)).await, Ok(3));
        let mid = registry.status("top/mid").expect("it is there");
        assert_eq!((mid.generation, mid.restarts), (2, 1));
        assert_eq!(mid.last_cause.as_deref(), Some("gave up: panicked: two"));
        assert!(top.is_up());
    });
}

#[test]
fn a_crashed_supervisor_takes_its_children_along_and_is_restarted() {
    paused(async {
        let journal = Journal::new();
        let slot = Slot::new("a");
        let (registry, _top) = nested(&journal, &slot).await;
        journal.take();
        registry.crash("top/mid", "chaos").expect("it runs");
        settle().await;
        assert_eq!(journal.text(), "+a2 +b2", "killed without their hooks, and started afresh");
    });
}

#[test]
fn two_siblings_failing_in_the_same_turn_cause_one_group_restart() {
    paused(async {
        let trio = Trio::start(Strategy::OneForAll, exact()).await;
        trio.boom(0);
        trio.boom(2);
        settle().await;
        assert_eq!(trio.journal.text(), "-b1 +a2 +b2 +c2");
        trio.boom(1);
        tokio::time::sleep(ms(49)).await;
        assert_eq!(trio.journal.text(), "-c2 -a2", "it is the second failure of the streak, not the third");
        tokio::time::sleep(ms(2)).await;
        assert_eq!(trio.journal.text(), "+a3 +b3 +c3");
    });
}

#[test]
fn a_crash_during_a_group_restart_restarts_the_group_again() {
    paused(async {
        let journal = Journal::new();
        let registry = Registry::new(1);
        let slot = Slot::<Probe>::new("a");
        let flaky = {
            let journal = journal.clone();
            quorate::actors::supervision::ChildSpec::new("b", move |context| {
                let generation = context.generation();
                let panics = if generation == 2 { At::Started } else { At::Nowhere };
                let journal = journal.clone();
                Probe { name: "b".into(), generation, journal, panics, drops_noted: false }
            })
        };
        let top = Supervisor::new("top", Strategy::OneForAll)
            .policy(exact())
            .child(probe("a", &journal).slot(&slot))
            .child(flaky)
            .child(probe("c", &journal))
            .start(&registry);
        top.ready().await.expect("it comes up");
        journal.take();
        slot.port::<Boom>().tell(Boom("boom")).expect("up");
        tokio::time::sleep(ms(60)).await;
        assert_eq!(journal.text(), "-c1 -b1 +a2 +b2 -a2 +a3 +b3 +c2", "c was never reached the first time");
    });
}

#[test]
fn a_panic_while_being_stopped_with_the_group_is_no_failure_of_its_own() {
    paused(async {
        let journal = Journal::new();
        let registry = Registry::new(1);
        let slot = Slot::<Probe>::new("a");
        let top = Supervisor::new("top", Strategy::OneForAll)
            .policy(RestartPolicy::intensity(1, ms(1000)).delays(ms(0), ms(0), ms(0)))
            .child(probe("a", &journal).slot(&slot))
            .child(failing("b", &journal, At::Stopping, 1))
            .start(&registry);
        top.ready().await.expect("it comes up");
        slot.port::<Boom>().tell(Boom("boom")).expect("up");
        settle().await;
        assert_eq!(journal.text(), "+a1 +b1 +a2 +b2");
        assert!(top.is_up());
    });
}

#[test]
fn restart_kinds() {
    paused(async {
        let journal = Journal::new();
        let registry = Registry::new(1);
        let slots = ["p", "t", "u", "x"].map(Slot::<Probe>::new);
        let kinds = [Restart::Permanent, Restart::Transient, Restart::Transient, Restart::Temporary];
        let mut spec = Supervisor::new("top", Strategy::OneForOne).policy(exact());
        for ((name, slot), kind) in ["p", "t", "u", "x"].into_iter().zip(&slots).zip(kinds) {
            spec = spec.child(probe(name, &journal).slot(slot).restart(kind));
        }
        let top = spec.start(&registry);
        top.ready().await.expect("it comes up");
        journal.take();
        slots[0].port::<Leave>().tell(Leave).expect("up");
        slots[1].port::<Leave>().tell(Leave).expect("up");
        slots[2].port::<Boom>().tell(Boom("boom")).expect("up");
        slots[3].port::<Boom>().tell(Boom("boom")).expect("up");
        settle().await;
        assert_eq!(journal.text(), "-p1 -t1 +p2 +u2");
        assert_eq!(state(&registry, "top/t"), State::Stopped);
        assert_eq!(state(&registry, "top/x"), State::Stopped);
        assert_eq!(top.restart_child("t").await, Ok(2));
        assert_eq!(journal.text(), "+t2");
    });
}

#[test]
fn an_ordered_restart_is_no_failure() {
    paused(async {
        let trio = Trio::start(Strategy::RestForOne, RestartPolicy::never()).await;
        assert_eq!(trio.top.restart_child("b").await, Ok(2));
        settle().await;
        assert_eq!(trio.journal.text(), "-c1 -b1 +b2 +c2");
        assert_eq!(trio.top.restart_child("nobody").await, Err(ChildError::Unknown("nobody".into())));
    });
}

#[test]
fn shutdown_is_top_down_in_reverse_order() {
    paused(async {
        let journal = Journal::new();
        let (registry, top) = nested(&journal, &Slot::new("a")).await;
        journal.take();
        assert_eq!(top.shutdown().await, Exit::Stopped);
        assert_eq!(journal.text(), "-c1 -b1 -a1");
        assert_eq!(top.shutdown().await, Exit::Stopped, "once more is harmless");
        assert_eq!(state(&registry, "top/mid/a"), State::Stopped);
        assert_eq!(top.start_child(probe("late", &journal)).await, Err(ChildError::SupervisorGone));
    });
}

#[test]
fn the_tree_tells_how_everybody_is() {
    paused(async {
        let journal = Journal::new();
        let slot = Slot::new("a");
        let (registry, _top) = nested(&journal, &slot).await;
        slot.port::<Boom>().tell(Boom("why")).expect("up");
        settle().await;
        let [top] = registry.tree().try_into().expect("one root");
        assert_eq!((top.name.as_str(), top.state, top.generation), ("top", State::Running, 1));
        let [mid, c] = top.children.try_into().expect("two children");
        assert_eq!((c.name.as_str(), c.restarts, c.last_cause), ("c", 0, None));
        let [a, b] = mid.children.try_into().expect("two children");
        assert_eq!((a.generation, a.restarts, a.last_cause.as_deref()), (2, 1, Some("panicked: why")));
        assert_eq!((b.generation, b.restarts, b.last_cause.as_deref()), (2, 1, Some("stopped by order")));
        assert_eq!(registry.paths(), ["top", "top/c", "top/mid", "top/mid/a", "top/mid/b"]);
        assert_eq!(registry.actors(), ["top/c", "top/mid/a", "top/mid/b"]);
        let wire: quorate::messages::admin::ActorStatus =
            registry.status("top/mid/a").expect("it is there").into();
        assert_eq!((wire.state.as_str(), wire.generation), ("running", 2));
    });
}

#[test]
fn the_back_off_is_visible_and_a_stop_ends_it() {
    paused(async {
        let journal = Journal::new();
        let registry = Registry::new(1);
        let top = Supervisor::new("top", Strategy::OneForOne)
            .policy(exact().delays(ms(500), ms(500), ms(500)))
            .child(failing("a", &journal, At::Started, 9))
            .start(&registry);
        settle().await;
        assert_eq!(state(&registry, "top/a"), State::BackingOff);
        assert!(!top.is_up());
        assert_eq!(top.shutdown().await, Exit::Stopped);
        assert_eq!(journal.text(), "+a1");
        assert_eq!(top.ready().await, Err(Exit::Stopped));
    });
}
