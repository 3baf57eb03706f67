//! The data path of MapReduce: from files to files, within a memory budget, on threads that may block.
//!
//! ```text
//! split ─▶ records ─▶ mapper ─▶ collector ─▶ sorter, folder ─▶ combiner ─▶ one partitioned file   (run_map)
//! sources, one of each map output ─▶ merge ─▶ groups ─▶ reducer ─▶ file ─▶ output directory        (run_reduce)
//! ```
//!
//! In reading order:
//!
//! * [`plan`], [`input`]: from a job to its tasks: looks at the inputs, files or objects in stores, and cuts them.
//! * [`task`]: what a task is given, and what it returns. [`map`] and [`reduce`] run one.
//! * [`function`], [`typed`]: mappers and reducers as Rust types, and the table in which jobs find them;
//!   [`builtin`] are those that come with Quorate, `stream` runs commands.
//! * `records`, `zstd`: the lines of a split. [`cat`]: those of whole inputs.
//! * `collector`: where the pairs of a map task go: `sorter` and `folder` keep them in memory, `combine` makes
//!   fewer of them.
//! * [`run_file`], `block`: how sorted pairs lie on disk. [`source`]: how a reduce task gets at them.
//! * `merge`, `groups`: many sorted sources in one order, key by key.
//! * [`output`]: the output directory. `lines`: a file in it.
//! * [`local`], `crew`: a whole job on this machine, driven by the coordinator's core. [`generate`]: input for tests.
//!
//! What holds:
//!
//! * The same task gives the same bytes, however often and wherever it runs, if its functions do.
//! * Nobody sees a file that is not complete: output is synced and renamed, `_SUCCESS` comes last.
//! * Memory is bounded by [`task::Env::memory_bytes`] and one record. A key may have any number of values.
//! * Every block on disk or from another node has a checksum, which is compared before anything in it is believed.
//! * A task that fails or is cancelled leaves no file and no process.
//!
//! What it deliberately does not do: it decides nothing about jobs (which task runs where, how often, and whose
//! output counts): that is `crate::logic::mapreduce::coordinator`. It knows neither actors nor the network: a
//! [`Source`](source::Source) brings the bytes from wherever they are.

mod block;
pub mod builtin;
pub mod cat;
mod collector;
mod combine;
mod crew;
mod folder;
pub mod function;
pub mod generate;
mod groups;
pub mod input;
mod lines;
pub mod local;
pub mod map;
mod merge;
pub mod output;
pub mod plan;
mod records;
pub mod reduce;
pub mod run_file;
mod sorter;
pub mod source;
mod stream;
pub mod task;
pub mod typed;
mod zstd;
