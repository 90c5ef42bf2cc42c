//! Sockets to `host:port`, as modules ask for them: the name is looked up, then each address that the app may connect to
//! is tried in turn.
//!
//! It goes on whenever it is polled, read or written, and never by itself. How it ended is remembered: what comes after
//! is that error and nothing else. Bytes that arrived before a connection failed are given first.
//!
//! Invariant: all tries together take [`CONNECT_MAX`] at most, and each address that is left has its share of that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;

use super::network::{NameLookup, Network};
use super::resolve::LookupError;
use super::tcp::{Family, TcpSocket, TcpStream, errno};
use super::udp::UdpSocket;
use crate::clock::{MS, Nanos};

/// How long it may take until there is a connection, lookup and all tries together.
pub(crate) const CONNECT_MAX: Nanos = 10_000 * MS;
/// What each try has at least, however many addresses are left after it.
const TRY_MIN: Nanos = 2_000 * MS;
/// Addresses of a name that are tried.
const TRIES_MAX: usize = 16;

/// A name or an address, with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Address(SocketAddr),
    Name(Box<str>, u16),
}

impl Target {
    /// Takes `host:port` apart. IPv6 stands in brackets. Whether a name is one is for the resolver to say.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (host, port) = std::str::from_utf8(text).ok()?.rsplit_once(':')?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = port.parse().ok().filter(|port| *port != 0)?;
        if let Some(inside) = host.strip_prefix('[') {
            let v6: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
            // One that is mapped from IPv4 is that.
            return Some(Self::Address((IpAddr::V6(v6).to_canonical(), port).into()));
        }
        if let Ok(v4) = host.parse::<Ipv4Addr>() {
            return Some(Self::Address((v4, port).into()));
        }
        (!host.is_empty() && !host.contains(':')).then(|| Self::Name(host.into(), port))
    }
}

/// What a failed lookup is as a number.
fn lookup_errno(error: &LookupError) -> Errno {
    match error {
        LookupError::NotFound | LookupError::NoAddress => Errno::NOENT,
        LookupError::Timeout => Errno::TIMEDOUT,
        LookupError::Failed(_) => Errno::IO,
        LookupError::BadName => Errno::INVAL,
        LookupError::Busy => Errno::BUSY,
    }
}

/// What can be connected.
pub(crate) trait Peer: Sized {
    /// Begins to connect to `addr`.
    ///
    /// # Errors
    /// ACCESS: the app may not. MFILE: it has too many, or connects too often. Others are the system's.
    fn begin(network: &Arc<Network>, addr: SocketAddr) -> Result<Self, Errno>;

    /// Ready when it is connected, or can not be.
    ///
    /// # Errors
    /// Why it can not be.
    fn poll_connected(&self, cx: &Context<'_>) -> Poll<Result<(), Errno>>;
}

impl Peer for TcpStream {
    fn begin(network: &Arc<Network>, addr: SocketAddr) -> Result<Self, Errno> {
        TcpSocket::new(network, Family::of(addr))?.connect(addr)
    }

    fn poll_connected(&self, cx: &Context<'_>) -> Poll<Result<(), Errno>> {
        Self::poll_connected(self, cx)
    }
}

impl Peer for UdpSocket {
    fn begin(network: &Arc<Network>, addr: SocketAddr) -> Result<Self, Errno> {
        let socket = Self::new(network, Family::of(addr))?;
        socket.connect(addr)?;
        Ok(socket)
    }

    fn poll_connected(&self, _: &Context<'_>) -> Poll<Result<(), Errno>> {
        Poll::Ready(Ok(()))
    }
}

/// Addresses that are still to be tried.
#[derive(Debug)]
struct Tries {
    network: Arc<Network>,
    addresses: Arc<[IpAddr]>,
    next: usize,
    port: u16,
    /// When all tries are over.
    until: Nanos,
    /// How it went so far; of several the last, but that one was denied says less than how another failed.
    errno: Errno,
}

impl Tries {
    fn new(network: Arc<Network>, addresses: Arc<[IpAddr]>, port: u16, until: Nanos) -> Self {
        Self { network, addresses, next: 0, port, until, errno: Errno::ACCESS }
    }

