//! Notices actors that block their thread, from a thread of its own: nothing that runs on the blocked thread could.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::registry::{Hang, Registry};
use super::status::State;

/// Watches all actors of a registry for as long as it is kept.
///
/// An actor or supervisor that is in one and the same poll for `limit`, be it in a handler or in a destructor, blocks
/// its thread, and everybody who shares it. It is shown as [`State::Hung`] and reported once to [`Registry::on_hang`].
/// The cost for the actors is two stores in a poll; they read no clock.
///
/// This runs in real time and in a real thread, so it has no place in a simulation.
#[derive(Debug)]
pub struct Watchdog {
    /// Dropping it wakes and ends the thread.
    _stop: Sender<()>,
}

impl Watchdog {
    /// Starts watching. `limit` is exact to a quarter of itself.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(registry: &Arc<Registry>, limit: Duration) -> io::Result<Self> {
        let interval = (limit / 4).max(Duration::from_millis(1));
        let (stop, stopped) = channel();
        let registry = Arc::downgrade(registry);
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut watch = Watch::new(limit, interval);
            let mut last = Instant::now();
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                if !look(&registry, &mut watch, now - last) {
                    return;
                }
                last = now;
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

/// One look at everybody; false when there is nothing left to watch.
fn look(registry: &Weak<Registry>, watch: &mut Watch, elapsed: Duration) -> bool {
    let Some(registry) = registry.upgrade() else { return false };
    let cells = registry.cells();
    let running = cells.iter().filter_map(|cell| {
        let inner = cell.inner();
        Some(Sample {
            path: cell.path.clone(),
            generation: inner.generation,
            polls: inner.orders.as_ref()?.polls(),
        })
    });
    let findings = watch.look(elapsed, running);
    for finding in findings {
        match finding {
            Finding::Blocked(hang) => {
                mark(&cells, &hang.path, State::Running, State::Hung);
                registry.report_hang(&hang);
            }
            Finding::Recovered(path) => {
                tracing::warn!(actor = &*path, "actor no longer blocks its thread");
                mark(&cells, &path, State::Hung, State::Running);
            }
        }
    }
    true
}

fn mark(cells: &[Arc<super::registry::Cell>], path: &Arc<str>, from: State, to: State) {
    if let Some(cell) = cells.iter().find(|cell| cell.path == *path) {
        let mut inner = cell.inner();
        if inner.state == from {
            inner.state = to;
        }
    }
}

/// How often an actor has begun or ended a poll.
struct Sample {
    path: Arc<str>,
    generation: u64,
    polls: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Blocked(Hang),
    Recovered(Arc<str>),
}

/// An actor that was inside a poll when it was looked at last.
struct Inside {
    generation: u64,
    polls: u64,
    since: Duration,
    reported: bool,
}

/// The judgement, without threads or clocks.
struct Watch {
    limit: Duration,
    longest_step: Duration,
    /// Time as this watch counts it.
    now: Duration,
    inside: HashMap<Arc<str>, Inside>,
}

impl Watch {
    fn new(limit: Duration, interval: Duration) -> Self {
        Self { limit, longest_step: interval * 2, now: Duration::ZERO, inside: HashMap::new() }
    }

    /// `elapsed` is the time since the last look. Much more than the interval means that the whole process stood
    /// still (it was suspended, or the machine was); actors are not blamed for that.
    fn look(&mut self, elapsed: Duration, samples: impl Iterator<Item = Sample>) -> Vec<Finding> {
        self.now += elapsed.min(self.longest_step);
        let mut findings = Vec::new();
        let mut before = std::mem::take(&mut self.inside);
        for Sample { path, generation, polls } in samples {
            let mut same = None;
            if let Some(inside) = before.remove(&path) {
                if inside.generation == generation && inside.polls == polls {
                    same = Some(inside);
                } else if inside.reported {
                    findings.push(Finding::Recovered(path.clone()));
                }
            }
            if polls % 2 == 0 {
                continue;
            }
            let mut inside = same.unwrap_or(Inside { generation, polls, since: self.now, reported: false });
            let blocked = self.now - inside.since;
            if blocked >= self.limit && !inside.reported {
                inside.reported = true;
                findings.push(Finding::Blocked(Hang { path: path.clone(), generation, blocked }));
            }
            self.inside.insert(path, inside);
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn look(watch: &mut Watch, elapsed: u64, polls: u64) -> Vec<Finding> {
        watch.look(ms(elapsed), [Sample { path: "a/b".into(), generation: 1, polls }].into_iter())
    }

    #[test]
    fn one_long_poll_is_reported_once_and_recovery_too() {
        let mut watch = Watch::new(ms(100), ms(25));
        assert_eq!(look(&mut watch, 25, 7), []);
        for _ in 0..3 {
            assert_eq!(look(&mut watch, 25, 7), []);
        }
        let hang = Hang { path: "a/b".into(), generation: 1, blocked: ms(100) };
        assert_eq!(look(&mut watch, 25, 7), [Finding::Blocked(hang)]);
        assert_eq!(look(&mut watch, 25, 7), []);
        assert_eq!(look(&mut watch, 25, 8), [Finding::Recovered("a/b".into())]);
        assert_eq!(look(&mut watch, 25, 8), []);
    }

    #[test]
    fn a_busy_or_idle_actor_is_not_blocked() {
        let mut watch = Watch::new(ms(100), ms(25));
        for turn in 0..20 {
            assert_eq!(
                look(&mut watch, 25, 2 * turn + 1),
                [],
                "busy: always inside, but always another poll"
            );
        }
        for _ in 0..20 {
            assert_eq!(look(&mut watch, 25, 40), [], "idle");
        }
    }

    #[test]
    fn a_suspended_process_is_not_blocked() {
        let mut watch = Watch::new(ms(100), ms(25));
        assert_eq!(look(&mut watch, 25, 1), []);
        assert_eq!(look(&mut watch, 3_600_000, 1), []);
    }
}
