//! The decisions of a supervisor as a plain state machine: no task, actor, clock or channel.
//!
//! It is told what happened ([`Core::up`], [`Core::exited`], orders) and says what to do next ([`Core::advance`]).
//! Every member carries what is wanted of it, and `advance` takes the steps that bring the members there and that
//! the order of starting and stopping allows. A crash in the middle of a group restart is therefore no special
//! case: it only changes what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::logic::restart::{Backoff, Intensity, RestartPolicy};

use super::child::{OnHang, Restart, Terms};
use super::exit::Exit;
use super::supervisor::Strategy;

pub(crate) use decision::{Action, Verdict};
use member::Member;
pub(crate) use member::Phase;

mod decision;
mod member;

/// Identifies a child under its supervisor; start order is ascending.
pub(crate) type ChildId = u64;

#[derive(Debug)]
struct Closing {
    exit: Exit,
    hard: bool,
}

#[derive(Debug)]
pub(crate) struct Core {
    strategy: Strategy,
    policy: RestartPolicy,
    seed: u64,
    intensity: Intensity,
    /// For supervisors below that gave up, where these are counted apart.
    escalations: Option<Intensity>,
    group_backoff: Backoff,
    group_not_before: Duration,
    members: BTreeMap<ChildId, Member>,
    /// Members that may need a step; running ones cost nothing.
    pending: BTreeSet<ChildId>,
    /// Dynamic members that are done since the last [`Core::take_gone`].
    gone: Vec<ChildId>,
    closing: Option<Closing>,
}

impl Core {
    pub fn new(strategy: Strategy, policy: &RestartPolicy, seed: u64) -> Self {
        Self {
            strategy,
            policy: policy.clone(),
            seed,
            intensity: Intensity::new(policy),
            escalations: None,
            group_backoff: Backoff::new(policy, seed),
            group_not_before: Duration::ZERO,
            members: BTreeMap::new(),
            pending: BTreeSet::new(),
            gone: Vec::new(),
            closing: None,
        }
    }

    /// Counts members that gave up apart from those that failed, as this policy says.
    pub fn escalation(mut self, policy: Option<&RestartPolicy>) -> Self {
        self.escalations = policy.map(Intensity::new);
        self
    }

    /// Adds a member that is to be started; its first generation follows `generation`.
    pub fn add(&mut self, child: ChildId, terms: &Terms, dynamic: bool, generation: u64) {
        // Any odd constant spreads the seeds; children with equal seeds would back off in step.
        let seed = self.seed ^ child.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let member = Member::new(terms, dynamic, generation, Backoff::new(&self.policy, seed));
        self.members.insert(child, member);
        self.pending.insert(child);
    }

    /// The member's life came up.
    pub fn up(&mut self, child: ChildId, generation: u64, now: Duration) -> bool {
        let Some(member) = self.members.get_mut(&child) else { return false };
        if member.generation != generation || member.phase != Phase::Starting {
            return false;
        }
        member.phase = Phase::Up;
        member.fresh = false;
        member.up_since = now;
        self.settle(child);
        true
    }

    /// The member's life ended.
    pub fn exited(&mut self, child: ChildId, generation: u64, exit: &Exit, now: Duration) -> Verdict {
        let closing = self.closing.is_some();
        let Some(member) = self.members.get_mut(&child) else { return Verdict::Stale };
        if member.generation != generation || !member.alive() {
            return Verdict::Stale;
        }
        let alive = if member.phase == Phase::Starting {
            Duration::ZERO
        } else {
            now.saturating_sub(member.up_since)
        };
        let planned = member.cycle;
        let failure = exit.is_failure() || member.hung;
        member.phase = Phase::Down;
        (member.deadline, member.cycle, member.fresh, member.hung) = (None, false, false, false);
        let verdict = if closing || !member.wanted {
            member.phase = Phase::Done;
            Verdict::Expected
        } else if planned {
            if member.restart == Restart::Temporary {
                member.phase = Phase::Done;
            }
            Verdict::Expected
        } else {
            match member.restart {
                Restart::Permanent => self.failed(child, alive, exit, now),
                Restart::Transient if failure => self.failed(child, alive, exit, now),
                Restart::Transient | Restart::Temporary => {
                    member.phase = Phase::Done;
                    Verdict::Over
                }
            }
        };
        self.settle(child);
        verdict
    }

