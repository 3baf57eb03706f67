//! What runs behind a client: a supervised clerk, on a thread of its own or on the caller's.

use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::ClientOptions;
use crate::actors::clerk::{ClerkActor, Invoke, KnownNodes};
use crate::actors::supervision::{ChildSpec, Port, Registry, Slot, Strategy, Supervisor, SupervisorRef};
use crate::logic::clerk::{ClerkError, Op};
use crate::logic::ids::GroupId;
use crate::logic::kv::command::Command;

/// How long a client that was dropped may take to close its session.
const PARTING: Duration = Duration::from_millis(250);

/// What runs beside the clerk.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Keeps the clerk running until it is dropped.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) calls: Port<Invoke>,
    pub(super) nodes: Port<KnownNodes>,
    /// Told from all other clients by this.
    pub(super) identity: u64,
    /// How many claims on locks were made.
    pub(super) claims: AtomicU64,
    /// How many locks are waited for, held, or not given up yet.
    pub(super) locks: watch::Sender<usize>,
    /// Who asks whose turn it is: such a question occupies a connection for long.
    pub(super) turns: Semaphore,
    /// Where tasks are started. Dropping it ends the clerk, and its thread.
    tasks: mpsc::UnboundedSender<Task>,
}

impl Life {
    /// Runs a task where the clerk runs, until it ends by itself. It may hold a client, and then the clerk runs as
    /// long.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), ClerkError> {
        let gone = |_| ClerkError::Unavailable("the client's thread has died".to_owned());
        self.tasks.send(Box::pin(task)).map_err(gone)
    }

    /// Runs what keeps a lock, and counts it until it has ended.
    pub(super) fn keep(&self, keeper: impl Future<Output = ()> + Send + 'static) -> Result<(), ClerkError> {
        let counted = Counted::new(&self.locks);
        self.spawn(async move {
            keeper.await;
            drop(counted);
        })
    }

    /// Starts a clerk on the current thread.
    pub(super) async fn here(options: &ClientOptions) -> Result<Life, ClerkError> {
        let (clerk, life, tasks) = prepare(options)?;
        let root = clerk.start().await?;
        tokio::task::spawn_local(root.run(tasks));
        Ok(life)
    }

    /// Starts a clerk on a thread of its own.
    pub(super) async fn in_thread(options: &ClientOptions) -> Result<Life, ClerkError> {
        let (clerk, life, tasks) = prepare(options)?;
        let (started, ready) = oneshot::channel();
        let main = move || {
            actix::System::new().block_on(async move {
                match clerk.start().await {
                    Ok(root) => {
                        // Whoever asked may have been dropped; then the tasks' sender has been, too.
                        let _ = started.send(Ok(()));
                        root.run(tasks).await;
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
        };
        let spawned = std::thread::Builder::new().name("quorate-client".to_owned()).spawn(main);
        if let Err(error) = spawned {
            return Err(ClerkError::Unavailable(format!(
                "the client's thread could not be started: {error}"
            )));
        }
        match ready.await {
            Ok(outcome) => outcome.map(|()| life),
            Err(_) => Err(ClerkError::Unavailable("the client's thread has died".to_owned())),
        }
    }
}

/// One of a number of things; no longer once it is dropped.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(count: &watch::Sender<usize>) -> Counted {
        count.send_modify(|count| *count += 1);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A clerk to be started.
struct Prepared {
    supervisor: Supervisor,
    calls: Port<Invoke>,
    seed: u64,
    group: GroupId,
}

/// A clerk that runs.
struct Root {
    supervisor: SupervisorRef,
    calls: Port<Invoke>,
    group: GroupId,
}

fn prepare(options: &ClientOptions) -> Result<(Prepared, Life, mpsc::UnboundedReceiver<Task>), ClerkError> {
    let (settings, group) = (options.settings()?, options.group);
    let max_in_flight = settings.clerk.max_in_flight;
    let slot = Slot::<ClerkActor>::new("clerk");
    let seed = settings.clerk.seed;
    let child = ChildSpec::new("clerk", move |context| {
        let mut settings = settings.clone();
        // Another life, other pauses.
        settings.clerk.seed = seed.wrapping_add(context.generation());
        ClerkActor::new(settings)
    });
    let supervisor = Supervisor::new("client", Strategy::OneForOne).child(child.slot(&slot));
    let (tasks, started) = mpsc::unbounded_channel();
    let life = Life {
        calls: slot.port(),
        nodes: slot.port(),
        identity: options.identity.unwrap_or_else(|| fastrand::u64(..)),
        claims: AtomicU64::new(0),
        locks: watch::Sender::new(0),
        turns: Semaphore::new((max_in_flight / 2).max(1)),
        tasks,
    };
    Ok((Prepared { supervisor, calls: slot.port(), seed, group }, life, started))
}

impl Prepared {
    async fn start(self) -> Result<Root, ClerkError> {
        let supervisor = self.supervisor.start(&Registry::new(self.seed));
        let failed = |exit| ClerkError::Unavailable(format!("the client could not be started: {exit}"));
        supervisor.ready().await.map_err(failed)?;
        Ok(Root { supervisor, calls: self.calls, group: self.group })
    }
}

impl Root {
    /// Runs until the client is dropped.
    async fn run(self, mut tasks: mpsc::UnboundedReceiver<Task>) {
        while let Some(task) = tasks.recv().await {
            tokio::task::spawn_local(task);
        }
        part(&self.calls, self.group).await;
        self.supervisor.shutdown().await;
    }
}

/// Closes the session, so that the server need not keep it until it expires.
/// Sessions that the client has in other groups expire.
async fn part(calls: &Port<Invoke>, group: GroupId) {
    let (reply, closed) = oneshot::channel();
    let op = Op::Write(Command::CloseSession);
    let invoke = Invoke { group, op, deadline: Some(PARTING), reply };
    if calls.tell(invoke).is_ok() {
        let _ = closed.await;
    }
}
