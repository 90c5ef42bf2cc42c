//! Sockets over loopback, on a loop that has nothing else to do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;

use super::access::{Access, Tally};
use super::hub::Hub;
use super::hub::tests::{hub_of, turn};
use super::network::Network;
use super::policy::{OwnAddresses, Policy};
use super::tcp::{Family, TcpListener, TcpSocket, TcpStream};
use super::udp::UdpSocket;
use crate::config::AppLimits;
use crate::config::sockets::{Rule, SocketSettings};

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A loop, and a call of an app that may use loopback.
struct Bench {
    poll: mio::Poll,
    hub: Arc<Hub>,
    tally: Arc<Tally>,
    network: Arc<Network>,
}

fn rules(connect: &[&str], listen: &[&str]) -> SocketSettings {
    let read = |rules: &[&str], read: fn(&str) -> Rule| rules.iter().map(|rule| read(rule)).collect();
    SocketSettings {
        connect: read(connect, |rule| Rule::parse(rule).unwrap()),
        listen: read(listen, |rule| Rule::parse_listen(rule).unwrap()),
        ca: Vec::new(),
    }
}

impl Bench {
    fn new() -> Self {
        let loopback = ["127.0.0.1:*", "udp:127.0.0.1:*"];
        Self::with(&rules(&loopback, &["127.0.0.1:*", "udp:127.0.0.1:*"]), AppLimits::default())
    }

    fn with(settings: &SocketSettings, limits: AppLimits) -> Self {
        let poll = mio::Poll::new().unwrap();
        let hub = hub_of(&poll);
        let tally = Arc::new(Tally::default());
        let policy = Policy::new(settings, OwnAddresses::default());
        let access = Access::new("app".into(), 1, policy, limits, Arc::clone(&tally));
        let network = Network::new(Arc::clone(&hub), access, "request".into());
        Self { poll, hub, tally, network }
    }

    /// Turns until something is ready.
    fn wait<T>(&mut self, mut what: impl FnMut(&Context<'_>) -> Poll<T>) -> T {
        let cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(value) = what(&cx) {
                return value;
            }
            turn(&mut self.poll, &self.hub);
        }
    }

    fn connect(&mut self, addr: SocketAddr) -> Result<TcpStream, Errno> {
        let stream = TcpSocket::new(&self.network, Family::of(addr))?.connect(addr)?;
        self.wait(|cx| stream.poll_connected(cx))?;
        Ok(stream)
    }

    fn listen(&self) -> TcpListener {
        let socket = TcpSocket::new(&self.network, Family::V4).unwrap();
        socket.bind(LOOPBACK.into()).unwrap();
        socket.listen(16).unwrap()
    }

    fn read(&mut self, stream: &TcpStream, into: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match stream.try_read(into) {
                Err(Errno::AGAIN) => self.wait(|cx| stream.poll_readable(cx)),
                done => return done,
            }
        }
    }
}

fn peer() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

#[test]
fn bytes_go_both_ways_and_end() {
    let mut bench = Bench::new();
    let (listener, addr) = peer();
    let stream = bench.connect(addr).unwrap();
    let mut other = listener.accept().unwrap().0;
    assert_eq!(
        (stream.peer_addr().unwrap(), stream.local_addr().unwrap()),
        (addr, other.peer_addr().unwrap())
    );
    let mut into = [0; 16];
    assert_eq!(stream.try_read(&mut into), Err(Errno::AGAIN));
    other.write_all(b"hello").unwrap();
    assert_eq!(bench.read(&stream, &mut into), Ok(5));
    assert_eq!(stream.try_write(b"back"), Ok(4));
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.try_write(b"more"), Err(Errno::PIPE));
    let mut text = String::new();
    other.read_to_string(&mut text).unwrap();
    assert_eq!(text, "back");
    drop(other);
    assert_eq!(bench.read(&stream, &mut into), Ok(0));
    assert_eq!(bench.read(&stream, &mut into), Ok(0));
}

#[test]
fn nobody_there_is_told_and_a_reset_too() {
    let mut bench = Bench::new();
    let (listener, addr) = peer();
    let stream = bench.connect(addr).unwrap();
    let other = listener.accept().unwrap().0;
    drop(listener);
    assert_eq!(bench.connect(addr).err(), Some(Errno::CONNREFUSED));
    socket2::SockRef::from(&other).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(other);
    assert_eq!(bench.read(&stream, &mut [0; 16]), Err(Errno::CONNRESET));
}

