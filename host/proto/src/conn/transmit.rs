//! The sending side: heads and bodies in, slices to send out.

use super::meter::{Meter, Millis, Timeout, Wait};
use super::state::{Impossible, Recv, Send, SendEvent};
use super::{Connection, Expect, OutBuf, Persist};
use crate::http1::encode::{
    ResponseFraming, ResponseHead, encode_chunk_size, encode_head, encode_interim, response_framing,
};
use crate::limits::Limits;
use crate::pipe::Pipe;

/// Bodies up to this size are copied behind their head rather than sent from the pipe, and no others are as long as
/// more than this is pending: what a slow reader leaves behind must stay in the pipe, which counts it.
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
        // With the answer complete the rest of the request is discarded, or too much for that.
        let gives_up = known_len.is_some() && self.outgrows_drain();
        let ends = self.expect == Expect::Awaited || self.framing == ResponseFraming::Close;
        if head.close() || ends || gives_up {
            self.persist = Persist::Close;
        }
        let close = self.persist == Persist::Close;
        encode_head(head, &self.cx, self.framing, known_len, close, date, server, out.tail());
        Ok(())
    }

    /// True if the body of the answer in progress is thrown away (HEAD, 204, 304).
    #[must_use]
    pub fn discards_body(&self) -> bool {
        matches!(self.send, Send::Body | Send::Done) && self.framing == ResponseFraming::None
    }

    /// Frames what the pipe holds; afterwards [`Self::slices`] says what to send. To be said before
    /// [`Self::is_flushed`] is asked, as the end of a body may be all that is left to send.
    pub fn poll_transmit(&mut self, body: &mut Body<'_>, out: &mut OutBuf) {
        if self.send != Send::Body {
            return;
        }
        let mut complete = self.frame(body, out);
        if self.inline(body.pipe, out) && !complete {
            // Trailers are a step of their own: with the chunk before them out of the way they leave beside it.
            complete = self.frame(body, out);
        }
        if complete {
            self.follow(SendEvent::End);
        }
    }

    /// Takes what there is of the body into what is sent next; true if that is the end of the answer.
    fn frame(&mut self, body: &mut Body<'_>, out: &mut OutBuf) -> bool {
        match self.framing {
            ResponseFraming::None => body.pipe.consume(body.pipe.len()),
            ResponseFraming::Length(_) | ResponseFraming::Close => self.credit = body.pipe.len(),
            ResponseFraming::Chunked => return self.frame_chunk(body, out),
        }
        body.pipe.is_ended()
    }

    /// One chunk of all that is there, once the last one has left; behind the last one what ends them.
    fn frame_chunk(&mut self, body: &Body<'_>, out: &mut OutBuf) -> bool {
        if self.credit > 0 || !self.tail.is_empty() {
            return false;
        }
        let (queued, ended) = (body.pipe.len(), body.pipe.is_ended());
        if queued > 0 {
            let last = ended && body.trailers.is_empty();
            encode_chunk_size(queued, out.tail());
            self.credit = queued;
            self.tail = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            return last;
        }
        if ended {
            let tail = out.tail();
            tail.extend_from_slice(b"0\r\n");
            tail.extend_from_slice(body.trailers);
            tail.extend_from_slice(b"\r\n");
        }
        ended
    }

    /// Brings little of a body behind what is pending, so that it leaves with it; says whether it did.
    fn inline(&mut self, pipe: &mut Pipe, out: &mut OutBuf) -> bool {
        let little = self.credit > 0 && self.credit <= INLINE_BYTES_MAX;
        if !little || out.pending().len() > INLINE_BYTES_MAX {
            return false;
        }
        let tail = out.tail();
        for part in self.framed(pipe) {
            tail.extend_from_slice(part);
        }
        tail.extend_from_slice(self.tail);
        pipe.consume(self.credit);
        self.credit = 0;
        self.tail = &[];
        true
    }

    /// The bytes of the pipe that are framed.
    fn framed<'a>(&self, pipe: &'a Pipe) -> [&'a [u8]; 2] {
        let [first, second] = pipe.peek();
        let first = first.get(..self.credit).unwrap_or(first);
        let rest = self.credit.saturating_sub(first.len());
        [first, second.get(..rest).unwrap_or(second)]
    }

    /// What to send next, in order.
    #[must_use]
    pub fn slices<'a>(&self, pipe: &'a Pipe, out: &'a OutBuf) -> [&'a [u8]; 4] {
        let [first, second] = self.framed(pipe);
        [out.pending(), first, second, self.tail]
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
        self.answer_moves(n as u64, now, limits);
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

    /// The peer has taken `bytes` more of what the system holds for it: that counts for the reader's clock too, as a
    /// full socket buffer takes nothing from us until a good part of it is free.
    /// Towards a peer that has ended its side it is progress of the answer.
    pub fn handle_drained(&mut self, bytes: u64, now: Millis, limits: &Limits) {
        self.send_wait.add(bytes);
        self.answer_moves(bytes, now, limits);
    }

    fn answer_moves(&mut self, bytes: u64, now: Millis, limits: &Limits) {
        if bytes > 0 && self.recv_wait.kind() == Some(Timeout::HalfClose) {
            self.recv_wait = Wait::Until(now.saturating_add(limits.half_close_ms_max), Timeout::HalfClose);
        }
    }

    /// True if there is a request and it has been received whole.
    #[must_use]
    pub fn request_ended(&self) -> bool {
        let received = matches!(self.recv, Recv::Ended | Recv::Closed) && self.decoder.is_ended();
        received && self.send != Send::Idle
    }
}
