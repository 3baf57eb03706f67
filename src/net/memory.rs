//! A network in memory, for many nodes in one process: tests and simulations.
//!
//! It behaves as TCP does when it matters: bytes of a connection arrive in order or not at all; during a cut they wait
//! and nobody is told, so that a dead peer is noticed by its silence only; buffers are bounded. It needs nothing but
//! tokio's clock, keeps no global state, and with a paused clock a seed decides everything.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Sleep, sleep_until};

use super::transport::{Acceptor, BoxFuture, Stream, Transport};

/// Bytes that a direction of a connection holds before its writer has to wait.
const CAPACITY: usize = 256 << 10;

/// The network. Clones are the same network.
#[derive(Clone)]
pub struct MemoryNetwork {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Somebody was cut off or reconnected.
    changed: Notify,
}

struct State {
    listeners: BTreeMap<String, Listening>,
    /// By direction: from one host to another.
    rules: BTreeMap<(String, String), Rule>,
    pipes: Vec<Weak<Mutex<Pipe>>>,
    random: fastrand::Rng,
    next_port: u32,
}

struct Listening {
    host: String,
    arrivals: mpsc::UnboundedSender<Stream>,
}

#[derive(Clone, Debug, Default)]
struct Rule {
    cut: bool,
    least: Duration,
    most: Duration,
}

/// One direction of a connection.
struct Pipe {
    from: String,
    to: String,
    rule: Rule,
    random: fastrand::Rng,
    chunks: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// The writer is gone; what it wrote still arrives.
    finished: bool,
    /// The reader is gone; the writer is told unless the way is cut.
    abandoned: bool,
    /// The connection was broken.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl MemoryNetwork {
    /// A network without delays or cuts; `seed` draws the delays.
    pub fn new(seed: u64) -> Self {
        let state = State {
            listeners: BTreeMap::new(),
            rules: BTreeMap::new(),
            pipes: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            next_port: 40_000,
        };
        MemoryNetwork { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// The network as a host sees it. Cuts and delays go by the names of hosts; addresses are any strings that a
    /// host binds.
    pub fn host(&self, name: &str) -> Arc<dyn Transport> {
        Arc::new(Host { network: self.clone(), name: name.to_owned() })
    }

    /// Holds back everything from one host to another, until it is healed. Connections stay open.
    pub fn cut(&self, from: &str, to: &str) {
        self.change(from, to, |rule| rule.cut = true);
    }

    /// Lets bytes through again, those that waited first.
    pub fn heal(&self, from: &str, to: &str) {
        self.change(from, to, |rule| rule.cut = false);
    }

    /// Cuts (or heals) both directions between each host of one side and each of the other.
    pub fn partition(&self, one: &[&str], other: &[&str], cut: bool) {
        for a in one {
            for b in other {
                self.change(a, b, |rule| rule.cut = cut);
                self.change(b, a, |rule| rule.cut = cut);
            }
        }
    }

    /// Delays everything from one host to another by something within the range; the order stays.
    pub fn set_delay(&self, from: &str, to: &str, delay: RangeInclusive<Duration>) {
        self.change(from, to, |rule| (rule.least, rule.most) = (*delay.start(), *delay.end()));
    }

    /// Breaks all connections between two hosts: both sides get an error, and what was on its way is lost.
    pub fn break_connections(&self, a: &str, b: &str) {
        self.each_pipe(|pipe| {
            if (pipe.from == a && pipe.to == b) || (pipe.from == b && pipe.to == a) {
                pipe.fail();
            }
        });
    }

    fn change(&self, from: &str, to: &str, change: impl FnOnce(&mut Rule)) {
        let key = (from.to_owned(), to.to_owned());
        let rule = {
            let mut state = self.shared.lock();
            let rule = state.rules.entry(key).or_default();
            change(rule);
            rule.clone()
        };
        self.each_pipe(|pipe| {
            if pipe.from == from && pipe.to == to {
                pipe.rule = rule.clone();
                pipe.wake_reader();
                pipe.wake_writer();
            }
        });
        self.shared.changed.notify_waiters();
    }

    fn each_pipe(&self, mut act: impl FnMut(&mut Pipe)) {
        let pipes = {
            let mut state = self.shared.lock();
            state.pipes.retain(|pipe| pipe.strong_count() > 0);
            state.pipes.clone()
        };
        for pipe in pipes.iter().filter_map(Weak::upgrade) {
            act(&mut lock_pipe(&pipe));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn rule(&self, from: &str, to: &str) -> Rule {
        self.rules.get(&(from.to_owned(), to.to_owned())).cloned().unwrap_or_default()
    }

    fn pipe(&mut self, from: &str, to: &str) -> Arc<Mutex<Pipe>> {
        let pipe = Arc::new(Mutex::new(Pipe {
            from: from.to_owned(),
            to: to.to_owned(),
            rule: self.rule(from, to),
            random: fastrand::Rng::with_seed(self.random.u64(..)),
            chunks: VecDeque::new(),
            bytes: 0,
            finished: false,
            abandoned: false,
            broken: false,
            reader: None,
            writer: None,
        }));
        self.pipes.retain(|pipe| pipe.strong_count() > 0);
        self.pipes.push(Arc::downgrade(&pipe));
        pipe
    }
}

struct Host {
    network: MemoryNetwork,
    name: String,
}

impl Host {
    /// One attempt to connect; `None` while the way is cut.
    fn connect(&self, address: &str) -> io::Result<Option<Stream>> {
        let mut state = self.network.shared.lock();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listening = state.listeners.get(address).ok_or_else(refused)?;
        let (host, arrivals) = (listening.host.clone(), listening.arrivals.clone());
        if state.rule(&self.name, &host).cut || state.rule(&host, &self.name).cut {
            return Ok(None);
        }
        let there = state.pipe(&self.name, &host);
        let back = state.pipe(&host, &self.name);
        drop(state);
        arrivals.send(stream(there.clone(), back.clone(), &self.name)).map_err(|_| refused())?;
        Ok(Some(stream(back, there, address)))
    }
}

/// A stream that reads from one pipe and writes to the other.
fn stream(from: Arc<Mutex<Pipe>>, to: Arc<Mutex<Pipe>>, remote: &str) -> Stream {
    Stream {
        reader: Box::new(PipeReader { pipe: from, timer: None }),
        writer: Box::new(PipeWriter { pipe: to }),
        remote: remote.to_owned(),
    }
}

impl Transport for Host {
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            loop {
                let changed = self.network.shared.changed.notified();
                if let Some(stream) = self.connect(address)? {
                    return Ok(stream);
                }
                changed.await;
            }
        })
    }

    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Acceptor>>> {
        Box::pin(async move {
            let mut state = self.network.shared.lock();
            let mut local = address.to_owned();
            if let Some(name) = address.strip_suffix(":0") {
                state.next_port += 1;
                local = format!("{name}:{}", state.next_port);
            }
            if state.listeners.contains_key(&local) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let (arrivals, incoming) = mpsc::unbounded_channel();
            state.listeners.insert(local.clone(), Listening { host: self.name.clone(), arrivals });
            Ok(Box::new(MemoryAcceptor { network: self.network.clone(), local, incoming })
                as Box<dyn Acceptor>)
        })
    }
}

struct MemoryAcceptor {
    network: MemoryNetwork,
    local: String,
    incoming: mpsc::UnboundedReceiver<Stream>,
}

impl Acceptor for MemoryAcceptor {
    fn local_address(&self) -> String {
        self.local.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move { self.incoming.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into()) })
    }
}

