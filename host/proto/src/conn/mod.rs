//! One connection: requests out of bytes, bytes out of responses, and the deadlines of both.
//!
//! Input goes in through [`Connection::handle_input`], time through [`Connection::handle_timeout`]; what to send comes
//! out of [`Connection::poll_transmit`], the next deadline out of [`Connection::deadline`]. The connection never sees
//! a socket or a guest. It holds no buffer of its own, so that an idle one costs next to nothing: whoever drives it
//! lends the request's head, the pipes and an [`OutBuf`] while a request is in progress.
//!
//! Invariants: one state per direction, changed only through `state`; exactly one final head per request; a failure
//! after it never ends the body cleanly; a state that waits has a deadline, and leaving it clears the deadline.

mod input;
mod meter;
mod out;
pub mod state;
mod transmit;

pub use self::input::{Eof, Receiving, Taken};
pub use self::meter::{Millis, NEVER, Timeout};
pub use self::out::OutBuf;
pub use self::transmit::Body;

use self::meter::{Meter, Wait};
use self::state::{Impossible, Recv, RecvEvent, Send, SendEvent};
use crate::http1::body::BodyDecoder;
use crate::http1::encode::{ResponseContext, ResponseFraming};
use crate::http1::framing::BodyFraming;
use crate::http1::head::{HeadScanner, Version};
use crate::limits::Limits;

/// Whether the connection outlives the request in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persist {
    Keep,
    Close,
}

/// Where `Expect: 100-continue` stands (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Nothing,
    Awaited,
}

/// What to do now that the answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing yet: bytes are queued, or the rest of the request is being discarded.
    Wait,
    /// [`Connection::next`]: the next request may begin.
    Next,
    /// Close: the peer has nothing more to say, or nothing that would be lost.
    Close,
    /// Close in steps: end the sending side, discard what still comes, then close.
    Linger,
}

/// How to answer what could not be read.
const UNREAD: ResponseContext =
    ResponseContext { head_request: false, version: Version::Http11, keep_alive: true };

/// A connection's protocol state.
#[derive(Debug)]
pub struct Connection {
    recv: Recv,
    send: Send,
    persist: Persist,
    expect: Expect,
    scanner: HeadScanner,
    decoder: BodyDecoder,
    cx: ResponseContext,
    framing: ResponseFraming,
    /// Bytes of the response pipe that follow the `OutBuf` directly.
    credit: usize,
    /// What follows them.
    tail: &'static [u8],
    body_left_max: u64,
    drain_bytes_max: u64,
    recv_wait: Wait,
    send_wait: Wait,
}

impl Connection {
    /// A connection that was accepted at `now`.
    #[must_use]
    pub fn new(now: Millis, limits: &Limits) -> Self {
        Self {
            recv: Recv::Idle,
            send: Send::Idle,
            persist: Persist::Keep,
            expect: Expect::Nothing,
            scanner: HeadScanner::default(),
            decoder: BodyDecoder::new(BodyFraming::None),
            cx: UNREAD,
            framing: ResponseFraming::None,
            credit: 0,
            tail: &[],
            body_left_max: u64::MAX,
            drain_bytes_max: limits.drain_bytes_max,
            recv_wait: Wait::Until(now.saturating_add(limits.head_ms_max), Timeout::Head),
            send_wait: Wait::Nothing,
        }
    }

    /// The receiving side's state.
    #[must_use]
    pub const fn recv(&self) -> Recv {
        self.recv
    }

    /// The sending side's state.
    #[must_use]
    pub const fn send(&self) -> Send {
        self.send
    }

    /// How the request in progress wants to be answered.
    #[must_use]
    pub const fn context(&self) -> &ResponseContext {
        &self.cx
    }

