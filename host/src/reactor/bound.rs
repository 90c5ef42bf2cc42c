//! Addresses: bound plainly first, then once per worker; or taken over from whoever listened there before.
//!
//! A listening socket has a queue of its own of connections that nobody has accepted yet, and they are lost when the
//! last descriptor of it closes. So what is kept here is a descriptor of every socket of every worker: whoever follows us
//! is given all of them. And whoever has been given sockets uses all of them, whatever the number of its workers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::Duration;

use mio::net::{TcpListener, UnixListener};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::inherited::Inherited;
use super::listener::Listener;
use super::unix::{self, Admits, SocketFile};
use crate::config::ListenAddr;

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
pub(crate) struct Bound {
    /// As it was asked for: its port may be 0.
    wanted: ListenAddr,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpDoor),
    Unix(UnixDoor),
}

#[derive(Debug)]
struct TcpDoor {
    addr: SocketAddr,
    backlog: i32,
    /// The sockets that listen there. Every worker that finds none binds its own (SO_REUSEPORT).
    sockets: Vec<Socket>,
    /// How many of them were there before us.
    taken: usize,
    is_ours: bool,
}

/// A Unix socket, which all workers share, and its name in the file system.
#[derive(Debug)]
struct UnixDoor {
    file: SocketFile,
    /// It is ours, or will be.
    is_ours: bool,
    socket: StdUnixListener,
}

impl Bound {
    /// Claims `addr`. A port of 0 is resolved here.
    ///
    /// `backlog` connections wait in the kernel until we accept them, if net.core.somaxconn allows as many. A first bind
    /// without SO_REUSEPORT is what makes a second server fail plainly.
    pub(crate) fn claim(addr: &ListenAddr, backlog: u32) -> io::Result<Self> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        let kind = match addr {
            ListenAddr::Tcp(addr) => {
                let socket = tcp_socket(*addr, false)?;
                let addr = socket.local_addr()?.as_socket().unwrap_or(*addr);
                Kind::Tcp(TcpDoor { addr, backlog, sockets: Vec::new(), taken: 0, is_ours: true })
            }
            ListenAddr::Unix(path) => {
                let socket = unix::claim(path, backlog, Admits::Anybody)?;
                let mut file = SocketFile::at(path.clone());
                file.own();
                Kind::Unix(UnixDoor { file, is_ours: true, socket })
            }
        };
        Ok(Self { wanted: addr.clone(), kind })
    }

    /// Listens at `wanted` with sockets that listen there already; they are of one kind, and one at least. `backlog` is
    /// that of sockets which workers add to them. Where the address `is_ours`, and not a service manager's, the file of a
    /// Unix socket is removed in the end, once this is [owned](Self::own).
    pub(crate) fn adopt(
        wanted: &ListenAddr,
        inherited: Vec<Inherited>,
        backlog: u32,
        is_ours: bool,
    ) -> io::Result<Self> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        let none = || io::Error::from(io::ErrorKind::NotFound);
        let actual = inherited.first().ok_or_else(none)?.addr().clone();
        let mut sockets: Vec<Socket> = inherited.into_iter().map(|inherited| inherited.socket).collect();
        let kind = match actual {
            ListenAddr::Tcp(addr) => {
                sockets.iter().try_for_each(set_tcp_options)?;
                let taken = sockets.len();
                Kind::Tcp(TcpDoor { addr, backlog, sockets, taken, is_ours })
            }
            ListenAddr::Unix(path) => {
                let socket = sockets.swap_remove(0).into();
                Kind::Unix(UnixDoor { file: SocketFile::at(path), is_ours, socket })
            }
        };
        Ok(Self { wanted: wanted.clone(), kind })
    }

    /// The listeners of a worker, one or more; for one worker after the other. All sockets that were there before are
    /// given out, several to a worker if there are more of them; if there are fewer, workers add their own, or, where the
    /// system does not let them, share.
    pub(crate) fn open(&mut self, worker: usize, workers: usize) -> io::Result<Vec<Listener>> {
        match &mut self.kind {
            Kind::Tcp(door) => door.open(worker, workers),
            Kind::Unix(door) => Ok(vec![Listener::Unix(UnixListener::from_std(door.socket.try_clone()?))]),
        }
    }

    /// Every socket that listens there, once [`Self::open`] was called for all workers.
    pub(crate) fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        match &self.kind {
            Kind::Tcp(door) => door.sockets.iter().map(AsFd::as_fd).collect(),
            Kind::Unix(door) => vec![door.socket.as_fd()],
        }
    }

    /// As it was asked for.
    pub(crate) fn wanted(&self) -> &ListenAddr {
        &self.wanted
    }

    /// Whether the settings named the address and no service manager did. The file of such a socket is removed when this
    /// is dropped.
    pub(crate) fn is_ours(&self) -> bool {
        match &self.kind {
            Kind::Tcp(door) => door.is_ours,
            Kind::Unix(door) => door.is_ours,
        }
    }

    /// The address is this process's alone from here on: of one that was taken over, the file goes with it. Before that it
    /// is also that of another, which goes on listening there should this process not serve.
    pub(crate) fn own(&mut self) {
        if let Kind::Unix(door) = &mut self.kind
            && door.is_ours
        {
            door.file.own();
        }
    }

    /// Lets go of the address without giving it up: another process listens there, with the same sockets.
    pub(crate) fn hand_over(mut self) {
        if let Kind::Unix(door) = &mut self.kind {
            door.file.disown();
        }
    }

    /// The TCP address, if it is one.
    pub(crate) fn tcp_addr(&self) -> Option<SocketAddr> {
        match &self.kind {
            Kind::Tcp(door) => Some(door.addr),
            Kind::Unix(_) => None,
        }
    }

    /// As people write it; with the app that its raw connections are for.
    pub(crate) fn url(&self, raw: Option<&str>) -> String {
        match &self.kind {
            Kind::Tcp(TcpDoor { addr, .. }) => match raw {
                Some(app) => format!("tcp://{addr} for `{app}`"),
                None => format!("http://{addr}"),
            },
            Kind::Unix(door) => format!("unix:{}", door.file.path().display()),
        }
    }
}

