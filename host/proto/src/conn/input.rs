//! The receiving side: bytes in, requests out.

use super::meter::{Meter, Millis, Timeout, Wait};
use super::state::{Recv, RecvEvent, Send, SendEvent};
use super::{Connection, Expect, OutBuf, Persist, UNREAD};
use crate::error::PeerError;
use crate::http1::body::BodyDecoder;
use crate::http1::encode::encode_interim;
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
    /// The request is complete, or what is missing of it is not needed: the answer goes on for as long as it moves,
    /// and [`Connection::after`] says when it is over.
    HalfClosed,
    /// The request was cut off.
    Truncated,
}

impl Connection {
    /// Takes what it can from the front of `input`, which holds everything from the first byte that was not taken.
    ///
    /// # Errors
    /// The peer broke a rule, and is not listened to any more. [`Connection::reject`] is what follows, and then, if
    /// that says so, an answer with the error's status.
    pub fn handle_input(
        &mut self,
        input: &[u8],
        to: &mut Receiving<'_>,
        now: Millis,
        limits: &Limits,
    ) -> Result<Taken, PeerError> {
        let taken = match self.recv {
            Recv::Idle | Recv::Head => self.take_head(input, to.head, now, limits),
            Recv::Body => self.take_body(input, to, now, limits),
            Recv::Discard => self.take_discarded(input, to.trailers, limits).or(Ok(Taken::Ignore)),
            Recv::Ended => return Ok(Taken::Hold),
            Recv::Refused | Recv::Closed => return Ok(Taken::Ignore),
        };
        if matches!(taken, Err(_) | Ok(Taken::Ignore)) {
            self.refuse();
        }
        taken
    }