    fn failed(&mut self, child: ChildId, alive: Duration, exit: &Exit, now: Duration) -> Verdict {
        if !self.admits(child, exit, now) {
            self.close(Exit::GaveUp(format!("{exit}")), false);
            return Verdict::GiveUp;
        }
        if self.strategy == Strategy::OneForOne {
            let member = self.members.get_mut(&child).expect("the member that failed is one of ours");
            let delay = member.backoff.next(alive);
            member.not_before = now.saturating_add(delay);
            return Verdict::Restart(delay);
        }
        let delay = self.group_backoff.next(alive);
        self.group_not_before = self.group_not_before.max(now.saturating_add(delay));
        self.cycle_group(child);
        Verdict::Restart(delay)
    }

    /// Whether this failure is not one too many.
    fn admits(&mut self, child: ChildId, exit: &Exit, now: Duration) -> bool {
        let intensity = match (&mut self.escalations, exit) {
            _ if self.members[&child].dispensable => return true,
            (Some(escalations), Exit::GaveUp(_)) => escalations,
            _ => &mut self.intensity,
        };
        intensity.admit(now)
    }

    /// Marks those that restart together with `child`, apart from itself. One that ended normally takes part:
    /// the group begins anew.
    fn cycle_group(&mut self, child: ChildId) {
        let first = match self.strategy {
            Strategy::OneForOne => return,
            Strategy::OneForAll => 0,
            Strategy::RestForOne => child,
        };
        for (&id, member) in self.members.range_mut(first..).filter(|(id, _)| **id != child) {
            if !member.wanted {
                continue;
            }
            if member.alive() {
                member.cycle = true;
            } else if member.phase == Phase::Done && member.restart != Restart::Temporary {
                member.phase = Phase::Down;
            }
            if member.phase != Phase::Done {
                self.pending.insert(id);
            }
        }
    }

    /// The member counts as gone although it is not: what its life reports later is stale.
    pub fn abandon(&mut self, child: ChildId, now: Duration) -> Verdict {
        let generation = self.members.get(&child).map_or(0, |member| member.generation);
        self.exited(child, generation, &Exit::Hung, now)
    }

    /// The member does not answer.
    pub fn hung(&mut self, child: ChildId, now: Duration) -> Option<Action> {
        let member = self.members.get_mut(&child)?;
        if member.phase != Phase::Up {
            return None;
        }
        member.phase = Phase::Killing;
        member.hung = true;
        member.deadline = Some(now.saturating_add(member.grace));
        self.pending.insert(child);
        Some(Action::Kill(child))
    }

    /// Stops a member for good. Whether it has to be waited for.
    pub fn stop_child(&mut self, child: ChildId) -> bool {
        let Some(member) = self.members.get_mut(&child) else { return false };
        member.wanted = false;
        let alive = member.alive();
        if !alive {
            member.phase = Phase::Done;
        }
        self.pending.insert(child);
        self.settle(child);
        alive
    }

    /// Restarts a member, and those that restart with it; starts it if it is down.
    pub fn restart_child(&mut self, child: ChildId, now: Duration) {
        let Some(member) = self.members.get_mut(&child) else { return };
        member.wanted = true;
        if member.alive() {
            member.cycle = true;
        } else {
            member.phase = Phase::Down;
            member.not_before = now;
        }
        self.pending.insert(child);
        self.cycle_group(child);
    }

    /// Stops everything, in order, and ends with `exit`; `hard`: kills everything at once.
    pub fn close(&mut self, exit: Exit, hard: bool) {
        match &mut self.closing {
            Some(closing) => closing.hard |= hard,
            None => self.closing = Some(Closing { exit, hard }),
        }
        let ids: Vec<_> = self.members.keys().copied().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("listed above");
            if !member.alive() {
                member.phase = Phase::Done;
            }
            self.pending.insert(id);
            self.settle(id);
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// How the supervisor ended, once everything is down after [`Core::close`].
    pub fn ended(&self) -> Option<Exit> {
        let closing = self.closing.as_ref()?;
        self.pending.is_empty().then(|| closing.exit.clone())
    }

    /// Whether every member is where it is wanted.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.closing.is_none()
    }

    pub fn phase(&self, child: ChildId) -> Phase {
        self.members.get(&child).map_or(Phase::Done, |member| member.phase)
    }

