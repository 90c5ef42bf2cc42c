//! One connection to the admin side, driven by the thread that serves it.
//!
//! The protocol is [`Connection`]'s, as for everybody: the same parser, the same framing, the same timeouts. What is added
//! is that whoever asks here waits: for bytes, for room in the socket, for a deadline. It must never know what is asked
//! for, nor by whom.
//!
//! Invariants: every wait ends, by the connection's deadline or by its own; what has been answered is not answered again;
//! an answer that is cut off never ends cleanly.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tidegate_proto::conn::state::Send;
use tidegate_proto::conn::{After, Body, Connection, Eof, Millis, NEVER, OutBuf, Receiving, Taken, Timeout};
use tidegate_proto::error::PeerError;
use tidegate_proto::http1::encode::{ResponseFraming, ResponseHead, encode_head};
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::head::RequestHead;
use tidegate_proto::limits::Limits;
use tidegate_proto::pipe::{Pipe, Watermarks};

use super::problem::Problem;

/// Bytes that one read may bring.
const READ_BYTES: usize = 64 * 1024;
/// The longest that one wait in the kernel takes before the clock is looked at again.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What a connection may cost here. Those who command a server do it at once or not at all.
pub(super) fn limits() -> Limits {
    Limits {
        head_ms_max: 5_000,
        idle_ms_max: 30_000,
        // A module of 64 MiB on a slow line, and not for ever.
        rate_bytes_per_s_min: 4096,
        ..Limits::default()
    }
}

