//! Where the admin side listens, and the threads that serve who comes.
//!
//! An accept thread and one thread a connection, none of them a worker's: however slow or hostile a client is, it costs its
//! own thread, of which there is a bounded number.
//!
//! Invariants: nobody but its owner can open the Unix socket, from the first moment there is one; a path is taken over
//! only from a server that is gone, and given up only if it is still ours.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, fchmod};
use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::auth::{Keys, Peer};
use super::control::Control;
use super::guests::Guests;
use super::routes::{self, Desk};
use super::wire::{Bell, Wire, limits};
use crate::config::ListenAddr;
use crate::server::birth;

/// How long nobody is let in when the system has no room for another connection.
const EXHAUSTED: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How long work that is under way may take once the admin side ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// An address that is ours, and that nobody is served at yet: who comes waits.
#[derive(Debug)]
pub(crate) struct Door {
    socket: Entrance,
    url: String,
}

#[derive(Debug)]
enum Entrance {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _name: Name },
}

/// The name of a Unix socket; given up with it.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    /// Device and inode of what binding made.
    made: Option<(u64, u64)>,
}

impl Drop for Name {
    fn drop(&mut self) {
        // By now the path may be another server's.
        if self.made.is_some() && identity(&self.path) == self.made {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Door {
    /// Claims `addr`.
    ///
    /// # Errors
    /// Another server has it, or it cannot be had.
    pub(crate) fn claim(addr: &ListenAddr) -> Result<Self> {
        if let Some((socket, is_ours)) = birth::take_socket(addr) {
            return Self::adopt(addr, socket, is_ours);
        }
        match addr {
            ListenAddr::Tcp(addr) => {
                let listener = TcpListener::bind(addr);
                let listener = listener.map_err(|error| taken(&error, &format!("http://{addr}")))?;
                listener.set_nonblocking(true).context("the admin side")?;
                let local = listener.local_addr().unwrap_or(*addr);
                warn_of_plain_text(local);
                Ok(Self { socket: Entrance::Tcp(listener), url: format!("http://{local}") })
            }
            ListenAddr::Unix(path) => {
                let url = format!("unix:{}", path.display());
                let listener = claim_unix(path).map_err(|error| taken(&error, &url))?;
                let name = Name { path: path.clone(), made: identity(path) };
                Ok(Self { socket: Entrance::Unix { listener, _name: name }, url })
            }
        }
    }

    /// Takes a socket that was given to this process, by a service manager for one. Its file is removed in the end only
    /// where that `is_ours` to do.
    fn adopt(addr: &ListenAddr, socket: OwnedFd, is_ours: bool) -> Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true).context("the admin side")?;
        let url = match addr {
            ListenAddr::Tcp(addr) => format!("http://{addr}"),
            ListenAddr::Unix(path) => format!("unix:{}", path.display()),
        };
        let socket = match addr {
            ListenAddr::Tcp(addr) => {
                warn_of_plain_text(*addr);
                Entrance::Tcp(socket.into())
            }
            ListenAddr::Unix(path) => {
                let made = if is_ours { identity(path) } else { None };
                Entrance::Unix { listener: socket.into(), _name: Name { path: path.clone(), made } }
            }
        };
        Ok(Self { socket, url })
    }

    /// As people write it: `unix:PATH` or `http://ADDR`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens, if that is TCP.
    pub(crate) fn tcp_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Entrance::Tcp(listener) => listener.local_addr().ok(),
            Entrance::Unix { .. } => None,
        }
    }

    /// Lets in who may come, until it is told to stop.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn serve(self, keys: Keys, control: Arc<dyn Control>) -> Result<Admin> {
        let socket = self.socket;
        let bell = Arc::new(Bell::new().context("the admin side")?);
        let desk = Arc::new(Desk::new(control, keys));
        let guests = Arc::new(Guests::default());
        let hall = Hall { socket, bell: Arc::clone(&bell), desk, guests: Arc::clone(&guests) };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || hall.run());
        Ok(Admin { bell, guests, thread: Some(thread.context("the thread of the admin side")?) })
    }
}

/// An error that says what to do when somebody else has the address.
fn taken(error: &io::Error, url: &str) -> anyhow::Error {
    // Without the error as its source: it is not the address of `listen` that is taken.
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "another server has the admin address {url}: stop that one, or give this one another address or state \
             folder (`--admin`, `--state`)"
        ),
        _ => anyhow::anyhow!("the admin side cannot listen on {url}: {error}"),
    }
}

