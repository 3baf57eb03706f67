//! The launcher: runs the nodes of a cluster as child processes of this one, and starts those again that fail.
//!
//! * `child.rs`: one process: how it is started, what it says, how it is told to end.
//! * `verdict.rs`: what its exit means: start it again, or leave it down and say what to do.
//! * `console.rs`: the lines of all of them on one stream, each with its node in front.
//! * `ports.rs`: whether the nodes' addresses are free, asked before anything is started.
//!
//! What holds: children do not outlive the launcher, however it ends; they do not get the terminal's Ctrl-C, so the
//! order in which things end is the launcher's; a stalled terminal stalls no node (lines are dropped and counted).
//! A node whose configuration is refused or whose data are damaged is not started again. Not done here: finding out
//! whether the cluster serves; that is a client's business (`cli::up`).

mod child;
mod console;
mod ports;
mod verdict;

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::logic::ids::NodeId;
use crate::logic::restart::{Decision, RestartPolicy, RestartState};
use crate::node::config::LauncherConfig;

use child::{Child, Signal};
pub use child::{Ending, end_with_parent};
pub use console::{Console, Line};
pub use ports::check as check_addresses;
use verdict::{Verdict, verdict};

/// What is told to a running launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End every node in order, then return.
    Stop,
    /// End every node at once, then return.
    Kill,
}

/// What happened to a node; its `Display` is a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Its process was started; the first is number 1.
    Started {
        /// Which node.
        node: NodeId,
        /// Process id.
        pid: u32,
        /// How many times it has been started.
        generation: u32,
    },
    /// Its process ended, or could not be started, without having been told to.
    Failed {
        /// Which node.
        node: NodeId,
        /// How.
        ending: Ending,
        /// It is started again after so long.
        restart_in: Duration,
    },
    /// Its process ended and is not started again.
    LeftDown {
        /// Which node.
        node: NodeId,
        /// How.
        ending: Ending,
        /// Why it is not started again and what to do.
        advice: String,
    },
    /// Its process was told to end and did.
    Stopped {
        /// Which node.
        node: NodeId,
        /// How.
        ending: Ending,
    },
    /// Its process was told to end, did not in time, and is killed.
    Overdue {
        /// Which node.
        node: NodeId,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { node, pid, generation: 1 } => write!(f, "{node} started (process {pid})"),
            Self::Started { node, pid, generation } => {
                write!(f, "{node} started again (process {pid}, start number {generation})")
            }
            Self::Failed { node, ending, restart_in } => {
                write!(f, "{node} {ending}; it is started again in {} ms", restart_in.as_millis())
            }
            Self::LeftDown { node, ending, advice } => write!(f, "{node} {ending}; {advice}"),
            Self::Stopped { node, ending } => write!(f, "{node} {ending}"),
            Self::Overdue { node } => write!(f, "{node} did not end in time and is killed"),
        }
    }
}

/// How a launch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Nodes that were left down before the end.
    pub left_down: Vec<NodeId>,
}

/// When nodes are started again and how long they may take to end.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Restarts of one node.
    pub policy: RestartPolicy,
    /// A node that has not ended so long after it was told to is killed.
    pub stop_timeout: Duration,
}

impl From<&LauncherConfig> for Settings {
    fn from(config: &LauncherConfig) -> Self {
        let (first, max) =
            (Duration::from_millis(config.backoff_min_ms), Duration::from_millis(config.backoff_max_ms));
        let window = Duration::from_secs(config.window_s);
        let policy = RestartPolicy::intensity(config.max_restarts, window)
            .delays(first, (first * 2).min(max), max)
            .stable_after(Duration::from_secs(config.stable_s));
        Self { policy, stop_timeout: Duration::from_secs(config.stop_timeout_s) }
    }
}

/// Runs node processes.
pub struct Launcher<C> {
    command: C,
    settings: Settings,
    console: Console,
    input: Bytes,
    notices: mpsc::UnboundedSender<Notice>,
    slots: BTreeMap<NodeId, Slot>,
    started_at: Instant,
    stopping: bool,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
}

/// One node.
struct Slot {
    state: State,
    generation: u32,
    restarts: RestartState,
}

enum State {
    Running {
        child: Child,
        since: Instant,
    },
    /// Waits for its restart.
    Waiting,
    /// Not started again.
    Down,
    Stopped,
}

enum Event {
    /// The process ended.
    Ended(NodeId, Ending),
    /// The pause before a restart is over.
    Due(NodeId),
    /// The time that processes have to end is over.
    Overdue,
}

impl<C: Fn(NodeId) -> Command> Launcher<C> {
    /// A launcher that has not started anything. `command` makes the command line of a node; what the processes
    /// write goes to `console`, what happens to them to `notices`.
    pub fn new(
        nodes: &[NodeId],
        command: C,
        settings: Settings,
        console: Console,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        let slot = |&node: &NodeId| {
            let restarts = RestartState::new(&settings.policy, node.0);
            (node, Slot { state: State::Waiting, generation: 0, restarts })
        };
        let slots = nodes.iter().map(slot).collect();
        let started_at = Instant::now();
        let (input, stopping) = (Bytes::new(), false);
        Self { command, settings, console, input, notices, slots, started_at, stopping, events, inbox }
    }

