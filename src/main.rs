//! The one binary, `quorate`. Everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate::cli::main()
}
