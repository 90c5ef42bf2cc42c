//! The receiving side: bytes in, requests out.

use super::meter::{Meter, Millis, Timeout, Wait};
use super::state::{Recv, RecvEvent, Send, SendEvent};
use super::{Connection, Expect, OutBuf, Persist};
use crate::error::PeerError;
use crate::http1::body::BodyDecoder;
use crate::http1::encode::{ResponseContext, encode_interim};
use crate::http1::fields::Fields;
use crate::http1::framing::{BodyFraming, request_framing};
use crate::http1::head::{self, HeadScanner, RequestHead};
use crate::limits::Limits;
use crate::pipe::Pipe;

/// Where the parts of a request go.
#[derive(Debug)]
pub struct Receiving<'a> {
    /// The head.
    pub head: &'a mut RequestHead,
    /// The body.
    pub body: &'a mut Pipe,
    /// The trailers.
    pub trailers: &'a mut Fields,
}

/// What became of some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// More bytes are needed: keep what is left of these and append to it.
    Need(usize),
    /// A head is complete, with or without a body to follow: dispatch it.
    Request(usize),
    /// Body bytes were taken; go on with the rest.
    Body(usize),
    /// The request is complete; its body has ended.
    Ended(usize),
    /// The body's pipe is full: keep the rest and stop reading until it drains.
    Full(usize),
    /// The request in progress is still being answered: keep the rest.
    Hold,
    /// What comes now is of no use: throw it away.
    Ignore,
}

/// What the end of the peer's side means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eof {
    /// Nothing is in progress: close.
    Close,
    /// The request is complete: the answer goes on, for as long as it moves.
    HalfClosed,
    /// The request was cut off.
    Truncated,
}

impl Connection {
    /// Takes what it can from the front of `input`, which holds everything from the first byte that was not taken.
    ///
    /// # Errors
    /// The peer broke a rule. [`Connection::reject`] with the error's status is what follows.
    pub fn handle_input(
        &mut self,
        input: &[u8],
        to: &mut Receiving<'_>,
        now: Millis,
        limits: &Limits,
    ) -> Result<Taken, PeerError> {
        match self.recv {
            Recv::Idle | Recv::Head => self.take_head(input, to.head, now, limits),
            Recv::Body => self.take_body(input, to, limits),
            Recv::Discard => self.take_discarded(input, to, limits),
            Recv::Ended => Ok(Taken::Hold),
            Recv::Closed => Ok(Taken::Ignore),
        }
    }

    fn take_head(
        &mut self,
        input: &[u8],
        head: &mut RequestHead,
        now: Millis,
        limits: &Limits,
    ) -> Result<Taken, PeerError> {
        if input.is_empty() {
            return Ok(Taken::Need(0));
        }
        if self.recv == Recv::Idle {
            self.go(RecvEvent::FirstByte);
            self.begin_head(now, limits);
        }
        let Some(len) = self.scanner.scan(input, limits)? else {
            return Ok(Taken::Need(0));
        };
        let bytes = input.get(..len).unwrap_or(input);
        head::parse(bytes, limits, head)?;
        let framing = request_framing(head)?;
        self.cx = ResponseContext {
            head_request: head.is_head(),
            version: head.version(),
            keep_alive: framing.keep_alive,
        };
        if !framing.keep_alive {
            self.persist = Persist::Close;
        }
        let has_body = framing.body != BodyFraming::None;
        self.expect = if framing.expect_continue && has_body { Expect::Awaited } else { Expect::Nothing };
        self.decoder = BodyDecoder::new(framing.body);
        if has_body {
            self.go(RecvEvent::HeadThenBody);
            // A client that waits for 100 is not slow.
            self.recv_wait = match self.expect {
                Expect::Awaited => Wait::Nothing,
                Expect::Nothing => Wait::Rate(Meter::start(now), Timeout::Body),
            };
        } else {
            self.go(RecvEvent::HeadOnly);
            self.recv_wait = Wait::Nothing;
        }
        if let Ok(state) = self.send.on(SendEvent::Request) {
            self.send = state;
        }
        Ok(Taken::Request(len))
    }

    /// The clock of a first head runs from accept, of a later one from its first byte.
    fn begin_head(&mut self, now: Millis, limits: &Limits) {
        self.scanner = HeadScanner::default();
        let fresh = now.saturating_add(limits.head_ms_max);
        let at = self.recv_wait.deadline(limits).min(fresh);
        self.recv_wait = Wait::Until(at, Timeout::Head);
    }

