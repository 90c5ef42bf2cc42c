//! The clients: that of this crate, which sends one request after the other, and one that pipelines and waits for 100
//! (Continue). Both keep what they were answered.

mod pipelining;
mod pooled;

use pipelining::Pipelining;
use pooled::Pooled;

use crate::dice::Dice;
use crate::network::Link;
use crate::plan::{Plan, Trouble};
use crate::reader::Reply;

/// What both have in common: when they act, and how they end.
#[derive(Debug)]
struct Socket {
    trouble: Trouble,
    /// When the trouble begins, if it begins at a time.
    trouble_at: u64,
    next_send: u64,
    next_read: u64,
    closed: bool,
    /// What somebody slow moves at a time, and how long it rests then.
    slow: (usize, u64),
    dice: Dice,
}

impl Socket {
    fn new(plan: &Plan, mut dice: Dice) -> Self {
        let trouble_at = dice.millis(0, dice.clone().pick(&[400, 5_000]));
        let slow = dice.pick(&[(5, 100), (1, 400), (20, 1_000)]);
        Self { trouble: plan.trouble, trouble_at, next_send: 0, next_read: 0, closed: false, slow, dice }
    }

    /// Whether it is over with the client; the trouble that ends it comes here.
    fn is_over(&mut self, now: u64, up: &mut Link, down: &mut Link) -> bool {
        if !self.closed && self.trouble == Trouble::Reset && now >= self.trouble_at {
            down.close_reader();
            up.abort(now);
            self.closed = true;
        }
        if !self.closed && self.trouble == Trouble::Leave && now >= self.trouble_at {
            self.close(now, up, down);
        }
        self.closed || self.is_gone(now)
    }

    fn is_gone(&self, now: u64) -> bool {
        self.trouble == Trouble::Vanish && now >= self.trouble_at
    }

    fn close(&mut self, now: u64, up: &mut Link, down: &mut Link) {
        if down.close_reader() {
            up.abort(now);
        }
        up.end(now);
        self.closed = true;
    }

    /// Bytes that it sends now.
    fn may_send(&mut self, now: u64) -> usize {
        if now < self.next_send {
            return 0;
        }
        if self.trouble == Trouble::SlowSender {
            self.next_send = now + self.slow.1;
            return self.slow.0;
        }
        self.dice.pick(&[1, 100, 3_000, usize::MAX])
    }

    /// Bytes that it reads now.
    fn may_read(&mut self, now: u64) -> usize {
        if now < self.next_read {
            return 0;
        }
        if self.trouble == Trouble::SlowReader {
            self.next_read = now + self.slow.1;
            return self.slow.0;
        }
        self.dice.pick(&[1, 200, 5_000, 100_000])
    }

    fn next_at(&self, now: u64) -> Option<u64> {
        let timed = matches!(self.trouble, Trouble::Reset | Trouble::Leave);
        let trouble = timed.then_some(self.trouble_at);
        let times = [Some(self.next_send), Some(self.next_read), trouble];
        if self.closed || self.is_gone(now) {
            return None;
        }
        times.into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// How the connection ended, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client ended it, or was gone.
    Own,
    Fin,
    Reset,
}

/// What a client has at the end.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) replies: Vec<Reply>,
    /// What of an answer came that did not come whole.
    pub(crate) partial: Option<Reply>,
    pub(crate) end: End,
    /// Requests of which the first byte has left.
    pub(crate) begun: usize,
    pub(crate) continues: usize,
}

/// Either.
#[derive(Debug)]
pub(crate) enum Client {
    Pooled(Box<Pooled>),
    Pipelining(Box<Pipelining>),
}

impl Client {
    pub(crate) fn new(plan: &Plan, dice: Dice) -> Self {
        if plan.pooled {
            Self::Pooled(Box::new(Pooled::new(plan, dice)))
        } else {
            Self::Pipelining(Box::new(Pipelining::new(plan, dice)))
        }
    }

    const fn socket(&self) -> &Socket {
        match self {
            Self::Pooled(client) => &client.socket,
            Self::Pipelining(client) => &client.socket,
        }
    }

    /// Does something of what can be done; says whether it did.
    pub(crate) fn turn(&mut self, now: u64, up: &mut Link, down: &mut Link) -> bool {
        if self.socket().closed && down.offended {
            down.offended = false;
            up.abort(now);
            return true;
        }
        match self {
            Self::Pooled(client) => client.turn(now, up, down),
            Self::Pipelining(client) => client.turn(now, up, down),
        }
    }

    pub(crate) fn next_at(&self, now: u64) -> Option<u64> {
        match self {
            Self::Pooled(client) => client.socket.next_at(now),
            Self::Pipelining(client) => client.next_at(now),
        }
    }

    /// It does nothing any more, on purpose or not.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.socket().closed || self.socket().is_gone(now)
    }

    pub(crate) fn account(self) -> Account {
        match self {
            Self::Pooled(client) => client.account(),
            Self::Pipelining(client) => client.account(),
        }
    }
}