    /// The dynamic members that are done and forgotten.
    pub fn take_gone(&mut self) -> Vec<ChildId> {
        std::mem::take(&mut self.gone)
    }

    fn settle(&mut self, child: ChildId) {
        let Some(member) = self.members.get(&child) else { return };
        let closing = self.closing.is_some();
        if member.phase == Phase::Done || (member.settled() && !closing) {
            self.pending.remove(&child);
        } else {
            self.pending.insert(child);
        }
        if member.phase == Phase::Done && member.dynamic {
            self.members.remove(&child);
            self.gone.push(child);
        }
    }

    /// The next steps. To be called after every change, and at [`Core::next_deadline`].
    pub fn advance(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.pending.is_empty() {
            return actions;
        }
        self.expire(now, &mut actions);
        self.take_down(now, &mut actions);
        self.bring_up(now, &mut actions);
        actions
    }

    /// Patience runs out: stops become kills, kills become reports.
    fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for &child in &self.pending {
            let member = self.members.get_mut(&child).expect("pending members exist");
            if member.deadline.is_none_or(|deadline| now < deadline) {
                continue;
            }
            if member.phase == Phase::Stopping {
                member.phase = Phase::Killing;
                member.deadline = Some(now.saturating_add(member.grace));
                actions.push(Action::Kill(child));
            } else {
                member.deadline = None;
                let abandoned = member.on_hang == OnHang::Abandon || self.closing.is_some();
                actions.push(Action::Unkillable { child, abandoned });
            }
        }
    }

    /// Stops what is to go, the youngest first. Dynamic members, and those that do not depend on each other, all
    /// at once; the others each when the one after it is down.
    fn take_down(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let closing = self.closing.is_some();
        let hard = self.closing.as_ref().is_some_and(|closing| closing.hard);
        let independent = hard || (self.strategy == Strategy::OneForOne && !closing);
        let mut waiting = false;
        for &child in self.pending.iter().rev() {
            let member = self.members.get_mut(&child).expect("pending members exist");
            if !member.alive() || !(closing || member.cycle || !member.wanted) {
                continue;
            }
            if waiting && !independent && !member.dynamic {
                break;
            }
            waiting = true;
            if hard && member.phase != Phase::Killing {
                member.phase = Phase::Killing;
                member.deadline = Some(now.saturating_add(member.grace));
                actions.push(Action::Kill(child));
            } else if matches!(member.phase, Phase::Starting | Phase::Up) {
                member.phase = Phase::Stopping;
                member.deadline = member.shutdown.map(|patience| now.saturating_add(patience));
                actions.push(Action::Stop(child));
            }
        }
    }

    /// Starts what is to run, the oldest first.
    fn bring_up(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.closing.is_some() {
            return;
        }
        let group = self.strategy != Strategy::OneForOne;
        if group && self.pending.iter().any(|child| self.is_going_down(*child)) {
            return;
        }
        let mut blocked = false;
        for &child in &self.pending {
            let not_before = self.not_before(child);
            let member = self.members.get_mut(&child).expect("pending members exist");
            // Whether it waits for older ones, and younger ones for it.
            let ordered = group || (member.fresh && !member.dynamic);
            match member.phase {
                Phase::Starting => blocked |= ordered,
                Phase::Down if member.wanted && !(blocked && ordered) => {
                    blocked |= ordered;
                    if now >= not_before {
                        member.phase = Phase::Starting;
                        member.generation += 1;
                        actions.push(Action::Start { child, generation: member.generation });
                    }
                }
                _ => {}
            }
        }
    }

    fn is_going_down(&self, child: ChildId) -> bool {
        let member = &self.members[&child];
        member.alive() && (member.cycle || matches!(member.phase, Phase::Stopping | Phase::Killing))
    }

    fn not_before(&self, child: ChildId) -> Duration {
        let own = self.members[&child].not_before;
        if self.strategy == Strategy::OneForOne { own } else { own.max(self.group_not_before) }
    }

    /// When [`Core::advance`] has to be called although nothing happened.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let due = |child: &ChildId| {
            let member = &self.members[child];
            let start = (member.phase == Phase::Down).then(|| self.not_before(*child)).filter(|at| *at > now);
            member.deadline.or(start)
        };
        self.pending.iter().filter_map(due).min()
    }
}

#[cfg(test)]
mod tests;
