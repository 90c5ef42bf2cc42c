//! Calls over loopback, on a loop that has nothing else to do, to servers that say what they are told.

mod bodies;
mod exchanges;
mod failures;
mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate_proto::client::ResponseHead;

use super::*;
use crate::config::AppLimits;
use crate::config::sockets::{Rule, SocketSettings};
use crate::net::access::{Access, Tally};
use crate::net::hub::Hub;
use crate::net::hub::tests::{hub_of, turn, turn_for};
use crate::net::network::Network;
use crate::net::policy::{OwnAddresses, Policy};
use crate::reactor::token::Source;

/// A loop, and a call of an app that may use loopback.
struct Bench {
    poll: mio::Poll,
    hub: Arc<Hub>,
    tally: Arc<Tally>,
    access: Arc<Access>,
    network: Arc<Network>,
}

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self::with(&["127.0.0.1:*", "localhost:*", "[::1]:*"], AppLimits::default(), Trust::default())
    }

    fn with(connect: &[&str], limits: AppLimits, trust: Trust) -> Self {
        let poll = mio::Poll::new().unwrap();
        let hub = hub_of(&poll);
        let tally = Arc::new(Tally::default());
        let settings = SocketSettings {
            connect: connect.iter().map(|rule| Rule::parse(rule).unwrap()).collect(),
            ..SocketSettings::default()
        };
        let policy = Policy::new(&settings, OwnAddresses::default());
        let access = Access::trusting("app".into(), 1, policy, limits, Arc::clone(&tally), trust);
        let network = Network::new(Arc::clone(&hub), Arc::clone(&access), "request".into());
        Self { poll, hub, tally, access, network }
    }

    /// Nothing is open, registered, kept or waited for.
    fn assert_nothing_left(&self) {
        assert_eq!((self.tally.sockets(), self.hub.sockets(), self.hub.http.len()), (0, 0, 0));
        assert_eq!(self.hub.until_next_timer(self.hub.now()), None, "a timer is left");
    }

    /// The next request of the app: what the last one had open is closed.
    fn next_request(&mut self) {
        self.network.close();
        self.network = Network::new(Arc::clone(&self.hub), Arc::clone(&self.access), "request".into());
    }

    /// Turns until something is ready. Only an event or a timer makes it so: a turn without one takes longer than this.
    fn wait<T>(&mut self, mut what: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        let mut cx = Context::from_waker(Waker::noop());
        let began = Instant::now();
        loop {
            let polled = what(&mut cx);
            assert!(began.elapsed() < Duration::from_millis(4_500), "nothing made it ready");
            if let Poll::Ready(value) = polled {
                return value;
            }
            turn(&mut self.poll, &self.hub);
        }
    }

    /// Turns until something is so that the loop does not hear of.
    fn until(&mut self, mut what: impl FnMut() -> bool) {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < Duration::from_secs(20), "it does not come to that");
            turn_for(&mut self.poll, &self.hub, 10);
        }
    }

    /// A turn that waits for nothing.
    fn glance(&mut self) {
        let mut events = mio::Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        for event in &events {
            let Source::Net(slot) = Source::of(event.token()) else { panic!("an event of another's") };
            self.hub.take_event(slot, event);
        }
        self.hub.fire_timers(self.hub.now());
    }

    fn head(&mut self, call: &Call) -> Result<u16, Failure> {
        self.wait(|cx| call.poll_head(cx))?;
        Ok(call.with_head(ResponseHead::status))
    }

    fn body(&mut self, call: &Call) -> (Vec<u8>, Result<(), Failure>) {
        let mut body = Vec::new();
        let mut part = vec![0; 10_000];
        loop {
            match call.read(&mut part) {
                Ok(Some(0)) => return (body, Ok(())),
                Ok(Some(n)) => body.extend_from_slice(&part[..n]),
                Ok(None) => self.wait(|cx| call.poll_readable(cx)),
                Err(failure) => return (body, Err(failure)),
            }
        }
    }

    fn answer(&mut self, call: &Call) -> Result<Answer, Failure> {
        let status = self.head(call)?;
        let (body, end) = self.body(call);
        end.map(|()| Answer { status, body })
    }

    fn write_all(&mut self, call: &Call, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            match call.write(bytes)? {
                0 => self.wait(|cx| call.poll_writable(cx)),
                n => bytes = &bytes[n..],
            }
        }
        Ok(())
    }

    fn get(&mut self, addr: SocketAddr) -> Result<Answer, Failure> {
        let call = send(&self.network, get(&addr.to_string()))?;
        let answer = self.answer(&call);
        call.close();
        answer
    }
}

fn get(authority: &str) -> Outgoing<'_, [Field<'static>; 0]> {
    Outgoing {
        method: "GET",
        https: false,
        authority,
        path: "/",
        fields: [],
        body: Body::Empty,
        timeouts: Timeouts::default(),
    }
}

fn short() -> Timeouts {
    Timeouts { connect: 100 * MS, first_byte: 100 * MS, between_bytes: 100 * MS }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// One connection at the server.
struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    fn accept(listener: &TcpListener) -> Self {
        let stream = listener.accept().unwrap().0;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// The head of the next request; empty at the end.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && self.stream.read_line(&mut head).unwrap() > 0 {}
        head
    }

    fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// What still comes, up to the end or a reset.
    fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    fn say(&mut self, text: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(text.as_ref()).unwrap();
    }

    /// A close that the other side sees as an error.
    fn reset(self) {
        socket2::SockRef::from(self.stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A server that does what `script` says, on a thread of its own; what it returns is for the test to look at.
fn serve<T: Send + 'static>(
    script: impl FnOnce(&TcpListener) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let (listener, addr) = listener();
    (addr, std::thread::spawn(move || script(&listener)))
}

/// A server that answers each connection's first request with these bytes, and then ends it.
fn saying(text: &'static str) -> (SocketAddr, JoinHandle<()>) {
    serve(move |listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        peer.say(text);
    })
}
