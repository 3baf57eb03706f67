//! Performs the handshake on a fresh stream, within a bounded time, and tells the log and the other side why when
//! it fails.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::codec::{Codec, CodecError};
use super::connection::Connection;
use super::handshake::{self, Acquaintance, Identity, MAX_HELLO, MAX_WELCOME, Peer, Refusal, printable};
use super::quiet::QuietLog;
use super::settings::NetSettings;
use super::transport::{Stream, Transport};
use crate::logic::ids::NodeId;
use crate::messages::wire::{Hello, Packet, Welcome};

/// How long a parting word may take.
const PARTING: Duration = Duration::from_millis(250);

/// Why a connection did not come about.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Nobody answers at the address, or the address makes no sense.
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    /// The connection did not stand, or the handshake was not over, in time.
    #[error("{what} took longer than {after:?}")]
    TimedOut {
        /// What took too long.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The connection broke, or was closed, during the handshake.
    #[error("the connection broke during the handshake: {0}")]
    Broken(io::Error),
    /// What came is not a frame of ours.
    #[error("{0}: is this the right port?")]
    Codec(#[from] CodecError),
    /// We refuse the other side.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The other side refuses us; these are its words.
    #[error("refused by the other side: {reason}")]
    Goodbye {
        /// Why.
        reason: String,
        /// Because of our data directory.
        new_store: bool,
    },
}

/// Dials `address`, introduces itself with `hello`, and checks who answers.
///
/// `expected`: whom to find there; `None` for a client that takes any node. `known`: whether a node with that data
/// directory may be spoken with.
///
/// # Errors
/// When nobody was reached, or one side refused the other.
pub async fn dial(
    transport: &dyn Transport,
    address: &str,
    hello: &Hello,
    expected: Option<NodeId>,
    known: Acquaintance<'_>,
    settings: &NetSettings,
) -> Result<(Connection, Welcome), OpenError> {
    let mut stream = match timeout(settings.connect_timeout, transport.dial(address)).await {
        Ok(stream) => stream.map_err(OpenError::Unreachable)?,
        Err(_) => return Err(OpenError::TimedOut { what: "connecting", after: settings.connect_timeout }),
    };
    let mut buffer = BytesMut::new();
    let judged = in_time(settings, async {
        send(&mut stream, &Packet::Hello(hello.clone())).await?;
        match first_frame(&mut stream, &mut buffer, MAX_WELCOME).await? {
            Packet::Welcome(welcome) => {
                let peer = handshake::judge_welcome(hello, expected, &welcome)?;
                let peer = handshake::judge_store(peer, known).await?;
                Ok((peer, welcome))
            }
            Packet::Goodbye { reason, new_store } => {
                Err(OpenError::Goodbye { reason: printable(&reason), new_store })
            }
            _ => Err(Refusal::Unexpected { expected: "a welcome" }.into()),
        }
    })
    .await;
    match judged {
        Ok((peer, welcome)) => Ok((Connection::new(stream, peer, buffer, settings), welcome)),
        Err(error) => {
            part(&mut stream, &error).await;
            Err(error)
        }
    }
}

/// Answers a dialler. `nodes`: the addresses for the welcome. `crowded`: the limit of connections, when it is
/// reached and a client must be refused. Refusals go to the log, at most one line in a while for each reason.
///
/// # Errors
/// When the dialler was refused, or did not introduce itself in time.
pub async fn accept(
    mut stream: Stream,
    me: &Identity,
    nodes: Vec<(NodeId, String)>,
    known: Acquaintance<'_>,
    crowded: Option<usize>,
    settings: &NetSettings,
    log: &QuietLog,
) -> Result<Connection, OpenError> {
    let mut buffer = BytesMut::new();
    let judged: Result<Peer, OpenError> = in_time(settings, async {
        let Packet::Hello(hello) = first_frame(&mut stream, &mut buffer, MAX_HELLO).await? else {
            return Err(Refusal::Unexpected { expected: "a hello" }.into());
        };
        let peer = handshake::judge_hello(me, &hello)?;
        let peer = handshake::judge_store(peer, known).await?;
        // The other nodes are few, and must not be kept out by any number of clients.
        if let Some(limit) = crowded.filter(|_| peer == Peer::Client) {
            return Err(Refusal::TooManyConnections { limit }.into());
        }
        send(&mut stream, &Packet::Welcome(me.welcome(nodes))).await?;
        Ok(peer)
    })
    .await;
    match judged {
        Ok(peer) => Ok(Connection::new(stream, peer, buffer, settings)),
        Err(error) => {
            part(&mut stream, &error).await;
            let reason = error.to_string();
            if let Some(repeats) = log.admit(&reason) {
                tracing::warn!(remote = %stream.remote, %reason, repeats, "refused a connection");
            }
            Err(error)
        }
    }
}

async fn in_time<T>(
    settings: &NetSettings,
    work: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    let after = settings.handshake_timeout;
    timeout(after, work).await.unwrap_or(Err(OpenError::TimedOut { what: "the handshake", after }))
}

/// Reads until the first frame is complete; what was read behind it stays in `buffer`.
async fn first_frame(stream: &mut Stream, buffer: &mut BytesMut, limit: usize) -> Result<Packet, OpenError> {
    let codec = Codec::new(limit);
    loop {
        if let Some(packet) = codec.decode(buffer)? {
            return Ok(packet);
        }
        if stream.reader.read_buf(buffer).await.map_err(OpenError::Broken)? == 0 {
            return Err(OpenError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

async fn send(stream: &mut Stream, packet: &Packet) -> Result<(), OpenError> {
    let mut frame = BytesMut::new();
    Codec::new(MAX_WELCOME).encode(packet, &mut frame)?;
    stream.writer.write_all(&frame).await.map_err(OpenError::Broken)
}

/// Tells the other side why, if it was us who found fault. That it fails changes nothing any more.
async fn part(stream: &mut Stream, error: &OpenError) {
    if matches!(error, OpenError::Refused(_) | OpenError::Codec(_) | OpenError::TimedOut { .. }) {
        let new_store = matches!(error, OpenError::Refused(Refusal::Store { .. }));
        say_goodbye(&mut stream.writer, Packet::Goodbye { reason: error.to_string(), new_store }).await;
    }
}

/// Says goodbye and closes, within a short time.
pub(super) async fn goodbye(writer: &mut (impl AsyncWriteExt + Unpin + ?Sized), reason: String) {
    say_goodbye(writer, Packet::Goodbye { reason, new_store: false }).await;
}

async fn say_goodbye(writer: &mut (impl AsyncWriteExt + Unpin + ?Sized), packet: Packet) {
    let mut frame = BytesMut::new();
    if Codec::new(MAX_WELCOME).encode(&packet, &mut frame).is_ok() {
        let _ = timeout(PARTING, async {
            writer.write_all(&frame).await?;
            writer.shutdown().await
        })
        .await;
    }
}
