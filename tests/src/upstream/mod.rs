//! Upstreams over raw sockets: good ones, and bad ones ([`Bad`]) that do what no library would let them do.
//!
//! A thread for each connection runs the upstream's behaviour, a closure over a [`Peer`]. Everything that came in is kept for
//! the test to look at. Dropping the upstream ends every connection, and waits for the threads.

mod bad;
mod peer;
mod request;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustls::ServerConfig;

pub use self::bad::Bad;
pub use self::peer::{Gone, Peer};
pub use self::request::{Body, Request};
use crate::wait::PATIENCE;

/// Connections that may be open at once; each is a thread.
const OPEN_MAX: usize = 2_000;

/// What an upstream does with a connection.
type Behaviour = dyn Fn(&mut Peer) -> io::Result<()> + Send + Sync;

/// A running upstream.
pub struct Upstream {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the upstream's threads and the test share.
#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By the number of the connection.
    open: HashMap<usize, TcpStream>,
    accepted: usize,
    requests: Vec<Request>,
    gone: Vec<Gone>,
    /// TLS handshakes that failed: the client did not like what it was shown.
    handshakes_failed: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

impl Upstream {
    /// Runs `behave` for each connection. It ends with the closure, in order; what it fails with ends it too, and is
    /// expected: clients go away.
    pub fn serve(behave: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(behave))
    }

    /// The same over TLS, with these settings.
    pub fn serve_tls(
        settings: Arc<ServerConfig>,
        behave: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(settings), Arc::new(behave))
    }

    /// Answers every request with 200 and `body`, and keeps the connection.
    pub fn answering(body: &'static str) -> Self {
        Self::serve(move |peer| peer.answer_all(body))
    }

    /// The same over TLS.
    pub fn answering_tls(settings: Arc<ServerConfig>, body: &'static str) -> Self {
        Self::serve_tls(settings, move |peer| peer.answer_all(body))
    }

    /// Sends every request's body back as it comes, in chunks, with its trailers.
    pub fn echo() -> Self {
        Self::serve(Peer::echo_all)
    }

    /// One of the bad ones.
    pub fn bad(bad: Bad) -> Self {
        Self::serve(move |peer| bad.behave(peer))
    }

    fn start(settings: Option<Arc<ServerConfig>>, behave: Arc<Behaviour>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the upstream");
        let addr = listener.local_addr().expect("the upstream's address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, settings.as_ref(), &behave, &accepting));
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that were made so far, those that ended too.
    pub fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.state().open.len()
    }

    /// Requests whose head came so far, in that order; their bodies as far as the behaviour has read them.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// How clients went away, as far as a behaviour waited for that ([`Peer::wait_for_end`]).
    pub fn gone(&self) -> Vec<Gone> {
        self.shared.state().gone.clone()
    }

    /// TLS handshakes that the client broke off.
    pub fn handshakes_failed(&self) -> usize {
        self.shared.state().handshakes_failed
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize) {
        self.wait(&format!("{count} requests"), |state| state.requests.len() >= count);
    }

    /// Waits until nobody is connected any more.
    #[track_caller]
    pub fn wait_until_left(&self) {
        self.wait("everybody left", |state| state.open.is_empty());
    }

    /// Waits until a client that a behaviour waited for has gone away, and says how.
    #[track_caller]
    pub fn wait_until_gone(&self) -> Gone {
        self.wait("the client went away", |state| !state.gone.is_empty());
        self.gone()[0]
    }

    #[track_caller]
    fn wait(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state();
        while !holds(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited {PATIENCE:?} in vain: {what}, at the upstream: {} accepted, {} open, {} requests",
                state.accepted,
                state.open.len(),
                state.requests.len()
            );
            let woken = self.shared.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    settings: Option<&Arc<ServerConfig>>,
    behave: &Arc<Behaviour>,
    shared: &Arc<Shared>,
) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let accepted = listener.accept();
        if shared.stopped.load(Ordering::SeqCst) {
            break;
        }
        let Ok((stream, _)) = accepted else { continue };
        let Ok(handle) = stream.try_clone() else { continue };
        let mut number = 0;
        shared.change(|state| {
            number = state.accepted;
            state.accepted += 1;
            state.open.insert(number, handle);
        });
        threads.retain(|thread| !thread.is_finished());
        assert!(threads.len() < OPEN_MAX, "an upstream of a test has {OPEN_MAX} connections");
        let (settings, behave, shared) = (settings.cloned(), Arc::clone(behave), Arc::clone(shared));
        threads.push(thread::spawn(move || {
            match Peer::new(stream, number, settings, Arc::clone(&shared)) {
                Ok(mut peer) => {
                    let _ = behave(&mut peer);
                }
                Err(_) => shared.change(|state| state.handshakes_failed += 1),
            }
            shared.change(|state| {
                state.open.remove(&number);
            });
        }));
    }
    for stream in shared.state().open.values() {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Addr, Client, End, check};

    fn client(upstream: &Upstream) -> Client {
        Client::connect(&Addr::Tcp(upstream.addr())).unwrap()
    }

    #[test]
    fn what_came_is_kept_by_connection() {
        let upstream = Upstream::answering("hello");
        let (mut one, mut other) = (client(&upstream), client(&upstream));
        check::ok(&one.post("a", "/first", b"body").unwrap(), b"hello");
        check::ok(&other.get("b", "/second").unwrap(), b"hello");
        check::ok(&one.get("a", "/third").unwrap(), b"hello");
        let requests = upstream.requests();
        let seen: Vec<_> = requests.iter().map(|request| request.target.as_str()).collect();
        assert_eq!(seen, ["/first", "/second", "/third"]);
        assert_eq!((requests[0].method.as_str(), requests[0].body.as_slice()), ("POST", &b"body"[..]));
        assert_eq!(requests[1].field("host"), Some("b"));
        assert_eq!(requests[0].connection, requests[2].connection);
        assert_eq!((upstream.accepted(), upstream.open()), (2, 2));
        drop((one, other));
        upstream.wait_until_left();
    }

    #[test]
    fn an_echo_with_trailers() {
        let upstream = Upstream::echo();
        let mut client = client(&upstream);
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .unwrap();
        client.send("6\r\n world\r\n0\r\nx-echo: yes\r\n\r\n").unwrap();
        let response = client.response().unwrap();
        check::ok(&response, b"hello world");
        assert_eq!(response.trailers, [("x-echo".to_owned(), "yes".to_owned())]);
    }

    #[test]
    fn bad_ones_do_what_they_say() {
        let ask = |bad| {
            let upstream = Upstream::bad(bad);
            (client(&upstream).get("a", "/"), upstream)
        };
        let (cut, _) = ask(Bad::ClosesInBody);
        assert!(matches!(cut.unwrap().end, End::Cut(_)));
        let (reset, _) = ask(Bad::ResetsBeforeHead);
        assert_eq!(reset.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let (closed, _) = ask(Bad::ClosesBeforeHead);
        assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (slow, _) = ask(Bad::Slow);
        check::ok(&slow.unwrap(), &[b's'; 20]);
        // It hangs until its client has gone; dropping one that nobody leaves ends it as well.
        let upstream = Upstream::bad(Bad::HangsBeforeHead);
        let (mut one, mut other) = (client(&upstream), client(&upstream));
        one.send_get("a", "/").unwrap();
        other.send_get("a", "/").unwrap();
        upstream.wait_for_requests(2);
        drop(one);
        assert_eq!(upstream.wait_until_gone(), Gone::Closed);
        drop(upstream);
        assert!(other.rest().unwrap().is_empty());
    }
}
