//! Commands as mappers, combiners and reducers: the contract of Hadoop Streaming.
//!
//! A command is a line for `sh -c`. It reads lines on standard input and writes lines on standard output. A mapper
//! reads the lines of its split; what it writes is cut at the first tab into key and value (see
//! [`Fields`](crate::logic::mapreduce::job::Fields)). A combiner or reducer reads lines `key TAB value`, sorted by
//! key. A line of a combiner is a pair again; a line of a reducer is a line of output.
//!
//! * `command`: the line and its environment (`mapreduce_map_input_file`, `mapreduce_task_partition`, ...).
//! * `process`: runs it, feeds it, and reads what it writes.
//! * `reporter`: its standard error: counters, status, and the tail that is shown when it fails.
//! * `explain`: what a user is told when it fails, and how to repeat it by hand.
//! * `search`: which lines a mapper fails at, if these are to be passed over.
//!
//! What holds: a command that ends with another code than 0, or by a signal, fails the attempt. When a task is
//! cancelled, all processes of its command are killed. Nothing that a command writes makes memory grow without bound.
//!
//! What it deliberately does not do: it does not ship files to other machines, and it does not sandbox.

mod command;
mod explain;
mod process;
mod reporter;
mod search;

pub(super) use command::Command;
pub(super) use search::Search;
