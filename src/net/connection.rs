//! A connection after its handshake: reads, writes and keeps itself alive, as one future on the current thread.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, sleep};

use super::codec::{Codec, CodecError};
use super::faults::LinkFaults;
use super::handshake::{Peer, printable};
use super::opening::goodbye;
use super::outbound::{EndOfQueue, Outbound};
use super::settings::NetSettings;
use super::transport::Stream;
use super::writer::Writer;
use crate::messages::wire::Packet;

/// Room for this many bytes is made before every read.
const READ_CHUNK: usize = 64 << 10;

/// The largest read buffer that a client's connection keeps between frames.
const CLIENT_BUFFER: usize = 256 << 10;

/// Most packets handed over at once, so that a flood of tiny frames leaves room for others on the thread.
const MAX_BATCH: usize = 1024;

/// An open connection whose other side is known.
#[derive(Debug)]
pub struct Connection {
    peer: Peer,
    stream: Stream,
    /// Bytes that came in behind the handshake.
    buffer: BytesMut,
    settings: NetSettings,
}

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum Disconnect {
    /// The other side closed it.
    #[error("closed by the other side")]
    Closed,
    /// The other side closed it and said why.
    #[error("closed by the other side: {0}")]
    Goodbye(String),
    /// Not a word from the other side, although it was asked.
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    /// The other side takes nothing any more.
    #[error("nothing could be written for {0:?}")]
    Stuck(Duration),
    /// The system reports an error.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// What came is not a frame.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A packet was not allowed here; the text says which.
    #[error("{0}")]
    NotAllowed(String),
    /// The client does not read its responses.
    #[error("responses pile up unread")]
    Overrun,
    /// Our own queue was closed.
    #[error("closed on this side")]
    Stopped,
}

impl Connection {
    pub(super) fn new(stream: Stream, peer: Peer, buffer: BytesMut, settings: &NetSettings) -> Self {
        Connection { peer, stream, buffer, settings: settings.clone() }
    }

    /// Who is on the other side.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The address of the other side, for people.
    pub fn remote(&self) -> &str {
        &self.stream.remote
    }

    /// Runs the connection until it ends; dropping the future closes it.
    ///
    /// Sends what is put into `outbound`, and hands what arrives over to `sink`, all complete frames of a read at
    /// once, in order. `sink` is called on the current thread and must not block; when it returns an error the
    /// connection is closed with that text. Pings are answered and asked here and never reach the sink.
    ///
    /// When it ends, packets of `outbound` that were not written stay there, and those in the middle are lost.
    pub async fn run(
        self,
        outbound: &Outbound,
        faults: &LinkFaults,
        mut sink: impl FnMut(Vec<Packet>) -> Result<(), String>,
    ) -> Disconnect {
        let Connection { peer, stream, buffer, settings } = self;
        let Stream { reader, writer, .. } = stream;
        let heard = Cell::new(Instant::now());
        let mut writer = Writer::new(writer, outbound, faults, &settings);
        let codec = Codec::new(settings.max_frame);
        let reader = Reader { reader, buffer, peer, codec, heard: &heard, outbound, more: false };
        let end = tokio::select! {
            biased;
            end = reader.run(&mut sink) => end,
            end = writer.run() => end,
            end = keep_alive(&heard, outbound, &settings) => end,
            end = outbound.ended() => match end {
                EndOfQueue::Closed => Disconnect::Stopped,
                EndOfQueue::Overrun => Disconnect::Overrun,
            },
        };
        let blame = matches!(end, Disconnect::Codec(_) | Disconnect::NotAllowed(_) | Disconnect::Stopped);
        if blame && let Some(writer) = writer.between_frames() {
            goodbye(writer, end.to_string()).await;
        }
        end
    }
}

struct Reader<'a, R> {
    reader: R,
    buffer: BytesMut,
    peer: Peer,
    codec: Codec,
    heard: &'a Cell<Instant>,
    outbound: &'a Outbound,
    /// The last read took all it had room for, so there may be more.
    more: bool,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    async fn run(mut self, sink: &mut impl FnMut(Vec<Packet>) -> Result<(), String>) -> Disconnect {
        loop {
            let mut batch = Vec::new();
            let decoded = self.decode(&mut batch);
            let any = !batch.is_empty();
            if any && let Err(reason) = sink(batch) {
                return Disconnect::NotAllowed(reason);
            }
            let dry = match decoded {
                Ok(dry) => dry,
                Err(end) => return end,
            };
            if any && (self.more || !dry) {
                // The receivers of the batch, and our writer, come before the next read. Otherwise the next read waits
                // anyway, and they get their turn.
                tokio::task::yield_now().await;
            }
            if dry {
                match self.read().await {
                    Ok(0) => return Disconnect::Closed,
                    Ok(_) => self.heard.set(Instant::now()),
                    Err(error) => return error.into(),
                }
            }
        }
    }

    /// Decodes complete frames into `batch`; whether there are no more for now.
    fn decode(&mut self, batch: &mut Vec<Packet>) -> Result<bool, Disconnect> {
        while batch.len() < MAX_BATCH {
            match self.codec.decode(&mut self.buffer)? {
                None => return Ok(true),
                Some(Packet::Ping(number)) => self.outbound.pong(number),
                Some(Packet::Pong(_)) => {}
                Some(Packet::Goodbye { reason, .. }) => return Err(Disconnect::Goodbye(printable(&reason))),
                Some(Packet::Hello(_) | Packet::Welcome(_)) => {
                    return Err(Disconnect::NotAllowed("a second handshake".to_owned()));
                }
                Some(packet) => batch.push(packet),
            }
        }
        Ok(false)
    }

    async fn read(&mut self) -> io::Result<usize> {
        if self.buffer.is_empty() && self.peer == Peer::Client && self.buffer.capacity() > CLIENT_BUFFER {
            self.buffer = BytesMut::new();
        }
        // A long frame makes the buffer grow in proportion to what has arrived, whatever its header announces.
        self.buffer.reserve(READ_CHUNK.max(self.buffer.len()));
        let room = self.buffer.capacity() - self.buffer.len();
        let read = self.reader.read_buf(&mut self.buffer).await?;
        self.more = read == room;
        Ok(read)
    }
}

/// Asks a silent peer whether it lives, and ends when it does not answer.
async fn keep_alive(heard: &Cell<Instant>, outbound: &Outbound, settings: &NetSettings) -> Disconnect {
    let mut number = 0;
    loop {
        let silent = heard.get().elapsed();
        if silent >= settings.idle_timeout {
            return Disconnect::Silent(settings.idle_timeout);
        }
        let mut next = settings.idle_timeout - silent;
        if silent >= settings.ping_after {
            number += 1;
            outbound.ping(number);
            next = next.min(settings.ping_after);
        } else {
            next = next.min(settings.ping_after - silent);
        }
        sleep(next).await;
    }
}