impl Drop for MemoryAcceptor {
    fn drop(&mut self) {
        self.network.shared.lock().listeners.remove(&self.local);
    }
}

impl Pipe {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn fail(&mut self) {
        self.broken = true;
        self.chunks.clear();
        self.bytes = 0;
        self.wake_reader();
        self.wake_writer();
    }

    /// When something written now arrives: never before what was written earlier.
    fn due(&mut self) -> Instant {
        let spread = self.rule.most.saturating_sub(self.rule.least);
        let due = Instant::now() + self.rule.least + spread.mul_f64(self.random.f64());
        self.chunks.back().map_or(due, |(last, _)| due.max(*last))
    }
}

fn lock_pipe(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct PipeReader {
    pipe: Arc<Mutex<Pipe>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for PipeReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut pipe = lock_pipe(&this.pipe);
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        pipe.reader = Some(context.waker().clone());
        if pipe.rule.cut {
            return Poll::Pending;
        }
        let Some((due, chunk)) = pipe.chunks.front_mut() else {
            return if pipe.finished { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        if *due > Instant::now() {
            let timer = this.timer.insert(Box::pin(sleep_until(*due)));
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        let count = chunk.len().min(buffer.remaining());
        buffer.put_slice(&chunk[..count]);
        chunk.advance(count);
        if chunk.is_empty() {
            pipe.chunks.pop_front();
        }
        pipe.bytes -= count;
        pipe.wake_writer();
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut pipe = lock_pipe(&self.pipe);
        pipe.abandoned = true;
        pipe.wake_writer();
    }
}

struct PipeWriter {
    pipe: Arc<Mutex<Pipe>>,
}

impl AsyncWrite for PipeWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = lock_pipe(&self.pipe);
        if pipe.broken || pipe.finished || (pipe.abandoned && !pipe.rule.cut) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = CAPACITY - pipe.bytes;
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(data.len());
        let due = pipe.due();
        pipe.chunks.push_back((due, Bytes::copy_from_slice(&data[..count])));
        pipe.bytes += count;
        pipe.wake_reader();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock_pipe(&self.pipe);
        pipe.finished = true;
        pipe.wake_reader();
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        let mut pipe = lock_pipe(&self.pipe);
        pipe.finished = true;
        pipe.wake_reader();
    }
}