    /// True between requests.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.recv == Recv::Idle && self.send == Send::Idle
    }

    /// The connection ends with the answer in progress.
    pub const fn close_after(&mut self) {
        self.persist = Persist::Close;
    }

    /// True if the connection ends with the answer in progress.
    #[must_use]
    pub fn closes_after(&self) -> bool {
        self.persist == Persist::Close
    }

    /// Bytes of body that the request may still bring before it is refused with 413: at once by
    /// [`Self::handle_input`] where more are declared, else with the first byte too many.
    pub const fn limit_body(&mut self, bytes_max: u64) {
        self.body_left_max = bytes_max;
    }

    /// The next point in time at which [`Self::handle_timeout`] wants to be called, or [`NEVER`].
    #[must_use]
    pub fn deadline(&self, limits: &Limits) -> Millis {
        self.recv_wait.deadline(limits).min(self.send_wait.deadline(limits))
    }

    /// What has run out at `now`, if anything has. If nothing has, there is a new [`Self::deadline`].
    pub fn handle_timeout(&mut self, now: Millis, limits: &Limits) -> Option<Timeout> {
        let end = self.send_wait.expire(now, limits).or_else(|| self.recv_wait.expire(now, limits))?;
        match (end, self.recv) {
            // Whoever has sent nothing yet asked for nothing that could be answered with 408.
            (Timeout::Head, Recv::Idle) => Some(Timeout::Idle),
            (Timeout::Body, Recv::Discard) => self.give_up_discarding(),
            _ => Some(end),
        }
    }

    /// The rest of a request that was answered does not come in time: an answer that is still being read is not cut
    /// for that, but then the connection ends.
    fn give_up_discarding(&mut self) -> Option<Timeout> {
        self.refuse();
        matches!(self.send_wait, Wait::Nothing).then_some(Timeout::Linger)
    }

    /// We are not willing to read the body for now: its clock stops.
    pub fn pause_input(&mut self) {
        if matches!(self.recv, Recv::Body) {
            self.recv_wait = Wait::Nothing;
        }
    }

    /// We are willing to read the body again: its clock starts afresh. Not while the client waits for 100.
    pub fn resume_input(&mut self, now: Millis) {
        let paused = matches!(self.recv_wait.kind(), None | Some(Timeout::HalfClose));
        if self.recv == Recv::Body && paused && self.expect == Expect::Nothing {
            self.recv_wait = Wait::Rate(Meter::start(now), Timeout::Body);
        }
    }

    /// What comes after the answer; `flushed` says that all of it has left ([`Self::is_flushed`]).
    ///
    /// An answer that is complete before its request has come throws the rest of that away, up to the drain limit. A
    /// connection that we end lingers (RFC 9112 section 9.6), as closing it on bytes that are on their way would
    /// reset it and might take the answer with it; a client that wanted it to end has nothing more to send.
    pub fn after(&mut self, flushed: bool, now: Millis, limits: &Limits) -> After {
        match self.send {
            Send::Cut => return After::Close,
            Send::Done => {}
            Send::Idle | Send::Await | Send::Body => return After::Wait,
        }
        if self.recv == Recv::Body {
            self.begin_discard(now, limits);
        }
        if !flushed || self.is_lingering() {
            return After::Wait;
        }
        match (self.recv, self.persist) {
            (Recv::Ended, Persist::Keep) => After::Next,
            (Recv::Ended, Persist::Close) if !self.cx.keep_alive => After::Close,
            (Recv::Closed, _) => After::Close,
            (Recv::Discard, Persist::Keep) => After::Wait,
            _ => After::Linger,
        }
    }

    /// True if the client waits for 100 (Continue) before it sends the body, and the body was not asked for yet.
    #[must_use]
    pub fn awaits_continue(&self) -> bool {
        self.expect == Expect::Awaited
    }

    fn begin_discard(&mut self, now: Millis, limits: &Limits) {
        if self.expect == Expect::Awaited || self.outgrows_drain() {
            self.persist = Persist::Close;
        }
        self.go(RecvEvent::Discard);
        self.body_left_max = limits.drain_bytes_max;
        self.recv_wait = Wait::Rate(Meter::start(now), Timeout::Body);
    }

    /// True if more is due of the body than is worth discarding.
    fn outgrows_drain(&self) -> bool {
        self.declared_body().is_some_and(|due| due > self.drain_bytes_max)
    }

    /// The length still due of a counted body that is being received, in bytes; `None` for any other.
    #[must_use]
    pub fn declared_body(&self) -> Option<u64> {
        match self.recv {
            Recv::Body | Recv::Discard => self.decoder.remaining_hint(),
            _ => None,
        }
    }

    /// The answer has left and the connection is kept: ready for the next request.
    ///
    /// # Errors
    /// [`Impossible`] unless [`Self::after`] said [`After::Next`].
    pub fn next(&mut self, now: Millis, limits: &Limits) -> Result<(), Impossible> {
        let (recv, send) = (self.recv.on(RecvEvent::Next)?, self.send.on(SendEvent::Next)?);
        (self.recv, self.send) = (recv, send);
        self.expect = Expect::Nothing;
        self.body_left_max = u64::MAX;
        self.recv_wait = Wait::Until(now.saturating_add(limits.idle_ms_max), Timeout::Idle);
        self.send_wait = Wait::Nothing;
        Ok(())
    }

    /// The sending side has been ended; what still comes is discarded until the deadline. Said again, it changes
    /// nothing: no peer prolongs its own end.
    pub fn linger(&mut self, now: Millis, limits: &Limits) {
        if self.is_lingering() {
            return;
        }
        self.go(RecvEvent::Refuse);
        self.recv_wait = Wait::Until(now.saturating_add(limits.linger_ms_max), Timeout::Linger);
        self.send_wait = Wait::Nothing;
    }

    /// True while what still comes is discarded before the close.
    #[must_use]
    pub fn is_lingering(&self) -> bool {
        self.recv_wait.kind() == Some(Timeout::Linger)
    }

    /// True if only the close tells the peer where the body ends: one that is cut off needs a reset then.
    #[must_use]
    pub fn ends_with_close(&self) -> bool {
        self.framing == ResponseFraming::Close
    }

    /// The answer whose head is queued has no body.
    pub fn end_empty(&mut self) {
        self.follow(SendEvent::End);
    }

    /// The answer fails after its head: nothing more is sent, and never a clean end.
    pub fn cut(&mut self) {
        self.follow(SendEvent::Cut);
        self.persist = Persist::Close;
        self.recv_wait = Wait::Nothing;
        self.send_wait = Wait::Nothing;
    }

    /// Follows a transition of the receiving side. One that is impossible leaves the state as it is.
    fn go(&mut self, event: RecvEvent) {
        if let Ok(state) = self.recv.on(event) {
            self.recv = state;
        }
    }

    /// Follows a transition of the sending side, and says whether there was one.
    fn follow(&mut self, event: SendEvent) -> bool {
        self.send.on(event).map(|state| self.send = state).is_ok()
    }
}
