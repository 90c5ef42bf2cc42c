//! A server around one connection, without sockets, guests or time: it feeds what it is given, answers every request
//! as a script says, and keeps what it would have sent.

use tidegate_proto::conn::state::Send;
use tidegate_proto::conn::{After, Body, Connection, Eof, Millis, OutBuf, Receiving, Taken, Timeout};
use tidegate_proto::error::PeerError;
use tidegate_proto::http1::encode::encode_problem;
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::head::{RequestHead, Version};
use tidegate_proto::limits::Limits;
use tidegate_proto::pipe::{Pipe, Watermarks};

use crate::answer::{Answer, Reads};
use crate::client::{Reply, replies};

pub(crate) const DATE: &[u8; 29] = b"Fri, 20 Nov 2026 09:00:00 GMT";

/// A request as a guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) version: Version,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// All of it came.
    pub(crate) whole: bool,
}

/// How the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    /// The sending side is ended, and what still comes is thrown away.
    Lingering,
    /// The peer went away inside a request.
    Truncated,
    /// Reset: too slow a reader, or an answer that was cut off.
    Aborted,
}

type Script = Box<dyn Fn(&Seen) -> Answer>;

pub(crate) struct Server {
    pub(crate) conn: Connection,
    pub(crate) limits: Limits,
    pub(crate) now: Millis,
    pub(crate) out: OutBuf,
    /// What has left.
    pub(crate) wire: Vec<u8>,
    /// How much the socket takes before it is full.
    pub(crate) room: usize,
    pub(crate) seen: Vec<Seen>,
    pub(crate) end: Option<End>,
    /// Set for every request.
    pub(crate) body_max: u64,
    /// The guest reads nothing of its body for now.
    pub(crate) stalled: bool,
    kept: Vec<u8>,
    head: RequestHead,
    request: Pipe,
    trailers: Fields,
    response: Pipe,
    response_trailers: Vec<u8>,
    script: Script,
    answer: Option<Answer>,
}

impl Server {
    pub(crate) fn new(script: impl Fn(&Seen) -> Answer + 'static) -> Self {
        Self::with_limits(Limits::default(), script)
    }

    pub(crate) fn with_limits(limits: Limits, script: impl Fn(&Seen) -> Answer + 'static) -> Self {
        Self {
            conn: Connection::new(0, &limits),
            limits,
            now: 0,
            out: OutBuf::default(),
            wire: Vec::new(),
            room: usize::MAX,
            seen: Vec::new(),
            end: None,
            body_max: u64::MAX,
            stalled: false,
            kept: Vec::new(),
            head: RequestHead::default(),
            request: Pipe::new(Watermarks::default()),
            trailers: Fields::default(),
            response: Pipe::new(Watermarks::default()),
            response_trailers: Vec::new(),
            script: Box::new(script),
            answer: None,
        }
    }

    /// Answers every request with 200 and a line that names it.
    pub(crate) fn naming() -> Self {
        Self::new(name_request)
    }

    /// Bytes come in.
    pub(crate) fn receive(&mut self, bytes: impl AsRef<[u8]>) {
        self.kept.extend_from_slice(bytes.as_ref());
        self.drive();
    }

    /// The peer ends its side.
    pub(crate) fn receive_eof(&mut self) {
        if self.conn.recv() == tidegate_proto::conn::state::Recv::Ended && !self.kept.is_empty() {
            self.conn.expect_hangup(self.now, &self.limits);
            return;
        }
        match self.conn.handle_eof(self.now, &self.limits) {
            Eof::Close => self.end = Some(End::Closed),
            Eof::Truncated => self.end = Some(End::Truncated),
            Eof::HalfClosed => self.drive(),
        }
    }

    /// The socket takes so many bytes more.
    pub(crate) fn writable(&mut self, room: usize) {
        self.room = room;
        self.drive();
    }

    /// Time passes, and what it brings is done.
    pub(crate) fn advance(&mut self, to: Millis) -> Option<Timeout> {
        self.now = to;
        let timeout = self.conn.handle_timeout(to, &self.limits);
        match timeout {
            None => {}
            Some(Timeout::Head | Timeout::Body) => self.refuse(PeerError::Timeout),
            Some(Timeout::Reader) => self.end = Some(End::Aborted),
            Some(Timeout::Idle | Timeout::HalfClose | Timeout::Linger) => self.end = Some(End::Closed),
        }
        self.drive();
        timeout
    }

    pub(crate) fn deadline(&self) -> Millis {
        self.conn.deadline(&self.limits)
    }

    /// What has left, read as a client would, and the requests that it answers.
    pub(crate) fn replies(&self) -> Vec<Reply> {
        let methods: Vec<_> = self.seen.iter().map(|seen| seen.method.as_str()).collect();
        replies(&self.wire, &methods)
    }