/// The connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// What rings when the admin side ends, and keeps ringing.
#[derive(Debug)]
pub(super) struct Bell {
    fd: OwnedFd,
    /// Whoever came and has not asked yet may still do so.
    kindly: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd, kindly: AtomicBool::new(false) })
    }

    /// Rings for all but those who have not asked for anything yet.
    pub(super) fn ring_kindly(&self) {
        self.kindly.store(true, Ordering::Release);
        self.ring();
    }

    fn spares_new(&self) -> bool {
        self.kindly.load(Ordering::Acquire)
    }

    pub(super) fn ring(&self) {
        // A counter that is full rings as well.
        let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }

    pub(super) fn is_ringing(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a step of the input came to.
enum Fed {
    /// A head is complete.
    Request,
    /// Some of a body was taken.
    Body,
    /// The body's pipe is full.
    Full,
    /// More bytes are needed, or none are wanted.
    More,
}

/// What a read brought.
enum Received {
    Bytes,
    Eof,
    Timeout(Timeout),
    /// The admin side ends.
    Stopped,
    Gone,
}

/// A connection.
pub(super) struct Wire {
    socket: OwnedFd,
    bell: Arc<Bell>,
    conn: Connection,
    limits: Limits,
    started: Instant,
    /// What was read and not taken yet.
    input: Vec<u8>,
    scratch: Vec<u8>,
    head: RequestHead,
    request: Pipe,
    trailers: Fields,
    response: Pipe,
    out: OutBuf,
    /// The rule that the request broke while its body came.
    broken: Option<PeerError>,
    gone: bool,
    /// A request has come on it.
    asked: bool,
}

impl Wire {
    /// `socket` does not block.
    pub(super) fn new(socket: OwnedFd, bell: Arc<Bell>, limits: Limits) -> Self {
        Self {
            socket,
            bell,
            conn: Connection::new(0, &limits),
            limits,
            started: Instant::now(),
            input: Vec::new(),
            scratch: vec![0; READ_BYTES],
            head: RequestHead::default(),
            request: Pipe::new(Watermarks::default()),
            trailers: Fields::default(),
            response: Pipe::new(Watermarks::default()),
            out: OutBuf::default(),
            broken: None,
            gone: false,
            asked: false,
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(NEVER)
    }

    /// Waits for a request. False: there is none, and the connection is over.
    pub(super) fn next_request(&mut self) -> bool {
        self.request.reset(Watermarks::default());
        self.response.reset(Watermarks::default());
        self.trailers.clear();
        loop {
            match self.feed() {
                Ok(Fed::Request) => {
                    if self.conn.request_ended() {
                        self.request.end();
                    }
                    self.asked = true;
                    return true;
                }
                Ok(Fed::Body | Fed::Full | Fed::More) => {}
                Err(error) => return self.refuse(error),
            }
            let spared = !self.asked && self.bell.spares_new();
            match self.receive(self.conn.is_idle() && !spared) {
                Received::Bytes => {}
                // It came while this went on, and is not to be sent away without an answer.
                Received::Stopped if !self.asked && self.bell.spares_new() => {}
                Received::Timeout(Timeout::Head) => return self.refuse(PeerError::Timeout),
                Received::Timeout(_) | Received::Eof | Received::Stopped | Received::Gone => return false,
            }
        }
    }

    /// The request's head.
    pub(super) fn head(&self) -> &RequestHead {
        &self.head
    }

    /// The length of the body, where the client says it.
    pub(super) fn declared_body(&self) -> Option<u64> {
        if self.request.is_ended() { Some(0) } else { self.conn.declared_body() }
    }

    /// Body bytes that are taken of the request; with more it is refused.
    pub(super) fn limit_body(&mut self, bytes_max: u64) {
        self.conn.limit_body(bytes_max);
    }

    /// Waits for bytes of the request's body; 0 at its end.
    pub(super) fn read_body(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.request.is_readable() || into.is_empty() {
                return Ok(self.request.read(into));
            }
            if let Some(error) = self.broken {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            let now = self.now();
            self.conn.handle_body_wanted(now, &mut self.out);
            self.flush().map_err(|Gone| io::ErrorKind::BrokenPipe)?;
            self.conn.resume_input(now);
            match self.feed() {
                Ok(Fed::Full) => self.conn.pause_input(),
                Ok(Fed::Body | Fed::Request) => {}
                Ok(Fed::More) => self.receive_body()?,
                Err(error) => self.broken = Some(error),
            }
        }
    }

    fn receive_body(&mut self) -> io::Result<()> {
        match self.receive(false) {
            Received::Bytes => {}
            Received::Timeout(_) => self.broken = Some(PeerError::Timeout),
            Received::Eof => {
                self.gone = true;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Received::Stopped | Received::Gone => {
                self.gone = true;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }

    /// The rule that the request broke while its body came, if it did.
    pub(super) fn broken(&self) -> Option<PeerError> {
        self.broken
    }

    /// True once nobody is there to be answered.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Nobody is to be answered any more.
    pub(super) fn leave(&mut self) {
        self.gone = true;
    }

    /// Looks whether the client is still there, also where bytes of it wait to be read.
    pub(super) fn peer_is_gone(&self) -> bool {
        let over = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::new(&self.socket, over)];
        poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().intersects(over)
    }

    /// Lets the client wait for its answer, which is the last of this connection. A client that is gone, and the end of the
    /// admin side, end the wait.
    pub(super) fn hold(&mut self, within: Duration) {
        self.conn.close_after();
        let until = Instant::now() + within;
        while !self.is_stopping() && !self.peer_is_gone() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let over = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
            let mut fds = [PollFd::new(&self.socket, over), PollFd::new(&self.bell, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&Timespec::try_from(left).unwrap_or_default()));
        }
    }

    /// True if the admin side ends.
    pub(super) fn is_stopping(&self) -> bool {
        self.bell.is_ringing()
    }

    /// Begins the answer. `known_len` is the length of its body where that is known.
    pub(super) fn begin(&mut self, head: &ResponseHead, known_len: Option<u64>) -> Result<(), Gone> {
        let begun = self.conn.send_head(head, known_len, &date(), None, &mut self.out);
        begun.map_err(|_| {
            self.gone = true;
            Gone
        })
    }

    /// More of the answer's body. What fits is kept until [`Self::flush`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let mut rest = bytes;
        loop {
            let taken = self.response.write(rest);
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            self.flush()?;
        }
    }

    /// The body has ended.
    pub(super) fn end(&mut self) -> Result<(), Gone> {
        self.response.end();
        self.flush()
    }

    /// The answer fails after its head.
    pub(super) fn cut(&mut self) {
        self.conn.cut();
        if self.conn.ends_with_close() {
            let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// True if nothing of an answer has been queued.
    pub(super) fn is_unanswered(&self) -> bool {
        self.conn.send() == Send::Await
    }

    /// More of the answer's body, sent as far as the client takes it now: whoever tells of work under way does not wait for
    /// who is told. What there is no room for is left out whole.
    pub(super) fn tell(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if self.response.permit() >= bytes.len() {
            self.response.write(bytes);
        }
        let sent = self.send_all(false);
        self.gone |= sent.is_err();
        sent
    }

    /// Sends all that is queued, and waits until it has left.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        let flushed = self.send_all(true);
        self.gone |= flushed.is_err();
        flushed
    }

    fn send_all(&mut self, waits: bool) -> Result<(), Gone> {
        loop {
            let mut body = Body { pipe: &mut self.response, trailers: &[] };
            self.conn.poll_transmit(&mut body, &mut self.out);
            if self.conn.is_flushed(&self.out) {
                self.conn.handle_flushed();
                return Ok(());
            }
            let slices = self.conn.slices(&self.response, &self.out).map(IoSlice::new);
            let sent = rustix::io::writev(&self.socket, &slices);
            let now = self.now();
            match sent {
                Ok(n) => {
                    let (pipe, out) = (&mut self.response, &mut self.out);
                    self.conn.handle_transmitted(n, pipe, out, now, &self.limits);
                }
                Err(Errno::AGAIN) if !waits => return Ok(()),
                Err(Errno::AGAIN) => {
                    self.conn.handle_blocked(now);
                    if self.timed_out().is_some() {
                        return Err(Gone);
                    }
                    self.wait(PollFlags::OUT, false);
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone),
            }
        }
    }

    /// The answer is complete, or cut. True: the next request may come; false: the connection is over.
    pub(super) fn finish(&mut self) -> bool {
        loop {
            if self.gone || self.flush().is_err() {
                return false;
            }
            let now = self.now();
            match self.conn.after(true, now, &self.limits) {
                After::Next => return !self.is_stopping() && self.conn.next(now, &self.limits).is_ok(),
                After::Close => return false,
                After::Linger => {
                    let _ = shutdown(&self.socket, Shutdown::Write);
                    self.conn.linger(now, &self.limits);
                }
                After::Wait => {
                    if !self.discard() {
                        return false;
                    }
                }
            }
        }
    }

    /// Throws away what still comes. False: nothing does.
    fn discard(&mut self) -> bool {
        // What is broken of a body that nobody wants is nobody's business: it ends the connection by itself.
        if matches!(self.feed(), Ok(Fed::Body | Fed::Full)) {
            return true;
        }
        match self.receive(false) {
            Received::Bytes => true,
            Received::Eof => self.conn.handle_eof(self.now(), &self.limits) == Eof::HalfClosed,
            Received::Timeout(_) | Received::Stopped | Received::Gone => false,
        }
    }

    /// The peer broke a rule: it is told which, and the connection ends.
    pub(super) fn refuse(&mut self, error: PeerError) -> bool {
        if self.conn.reject() {
            let problem = Problem::new(error.status(), "malformed", error.detail());
            self.queue(&problem);
        }
        self.finish();
        false
    }

    /// Queues an answer as a whole, and the end of the connection.
    fn queue(&mut self, problem: &Problem) {
        let body = problem.json();
        let mut head = ResponseHead::default();
        let set = head
            .set_status(problem.status)
            .and_then(|()| head.push(b"content-type", b"application/problem+json"));
        if set.is_err() {
            return;
        }
        let length = body.len() as u64;
        let (cx, out) = (*self.conn.context(), self.out.tail());
        encode_head(&head, &cx, ResponseFraming::Length(length), Some(length), true, &date(), None, out);
        if !cx.head_request {
            out.extend_from_slice(&body);
        }
    }

    /// Gives what was read to the protocol, one step of it.
    fn feed(&mut self) -> Result<Fed, PeerError> {
        let now = self.now();
        let mut to =
            Receiving { head: &mut self.head, body: &mut self.request, trailers: &mut self.trailers };
        let taken = self.conn.handle_input(&self.input, &mut to, now, &self.limits)?;
        let (n, fed) = match taken {
            Taken::Need(n) => (n, Fed::More),
            Taken::Request(n) => (n, Fed::Request),
            Taken::Body(n) | Taken::Ended(n) => (n, Fed::Body),
            Taken::Full(n) => (n, Fed::Full),
            Taken::Hold => (0, Fed::More),
            Taken::Ignore => (self.input.len(), Fed::More),
        };
        self.input.drain(..n.min(self.input.len()));
        Ok(fed)
    }

    /// Waits for bytes until the connection's deadline; also for the bell, if that matters.
    fn receive(&mut self, bell: bool) -> Received {
        loop {
            if bell && self.is_stopping() {
                return Received::Stopped;
            }
            match recv(&self.socket, &mut self.scratch[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Received::Eof,
                Ok((n, _)) => {
                    self.input.extend_from_slice(self.scratch.get(..n).unwrap_or_default());
                    return Received::Bytes;
                }
                Err(Errno::AGAIN) => {
                    if let Some(timeout) = self.timed_out() {
                        return Received::Timeout(timeout);
                    }
                    self.wait(PollFlags::IN, bell);
                }
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.gone = true;
                    return Received::Gone;
                }
            }
        }
    }

    /// What has run out by now.
    fn timed_out(&mut self) -> Option<Timeout> {
        let now = self.now();
        if self.conn.deadline(&self.limits) > now {
            return None;
        }
        self.conn.handle_timeout(now, &self.limits)
    }

    /// Waits for the socket until the connection's deadline, or until the bell rings if that matters.
    fn wait(&self, flags: PollFlags, bell: bool) {
        let left = self.conn.deadline(&self.limits).saturating_sub(self.now());
        // One more: a wait that is cut short by rounding would have to be repeated.
        let within = Duration::from_millis(left.saturating_add(1)).min(WAIT_MAX);
        let within = Timespec::try_from(within).unwrap_or_default();
        let mut fds = [PollFd::new(&self.socket, flags), PollFd::new(&self.bell, PollFlags::IN)];
        let watched = if bell { &mut fds[..] } else { &mut fds[..1] };
        // Whatever it says, the next attempt finds out.
        let _ = poll(watched, Some(&within));
    }
}

/// The time now, as a head has it.
fn date() -> Vec<u8> {
    httpdate::fmt_http_date(SystemTime::now()).into_bytes()
}
