//! Where the admin side listens, and the threads that serve who comes.
//!
//! An accept thread and one thread a connection, none of them a worker's: however slow or hostile a client is, it costs its
//! own thread, of which there is a bounded number.
//!
//! Invariants: nobody but its owner can open the Unix socket, from the first moment there is one; a path is taken over
//! only from a server that is gone or hands it over, and given up only if it is still ours.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use socket2::TcpKeepalive;

use super::auth::{Keys, Peer};
use super::call::Desk;
use super::control::Control;
use super::guests::Guests;
use super::routes;
use super::wire::{Bell, Wire, limits};
use crate::config::ListenAddr;
use crate::reactor::unix::{self, Admits, SocketFile};
use crate::server::birth;
use crate::server::handover::Offer;

/// How long nobody is let in when the system has no room for another connection.
const EXHAUSTED: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Connections that wait in the system for the accept thread.
const BACKLOG: i32 = 64;
/// How long work that is under way may take once the admin side ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long whoever has come is waited for to ask, where another process is to go on.
const FIRST_WITHIN: Duration = Duration::from_secs(2);

/// An address that is ours, and that nobody is served at: who comes waits. Dropping it gives the address up.
#[derive(Debug)]
pub(crate) struct Door {
    socket: Arc<Entrance>,
    /// As the settings have it: its port may be 0.
    wanted: ListenAddr,
    url: String,
    /// The settings named the address, and no service manager did.
    is_ours: bool,
    /// Of a Unix socket.
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Entrance {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsFd for Entrance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
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
        let entrance = match addr {
            ListenAddr::Tcp(addr) => {
                let listener = TcpListener::bind(addr);
                let listener = listener.map_err(|error| taken(&error, &format!("http://{addr}")))?;
                listener.set_nonblocking(true).context("the admin side")?;
                Entrance::Tcp(listener)
            }
            ListenAddr::Unix(path) => {
                let listener = unix::claim(path, BACKLOG, Admits::OwnerAlone);
                Entrance::Unix(listener.map_err(|error| taken(&error, &format!("unix:{}", path.display())))?)
            }
        };
        let mut door = Self::new(addr, entrance, true);
        door.own();
        Ok(door)
    }

    /// Takes a socket that was given to this process, by a service manager or by the server that it is to follow. Its file
    /// is removed in the end only where that `is_ours` to do, and once this is [owned](Self::own).
    pub(super) fn adopt(addr: &ListenAddr, socket: OwnedFd, is_ours: bool) -> Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true).context("the admin side")?;
        let entrance = match addr {
            ListenAddr::Tcp(_) => Entrance::Tcp(socket.into()),
            ListenAddr::Unix(_) => Entrance::Unix(socket.into()),
        };
        Ok(Self::new(addr, entrance, is_ours))
    }

    fn new(wanted: &ListenAddr, entrance: Entrance, is_ours: bool) -> Self {
        let (url, file) = match (wanted, &entrance) {
            (ListenAddr::Unix(path), _) => {
                (format!("unix:{}", path.display()), Some(SocketFile::at(path.clone())))
            }
            (ListenAddr::Tcp(addr), entrance) => {
                let bound =
                    if let Entrance::Tcp(listener) = entrance { listener.local_addr().ok() } else { None };
                let local = bound.unwrap_or(*addr);
                warn_of_plain_text(local);
                (format!("http://{local}"), None)
            }
        };
        Self { socket: Arc::new(entrance), wanted: wanted.clone(), url, is_ours, file }
    }

    /// The address is this process's alone from here on: of one that was taken over, the file goes with it.
    pub(crate) fn own(&mut self) {
        if let Some(file) = self.file.as_mut().filter(|_| self.is_ours) {
            file.own();
        }
    }

    /// Lets go of the address without giving it up: another process listens there, with the same socket.
    pub(crate) fn hand_over(mut self) {
        if let Some(file) = &mut self.file {
            file.disown();
        }
    }

    /// The socket, for the process that takes over.
    pub(crate) fn offer(&self) -> io::Result<Offer> {
        let socket = self.socket.as_fd().try_clone_to_owned()?;
        Ok(Offer { wanted: self.wanted.clone(), socket, is_ours: self.is_ours })
    }

    /// As people write it: `unix:PATH` or `http://ADDR`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens, if that is TCP.
    pub(crate) fn tcp_addr(&self) -> Option<SocketAddr> {
        match &*self.socket {
            Entrance::Tcp(listener) => listener.local_addr().ok(),
            Entrance::Unix(_) => None,
        }
    }

    /// Lets in who may come, until it is told to stop.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn serve(self, keys: Keys, control: Arc<dyn Control>) -> Result<Admin> {
        let socket = Arc::clone(&self.socket);
        let bell = Arc::new(Bell::new().context("the admin side")?);
        let desk = Arc::new(Desk::new(control, keys));
        let guests = Arc::new(Guests::default());
        let hall = Hall { socket, bell: Arc::clone(&bell), desk, guests: Arc::clone(&guests) };
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || hall.run());
        let thread = thread.context("the thread of the admin side")?;
        Ok(Admin { door: Some(self), bell, guests, thread: Some(thread) })
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

/// The admin side, as it serves. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    /// None once it is somebody else's.
    door: Option<Door>,
    bell: Arc<Bell>,
    guests: Arc<Guests>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Ends it: nobody else is let in, the address is given up, and who waits for nothing is sent away. What is under way
    /// may take a few seconds more.
    pub(crate) fn stop(mut self) {
        self.end();
        drop(self.door.take());
        self.guests.wait_until_gone(Instant::now() + PATIENCE);
    }

    /// Ends it, and keeps the address: who comes waits there for whoever serves next. What is under way has the same
    /// time; who has come and not asked yet is answered here, later too.
    pub(crate) fn pause(mut self) -> (Option<Door>, Late) {
        let now = Instant::now();
        self.bell.ring_kindly();
        self.end();
        self.guests.wait_until_gone(now + FIRST_WITHIN);
        self.guests.wait_until_answered(now + PATIENCE);
        (self.door.take(), Late(Arc::clone(&self.guests)))
    }

    /// Where it listens.
    pub(crate) fn door(&mut self) -> Option<&mut Door> {
        self.door.as_mut()
    }

    fn end(&mut self) {
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // One that panicked is over as well.
            let _ = thread.join();
        }
    }
}

/// Those who were still being answered when the admin side paused.
#[derive(Debug)]
pub(crate) struct Late(Arc<Guests>);

impl Late {
    /// Gives them a few seconds more: the process ends.
    pub(crate) fn wait(&self) {
        self.0.wait_until_answered(Instant::now() + PATIENCE);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the accept thread has.
struct Hall {
    socket: Arc<Entrance>,
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
                    let mut fds =
                        [PollFd::new(&*self.socket, PollFlags::IN), PollFd::new(&self.bell, PollFlags::IN)];
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
        match &*self.socket {
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
            Entrance::Unix(listener) => {
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
                guest.asks();
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
