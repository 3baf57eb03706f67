//! What a supervisor makes of reports from its children, and of orders about them.

use tokio::sync::oneshot;

use super::{Runner, Ward};
use crate::actors::supervision::child::Child;
use crate::actors::supervision::core::{ChildId, Phase, Verdict};
use crate::actors::supervision::exit::Exit;
use crate::actors::supervision::handle::ChildError;
use crate::actors::supervision::heartbeat::Heartbeat;
use crate::actors::supervision::status::State;
use crate::actors::supervision::supervisor::valid_name;

impl Runner {
    pub(super) fn hear_up(&mut self, child: ChildId, generation: u64) {
        let now = self.now();
        if !self.core.up(child, generation, now) {
            return;
        }
        let ward = self.wards.get_mut(&child).expect("the core knows no other children");
        ward.cell.set_state(State::Running);
        ward.heartbeat = ward.child.terms.hang.map(|watch| Heartbeat::new(watch.timeout, now));
        if ward.heartbeat.is_some() {
            self.watched.insert(child);
            self.next_beat = Some(now);
        }
        if let Some(reply) = ward.starts.take() {
            let _ = reply.send(Ok(generation));
        }
        tracing::debug!(actor = &*ward.cell.path, generation, "up");
    }

    pub(super) fn hear_exit(&mut self, child: ChildId, generation: u64, exit: Exit) {
        let now = self.now();
        let hung = self.wards.get(&child).is_some_and(|ward| ward.cell.inner().state == State::Hung);
        let exit = if hung && exit == Exit::Killed { Exit::Hung } else { exit };
        let verdict = self.core.exited(child, generation, &exit, now);
        self.record_exit(child, exit, &verdict);
    }

    pub(super) fn record_exit(&mut self, child: ChildId, exit: Exit, verdict: &Verdict) {
        if *verdict == Verdict::Stale {
            return;
        }
        let ward = self.wards.get_mut(&child).expect("the core knows no other children");
        self.watched.remove(&child);
        ward.heartbeat = None;
        let done = self.core.phase(child) == Phase::Done;
        {
            let mut inner = ward.cell.inner();
            inner.orders = None;
            inner.last_cause = Some(exit.to_string());
            inner.state = match verdict {
                _ if done => State::Stopped,
                Verdict::Restart(_) => State::BackingOff,
                _ => State::Starting,
            };
        }
        log_exit(ward, &exit, verdict);
        if let Some(reply) = ward.starts.take_if(|_| *verdict != Verdict::Expected || done) {
            let _ = reply.send(Err(ChildError::NotStarted(exit.clone())));
        }
        if done {
            for reply in ward.stops.drain(..) {
                let _ = reply.send(Ok(exit.clone()));
            }
        }
    }

    pub(super) fn start_child(&mut self, child: Child, reply: oneshot::Sender<Result<u64, ChildError>>) {
        let refusal = if self.core.is_closing() {
            Some(ChildError::SupervisorGone)
        } else if !valid_name(&child.name) {
            Some(ChildError::BadName(child.name.to_string()))
        } else if self.names.contains_key(&child.name) {
            Some(ChildError::Duplicate(child.name.to_string()))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return;
        }
        let id = self.adopt(child, true);
        self.wards.get_mut(&id).expect("just adopted").starts = Some(reply);
    }

    pub(super) fn stop_child(&mut self, name: &str, reply: oneshot::Sender<Result<Exit, ChildError>>) {
        let Some(&id) = self.names.get(name) else {
            let _ = reply.send(Err(ChildError::Unknown(name.to_owned())));
            return;
        };
        let alive = self.core.stop_child(id);
        let ward = self.wards.get_mut(&id).expect("names are those of wards");
        if alive {
            ward.stops.push(reply);
        } else {
            ward.cell.set_state(State::Stopped);
            let _ = reply.send(Ok(Exit::Stopped));
        }
    }

    pub(super) fn restart_child(&mut self, name: &str, reply: oneshot::Sender<Result<u64, ChildError>>) {
        let now = self.now();
        match self.names.get(name) {
            Some(_) if self.core.is_closing() => {
                let _ = reply.send(Err(ChildError::SupervisorGone));
            }
            Some(&id) => {
                self.core.restart_child(id, now);
                let ward = self.wards.get_mut(&id).expect("names are those of wards");
                ward.ordered = true;
                ward.starts = Some(reply);
            }
            None => {
                let _ = reply.send(Err(ChildError::Unknown(name.to_owned())));
            }
        }
    }
}

fn log_exit(ward: &Ward, exit: &Exit, verdict: &Verdict) {
    let (actor, generation) = (&*ward.cell.path, ward.generation);
    match verdict {
        Verdict::Restart(delay) => {
            tracing::warn!(actor, generation, delay_ms = delay.as_millis() as u64, "restarting: it {exit}");
        }
        Verdict::GiveUp => tracing::error!(actor, generation, "too many restarts: it {exit}"),
        Verdict::Over if exit.is_failure() => tracing::warn!(actor, generation, "it {exit}"),
        _ => tracing::debug!(actor, generation, "it {exit}"),
    }
}
