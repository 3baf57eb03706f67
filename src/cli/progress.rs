//! Progress of something that takes long: drawn on a terminal, silent otherwise.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a line is drawn that only waits.
const TICK: Duration = Duration::from_millis(200);

/// A progress line on standard error, wiped away when it is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar that is full after `length` steps.
    pub(super) fn bar(what: &'static str, length: u64) -> Self {
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}").expect("a correct template");
        Self(ProgressBar::with_draw_target(Some(length), target()).with_style(style).with_prefix(what))
    }

    /// A line that says what is waited for.
    pub(super) fn waiting(what: String) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a correct template");
        let bar = ProgressBar::with_draw_target(None, target()).with_style(style).with_message(what);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Sets how much is done, and a word about it.
    pub(super) fn set(&self, position: u64, message: String) {
        self.0.set_message(message);
        self.0.set_position(position);
    }

    /// Says something on standard error, above the line; also where no line is drawn.
    pub(super) fn tell(&self, text: &str) {
        // Work goes on when nobody can be told of it.
        self.0.suspend(|| drop(writeln!(std::io::stderr(), "{text}")));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}