    /// Statuses of all replies.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.replies().iter().map(|reply| reply.status).collect()
    }

    /// The guest goes on reading.
    pub(crate) fn unstall(&mut self) {
        self.stalled = false;
        self.guest();
        self.drive();
    }

    /// Does what can be done: a step of the input, then what it brought about, until nothing is left.
    pub(crate) fn drive(&mut self) {
        loop {
            if matches!(self.end, Some(End::Closed | End::Truncated | End::Aborted)) {
                return;
            }
            let took = self.feed();
            self.flush();
            let flushed = self.conn.is_flushed(&self.out);
            match self.conn.after(flushed, self.now, &self.limits) {
                After::Wait if took => {}
                After::Wait => return,
                After::Close if self.conn.send() == Send::Cut => self.end = Some(End::Aborted),
                After::Close => self.end = Some(End::Closed),
                After::Linger => {
                    self.end = Some(End::Lingering);
                    self.conn.linger(self.now, &self.limits);
                }
                After::Next => {
                    self.conn.next(self.now, &self.limits).expect("it was offered");
                    assert!(self.conn.is_idle());
                }
            }
        }
    }

    /// One step of the input; says whether there may be more to it.
    fn feed(&mut self) -> bool {
        let mut to =
            Receiving { head: &mut self.head, body: &mut self.request, trailers: &mut self.trailers };
        let taken = self.conn.handle_input(&self.kept, &mut to, self.now, &self.limits);
        match taken {
            Ok(Taken::Need(n) | Taken::Full(n) | Taken::Request(n) | Taken::Body(n) | Taken::Ended(n)) => {
                self.kept.drain(..n);
            }
            Ok(Taken::Hold) => {}
            Ok(Taken::Ignore) | Err(_) => self.kept.clear(),
        }
        match taken {
            Ok(Taken::Request(_)) => self.begin(),
            Ok(Taken::Body(_) | Taken::Ended(_)) => self.guest(),
            Ok(Taken::Full(_)) => self.conn.pause_input(),
            Ok(Taken::Need(_) | Taken::Hold | Taken::Ignore) => {}
            Err(error) => self.refuse(error),
        }
        matches!(taken, Ok(Taken::Request(_) | Taken::Body(_) | Taken::Ended(_)))
    }

    fn refuse(&mut self, error: PeerError) {
        self.answer = None;
        if self.conn.reject() {
            let status = error.status();
            let cx = *self.conn.context();
            let out = self.out.tail();
            encode_problem(status, "refused", "refused", error.detail(), "id", &cx, true, DATE, None, out);
        }
    }

    fn begin(&mut self) {
        self.request.reset(Watermarks::default());
        self.response.reset(Watermarks::default());
        self.trailers.clear();
        self.response_trailers.clear();
        self.conn.limit_body(self.body_max);
        let seen = Seen {
            method: self.head.method().to_owned(),
            target: self.head.target().to_owned(),
            version: self.head.version(),
            body: Vec::new(),
            trailers: Vec::new(),
            whole: false,
        };
        if self.conn.request_ended() {
            self.request.end();
        }
        self.answer = Some((self.script)(&seen));
        self.seen.push(seen);
        self.guest();
    }

    /// Does what the guest does when something has come.
    pub(crate) fn guest(&mut self) {
        let reads = self.answer.as_ref().map(|answer| answer.reads);
        let Some(seen) = self.seen.last_mut().filter(|_| !self.stalled) else { return };
        if reads == Some(Reads::Never) {
            return self.respond();
        }
        if reads == Some(Reads::Late) && self.conn.send() == Send::Await {
            self.respond();
            return self.guest();
        }
        if reads.is_some() {
            self.conn.handle_body_wanted(self.now, &mut self.out);
        }
        for part in self.request.peek() {
            seen.body.extend_from_slice(part);
        }
        self.request.consume(usize::MAX);
        self.conn.resume_input(self.now);
        if self.request.drained() && !seen.whole {
            seen.whole = true;
            seen.trailers = self.trailers.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            seen.trailers.sort();
            self.respond();
        }
    }

    fn respond(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        if answer.reads == Reads::Late {
            // What it does next is read.
            self.answer = Some(answer.clone());
        }
        if self.conn.send() != Send::Await {
            return;
        }
        self.response_trailers.clone_from(&answer.trailers);
        if !answer.held {
            self.send_head(&answer);
            self.flush();
        }
        for piece in &answer.pieces {
            assert_eq!(self.response.write(piece), piece.len(), "these answers fit the pipe");
            if !answer.held {
                self.flush();
            }
        }
        self.response.end();
        if answer.held {
            self.send_head(&answer);
        }
    }

    fn send_head(&mut self, answer: &Answer) {
        let known_len = answer.known_len();
        self.conn.send_head(&answer.head, known_len, DATE, None, &mut self.out).expect("one head a request");
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) {
        loop {
            let mut body = Body { pipe: &mut self.response, trailers: &self.response_trailers };
            self.conn.poll_transmit(&mut body, &mut self.out);
            if self.conn.is_flushed(&self.out) {
                return self.conn.handle_flushed();
            }
            if self.room == 0 {
                return self.conn.handle_blocked(self.now);
            }
            let mut sent = 0;
            for slice in self.conn.slices(&self.response, &self.out) {
                let part = slice.len().min(self.room - sent);
                self.wire.extend_from_slice(&slice[..part]);
                sent += part;
            }
            assert!(sent > 0, "something is queued, yet there is nothing to send");
            self.room -= sent;
            self.conn.handle_transmitted(sent, &mut self.response, &mut self.out, self.now, &self.limits);
        }
    }
}

/// The answer of [`Server::naming`].
pub(crate) fn name_request(seen: &Seen) -> Answer {
    Answer::new(format!("{} {}\n", seen.method, seen.target))
}
