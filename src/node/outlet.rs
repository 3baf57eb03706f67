//! A stream that may stall, and those who must not wait for it: what is put is written by a thread of its own.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Pieces that may wait for the stream.
const WAITING: usize = 4096;
/// How often a flush looks again whether there is room for its mark.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What the thread is given.
enum Piece {
    Bytes(Vec<u8>),
    /// Answered when everything before it is written.
    Mark(SyncSender<()>),
}

/// Where bytes are put. Never blocks: while the stream is stalled and too many pieces wait, they are dropped and
/// counted.
#[derive(Clone, Debug)]
pub struct Outlet {
    pieces: SyncSender<Piece>,
    dropped: Arc<AtomicU64>,
}

impl Outlet {
    /// Starts the thread that writes. It ends when every clone of the outlet is dropped and everything is written.
    /// `gap` says how many pieces were dropped, once the stream takes bytes again.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        name: &str,
        out: impl Write + Send + 'static,
        gap: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Self> {
        let (pieces, inbox) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || write(out, gap, &inbox, &count))?;
        Ok(Self { pieces, dropped })
    }

    /// Puts bytes.
    pub fn put(&self, bytes: Vec<u8>) {
        if self.pieces.try_send(Piece::Bytes(bytes)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything that was put before is written, but no longer than this; whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let (written, seen) = sync_channel(1);
        let mut mark = Piece::Mark(written);
        while let Err(refused) = self.pieces.try_send(mark) {
            match refused {
                TrySendError::Full(back) if Instant::now() < deadline => mark = back,
                _ => return false,
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        seen.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

fn write(mut out: impl Write, gap: impl Fn(u64) -> Vec<u8>, inbox: &Receiver<Piece>, dropped: &AtomicU64) {
    while let Ok(piece) = inbox.recv() {
        let missing = dropped.swap(0, Ordering::Relaxed);
        let mut batch = if missing > 0 { gap(missing) } else { Vec::new() };
        let mark = match piece {
            Piece::Bytes(bytes) => {
                batch.extend_from_slice(&bytes);
                None
            }
            Piece::Mark(mark) => Some(mark),
        };
        // Nobody may be reading any more; whoever writes carries on.
        let _ = out.write_all(&batch).and_then(|()| out.flush());
        if let Some(mark) = mark {
            // Whoever asked may have lost patience.
            let _ = mark.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A stream that is stalled until the test lets it go on.
    struct Stalled(Receiver<()>, Sender<Vec<u8>>);

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
    fn a_stalled_stream_costs_pieces_but_never_blocks() {
        let (go_on, gate) = channel();
        let (out, written) = channel();
        let gap = |missing| format!("({missing} missing)").into_bytes();
        let outlet = Outlet::start("outlet", Stalled(gate, out), gap).expect("started");
        for _ in 0..WAITING + 100 {
            outlet.put(b"x".to_vec());
        }
        assert!(!outlet.flush(Duration::from_millis(20)), "nothing can be written");
        drop(go_on);
        assert!(outlet.flush(LONG), "all is written");
        outlet.put(b"last".to_vec());
        drop(outlet);
        let text: Vec<u8> = written.iter().flatten().collect();
        let text = String::from_utf8(text).expect("text");
        let told = text.find("missing)").expect("somebody says that something is missing");
        assert!(text.ends_with("last") && told < text.len(), "{text}");
        let missing: usize = text.split(['(', ' ']).filter_map(|word| word.parse::<usize>().ok()).sum();
        assert_eq!(text.matches('x').count() + missing, WAITING + 100, "every piece is there or counted");
    }
}
