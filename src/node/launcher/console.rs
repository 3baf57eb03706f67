//! The lines of all node processes on one stream, each with its node in front.

use std::io::{self, Write};
use std::time::Duration;

use crate::logic::ids::NodeId;
use crate::node::outlet::Outlet;

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
    outlet: Outlet,
    colours: bool,
}

impl Console {
    /// Starts the thread that writes. It ends when every clone of the console is dropped and everything is written.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(out: impl Write + Send + 'static, colours: bool) -> io::Result<Self> {
        let gap = move |dropped| {
            let text = format!("({dropped} lines were dropped because this output was stalled)");
            render(&Line { node: None, text: text.into_bytes() }, colours)
        };
        Ok(Self { outlet: Outlet::start("console", out, gap)?, colours })
    }

    /// Puts a line.
    pub fn write(&self, line: &Line) {
        self.outlet.put(render(line, self.colours));
    }

    /// Puts a line of the launcher's own.
    pub fn say(&self, text: &str) {
        self.write(&Line { node: None, text: text.as_bytes().to_vec() });
    }

    /// Waits until everything that was put before is written, but no longer than this; whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        self.outlet.flush(patience)
    }
}

fn render(line: &Line, colours: bool) -> Vec<u8> {
    let name = line.node.map_or("up".to_string(), |node| node.to_string());
    let mut bytes = if colours {
        // Green, yellow, blue, magenta, cyan in turn; the launcher is bold.
        let colour = line.node.map_or(1, |node| 32 + node.0.wrapping_sub(1) % 5);
        format!("\x1b[{colour}m{name} |\x1b[0m ").into_bytes()
    } else {
        format!("{name} | ").into_bytes()
    };
    bytes.extend_from_slice(&line.text);
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(colours: bool) -> String {
        let lines = [
            Line { node: Some(NodeId(2)), text: b"hello".to_vec() },
            Line { node: None, text: b"bye".to_vec() },
        ];
        let text = lines.iter().flat_map(|line| render(line, colours)).collect();
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn every_line_names_its_node() {
        assert_eq!(rendered(false), "n2 | hello\nup | bye\n");
        assert_eq!(rendered(true), "\x1b[33mn2 |\x1b[0m hello\n\x1b[1mup |\x1b[0m bye\n");
    }
}
