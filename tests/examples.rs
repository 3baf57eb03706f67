//! The examples do what they say, against a live cluster.

mod profile;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
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

/// What starts the client in Python; `None` where there is no Python for it.
fn python_client() -> Option<fn() -> Command> {
    let available = Command::new("python3").args(["-c", "import msgpack"]).output();
    if !available.is_ok_and(|output| output.status.success()) {
        println!("skipped: examples/client.py needs python3 with the package msgpack");
        return None;
    }
    Some(|| {
        let mut command = Command::new("python3");
        command.arg(project_file("examples/client.py"));
        command
    })
}

#[test]
fn the_python_client_speaks_with_a_cluster() {
    let Some(client) = python_client() else { return };
    let cluster = Cluster::start(3, "");
    let python = |args: &[&str]| run(client().args(["--nodes", &cluster.addresses.join(",")]).args(args));
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
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    for address in &cluster.addresses {
        says(&["--nodes", &format!("{closed},{address}"), "get", "user/1"], "carol (version 2)\n");
    }
}

/// The last frame that it lets through is this one of a client: hello, open a session, put.
const PUT: usize = 3;

/// Stands before a node until a client has put something: that put arrives, and its answer does not.
fn swallow_the_answer(listener: &TcpListener, node: &str) {
    let (mut client, _) = listener.accept().expect("a client comes");
    let mut node = TcpStream::connect(node).expect("the node listens");
    for number in 1..=PUT {
        pass_frame(&mut client, &mut node);
        if number < PUT {
            pass_frame(&mut node, &mut client);
        }
    }
    // The answer: the put has taken effect.
    node.read_exact(&mut [0; 4]).expect("the node answers");
}

fn pass_frame(from: &mut TcpStream, to: &mut TcpStream) {
    let mut length = [0; 4];
    from.read_exact(&mut length).expect("a frame");
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut body).expect("the rest of it");
    to.write_all(&length).and_then(|()| to.write_all(&body)).expect("it is passed on");
}

#[test]
fn the_python_client_remembers_that_an_earlier_attempt_may_have_succeeded() {
    let Some(client) = python_client() else { return };
    let cluster = Cluster::start(1, "");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let node = cluster.addresses[0].clone();
    // When it is done it listens no more, so that the next attempts are refused.
    let proxy = std::thread::spawn(move || swallow_the_answer(&listener, &node));
    let arguments = ["--nodes", &address, "--timeout", "0.3", "put", "key", "value"];
    let (code, stdout, stderr) = run(client().args(arguments));
    proxy.join().expect("the put went through it");
    assert_eq!((code, &*stdout), (Some(2), ""), "{stderr}");
    assert!(stderr.starts_with("maybe: it may or may not have taken effect ("), "{stderr}");
    let found = run(client().args(["--nodes", &cluster.addresses[0], "get", "key"]));
    assert_eq!(found, (Some(0), "value (version 1)\n".to_owned(), String::new()));
}
