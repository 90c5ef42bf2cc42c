//! The server's end: a connection with what drives it, as the product's session does, on virtual time. What the machine
//! promises is checked at every step.

use tidegate_proto::conn::state::{Recv, Send};
use tidegate_proto::conn::{After, Body, Connection, Eof, NEVER, OutBuf, Receiving, Taken, Timeout};
use tidegate_proto::error::PeerError;
use tidegate_proto::http1::encode::encode_problem;
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::head::RequestHead;
use tidegate_proto::limits::Limits;
use tidegate_proto::pipe::{Pipe, Watermarks};

use crate::dice::Dice;
use crate::guest::{Around, DATE, Guest, Step};
use crate::network::Link;
use crate::plan::Plan;

/// Bytes that one read may bring.
const READ_BYTES_MAX: usize = 16 * 1024;
/// More than may ever wait beside the pipe: a head, a few interim ones, and what was brought inline.
const OUT_BYTES_MAX: usize = 9 * 1024;

/// A request as its guest saw it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) body: Vec<u8>,
    /// It came whole, with so many trailers.
    pub(crate) whole: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Server {
    plan: Plan,
    limits: Limits,
    dice: Dice,
    conn: Connection,
    out: OutBuf,
    kept: Vec<u8>,
    head: RequestHead,
    request: Pipe,
    request_trailers: Fields,
    response: Pipe,
    response_trailers: Vec<u8>,
    guest: Option<Guest>,
    paused: bool,
    closed: bool,
    /// Input was refused, or is ignored: nothing may come of it any more.
    deaf: bool,
    /// A deadline, and when it is looked at.
    armed: (u64, u64),
    pub(crate) seen: Vec<Seen>,
    pub(crate) timeouts: Vec<Timeout>,
    pub(crate) statuses: Vec<u16>,
    pub(crate) lingered: bool,
    pub(crate) was_full: bool,
    pub(crate) was_blocked: bool,
}

