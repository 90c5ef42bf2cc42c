//! The resources against real sockets, without a guest in between: the order of operations, what streams keep and lose,
//! and what is left of them when their call is over.

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
fn a_listener_goes_through_its_states_in_order() {
    let mut bench = Bench::open();
    let desk = Arc::clone(&bench.state.side.desk);
    let mut socket = bench.tcp();
    let accept = |socket: &TcpSocket| socket.accept(&desk).map(drop);
    // Fresh.
    assert_eq!(socket.finish_bind(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.finish_connect(&desk).map(drop), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.finish_listen(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.start_listen(), Err(ErrorCode::InvalidState), "it has to be bound before");
    assert_eq!(accept(&socket), Err(ErrorCode::InvalidState));
    assert_eq!(socket.local_address(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.shutdown(Shutdown::Both), Err(ErrorCode::InvalidState));
    // A bind that fails leaves it as it was.
    let (_other, taken) = listener();
    assert_eq!(socket.start_bind(taken), Err(ErrorCode::AddressInUse));
    socket.start_bind(loopback(0)).unwrap();
    // Binding.
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.start_connect(taken), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.start_listen(), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.finish_connect(&desk).map(drop), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.local_address(), Err(ErrorCode::InvalidState));
    socket.finish_bind().unwrap();
    // Bound.
    let addr = socket.local_address().unwrap();
    assert!(addr.ip() == Ipv4Addr::LOCALHOST && addr.port() != 0, "{addr}");
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::InvalidState));
    assert_eq!(socket.set_backlog(0), Err(ErrorCode::InvalidArgument));
    socket.set_backlog(u64::MAX).unwrap();
    socket.start_listen().unwrap();
    // Beginning to listen.
    assert!(!socket.is_listening());
    assert_eq!(socket.start_connect(taken), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(accept(&socket), Err(ErrorCode::InvalidState));
    socket.finish_listen().unwrap();
    // Listening.
    assert!(socket.is_listening());
    assert_eq!(socket.finish_listen(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.start_connect(taken), Err(ErrorCode::InvalidState));
    assert_eq!(socket.start_listen(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    assert_eq!(accept(&socket), Err(ErrorCode::WouldBlock));
    socket.set_backlog(7).unwrap();

    let mut client = TcpStream::connect(addr).unwrap();
    let (accepted, mut reader, _writer) = bench.until(|_| socket.accept(&desk)).unwrap();
    assert_eq!(accepted.remote_address(), Ok(client.local_addr().unwrap()));
    assert_eq!(accepted.local_address(), Ok(addr));
    assert_eq!(accept(&accepted), Err(ErrorCode::InvalidState));
    client.write_all(b"hello").unwrap();
    assert_eq!(bench.read(&mut reader, 100).unwrap(), b"hello");
    assert_eq!(accept(&socket), Err(ErrorCode::WouldBlock));
}

#[test]
fn a_client_goes_through_its_states_in_order() {
    let mut bench = Bench::open();
    let desk = Arc::clone(&bench.state.side.desk);
    let (_listener, addr) = listener();
    let mut socket = bench.tcp();
    socket.start_connect(addr).unwrap();
    assert_eq!(socket.start_connect(addr), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.finish_bind(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.set_backlog(5), Err(ErrorCode::InvalidState));
    let _streams = bench.finish_connect(&mut socket).unwrap();
    assert_eq!(socket.finish_connect(&desk).map(drop), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.remote_address(), Ok(addr));
    assert_eq!(socket.local_address().unwrap().ip(), Ipv4Addr::LOCALHOST);
    assert_eq!(socket.start_connect(addr), Err(ErrorCode::InvalidState));
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::InvalidState));
    assert_eq!(socket.start_listen(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.set_backlog(5), Err(ErrorCode::InvalidState));
    assert!(!socket.is_listening());
}

#[test]
fn a_connection_that_fails_closes_its_socket() {
    let mut bench = Bench::open();
    let (listener, addr) = listener();
    drop(listener);
    let mut socket = bench.tcp();
    socket.start_connect(addr).unwrap();
    // Who waits learns that it is over, and not how: that is for who finishes.
    while socket.poll_ready(&std::task::Context::from_waker(std::task::Waker::noop())).is_pending() {
        bench.turn();
    }
    assert_eq!(bench.finish_connect(&mut socket).map(drop), Err(ErrorCode::ConnectionRefused));
    assert_eq!(bench.finish_connect(&mut socket).map(drop), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.start_connect(addr), Err(ErrorCode::InvalidState));
    assert_eq!(socket.local_address(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.options(options::keep_alive), Err(ErrorCode::InvalidState));
    assert_eq!(bench.sockets(), 0);
}

#[test]
fn addresses_that_nobody_can_be_at_are_refused() {
    let mut bench = Bench::new(&["*:*", "127.0.0.1:*", "[::1]:*"], &["127.0.0.1:*", "[::1]:*"]);
    let table = [
        (Family::V4, "0.0.0.0:80"),
        (Family::V4, "127.0.0.1:0"),
        (Family::V4, "224.0.0.1:80"),
        (Family::V4, "255.255.255.255:80"),
        (Family::V4, "[::1]:80"),
        (Family::V6, "127.0.0.1:80"),
        (Family::V6, "[::]:80"),
        (Family::V6, "[::1]:0"),
        (Family::V6, "[::ffff:127.0.0.1]:80"),
        (Family::V6, "[::127.0.0.1]:80"),
        (Family::V6, "[ff02::1]:80"),
    ];
    for (family, text) in table {
        let addr = text.parse().unwrap();
        let mut socket = TcpSocket::new(&bench.network(), family).unwrap();
        assert_eq!(socket.start_connect(addr), Err(ErrorCode::InvalidArgument), "{text}");
        // It is as it was.
        assert_eq!(socket.finish_connect(&bench.state.side.desk).map(drop), Err(ErrorCode::NotInProgress));
        assert!(socket.options(options::keep_alive).is_ok(), "{text}");
    }
    for (family, text) in [
        (Family::V4, "224.0.0.1:80"),
        (Family::V4, "[::1]:80"),
        (Family::V6, "127.0.0.1:80"),
        (Family::V6, "[::ffff:127.0.0.1]:80"),
        (Family::V6, "[ff02::1]:80"),
    ] {
        let mut socket = TcpSocket::new(&bench.network(), family).unwrap();
        assert_eq!(socket.start_bind(text.parse().unwrap()), Err(ErrorCode::InvalidArgument), "{text}");
    }
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

/// The guest writes as much as is permitted, and then does something else.
#[test]
fn what_was_written_leaves_by_itself() {
    let mut bench = Bench::open();
    let (socket, _reader, mut writer, mut peer) = bench.connection();
    let written = bench.fill(&mut writer);
    assert!(matches!(writer.check_write(), Ok(0)));
    let reading = std::thread::spawn(move || {
        let mut all = vec![0; written];
        peer.read_exact(&mut all).unwrap();
        (peer, all)
    });
    while !reading.is_finished() {
        // Whether it is an event or the reader that comes first: both are on their way.
        bench.poll.poll(&mut mio::Events::with_capacity(1), Some(Duration::from_millis(1))).unwrap();
        drop(writer.check_write());
    }
    let (mut peer, all) = reading.join().unwrap();
    assert!(
        all.iter().enumerate().all(|(at, byte)| *byte == at as u8),
        "{written} bytes came, but not those"
    );

    // The end comes behind everything else.
    let more = bench.fill(&mut writer);
    socket.shutdown(Shutdown::Write).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
    assert!(matches!(writer.write(vec![1].into()), Err(StreamError::Closed)));
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all.len()
    });
    while !reading.is_finished() {
        turn_if_any(&mut bench);
    }
    assert_eq!(reading.join().unwrap(), more);
}

/// A turn that does not insist on an event.
fn turn_if_any(bench: &mut Bench) {
    let mut events = mio::Events::with_capacity(8);
    bench.poll.poll(&mut events, Some(Duration::from_millis(1))).unwrap();
    for event in &events {
        let crate::reactor::token::Source::Net(slot) = crate::reactor::token::Source::of(event.token())
        else {
            panic!("an event of another's")
        };
        bench.hub.take_event(slot, event);
    }
}

#[test]
fn more_than_the_permit_is_a_trap() {
    let mut bench = Bench::open();
    let (_socket, _reader, mut writer, _peer) = bench.connection();
    let permit = writer.check_write().unwrap();
    assert!(matches!(writer.write(vec![0; permit + 1].into()), Err(StreamError::Trap(_))));
    bench.fill(&mut writer);
    assert!(matches!(writer.write(vec![0].into()), Err(StreamError::Trap(_))));
    assert!(writer.write(Vec::new().into()).is_ok());
    assert!(writer.flush().is_ok());
}

#[test]
fn a_reader_comes_to_the_end_and_stays_there() {
    let mut bench = Bench::open();
    let (_socket, mut reader, _writer, mut peer) = bench.connection();
    assert!(reader.read(0).unwrap().is_empty());
    assert!(reader.read(10).unwrap().is_empty());
    peer.write_all(b"hello, world").unwrap();
    assert_eq!(bench.read(&mut reader, 5).unwrap(), b"hello");
    assert_eq!(bench.read(&mut reader, usize::MAX).unwrap(), b", world");
    peer.write_all(&vec![7; 300_000]).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let mut count = 0;
    let end = loop {
        match bench.read(&mut reader, usize::MAX) {
            Ok(bytes) => {
                assert!(bytes.len() <= 64 << 10 && bytes.iter().all(|byte| *byte == 7));
                count += bytes.len();
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(end, StreamError::Closed), "{end:?}");
    assert_eq!(count, 300_000);
    assert!(matches!(reader.read(1), Err(StreamError::Closed)));
}

#[test]
fn a_reset_is_told_once() {
    let mut bench = Bench::open();
    let (_socket, mut reader, mut writer, peer) = bench.connection();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(failure(bench.read(&mut reader, 10)), Some(ErrorCode::ConnectionReset));
    assert!(matches!(reader.read(10), Err(StreamError::Closed)));
    // The system has told it by now; what is written goes nowhere.
    writer.check_write().unwrap();
    assert_eq!(failure(writer.write(vec![1].into())), None);
    assert!(matches!(writer.check_write(), Err(StreamError::Closed)));

    let (_socket, _reader, mut writer, peer) = bench.connection();
    bench.fill(&mut writer);
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    bench.turn();
    assert_eq!(failure(writer.check_write()), Some(ErrorCode::ConnectionReset));
    assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
    assert!(matches!(writer.flush(), Err(StreamError::Closed)));
}

#[test]
fn a_writer_that_is_dropped_is_the_end_for_the_peer() {
    let mut bench = Bench::open();
    let (_socket, mut reader, mut writer, mut peer) = bench.connection();
    writer.check_write().unwrap();
    writer.write(b"all".to_vec().into()).unwrap();
    drop(writer);
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"all");
    // The other direction goes on.
    peer.write_all(b"back").unwrap();
    assert_eq!(bench.read(&mut reader, 10).unwrap(), b"back");
}

#[test]
fn a_reader_can_be_shut_by_its_own_side() {
    let mut bench = Bench::open();
    let (socket, mut reader, mut writer, mut peer) = bench.connection();
    peer.write_all(b"unread").unwrap();
    socket.shutdown(Shutdown::Read).unwrap();
    assert!(matches!(reader.read(10), Err(StreamError::Closed)));
    writer.check_write().unwrap();
    writer.write(b"still".to_vec().into()).unwrap();
    let mut five = [0; 5];
    peer.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"still");
    socket.shutdown(Shutdown::Both).unwrap();
    assert_eq!(peer.read(&mut five).unwrap(), 0);
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
fn datagrams_go_where_they_are_sent_and_come_from_there() {
    let mut bench = Bench::open();
    let [peer, stranger] = [(); 2].map(|()| std::net::UdpSocket::bind(loopback(0)).unwrap());
    let (peer_addr, stranger_addr) = (peer.local_addr().unwrap(), stranger.local_addr().unwrap());
    let mut socket = bench.udp();
    assert_eq!(socket.finish_bind(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.stream(None).map(drop), Err(ErrorCode::InvalidState));
    assert_eq!(socket.local_address(), Err(ErrorCode::InvalidState));
    socket.start_bind(loopback(0)).unwrap();
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.stream(None).map(drop), Err(ErrorCode::InvalidState));
    socket.finish_bind().unwrap();
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::InvalidState));
    let own = socket.local_address().unwrap();

    let (incoming, mut outgoing) = socket.stream(None).unwrap();
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    assert!(incoming.receive(10).unwrap().is_empty());
    let unpermitted = outgoing.send(&[datagram(b"x", Some(peer_addr))]);
    assert!(matches!(unpermitted, Err(Failure::Trap(_))), "{unpermitted:?}");
    assert!(outgoing.send(&[]).is_ok_and(|sent| sent == 0));
    let permit = outgoing.check_send().unwrap();
    assert_eq!(permit, 16);
    let both = [datagram(b"one", Some(peer_addr)), datagram(b"two", Some(stranger_addr))];
    assert_eq!(outgoing.send(&both).unwrap(), 2);
    let mut room = [0; 10];
    assert_eq!(peer.recv_from(&mut room).unwrap(), (3, own));
    assert_eq!(stranger.recv_from(&mut room).unwrap(), (3, own));
    for (bad, expected) in [
        (datagram(b"x", None), ErrorCode::InvalidArgument),
        (datagram(b"x", Some(loopback(0))), ErrorCode::InvalidArgument),
        (datagram(b"x", Some("0.0.0.0:80".parse().unwrap())), ErrorCode::InvalidArgument),
        (datagram(b"x", Some("[::1]:80".parse().unwrap())), ErrorCode::InvalidArgument),
        (datagram(&[0; 65_536], Some(peer_addr)), ErrorCode::DatagramTooLarge),
        (datagram(&[0; 65_535], Some(peer_addr)), ErrorCode::DatagramTooLarge),
    ] {
        outgoing.check_send().unwrap();
        let sent = outgoing.send(&[bad]);
        assert!(matches!(&sent, Err(Failure::Code(code)) if *code == expected), "{sent:?}: {expected:?}");
        // What goes before it goes.
        outgoing.check_send().unwrap();
        assert_eq!(outgoing.send(&[datagram(b"fine", Some(peer_addr)), datagram(b"x", None)]).unwrap(), 1);
        assert_eq!(peer.recv_from(&mut room).unwrap().0, 4);
    }

    // Both have sent something before the socket is associated with one of them.
    peer.send_to(b"early", own).unwrap();
    stranger.send_to(b"strange", own).unwrap();
    let (narrow, mut to_peer) = socket.stream(Some(peer_addr)).unwrap();
    assert_eq!(socket.remote_address(), Ok(peer_addr));
    assert_eq!(socket.local_address(), Ok(own));
    // The streams before these are over.
    assert_eq!(incoming.receive(1).map(drop), Err(ErrorCode::InvalidState));
    assert_eq!(outgoing.check_send(), Err(ErrorCode::InvalidState));
    stranger.send_to(b"stranger", own).unwrap();
    peer.send_to(b"late", own).unwrap();
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let some = narrow.receive(10).unwrap();
        if some.is_empty() {
            bench.turn();
        }
        heard.extend(some.into_iter().map(|datagram| {
            assert_eq!(SocketAddr::from(datagram.remote_address), peer_addr);
            datagram.data
        }));
    }
    assert_eq!(heard, [b"early".to_vec(), b"late".to_vec()]);
    to_peer.check_send().unwrap();
    assert_eq!(to_peer.send(&[datagram(b"plain", None), datagram(b"named", Some(peer_addr))]).unwrap(), 2);
    to_peer.check_send().unwrap();
    let other = to_peer.send(&[datagram(b"x", Some(stranger_addr))]);
    assert!(matches!(other, Err(Failure::Code(ErrorCode::InvalidArgument))), "{other:?}");
    // And back to everyone.
    let (wide, _) = socket.stream(None).unwrap();
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    stranger.send_to(b"again", own).unwrap();
    let mut heard = Vec::new();
    while heard.is_empty() {
        heard = wide.receive(10).unwrap();
        if heard.is_empty() {
            bench.turn();
        }
    }
    assert_eq!(heard[0].data, b"again");
}

#[test]
fn nobody_there_is_told_with_the_next_datagram() {
    let mut bench = Bench::open();
    let gone = std::net::UdpSocket::bind(loopback(0)).unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let mut socket = bench.udp();
    socket.start_bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    socket.finish_bind().unwrap();
    let (incoming, mut outgoing) = socket.stream(Some(addr)).unwrap();
    outgoing.check_send().unwrap();
    assert_eq!(outgoing.send(&[datagram(b"x", None)]).unwrap(), 1);
    let received = bench.until(|bench| match incoming.receive(1) {
        Ok(some) if some.is_empty() => {
            let _ = &bench;
            Err(ErrorCode::WouldBlock)
        }
        done => done.map(drop),
    });
    assert_eq!(received, Err(ErrorCode::ConnectionRefused));
}

#[test]
fn options_are_kept_within_bounds() {
    let mut bench = Bench::open();
    let (socket, ..) = bench.connection();
    assert_eq!(socket.options(options::keep_alive), Ok(false));
    socket.options(|fd| options::set_keep_alive(fd, true)).unwrap();
    assert_eq!(socket.options(options::keep_alive), Ok(true));

    let second = 1_000_000_000;
    for (given, kept) in
        [(1, second), (second, second), (90 * second, 90 * second), (u64::MAX, 32_767 * second)]
    {
        socket.options(|fd| options::set_idle_time(fd, given)).unwrap();
        socket.options(|fd| options::set_interval(fd, given)).unwrap();
        assert_eq!(socket.options(options::idle_time), Ok(kept));
        assert_eq!(socket.options(options::interval), Ok(kept));
    }
    socket.options(|fd| options::set_count(fd, u32::MAX)).unwrap();
    assert_eq!(socket.options(options::count), Ok(127));
    socket.options(|fd| options::set_hop_limit(fd, Family::V4, 42)).unwrap();
    assert_eq!(socket.options(|fd| options::hop_limit(fd, Family::V4)), Ok(42));
    for size in [10_000, u64::MAX] {
        socket.options(|fd| options::set_receive_buffer(fd, size)).unwrap();
        socket.options(|fd| options::set_send_buffer(fd, size)).unwrap();
        for kept in [socket.options(options::receive_buffer), socket.options(options::send_buffer)] {
            assert!((10_000..=1 << 20).contains(&kept.unwrap()), "{kept:?}");
        }
    }
    let zero = [
        socket.options(|fd| options::set_idle_time(fd, 0)),
        socket.options(|fd| options::set_interval(fd, 0)),
        socket.options(|fd| options::set_count(fd, 0)),
        socket.options(|fd| options::set_hop_limit(fd, Family::V4, 0)),
        socket.options(|fd| options::set_receive_buffer(fd, 0)),
        socket.options(|fd| options::set_send_buffer(fd, 0)),
    ];
    assert_eq!(zero, [Err(ErrorCode::InvalidArgument); 6]);

    let v6 = TcpSocket::new(&bench.network(), Family::V6).unwrap();
    v6.options(|fd| options::set_hop_limit(fd, Family::V6, 43)).unwrap();
    assert_eq!(v6.options(|fd| options::hop_limit(fd, Family::V6)), Ok(43));
    assert_eq!(v6.options(rustix_only_v6), Ok(true));
}

fn rustix_only_v6(fd: std::os::fd::BorrowedFd<'_>) -> Result<bool, ErrorCode> {
    rustix::net::sockopt::ipv6_v6only(fd).map_err(code)
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