    fn failed(&mut self, errno: Errno) {
        if errno != Errno::ACCESS {
            self.errno = errno;
        }
    }

    /// Begins the next try.
    fn next<S: Peer>(mut self) -> State<S> {
        while let Some(ip) = self.addresses.get(self.next).filter(|_| self.next < TRIES_MAX) {
            let now = self.network.hub.now();
            if now >= self.until {
                self.failed(Errno::TIMEDOUT);
                break;
            }
            self.next += 1;
            match S::begin(&self.network, SocketAddr::new(*ip, self.port)) {
                Ok(socket) => {
                    let left = self.addresses.len().min(TRIES_MAX) - self.next + 1;
                    let share = (self.until - now) / left as Nanos;
                    let until = now.saturating_add(share.max(TRY_MIN)).min(self.until);
                    return State::Trying { socket, until, tries: self };
                }
                // It would not be any better with another address.
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::CANCELED)) => return State::Failed(errno),
                Err(errno) => self.failed(errno),
            }
        }
        State::Failed(self.errno)
    }
}

#[derive(Debug)]
enum State<S> {
    Looking { name: NameLookup, port: u16, network: Arc<Network>, until: Nanos },
    Trying { socket: S, until: Nanos, tries: Tries },
    Open(S),
    Failed(Errno),
}

impl<S: Peer> State<S> {
    /// Goes on as far as it can. Where it has to wait `cx` is told when it can go on, but not of the time: see
    /// [`Connection::due`].
    fn advance(self, cx: &mut Context<'_>) -> Self {
        let mut state = self;
        loop {
            state = match state {
                Self::Looking { mut name, port, network, until } => match name.poll(cx) {
                    Poll::Ready(Ok(addresses)) => Tries::new(network, addresses, port, until).next(),
                    Poll::Ready(Err(error)) => Self::Failed(lookup_errno(&error)),
                    Poll::Pending if network.hub.now() >= until => Self::Failed(Errno::TIMEDOUT),
                    Poll::Pending => return Self::Looking { name, port, network, until },
                },
                Self::Trying { socket, until, mut tries } => match socket.poll_connected(cx) {
                    Poll::Ready(Ok(())) => Self::Open(socket),
                    Poll::Pending if tries.network.hub.now() < until => {
                        return Self::Trying { socket, until, tries };
                    }
                    polled => {
                        tries.failed(if let Poll::Ready(Err(errno)) = polled {
                            errno
                        } else {
                            Errno::TIMEDOUT
                        });
                        drop(socket);
                        tries.next()
                    }
                },
                over => return over,
            };
        }
    }
}

/// A socket to a name or an address.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    state: State<S>,
    /// How it broke after it was open. The system tells that once.
    broken: Option<Errno>,
    /// Its own side has ended.
    finished: bool,
}

impl<S: Peer> Connection<S> {
    /// Begins to connect.
    ///
    /// # Errors
    /// What can be said at once. ACCESS: the app may not. Others as for [`Self::poll`].
    pub(crate) fn new(network: &Arc<Network>, target: Target) -> Result<Self, Errno> {
        let until = network.hub.now().saturating_add(CONNECT_MAX);
        let state = match target {
            Target::Address(addr) => {
                Tries::new(Arc::clone(network), Arc::from([addr.ip()]), addr.port(), until).next()
            }
            Target::Name(name, port) => State::Looking {
                name: network.lookup(&name, Some(port))?,
                port,
                network: Arc::clone(network),
                until,
            },
        };
        match state.advance(&mut Context::from_waker(Waker::noop())) {
            State::Failed(errno) => Err(errno),
            state => Ok(Self { state, broken: None, finished: false }),
        }
    }

    /// One that is connected already.
    pub(crate) fn open(socket: S) -> Self {
        Self { state: State::Open(socket), broken: None, finished: false }
    }