impl TcpDoor {
    fn open(&mut self, worker: usize, workers: usize) -> io::Result<Vec<Listener>> {
        let own: Vec<_> = (0..self.taken).filter(|number| number % workers.max(1) == worker).collect();
        if !own.is_empty() {
            return own.into_iter().map(|number| self.listener(number)).collect();
        }
        // Sockets of another user's, such as a service manager's, can not be joined.
        let joins = self.sockets.first().is_none_or(|first| first.reuse_port().unwrap_or(false));
        let added = if joins { self.add() } else { Err(io::ErrorKind::AddrInUse.into()) };
        let number = match added {
            Ok(number) => number,
            Err(_) if self.taken > 0 => worker % self.taken,
            Err(error) => return Err(error),
        };
        Ok(vec![self.listener(number)?])
    }

    fn add(&mut self) -> io::Result<usize> {
        let socket = tcp_socket(self.addr, true)?;
        socket.listen(self.backlog)?;
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }

    fn listener(&self, number: usize) -> io::Result<Listener> {
        let socket = self.sockets.get(number).ok_or(io::ErrorKind::NotFound)?.try_clone()?;
        Ok(Listener::Tcp { listener: TcpListener::from_std(socket.into()), local: self.addr })
    }
}

fn tcp_socket(addr: SocketAddr, shared: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if let SocketAddr::V6(v6) = addr {
        // The wildcard serves IPv4 too; any other IPv6 address could not.
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    set_tcp_options(&socket)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Accepted sockets inherit these on Linux, which saves their system calls. Responses leave whole: waiting for more
/// (Nagle) would only delay them.
fn set_tcp_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdUnixStream;

    use super::*;
    use crate::reactor::listener::Accepted;
    use crate::reactor::transport;

    fn loopback() -> (Bound, SocketAddr) {
        let bound = Bound::claim(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap()), 16).unwrap();
        let local = bound.tcp_addr().unwrap();
        (bound, local)
    }

    /// As a process after us gets them.
    fn inherited(bound: &Bound) -> Vec<Inherited> {
        let sockets = bound.sockets();
        sockets.iter().map(|fd| Inherited::new(fd.try_clone_to_owned().unwrap()).unwrap()).collect()
    }

    fn accepts(listener: &Listener) -> bool {
        matches!(listener.accept(), Accepted::Connection(..))
    }

    #[test]
    fn a_claimed_port_cannot_be_claimed_again_while_someone_listens() {
        let (mut bound, local) = loopback();
        let first = bound.open(0, 1).unwrap();
        let second = bound.open(0, 1).unwrap();
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
    fn accepted_sockets_inherit_what_the_listener_was_told() {
        let (mut bound, local) = loopback();
        let listener = bound.open(0, 1).unwrap().pop().unwrap();
        let _client = std::net::TcpStream::connect(local).unwrap();
        let Accepted::Connection(transport::Socket::Tcp(accepted), _) = listener.accept() else {
            panic!("nobody came")
        };
        let socket = socket2::SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }

    #[test]
    fn who_takes_over_finds_whoever_waited_at_any_socket_with_any_number_of_workers() {
        for (before, after) in [(3, 1), (3, 2), (2, 3), (1, 1)] {
            let (mut bound, local) = loopback();
            let old: Vec<_> = (0..before).flat_map(|worker| bound.open(worker, before).unwrap()).collect();
            assert_eq!(bound.sockets().len(), before);
            let clients: Vec<_> = (0..15).map(|_| std::net::TcpStream::connect(local).unwrap()).collect();
            let offered = inherited(&bound);
            bound.hand_over();
            drop(old);
            let wanted = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
            let mut bound = Bound::adopt(&wanted, offered, 16, false).unwrap();
            assert_eq!((bound.tcp_addr(), bound.wanted()), (Some(local), &wanted));
            let new: Vec<_> = (0..after).flat_map(|worker| bound.open(worker, after).unwrap()).collect();
            assert_eq!(new.len(), before.max(after));
            assert_eq!(bound.sockets().len(), before.max(after));
            let accepted: usize =
                new.iter().map(|listener| (0..).take_while(|_| accepts(listener)).count()).sum();
            assert_eq!(accepted, clients.len(), "{before} to {after}");
        }
    }

    #[test]
    fn a_socket_that_can_not_be_joined_is_shared() {
        let theirs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = theirs.local_addr().unwrap();
        let inherited = vec![Inherited::new(theirs.into()).unwrap()];
        let mut bound = Bound::adopt(&ListenAddr::Tcp(local), inherited, 16, false).unwrap();
        let workers: Vec<_> = (0..3).flat_map(|worker| bound.open(worker, 3).unwrap()).collect();
        assert_eq!((workers.len(), bound.sockets().len()), (3, 1));
        for listener in &workers {
            let _client = std::net::TcpStream::connect(local).unwrap();
            assert!(accepts(listener));
        }
    }

    #[test]
    fn a_path_that_was_handed_over_is_removed_by_the_last_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = ListenAddr::Unix(dir.path().join("s"));
        let ListenAddr::Unix(path) = &wanted else { unreachable!() };
        let old = Bound::claim(&wanted, 16).unwrap();
        let offered = inherited(&old);
        assert!(old.is_ours());
        // One that does not get as far as to serve leaves it to the other.
        drop(Bound::adopt(&wanted, inherited(&old), 16, true).unwrap());
        StdUnixStream::connect(path).unwrap();
        let mut new = Bound::adopt(&wanted, offered, 16, true).unwrap();
        old.hand_over();
        new.own();
        drop(new);
        assert!(!path.exists());

        // A service manager's stays.
        let theirs = StdUnixListener::bind(path).unwrap();
        let offered = vec![Inherited::new(theirs.into()).unwrap()];
        let mut adopted = Bound::adopt(&wanted, offered, 16, false).unwrap();
        adopted.own();
        drop(adopted);
        assert!(path.exists());
    }
}
