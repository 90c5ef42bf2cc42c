//! Listening sockets: bound plainly first, then once per worker.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, TcpKeepalive, Type};

use super::transport::Socket;
use crate::config::ListenAddr;
use crate::exchange::Ends;

/// Bytes that a socket takes of us beyond what is on its way to the peer. Without it the system buffers megabytes for each
/// slow reader: a few hundred of them use up what all its sockets may have together, and every connection stalls.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;
/// A peer that has said nothing for so long is asked whether it is still there; a machine that vanished never says that
/// it is gone.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// How long each of the questions waits for its answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Questions without an answer before the connection counts as broken.
const KEEPALIVE_PROBES: u32 = 4;

/// An address that all workers listen on. Dropping it gives the address up, as far as workers do not listen on it: the
/// file of a Unix socket goes, so that nobody comes any more and another server can take the path.
#[derive(Debug)]
pub(crate) enum Bound {
    /// Every worker binds its own socket to it (SO_REUSEPORT).
    Tcp { addr: SocketAddr, backlog: i32 },
    /// One socket that all workers share.
    Unix(UnixDoor),
}

/// A Unix socket and its name in the file system.
#[derive(Debug)]
pub(crate) struct UnixDoor {
    path: PathBuf,
    /// Device and inode of what binding made, if it could be looked at.
    made: Option<(u64, u64)>,
    socket: StdUnixListener,
}

impl Bound {
    /// Claims `addr`. A port of 0 is resolved here.
    ///
    /// `backlog` connections wait in the kernel until we accept them, if net.core.somaxconn allows as many. A first bind
    /// without SO_REUSEPORT is what makes a second server fail plainly.
    pub(crate) fn claim(addr: &ListenAddr, backlog: u32) -> io::Result<Self> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        match addr {
            ListenAddr::Tcp(addr) => {
                let socket = tcp_socket(*addr, false)?;
                let local = socket.local_addr()?;
                Ok(Self::Tcp { addr: local.as_socket().unwrap_or(*addr), backlog })
            }
            ListenAddr::Unix(path) => {
                let socket = claim_unix(path, backlog)?;
                Ok(Self::Unix(UnixDoor { path: path.clone(), made: identity(path), socket }))
            }
        }
    }

    /// A worker's own listener.
    pub(crate) fn open(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp { addr, backlog } => {
                let socket = tcp_socket(*addr, true)?;
                socket.listen(*backlog)?;
                Ok(Listener::Tcp { listener: TcpListener::from_std(socket.into()), local: *addr })
            }
            Self::Unix(door) => Ok(Listener::Unix(UnixListener::from_std(door.socket.try_clone()?))),
        }
    }

    /// The TCP address, if it is one.
    pub(crate) fn tcp_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { addr, .. } => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// As people write it; with the app that its raw connections are for.
    pub(crate) fn url(&self, raw: Option<&str>) -> String {
        match self {
            Self::Tcp { addr, .. } => match raw {
                Some(app) => format!("tcp://{addr} for `{app}`"),
                None => format!("http://{addr}"),
            },
            Self::Unix(door) => format!("unix:{}", door.path.display()),
        }
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        // By now the path may be another server's.
        if self.made.is_some() && identity(&self.path) == self.made {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Which file a path names: device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
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
    // Accepted sockets inherit these on Linux, which saves their system calls. Responses leave whole: waiting for more
    // (Nagle) would only delay them.
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Binds a Unix socket. A file that nobody listens on any more is replaced.
fn claim_unix(path: &Path, backlog: i32) -> io::Result<StdUnixListener> {
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
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
}

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
    use super::*;

    fn loopback() -> (Bound, SocketAddr) {
        let bound = Bound::claim(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), 16).unwrap();
        let Bound::Tcp { addr: local, .. } = bound else { panic!("tcp expected") };
        (bound, local)
    }

    #[test]
    fn a_claimed_port_cannot_be_claimed_again_while_someone_listens() {
        let (bound, local) = loopback();
        let first = bound.open().unwrap();
        let second = bound.open().unwrap();
        let error = Bound::claim(&ListenAddr::Tcp(local), 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop((first, second));
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let addr = ListenAddr::Unix(path.clone());
        // A server that was killed leaves the file and no socket.
        drop(StdUnixListener::bind(&path).unwrap());
        let live = Bound::claim(&addr, 16).unwrap();
        assert_eq!(Bound::claim(&addr, 16).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        assert!(!path.exists());
        std::fs::write(&path, b"a file of someone's").unwrap();
        assert!(Bound::claim(&addr, 16).is_err());
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_is_anothers_by_now_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let old = Bound::claim(&ListenAddr::Unix(path.clone()), 16).unwrap();
        // The old file stays, so that its inode is not given to the new one.
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        let new = StdUnixListener::bind(&path).unwrap();
        drop(old);
        StdUnixStream::connect(&path).unwrap();
        drop(new);
    }

    #[test]
    fn it_tells_whether_anyone_waits() {
        let dir = tempfile::tempdir().unwrap();
        let (tcp, local) = loopback();
        let path = dir.path().join("s");
        let unix = Bound::claim(&ListenAddr::Unix(path.clone()), 16).unwrap();
        let (tcp, unix) = (tcp.open().unwrap(), unix.open().unwrap());
        assert!(!tcp.has_waiting() && !unix.has_waiting());
        let _clients = (std::net::TcpStream::connect(local).unwrap(), StdUnixStream::connect(&path).unwrap());
        for listener in [&tcp, &unix] {
            assert!(listener.has_waiting());
            assert!(matches!(listener.accept(), Accepted::Connection(..)));
            assert!(!listener.has_waiting());
            assert!(matches!(listener.accept(), Accepted::Nobody));
        }
    }

    #[test]
    fn accepted_sockets_inherit_what_the_listener_was_told() {
        let (bound, local) = loopback();
        let listener = bound.open().unwrap();
        let _client = std::net::TcpStream::connect(local).unwrap();
        let Accepted::Connection(Socket::Tcp(accepted), _) = listener.accept() else { panic!("nobody came") };
        let socket = socket2::SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }
}
