//! What is to happen in one run: the exchanges, the guests, the network, and what goes wrong.

use crate::dice::Dice;
use crate::network::Nature;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing: everything has to arrive.
    None,
    /// The client ends its side once all is sent, and waits for its answers.
    HalfClose,
    /// The client sends below every rate.
    SlowSender,
    /// The client reads below every rate.
    SlowReader,
    /// The client is reset at some time.
    Reset,
    /// The client does nothing more from some time on.
    Vanish,
    /// The client closes its socket at some time, and some guests never answer.
    Leave,
}

/// How an answer tells its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// It is known as a whole before its head leaves.
    Held,
    /// By a field of the guest's.
    Declared,
    /// When it ends.
    Streamed,
}

/// A request and the answer that the guest gives it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) method: &'static str,
    pub(crate) http10: bool,
    pub(crate) close: bool,
    pub(crate) expect: bool,
    pub(crate) chunked: bool,
    pub(crate) body_bytes: usize,
    pub(crate) body_max: Option<usize>,
    pub(crate) status: u16,
    pub(crate) length: Length,
    pub(crate) answer_bytes: usize,
    pub(crate) trailers: bool,
    pub(crate) early_hints: bool,
    /// The guest reads its request's body.
    pub(crate) reads: bool,
    /// It answers once it has read so many bytes; at the latest at the end.
    pub(crate) answers_after: usize,
    /// It fails once it has written so many bytes.
    pub(crate) fails_after: Option<usize>,
    /// Longest pause between two things that it does.
    pub(crate) pause_ms_max: u64,
    /// It never answers.
    pub(crate) hangs: bool,
}

impl Exchange {
    fn new(dice: &mut Dice, pooled: bool) -> Self {
        let method = dice.pick(&["GET", "GET", "HEAD", "POST", "POST", "PUT"]);
        let has_body = matches!(method, "POST" | "PUT");
        let size = |dice: &mut Dice| {
            let (from, to) = dice.pick(&[(0, 0), (1, 40), (100, 3_000), (4_000, 5_000), (60_000, 90_000)]);
            dice.within(from, to)
        };
        let http10 = !pooled && dice.once_in(12);
        let body_bytes = if has_body { size(dice) } else { 0 };
        let chunked = !http10 && body_bytes > 0 && dice.once_in(2);
        let status = dice.pick(&[200, 200, 200, 404, 500, 204, 304]);
        let bodiless = matches!(status, 204 | 304);
        let length = dice.pick(&[Length::Held, Length::Declared, Length::Streamed]);
        let answer_bytes = if bodiless { 0 } else { size(dice) };
        Self {
            method,
            http10,
            close: dice.once_in(10),
            expect: !pooled && !http10 && body_bytes > 0 && dice.once_in(3),
            chunked,
            body_bytes,
            body_max: (body_bytes > 0 && dice.once_in(10)).then(|| dice.within(0, body_bytes)),
            status,
            length,
            answer_bytes,
            trailers: length == Length::Streamed && dice.once_in(3),
            early_hints: dice.once_in(8),
            reads: !dice.once_in(6),
            answers_after: if dice.once_in(3) { dice.within(0, body_bytes) } else { usize::MAX },
            fails_after: dice.once_in(15).then(|| dice.within(0, answer_bytes)),
            pause_ms_max: dice.pick(&[0, 0, 5, 300]),
            hangs: false,
        }
    }

    /// The answer may begin before the request has come whole.
    pub(crate) const fn answers_early(&self) -> bool {
        !self.reads || self.answers_after != usize::MAX
    }

    /// The body of the request.
    pub(crate) fn body(&self, number: usize) -> Vec<u8> {
        pattern(number, self.body_bytes)
    }

    /// The body of the answer, as the guest writes it.
    pub(crate) fn answer(&self, number: usize) -> Vec<u8> {
        pattern(number + 100, self.answer_bytes)
    }

    /// The body of the answer, as the client sees it.
    pub(crate) fn seen_answer(&self, number: usize) -> Vec<u8> {
        if self.method == "HEAD" || matches!(self.status, 204 | 304) {
            Vec::new()
        } else {
            self.answer(number)
        }
    }
}

/// Letters that tell their place, and in whose body they are: nothing that could be taken for a head.
fn pattern(number: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| b'a' + u8::try_from((at + at / 26 + number * 7) % 26).expect("a letter")).collect()
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) trouble: Trouble,
    /// The client is that of this crate, which sends one request after the other; else one that pipelines.
    pub(crate) pooled: bool,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) up: Nature,
    pub(crate) down: Nature,
    /// High marks of the pipes.
    pub(crate) pipe_bytes: usize,
    pub(crate) client_pipe_bytes: usize,
    /// How late a timer may be looked at.
    pub(crate) late_ms_max: u64,
}

impl Plan {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let pooled = dice.once_in(2);
        let trouble = dice.pick(&[
            Trouble::None,
            Trouble::None,
            Trouble::None,
            Trouble::HalfClose,
            Trouble::SlowSender,
            Trouble::SlowReader,
            Trouble::Reset,
            Trouble::Vanish,
            Trouble::Leave,
        ]);
        // The client of this crate never ends its side alone.
        let trouble = if pooled && trouble == Trouble::HalfClose { Trouble::None } else { trouble };
        let mut exchanges: Vec<_> = (0..dice.within(1, 5)).map(|_| Exchange::new(dice, pooled)).collect();
        // Whoever asks for the end sends nothing behind it (RFC 9112 section 9.6).
        if let Some(last) = exchanges.iter().position(|exchange| exchange.close || exchange.http10) {
            exchanges.truncate(last + 1);
        }
        if trouble == Trouble::Leave {
            exchanges.iter_mut().for_each(|exchange| exchange.hangs = dice.once_in(2));
        }
        if trouble == Trouble::HalfClose {
            // An answer has to move then, and a guest that rests keeps it from that.
            exchanges.iter_mut().for_each(|exchange| exchange.pause_ms_max = 0);
        }
        let nature = |dice: &mut Dice| Nature {
            buffer_bytes: dice.pick(&[2_000, 16_000, 200_000]),
            segment_bytes_max: dice.pick(&[3, 100, 1_460, 1_460, 64_000]).max(1),
            delay_ms_max: dice.pick(&[0, 1, 20]),
        };
        Self {
            trouble,
            pooled,
            exchanges,
            up: nature(dice),
            down: nature(dice),
            pipe_bytes: dice.pick(&[1_024, 8_192, 65_536]),
            client_pipe_bytes: dice.pick(&[512, 8_192, 65_536]),
            late_ms_max: dice.pick(&[0, 3, 200]),
        }
    }
}
