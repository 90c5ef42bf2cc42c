//! The sending side: heads and bodies in, slices to send out.
//!
//! The head is kept until the body begins, so that it can be sent once more where a kept connection turns out to be
//! closed. Invariants: `sent <= bytes.len()`; a body of known length leaves in exactly that length, or is cut off.

use crate::http1::encode::encode_chunk_size;
use crate::pipe::Pipe;

use super::error::RequestError;
use super::request::{Framing, Request, Written, encode};
use super::state::{Impossible, Send, SendEvent};

/// Bodies up to this size are copied behind their head rather than sent from the pipe.
const INLINE_BYTES_MAX: usize = 4096;
/// Storage that is kept from one request to the next.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// A request's body as it stands.
#[derive(Debug)]
pub struct RequestBody<'a> {
    /// What is there of it.
    pub pipe: &'a mut Pipe,
    /// Wire lines of trailers; they count once the pipe has ended.
    pub trailers: &'a [u8],
}

/// Writes requests, one after the other.
#[derive(Debug)]
pub struct Sender {
    state: Send,
    written: Written,
    /// Heads and chunk framing, of which `sent` bytes have left.
    bytes: Vec<u8>,
    sent: usize,
    /// Bytes of the pipe that are framed and may leave.
    credit: usize,
    /// What follows them.
    tail: &'static [u8],
    /// Nothing but the head was written so far.
    head_only: bool,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            state: Send::Idle,
            written: Written { framing: Framing::None, head_request: false, close: false },
            bytes: Vec::new(),
            sent: 0,
            credit: 0,
            tail: &[],
            head_only: false,
        }
    }
}

