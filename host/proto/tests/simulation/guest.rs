//! A guest as the plan has it: it reads, thinks, answers and fails, a step at a time.

use tidegate_proto::conn::state::Send;
use tidegate_proto::conn::{Connection, OutBuf};
use tidegate_proto::http1::encode::{ResponseHead, push_trailer};
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::pipe::Pipe;

use crate::dice::Dice;
use crate::plan::{Exchange, Length};

pub(crate) const DATE: &[u8; 29] = b"Fri, 20 Nov 2026 09:00:00 GMT";

/// What a guest works with while it runs.
pub(crate) struct Around<'a> {
    pub(crate) conn: &'a mut Connection,
    pub(crate) out: &'a mut OutBuf,
    pub(crate) request: &'a mut Pipe,
    pub(crate) request_trailers: &'a Fields,
    pub(crate) response: &'a mut Pipe,
    pub(crate) response_trailers: &'a mut Vec<u8>,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There may be more to do.
    More,
    /// It waits, for the peer or for time.
    Waits,
    Failed,
}

#[derive(Debug)]
pub(crate) struct Guest {
    exchange: Exchange,
    answer: Vec<u8>,
    written: usize,
    pub(crate) seen: Vec<u8>,
    /// All of the request came, and so many trailers.
    pub(crate) whole: Option<usize>,
    ended: bool,
    hinted: bool,
    wake_at: u64,
}

impl Guest {
    pub(crate) fn new(exchange: &Exchange, number: usize) -> Self {
        Self {
            exchange: exchange.clone(),
            answer: exchange.answer(number),
            written: 0,
            seen: Vec::new(),
            whole: None,
            ended: false,
            hinted: !exchange.early_hints,
            wake_at: 0,
        }
    }

    /// When it goes on by itself, if it sleeps.
    pub(crate) fn next_at(&self, now: u64) -> Option<u64> {
        (self.wake_at > now).then_some(self.wake_at)
    }

    /// It waits for a body that it wants.
    pub(crate) fn wants_body(&self, now: u64) -> bool {
        self.exchange.reads && self.whole.is_none() && self.wake_at <= now
    }

    pub(crate) fn step(&mut self, around: &mut Around<'_>, now: u64, dice: &mut Dice) -> Step {
        if self.wake_at > now {
            return Step::Waits;
        }
        let step = match self.read(around, now, dice) {
            Step::More => Step::More,
            _ => self.write(around, dice),
        };
        if step == Step::More && self.exchange.pause_ms_max > 0 && dice.once_in(4) {
            self.wake_at = now + dice.millis(0, self.exchange.pause_ms_max);
        }
        step
    }

    fn read(&mut self, around: &mut Around<'_>, now: u64, dice: &mut Dice) -> Step {
        if !self.exchange.reads || self.whole.is_some() {
            return Step::Waits;
        }
        around.conn.handle_body_wanted(now, around.out);
        let mut part = vec![0; dice.pick(&[1, 700, 5_000, 100_000])];
        let n = around.request.read(&mut part);
        self.seen.extend_from_slice(&part[..n]);
        if around.request.drained() {
            self.whole = Some(around.request_trailers.len());
            return Step::More;
        }
        if n > 0 { Step::More } else { Step::Waits }
    }

    fn write(&mut self, around: &mut Around<'_>, dice: &mut Dice) -> Step {
        if !std::mem::replace(&mut self.hinted, true) {
            around.conn.send_interim(103, b"link: </a>\r\n", around.out);
            return Step::More;
        }
        let ready =
            !self.exchange.reads || self.whole.is_some() || self.seen.len() >= self.exchange.answers_after;
        if !ready || self.ended || self.exchange.hangs {
            return Step::Waits;
        }
        if around.conn.send() == Send::Await && self.exchange.length != Length::Held {
            self.send_head(around, None);
            return Step::More;
        }
        if self.exchange.fails_after.is_some_and(|bytes| self.written >= bytes) {
            return Step::Failed;
        }
        if self.written < self.answer.len() {
            let most = self.exchange.fails_after.unwrap_or(usize::MAX).min(self.answer.len());
            let end = (self.written + dice.pick(&[1, 500, 6_000, 100_000])).min(most);
            let n = around.response.write(&self.answer[self.written..end]);
            self.written += n;
            if n == 0 && around.conn.send() == Send::Await {
                // More than can be held: the head leaves, and the rest follows.
                self.exchange.length = Length::Streamed;
                return Step::More;
            }
            return if n > 0 { Step::More } else { Step::Waits };
        }
        if self.exchange.trailers {
            push_trailer(b"x-sum", b"7", around.response_trailers).expect("a valid trailer");
        }
        around.response.end();
        self.ended = true;
        if self.exchange.length == Length::Held {
            self.send_head(around, Some(self.answer.len() as u64));
        }
        Step::More
    }

    fn send_head(&self, around: &mut Around<'_>, known_len: Option<u64>) {
        let mut head = ResponseHead::default();
        head.set_status(self.exchange.status).expect("a final status");
        if self.exchange.length == Length::Declared {
            head.push(b"content-length", self.answer.len().to_string().as_bytes()).expect("a valid field");
        }
        around.conn.send_head(&head, known_len, DATE, None, around.out).expect("one head a request");
    }
}
