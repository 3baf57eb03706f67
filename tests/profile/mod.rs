//! For tests that have cargo build more: in the profile that they were built in themselves.

use std::path::Path;

/// The arguments that have cargo build as the binary was built.
pub fn arguments() -> [String; 2] {
    let folder = Path::new(env!("CARGO_BIN_EXE_quorate")).parent().expect("it is in a folder");
    let name = folder.file_name().expect("the folder has a name").to_string_lossy();
    ["--profile".to_owned(), if name == "debug" { "dev".to_owned() } else { name.into_owned() }]
}
