//! The receiving side: bytes in, a head and a body out.
//!
//! Input that ends within a head is kept here, within the bound of a head; body bytes go straight on into the pipe. Who
//! reads from the socket asks [`Receiver::room`] first, and never has bytes left over for which there is no room.
//!
//! Invariant: after the response's end not a byte is looked at. That there is one is enough to give the connection up.

use crate::error::PeerError;
use crate::http1::body::BodyDecoder;
use crate::http1::fields::Fields;
use crate::http1::framing::BodyFraming;
use crate::limits::Limits;
use crate::pipe::Pipe;

use super::error::ResponseError;
use super::framing::{Decision, Framing};
use super::response::{Parsed, ResponseHead, Scanner, parse};
use super::state::{Impossible, Recv, RecvEvent};

/// Interim responses before the final one.
const INTERIMS_MAX: u8 = 16;
/// Storage that is kept from one response to the next.
const KEPT_BYTES_MAX: usize = 8 * 1024;

const INTERIMS: ResponseError = ResponseError::Malformed("too many interim responses (RFC 9110 15.2)");
const UNASKED: ResponseError = ResponseError::Malformed("bytes that no request asked for (RFC 9112 9.2)");

/// What a response may cost, for [`Receiver`]: of it, the bounds on heads, fields, chunk extensions and trailers count.
#[must_use]
pub fn response_limits() -> Limits {
    Limits { head_bytes_max: 32 * 1024, headers_max: 128, ..Limits::default() }
}

/// What follows the head.
#[derive(Debug)]
enum Decoding {
    Framed(BodyDecoder),
    UntilClose,
}

/// Reads responses, one after the other.
#[derive(Debug)]
pub struct Receiver {
    state: Recv,
    head_request: bool,
    /// The head says that another exchange may follow.
    keep: bool,
    /// A byte has come since the request was written.
    touched: bool,
    interims: u8,
    scanner: Scanner,
    /// The front of a head that has not come whole.
    held: Vec<u8>,
    head: ResponseHead,
    decoding: Decoding,
    trailers: Fields,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            state: Recv::Idle,
            head_request: false,
            keep: false,
            touched: false,
            interims: 0,
            scanner: Scanner::default(),
            held: Vec::new(),
            head: ResponseHead::default(),
            decoding: Decoding::UntilClose,
            trailers: Fields::default(),
        }
    }
}

impl Receiver {
    /// A request is written: its response is due.
    ///
    /// # Errors
    /// [`Impossible`] while another response is due.
    pub fn begin(&mut self, head_request: bool) -> Result<(), Impossible> {
        self.state = self.state.on(RecvEvent::Request)?;
        self.head_request = head_request;
        self.keep = false;
        self.touched = false;
        self.interims = 0;
        self.scanner = Scanner::default();
        self.head.clear();
        self.trailers.clear();
        Ok(())
    }

    /// What it is doing.
    #[must_use]
    pub const fn state(&self) -> Recv {
        self.state
    }

    /// The final head has come.
    #[must_use]
    pub const fn has_head(&self) -> bool {
        self.head.status() != 0
    }

    /// The head, once it [has come](Self::has_head).
    #[must_use]
    pub const fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// The trailers that have come.
    #[must_use]
    pub const fn trailers(&self) -> &Fields {
        &self.trailers
    }

    /// Not a byte has come since the request was written.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// The length still due of a counted body; `None` for any other.
    #[must_use]
    pub fn body_due(&self) -> Option<u64> {
        match (&self.decoding, self.state) {
            (Decoding::Framed(decoder), Recv::Body) => decoder.remaining_hint(),
            (_, state) if state.is_complete() => Some(0),
            _ => None,
        }
    }

    /// So many bytes may be given to [`Self::handle_input`] at once. 0 only while the pipe is full.
    #[must_use]
    pub fn room(&self, pipe: &Pipe) -> usize {
        match self.state {
            Recv::Head | Recv::Body => pipe.permit(),
            // Enough to see that something comes.
            Recv::Idle | Recv::Ended | Recv::Spent | Recv::Broken => 1,
        }
    }

    /// So many bytes may be received straight into the pipe, past [`Self::handle_input`]; `None` where what comes has to be
    /// looked at.
    #[must_use]
    pub fn direct_max(&self) -> Option<usize> {
        match (&self.decoding, self.state) {
            (Decoding::UntilClose, Recv::Body) => Some(usize::MAX),
            (Decoding::Framed(decoder), Recv::Body) => {
                decoder.remaining_hint().map(|due| usize::try_from(due).unwrap_or(usize::MAX))
            }
            _ => None,
        }
    }

    /// So many bytes, at most [`Self::direct_max`], were received into the pipe.
    pub fn handle_direct(&mut self, n: usize, pipe: &mut Pipe) {
        if let Decoding::Framed(decoder) = &mut self.decoding
            && decoder.skip(n as u64)
        {
            self.end(RecvEvent::BodyEnd, pipe);
        }
    }

    /// Takes in bytes from the server, at most [`Self::room`] of them.
    ///
    /// # Errors
    /// See [`ResponseError`]. The connection is of no further use then; what is in the pipe stays there.
    pub fn handle_input(
        &mut self,
        input: &[u8],
        pipe: &mut Pipe,
        limits: &Limits,
    ) -> Result<(), ResponseError> {
        let result = self.take(input, pipe, limits);
        if result.is_err() {
            self.follow(RecvEvent::Fail);
        }
        result
    }