impl Server {
    pub(crate) fn new(plan: &Plan, dice: Dice) -> Self {
        let limits = Limits::default();
        Self {
            plan: plan.clone(),
            dice,
            conn: Connection::new(0, &limits),
            limits,
            out: OutBuf::default(),
            kept: Vec::new(),
            head: RequestHead::default(),
            request: Pipe::new(Watermarks::default()),
            request_trailers: Fields::default(),
            response: Pipe::new(Watermarks::default()),
            response_trailers: Vec::new(),
            guest: None,
            paused: false,
            closed: false,
            deaf: false,
            armed: (NEVER, NEVER),
            seen: Vec::new(),
            timeouts: Vec::new(),
            statuses: Vec::new(),
            lingered: false,
            was_full: false,
            was_blocked: false,
        }
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// When it wants to be looked at, without anything coming.
    pub(crate) fn next_at(&mut self, now: u64) -> Option<u64> {
        if self.closed {
            return None;
        }
        let guest = self.guest.as_ref().and_then(|guest| guest.next_at(now));
        let timer = Some(self.timer()).filter(|at| *at != NEVER);
        guest.into_iter().chain(timer).min()
    }

    /// When the deadline is looked at: in time, or somewhat late.
    fn timer(&mut self) -> u64 {
        let deadline = self.conn.deadline(&self.limits);
        if self.armed.0 != deadline {
            self.armed = (deadline, deadline.saturating_add(self.dice.millis(0, self.plan.late_ms_max)));
        }
        self.armed.1
    }

    /// Does something of what can be done; says whether it did.
    pub(crate) fn turn(&mut self, now: u64, up: &mut Link, down: &mut Link) -> bool {
        if self.closed {
            return false;
        }
        if up.is_reset() {
            self.close(now, up, down);
            return true;
        }
        if self.timer() <= now && self.expire(now, up, down) {
            return true;
        }
        let mut moved = self.receive(now, up, down);
        if self.closed {
            return true;
        }
        moved |= self.guest(now);
        moved |= self.flush(now, down);
        moved |= self.go_on(now, up, down);
        self.check(now);
        moved
    }

    fn expire(&mut self, now: u64, up: &mut Link, down: &mut Link) -> bool {
        let Some(timeout) = self.conn.handle_timeout(now, &self.limits) else {
            assert!(self.conn.deadline(&self.limits) > now, "nothing ran out, and the deadline has passed");
            return false;
        };
        self.timeouts.push(timeout);
        match timeout {
            Timeout::Head | Timeout::Body => self.refuse(PeerError::Timeout),
            Timeout::Reader => {
                down.abort(now);
                self.close(now, up, down);
            }
            Timeout::Idle | Timeout::HalfClose | Timeout::Linger => self.close(now, up, down),
        }
        true
    }

    fn wants_input(&self) -> bool {
        (self.conn.recv().wants_input() && !self.paused) || self.conn.is_lingering()
    }

    fn receive(&mut self, now: u64, up: &mut Link, down: &mut Link) -> bool {
        if self.paused && (self.request.permit() > 0 || self.conn.recv() != Recv::Body) {
            self.paused = false;
            self.conn.resume_input(now);
        }
        let mut moved = false;
        if !self.kept.is_empty() && self.wants_input() {
            let kept = std::mem::take(&mut self.kept);
            let taken = self.feed(&kept, now);
            self.kept = kept[taken..].to_vec();
            moved |= taken > 0;
        }
        for _ in 0..self.dice.within(1, 4) {
            if !self.wants_input() || (up.waiting_bytes() == 0 && !up.is_eof()) {
                if up.fin_arrived() && matches!(self.conn.recv(), Recv::Body | Recv::Ended) {
                    self.conn.expect_hangup(now, &self.limits);
                }
                break;
            }
            moved = true;
            if up.is_eof() {
                match self.conn.handle_eof(now, &self.limits) {
                    Eof::Close | Eof::Truncated => self.close(now, up, down),
                    Eof::HalfClosed => {}
                }
                break;
            }
            let direct = usize::try_from(self.conn.direct_body_max()).unwrap_or(usize::MAX);
            if direct > 0 && self.kept.is_empty() && self.dice.once_in(2) {
                self.receive_direct(direct, up);
            } else {
                let most = self.dice.pick(&[1, 50, 1_000, READ_BYTES_MAX]);
                let bytes = [std::mem::take(&mut self.kept), up.read(most)].concat();
                let taken = self.feed(&bytes, now);
                self.kept = bytes[taken..].to_vec();
            }
        }
        moved
    }

    fn receive_direct(&mut self, most: usize, up: &mut Link) {
        let room = self.request.spare(most);
        if room.is_empty() {
            self.pause();
            return;
        }
        let bytes = up.read(room.len());
        room[..bytes.len()].copy_from_slice(&bytes);
        self.request.commit(bytes.len());
        assert!(!self.deaf);
        self.conn.handle_direct_body(bytes.len(), &mut self.request).expect("no more than was asked for");
    }

    fn pause(&mut self) {
        self.paused = true;
        self.was_full = true;
        self.conn.pause_input();
    }

    /// Feeds what came; says how much of it was taken.
    fn feed(&mut self, input: &[u8], now: u64) -> usize {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            if rest.is_empty() && !matches!(self.conn.recv(), Recv::Body | Recv::Discard) {
                return at;
            }
            let mut to = Receiving {
                head: &mut self.head,
                body: &mut self.request,
                trailers: &mut self.request_trailers,
            };
            let taken = self.conn.handle_input(rest, &mut to, now, &self.limits);
            let useful = matches!(taken, Ok(Taken::Request(_) | Taken::Body(_) | Taken::Ended(_)));
            assert!(!(useful && self.deaf), "{taken:?} of input that was refused");
            match taken {
                Ok(Taken::Need(n)) => return at + n,
                Ok(Taken::Request(n)) => {
                    at += n;
                    self.begin();
                }
                Ok(Taken::Body(n) | Taken::Ended(n)) => at += n,
                Ok(Taken::Full(n)) => {
                    self.pause();
                    return at + n;
                }
                Ok(Taken::Hold) => return at,
                Ok(Taken::Ignore) => {
                    self.deaf = true;
                    return input.len();
                }
                Err(error) => {
                    self.deaf = true;
                    self.refuse(error);
                    return input.len();
                }
            }
        }
    }

    fn begin(&mut self) {
        let number = self.seen.len();
        let exchange = &self.plan.exchanges[number];
        assert_eq!(self.head.method(), exchange.method, "the requests come in order");
        let marks = Watermarks::new(self.plan.pipe_bytes, self.plan.pipe_bytes / 4).expect("valid");
        self.request.reset(marks);
        self.response.reset(marks);
        self.request_trailers.clear();
        self.response_trailers.clear();
        self.conn.limit_body(exchange.body_max.map_or(u64::MAX, |max| max as u64));
        if self.conn.request_ended() {
            self.request.end();
        }
        self.guest = Some(Guest::new(exchange, number));
        self.seen.push(Seen { body: Vec::new(), whole: None });
    }

    fn refuse(&mut self, error: PeerError) {
        self.stop_guest();
        if self.conn.reject() {
            self.problem(error.status());
        }
    }

    fn problem(&mut self, status: u16) {
        self.statuses.push(status);
        let (cx, close) = (*self.conn.context(), self.conn.closes_after());
        encode_problem(status, "no", "no", "refused", "id", &cx, close, DATE, None, self.out.tail());
    }

    fn stop_guest(&mut self) {
        if let (Some(guest), Some(seen)) = (self.guest.take(), self.seen.last_mut()) {
            *seen = Seen { body: guest.seen, whole: guest.whole };
        }
    }

