//! The panic hook, which is one per process and so has this binary to itself.

mod supervision_support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use quorate::actors::supervision::{Registry, Slot, Strategy, Supervisor, install_panic_hook};
use supervision_support::{Boom, Journal, exact, paused, probe, settle};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn panics_of_actors_are_logged_with_their_path_and_others_left_alone() {
    let previous = Arc::new(Mutex::new(Vec::new()));
    let heard = previous.clone();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<&str>().map_or_else(String::new, ToString::to_string);
        heard.lock().unwrap().push(text);
    }));
    install_panic_hook();
    install_panic_hook();
    let log = Captured::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        paused(async {
            let (journal, slot) = (Journal::new(), Slot::new("a"));
            let spec = Supervisor::new("top", Strategy::OneForOne).policy(exact());
            let top = spec.child(probe("a", &journal).slot(&slot)).start(&Registry::new(1));
            top.ready().await.expect("it comes up");
            slot.port::<Boom>().tell(Boom("inside")).expect("up");
            settle().await;
            assert_eq!(journal.text(), "+a1 +a2");
        });
        std::panic::catch_unwind(|| panic!("outside")).expect_err("it panics");
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).expect("text");
    let line = log.lines().find(|line| line.contains("actor panicked: inside")).expect("it is logged");
    for part in ["ERROR", "actor=\"top/a\"", "generation=1", "supervision_support/mod.rs"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    assert_eq!(*previous.lock().unwrap(), ["outside"]);
}
