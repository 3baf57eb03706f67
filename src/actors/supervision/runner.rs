//! The task of a supervisor: it turns events into decisions of the [core](super::core), and those into deeds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::child::{Child, ChildContext};
use super::core::{Action, ChildId, Core};
use super::exit::Exit;
use super::handle::{ChildError, Command};
use super::heartbeat::{Beat, Heartbeat};
use super::life::{Report, Seat};
use super::orders::{Order, Orders};
use super::registry::{Cell, Hang, Registry};
use super::status::State;
use super::supervisor::Plan;

mod hearing;

/// Events taken in before the next decision: what happens together is decided on together, so that two
/// siblings that fail in the same moment cause one group restart.
const EVENTS_AT_ONCE: usize = 256;

/// What a supervisor hears.
pub(crate) enum Event {
    Up { child: ChildId, generation: u64 },
    Exit { child: ChildId, generation: u64, exit: Exit },
    Command(Command),
}

/// Starts the root of a tree.
pub(crate) fn start_root(plan: Arc<Plan>, registry: &Arc<Registry>) {
    let cell = registry.enter_root(&plan.name);
    let cell = cell.unwrap_or_else(|| panic!("the registry has a running root called {}", plan.name));
    let orders = Arc::new(Orders::default());
    let generation = {
        let mut inner = cell.inner();
        inner.generation += 1;
        inner.orders = Some(orders.clone());
        inner.generation
    };
    let context = ChildContext { path: cell.path.clone(), generation, registry: registry.clone() };
    let seat = Seat { context, life: registry.next_life(), orders, report: Report::unheard(), cell };
    tokio::task::spawn_local(run(plan, seat));
}

/// One life of a supervisor. It can be given orders from now on, before it is polled.
pub(crate) fn run(plan: Arc<Plan>, seat: Seat) -> impl Future<Output = ()> {
    let orders = seat.orders.clone();
    let mut runner = Runner::new(plan, seat);
    counted(orders, async move {
        let exit = runner.work().await;
        runner.finish(exit);
    })
}

/// The same work, polls counted, so that the watchdog sees one that does not end.
async fn counted(orders: Arc<Orders>, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    poll_fn(|cx| {
        orders.poll_begins();
        let polled = work.as_mut().poll(cx);
        orders.poll_ends();
        polled
    })
    .await;
}

/// A child as its supervisor's task sees it.
struct Ward {
    child: Child,
    cell: Arc<Cell>,
    generation: u64,
    life: u64,
    orders: Arc<Orders>,
    heartbeat: Option<Heartbeat>,
    starts: Option<oneshot::Sender<Result<u64, ChildError>>>,
    stops: Vec<oneshot::Sender<Result<Exit, ChildError>>>,
    /// Started once before, so that another start is a restart unless it was ordered.
    started: bool,
    ordered: bool,
}

struct Runner {
    plan: Arc<Plan>,
    seat: Seat,
    core: Core,
    wards: BTreeMap<ChildId, Ward>,
    names: HashMap<Arc<str>, ChildId>,
    watched: BTreeSet<ChildId>,
    next_beat: Option<Duration>,
    next_id: ChildId,
    inbox: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
    epoch: Instant,
    announced: bool,
    ended: bool,
}

