//! What runs behind a client: a supervised clerk, on a thread of its own or on the caller's.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::actors::clerk::{ClerkActor, ClerkSettings, Invoke, KnownNodes};
use crate::actors::supervision::{ChildSpec, Port, Registry, Slot, Strategy, Supervisor, SupervisorRef};
use crate::logic::clerk::{ClerkError, Op};
use crate::logic::ids::GroupId;
use crate::logic::kv::command::Command;

/// How long a client that was dropped may take to close its session.
const PARTING: Duration = Duration::from_millis(250);

/// Keeps the clerk running until it is dropped.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) calls: Port<Invoke>,
    pub(super) nodes: Port<KnownNodes>,
    /// Dropping it ends the clerk, and its thread.
    _end: oneshot::Sender<()>,
}

impl Life {
    /// Starts a clerk on the current thread.
    pub(super) async fn here(settings: ClerkSettings, group: GroupId) -> Result<Life, ClerkError> {
        let (clerk, life, end) = prepare(settings);
        let root = clerk.start().await?;
        tokio::task::spawn_local(async move {
            // An error: the sender was dropped, which is the signal.
            let _ = end.await;
            part(&root.calls, group).await;
            root.supervisor.shutdown().await;
        });
        Ok(life)
    }

    /// Starts a clerk on a thread of its own.
    pub(super) async fn in_thread(settings: ClerkSettings, group: GroupId) -> Result<Life, ClerkError> {
        let (clerk, life, end) = prepare(settings);
        let (started, ready) = oneshot::channel();
        let main = move || {
            actix::System::new().block_on(async move {
                match clerk.start().await {
                    Ok(root) => {
                        // Whoever asked may have been dropped; then `end` has been, too.
                        let _ = started.send(Ok(()));
                        let _ = end.await;
                        part(&root.calls, group).await;
                        root.supervisor.shutdown().await;
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

/// A clerk to be started.
struct Prepared {
    supervisor: Supervisor,
    calls: Port<Invoke>,
    seed: u64,
}

/// A clerk that runs.
struct Root {
    supervisor: SupervisorRef,
    calls: Port<Invoke>,
}

fn prepare(settings: ClerkSettings) -> (Prepared, Life, oneshot::Receiver<()>) {
    let slot = Slot::<ClerkActor>::new("clerk");
    let seed = settings.clerk.seed;
    let child = ChildSpec::new("clerk", move |context| {
        let mut settings = settings.clone();
        // Another life, other pauses.
        settings.clerk.seed = seed.wrapping_add(context.generation());
        ClerkActor::new(settings)
    });
    let supervisor = Supervisor::new("client", Strategy::OneForOne).child(child.slot(&slot));
    let (end, ended) = oneshot::channel();
    let life = Life { calls: slot.port(), nodes: slot.port(), _end: end };
    (Prepared { supervisor, calls: slot.port(), seed }, life, ended)
}

impl Prepared {
    async fn start(self) -> Result<Root, ClerkError> {
        let supervisor = self.supervisor.start(&Registry::new(self.seed));
        let failed = |exit| ClerkError::Unavailable(format!("the client could not be started: {exit}"));
        supervisor.ready().await.map_err(failed)?;
        Ok(Root { supervisor, calls: self.calls })
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
