//! What this process was given by whoever started it, beside its arguments: listening sockets of a service manager
//! (sd_listen_fds(3)), or of the server that it is to follow.
//!
//! Read once, first thing in `main`, and taken out of the environment: children have no business with it. Variables and
//! descriptors are the process's, and so this is kept for the process, until its server has claimed what it wants. In a
//! process that was given nothing, or has not looked, addresses are bound anew.

use std::env;
use std::ffi::OsString;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use socket2::SockRef;

use super::handover::{Binary, Handed, Predecessor, VARIABLE, VERSION};
use crate::config::{ListenAddr, ServerSettings, TcpListen};
use crate::reactor::bound::Bound;
use crate::reactor::inherited::Inherited;

/// The first descriptor of a service manager's.
const FIRST: RawFd = 3;
/// More than this is a mistake.
const FDS_MAX: RawFd = 10_000;

static BORN: Mutex<Born> =
    Mutex::new(Born { sockets: Sockets { from_predecessor: false, left: Vec::new() }, predecessor: None });
static BINARY: OnceLock<Binary> = OnceLock::new();

/// What a process was given. Nothing, mostly.
#[derive(Debug, Default)]
struct Born {
    sockets: Sockets,
    /// The server that this one follows.
    predecessor: Option<Predecessor>,
}

/// Listening sockets that nobody has claimed yet.
#[derive(Debug, Default)]
struct Sockets {
    from_predecessor: bool,
    left: Vec<Given>,
}

#[derive(Debug)]
struct Given {
    /// For people.
    name: String,
    /// The address as the settings had it.
    wanted: Option<String>,
    is_ours: bool,
    sockets: Vec<Inherited>,
}

/// Notes what this process was given. To be called before anything else is, and by one thread alone.
///
/// # Errors
/// What was given can not be used.
pub(crate) fn record() -> Result<()> {
    let _ = BINARY.set(binary());
    let mut given = Born::default();
    let activated = [env::var("LISTEN_PID"), env::var("LISTEN_FDS"), env::var("LISTEN_FDNAMES")];
    forget(&["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]);
    let [pid, count, names] = activated.map(Result::unwrap_or_default);
    if pid.parse() == Ok(std::process::id()) {
        given.sockets = Sockets::of_service_manager(&count, &names)?;
    }
    if let Some(version) = env::var_os(VARIABLE) {
        forget(&[VARIABLE]);
        ensure!(
            version == VERSION,
            "the running server hands over in version {} and this binary takes over in version {VERSION}: stop the one \
             and start the other",
            version.display()
        );
        let control = take_control().context("standard input is no connection to the running server")?;
        let (predecessor, handed) = Predecessor::meet(control)?;
        given.sockets = Sockets::of_predecessor(handed)?;
        given.predecessor = Some(predecessor);
    }
    *born() = given;
    Ok(())
}

fn born() -> MutexGuard<'static, Born> {
    BORN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where nothing was said of addresses, a service manager's sockets are where to listen; those apart that are for
/// something else.
pub(super) fn settle(server: &mut ServerSettings, tcp: &[TcpListen]) {
    let raw: Vec<ListenAddr> =
        tcp.iter().map(|tcp| ListenAddr::Tcp(tcp.addr)).chain(server.admin.clone()).collect();
    born().sockets.settle(server, &raw);
}

/// An address to listen on: with sockets that were given, or with new ones.
///
/// # Errors
/// It can not be listened on.
pub(super) fn claim(addr: &ListenAddr, backlog: u32) -> io::Result<Bound> {
    born().sockets.claim(addr, backlog)
}

/// The socket that was given for an address, and whether its file is to be removed by whoever has it last. None: it is to
/// be bound.
pub(crate) fn take_socket(addr: &ListenAddr) -> Option<(OwnedFd, bool)> {
    born().sockets.take(addr)
}

/// Waits until the state folder is free, where another server has it that this one follows. To be called before anything in
/// it is opened.
///
/// # Errors
/// The other server does not let go of it.
pub(crate) fn claim_state() -> Result<()> {
    // Taken out meanwhile: others may ask for sockets.
    let predecessor = born().predecessor.take();
    let claimed = predecessor.as_ref().map_or(Ok(()), Predecessor::claim_state);
    born().predecessor = predecessor;
    claimed
}

/// All addresses have been claimed.
///
/// # Errors
/// The service manager has passed a socket that no address asks for: who connects there would wait for ever.
pub(super) fn finish(listen: &[ListenAddr]) -> Result<()> {
    std::mem::take(&mut born().sockets).finish(listen)
}

/// Whether another server goes on should this one not start.
pub(crate) fn follows_another() -> bool {
    born().predecessor.is_some()
}

/// This process serves: the server that it follows, if any, may go.
pub(super) fn relieve() {
    if let Some(predecessor) = born().predecessor.take() {
        predecessor.relieve();
    }
}

/// How this process was started. None: nobody has noted it.
pub(super) fn started_as() -> Option<&'static Binary> {
    BINARY.get()
}

#[allow(unsafe_code)]
fn forget(names: &[&str]) {
    for name in names.iter().filter(|name| env::var_os(name).is_some()) {
        // SAFETY: `record` is called by a process's only thread: nobody reads the environment meanwhile.
        unsafe { env::remove_var(name) };
    }
}

/// Takes the connection off standard input, which reads nothing from here on.
#[allow(unsafe_code)]
fn take_control() -> Result<OwnedFd> {
    let control = fcntl_dupfd_cloexec(io::stdin(), FIRST)?;
    ensure!(SockRef::from(&control).r#type()? == socket2::Type::SEQPACKET, "it is another kind of socket");
    let nothing = std::fs::File::open("/dev/null")?;
    // SAFETY: descriptor 0 is open, as it was just duplicated. It is not closed here, only replaced.
    let mut stdin = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(0) });
    rustix::io::dup2(&nothing, &mut stdin)?;
    Ok(control)
}

