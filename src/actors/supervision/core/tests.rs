//! The core against a simulated family of children that fail, refuse and come late at random.

use std::collections::BTreeMap;

use super::super::child::Place;
use super::*;
use crate::actors::supervision::Strategy::{OneForAll, OneForOne, RestForOne};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn terms(restart: Restart, on_hang: OnHang) -> Terms {
    let hang = Some(super::super::child::HangWatch { timeout: ms(30), on_hang });
    Terms { restart, place: Place::Here, shutdown: Some(ms(20)), hang, dispensable: false }
}

fn policy() -> RestartPolicy {
    RestartPolicy::intensity(6, ms(500)).delays(ms(0), ms(5), ms(40)).jitter(0).stable_after(ms(100))
}

/// One life as its supervisor's messages have shaped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alive {
    Starting,
    Up,
    ToldToStop,
    ToldToDie,
}

struct Family {
    core: Core,
    strategy: Strategy,
    rng: fastrand::Rng,
    now: Duration,
    alive: BTreeMap<ChildId, (u64, Alive)>,
    last_generation: BTreeMap<ChildId, u64>,
    /// Lives that were given up while still alive.
    zombies: Vec<(ChildId, u64)>,
    next: ChildId,
    starts: u64,
}

impl Family {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let strategy = [OneForOne, OneForAll, RestForOne][rng.usize(..3)];
        let core = Core::new(strategy, &policy(), seed);
        let (alive, last_generation) = (BTreeMap::new(), BTreeMap::new());
        let now = Duration::ZERO;
        let mut family = Self {
            core,
            strategy,
            rng,
            now,
            alive,
            last_generation,
            zombies: Vec::new(),
            next: 0,
            starts: 0,
        };
        for _ in 0..family.rng.u64(0..5) {
            family.add(false);
        }
        family
    }

    fn add(&mut self, dynamic: bool) {
        let restart = [Restart::Permanent, Restart::Transient, Restart::Temporary][self.rng.usize(..3)];
        let on_hang = [OnHang::Report, OnHang::Abandon][self.rng.usize(..2)];
        self.core.add(self.next, &terms(restart, on_hang), dynamic, 0);
        self.next += 1;
    }

    fn step(&mut self) {
        for _ in 0..1000 {
            let actions = self.core.advance(self.now);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(action);
            }
        }
        panic!("the core does not come to rest");
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start { child, generation } => {
                self.check_start(child, generation);
                self.alive.insert(child, (generation, Alive::Starting));
                self.starts += 1;
            }
            Action::Stop(child) => {
                self.check_stop(child);
                self.alive.get_mut(&child).expect("only the living are stopped").1 = Alive::ToldToStop;
            }
            Action::Kill(child) => {
                self.alive.get_mut(&child).expect("only the living are killed").1 = Alive::ToldToDie;
            }
            Action::Unkillable { child, abandoned } => {
                let (generation, how) = self.alive[&child];
                assert_eq!(how, Alive::ToldToDie);
                if abandoned {
                    self.alive.remove(&child);
                    self.zombies.push((child, generation));
                    self.core.abandon(child, self.now);
                }
            }
        }
    }

    fn check_start(&self, child: ChildId, generation: u64) {
        assert!(!self.alive.contains_key(&child), "two lives of {child} at once");
        assert!(self.last_generation.get(&child).is_none_or(|last| generation > *last), "generations grow");
        if self.strategy == OneForOne {
            return;
        }
        for (id, (_, how)) in &self.alive {
            assert_eq!(*how, Alive::Up, "{child} starts while {id} is {how:?}");
            assert!(*id < child || self.strategy == RestForOne, "{child} starts after the younger {id}");
        }
        for older in 0..child {
            let phase = self.core.phase(older);
            assert!(matches!(phase, Phase::Up | Phase::Done), "{child} starts while {older} is {phase:?}");
        }
    }

    fn check_stop(&self, child: ChildId) {
        if self.strategy == OneForOne && !self.core.is_closing() {
            return;
        }
        let is_dynamic = self.core.members[&child].dynamic;
        let going =
            self.alive.iter().filter(|(_, (_, how))| matches!(how, Alive::ToldToStop | Alive::ToldToDie));
        for (younger, _) in going.filter(|(id, _)| **id > child) {
            let both_dynamic = is_dynamic && self.core.members[younger].dynamic;
            assert!(both_dynamic, "{child} is stopped while the younger {younger} is still going down");
        }
    }

    fn exit(&mut self, child: ChildId, exit: &Exit) {
        if let Some((generation, _)) = self.alive.remove(&child) {
            self.last_generation.insert(child, generation);
            self.core.exited(child, generation, exit, self.now);
        }
    }

    fn chaos(&mut self) {
        let ids: Vec<_> = self.alive.keys().copied().collect();
        let child = if ids.is_empty() { 0 } else { ids[self.rng.usize(..ids.len())] };
        match self.rng.u32(..24) {
            0 => self.exit(child, &Exit::Panicked("chaos".into())),
            1 => self.exit(child, &Exit::Normal),
            2 => {
                if let Some(Action::Kill(child)) = self.core.hung(child, self.now) {
                    self.alive.get_mut(&child).expect("only the living hang").1 = Alive::ToldToDie;
                }
            }
            3 if self.next < 12 && !self.core.is_closing() => self.add(true),
            4 => {
                self.core.stop_child(self.next.saturating_sub(1));
            }
            5 if !self.core.is_closing() => self.core.restart_child(child, self.now),
            6..=9 => self.now += ms(self.rng.u64(1..10)),
            10 => self.now += ms(40),
            11 => {
                if let Some((child, generation)) = self.zombies.pop() {
                    let verdict = self.core.exited(child, generation, &Exit::Killed, self.now);
                    assert_eq!(verdict, Verdict::Stale, "a zombie is not heard");
                    assert!(!self.core.up(child, generation, self.now));
                }
            }
            _ => self.obey(child),
        }
    }

    /// A child does as it was told.
    fn obey(&mut self, child: ChildId) {
        let Some((generation, how)) = self.alive.get(&child).copied() else { return };
        match how {
            Alive::Starting => {
                assert!(self.core.up(child, generation, self.now));
                self.alive.insert(child, (generation, Alive::Up));
            }
            Alive::Up => {}
            Alive::ToldToStop => self.exit(child, &Exit::Stopped),
            Alive::ToldToDie => self.exit(child, &Exit::Killed),
        }
    }

    /// Everybody behaves from now on.
    fn calm_down(&mut self) {
        for _ in 0..1000 {
            self.step();
            if self.core.is_settled() || self.core.ended().is_some() {
                return;
            }
            for child in self.alive.keys().copied().collect::<Vec<_>>() {
                self.obey(child);
            }
            self.step();
            if let Some(deadline) = self.core.next_deadline(self.now) {
                self.now = self.now.max(deadline);
            }
        }
        panic!("the family never settles: {:?} {:?}", self.core, self.alive);
    }

    fn check_at_rest(&self) {
        for (id, member) in &self.core.members {
            let up = self.alive.get(id).is_some_and(|(_, how)| *how == Alive::Up);
            assert_eq!(member.phase == Phase::Up, up);
            assert!(
                up || !member.wanted || member.restart != Restart::Permanent,
                "{id} should be up: {member:?}"
            );
        }
    }
}

