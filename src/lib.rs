//! Quorate: a replicated key/value store of supervised actix actors.
//!
//! The rooms of the house, and the one direction in which they may import each other:
//!
//! ```text
//! cli, main -> sim -> node -> actors -> { net, storage, mapreduce } -> messages -> logic
//! ```
//!
//! * [`logic`]: pure cores. No actor, socket, file, clock or thread.
//! * [`messages`]: what actors say to each other, as plain data; the wire frame.
//! * [`net`]: the bridge between processes. It knows addresses, not protocols.
//! * [`storage`]: the write-ahead log, snapshots, the real disk and the simulated one.
//! * [`mapreduce`]: the data path of MapReduce: files, threads, processes, and the functions of jobs.
//! * [`actors`]: shells around the cores, and supervision.
//! * [`node`]: configuration, and putting a node together.
//! * [`sim`]: whole clusters in virtual time, from a seed.
//! * [`cli`]: the commands of the binary.
//!
//! # A client
//!
//! ```no_run
//! use quorate::{Client, ClientOptions, Error};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! // One address would do: the others are learnt.
//! let client = Client::connect(ClientOptions::new(["127.0.0.1:7101", "127.0.0.1:7102"])).await?;
//! let version = client.put("greeting", "hello").await?;
//! let found = client.get("greeting").await?.expect("it was just put");
//! assert_eq!((&found.value[..], found.version), (&b"hello"[..], version));
//! client.close().await
//! # }
//! ```
//!
//! # A node in a program of one's own
//!
//! What `quorate node` does, in short. Several nodes may share a process, and with
//! [`MemoryNetwork`](net::memory::MemoryNetwork) instead of TCP they need no ports.
//!
//! ```no_run
//! use quorate::logic::ids::NodeId;
//! use quorate::net::transport::TcpTransport;
//! use quorate::node::assembly::Node;
//! use quorate::node::config::Config;
//! use quorate::node::exit::Failure;
//!
//! fn main() -> Result<(), Failure> {
//!     let config = Config::load("config/single.toml".as_ref())?;
//!     actix::System::new().block_on(async {
//!         let mut node = Node::start(&config, NodeId(1), TcpTransport::shared()).await?;
//!         tokio::select! {
//!             failure = node.failed() => return Err(failure),
//!             _ = tokio::signal::ctrl_c() => {}
//!         }
//!         node.stop().await;
//!         Ok(())
//!     })
//! }
//! ```

/// Whether a known bug is switched on ([`mutants`]); `false` in every program but the tests of the tests.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is_on($crate::mutants::Mutant::$name)
    };
}
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

pub mod actors;
pub mod cli;
pub mod logic;
pub mod mapreduce;
pub mod messages;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod net;
pub mod node;
pub mod sim;
pub mod storage;

pub use logic::clerk::ClerkError as Error;
pub use node::client::{Client, ClientOptions};
