//! One direction of a connection: bytes that take their time, in pieces of any size, through buffers that fill; an end,
//! and a reset, which takes with it what was not read.

use std::collections::VecDeque;

use crate::dice::Dice;

#[derive(Debug)]
enum Packet {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// What holds of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// Bytes that wait at both ends and in between at most.
    pub(crate) buffer_bytes: usize,
    pub(crate) segment_bytes_max: usize,
    pub(crate) delay_ms_max: u64,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Link {
    nature: Nature,
    dice: Dice,
    under_way: VecDeque<(u64, Packet)>,
    in_flight_bytes: usize,
    arrived: VecDeque<u8>,
    ended: bool,
    fin: bool,
    reset: bool,
    /// Nobody reads any more: what arrives is answered with a reset.
    unread: bool,
    /// Something arrived where nobody reads.
    pub(crate) offended: bool,
}

impl Link {
    pub(crate) fn new(nature: Nature, dice: Dice) -> Self {
        Self {
            nature,
            dice,
            under_way: VecDeque::new(),
            in_flight_bytes: 0,
            arrived: VecDeque::new(),
            ended: false,
            fin: false,
            reset: false,
            unread: false,
            offended: false,
        }
    }

    /// Bytes that the sender's socket takes now.
    pub(crate) fn room(&self) -> usize {
        if self.ended {
            0
        } else {
            self.nature.buffer_bytes.saturating_sub(self.in_flight_bytes + self.arrived.len())
        }
    }

    /// Sends what there is room for, and says how much that was.
    pub(crate) fn send(&mut self, bytes: &[u8], now: u64) -> usize {
        let taken = bytes.len().min(self.room());
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            let (segment, after) =
                rest.split_at(self.dice.within(1, self.nature.segment_bytes_max).min(rest.len()));
            self.in_flight_bytes += segment.len();
            self.put(Packet::Bytes(segment.to_vec()), now);
            rest = after;
        }
        taken
    }

    /// Nothing more is sent.
    pub(crate) fn end(&mut self, now: u64) {
        if !std::mem::replace(&mut self.ended, true) {
            self.put(Packet::Fin, now);
        }
    }

    /// The connection is torn down from the sender's side.
    pub(crate) fn abort(&mut self, now: u64) {
        self.ended = true;
        self.put(Packet::Reset, now);
    }

    fn put(&mut self, packet: Packet, now: u64) {
        let at = now + self.dice.millis(0, self.nature.delay_ms_max);
        // Nothing overtakes.
        let at = self.under_way.back().map_or(at, |(before, _)| at.max(*before));
        self.under_way.push_back((at, packet));
    }

    /// What is due arrives.
    pub(crate) fn deliver(&mut self, now: u64) {
        while let Some((_, packet)) = self.under_way.pop_front_if(|(at, _)| *at <= now) {
            match packet {
                Packet::Bytes(bytes) => {
                    self.in_flight_bytes -= bytes.len();
                    if self.unread {
                        self.offended = true;
                    } else if !self.reset {
                        self.arrived.extend(bytes);
                    }
                }
                Packet::Fin => self.fin = true,
                Packet::Reset => {
                    self.reset = true;
                    self.arrived.clear();
                }
            }
        }
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.under_way.front().map(|(at, _)| *at)
    }

    /// What has arrived, up to `max` bytes of it.
    pub(crate) fn read(&mut self, max: usize) -> Vec<u8> {
        let n = max.min(self.arrived.len());
        self.arrived.drain(..n).collect()
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.arrived.len()
    }

    /// The sender has ended, and all that it sent is read.
    pub(crate) fn is_eof(&self) -> bool {
        self.fin && !self.reset && self.arrived.is_empty()
    }

    /// The sender has ended, though not all is read.
    pub(crate) fn fin_arrived(&self) -> bool {
        self.fin
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.reset
    }

    /// The reader's socket is closed. True: something was there unread, and the sender is told by a reset.
    pub(crate) fn close_reader(&mut self) -> bool {
        self.unread = true;
        !std::mem::take(&mut self.arrived).is_empty()
    }
}
