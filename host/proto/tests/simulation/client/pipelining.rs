//! A client that sends all that it has at once, and reads the answers as they come.

use std::collections::VecDeque;

use tidegate_proto::http1::encode::encode_chunk_size;

use super::{Account, End, Socket};
use crate::dice::Dice;
use crate::network::Link;
use crate::plan::{Plan, Trouble};
use crate::reader::Reader;

/// How long a client waits for 100 (Continue) before it sends the body all the same.
const PATIENCE_MS: u64 = 1_000;

#[derive(Debug)]
enum Part {
    Begin(usize),
    Bytes(Vec<u8>),
    /// Waits for 100 (Continue), or the answer.
    Expect(usize),
}

/// Sends all that it has at once, and reads the answers as they come.
#[derive(Debug)]
pub(crate) struct Pipelining {
    pub(super) socket: Socket,
    parts: VecDeque<Part>,
    at: usize,
    begun: usize,
    waits_since: Option<(u64, usize)>,
    reader: Reader,
    methods: Vec<&'static str>,
    end: End,
}

impl Pipelining {
    pub(crate) fn new(plan: &Plan, mut dice: Dice) -> Self {
        let mut parts = VecDeque::new();
        for (number, exchange) in plan.exchanges.iter().enumerate() {
            parts.push_back(Part::Begin(number));
            let version = if exchange.http10 { "1.0" } else { "1.1" };
            let mut head = format!("{} /{number} HTTP/{version}\r\nHost: a\r\n", exchange.method);
            if exchange.close {
                head += "Connection: close\r\n";
            }
            if exchange.expect {
                head += "Expect: 100-continue\r\n";
            }
            let body = exchange.body(number);
            let mut wire = Vec::new();
            if exchange.chunked {
                head += "Transfer-Encoding: chunked\r\n";
                let mut rest = body.as_slice();
                while !rest.is_empty() {
                    let (chunk, after) = rest.split_at(dice.within(1, 20_000).min(rest.len()));
                    encode_chunk_size(chunk.len(), &mut wire);
                    wire.extend_from_slice(chunk);
                    wire.extend_from_slice(b"\r\n");
                    rest = after;
                }
                wire.extend_from_slice(b"0\r\nx-end: 1\r\n\r\n");
            } else {
                if exchange.body_bytes > 0 {
                    head += &format!("Content-Length: {}\r\n", body.len());
                }
                wire = body;
            }
            parts.push_back(Part::Bytes((head + "\r\n").into_bytes()));
            if exchange.expect {
                parts.push_back(Part::Expect(number));
            }
            parts.push_back(Part::Bytes(wire));
        }
        Self {
            socket: Socket::new(plan, dice),
            parts,
            at: 0,
            begun: 0,
            waits_since: None,
            reader: Reader::default(),
            methods: plan.exchanges.iter().map(|exchange| exchange.method).collect(),
            end: End::Own,
        }
    }

    pub(super) fn turn(&mut self, now: u64, up: &mut Link, down: &mut Link) -> bool {
        if self.socket.is_over(now, up, down) {
            return false;
        }
        let sent = self.send(now, up);
        let most = self.socket.may_read(now);
        let bytes = down.read(most);
        self.reader.take(&bytes);
        let over = self.reader.replies.len() == self.methods.len();
        let closes = self.reader.replies.last().is_some_and(|reply| reply.closes);
        if closes {
            // Nothing after this is answered.
            self.parts.clear();
        }
        if down.is_eof() {
            self.reader.end();
            self.end = End::Fin;
        } else if down.is_reset() {
            self.end = End::Reset;
        } else if !(over && self.parts.is_empty()) {
            return sent || !bytes.is_empty();
        }
        self.socket.close(now, up, down);
        true
    }

    fn send(&mut self, now: u64, up: &mut Link) -> bool {
        let mut moved = false;
        loop {
            match self.parts.front() {
                None if self.socket.trouble == Trouble::HalfClose => {
                    up.end(now);
                    return moved;
                }
                None => return moved,
                Some(Part::Begin(number)) => {
                    self.begun = number + 1;
                    self.reader.methods.push_back(self.methods[*number]);
                }
                Some(Part::Expect(number)) => {
                    let (since, before) = *self.waits_since.get_or_insert((now, self.reader.continues));
                    if self.reader.replies.len() > *number && self.reader.continues == before {
                        // It was answered without the body, which is not sent then, nor anything behind it.
                        self.parts.clear();
                        return true;
                    }
                    if self.reader.continues == before && now < since + PATIENCE_MS {
                        return moved;
                    }
                    self.waits_since = None;
                }
                Some(Part::Bytes(bytes)) => {
                    if self.at < bytes.len() {
                        let most = self.socket.may_send(now).min(bytes.len() - self.at);
                        let n = up.send(&bytes[self.at..self.at + most], now);
                        self.at += n;
                        return moved | (n > 0);
                    }
                    self.at = 0;
                }
            }
            moved = true;
            self.parts.pop_front();
        }
    }

    pub(super) fn next_at(&self, now: u64) -> Option<u64> {
        let patience = self.waits_since.map(|(since, _)| since + PATIENCE_MS).filter(|at| *at > now);
        let patience = patience.filter(|_| !self.socket.closed && !self.socket.is_gone(now));
        self.socket.next_at(now).into_iter().chain(patience).min()
    }

    pub(super) fn account(self) -> Account {
        Account {
            partial: self.reader.partial().cloned(),
            continues: self.reader.continues,
            end: self.end,
            begun: self.begun,
            replies: self.reader.replies,
        }
    }
}
