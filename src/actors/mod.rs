//! Shells around the cores, and supervision.
//!
//! An actor here feeds a core and does what the core says; it decides nothing itself. It never imports another actor:
//! it is given [`supervision::Port`]s to whom it talks to, so that any of them may be restarted, or be a test.
//!
//! In reading order:
//!
//! * [`supervision`]: who restarts whom. A library of its own, usable without the rest.
//! * [`caller`]: requests on their way in, and the duty to answer them.
//! * [`kv_server`], [`raft_peer`], [`applier`]: the three actors of a group, which restart together.
//! * [`snapshots`], [`background`]: threads for what may block.
//! * [`listener`], [`link`]: connections that were accepted, and those that are dialled; [`known`]: with whom.
//! * [`admin`]: what a node tells of itself.
//! * [`clerk`]: the client.
//! * [`clock`]: time as actors see it. [`tap`]: what a watcher sees of them.
//!
//! Invariants:
//! 1. An actor's handler never blocks and never waits for another actor; answers come as messages.
//! 2. Messages carry batches. An actor takes in what its mailbox holds and acts once (`Flush`).
//! 3. What comes from an earlier life of an actor (from a thread, say) carries the number of that life and is dropped.
//! 4. Whoever holds a `caller::Caller` answers it; dropping it is an answer, too.
//!
//! What this room deliberately does not do: it opens no file and parses no byte (`storage`, `net`), and it chooses no
//! limits or timeouts (`node`).

pub mod admin;
pub mod applier;
pub mod background;
pub mod caller;
pub mod clerk;
pub mod clock;
pub mod known;
pub mod kv_server;
pub mod link;
pub mod listener;
pub mod raft_peer;
pub mod snapshots;
pub mod supervision;
pub mod tap;