    /// What every process finds on its standard input; nothing unless said otherwise.
    pub fn input(mut self, text: impl Into<Bytes>) -> Self {
        self.input = text.into();
        self
    }

    /// Starts every node and keeps them running until it is ordered to stop (a closed channel counts as
    /// [`Order::Stop`]) or every node was left down. When it returns, no child is left.
    ///
    /// Must run on a thread that lives as long as the launch, such as the main thread: the kernel ends the children
    /// when the thread that started them ends.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Outcome {
        for node in self.slots.keys().copied().collect::<Vec<_>>() {
            self.start(node);
        }
        let mut listening = true;
        while !self.finished() {
            tokio::select! {
                biased;
                order = orders.recv(), if listening => {
                    listening = order.is_some();
                    match order {
                        Some(Order::Kill) => self.kill(),
                        Some(Order::Stop) | None => self.stop(),
                    }
                }
                event = self.inbox.recv() => match event.expect("the launcher holds a sender") {
                    Event::Ended(node, ending) => self.ended(node, ending),
                    Event::Due(node) => self.due(node),
                    Event::Overdue => self.overdue(),
                },
            }
        }
        let down = |(&node, slot): (&NodeId, &Slot)| matches!(slot.state, State::Down).then_some(node);
        Outcome { left_down: self.slots.iter().filter_map(down).collect() }
    }

    fn finished(&self) -> bool {
        self.slots.values().all(|slot| matches!(slot.state, State::Down | State::Stopped))
    }

    fn notify(&self, notice: Notice) {
        // Nobody has to listen.
        let _ = self.notices.send(notice);
    }

    fn slot(&mut self, node: NodeId) -> &mut Slot {
        self.slots.get_mut(&node).expect("events name nodes of this launcher")
    }

    fn start(&mut self, node: NodeId) {
        let spawned = Child::spawn((self.command)(node), self.input.clone(), node, &self.console);
        let slot = self.slots.get_mut(&node).expect("events name nodes of this launcher");
        slot.generation += 1;
        match spawned {
            Ok((child, ending)) => {
                let (pid, generation) = (child.pid(), slot.generation);
                slot.state = State::Running { child, since: Instant::now() };
                let events = self.events.clone();
                tokio::spawn(async move {
                    // The launcher outlives its children; after it nobody listens.
                    let _ = events.send(Event::Ended(node, ending.await));
                });
                self.notify(Notice::Started { node, pid, generation });
            }
            Err(error) => self.failed(node, Ending::not_started(&error), Duration::ZERO),
        }
    }

    fn ended(&mut self, node: NodeId, ending: Ending) {
        let State::Running { since, .. } = self.slot(node).state else { return };
        if self.stopping {
            self.slot(node).state = State::Stopped;
            self.notify(Notice::Stopped { node, ending });
        } else {
            self.failed(node, ending, since.elapsed());
        }
    }

    fn failed(&mut self, node: NodeId, ending: Ending, alive: Duration) {
        let now = self.started_at.elapsed();
        let verdict = match verdict(&ending) {
            Verdict::LeaveDown(advice) => Err(advice),
            Verdict::Restart => match self.slot(node).restarts.failed(now, alive) {
                Decision::Restart(delay) => Ok(delay),
                Decision::GiveUp => Err(verdict::too_often(&self.settings.policy)),
            },
        };
        match verdict {
            Ok(delay) => {
                self.slot(node).state = State::Waiting;
                self.later(delay, Event::Due(node));
                self.notify(Notice::Failed { node, ending, restart_in: delay });
            }
            Err(advice) => {
                self.slot(node).state = State::Down;
                self.notify(Notice::LeftDown { node, ending, advice });
            }
        }
    }

    fn due(&mut self, node: NodeId) {
        if matches!(self.slot(node).state, State::Waiting) {
            self.start(node);
        }
    }

    fn stop(&mut self) {
        if !self.stopping {
            self.end_all(Signal::Terminate);
            self.later(self.settings.stop_timeout, Event::Overdue);
        }
    }

    fn kill(&mut self) {
        self.end_all(Signal::Kill);
    }

    fn end_all(&mut self, signal: Signal) {
        self.stopping = true;
        for slot in self.slots.values_mut() {
            match &slot.state {
                State::Running { child, .. } => child.signal(signal),
                State::Waiting => slot.state = State::Stopped,
                State::Down | State::Stopped => {}
            }
        }
    }

    fn overdue(&mut self) {
        for (&node, slot) in &self.slots {
            if let State::Running { child, .. } = &slot.state {
                self.notify(Notice::Overdue { node });
                child.signal(Signal::Kill);
            }
        }
    }

    fn later(&self, delay: Duration, event: Event) {
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = events.send(event);
        });
    }
}