    fn guest(&mut self, now: u64) -> bool {
        let Some(guest) = &mut self.guest else { return false };
        let mut around = Around {
            conn: &mut self.conn,
            out: &mut self.out,
            request: &mut self.request,
            request_trailers: &self.request_trailers,
            response: &mut self.response,
            response_trailers: &mut self.response_trailers,
        };
        match guest.step(&mut around, now, &mut self.dice) {
            Step::Waits => false,
            Step::More => true,
            Step::Failed => {
                self.stop_guest();
                if self.conn.send() != Send::Await {
                    self.conn.cut();
                } else if self.conn.answer() {
                    self.problem(502);
                }
                true
            }
        }
    }

    fn flush(&mut self, now: u64, down: &mut Link) -> bool {
        let mut moved = false;
        for _ in 0..self.dice.within(1, 4) {
            let mut body = Body { pipe: &mut self.response, trailers: &self.response_trailers };
            self.conn.poll_transmit(&mut body, &mut self.out);
            if self.conn.is_flushed(&self.out) {
                self.conn.handle_flushed();
                break;
            }
            if self.conn.send() == Send::Cut {
                break;
            }
            assert!(!self.conn.is_lingering(), "something is queued behind the end");
            if down.room() == 0 {
                self.was_blocked = true;
                self.conn.handle_blocked(now);
                break;
            }
            let slices = self.conn.slices(&self.response, &self.out);
            // All but the last byte is where a frame is cut in two.
            let queued: usize = slices.iter().map(|slice| slice.len()).sum();
            let mut room = self.dice.pick(&[1, 30, 2_000, queued.saturating_sub(1).max(1), usize::MAX]);
            let mut sent = 0;
            for slice in slices {
                let n = down.send(&slice[..slice.len().min(room)], now);
                sent += n;
                room -= n;
                if n < slice.len() {
                    break;
                }
            }
            assert!(sent > 0, "something is queued, yet there is nothing to send");
            moved = true;
            self.conn.handle_transmitted(sent, &mut self.response, &mut self.out, now, &self.limits);
        }
        moved
    }

    /// What comes after the answer.
    fn go_on(&mut self, now: u64, up: &mut Link, down: &mut Link) -> bool {
        let flushed = self.conn.is_flushed(&self.out);
        match self.conn.after(flushed, now, &self.limits) {
            After::Wait => return false,
            After::Close => self.close(now, up, down),
            After::Linger => {
                self.stop_guest();
                self.conn.linger(now, &self.limits);
                self.lingered = true;
                down.end(now);
            }
            After::Next => {
                self.stop_guest();
                self.conn.next(now, &self.limits).expect("it was offered");
                assert!(self.conn.is_idle());
            }
        }
        true
    }

    fn close(&mut self, now: u64, up: &mut Link, down: &mut Link) {
        self.stop_guest();
        let incomplete = match self.conn.send() {
            Send::Body | Send::Cut => true,
            Send::Done => !self.conn.is_flushed(&self.out),
            Send::Idle | Send::Await => false,
        };
        // A socket that is closed with bytes unread is reset.
        if up.close_reader() || (incomplete && self.conn.ends_with_close()) {
            down.abort(now);
        }
        down.end(now);
        self.closed = true;
    }

    fn check(&mut self, now: u64) {
        if self.closed {
            return;
        }
        let head_bytes_max = self.limits.head_bytes_max;
        assert!(self.kept.len() <= head_bytes_max + READ_BYTES_MAX, "{} bytes kept", self.kept.len());
        assert!(self.out.pending().len() <= OUT_BYTES_MAX, "{} bytes queued", self.out.pending().len());
        for pipe in [&self.request, &self.response] {
            assert!(
                pipe.len() <= pipe.marks().high
                    && pipe.capacity() <= pipe.marks().high.next_power_of_two().max(4_096)
            );
        }
        let deadline = self.conn.deadline(&self.limits);
        let late = self.plan.late_ms_max;
        assert!(deadline.saturating_add(late) >= now, "the deadline {deadline} is missed at {now}");
        assert!(deadline == NEVER || deadline <= now + 65_000, "{deadline} is no deadline at {now}");
        let reads = self.guest.as_ref().is_some_and(|guest| guest.wants_body(now));
        let waits_for_body = self.conn.recv() == Recv::Body && !self.paused && reads;
        let waits_for_head =
            self.conn.send() == Send::Idle && matches!(self.conn.recv(), Recv::Idle | Recv::Head);
        let waits_for_room =
            self.was_blocked && !self.conn.is_flushed(&self.out) && self.conn.send() != Send::Cut;
        let discards = self.conn.recv() == Recv::Discard;
        // A reader's clock begins when the socket takes no more, which a later turn may find.
        let waits = waits_for_body || waits_for_head || discards || self.conn.is_lingering();
        assert!(!waits || deadline != NEVER, "it waits with no end: {:?}", self.conn);
        assert!(
            !waits_for_room || deadline != NEVER || self.guest.is_some() || self.conn.send() == Send::Done
        );
    }
}