    /// Nothing after this is served.
    pub(super) fn refuse(&mut self) {
        self.go(RecvEvent::Refuse);
        self.persist = Persist::Close;
        self.recv_wait = Wait::Nothing;
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
            // The empty line that may come before a request (RFC 9112 section 2.2) is not the beginning of one.
            if matches!(input, b"\r" | b"\r\n") {
                return Ok(Taken::Need(0));
            }
            self.go(RecvEvent::FirstByte);
            self.begin_head(now, limits);
        }
        let Some(len) = self.scanner.scan(input, limits)? else {
            return Ok(Taken::Need(0));
        };
        let bytes = input.get(..len).unwrap_or(input);
        head::parse(bytes, limits, head)?;
        self.cx.head_request = head.is_head();
        self.cx.version = head.version();
        let framing = request_framing(head)?;
        self.cx.keep_alive = framing.keep_alive;
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
        self.follow(SendEvent::Request);
        Ok(Taken::Request(len))
    }

    /// The clock of a first head runs from accept, of a later one from its first byte.
    fn begin_head(&mut self, now: Millis, limits: &Limits) {
        self.scanner = HeadScanner::default();
        self.cx = UNREAD;
        if self.recv_wait.kind() != Some(Timeout::Head) {
            self.recv_wait = Wait::Until(now.saturating_add(limits.head_ms_max), Timeout::Head);
        }
    }

    fn take_body(
        &mut self,
        input: &[u8],
        to: &mut Receiving<'_>,
        now: Millis,
        limits: &Limits,
    ) -> Result<Taken, PeerError> {
        if self.exceeds_limit() {
            return Err(PeerError::BodyTooLarge);
        }
        let permit = to.body.permit();
        if permit == 0 {
            return Ok(Taken::Full(0));
        }
        let (consumed, ended) = self.decode(input, permit, limits, to.trailers, Some(&mut *to.body))?;
        if consumed > 0 && self.expect == Expect::Awaited {
            // It did not wait, so it is not owed a 100 any more (RFC 9110 section 10.1.1).
            self.expect = Expect::Nothing;
            self.resume_input(now);
        }
        Ok(self.took_body(consumed, ended))
    }

    fn take_discarded(
        &mut self,
        input: &[u8],
        trailers: &mut Fields,
        limits: &Limits,
    ) -> Result<Taken, PeerError> {
        let (consumed, ended) = self.decode(input, usize::MAX, limits, trailers, None)?;
        Ok(self.took_body(consumed, ended))
    }

    /// One step of the body, within `data_max` and what is left of its limit; data goes `into` the pipe, if any.
    /// Gives the bytes consumed, and whether they ended the body.
    fn decode(
        &mut self,
        input: &[u8],
        data_max: usize,
        limits: &Limits,
        trailers: &mut Fields,
        into: Option<&mut Pipe>,
    ) -> Result<(usize, bool), PeerError> {
        let allowed = usize::try_from(self.body_left_max).unwrap_or(usize::MAX);
        let step = self.decoder.decode(input, data_max.min(allowed), limits, trailers)?;
        // With nothing allowed the decoder takes all that is not data: what it leaves is a byte too many.
        if allowed == 0 && !step.ended && step.consumed < input.len() {
            return Err(PeerError::BodyTooLarge);
        }
        let data = input.get(step.data).unwrap_or(&[]);
        self.body_left_max = self.body_left_max.saturating_sub(data.len() as u64);
        if let Some(pipe) = into {
            pipe.write(data);
            if step.ended {
                pipe.end();
            }
        }
        Ok((step.consumed, step.ended))
    }

    fn took_body(&mut self, consumed: usize, ended: bool) -> Taken {
        self.recv_wait.add(consumed as u64);
        if ended {
            self.go(RecvEvent::BodyEnd);
            self.recv_wait = Wait::Nothing;
            self.expect = Expect::Nothing;
            Taken::Ended(consumed)
        } else if consumed == 0 {
            Taken::Need(0)
        } else {
            Taken::Body(consumed)
        }
    }

    /// True if more of a counted body is due than its limit allows.
    fn exceeds_limit(&self) -> bool {
        self.declared_body().is_some_and(|due| due > self.body_left_max)
    }

    /// How many bytes of a counted body may be received straight into the request's pipe, past [`Self::handle_input`].
    /// 0 if the body is not counted, nothing of it is left or wanted, it is over its limit, or the client may still
    /// be waiting for 100: then [`Self::handle_input`] has something to say about it.
    #[must_use]
    pub fn direct_body_max(&self) -> u64 {
        if self.recv != Recv::Body || self.expect == Expect::Awaited || self.exceeds_limit() {
            return 0;
        }
        self.declared_body().unwrap_or(0)
    }

    /// `n` bytes, at most [`Self::direct_body_max`], were received straight into the pipe.
    ///
    /// # Errors
    /// As [`Self::handle_input`].
    pub fn handle_direct_body(&mut self, n: usize, body: &mut Pipe) -> Result<Taken, PeerError> {
        let bytes = n as u64;
        if bytes > self.direct_body_max() {
            self.refuse();
            return Err(PeerError::BodyTooLarge);
        }
        self.body_left_max = self.body_left_max.saturating_sub(bytes);
        let ended = self.decoder.skip(bytes);
        if ended {
            body.end();
        }
        Ok(self.took_body(n, ended))
    }

    /// The peer has ended its side, and all that came before is taken. As long as it is not, because requests are
    /// pipelined, say [`Self::expect_hangup`]: they too are answered.
    pub fn handle_eof(&mut self, now: Millis, limits: &Limits) -> Eof {
        let (again, lingering) = (self.recv == Recv::Closed, self.is_lingering());
        self.go(RecvEvent::Eof);
        self.persist = Persist::Close;
        if !again {
            self.recv_wait = Wait::Nothing;
        }
        match self.send {
            _ if lingering => Eof::Close,
            Send::Idle | Send::Cut => Eof::Close,
            Send::Await | Send::Body if !self.decoder.is_ended() => Eof::Truncated,
            Send::Await | Send::Body | Send::Done => {
                self.expect_hangup(now, limits);
                Eof::HalfClosed
            }
        }
    }

    /// The peer seems to be gone: the answer goes on only for as long as it moves.
    pub fn expect_hangup(&mut self, now: Millis, limits: &Limits) {
        let answering = !matches!(self.send, Send::Idle | Send::Cut);
        let waiting = self.recv_wait.kind().is_some();
        // A body whose clock stands still is one that nobody reads for now: its end can not be seen.
        if answering && !waiting && matches!(self.recv, Recv::Body | Recv::Ended | Recv::Closed) {
            self.recv_wait = Wait::Until(now.saturating_add(limits.half_close_ms_max), Timeout::HalfClose);
        }
    }

    /// The guest wants the body: a client that waits for 100 (Continue) gets it, unless it has its final head. Either
    /// way the body's clock starts.
    pub fn handle_body_wanted(&mut self, now: Millis, out: &mut OutBuf) {
        if self.expect != Expect::Awaited || self.recv != Recv::Body {
            return;
        }
        self.expect = Expect::Nothing;
        if self.send == Send::Await {
            encode_interim(100, &[], out.tail());
        }
        self.resume_input(now);
    }

    /// The request is refused: nothing after it is served. True if the caller queues the answer, as a whole and with
    /// [`Self::context`]; false if it is too late for one: then an answer in progress is cut off, while one that is
    /// complete still leaves.
    pub fn reject(&mut self) -> bool {
        self.refuse();
        let fresh = self.follow(SendEvent::Reject);
        if !fresh && self.send != Send::Done {
            self.cut();
        }
        fresh
    }

    /// True if the caller queues an answer of ours to the request, an error, as a whole; the connection may be kept,
    /// as [`Self::closes_after`] then says.
    pub fn answer(&mut self) -> bool {
        if self.expect == Expect::Awaited || self.outgrows_drain() {
            self.persist = Persist::Close;
        }
        self.follow(SendEvent::Reject)
    }
}
