//! MapReduce: what a job is, and every decision about it.
//!
//! Dean and Ghemawat, MapReduce: Simplified Data Processing on Large Clusters (OSDI 2004). A job reads records,
//! maps each to pairs of key and value, and reduces all values of a key to lines of output. Inputs are cut into
//! splits, one map task each; keys are spread over partitions, one reduce task each.
//!
//! In reading order:
//!
//! * `job`: the job, its functions and limits; tasks and attempts.
//! * `split`: how inputs are cut, and how many reducers there are.
//! * `partition`: which reducer gets which key.
//! * `merge`: in which order a merge takes from its sources.
//! * `counters`: what tasks count.
//! * `failure`: why a task failed, by what is to be done next. `skip`: which records a task passes over.
//! * `record`: what happens to a job. `table`: the tasks of a job, as its records say.
//! * `report`: what workers and their coordinator tell each other. `coordinator`: who does what, who is given up.
//!
//! Invariants:
//! 1. Every line of input belongs to exactly one split, every key to exactly one partition.
//! 2. The order of pairs is that of the bytes of their keys; among equal keys that of the map tasks, and within
//!    one that in which they were emitted. So an attempt that is repeated gives the same bytes.
//! 3. Only the attempt that is accepted counts: for output, and for counters.
//! 4. A job is what its records say. Any number of the first of them is a job at an earlier moment.
//!
//! What it deliberately does not do: it reads no file and runs no function; that is `crate::mapreduce`.

pub mod coordinator;
pub mod counters;
pub mod failure;
pub mod job;
pub mod merge;
pub mod partition;
pub mod record;
pub mod report;
pub mod skip;
pub mod split;
pub mod table;
