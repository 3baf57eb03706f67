//! Panics of actors during a simulation: those on purpose are expected, all others are bugs.

use std::cell::RefCell;
use std::sync::Once;

use crate::actors::supervision::current_actor;

/// What an actor says that was made to panic.
pub const ON_PURPOSE: &str = "a panic on purpose";

thread_local! {
    static UNEXPECTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Collects the panics of actors on this thread until it is dropped. They are not printed.
pub struct Collecting(());

impl Collecting {
    /// Begins to collect.
    pub fn start() -> Collecting {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                let Some(actor) = current_actor() else { return previous(info) };
                let text = format!("{}: {info}", actor.path);
                let collected = UNEXPECTED.with_borrow_mut(|list| {
                    let Some(list) = list else { return false };
                    if !text.ends_with(ON_PURPOSE) {
                        list.push(text);
                    }
                    true
                });
                if !collected {
                    previous(info);
                }
            }));
        });
        UNEXPECTED.set(Some(Vec::new()));
        Collecting(())
    }

    /// What has panicked since it was last asked, and not on purpose.
    pub fn take(&self) -> Vec<String> {
        UNEXPECTED.with_borrow_mut(|list| list.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        UNEXPECTED.set(None);
    }
}