    /// The socket, once it is connected.
    ///
    /// # Errors
    /// ACCESS: the app may not connect to any of the addresses. NOENT: there is no such name. BUSY, INVAL, IO: how else
    /// looking it up failed. MFILE: too many sockets or connects. TIMEDOUT and others: how the last try failed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<&S, Errno>> {
        if self.due().is_some() {
            let state = std::mem::replace(&mut self.state, State::Failed(Errno::CANCELED));
            self.state = state.advance(cx);
        }
        match &self.state {
            State::Open(socket) => Poll::Ready(Ok(socket)),
            State::Failed(errno) => Poll::Ready(Err(*errno)),
            State::Looking { .. } | State::Trying { .. } => Poll::Pending,
        }
    }

    /// The socket, if it is connected by now.
    ///
    /// # Errors
    /// AGAIN: not yet. Others as for [`Self::poll`].
    pub(crate) fn now(&mut self) -> Result<&S, Errno> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(Errno::AGAIN),
        }
    }

    /// When it is to be polled although nobody was woken. None: it is connected, or has failed.
    pub(crate) fn due(&self) -> Option<Nanos> {
        match &self.state {
            State::Looking { until, .. } | State::Trying { until, .. } => Some(*until),
            State::Open(_) | State::Failed(_) => None,
        }
    }
}

impl Connection<TcpStream> {
    /// Receives into `into`, which is not empty. 0 is the end.
    ///
    /// # Errors
    /// AGAIN: nothing yet, or not connected yet. DQUOT: the call has moved as much as it may. Others: how it failed.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let read = self.now()?.try_read(into);
        self.end_of(read)
    }

    /// As [`Self::read`], but what it gives stays to be read: see [`Self::discard`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn peek(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let peeked = self.now()?.try_peek(into);
        self.end_of(peeked)
    }

    /// Takes so many bytes that were peeked at.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn discard(&mut self, count: usize) -> Result<(), Errno> {
        let discarded = self.now()?.discard(count);
        discarded.map_err(|errno| self.note(errno))
    }

    /// Sends what it can of `bytes`.
    ///
    /// # Errors
    /// AGAIN: no room, or not connected yet. PIPE: after [`Self::finish`]. CONNRESET: the peer is gone. DQUOT: the call has
    /// moved as much as it may. Others: how it failed.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.writable()?;
        let written = self.now()?.try_write(bytes);
        written.map_err(|errno| self.note(errno))
    }

    /// Whether it makes sense to write.
    ///
    /// # Errors
    /// As [`Self::write`], but for those that only the system knows.
    pub(crate) fn writable(&mut self) -> Result<(), Errno> {
        self.now()?;
        match self.broken {
            Some(errno) => Err(errno),
            None if self.finished => Err(Errno::PIPE),
            None => Ok(()),
        }
    }

    /// Ends what is sent. The peer may go on.
    ///
    /// # Errors
    /// ALREADY: it has ended. Others as for [`Self::write`].
    pub(crate) fn finish(&mut self) -> Result<(), Errno> {
        match self.writable() {
            Err(Errno::PIPE) => return Err(Errno::ALREADY),
            writable => writable?,
        }
        let ended = self.now()?.shutdown(Shutdown::Write);
        ended.map_err(|errno| self.note(errno))?;
        self.finished = true;
        Ok(())
    }

    /// How it failed, if it has.
    pub(crate) fn fault(&mut self) -> Option<Errno> {
        if self.broken.is_some() {
            return self.broken;
        }
        let stream = match self.now() {
            Ok(stream) => stream,
            Err(errno) => return (errno != Errno::AGAIN).then_some(errno),
        };
        if stream.is_dead()
            && let Ok(Ok(Some(error))) = stream.options(|options| options.take_error())
        {
            self.note(errno(&error));
        }
        self.broken
    }

    /// What was read. Once its error has been told, the system says that a broken connection is at its end.
    fn end_of(&mut self, read: Result<usize, Errno>) -> Result<usize, Errno> {
        match (read, self.broken) {
            (Ok(0), Some(errno)) => Err(errno),
            (read, _) => read.map_err(|errno| self.note(errno)),
        }
    }

    /// Remembers an error that ends the connection, and says what it is.
    fn note(&mut self, errno: Errno) -> Errno {
        match errno {
            Errno::AGAIN | Errno::DQUOT => return errno,
            // Its own end would have been noticed before.
            Errno::PIPE | Errno::NOTCONN => self.broken.get_or_insert(Errno::CONNRESET),
            errno => self.broken.get_or_insert(errno),
        };
        self.broken.unwrap_or(errno)
    }
}

