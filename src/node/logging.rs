//! Logging: `tracing` events to standard error, as text for people or JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::config::{LogConfig, LogFormat, check_level};
use super::exit::Failure;

/// Overrides `log.level`.
pub const LEVEL_VARIABLE: &str = "QUORATE_LOG";

/// Installs the process's logger. Call it once.
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
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match config.format {
        LogFormat::Text => builder.with_ansi(colours(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| Failure::internal(format!("cannot install the logger: {error}")))
}

/// Whether to write colours to a stream: only to a terminal, and not when `NO_COLOR` is set (no-color.org).
pub fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}
