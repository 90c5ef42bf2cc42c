//! A worker's listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::transport::Socket;
use crate::exchange::Ends;

/// What an accept gave.
#[derive(Debug)]
pub(crate) enum Accepted {
    Connection(Socket, Ends),
    /// Nobody waits.
    Nobody,
    /// Descriptors or memory ran out, or something else is wrong: pause, and try again later.
    Exhausted(io::Error),
}

/// A worker's listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp { listener: TcpListener, local: SocketAddr },
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn register(&mut self, registry: &mio::Registry, token: mio::Token) -> io::Result<()> {
        match self {
            Self::Tcp { listener, .. } => registry.register(listener, token, mio::Interest::READABLE),
            Self::Unix(listener) => registry.register(listener, token, mio::Interest::READABLE),
        }
    }

    /// No more events: also where another process has the same socket, which closing this one would not end.
    pub(crate) fn deregister(&mut self, registry: &mio::Registry) -> io::Result<()> {
        match self {
            Self::Tcp { listener, .. } => registry.deregister(listener),
            Self::Unix(listener) => registry.deregister(listener),
        }
    }

    /// True if a connection waits, without accepting it. If none does, a later one is a new event.
    pub(crate) fn has_waiting(&self) -> bool {
        let mut fds = [PollFd::new(self, PollFlags::IN)];
        // An error is for `accept` to find.
        poll(&mut fds, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
    }

    /// Accepts one connection; errors that concern only that one are passed over.
    pub(crate) fn accept(&self) -> Accepted {
        loop {
            let result = match self {
                Self::Tcp { listener, local } => {
                    listener.accept().map(|(stream, peer)| tcp_accepted(stream, peer, *local))
                }
                Self::Unix(listener) => listener.accept().map(|(stream, _)| unix_accepted(stream)),
            };
            match result {
                Ok((socket, ends)) => return Accepted::Connection(socket, ends),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Accepted::Nobody,
                Err(e) if concerns_one_connection(&e) => {}
                // Whatever it is, trying again at once would be trying for ever.
                Err(e) => return Accepted::Exhausted(e),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp { listener, .. } => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

fn tcp_accepted(stream: TcpStream, peer: SocketAddr, local: SocketAddr) -> (Socket, Ends) {
    let local = if local.ip().is_unspecified() { stream.local_addr().unwrap_or(local) } else { local };
    (Socket::Tcp(stream), Ends { peer: Some(peer), local: Some(local) })
}

fn unix_accepted(stream: UnixStream) -> (Socket, Ends) {
    (Socket::Unix(stream), Ends { peer: None, local: None })
}

/// Errors of a connection that was gone before it was accepted (accept(2)).
fn concerns_one_connection(e: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ];
    e.raw_os_error().is_some_and(|code| passing.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdUnixStream;

    use super::*;
    use crate::config::ListenAddr;
    use crate::reactor::bound::Bound;

    fn one(addr: &ListenAddr) -> Listener {
        let mut bound = Bound::claim(addr, 16).unwrap();
        let listener = bound.open(0, 1).unwrap().pop().unwrap();
        if let ListenAddr::Unix(_) = addr {
            // The file is to stay.
            bound.hand_over();
        }
        listener
    }

    fn loopback() -> (Listener, SocketAddr) {
        let listener = one(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()));
        let Listener::Tcp { local, .. } = listener else { panic!("tcp expected") };
        (listener, local)
    }

    #[test]
    fn it_tells_whether_anyone_waits() {
        let dir = tempfile::tempdir().unwrap();
        let (tcp, local) = loopback();
        let path = dir.path().join("s");
        let unix = one(&ListenAddr::Unix(path.clone()));
        assert!(!tcp.has_waiting() && !unix.has_waiting());
        let _clients = (std::net::TcpStream::connect(local).unwrap(), StdUnixStream::connect(&path).unwrap());
        for listener in [&tcp, &unix] {
            assert!(listener.has_waiting());
            assert!(matches!(listener.accept(), Accepted::Connection(..)));
            assert!(!listener.has_waiting());
            assert!(matches!(listener.accept(), Accepted::Nobody));
        }
    }
}
