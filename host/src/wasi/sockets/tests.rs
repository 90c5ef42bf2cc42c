//! The resources against real sockets, without a guest in between: the order of operations, what streams keep and lose,
//! and what is left of them when their call is over.

mod streams;
mod tcp;
mod udp;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{InputStream as _, OutputStream as _, StreamError};

use super::bindings::wasi::sockets::ip_name_lookup::{Host as _, HostResolveAddressStream as _};
use super::bindings::wasi::sockets::network::{ErrorCode, Host as _, IpAddress, IpAddressFamily};
use super::bindings::wasi::sockets::tcp_create_socket::Host as _;
use super::bindings::wasi::sockets::udp::OutgoingDatagram;
use super::errors::{Failure, accept_code, code, code_of, connect_code, lookup_code};
use super::network::NetworkHandle;
use super::options;
use super::streams::{Reader, Writer};
use super::tcp::TcpSocket;
use super::udp::UdpSocket;
use crate::config::sockets::{Rule, SocketSettings};
use crate::guest::component::ComponentState;
use crate::guest::cost::{CALL, opened};
use crate::guest::state::Outside;
use crate::net::hub::Hub;
use crate::net::hub::tests::{hub_of, turn};
use crate::net::network::Network;
use crate::net::resolve::LookupError;
use crate::net::tcp::Family;
use crate::wasi::Wasi;
use crate::wasi_http::tests::state_in;

const LOOPBACK: &str = "127.0.0.1:*";

/// A call with its loop.
struct Bench {
    poll: mio::Poll,
    hub: Arc<Hub>,
    state: ComponentState,
}

impl Bench {
    fn new(connect: &[&str], listen: &[&str]) -> Self {
        let settings = SocketSettings {
            connect: connect.iter().map(|rule| Rule::parse(rule).unwrap()).collect(),
            listen: listen.iter().map(|rule| Rule::parse_listen(rule).unwrap()).collect(),
            ..SocketSettings::default()
        };
        let poll = mio::Poll::new().unwrap();
        let hub = hub_of(&poll);
        let state = state_in(64, Outside::with(Arc::clone(&hub), &settings));
        Self { poll, hub, state }
    }

    /// One that may do anything on this machine.
    fn open() -> Self {
        let both = [LOOPBACK, "udp:127.0.0.1:*"];
        Self::new(&both, &both)
    }

    fn network(&mut self) -> Arc<Network> {
        Arc::clone(self.state.network())
    }

    fn tcp(&mut self) -> TcpSocket {
        TcpSocket::new(self.state.network(), Family::V4).unwrap()
    }

    fn udp(&mut self) -> UdpSocket {
        UdpSocket::new(self.state.network(), Family::V4).unwrap()
    }

    fn sockets(&mut self) -> u32 {
        self.state.network().access.tally.sockets()
    }

    /// The loop takes a turn, once something has happened.
    fn turn(&mut self) {
        turn(&mut self.poll, &self.hub);
    }

    /// Turns until it is done.
    fn until<T>(&mut self, mut step: impl FnMut(&mut Self) -> Result<T, ErrorCode>) -> Result<T, ErrorCode> {
        loop {
            match step(self) {
                Err(ErrorCode::WouldBlock) => self.turn(),
                done => return done,
            }
        }
    }

    fn finish_connect(&mut self, socket: &mut TcpSocket) -> Result<(Reader, Writer), ErrorCode> {
        self.until(|bench| socket.finish_connect(&bench.state.side.desk))
    }

    /// A connection, and its other end.
    fn connection(&mut self) -> (TcpSocket, Reader, Writer, TcpStream) {
        let (listener, addr) = listener();
        let mut socket = self.tcp();
        socket.start_connect(addr).unwrap();
        let (reader, writer) = self.finish_connect(&mut socket).unwrap();
        let peer = listener.accept().unwrap().0;
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (socket, reader, writer, peer)
    }

