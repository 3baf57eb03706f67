//! What goes to standard output.

use std::io::{self, IsTerminal, StdoutLock, Write};

use serde_json::Value;

use crate::node::exit::{self, Failure};

/// Standard output, locked and buffered, for people or for machines.
pub(super) struct Output {
    out: io::BufWriter<StdoutLock<'static>>,
    /// Whether machines read it.
    pub(super) json: bool,
    /// Whether it is a terminal.
    pub(super) terminal: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self { out: io::BufWriter::new(stdout.lock()), json, terminal }
    }

    /// Writes bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(failed)
    }

    /// Writes a line for people.
    pub(super) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(failed)
    }

    /// Writes a JSON value on a line.
    pub(super) fn value(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(value)
    }

    /// Writes the one or the other.
    pub(super) fn either(&mut self, text: impl std::fmt::Display, value: &Value) -> Result<(), Failure> {
        if self.json { self.value(value) } else { self.line(text) }
    }

    /// Hands everything to the reader.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(failed)
    }
}

/// A reader that went away (`| head`) is told nothing more; that is no error to shout about.
pub(super) fn failed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::new(exit::UNREAD, "nobody reads standard output");
    }
    Failure::internal(format!("cannot write to standard output: {error}"))
}