#[test]
fn a_peer_that_does_not_read_makes_writing_wait() {
    let mut bench = Bench::new();
    let (listener, addr) = peer();
    let stream = bench.connect(addr).unwrap();
    let mut other = listener.accept().unwrap().0;
    let chunk = vec![7; 64 * 1024];
    let mut sent = 0;
    let blocked = loop {
        match stream.try_write(&chunk) {
            Ok(n) => sent += n,
            Err(errno) => break errno,
        }
    };
    assert_eq!(blocked, Errno::AGAIN);
    assert!(!stream.is_writable());
    let drained = std::thread::spawn(move || {
        let mut got = vec![0; sent];
        other.read_exact(&mut got).unwrap();
        other
    });
    bench.wait(|cx| stream.poll_writable(cx));
    assert!(stream.try_write(&chunk).is_ok());
    drop(drained.join().unwrap());
}

#[test]
fn what_is_peeked_at_stays_until_it_is_discarded() {
    let mut bench = Bench::new();
    let (listener, addr) = peer();
    let stream = bench.connect(addr).unwrap();
    let mut other = listener.accept().unwrap().0;
    other.write_all(&[b'a'; 40_000]).unwrap();
    other.write_all(b"end").unwrap();
    drop(other);
    let mut into = vec![0; 40_003];
    while !matches!(stream.try_peek(&mut into), Ok(40_003)) {
        bench.wait(|cx| stream.poll_readable(cx));
    }
    stream.discard(40_000).unwrap();
    assert_eq!(stream.try_read(&mut into), Ok(3));
    assert_eq!(&into[..3], b"end");
    assert_eq!(bench.read(&stream, &mut into), Ok(0));
}

#[test]
fn a_listener_gives_connections_and_says_when_there_is_none() {
    let mut bench = Bench::new();
    let listener = bench.listen();
    let addr = listener.local_addr().unwrap();
    assert_eq!(listener.try_accept().err(), Some(Errno::AGAIN));
    let mut client = std::net::TcpStream::connect(addr).unwrap();
    bench.wait(|cx| listener.poll_readable(cx));
    let (stream, from) = listener.try_accept().unwrap();
    assert_eq!(from, client.local_addr().unwrap());
    client.write_all(b"x").unwrap();
    assert_eq!(bench.read(&stream, &mut [0; 4]), Ok(1));
}

#[test]
fn what_no_rule_allows_is_denied() {
    let bench = Bench::with(&rules(&["127.0.0.1:9"], &["127.0.0.1:9"]), AppLimits::default());
    let socket = || TcpSocket::new(&bench.network, Family::V4).unwrap();
    assert_eq!(socket().connect("127.0.0.1:10".parse().unwrap()).err(), Some(Errno::ACCESS));
    assert_eq!(socket().bind("127.0.0.1:10".parse().unwrap()), Err(Errno::ACCESS));
    // Not bound, it would listen at any port.
    assert_eq!(socket().listen(1).err(), Some(Errno::ACCESS));
    let udp = UdpSocket::new(&bench.network, Family::V4).unwrap();
    udp.bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    // The rules are for TCP.
    assert_eq!(udp.connect("127.0.0.1:9".parse().unwrap()), Err(Errno::ACCESS));
    assert_eq!(udp.try_send(b"x", Some("127.0.0.1:9".parse().unwrap())), Err(Errno::ACCESS));
    assert_eq!(udp.bind("127.0.0.1:9".parse().unwrap()), Err(Errno::ACCESS));
}

#[test]
fn everything_is_closed_with_its_call() {
    let mut bench = Bench::new();
    let (listener, addr) = peer();
    let stream = bench.connect(addr).unwrap();
    let mut other = listener.accept().unwrap().0;
    let own = bench.listen();
    let udp = UdpSocket::new(&bench.network, Family::V4).unwrap();
    assert_eq!((bench.tally.sockets(), bench.hub.sockets()), (3, 3));
    bench.network.close();
    assert_eq!(bench.hub.sockets(), 0);
    assert_eq!(other.read(&mut [0; 4]).unwrap(), 0);
    assert_eq!(stream.try_read(&mut [0; 4]), Err(Errno::CONNABORTED));
    assert_eq!(stream.try_write(b"x"), Err(Errno::CONNABORTED));
    assert_eq!(own.try_accept().err(), Some(Errno::CONNABORTED));
    assert_eq!(udp.try_send(b"x", Some(addr)), Err(Errno::CONNABORTED));
    assert_eq!(bench.wait(|cx| stream.poll_readable(cx)), ());
    // And nothing is opened after it.
    assert_eq!(UdpSocket::new(&bench.network, Family::V4).err(), Some(Errno::CANCELED));
    drop((stream, own, udp));
    assert_eq!(bench.tally.sockets(), 0);
}

