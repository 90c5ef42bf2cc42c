//! The resolver crate's sockets, and how many of them there are at once.
//!
//! It opens one UDP socket for each query and each repetition of it, with a random port, so that answers are hard to forge.
//! While a name server is silent these add up, and a server that has no descriptor left accepts nobody: so there are no
//! more than [`SOCKETS_MAX`], and who comes later waits until others are answered or give up.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More than one app's queries need, with both families and all repetitions.
const SOCKETS_MAX: usize = 512;

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Opens sockets.
#[derive(Clone)]
pub(super) struct Sockets {
    inner: TokioRuntimeProvider,
    room: Arc<Semaphore>,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self { inner: TokioRuntimeProvider::new(), room: Arc::new(Semaphore::new(SOCKETS_MAX)) }
    }
}

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.inner.create_handle()
    }

    /// Not counted: one is shared by all later queries to a server. At first there may be as many as queries were under
    /// way when the first answer did not fit into a datagram, until the server closes those that idle.
    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        self.inner.connect_tcp(server, local, timeout)
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let room = Arc::clone(&self.room);
        let inner = self.inner.clone();
        Box::pin(async move {
            let permit = room.acquire_owned().await.map_err(io::Error::other)?;
            let socket = inner.bind_udp(local, server).await?;
            Ok(UdpSocket { socket, _permit: permit })
        })
    }
}

/// A socket and its place among the others.
pub(super) struct UdpSocket {
    socket: <TokioRuntimeProvider as RuntimeProvider>::Udp,
    _permit: OwnedSemaphorePermit,
}

impl DnsUdpSocket for UdpSocket {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        DnsUdpSocket::poll_recv_from(&self.socket, cx, buf)
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], to: SocketAddr) -> Poll<io::Result<usize>> {
        DnsUdpSocket::poll_send_to(&self.socket, cx, buf, to)
    }
}