#[test]
fn any_history_keeps_the_rules_and_comes_to_rest() {
    let (mut starts, mut gave_up) = (0, 0);
    for seed in 0..3000 {
        let mut family = Family::new(seed);
        for _ in 0..150 {
            family.step();
            family.chaos();
        }
        family.calm_down();
        if let Some(exit) = family.core.ended() {
            assert!(matches!(exit, Exit::GaveUp(_)), "seed {seed}");
            gave_up += 1;
        } else {
            family.check_at_rest();
            family.core.close(Exit::Stopped, seed % 5 == 0);
            family.calm_down();
            assert_eq!(family.core.ended(), Some(Exit::Stopped), "seed {seed}");
        }
        assert!(family.alive.is_empty(), "seed {seed}: somebody outlives the supervisor");
        starts += family.starts;
    }
    assert!(starts > 20_000 && (100..2900).contains(&gave_up), "{starts} starts, {gave_up} gave up");
}

#[test]
fn a_child_that_ignores_a_kill_is_reported_once_and_waited_for() {
    let mut core = Core::new(OneForOne, &policy(), 1);
    core.add(0, &terms(Restart::Permanent, OnHang::Report), false, 0);
    assert_eq!(core.advance(ms(0)), [Action::Start { child: 0, generation: 1 }]);
    assert!(core.up(0, 1, ms(1)));
    assert_eq!(core.hung(0, ms(100)), Some(Action::Kill(0)));
    assert_eq!(core.next_deadline(ms(100)), Some(ms(130)));
    assert_eq!(core.advance(ms(129)), []);
    assert_eq!(core.advance(ms(130)), [Action::Unkillable { child: 0, abandoned: false }]);
    assert_eq!((core.advance(ms(999)), core.next_deadline(ms(999))), (vec![], None));
    assert_eq!(core.exited(0, 1, &Exit::Killed, ms(1000)), Verdict::Restart(ms(0)));
    assert_eq!(core.advance(ms(1000)), [Action::Start { child: 0, generation: 2 }]);
}

#[test]
fn a_stop_becomes_a_kill_after_the_childs_patience() {
    let mut core = Core::new(OneForAll, &policy(), 1);
    core.add(0, &terms(Restart::Permanent, OnHang::Report), false, 0);
    core.advance(ms(0));
    core.up(0, 1, ms(0));
    core.close(Exit::Stopped, false);
    assert_eq!(core.advance(ms(10)), [Action::Stop(0)]);
    assert_eq!(core.next_deadline(ms(10)), Some(ms(30)));
    assert_eq!(core.advance(ms(30)), [Action::Kill(0)]);
    assert_eq!(core.advance(ms(60)), [Action::Unkillable { child: 0, abandoned: true }]);
    assert_eq!(core.abandon(0, ms(60)), Verdict::Expected);
    assert_eq!(core.ended(), Some(Exit::Stopped), "a shutdown ends even so");
}

#[test]
fn stale_reports_change_nothing() {
    let mut core = Core::new(OneForOne, &policy(), 1);
    core.add(0, &terms(Restart::Permanent, OnHang::Report), false, 0);
    core.advance(ms(0));
    core.up(0, 1, ms(0));
    assert_eq!(core.exited(0, 1, &Exit::Lost, ms(1)), Verdict::Restart(ms(0)));
    assert_eq!(core.exited(0, 1, &Exit::Lost, ms(1)), Verdict::Stale);
    core.advance(ms(1));
    assert_eq!(core.exited(0, 1, &Exit::Lost, ms(2)), Verdict::Stale);
    assert!(!core.up(0, 1, ms(2)));
    assert!(core.up(0, 2, ms(2)));
    assert_eq!(core.exited(7, 1, &Exit::Lost, ms(3)), Verdict::Stale, "never heard of it");
}
