//! MapReduce in a cluster: the coordinator of all jobs, the workers that run their tasks, and the shuffle between them.
//!
//! ```text
//!  user ── Submit, Survey, Parts ──▶ coordinator ◀── Report / Orders ──▶ worker
//!                                        │ records, before they are          │ threads: run_map, run_reduce
//!                                        ▼ acted on                          ▼
//!                                    the store             shuffle ── Extents, Fetch ──▶ depot (at every worker)
//! ```
//!
//! The coordinator, and the store it writes to, are at the leader of group 1.
//!
//! In reading order:
//!
//! * [`store`]: how the coordinator asks the store of its own node.
//! * [`journal`]: what it keeps there: the office, plans, records.
//! * [`coordinator`]: the actor around the pure coordinator; `office` is what it knows while it is in office.
//! * [`worker`]: reports, obeys, runs attempts; [`attempt`]: one attempt, on a thread of its own.
//! * [`shelf`]: a worker's directory. [`depot`]: hands out what stands there. [`shuffle`]: fetches it from others.
//!
//! Invariants:
//! 1. *Written before acted upon.* While records are being written, nothing else is taken in; orders leave when they
//!    are committed. So what a worker or user hears is in the store.
//! 2. *One office.* The office is a key of the store; whoever enters raises its version, and every write of a
//!    coordinator is conditional on the version it entered with. One that was cut off, or hung, can commit nothing.
//! 3. *The office goes with the leadership of group 1.* A leader enters as soon as it leads, so the jobs wait no longer
//!    than the store, and what the coordinator writes is not sent around. Leadership is no proof; the version is.
//! 4. An attempt runs on a thread of its own, at a low priority, so that consensus does not wait for it.
//!
//! What it deliberately does not do: it decides nothing about tasks ([`logic::mapreduce::coordinator`]), and reads and
//! writes no pairs ([`mapreduce`]).
//!
//! [`logic::mapreduce::coordinator`]: crate::logic::mapreduce::coordinator
//! [`mapreduce`]: crate::mapreduce

pub mod attempt;
pub mod coordinator;
pub mod depot;
pub mod journal;
pub mod shelf;
pub mod shuffle;
pub mod store;
pub mod worker;
