//! From what a user names to bytes: files of this machine, and objects in stores.
//!
//! * `files`: files, directories and patterns.
//! * `objects`: the same of `s3://bucket/key` and its like, in a build with the feature `object-store`.
//!   In one without it, `no_objects` stands in its place and says so.
//!
//! What holds: whoever reads does not see where the bytes come from, but in what a failure means. A file that cannot be
//! read is hopeless; a network or a server may be better the next time.
//!
//! What it deliberately does not do: it knows nothing of lines and of compression; that is `records`.

mod files;
#[cfg(feature = "object-store")]
pub mod objects;
#[cfg(not(feature = "object-store"))]
#[path = "no_objects.rs"]
mod objects;

use std::error::Error;
use std::io::{self, Read};

use super::task::Control;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::split::{Compression, InputFile, is_url};

/// More files than this are refused: each has a map task and a place in memory.
const MOST_FILES: usize = 1_000_000;
/// An input with one of these is a pattern, unless there is something of that very name.
const WILDCARDS: [char; 3] = ['*', '?', '['];
/// The schemes of object stores.
const SCHEMES: [&str; 10] = ["s3", "s3a", "gs", "az", "abfs", "abfss", "http", "https", "file", "memory"];

/// Finds the files and objects that inputs name, in the order of the inputs, and by name within one.
///
/// An input is a file, a directory (all files in it and below, but for those whose names begin with `.` or `_`, and
/// what links to directories lead to), or a pattern with `*`, `?`, `[...]` or `**`. With a scheme (`s3://bucket/key`)
/// it is an object, all objects below a prefix, or a pattern in the key.
///
/// # Errors
/// A sentence for the user: what names nothing, or cannot be read.
pub fn expand(inputs: &[String]) -> Result<Vec<InputFile>, String> {
    let mut files = Vec::new();
    for input in inputs {
        if is_url(input) {
            objects::expand(input, &mut files)?;
        } else {
            files::expand(input, &mut files)?;
        }
        if files.len() > MOST_FILES {
            return Err(format!("there are more than {MOST_FILES} input files; join them, or name fewer"));
        }
    }
    match files.iter().find(|file| Compression::is_unread(&file.path)) {
        // As lines it would be no error, but nonsense.
        Some(file) => Err(format!(
            "the input {} is packed in a way that cannot be read; unpack it, pack it as .gz or .zst, or leave it out",
            file.path
        )),
        None => Ok(files),
    }
}

/// The bytes of a file or an object from `offset` on. Up to `until` they are likely to be wanted; more may be read.
///
/// Where the bytes come from a store, reading ends soon after the task was cancelled.
pub(super) fn open<'a>(
    file: &str,
    offset: u64,
    until: u64,
    control: &'a Control,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    if is_url(file) { objects::open(file, offset, until, control) } else { files::open(file, offset) }
}

/// What [`open`] keeps in memory, in bytes.
pub(super) fn memory(file: &str) -> usize {
    if is_url(file) { objects::MEMORY } else { 0 }
}

/// Looks whether a file or an object can be read from here.
///
/// # Errors
/// That it cannot.
pub fn check(file: &str, control: &Control) -> io::Result<()> {
    if is_url(file) { objects::check(file, control) } else { files::check(file) }
}

/// The failure of a store that is behind an error of a reader, also when a decoder has wrapped it in errors of its own.
pub(super) fn failure_behind(error: &io::Error) -> Option<&TaskFailure> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(failure) = error.downcast_ref() {
            return Some(failure);
        }
        // What an `io::Error` was made of is not its source, but the source's parent.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

/// Why a URL cannot be one of an object, if its scheme is the reason.
fn unknown_scheme(url: &str) -> Option<String> {
    let (scheme, _) = url.split_once("://")?;
    let known = SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let all = SCHEMES.map(|scheme| format!("{scheme}://")).join(", ");
    (!known)
        .then(|| format!("there are no inputs {scheme}://...; the object stores that can be read are {all}"))
}