fn warn_of_plain_text(local: SocketAddr) {
    if !local.ip().is_loopback() {
        tracing::warn!(
            target: "tidegate",
            "the admin side listens on {local} without TLS: tokens and modules can be read on the way; put a proxy with TLS \
             in front of it, or listen on the loopback or on a Unix socket"
        );
    }
}

/// Binds a socket that is its owner's alone. A file that nobody listens on any more is replaced.
fn claim_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    // The file is made with the mode of the socket: there is no moment at which others could open it.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let addr = SockAddr::unix(path)?;
    if let Err(error) = socket.bind(&addr) {
        let stale = error.kind() == io::ErrorKind::AddrInUse
            && fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
            && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !stale {
            return Err(error);
        }
        fs::remove_file(path)?;
        socket.bind(&addr)?;
    }
    // As long as it does not listen, nobody can connect whatever the file's mode is.
    if fs::symlink_metadata(path)?.mode() & 0o077 != 0 {
        let _ = fs::remove_file(path);
        let message = "the file system does not keep the socket to its owner";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    socket.listen(64)?;
    Ok(OwnedFd::from(socket).into())
}

/// Which file a path names.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// The admin side, as it serves. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    bell: Arc<Bell>,
    guests: Arc<Guests>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Ends it: nobody else is let in, the address is given up, and who waits for nothing is sent away. What is under way
    /// may take a few seconds more.
    pub(crate) fn stop(mut self) {
        self.end();
        self.guests.wait_until_gone(Instant::now() + PATIENCE);
    }

    fn end(&mut self) {
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // One that panicked is over as well.
            let _ = thread.join();
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the accept thread has.
struct Hall {
    socket: Entrance,
    bell: Arc<Bell>,
    desk: Arc<Desk>,
    guests: Arc<Guests>,
}

impl Hall {
    fn run(self) {
        while !self.bell.is_ringing() {
            match self.accept() {
                Ok((socket, peer)) => self.receive(socket, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let socket = match &self.socket {
                        Entrance::Tcp(listener) => listener.as_fd(),
                        Entrance::Unix { listener, .. } => listener.as_fd(),
                    };
                    let mut fds = [
                        PollFd::from_borrowed_fd(socket, PollFlags::IN),
                        PollFd::new(&self.bell, PollFlags::IN),
                    ];
                    let _ = poll(&mut fds, None);
                }
                // One that was gone again, or no room for more of them.
                Err(_) => {
                    let _ = poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(&EXHAUSTED));
                }
            }
        }
    }

    fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        match &self.socket {
            Entrance::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                // A follower of a log says nothing for as long as it likes: whether it is there, the kernel finds out.
                let keepalive = TcpKeepalive::new()
                    .with_time(Duration::from_secs(60))
                    .with_interval(Duration::from_secs(15))
                    .with_retries(4);
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok((stream.into(), Peer::Address(peer.ip().to_canonical())))
            }
            Entrance::Unix { listener, .. } => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let uid = socket_peercred(&stream)?.uid.as_raw();
                Ok((stream.into(), Peer::User(uid)))
            }
        }
    }

    /// Gives a connection a thread of its own, or turns it away.
    fn receive(&self, socket: OwnedFd, peer: Peer) {
        let Some(guest) = self.guests.enter(peer, &socket) else { return };
        let (bell, desk) = (Arc::clone(&self.bell), Arc::clone(&self.desk));
        let serve = move || {
            let mut wire = Wire::new(socket, bell, limits());
            while wire.next_request() {
                routes::answer(&mut wire, &desk, &guest);
                if !wire.finish() || guest.busy {
                    break;
                }
            }
        };
        // Without a thread to be had it is closed, and whoever it was may try again.
        let _ = thread::Builder::new().name("admin-connection".to_owned()).spawn(serve);
    }
}

/// Refuses what is not meant.
pub(crate) fn check(addr: &ListenAddr, tokens: usize) -> Result<()> {
    if matches!(addr, ListenAddr::Tcp(_)) && tokens == 0 {
        bail!(
            "the admin side listens on TCP only with tokens: name some in `[server] tokens`, or use `unix:PATH`"
        );
    }
    Ok(())
}