    fn take_body(
        &mut self,
        input: &[u8],
        to: &mut Receiving<'_>,
        limits: &Limits,
    ) -> Result<Taken, PeerError> {
        if self.decoder.remaining_hint().is_some_and(|rest| rest > self.body_left_max) {
            return Err(PeerError::BodyTooLarge);
        }
        let permit = to.body.permit();
        if permit == 0 {
            return Ok(Taken::Full(0));
        }
        let step = self.decoder.decode(input, permit, limits, to.trailers)?;
        let data = input.get(step.data).unwrap_or(&[]);
        self.count_body(data.len())?;
        to.body.write(data);
        self.recv_wait.add(step.consumed as u64);
        if step.ended {
            to.body.end();
            self.end_body();
            return Ok(Taken::Ended(step.consumed));
        }
        Ok(if step.consumed == 0 { Taken::Need(0) } else { Taken::Body(step.consumed) })
    }

    fn take_discarded(
        &mut self,
        input: &[u8],
        to: &mut Receiving<'_>,
        limits: &Limits,
    ) -> Result<Taken, PeerError> {
        let step = self.decoder.decode(input, usize::MAX, limits, to.trailers)?;
        self.count_body(step.data.len())?;
        self.recv_wait.add(step.consumed as u64);
        if step.ended {
            self.end_body();
            return Ok(Taken::Ended(step.consumed));
        }
        Ok(if step.consumed == 0 { Taken::Need(0) } else { Taken::Body(step.consumed) })
    }

    fn count_body(&mut self, bytes: usize) -> Result<(), PeerError> {
        self.body_left_max = self.body_left_max.checked_sub(bytes as u64).ok_or(PeerError::BodyTooLarge)?;
        Ok(())
    }

    fn end_body(&mut self) {
        self.go(RecvEvent::BodyEnd);
        self.recv_wait = Wait::Nothing;
        self.expect = Expect::Nothing;
    }

    /// How many bytes of a counted body may be received straight into the request's pipe, past [`Self::handle_input`].
    /// 0 if the body is not counted, or nothing of it is left.
    #[must_use]
    pub fn direct_body_max(&self) -> u64 {
        match self.recv {
            Recv::Body => self.decoder.remaining_hint().unwrap_or(0).min(self.body_left_max),
            _ => 0,
        }
    }

    /// `n` bytes, at most [`Self::direct_body_max`], were received straight into the pipe.
    ///
    /// # Errors
    /// As [`Self::handle_input`].
    pub fn handle_direct_body(&mut self, n: usize, body: &mut Pipe) -> Result<Taken, PeerError> {
        self.count_body(n)?;
        self.recv_wait.add(n as u64);
        if self.decoder.skip(n as u64) {
            body.end();
            self.end_body();
            return Ok(Taken::Ended(n));
        }
        Ok(Taken::Body(n))
    }

    /// The peer has ended its side.
    pub fn handle_eof(&mut self, now: Millis, limits: &Limits) -> Eof {
        let before = self.recv;
        self.go(RecvEvent::Eof);
        self.persist = Persist::Close;
        match before {
            Recv::Ended => {
                self.expect_hangup(now, limits);
                Eof::HalfClosed
            }
            Recv::Idle | Recv::Head if self.send == Send::Idle => Eof::Close,
            Recv::Closed | Recv::Discard => Eof::Close,
            Recv::Idle | Recv::Head | Recv::Body => Eof::Truncated,
        }
    }

    /// The peer seems to be gone: the answer goes on only for as long as it moves.
    pub fn expect_hangup(&mut self, now: Millis, limits: &Limits) {
        if matches!(self.recv, Recv::Ended | Recv::Closed) {
            self.recv_wait = Wait::Until(now.saturating_add(limits.half_close_ms_max), Timeout::HalfClose);
        }
    }

    /// The guest wants the body: a client that waits for 100 (Continue) gets it.
    pub fn handle_body_wanted(&mut self, now: Millis, out: &mut OutBuf) {
        if self.expect == Expect::Awaited && self.send == Send::Await {
            self.expect = Expect::Nothing;
            encode_interim(100, &[], out.tail());
            self.resume_input(now);
        }
    }

    /// The answer to a request that was refused is queued by the caller: nothing after it is served.
    pub fn reject(&mut self) -> bool {
        self.persist = Persist::Close;
        self.go(RecvEvent::Refuse);
        self.recv_wait = Wait::Nothing;
        match self.send.on(SendEvent::Reject) {
            Ok(state) => {
                self.send = state;
                true
            }
            Err(_) => {
                self.cut();
                false
            }
        }
    }

    /// The answer to the request is an error of ours, queued by the caller as a whole; the connection may be kept.
    pub fn answer(&mut self) -> bool {
        if self.expect == Expect::Awaited {
            self.persist = Persist::Close;
        }
        match self.send.on(SendEvent::Reject) {
            Ok(state) => {
                self.send = state;
                true
            }
            Err(_) => false,
        }
    }

    /// Follows a transition. One that is impossible leaves the state as it is; the table says that none is.
    pub(super) fn go(&mut self, event: RecvEvent) {
        if let Ok(state) = self.recv.on(event) {
            self.recv = state;
        }
    }
}