#[test]
fn limits_hold() {
    let limits = AppLimits { sockets_max: 2, connects_per_s: 2, socket_bytes_max: 6, ..AppLimits::default() };
    let mut bench = Bench::with(&rules(&["127.0.0.1:*"], &[]), limits);
    let (listener, addr) = peer();
    let first = bench.connect(addr).unwrap();
    let mut other = listener.accept().unwrap().0;
    let second = bench.connect(addr).unwrap();
    assert_eq!(bench.connect(addr).err(), Some(Errno::MFILE), "two sockets");
    drop(second);
    assert_eq!(bench.connect(addr).err(), Some(Errno::MFILE), "two connects a second");
    other.write_all(b"1234").unwrap();
    assert_eq!(bench.read(&first, &mut [0; 16]), Ok(4));
    assert_eq!(first.try_write(b"5678"), Ok(2));
    assert_eq!(first.try_write(b"78"), Err(Errno::DQUOT));
    assert_eq!(first.try_read(&mut [0; 16]), Err(Errno::DQUOT));
}

#[test]
fn datagrams_come_whole_and_only_from_whom_they_may() {
    let mut bench = Bench::with(&rules(&["udp:127.0.0.1:*"], &[]), AppLimits::default());
    let other = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let (stranger, addr) = (std::net::UdpSocket::bind("127.0.0.2:0").unwrap(), other.local_addr().unwrap());
    let udp = UdpSocket::new(&bench.network, Family::V4).unwrap();
    udp.bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    udp.try_send(b"hello", Some(addr)).unwrap();
    let mut into = [0; 16];
    let (n, from) = other.recv_from(&mut into).unwrap();
    assert_eq!(n, 5);
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, from.port()));
    stranger.send_to(b"unasked", to).unwrap();
    other.send_to(b"one", to).unwrap();
    other.send_to(b"a datagram that is longer than the buffer", to).unwrap();
    let mut recv = |into: &mut [u8]| loop {
        match udp.try_recv(into, None) {
            Err(Errno::AGAIN) => bench.wait(|cx| udp.poll_readable(cx)),
            done => return done.unwrap(),
        }
    };
    assert_eq!(recv(&mut into), (3, addr));
    assert_eq!(recv(&mut into), (16, addr), "the rest is cut off");
}

#[test]
fn a_peer_is_known_after_it_has_reset() {
    let mut bench = Bench::new();
    let listener = bench.listen();
    let addr = listener.local_addr().unwrap();
    // Once before it is accepted, and once after.
    for accepted_first in [false, true] {
        let client = std::net::TcpStream::connect(addr).unwrap();
        let from = client.local_addr().unwrap();
        socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        let mut client = Some(client).filter(|_| accepted_first);
        bench.wait(|cx| listener.poll_readable(cx));
        let (stream, peer) = listener.try_accept().unwrap();
        assert_eq!((peer, stream.peer_addr().unwrap()), (from, from));
        drop(client.take());
        assert_eq!(bench.read(&stream, &mut [0; 16]), Err(Errno::CONNRESET));
        assert_eq!(stream.peer_addr(), Ok(from));
    }
}

#[test]
fn a_fresh_udp_socket_has_nothing_to_read() {
    let mut bench = Bench::new();
    let udp = UdpSocket::new(&bench.network, Family::V4).unwrap();
    let cx = Context::from_waker(Waker::noop());
    assert!(udp.poll_readable(&cx).is_pending());
    udp.bind(LOOPBACK.into()).unwrap();
    assert!(udp.poll_readable(&cx).is_pending());
    assert!(udp.poll_writable(&cx).is_ready());
    let other = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    udp.try_send(b"hello", Some(other.local_addr().unwrap())).unwrap();
    let (_, from) = other.recv_from(&mut [0; 8]).unwrap();
    // The loop has heard of what it can do: that it can be written to is no reason to read.
    turn(&mut bench.poll, &bench.hub);
    assert!(udp.poll_readable(&cx).is_pending());
    other.send_to(b"back", from).unwrap();
    bench.wait(|cx| udp.poll_readable(cx));
    assert_eq!(udp.try_recv(&mut [0; 8], None), Ok((4, other.local_addr().unwrap())));
}

#[test]
fn a_udp_bind_that_fails_opens_no_door() {
    let mut bench = Bench::with(&rules(&["udp:127.0.0.1:*"], &["udp:127.0.0.1:*"]), AppLimits::default());
    let other = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let addr = other.local_addr().unwrap();
    let stranger = std::net::UdpSocket::bind("127.0.0.2:0").unwrap();
    let udp = UdpSocket::new(&bench.network, Family::V4).unwrap();
    assert_eq!(udp.bind(addr), Err(Errno::ADDRINUSE));
    udp.bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, udp.local_addr().unwrap().port()));
    stranger.send_to(b"unasked", to).unwrap();
    other.send_to(b"asked", to).unwrap();
    let mut into = [0; 16];
    let received = loop {
        match udp.try_recv(&mut into, None) {
            Err(Errno::AGAIN) => bench.wait(|cx| udp.poll_readable(cx)),
            done => break done,
        }
    };
    assert_eq!(received, Ok((5, addr)));
}
