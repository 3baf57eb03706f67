//! Which supervised actor is running on this thread, and a panic hook that says so.

use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Once};

use super::exit::panic_text;

/// A supervised actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentActor {
    /// Its path in the tree.
    pub path: Arc<str>,
    /// Which of its lives.
    pub generation: u64,
}

thread_local! {
    static CURRENT: Cell<Option<Arc<CurrentActor>>> = const { Cell::new(None) };
}

/// Exchanges the current actor. Moving the pointer in and out of the thread-local costs no reference counting.
pub(crate) fn exchange(actor: Option<Arc<CurrentActor>>) -> Option<Arc<CurrentActor>> {
    // While a thread is torn down the variable may be gone already: then there is nobody left to ask.
    CURRENT.try_with(|current| current.replace(actor)).unwrap_or(None)
}

/// The supervised actor that is being polled on this thread, if any.
pub fn current_actor() -> Option<CurrentActor> {
    let actor = exchange(None);
    let copy = actor.as_deref().cloned();
    exchange(actor);
    copy
}

/// Installs, once per process, a panic hook that logs panics inside supervised actors with `tracing` (path,
/// generation, place, message) instead of printing them; all others are left to the hook there was before.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match current_actor() {
            Some(actor) => log(&actor, info),
            None => previous(info),
        }));
    });
}

fn log(actor: &CurrentActor, info: &PanicHookInfo<'_>) {
    let location = info.location().map_or_else(|| "(unknown place)".to_owned(), ToString::to_string);
    tracing::error!(
        actor = &*actor.path,
        generation = actor.generation,
        location,
        "actor panicked: {}",
        panic_text(info.payload())
    );
}
