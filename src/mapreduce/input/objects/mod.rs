//! Objects in stores: `s3://bucket/key`, `gs://`, `az://`, `http://`, `file:///`, through the crate `object_store`.
//!
//! * `place`: a URL, taken apart. `stores`: the store that it leads to, made of the environment or registered.
//! * `search`: from an input to objects. `reader`: from an object to bytes, by requests for pieces of it.
//! * `background`: the thread on which requests run. `trouble`: what can go wrong, and what it means for a job.
//!
//! What holds:
//!
//! * Whoever asks waits on a channel, never in a runtime, so every function here may be called from any thread.
//! * A wait is bounded (`background::PATIENCE`), and ends soon after the task was cancelled.
//! * A reader holds at most two pieces, and all that it hands out comes from the same version of the object.
//! * No credential is part of an error: a URL that holds one is refused, and stores leave them out of theirs.
//!
//! What it deliberately does not do: it writes nothing, and keeps nothing between requests but the stores' clients.

mod background;
mod place;
mod reader;
mod search;
mod stores;
mod trouble;

use std::io::{self, Read};

use object_store::ObjectStoreExt as _;

use self::background::in_time;
use self::place::Place;
use self::reader::Reader;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::split::InputFile;
use crate::mapreduce::task::Control;

pub(super) use self::reader::MEMORY;
pub use self::stores::register;

/// Adds the objects that an input names, by key.
pub(super) fn expand(url: &str, files: &mut Vec<InputFile>) -> Result<(), String> {
    let place = Place::parse(url)?;
    let store = stores::find(&place)?;
    let room = super::MOST_FILES.saturating_sub(files.len());
    let found = background::start(search::search(store, place, room)).and_then(|found| {
        // Whoever plans a job can only be interrupted as a whole.
        found.wait(&Control::default())
    });
    files.extend(found.map_err(|trouble| trouble.text(url, &format!("look for {url}")))?);
    Ok(())
}

/// The bytes of an object from `offset` on.
pub(super) fn open<'a>(
    url: &str,
    offset: u64,
    until: u64,
    control: &'a Control,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let place = Place::parse(url).map_err(hopeless)?;
    let (store, path) = (stores::find(&place).map_err(hopeless)?, place.path().map_err(hopeless)?);
    Ok(Box::new(Reader::new(store, path, url, offset..until, control)))
}

/// Looks whether an object is there.
pub(super) fn check(url: &str, control: &Control) -> io::Result<()> {
    let place = Place::parse(url).map_err(hopeless)?;
    let (store, path) = (stores::find(&place).map_err(hopeless)?, place.path().map_err(hopeless)?);
    let looked = background::start(async move { in_time(store.head(&path)).await.map(drop) });
    looked
        .and_then(|looked| looked.wait(control))
        .map_err(|trouble| io::Error::other(trouble.failure(url, &format!("reach {url}"))))
}

fn hopeless(text: String) -> io::Error {
    io::Error::other(TaskFailure::hopeless(text))
}