    /// Reads until there is something, or the end.
    fn read(&mut self, reader: &mut Reader, size: usize) -> Result<Vec<u8>, StreamError> {
        loop {
            let bytes = reader.read(size)?;
            if !bytes.is_empty() {
                return Ok(bytes.to_vec());
            }
            self.turn();
        }
    }

    /// Writes until nothing more is permitted: how much that was.
    fn fill(&mut self, writer: &mut Writer) -> usize {
        let mut written = 0;
        loop {
            let permit = writer.check_write().unwrap();
            if permit == 0 {
                return written;
            }
            let bytes: Vec<u8> = (written..written + permit).map(|at| at as u8).collect();
            writer.write(bytes.into()).unwrap();
            written += permit;
        }
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What a stream's error stands for, if it is one that failed.
fn failure<T: std::fmt::Debug>(result: Result<T, StreamError>) -> Option<ErrorCode> {
    match result {
        Err(StreamError::LastOperationFailed(error)) => code_of(&error),
        Err(StreamError::Closed) => None,
        other => panic!("{other:?}"),
    }
}

fn datagram(data: &[u8], to: Option<SocketAddr>) -> OutgoingDatagram {
    OutgoingDatagram { data: data.to_vec(), remote_address: to.map(Into::into) }
}

#[test]
fn what_no_rule_allows_is_denied() {
    let (_listener, addr) = listener();
    let mut bench = Bench::new(&["127.0.0.1:1"], &["127.0.0.1:1"]);
    let mut socket = bench.tcp();
    assert_eq!(socket.start_bind(loopback(2)), Err(ErrorCode::AccessDenied));
    assert_eq!(socket.start_connect(addr), Err(ErrorCode::AccessDenied));
    assert_eq!(socket.start_connect(addr), Err(ErrorCode::InvalidState), "it is closed by that");
    assert_eq!(bench.sockets(), 0);
    let mut socket = bench.udp();
    assert_eq!(socket.start_bind(loopback(2)), Err(ErrorCode::AccessDenied));
    socket.start_bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    socket.finish_bind().unwrap();
    assert_eq!(socket.stream(Some(addr)).map(drop), Err(ErrorCode::AccessDenied));
    let (_, mut outgoing) = socket.stream(None).unwrap();
    assert!(outgoing.check_send().unwrap() > 0);
    let sent = outgoing.send(&[datagram(b"x", Some(addr))]);
    assert!(matches!(sent, Err(Failure::Code(ErrorCode::AccessDenied))), "{sent:?}");
}

#[test]
fn without_any_rule_there_is_no_socket() {
    let mut bench = Bench::new(&[], &[]);
    let mut socket = bench.tcp();
    let anywhere = (Ipv4Addr::UNSPECIFIED, 0).into();
    assert_eq!(socket.start_bind(anywhere), Err(ErrorCode::AccessDenied));
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::AccessDenied));
    assert_eq!(socket.start_listen(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.options(options::keep_alive), Err(ErrorCode::AccessDenied));
    assert_eq!(socket.start_connect(loopback(0)), Err(ErrorCode::InvalidArgument));
    assert_eq!(socket.start_connect(loopback(1)), Err(ErrorCode::AccessDenied));
    assert_eq!(socket.start_connect(loopback(1)), Err(ErrorCode::InvalidState));
    let mut socket = bench.udp();
    assert_eq!(socket.start_bind(anywhere), Err(ErrorCode::AccessDenied));
    assert_eq!(socket.start_bind(loopback(1)), Err(ErrorCode::AccessDenied));
    assert_eq!(socket.stream(Some(loopback(1))).map(drop), Err(ErrorCode::InvalidState), "it is not bound");
    assert_eq!(bench.sockets(), 0);
}

/// What a reused component kept of an earlier call.
#[test]
fn nothing_outlives_its_call() {
    let mut bench = Bench::open();
    let (socket, mut reader, mut writer, mut peer) = bench.connection();
    let mut fresh = bench.tcp();
    let mut listening = bench.tcp();
    listening.start_bind(loopback(0)).unwrap();
    listening.finish_bind().unwrap();
    listening.start_listen().unwrap();
    listening.finish_listen().unwrap();
    let mut datagrams = bench.udp();
    datagrams.start_bind(loopback(0)).unwrap();
    datagrams.finish_bind().unwrap();
    let (incoming, mut outgoing) = datagrams.stream(None).unwrap();
    let addr = listening.local_address().unwrap();
    peer.write_all(b"secret").unwrap();
    let desk = Arc::clone(&bench.state.side.desk);
    let network = bench.network();
    network.close();

    assert_eq!(bench.hub.sockets(), 0);
    assert_eq!(peer.read(&mut [0; 1]).unwrap_or(0), 0, "the peer sees that it is over");
    assert!(TcpStream::connect(addr).is_err());
    assert_eq!(failure(reader.read(10)), Some(ErrorCode::ConnectionAborted));
    assert!(matches!(reader.read(10), Err(StreamError::Closed)));
    assert!(writer.check_write().is_ok(), "to be ready is to be able to hear of it");
    assert_eq!(failure(writer.write(vec![1].into())), Some(ErrorCode::ConnectionAborted));
    assert_eq!(socket.remote_address(), Err(ErrorCode::ConnectionAborted));
    assert_eq!(socket.shutdown(Shutdown::Both), Ok(()));
    assert_eq!(fresh.start_connect(addr), Err(ErrorCode::InvalidState));
    assert_eq!(listening.accept(&desk).map(drop), Err(ErrorCode::ConnectionAborted));
    assert_eq!(incoming.receive(1).map(drop), Err(ErrorCode::ConnectionAborted));
    outgoing.check_send().unwrap();
    let sent = outgoing.send(&[datagram(b"x", Some(addr))]);
    assert!(matches!(sent, Err(Failure::Code(ErrorCode::ConnectionAborted))), "{sent:?}");
    // No more can be opened through it, and what there was counts for nothing once it is dropped.
    assert_eq!(TcpSocket::new(&network, Family::V4).map(drop), Err(Errno::CANCELED));
    drop((socket, reader, writer, listening, datagrams, incoming, outgoing));
    assert_eq!(bench.sockets(), 0, "although the fresh one is still there");
}

#[test]
fn names_are_looked_up_if_a_rule_has_them() {
    let mut bench = Bench::new(&["localhost:80"], &[]);
    let mut wasi = Wasi { state: &mut bench.state };
    let network = wasi.state.side.table.push(NetworkHandle).unwrap();
    let mut resolve =
        |name: &str| match wasi.resolve_addresses(Resource::new_borrow(network.rep()), name.to_owned()) {
            Ok(stream) => {
                let mut found = Vec::new();
                while let Some(ip) = wasi.resolve_next_address(Resource::new_borrow(stream.rep())).unwrap() {
                    found.push(ip);
                }
                assert!(matches!(wasi.resolve_next_address(stream), Ok(None)));
                Ok(found)
            }
            Err(Failure::Code(code)) => Err(code),
            Err(Failure::Trap(error)) => panic!("{error}"),
        };
    assert!(matches!(
        resolve("LocalHost").as_deref(),
        Ok([IpAddress::Ipv4((127, 0, 0, 1)), IpAddress::Ipv6((0, 0, 0, 0, 0, 0, 0, 1))])
    ));
    assert!(matches!(resolve("::ffff:10.0.0.1").as_deref(), Ok([IpAddress::Ipv4((10, 0, 0, 1))])));
    assert!(matches!(resolve("db.example"), Err(ErrorCode::AccessDenied)));
    for bad in ["", "a b", "127.1", "-a.example", &"a".repeat(5_000)] {
        assert!(matches!(resolve(bad), Err(ErrorCode::InvalidArgument)), "{bad}");
    }
    let mut bench = Bench::new(&[], &[]);
    let mut wasi = Wasi { state: &mut bench.state };
    let network = wasi.state.side.table.push(NetworkHandle).unwrap();
    for name in ["localhost", "127.0.0.1", "a b"] {
        let looked_up = wasi.resolve_addresses(Resource::new_borrow(network.rep()), name.to_owned());
        assert!(
            matches!(looked_up, Err(Failure::Code(ErrorCode::PermanentResolverFailure))),
            "{name}: {looked_up:?}"
        );
    }
}

#[test]
fn every_call_is_paid_for() {
    let mut bench = Bench::open();
    let mut wasi = Wasi { state: &mut bench.state };
    let spent = |wasi: &Wasi<'_>| wasi.state.exchange.slice.spent();
    let before = spent(&wasi);
    let socket = wasi.create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    assert!(spent(&wasi) - before >= opened());
    let before = spent(&wasi);
    let error = wasi.state.side.table.push(wasmtime::Error::from(Errno::CONNRESET)).unwrap();
    assert_eq!(
        wasi.network_error_code(Resource::new_borrow(error.rep())).unwrap(),
        Some(ErrorCode::ConnectionReset)
    );
    assert!(spent(&wasi) - before >= CALL);
    let other = wasi.state.side.table.push(wasmtime::format_err!("of a file")).unwrap();
    assert_eq!(wasi.network_error_code(other).unwrap(), None);
    let before = spent(&wasi);
    super::bindings::wasi::sockets::tcp::HostTcpSocket::drop(&mut wasi, socket).unwrap();
    assert!(spent(&wasi) - before >= CALL);
    assert_eq!(bench.sockets(), 0);
}

#[test]
fn errors_have_the_names_of_the_standard() {
    let table = [
        (Errno::AGAIN, ErrorCode::WouldBlock),
        (Errno::ACCESS, ErrorCode::AccessDenied),
        (Errno::DQUOT, ErrorCode::AccessDenied),
        (Errno::MFILE, ErrorCode::NewSocketLimit),
        (Errno::CONNREFUSED, ErrorCode::ConnectionRefused),
        (Errno::CONNRESET, ErrorCode::ConnectionReset),
        (Errno::CONNABORTED, ErrorCode::ConnectionAborted),
        (Errno::TIMEDOUT, ErrorCode::Timeout),
        (Errno::HOSTUNREACH, ErrorCode::RemoteUnreachable),
        (Errno::NETUNREACH, ErrorCode::RemoteUnreachable),
        (Errno::ADDRINUSE, ErrorCode::AddressInUse),
        (Errno::ADDRNOTAVAIL, ErrorCode::AddressNotBindable),
        (Errno::MSGSIZE, ErrorCode::DatagramTooLarge),
        (Errno::NOTCONN, ErrorCode::InvalidState),
        (Errno::NOBUFS, ErrorCode::OutOfMemory),
        (Errno::OPNOTSUPP, ErrorCode::NotSupported),
        (Errno::IO, ErrorCode::Unknown),
    ];
    for (errno, expected) in table {
        assert_eq!(code(errno), expected, "{errno}");
    }
    assert_eq!(connect_code(Errno::ADDRNOTAVAIL), ErrorCode::AddressInUse);
    for of_the_connection in [Errno::CONNRESET, Errno::HOSTUNREACH, Errno::PROTO, Errno::OPNOTSUPP] {
        assert_eq!(accept_code(of_the_connection), ErrorCode::ConnectionAborted);
    }
    assert_eq!(accept_code(Errno::AGAIN), ErrorCode::WouldBlock);
    assert_eq!(accept_code(Errno::MFILE), ErrorCode::NewSocketLimit);
    let names = [
        (LookupError::NotFound, ErrorCode::NameUnresolvable),
        (LookupError::NoAddress, ErrorCode::NameUnresolvable),
        (LookupError::Timeout, ErrorCode::TemporaryResolverFailure),
        (LookupError::Busy, ErrorCode::TemporaryResolverFailure),
        (LookupError::Failed("refused".into()), ErrorCode::PermanentResolverFailure),
        (LookupError::BadName, ErrorCode::InvalidArgument),
    ];
    for (error, expected) in names {
        assert_eq!(lookup_code(&error), expected, "{error}");
    }
}
