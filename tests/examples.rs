//! The examples do what they say, against a live cluster.

mod profile;
mod support;

use std::path::Path;
use std::process::{Command, Output};

use support::{Cluster, project_file};

/// How a program ended and what it printed.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("its words are UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Builds an example as the binary was built, and returns its path.
fn example(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_quorate")).parent().expect("it is in a folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--example", name]).args(profile::arguments());
    let (code, _, stderr) = run(build.current_dir(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(code, Some(0), "{stderr}");
    folder.join("examples").join(name)
}

#[test]
fn the_embedded_client_counts_its_runs() {
    let program = example("embed");
    let cluster = Cluster::start(3, "");
    for number in 1..=3 {
        // One address is enough, whichever.
        let (code, stdout, stderr) = run(Command::new(&program).arg(&cluster.addresses[number % 3]));
        let expected = format!("runs of this program so far: {number}\n");
        assert_eq!((code, stdout, &*stderr), (Some(0), expected, ""));
    }
}

#[test]
fn the_python_client_speaks_with_a_cluster() {
    let available = Command::new("python3").args(["-c", "import msgpack"]).output();
    if !available.is_ok_and(|output| output.status.success()) {
        println!("skipped: examples/client.py needs python3 with the package msgpack");
        return;
    }
    let cluster = Cluster::start(3, "");
    let python = |args: &[&str]| {
        let mut command = Command::new("python3");
        command.arg(project_file("examples/client.py")).args(["--nodes", &cluster.addresses.join(",")]);
        run(command.args(args))
    };
    let says = |args: &[&str], expected: &str| {
        assert_eq!(python(args), (Some(0), expected.to_owned(), String::new()), "{args:?}");
    };
    let fails = |args: &[&str], expected: &str| {
        assert_eq!(python(args), (Some(1), String::new(), expected.to_owned()), "{args:?}");
    };
    says(&["put", "user/1", "alice"], "version 1\n");
    says(&["get", "user/1"], "alice (version 1)\n");
    fails(&["get", "user/2"], "no such key\n");
    says(&["cas", "user/2", "0", "bob"], "version 1\n");
    says(&["cas", "user/1", "1", "carol"], "version 2\n");
    fails(&["cas", "user/1", "1", "dave"], "refused: Version: {'actual': 2}\n");
    says(&["list", "user/"], "user/1 = carol (version 2)\nuser/2 = bob (version 1)\n");
    let page = project_file("docs/wire.md");
    let page = page.to_str().expect("UTF-8");
    says(&["check", page], &format!("8 of 8 frames are as in {page}\n"));
    // Neither the order of the nodes nor a dead one among them matters.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    for address in &cluster.addresses {
        says(&["--nodes", &format!("{closed},{address}"), "get", "user/1"], "carol (version 2)\n");
    }
}
