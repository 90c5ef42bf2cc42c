//! The sending side: heads and bodies in, slices to send out.

use super::meter::{Meter, Millis, Timeout, Wait};
use super::state::{Impossible, Recv, Send, SendEvent};
use super::{Connection, Expect, OutBuf, Persist};
use crate::http1::encode::{
    ResponseFraming, ResponseHead, encode_chunk_size, encode_head, encode_interim, response_framing,
};
use crate::limits::Limits;
use crate::pipe::Pipe;

/// Bodies up to this size are copied behind their head rather than sent from the pipe.
const INLINE_BYTES_MAX: usize = 4096;

/// A response's body as it stands.
#[derive(Debug)]
pub struct Body<'a> {
    /// What is there of it.
    pub pipe: &'a mut Pipe,
    /// Wire lines of trailers; they count once the pipe has ended.
    pub trailers: &'a [u8],
}

impl Connection {
    /// Queues an interim response (RFC 9110 section 15.2); never towards HTTP/1.0.
    pub fn send_interim(&mut self, status: u16, lines: &[u8], out: &mut OutBuf) {
        let http10 = self.cx.version == crate::http1::head::Version::Http10;
        if self.send == Send::Await && !http10 {
            encode_interim(status, lines, out.tail());
        }
    }

    /// Queues the final head. `known_len` is the length of the whole body if it is known by now.
    ///
    /// # Errors
    /// [`Impossible`] unless a request waits for its head.
    pub fn send_head(
        &mut self,
        head: &ResponseHead,
        known_len: Option<u64>,
        date: &[u8],
        server: Option<&str>,
        out: &mut OutBuf,
    ) -> Result<(), Impossible> {
        self.send = self.send.on(SendEvent::Head)?;
        self.framing = response_framing(&self.cx, head, known_len);
        if head.close() || self.expect == Expect::Awaited || self.framing == ResponseFraming::Close {
            self.persist = Persist::Close;
        }
        let close = self.persist == Persist::Close;
        encode_head(head, &self.cx, self.framing, known_len, close, date, server, out.tail());
        Ok(())
    }

    /// True if the body of the answer in progress is thrown away (HEAD, 204, 304).
    #[must_use]
    pub fn discards_body(&self) -> bool {
        self.framing == ResponseFraming::None
    }

    /// Frames what the pipe holds; afterwards [`Self::slices`] says what to send.
    pub fn poll_transmit(&mut self, body: &mut Body<'_>, out: &mut OutBuf) {
        if self.send != Send::Body || self.credit > 0 || !self.tail.is_empty() {
            return;
        }
        let queued = body.pipe.len();
        let last = body.pipe.is_ended();
        match self.framing {
            ResponseFraming::None => body.pipe.consume(queued),
            ResponseFraming::Length(_) | ResponseFraming::Close => self.credit = queued,
            ResponseFraming::Chunked if queued > 0 => {
                encode_chunk_size(queued, out.tail());
                self.credit = queued;
                self.tail = if last && body.trailers.is_empty() { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            }
            ResponseFraming::Chunked if last => {
                let tail = out.tail();
                tail.extend_from_slice(b"0\r\n");
                tail.extend_from_slice(body.trailers);
                tail.extend_from_slice(b"\r\n");
            }
            ResponseFraming::Chunked => {}
        }
        let trailers_follow =
            self.framing == ResponseFraming::Chunked && queued > 0 && !body.trailers.is_empty();
        if last && !trailers_follow {
            if let Ok(state) = self.send.on(SendEvent::End) {
                self.send = state;
            }
        }
        if self.credit > 0 && self.credit <= INLINE_BYTES_MAX {
            self.inline(body.pipe, out);
        }
    }

    fn inline(&mut self, pipe: &mut Pipe, out: &mut OutBuf) {
        for part in pipe.peek() {
            out.tail().extend_from_slice(part);
        }
        pipe.consume(self.credit);
        self.credit = 0;
        out.tail().extend_from_slice(self.tail);
        self.tail = &[];
    }

    /// What to send next, in order.
    #[must_use]
    pub fn slices<'a>(&self, pipe: &'a Pipe, out: &'a OutBuf) -> [&'a [u8]; 4] {
        let [first, second] = pipe.peek();
        let first = first.get(..self.credit).unwrap_or(first);
        let rest = self.credit.saturating_sub(first.len());
        [out.pending(), first, second.get(..rest).unwrap_or(second), self.tail]
    }

    /// True if nothing is queued.
    #[must_use]
    pub fn is_flushed(&self, out: &OutBuf) -> bool {
        out.is_empty() && self.credit == 0 && self.tail.is_empty()
    }

    /// `n` bytes of [`Self::slices`] have left.
    pub fn handle_transmitted(
        &mut self,
        n: usize,
        pipe: &mut Pipe,
        out: &mut OutBuf,
        now: Millis,
        limits: &Limits,
    ) {
        let rest = out.consume(n);
        let body = rest.min(self.credit);
        pipe.consume(body);
        self.credit = self.credit.saturating_sub(body);
        self.tail = self.tail.get(rest.saturating_sub(body)..).unwrap_or(&[]);
        self.send_wait.add(n as u64);
        if n > 0 && self.recv_wait.kind() == Some(Timeout::HalfClose) {
            self.recv_wait = Wait::Until(now.saturating_add(limits.half_close_ms_max), Timeout::HalfClose);
        }
    }

    /// The socket takes no more: the reader's clock runs.
    pub fn handle_blocked(&mut self, now: Millis) {
        if matches!(self.send_wait, Wait::Nothing) {
            self.send_wait = Wait::Rate(Meter::start(now), Timeout::Reader);
        }
    }

    /// Everything queued has left: the reader's clock stops.
    pub const fn handle_flushed(&mut self) {
        self.send_wait = Wait::Nothing;
    }

    /// True if the request has been received whole.
    #[must_use]
    pub fn request_ended(&self) -> bool {
        matches!(self.recv, Recv::Ended | Recv::Closed)
    }
}
