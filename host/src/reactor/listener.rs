//! Listening sockets: bound plainly first, then once per worker.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use socket2::{Domain, Protocol, SockAddr, Type};

use super::transport::Socket;
use crate::config::ListenAddr;
use crate::exchange::Ends;

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 4096;

/// An address that all workers listen on.
#[derive(Debug)]
pub(crate) enum Bound {
    /// Every worker binds its own socket to it (SO_REUSEPORT).
    Tcp(SocketAddr),
    /// One socket that all workers share.
    Unix { path: PathBuf, socket: std::os::unix::net::UnixListener },
}

impl Bound {
    /// Claims `addr`. A port of 0 is resolved here.
    ///
    /// A first bind without SO_REUSEPORT is what makes a second server fail plainly.
    pub(crate) fn claim(addr: &ListenAddr) -> io::Result<Self> {
        match addr {
            ListenAddr::Tcp(addr) => {
                let socket = tcp_socket(*addr, false)?;
                let local = socket.local_addr()?;
                Ok(Self::Tcp(local.as_socket().unwrap_or(*addr)))
            }
            ListenAddr::Unix(path) => {
                let socket = claim_unix(path)?;
                Ok(Self::Unix { path: path.clone(), socket })
            }
        }
    }

    /// A worker's own listener.
    pub(crate) fn open(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp(addr) => {
                let socket = tcp_socket(*addr, true)?;
                socket.listen(BACKLOG)?;
                Ok(Listener::Tcp { listener: TcpListener::from_std(socket.into()), local: *addr })
            }
            Self::Unix { socket, .. } => Ok(Listener::Unix(UnixListener::from_std(socket.try_clone()?))),
        }
    }

    /// As people write it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Tcp(addr) => format!("http://{addr}"),
            Self::Unix { path, .. } => format!("unix:{}", path.display()),
        }
    }

    /// Removes what binding left in the file system.
    pub(crate) fn clean_up(&self) {
        if let Self::Unix { path, .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn tcp_socket(addr: SocketAddr, shared: bool) -> io::Result<socket2::Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if let SocketAddr::V6(v6) = addr {
        // The wildcard serves IPv4 too; any other IPv6 address could not.
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Binds a Unix socket. A file that nobody listens on any more is replaced.
fn claim_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(Domain::UNIX, kind, None)?;
    let addr = SockAddr::unix(path)?;
    if let Err(e) = socket.bind(&addr) {
        let stale = e.kind() == io::ErrorKind::AddrInUse
            && is_socket(path)
            && StdUnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if !stale {
            return Err(e);
        }
        std::fs::remove_file(path)?;
        socket.bind(&addr)?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
}

/// What an accept gave.
#[derive(Debug)]
pub(crate) enum Accepted {
    Connection(Socket, Ends),
    /// Nobody waits.
    Nobody,
    /// Descriptors or memory ran out: pause, and try again later.
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
                Err(e) if is_exhaustion(&e) => return Accepted::Exhausted(e),
                Err(_) => {}
            }
        }
    }
}

fn tcp_accepted(stream: TcpStream, peer: SocketAddr, local: SocketAddr) -> (Socket, Ends) {
    // Responses leave whole: waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let local = if local.ip().is_unspecified() { stream.local_addr().unwrap_or(local) } else { local };
    (Socket::Tcp(stream), Ends { peer: Some(peer), local: Some(local) })
}

fn unix_accepted(stream: UnixStream) -> (Socket, Ends) {
    (Socket::Unix(stream), Ends { peer: None, local: None })
}

fn is_exhaustion(e: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    e.raw_os_error().is_some_and(|code| exhausted.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_cannot_be_claimed_again_while_someone_listens() {
        let addr = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
        let Bound::Tcp(local) = Bound::claim(&addr).unwrap() else { panic!("tcp expected") };
        let bound = Bound::Tcp(local);
        let first = bound.open().unwrap();
        let second = bound.open().unwrap();
        let error = Bound::claim(&ListenAddr::Tcp(local)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop((first, second));
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let addr = ListenAddr::Unix(dir.path().join("s"));
        drop(Bound::claim(&addr).unwrap());
        let live = Bound::claim(&addr).unwrap();
        assert_eq!(Bound::claim(&addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        live.clean_up();
        std::fs::write(dir.path().join("s"), b"a file of someone's").unwrap();
        assert!(Bound::claim(&addr).is_err());
        assert!(dir.path().join("s").exists());
    }
}
