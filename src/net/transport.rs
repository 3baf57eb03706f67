//! What carries bytes: a real network, or one in memory with the same behaviour.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A boxed future, so that transports can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Dials and listens.
pub trait Transport: Send + Sync {
    /// Opens a connection to `address`. The caller sets the time limit.
    ///
    /// # Errors
    /// When there is nobody, or the address makes no sense.
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>>;

    /// Listens at `address`; port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken or makes no sense.
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Acceptor>>>;
}

/// A bound address.
pub trait Acceptor: Send {
    /// Where it listens, with the port that was chosen.
    fn local_address(&self) -> String;

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Those of the system, such as too many open files. The caller may try again.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>>;
}

/// A connection: bytes in, bytes out.
pub struct Stream {
    /// Where bytes come from.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Where bytes go.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The address of the other side, for people.
    pub remote: String,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// TCP. Small packets are not delayed (`TCP_NODELAY`): the writers coalesce by themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpTransport;

impl TcpTransport {
    /// As a shared transport.
    pub fn shared() -> Arc<dyn Transport> {
        Arc::new(TcpTransport)
    }
}

impl Transport for TcpTransport {
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move { tcp_stream(TcpStream::connect(address).await?) })
    }

    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Acceptor>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let local = listener.local_addr()?.to_string();
            Ok(Box::new(TcpAcceptor { listener, local }) as Box<dyn Acceptor>)
        })
    }
}

struct TcpAcceptor {
    listener: TcpListener,
    local: String,
}

impl Acceptor for TcpAcceptor {
    fn local_address(&self) -> String {
        self.local.clone()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let (stream, _) = self.listener.accept().await?;
            tcp_stream(stream)
        })
    }
}

fn tcp_stream(stream: TcpStream) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    let remote = stream.peer_addr()?.to_string();
    let (reader, writer) = stream.into_split();
    Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), remote })
}