    fn take(&mut self, input: &[u8], pipe: &mut Pipe, limits: &Limits) -> Result<(), ResponseError> {
        self.touched |= !input.is_empty();
        if self.state != Recv::Head {
            return self.take_body(input, pipe, limits);
        }
        if self.held.is_empty() {
            let taken = self.take_heads(input, pipe, limits)?;
            let rest = input.get(taken..).unwrap_or_default();
            if self.state == Recv::Head {
                self.held.extend_from_slice(rest);
                return Ok(());
            }
            return self.take_body(rest, pipe, limits);
        }
        let mut held = core::mem::take(&mut self.held);
        held.extend_from_slice(input);
        let taken = self.take_heads(&held, pipe, limits)?;
        if self.state == Recv::Head {
            held.drain(..taken.min(held.len()));
            self.held = held;
            return Ok(());
        }
        let result = self.take_body(held.get(taken..).unwrap_or_default(), pipe, limits);
        held.clear();
        held.shrink_to(KEPT_BYTES_MAX);
        self.held = held;
        result
    }

    /// Reads the heads that are there, up to the final one; says how many bytes they are.
    fn take_heads(&mut self, input: &[u8], pipe: &mut Pipe, limits: &Limits) -> Result<usize, ResponseError> {
        let mut at: usize = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(length) = self.scanner.scan(rest, limits)? else { return Ok(at) };
            self.scanner = Scanner::default();
            let head = rest.get(..length).unwrap_or_default();
            let parsed = parse(head, limits, self.head_request, &mut self.head)?;
            at = at.saturating_add(length);
            match parsed {
                Parsed::Interim => {
                    self.interims = self.interims.saturating_add(1);
                    if self.interims > INTERIMS_MAX {
                        return Err(INTERIMS);
                    }
                    self.follow(RecvEvent::Interim);
                }
                Parsed::Final(decision) => {
                    self.begin_body(decision, pipe);
                    return Ok(at);
                }
            }
        }
    }

    fn begin_body(&mut self, decision: Decision, pipe: &mut Pipe) {
        self.keep = decision.keep;
        self.decoding = match decision.framing {
            Framing::None => return self.end(RecvEvent::HeadOnly, pipe),
            Framing::Length(length) => Decoding::Framed(BodyDecoder::new(BodyFraming::Length(length))),
            Framing::Chunked => Decoding::Framed(BodyDecoder::new(BodyFraming::Chunked)),
            Framing::Close => Decoding::UntilClose,
        };
        self.follow(RecvEvent::HeadThenBody);
    }

    fn take_body(&mut self, input: &[u8], pipe: &mut Pipe, limits: &Limits) -> Result<(), ResponseError> {
        let mut rest = input;
        while self.state == Recv::Body {
            let Decoding::Framed(decoder) = &mut self.decoding else {
                pipe.write(rest);
                return Ok(());
            };
            let step = decoder.decode(rest, pipe.permit(), limits, &mut self.trailers).map_err(translate)?;
            pipe.write(rest.get(step.data).unwrap_or_default());
            rest = rest.get(step.consumed..).unwrap_or_default();
            if step.ended {
                self.end(RecvEvent::BodyEnd, pipe);
            } else if step.consumed == 0 {
                debug_assert!(rest.is_empty(), "more bytes than there was room for");
                return Ok(());
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        let asked = self.state.is_complete();
        self.follow(RecvEvent::Spoil);
        if asked { Ok(()) } else { Err(UNASKED) }
    }

    /// The response has come whole, with `how`.
    fn end(&mut self, how: RecvEvent, pipe: &mut Pipe) {
        pipe.end();
        self.follow(how);
        if !self.keep {
            self.follow(RecvEvent::Spoil);
        }
    }

    /// The server has ended the connection.
    ///
    /// # Errors
    /// It did so before the response was whole.
    pub fn handle_eof(&mut self, pipe: &mut Pipe) -> Result<(), ResponseError> {
        match (self.state, &self.decoding) {
            (Recv::Body, Decoding::UntilClose) => {
                self.end(RecvEvent::BodyEnd, pipe);
                Ok(())
            }
            (Recv::Ended | Recv::Spent, _) => {
                self.follow(RecvEvent::Spoil);
                Ok(())
            }
            (state, _) => {
                self.follow(RecvEvent::Fail);
                let answered = self.touched || state != Recv::Head;
                Err(if answered { ResponseError::Incomplete } else { ResponseError::Unanswered })
            }
        }
    }

    /// The connection has failed otherwise.
    pub fn fail(&mut self) {
        self.follow(RecvEvent::Fail);
    }

    /// The connection is kept: ready for the next response.
    ///
    /// # Errors
    /// [`Impossible`] unless the response has come whole and the connection may go on.
    pub fn recycle(&mut self) -> Result<(), Impossible> {
        self.state = self.state.on(RecvEvent::Next)?;
        self.head.clear();
        self.head.shrink(KEPT_BYTES_MAX);
        self.trailers.clear();
        self.trailers.shrink(KEPT_BYTES_MAX);
        Ok(())
    }

    /// Follows a transition. One that is impossible leaves the state as it is.
    fn follow(&mut self, event: RecvEvent) {
        if let Ok(state) = self.state.on(event) {
            self.state = state;
        }
    }
}

/// What the decoder of bodies says, of a response.
fn translate(error: PeerError) -> ResponseError {
    match error {
        PeerError::HeadTooLarge | PeerError::TooManyHeaders => ResponseError::TrailersTooLarge,
        other => ResponseError::Malformed(other.detail()),
    }
}