impl Sender {
    /// Writes a request's head.
    ///
    /// # Errors
    /// See [`RequestError`]; the sender is as it was. Also where a request is under way, which is the caller's mistake:
    /// [`RequestError::TooLarge`].
    pub fn begin<'a>(
        &mut self,
        request: &Request<'_>,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), RequestError> {
        debug_assert_eq!(self.state, Send::Idle, "one request at a time");
        self.bytes.clear();
        let written = encode(request, fields, &mut self.bytes)?;
        let event = if written.framing == Framing::None { SendEvent::HeadOnly } else { SendEvent::WithBody };
        self.state = self.state.on(event).map_err(|Impossible| RequestError::TooLarge)?;
        self.written = written;
        self.sent = 0;
        self.head_only = true;
        Ok(())
    }

    /// What it is doing.
    #[must_use]
    pub const fn state(&self) -> Send {
        self.state
    }

    /// The request is HEAD.
    #[must_use]
    pub const fn is_head_request(&self) -> bool {
        self.written.head_request
    }

    /// The length that the body has to have; `None` where that shows when it ends.
    #[must_use]
    pub const fn body_length(&self) -> Option<u64> {
        match self.written.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        }
    }

    /// Bytes that the body takes now.
    #[must_use]
    pub fn permit(&self, pipe: &Pipe) -> usize {
        if self.state != Send::Body {
            return 0;
        }
        let due = self.body_length().map_or(u64::MAX, |length| length.saturating_sub(pipe.total_in()));
        pipe.permit().min(usize::try_from(due).unwrap_or(usize::MAX))
    }

    /// Whether the connection may go on behind this request, for all that the request says.
    #[must_use]
    pub const fn keeps(&self) -> bool {
        !self.written.close
    }

    /// Frames what the pipe holds; afterwards [`Self::slices`] says what to send.
    pub fn poll_transmit(&mut self, body: &mut RequestBody<'_>) {
        if self.state != Send::Body {
            return;
        }
        let mut complete = self.frame(body);
        if self.inline(body.pipe) && !complete && self.state == Send::Body {
            complete = self.frame(body);
        }
        if complete {
            self.follow(SendEvent::End);
        }
    }

    /// Takes what there is of the body into what is sent next; true if that is its end.
    fn frame(&mut self, body: &RequestBody<'_>) -> bool {
        match self.written.framing {
            Framing::None => true,
            Framing::Length(length) => self.frame_counted(body.pipe, length),
            Framing::Chunked => self.frame_chunk(body),
        }
    }

    fn frame_counted(&mut self, pipe: &Pipe, length: u64) -> bool {
        let total = pipe.total_in();
        if total > length || (pipe.is_ended() && total < length) {
            // Not what was announced: what is there leaves no clean end behind.
            self.follow(SendEvent::Cut);
            return false;
        }
        self.credit = pipe.len();
        total == length
    }

    /// One chunk of all that is there, once the last one has left; behind the last one what ends them.
    fn frame_chunk(&mut self, body: &RequestBody<'_>) -> bool {
        if self.credit > 0 || !self.tail.is_empty() {
            return false;
        }
        let (queued, ended) = (body.pipe.len(), body.pipe.is_ended());
        if queued > 0 {
            let last = ended && body.trailers.is_empty();
            encode_chunk_size(queued, self.append());
            self.credit = queued;
            self.tail = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            return last;
        }
        if ended {
            let bytes = self.append();
            bytes.extend_from_slice(b"0\r\n");
            bytes.extend_from_slice(body.trailers);
            bytes.extend_from_slice(b"\r\n");
        }
        ended
    }

    /// Brings little of a body behind what is pending, so that it leaves with it; says whether it did.
    fn inline(&mut self, pipe: &mut Pipe) -> bool {
        let little = self.credit > 0 && self.credit <= INLINE_BYTES_MAX;
        if !little || self.pending().len() > INLINE_BYTES_MAX {
            return false;
        }
        let (credit, tail) = (self.credit, self.tail);
        let bytes = self.append();
        for part in framed(pipe, credit) {
            bytes.extend_from_slice(part);
        }
        bytes.extend_from_slice(tail);
        pipe.consume(credit);
        self.credit = 0;
        self.tail = &[];
        true
    }

    /// Where to append what is not the head. What has left is dropped once that moves no more bytes than it drops.
    fn append(&mut self) -> &mut Vec<u8> {
        self.head_only = false;
        if self.sent > 0 && self.sent >= self.pending().len() {
            self.bytes.drain(..self.sent.min(self.bytes.len()));
            self.sent = 0;
        }
        &mut self.bytes
    }

    fn pending(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// What to send next, in order.
    #[must_use]
    pub fn slices<'a>(&'a self, pipe: &'a Pipe) -> [&'a [u8]; 4] {
        let [first, second] = framed(pipe, self.credit);
        [self.pending(), first, second, self.tail]
    }

    /// `n` bytes of [`Self::slices`] have left.
    pub fn handle_transmitted(&mut self, n: usize, pipe: &mut Pipe) {
        let own = n.min(self.pending().len());
        self.sent = self.sent.saturating_add(own);
        let rest = n.saturating_sub(own);
        let body = rest.min(self.credit);
        if body > 0 {
            self.head_only = false;
            pipe.consume(body);
            self.credit = self.credit.saturating_sub(body);
        }
        self.tail = self.tail.get(rest.saturating_sub(body)..).unwrap_or_default();
    }

    /// Nothing waits to be sent now.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.pending().is_empty() && self.credit == 0 && self.tail.is_empty()
    }

    /// The whole request has left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == Send::Done && self.is_flushed()
    }

    /// True if nothing of the body is on its way: the head can be sent on another connection.
    #[must_use]
    pub fn can_rewind(&self) -> bool {
        self.head_only && self.credit == 0 && self.state != Send::Cut
    }

    /// Goes back to the head's first byte. False: the body has begun, so that cannot be.
    pub fn rewind(&mut self) -> bool {
        let can = self.can_rewind();
        if can {
            self.sent = 0;
        }
        can
    }

    /// The rest of the request is not sent.
    pub fn cut(&mut self) {
        self.follow(SendEvent::Cut);
    }

    /// The connection is kept: ready for the next request.
    ///
    /// # Errors
    /// [`Impossible`] unless [`Self::is_done`].
    pub fn recycle(&mut self) -> Result<(), Impossible> {
        if !self.is_flushed() {
            return Err(Impossible);
        }
        self.state = self.state.on(SendEvent::Next)?;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.sent = 0;
        Ok(())
    }

    /// Follows a transition. One that is impossible leaves the state as it is.
    fn follow(&mut self, event: SendEvent) {
        if let Ok(state) = self.state.on(event) {
            self.state = state;
        }
    }
}

/// The first `credit` bytes of a pipe.
fn framed(pipe: &Pipe, credit: usize) -> [&[u8]; 2] {
    let [first, second] = pipe.peek();
    let first = first.get(..credit).unwrap_or(first);
    let rest = credit.saturating_sub(first.len());
    [first, second.get(..rest).unwrap_or(second)]
}