impl Runner {
    fn new(plan: Arc<Plan>, seat: Seat) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        let core = Core::new(plan.strategy, &plan.policy, seat.context.registry.seed_for(&seat.context.path))
            .escalation(plan.escalation.as_ref());
        {
            let mut inner = seat.cell.inner();
            inner.supervisor = true;
            inner.state = State::Starting;
        }
        plan.handle.attach(sender.clone());
        let mut runner = Self {
            plan: plan.clone(),
            seat,
            core,
            wards: BTreeMap::new(),
            names: HashMap::new(),
            watched: BTreeSet::new(),
            next_beat: None,
            next_id: 0,
            inbox,
            sender,
            epoch: Instant::now(),
            announced: false,
            ended: false,
        };
        for child in &plan.children {
            runner.adopt(child.clone(), false);
        }
        runner
    }

    fn registry(&self) -> &Arc<Registry> {
        &self.seat.context.registry
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn adopt(&mut self, child: Child, dynamic: bool) -> ChildId {
        let id = self.next_id;
        self.next_id += 1;
        let cell = self.registry().enter(&self.seat.cell, id, &child.name);
        let generation = if dynamic {
            let floor = self.seat.cell.inner().generation_floor;
            floor.max(cell.inner().generation)
        } else {
            cell.inner().generation
        };
        cell.set_state(State::Starting);
        self.core.add(id, &child.terms, dynamic, generation);
        self.names.insert(child.name.clone(), id);
        let ward = Ward {
            started: generation > 0 && !dynamic,
            child,
            cell,
            generation,
            life: 0,
            orders: Arc::default(),
            heartbeat: None,
            starts: None,
            stops: Vec::new(),
            ordered: false,
        };
        self.wards.insert(id, ward);
        id
    }

    async fn work(&mut self) -> Exit {
        loop {
            let now = self.now();
            if self.next_beat.is_some_and(|at| at <= now) {
                self.beat(now);
            }
            self.carry_on(now);
            self.forget_gone();
            self.announce();
            if let Some(exit) = self.core.ended() {
                return exit;
            }
            let deadline = [self.core.next_deadline(now), self.next_beat].into_iter().flatten().min();
            let alarm = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(self.epoch + at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                order = self.seat.orders.next() => self.obey(order).await,
                event = self.inbox.recv() => {
                    self.hear(event.expect("the runner keeps a sender itself"));
                    self.hear_the_rest();
                }
                () = alarm => {}
            }
        }
    }

    /// Takes all steps that are possible now; a step may make others possible.
    fn carry_on(&mut self, now: Duration) {
        loop {
            let actions = self.core.advance(now);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act(action);
            }
        }
    }

    fn hear_the_rest(&mut self) {
        for _ in 1..EVENTS_AT_ONCE {
            match self.inbox.try_recv() {
                Ok(event) => self.hear(event),
                Err(_) => return,
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Stop => self.close(Exit::Stopped, false),
            Order::Kill => self.close(Exit::Killed, true),
            Order::Ping(number) => self.seat.orders.answer(number),
            Order::Crash(text) => self.close(Exit::Panicked(text), true),
            Order::Hang(long) => std::thread::sleep(long),
            Order::Stall(long) => tokio::time::sleep(long).await,
        }
    }

    fn close(&mut self, exit: Exit, hard: bool) {
        self.seat.cell.set_state(State::Stopping);
        self.core.close(exit, hard);
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Up { child, generation } => self.hear_up(child, generation),
            Event::Exit { child, generation, exit } => self.hear_exit(child, generation, exit),
            Event::Command(Command::Shutdown) => self.close(Exit::Stopped, false),
            Event::Command(Command::StartChild(child, reply)) => self.start_child(child, reply),
            Event::Command(Command::StopChild(name, reply)) => self.stop_child(&name, reply),
            Event::Command(Command::RestartChild(name, reply)) => self.restart_child(&name, reply),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { child, generation } => self.start(child, generation),
            Action::Stop(child) => {
                let ward = &self.wards[&child];
                ward.cell.set_state(State::Stopping);
                ward.orders.give(Order::Stop);
            }
            Action::Kill(child) => {
                let ward = &self.wards[&child];
                tracing::warn!(actor = &*ward.cell.path, generation = ward.generation, "killing it");
                ward.orders.give(Order::Kill);
            }
            Action::Unkillable { child, abandoned } => self.unkillable(child, abandoned),
        }
    }

    fn start(&mut self, child: ChildId, generation: u64) {
        let registry = self.registry().clone();
        let ward = self.wards.get_mut(&child).expect("the core knows no other children");
        let restart = ward.started && !ward.ordered;
        (ward.started, ward.ordered) = (true, false);
        ward.generation = generation;
        ward.life = registry.next_life();
        ward.orders = Arc::default();
        {
            let mut inner = ward.cell.inner();
            inner.state = State::Starting;
            inner.generation = generation;
            inner.orders = Some(ward.orders.clone());
            inner.restarts += u64::from(restart);
        }
        if restart {
            registry.count_restart();
        }
        let context = ChildContext { path: ward.cell.path.clone(), generation, registry: registry.clone() };
        let report = Report::new(self.sender.clone(), child, generation);
        let (orders, cell) = (ward.orders.clone(), ward.cell.clone());
        let seat = Seat { context, life: ward.life, orders, report, cell };
        ward.child.launch.launch(seat, &ward.child.terms.place);
    }

    fn unkillable(&mut self, child: ChildId, abandoned: bool) {
        let ward = &self.wards[&child];
        ward.cell.set_state(State::Hung);
        let hang =
            Hang { path: ward.cell.path.clone(), generation: ward.generation, blocked: Duration::ZERO };
        self.registry().report_hang(&hang);
        if abandoned {
            ward.child.launch.evict(ward.life);
            let verdict = self.core.abandon(child, self.now());
            self.record_exit(child, Exit::Hung, &verdict);
        }
    }

    /// Pings those that are due and kills those that hang.
    fn beat(&mut self, now: Duration) {
        let mut next: Option<Duration> = None;
        for child in self.watched.clone() {
            let ward = self.wards.get_mut(&child).expect("watched children are wards");
            let Some(heart) = &mut ward.heartbeat else { continue };
            loop {
                match heart.beat(now, ward.orders.answered()) {
                    Beat::Ping(number) => ward.orders.give(Order::Ping(number)),
                    Beat::Wait(until) => {
                        next = Some(next.map_or(until, |at| at.min(until)));
                        break;
                    }
                    Beat::Overdue => {
                        tracing::error!(actor = &*ward.cell.path, generation = ward.generation, "it hangs");
                        ward.heartbeat = None;
                        self.watched.remove(&child);
                        ward.child.launch.evict(ward.life);
                        if let Some(action) = self.core.hung(child, now) {
                            ward.cell.set_state(State::Hung);
                            self.act(action);
                        }
                        break;
                    }
                }
            }
        }
        self.next_beat = next;
    }

    fn forget_gone(&mut self) {
        for child in self.core.take_gone() {
            let Some(ward) = self.wards.remove(&child) else { continue };
            self.names.remove(&ward.child.name);
            self.watched.remove(&child);
            {
                let mut inner = self.seat.cell.inner();
                inner.generation_floor = inner.generation_floor.max(ward.generation);
            }
            self.registry().forget(&self.seat.cell, child);
        }
    }

    fn announce(&mut self) {
        if !self.announced && self.core.is_settled() {
            self.announced = true;
            self.seat.cell.set_state(State::Running);
            self.plan.handle.up();
            self.seat.report.up();
        }
    }

    fn finish(&mut self, exit: Exit) {
        self.ended = true;
        let path = &*self.seat.context.path;
        {
            let mut inner = self.seat.cell.inner();
            inner.state = State::Stopped;
            inner.orders = None;
            inner.last_cause = Some(exit.to_string());
        }
        if !self.seat.report.is_heard() && exit.is_failure() {
            tracing::error!(actor = path, "the root of the tree {exit}");
            if let Some(call) = &self.plan.on_give_up {
                call(&exit);
            }
        }
        self.plan.handle.detach(exit.clone());
        self.seat.report.exit(exit);
    }
}

/// The task went away in the middle of its work: what is left of its children must not live on unsupervised.
impl Drop for Runner {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        for ward in self.wards.values().rev() {
            ward.orders.give(Order::Kill);
        }
        {
            let mut inner = self.seat.cell.inner();
            inner.state = State::Stopped;
            inner.orders = None;
        }
        self.plan.handle.detach(Exit::Lost);
    }
}