/// The program as it was called and not as it was found: a link may lead to another version by the time of an upgrade.
fn binary() -> Binary {
    let arguments: Vec<OsString> = env::args_os().collect();
    let running = env::current_exe().unwrap_or_default();
    let called = arguments.first().and_then(|name| find(Path::new(name)));
    let program = called.filter(|called| is_same_file(called, &running)).unwrap_or(running);
    Binary { program, arguments }
}

/// Where a program is that was called by this name.
fn find(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 || name.is_absolute() {
        return std::path::absolute(name).ok();
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

impl Sockets {
    /// # Errors
    /// One of them is no listening socket.
    fn of_service_manager(count: &str, names: &str) -> Result<Self> {
        let count = count.parse().ok().filter(|count| (0..=FDS_MAX).contains(count));
        let Some(count) = count else { bail!("LISTEN_FDS is no number of sockets") };
        let mut names = names.split(':');
        let mut left = Vec::new();
        for raw in FIRST..FIRST + count {
            let mut name = format!("descriptor {raw}");
            if let Some(said) = names.next().filter(|said| !said.is_empty() && *said != "unknown") {
                name = format!("{name} (`{}`)", said.escape_default());
            }
            let what = || format!("the {name} that the service manager passed can not be listened on");
            let fd = claim_fd(raw).with_context(what)?;
            let socket = Inherited::new(fd).map_err(anyhow::Error::msg).with_context(what)?;
            left.push(Given { name, wanted: None, is_ours: false, sockets: vec![socket] });
        }
        Ok(Self { from_predecessor: false, left })
    }

    fn of_predecessor(handed: Vec<Handed>) -> Result<Self> {
        let mut left = Vec::new();
        for Handed { wanted, is_ours, sockets, .. } in handed {
            let what = || format!("the running server's socket of {wanted} can not be listened on");
            let inherited: Result<Vec<_>, _> = sockets.into_iter().map(Inherited::new).collect();
            let sockets = inherited.map_err(anyhow::Error::msg).with_context(what)?;
            left.push(Given { name: wanted.clone(), wanted: Some(wanted), is_ours, sockets });
        }
        Ok(Self { from_predecessor: true, left })
    }

    /// Where nothing was said of addresses, a service manager's sockets are where to listen; those apart that `others`
    /// want. Also where the server before this one had them.
    fn settle(&self, server: &mut ServerSettings, others: &[ListenAddr]) {
        if server.listen != ServerSettings::default().listen {
            return;
        }
        let given = || self.left.iter().filter(|given| !given.is_ours).flat_map(|given| &given.sockets);
        if given().any(|socket| server.listen.iter().any(|addr| socket.is_at(addr))) {
            return;
        }
        let mut addrs: Vec<ListenAddr> = Vec::new();
        for socket in given().filter(|socket| !others.iter().any(|other| socket.is_at(other))) {
            if !addrs.contains(socket.addr()) {
                addrs.push(socket.addr().clone());
            }
        }
        if !addrs.is_empty() {
            server.listen = addrs;
        }
    }

    /// An address to listen on: with sockets that were given, or with new ones.
    ///
    /// # Errors
    /// It can not be listened on.
    fn claim(&mut self, addr: &ListenAddr, backlog: u32) -> io::Result<Bound> {
        match self.find(addr) {
            Some((sockets, is_ours)) => Bound::adopt(addr, sockets, backlog, is_ours),
            None => Bound::claim(addr, backlog),
        }
    }

    /// The socket that was given for an address, and whether its file is to be removed by whoever has it last.
    fn take(&mut self, addr: &ListenAddr) -> Option<(OwnedFd, bool)> {
        let (mut sockets, is_ours) = self.find(addr)?;
        (!sockets.is_empty()).then(|| (sockets.swap_remove(0).into(), is_ours))
    }

    /// All sockets of an address: where another server's settings had it, else where they listen there.
    fn find(&mut self, addr: &ListenAddr) -> Option<(Vec<Inherited>, bool)> {
        let text = addr.to_string();
        let wanted = self.left.iter().position(|given| given.wanted.as_ref() == Some(&text));
        let is_there = |given: &Given| given.sockets.iter().any(|socket| socket.is_at(addr));
        let number = wanted.or_else(|| self.left.iter().position(is_there))?;
        let mut found = self.left.remove(number);
        // A service manager may have several sockets at one address, for load.
        let here = found.sockets.first()?.addr().clone();
        while let Some(more) = self.left.iter().position(|given| given.sockets.iter().any(|s| s.is_at(&here)))
        {
            found.sockets.append(&mut self.left.remove(more).sockets);
        }
        Some((found.sockets, found.is_ours))
    }

    /// All addresses have been claimed.
    ///
    /// # Errors
    /// The service manager has passed a socket that no address asks for: who connects there would wait for ever.
    fn finish(self, listen: &[ListenAddr]) -> Result<()> {
        let addr =
            |given: &Given| given.sockets.first().map(|socket| socket.addr().to_string()).unwrap_or_default();
        if self.from_predecessor {
            for given in &self.left {
                // The settings have changed; what waits there is refused, as is whoever comes later.
                tracing::warn!(
                    addr = addr(given),
                    "the running server listens there, and the settings do not say so any more"
                );
            }
            return Ok(());
        }
        let Some(given) = self.left.first() else { return Ok(()) };
        let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
        bail!(
            "the {} that the service manager passed listens on {}, which is no address of this server ({}); add it to \
             `listen`, or take it out of the socket unit",
            given.name,
            addr(given),
            listen.join(", ")
        )
    }
}

/// Takes a descriptor over that this process was started with.
#[allow(unsafe_code)]
fn claim_fd(raw: RawFd) -> io::Result<OwnedFd> {
    // A number that stands for nothing is not to be taken for a descriptor.
    std::fs::read_link(format!("/proc/self/fd/{raw}"))?;
    // SAFETY: it is open, as was just seen, and nothing of this process closes it: `record` comes first.
    fcntl_setfd(unsafe { BorrowedFd::borrow_raw(raw) }, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nothing of this process has opened it: `record` comes first.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    fn given(addrs: &[&str]) -> (Vec<SocketAddr>, Sockets) {
        let listeners: Vec<_> = addrs.iter().map(|addr| TcpListener::bind(addr).unwrap()).collect();
        let addrs = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let left = listeners.into_iter().enumerate().map(|(number, listener)| Given {
            name: format!("descriptor {number}"),
            wanted: None,
            is_ours: false,
            sockets: vec![Inherited::new(listener.into()).unwrap()],
        });
        (addrs, Sockets { from_predecessor: false, left: left.collect() })
    }

    #[test]
    fn sockets_are_found_by_where_they_listen() {
        let (addrs, mut sockets) = given(&["127.0.0.1:0", "127.0.0.1:0"]);
        let bound = sockets.claim(&ListenAddr::Tcp(addrs[1]), 16).unwrap();
        assert_eq!(bound.tcp_addr(), Some(addrs[1]));
        // One that nobody gave is made.
        let other = sockets.claim(&ListenAddr::parse("127.0.0.1:0").unwrap(), 16).unwrap();
        assert!(!addrs.contains(&other.tcp_addr().unwrap()));
        let error = sockets.finish(&[ListenAddr::Tcp(addrs[1])]).unwrap_err().to_string();
        assert!(error.contains("the descriptor 0 ") && error.contains(&addrs[0].to_string()), "{error}");
        assert!(
            error.contains(&format!("({})", addrs[1])) && error.contains("add it to `listen`"),
            "{error}"
        );
    }

    #[test]
    fn without_addresses_a_service_managers_are_taken() {
        let (addrs, sockets) = given(&["127.0.0.1:0", "127.0.0.1:0"]);
        let mut server = ServerSettings::default();
        sockets.settle(&mut server, &[ListenAddr::Tcp(addrs[0])]);
        assert_eq!(server.listen, [ListenAddr::Tcp(addrs[1])]);
        let mut server =
            ServerSettings { listen: vec![ListenAddr::parse(":80").unwrap()], ..Default::default() };
        sockets.settle(&mut server, &[]);
        assert_eq!(server.listen, [ListenAddr::parse(":80").unwrap()]);

        // The server before this one had them from there, or bound them itself.
        let (addrs, mut sockets) = given(&["127.0.0.1:0", "127.0.0.1:0"]);
        sockets.from_predecessor = true;
        sockets.left[0].is_ours = true;
        let mut server = ServerSettings::default();
        sockets.settle(&mut server, &[]);
        assert_eq!(server.listen, [ListenAddr::Tcp(addrs[1])]);
    }

    #[test]
    fn a_port_of_0_is_known_again_by_the_settings_that_asked_for_it() {
        let (addrs, mut sockets) = given(&["127.0.0.1:0", "127.0.0.1:0"]);
        sockets.from_predecessor = true;
        for given in &mut sockets.left {
            given.wanted = Some("127.0.0.1:0".to_owned());
        }
        let any = ListenAddr::parse("127.0.0.1:0").unwrap();
        let claimed: Vec<_> = (0..3).map(|_| sockets.claim(&any, 16).unwrap().tcp_addr().unwrap()).collect();
        assert_eq!(claimed[..2], addrs);
        assert!(!addrs.contains(&claimed[2]));
        sockets.finish(&[any]).unwrap();
    }
}
