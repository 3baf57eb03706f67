//! A MapReduce worker in a process of its own: it runs tasks for a cluster without being a node of it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::System;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::assembly::STOP_TIMEOUT;
use super::exit::{Failure, UNAVAILABLE};
use super::front::{Front, probe};
use super::mapreduce::Workshop;
use super::run::told_to_stop;
use crate::actors::supervision::{Registry, Strategy, Supervisor, SupervisorRef, install_panic_hook};
use crate::logic::ids::NodeId;
use crate::logic::restart::RestartPolicy;
use crate::mapreduce::function::Functions;
use crate::mapreduce::task::{allow_more_open_files, give_back_memory};
use crate::net::NetSettings;
use crate::net::handshake::{Identity, Refusal, at_once};
use crate::net::router::Router;
use crate::net::transport::{TcpTransport, Transport};

/// A worker that does not answer itself for so long hangs.
const HANG_TIMEOUT: Duration = Duration::from_secs(10);

/// What a worker is to be like.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Addresses of some nodes of the cluster.
    pub endpoints: Vec<String>,
    /// Name of the cluster; empty: whichever answers.
    pub cluster: String,
    /// `host:port` to listen at, for other workers that fetch its output; port 0 lets the system choose.
    pub listen: String,
    /// The host under which others reach it, where that differs from the one it listens at.
    pub advertise: Option<String>,
    /// Its directory. Kept over restarts, what it has finished need not be done again.
    pub directory: PathBuf,
    /// Attempts that it runs at once; 0: as many as there are processors.
    pub slots: u32,
    /// What all of them together may use for their data, in bytes.
    pub memory_bytes: u64,
    /// The functions that are compiled in.
    pub functions: Arc<Functions>,
    /// What carries the bytes.
    pub transport: Arc<dyn Transport>,
}

impl WorkerOptions {
    /// The defaults: any port of this machine, all processors, 256 MiB.
    pub fn new(endpoints: Vec<String>, directory: impl Into<PathBuf>) -> Self {
        WorkerOptions {
            endpoints,
            cluster: String::new(),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            directory: directory.into(),
            slots: 0,
            memory_bytes: 256 << 20,
            functions: Arc::new(Functions::builtin()),
            transport: TcpTransport::shared(),
        }
    }
}

/// A running worker. It lives on the current thread's `LocalSet`.
pub struct Worker {
    root: SupervisorRef,
    endings: UnboundedReceiver<Failure>,
}

impl Worker {
    /// Opens its directory, and starts its actors. Whether a cluster is there is another matter.
    ///
    /// # Errors
    /// When the directory cannot be used, the address is taken, or others could not dial it.
    pub async fn start(options: WorkerOptions) -> Result<Worker, Failure> {
        if options.advertise.is_none() && is_every_interface(&options.listen) {
            return Err(Failure::usage(format!(
                "{} means every interface, which other workers cannot dial; say under which host they reach this one: \
                 --advertise HOST",
                options.listen
            )));
        }
        probe(&*options.transport, &options.listen).await?;
        let (ending, endings) = unbounded_channel();
        // It is no node; connections are told so by a number that no node has.
        let me = Identity { cluster: options.cluster.clone(), node: NodeId(0), store: 0 };
        let router = Router::new(me, []);
        let address = Arc::new(Mutex::new(String::new()));
        let (shown, advertise) = (address.clone(), options.advertise.clone());
        let front = Front {
            address: options.listen,
            listening: Arc::new(move |local| {
                *shown.lock().unwrap_or_else(PoisonError::into_inner) =
                    advertised(local, advertise.as_deref());
            }),
            transport: options.transport.clone(),
            net: NetSettings::default(),
            router: router.clone(),
            known: Arc::new(|node, _| at_once(Err(Refusal::UnknownNode { node }))),
            policy: RestartPolicy::default(),
        };
        let workshop = Workshop {
            endpoints: options.endpoints,
            cluster: options.cluster,
            net: NetSettings::default(),
            transport: options.transport,
            router,
            address: Arc::new(move || address.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            directory: options.directory,
            slots: options.slots,
            memory_bytes: options.memory_bytes,
            functions: options.functions,
            policy: RestartPolicy::default(),
            hang_timeout: HANG_TIMEOUT,
        };
        let root = Supervisor::new("process", Strategy::OneForOne)
            .child(front.supervisor())
            .child(workshop.supervisor()?)
            .on_give_up(move |exit| {
                let _ =
                    ending.send(Failure::internal(format!("the worker's actors failed too often: {exit}")));
            });
        let root = root.start(&Registry::new(fastrand::u64(..)));
        match root.ready().await {
            Ok(()) => Ok(Worker { root, endings }),
            Err(exit) => Err(Failure::new(UNAVAILABLE, format!("the worker did not start: {exit}"))),
        }
    }

    /// Waits until it cannot go on.
    pub async fn failed(&mut self) -> Failure {
        self.endings.recv().await.unwrap_or_else(|| Failure::internal("the worker ended without a word"))
    }

    /// Stops it. Attempts under way are given to others.
    pub async fn stop(self) {
        self.root.shutdown().await;
    }
}

/// Whether it is an address to listen at, and none to dial.
fn is_every_interface(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
}

/// The address that others are told.
fn advertised(local: String, host: Option<&str>) -> String {
    match (host, local.rsplit_once(':')) {
        (Some(host), Some((_, port))) => format!("{host}:{port}"),
        _ => local,
    }
}

/// Runs a worker until it is told to stop (SIGTERM, SIGINT) or cannot go on.
///
/// # Errors
/// Why it did not start, or could not go on; the exit code is in it.
pub fn run(options: WorkerOptions) -> Result<(), Failure> {
    install_panic_hook();
    allow_more_open_files();
    give_back_memory();
    System::new().block_on(async {
        let mut told = pin!(told_to_stop()?);
        let mut worker = tokio::select! {
            biased;
            () = &mut told => return Ok(()),
            started = Worker::start(options) => started?,
        };
        let outcome = tokio::select! {
            failure = worker.failed() => Err(failure),
            () = &mut told => Ok(()),
        };
        // What hangs is stopped by the end of the process.
        let _ = timeout(STOP_TIMEOUT, worker.stop()).await;
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_is_nobodys_address() {
        assert!(is_every_interface("0.0.0.0:7") && is_every_interface("[::]:0"));
        assert!(!is_every_interface("127.0.0.1:0") && !is_every_interface("a.example:7"));
    }

    #[test]
    fn others_are_told_the_host_that_they_can_reach() {
        assert_eq!(advertised("0.0.0.0:7".into(), Some("a.example")), "a.example:7");
        assert_eq!(advertised("127.0.0.1:7".into(), None), "127.0.0.1:7");
    }
}
