//! The lines of all node processes on one stream, each with its node in front.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::logic::ids::NodeId;

/// Lines that may wait for the stream.
const WAITING: usize = 4096;

/// One line to be shown, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The node it comes from; `None`: the launcher itself.
    pub node: Option<NodeId>,
    /// The bytes, which need not be UTF-8.
    pub text: Vec<u8>,
}

/// Where lines are put. Never blocks: while the stream is stalled and too many wait, lines are dropped and counted.
#[derive(Clone, Debug)]
pub struct Console {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Console {
    /// Starts the thread that writes. It ends when every clone of the console is dropped and everything is written.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(out: impl Write + Send + 'static, colours: bool) -> io::Result<(Self, JoinHandle<()>)> {
        let (lines, inbox) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { out, colours, dropped: dropped.clone() };
        let thread = std::thread::Builder::new().name("console".into()).spawn(move || writer.run(&inbox))?;
        Ok((Self { lines, dropped }, thread))
    }

    /// Puts a line.
    pub fn write(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts a line of the launcher's own.
    pub fn say(&self, text: &str) {
        self.write(Line { node: None, text: text.as_bytes().to_vec() });
    }
}

struct Writer<W> {
    out: W,
    colours: bool,
    dropped: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, inbox: &Receiver<Line>) {
        while let Ok(line) = inbox.recv() {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            let mut batch = Vec::new();
            if dropped > 0 {
                let text = format!("({dropped} lines were dropped because this output was stalled)");
                self.render(&Line { node: None, text: text.into_bytes() }, &mut batch);
            }
            self.render(&line, &mut batch);
            // Nobody may be reading any more; the nodes carry on.
            let _ = self.out.write_all(&batch).and_then(|()| self.out.flush());
        }
    }

    fn render(&self, line: &Line, to: &mut Vec<u8>) {
        let name = line.node.map_or("up".to_string(), |node| node.to_string());
        if self.colours {
            // Green, yellow, blue, magenta, cyan in turn; the launcher is bold.
            let colour = line.node.map_or(1, |node| 32 + node.0.wrapping_sub(1) % 5);
            to.extend_from_slice(format!("\x1b[{colour}m{name} |\x1b[0m ").as_bytes());
        } else {
            to.extend_from_slice(format!("{name} | ").as_bytes());
        }
        to.extend_from_slice(&line.text);
        to.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(colours: bool) -> String {
        let writer = Writer { out: Vec::new(), colours, dropped: Arc::default() };
        let mut text = Vec::new();
        writer.render(&Line { node: Some(NodeId(2)), text: b"hello".to_vec() }, &mut text);
        writer.render(&Line { node: None, text: b"bye".to_vec() }, &mut text);
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn every_line_names_its_node() {
        assert_eq!(rendered(false), "n2 | hello\nup | bye\n");
        assert_eq!(rendered(true), "\x1b[33mn2 |\x1b[0m hello\n\x1b[1mup |\x1b[0m bye\n");
    }

    /// A stream that is stalled until the test lets it go on.
    struct Stalled(std::sync::mpsc::Receiver<()>, std::sync::mpsc::Sender<Vec<u8>>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_stream_costs_lines_but_never_blocks() {
        let (go_on, gate) = std::sync::mpsc::channel();
        let (out, written) = std::sync::mpsc::channel();
        let (console, thread) = Console::start(Stalled(gate, out), false).expect("started");
        for _ in 0..WAITING + 100 {
            console.say("x");
        }
        drop(go_on);
        console.clone().lines.send(Line { node: None, text: b"last".to_vec() }).expect("the thread lives");
        drop(console);
        thread.join().expect("ended");
        let text: Vec<u8> = written.iter().flatten().collect();
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("lines were dropped"), "nothing was dropped");
        assert!(text.ends_with("last\n"));
    }
}
