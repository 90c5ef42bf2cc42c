//! A listening socket that somebody else made and left to us: a service manager, or the server we follow.
//!
//! What comes from there is checked before it is used: it has to listen, for connections, at an address that can be
//! named. Who gave it and which of our addresses it is for is the business of whoever takes it over.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use socket2::{Domain, Type};

use crate::config::ListenAddr;

/// A listening socket, not blocking.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(super) socket: socket2::Socket,
    addr: ListenAddr,
}

impl Inherited {
    /// Takes a descriptor over.
    ///
    /// # Errors
    /// It is no socket that listens for connections, over TCP or at a path; as a clause.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, String> {
        let socket = socket2::Socket::from(fd);
        let wrong = |error: io::Error| format!("it is no socket that can be used: {error}");
        if socket.r#type().map_err(wrong)? != Type::STREAM {
            return Err("it is no stream socket: `ListenStream=` makes one".to_owned());
        }
        if !socket.is_listener().map_err(wrong)? {
            return Err("it does not listen: with systemd, `Accept=no` makes it so".to_owned());
        }
        let domain = socket.domain().map_err(wrong)?;
        let local = socket.local_addr().map_err(wrong)?;
        let addr = match (local.as_socket(), local.as_pathname()) {
            (Some(addr), _) => ListenAddr::Tcp(addr),
            (_, Some(path)) => ListenAddr::Unix(path.to_path_buf()),
            _ if domain == Domain::UNIX => return Err("it is a Unix socket without a path".to_owned()),
            _ => return Err("it is neither a TCP nor a Unix socket".to_owned()),
        };
        socket.set_nonblocking(true).map_err(wrong)?;
        Ok(Self { socket, addr })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> &ListenAddr {
        &self.addr
    }

    /// True if this is what listening at `wanted` would make.
    pub(crate) fn is_at(&self, wanted: &ListenAddr) -> bool {
        match (&self.addr, wanted) {
            (ListenAddr::Tcp(addr), ListenAddr::Tcp(wanted)) => same_tcp(addr, wanted),
            (ListenAddr::Unix(path), ListenAddr::Unix(wanted)) => same_path(path, wanted),
            _ => false,
        }
    }
}

impl From<Inherited> for OwnedFd {
    fn from(inherited: Inherited) -> Self {
        inherited.socket.into()
    }
}

/// Flow labels aside, which are not the address's.
fn same_tcp(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.ip() == other.ip() && one.port() == other.port()
}

/// A socket remembers its path as it was written when it was bound.
fn same_path(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    one == other || whole(one).is_some_and(|one| whole(other).is_some_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_listens_is_taken_and_known_by_its_address() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = tcp.local_addr().unwrap();
        let tcp = Inherited::new(tcp.into()).unwrap();
        assert_eq!(*tcp.addr(), ListenAddr::Tcp(addr));
        assert!(tcp.is_at(&ListenAddr::Tcp(addr)));
        assert!(!tcp.is_at(&ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 2], addr.port())))));
        assert!(tcp.socket.nonblocking().unwrap());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let unix = Inherited::new(UnixListener::bind(&path).unwrap().into()).unwrap();
        assert!(unix.is_at(&ListenAddr::Unix(folder.path().join(".").join("s"))));
        assert!(!unix.is_at(&ListenAddr::Unix(folder.path().join("other"))));
    }

    #[test]
    fn what_does_not_listen_is_refused_with_a_reason() {
        let told = |fd: OwnedFd| Inherited::new(fd).unwrap_err();
        assert!(told(std::fs::File::open("/dev/null").unwrap().into()).contains("no socket"));
        assert!(told(UdpSocket::bind("127.0.0.1:0").unwrap().into()).contains("no stream socket"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(told(stream.into()).contains("does not listen"));
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let name = socket2::SockAddr::unix(Path::new("\0tidegate-test-without-a-path")).unwrap();
        socket.bind(&name).unwrap();
        socket.listen(1).unwrap();
        assert!(told(socket.into()).contains("without a path"));
    }
}