/// Addresses of a name, given one after the other.
#[derive(Debug)]
pub(crate) enum Names {
    Looking(NameLookup),
    Found(Arc<[IpAddr]>, usize),
    Failed(Errno),
}

impl Names {
    /// Begins to look a name up.
    ///
    /// # Errors
    /// What can be said at once. ACCESS: no rule of the app is about such a name.
    pub(crate) fn new(network: &Arc<Network>, name: &str) -> Result<Self, Errno> {
        let mut names = Self::Looking(network.lookup(name, None)?);
        match names.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(errno)) => Err(errno),
            _ => Ok(names),
        }
    }

    /// An address, which needs no looking up.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::Found(Arc::from([address]), 0)
    }

    /// Ready when there is something to take, or never will be.
    ///
    /// # Errors
    /// NOENT: there is no such name. TIMEDOUT, BUSY, INVAL, IO: how else it failed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        if let Self::Looking(name) = self {
            match name.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(addresses)) => *self = Self::Found(addresses, 0),
                Poll::Ready(Err(error)) => *self = Self::Failed(lookup_errno(&error)),
            }
        }
        Poll::Ready(if let Self::Failed(errno) = self { Err(*errno) } else { Ok(()) })
    }

    /// The next `count` addresses, or as many as are left: none at the end.
    ///
    /// # Errors
    /// AGAIN: not yet. Others as for [`Self::poll`].
    pub(crate) fn take(&mut self, count: usize) -> Result<&[IpAddr], Errno> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => return Err(Errno::AGAIN),
            Poll::Ready(found) => found?,
        }
        let Self::Found(addresses, next) = self else { return Ok(&[]) };
        let begin = *next;
        *next = begin.saturating_add(count).min(addresses.len());
        Ok(addresses.get(begin..*next).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::AppLimits;
    use crate::config::sockets::{Rule, SocketSettings};
    use crate::net::access::{Access, Tally};
    use crate::net::hub::tests::{hub_of, turn_for};
    use crate::net::policy::{OwnAddresses, Policy};

    #[test]
    fn targets_are_taken_apart() {
        let address = |text: &str| Some(Target::Address(text.parse().unwrap()));
        let name = |name: &str, port| Some(Target::Name(name.into(), port));
        for (text, target) in [
            ("10.0.0.5:5432", address("10.0.0.5:5432")),
            ("[2001:db8::1]:80", address("[2001:db8::1]:80")),
            ("db.example:65535", name("db.example", 65535)),
            // For the resolver to say what these are.
            ("10.0.0:1", name("10.0.0", 1)),
            ("a b:1", name("a b", 1)),
            ("", None),
            (":1", None),
            ("a", None),
            ("a:", None),
            ("a:0", None),
            ("a:-1", None),
            ("a:+1", None),
            ("a: 1", None),
            ("a:65536", None),
            ("2001:db8::1:80", None),
            ("[2001:db8::1:80", None),
            ("[a]:80", None),
            ("[fe80::1%1]:80", None),
        ] {
            assert_eq!(Target::parse(text.as_bytes()), target, "{text:?}");
        }
        assert_eq!(Target::parse(b"\xff:1"), None);
    }

    /// A loop, and a call that may connect to 127.0.0.1 and 127.0.0.2.
    struct Bench {
        poll: mio::Poll,
        network: Arc<Network>,
    }

    impl Bench {
        fn new() -> Self {
            let poll = mio::Poll::new().unwrap();
            let rules = ["127.0.0.1:*", "127.0.0.2:*"];
            let connect = rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
            let settings = SocketSettings { connect, ..SocketSettings::default() };
            let policy = Policy::new(&settings, OwnAddresses::default());
            let access =
                Access::new("app".into(), 1, policy, AppLimits::default(), Arc::new(Tally::default()));
            let network = Network::new(hub_of(&poll), access, "request".into());
            Self { poll, network }
        }

        /// The tries of a name that stands for these, as far as they go within `patience`.
        fn connect(&mut self, ips: &[&str], port: u16, patience: Nanos) -> Connection<TcpStream> {
            let addresses: Arc<[IpAddr]> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            let until = self.network.hub.now() + patience;
            let state = Tries::new(Arc::clone(&self.network), addresses, port, until).next();
            Connection { state, broken: None, finished: false }
        }

        /// How it ends: connected to whom, or why not.
        fn end(&mut self, mut connection: Connection<TcpStream>) -> Result<IpAddr, Errno> {
            loop {
                match connection.now() {
                    Ok(stream) => return Ok(stream.peer_addr().unwrap().ip()),
                    Err(Errno::AGAIN) => turn_for(&mut self.poll, &self.network.hub, 5),
                    Err(errno) => return Err(errno),
                }
            }
        }
    }

    #[test]
    fn every_address_is_tried_in_turn() {
        let mut bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let good = "127.0.0.1".parse().unwrap();
        // Denied, refused, and then somebody is there.
        for ips in
            [&["127.0.0.1"][..], &["127.0.0.3", "127.0.0.2", "127.0.0.1"], &["::1", "127.0.0.1", "127.0.0.2"]]
        {
            let connection = bench.connect(ips, port, CONNECT_MAX);
            assert_eq!(bench.end(connection), Ok(good), "{ips:?}");
        }
        // That one was denied says less than that another refused.
        for (ips, errno) in [
            (&["127.0.0.3", "::1"][..], Errno::ACCESS),
            (&["127.0.0.2", "127.0.0.3"], Errno::CONNREFUSED),
            (&["127.0.0.3", "127.0.0.2"], Errno::CONNREFUSED),
            (&[], Errno::ACCESS),
        ] {
            let connection = bench.connect(ips, port, CONNECT_MAX);
            assert_eq!(bench.end(connection), Err(errno), "{ips:?}");
        }
        let many = vec!["127.0.0.2"; TRIES_MAX];
        let connection = bench.connect(&[&many[..], &["127.0.0.1"]].concat(), port, CONNECT_MAX);
        assert_eq!(bench.end(connection), Err(Errno::CONNREFUSED), "there is an end to it");
    }

    /// A port at which connections are neither taken nor refused.
    fn stalled() -> (socket2::Socket, Vec<socket2::Socket>, u16) {
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap();
        let waiting = (0..4).map(|_| {
            let client = socket();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&addr);
            client
        });
        let waiting = waiting.collect();
        (listener, waiting, addr.as_socket().unwrap().port())
    }

    #[test]
    fn who_does_not_answer_is_waited_for_so_long() {
        let mut bench = Bench::new();
        let (_listener, _waiting, port) = stalled();
        let began = bench.network.hub.now();
        let connection = bench.connect(&["127.0.0.1"], port, 50 * MS);
        assert_eq!(connection.due(), Some(connection.due().unwrap().max(began + 50 * MS)));
        assert_eq!(bench.end(connection), Err(Errno::TIMEDOUT));
        assert!(bench.network.hub.now() >= began + 50 * MS);
        // With another address to come it is not waited for as long.
        let began = bench.network.hub.now();
        let connection = bench.connect(&["127.0.0.1", "127.0.0.2"], port, CONNECT_MAX);
        let due = connection.due().unwrap() - began;
        let half = CONNECT_MAX / 2;
        assert!((half..half + 1_000 * MS).contains(&due), "{due}");
    }

    #[test]
    fn what_is_closed_with_its_call_has_failed() {
        let mut bench = Bench::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut connection = bench.connect(&["127.0.0.1"], port, CONNECT_MAX);
        while connection.now().is_err() {
            turn_for(&mut bench.poll, &bench.network.hub, 5);
        }
        bench.network.close();
        assert_eq!(connection.read(&mut [0; 4]), Err(Errno::CONNABORTED));
        assert_eq!(connection.write(b"x"), Err(Errno::CONNABORTED));
        assert_eq!(connection.fault(), Some(Errno::CONNABORTED));
        assert!(
            Connection::<TcpStream>::new(&bench.network, Target::parse(b"127.0.0.1:1").unwrap()).is_err()
        );
    }
}
