//! The client of this crate: one request after the other, on a connection that is kept for as long as it can be.

use tidegate_proto::client::state::Recv;
use tidegate_proto::client::{
    self, BodyLength, Receiver, Request, RequestBody, ResponseError, Sender, response_limits,
};
use tidegate_proto::pipe::{Pipe, Watermarks};

use super::{Account, End, Socket};
use crate::dice::Dice;
use crate::network::Link;
use crate::plan::Plan;
use crate::reader::Reply;

/// The client of this crate.
#[derive(Debug)]
pub(crate) struct Pooled {
    pub(super) socket: Socket,
    plan: Plan,
    sender: Sender,
    receiver: Receiver,
    request: Pipe,
    response: Pipe,
    written: usize,
    body: Vec<u8>,
    begun: usize,
    reply: Reply,
    replies: Vec<Reply>,
    end: End,
    error: Option<ResponseError>,
}

impl Pooled {
    pub(crate) fn new(plan: &Plan, dice: Dice) -> Self {
        Self {
            socket: Socket::new(plan, dice),
            plan: plan.clone(),
            sender: Sender::default(),
            receiver: Receiver::default(),
            request: Pipe::new(Watermarks::default()),
            response: Pipe::new(Watermarks::default()),
            written: 0,
            body: Vec::new(),
            begun: 0,
            reply: Reply::default(),
            replies: Vec::new(),
            end: End::Own,
            error: None,
        }
    }

    fn begin(&mut self) {
        let exchange = &self.plan.exchanges[self.begun];
        let marks = |bytes| Watermarks::new(bytes, bytes / 4).expect("valid");
        self.request.reset(marks(self.plan.pipe_bytes));
        self.response.reset(marks(self.plan.client_pipe_bytes));
        self.body = exchange.body(self.begun);
        self.written = 0;
        let body = match exchange.body_bytes {
            0 => BodyLength::Empty,
            _ if exchange.chunked => BodyLength::Unknown,
            bytes => BodyLength::Known(bytes as u64),
        };
        let path = format!("/{}", self.begun);
        let request = Request { method: exchange.method, authority: "a", path: &path, body };
        let close = exchange.close.then_some((&b"connection"[..], &b"close"[..]));
        self.sender.begin(&request, close).expect("a valid request");
        self.receiver.begin(exchange.method == "HEAD").expect("ready for it");
        self.begun += 1;
    }

    pub(super) fn turn(&mut self, now: u64, up: &mut Link, down: &mut Link) -> bool {
        if self.socket.is_over(now, up, down) {
            return false;
        }
        if self.begun == 0 {
            self.begin();
        }
        let mut moved = self.send(now, up);
        moved |= self.receive(now, down);
        if self.error.is_some() {
            assert_eq!(self.receiver.state(), Recv::Broken, "{:?}", self.error);
            self.socket.close(now, up, down);
            return true;
        }
        let whole = self.receiver.state().is_complete() && self.response.is_empty();
        if !whole {
            return moved;
        }
        // An answer may come before its request has left: who wants another exchange has no use for the connection then.
        let trailers = self.receiver.trailers().len();
        let reply = std::mem::take(&mut self.reply);
        let status = self.receiver.head().status();
        let reusable = client::is_reusable(&self.sender, &self.receiver);
        self.replies.push(Reply { status, trailers, closes: !reusable, ..reply });
        if reusable && self.begun < self.plan.exchanges.len() {
            assert!(client::next(&mut self.sender, &mut self.receiver), "it was offered");
            self.begin();
        } else {
            self.socket.close(now, up, down);
        }
        true
    }

    fn send(&mut self, now: u64, up: &mut Link) -> bool {
        let end = self.body.len().min(self.written + self.sender.permit(&self.request));
        let n = self.request.write(&self.body[self.written..end]);
        self.written += n;
        if self.written == self.body.len() {
            self.request.end();
        }
        let exchange = &self.plan.exchanges[self.begun - 1];
        let trailers: &[u8] = if exchange.chunked { b"x-end: 1\r\n" } else { b"" };
        self.sender.poll_transmit(&mut RequestBody { pipe: &mut self.request, trailers });
        if self.sender.is_flushed() || up.room() == 0 {
            return n > 0;
        }
        let mut most = self.socket.may_send(now);
        let mut sent = 0;
        for slice in self.sender.slices(&self.request) {
            let n = up.send(&slice[..slice.len().min(most)], now);
            sent += n;
            most -= n;
            if n < slice.len() {
                break;
            }
        }
        self.sender.handle_transmitted(sent, &mut self.request);
        n > 0 || sent > 0
    }

    fn receive(&mut self, now: u64, down: &mut Link) -> bool {
        let most = self.receiver.room(&self.response).min(self.socket.may_read(now));
        let bytes = down.read(most);
        let mut moved = !bytes.is_empty();
        if moved {
            let direct = self.receiver.direct_max().filter(|max| *max >= bytes.len());
            let room = direct.map_or(0, |_| self.response.spare(bytes.len()).len());
            if room == bytes.len() && self.socket.dice.once_in(2) {
                self.response.spare(room).copy_from_slice(&bytes);
                self.response.commit(room);
                self.receiver.handle_direct(room, &mut self.response);
            } else {
                self.error = self.receiver.handle_input(&bytes, &mut self.response, &response_limits()).err();
            }
        } else if down.is_eof() && !self.receiver.state().is_complete() {
            self.error = self.receiver.handle_eof(&mut self.response).err();
            self.end = End::Fin;
            moved = true;
        } else if down.is_reset() {
            self.receiver.fail();
            self.error = Some(ResponseError::Incomplete);
            self.end = End::Reset;
        }
        // Whoever wants the body takes some of it.
        let mut part = vec![0; self.socket.dice.pick(&[1, 400, 100_000])];
        let n = self.response.read(&mut part);
        self.reply.body.extend_from_slice(&part[..n]);
        moved || n > 0
    }

    fn partial(&mut self) -> Option<Reply> {
        if !self.receiver.has_head() || self.replies.len() == self.begun {
            return None;
        }
        for part in self.response.peek() {
            self.reply.body.extend_from_slice(part);
        }
        Some(Reply { status: self.receiver.head().status(), ..std::mem::take(&mut self.reply) })
    }

    pub(super) fn account(mut self) -> Account {
        let partial = self.partial();
        Account { partial, replies: self.replies, end: self.end, begun: self.begun, continues: 0 }
    }
}
