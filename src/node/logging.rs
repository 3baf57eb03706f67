//! Logging: `tracing` events to standard error, as text for people or JSON for machines.
//!
//! Nobody who logs waits for whoever reads: while standard error is stalled lines are dropped, and said to be missing
//! later; when it is gone, they are lost.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::config::{LogConfig, LogFormat, check_level};
use super::exit::Failure;
use super::outlet::Outlet;

/// Overrides `log.level`.
pub const LEVEL_VARIABLE: &str = "QUORATE_LOG";

/// How long the end of the process waits for its last words to be written.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where the process's log goes.
static OUTLET: OnceLock<Outlet> = OnceLock::new();

/// Installs the process's logger. Call it once, and [`flush`] at the end.
///
/// # Errors
/// When [`LEVEL_VARIABLE`] holds no level, or a logger is installed already.
pub fn init(config: &LogConfig) -> Result<(), Failure> {
    let level = match std::env::var(LEVEL_VARIABLE) {
        Ok(level) if !level.is_empty() => {
            check_level(&level).map_err(|why| Failure::usage(format!("{LEVEL_VARIABLE}: {why}")))?;
            level
        }
        _ => config.level.clone(),
    };
    let filter =
        EnvFilter::try_new(&level).map_err(|why| Failure::usage(format!("log level {level:?}: {why}")))?;
    let format = config.format;
    let outlet = Outlet::start("log", io::stderr(), move |dropped| gap(format, dropped))
        .map_err(|error| Failure::internal(format!("cannot start a thread: {error}")))?;
    let out = outlet.clone();
    // The subscriber would report what it cannot write on standard error, and panic because it cannot.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(move || Lines(out.clone()));
    let installed = match format {
        LogFormat::Text => builder.with_ansi(colours(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| Failure::internal(format!("cannot install the logger: {error}")))?;
    // Without a logger there would have been an error already.
    let _ = OUTLET.set(outlet);
    // The usual hook writes to standard error itself, and would wait there.
    std::panic::set_hook(Box::new(|info| {
        tracing::error!("{info}");
        // It may be the end of the process.
        flush();
    }));
    Ok(())
}

/// Waits until the log is written, but no longer than [`LAST_WORDS`].
pub fn flush() {
    if let Some(outlet) = OUTLET.get() {
        outlet.flush(LAST_WORDS);
    }
}

/// The line that stands for lines that were dropped.
fn gap(format: LogFormat, dropped: u64) -> Vec<u8> {
    let text = format!("{dropped} lines were dropped because this output was stalled");
    match format {
        LogFormat::Text => format!("({text})\n").into_bytes(),
        LogFormat::Json => format!("{}\n", json!({"level": "WARN", "message": text})).into_bytes(),
    }
}

/// What the subscriber writes to: it hands over whole lines.
struct Lines(Outlet);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether to write colours to a stream: only to a terminal, and not when `NO_COLOR` is set (no-color.org).
pub fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}
