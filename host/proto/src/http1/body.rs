//! Decoding a request's body (RFC 9112 6.2 and 7.1).
//!
//! One step looks at input, says how much of it is consumed and which one range of it is body; nothing is copied
//! and nothing consumed is needed again, so that the caller may drop it. Must never know where the bytes go or how
//! fast. Byte-exact: what the grammar of chunks does not name is refused, never skipped.
//!
//! Invariant: for the same bytes the body, the trailers and the outcome do not depend on how they were split.

use core::ops::Range;

use super::fields::{Fields, is_forbidden_trailer, is_token, is_value_byte, trim_ows};
use super::framing::BodyFraming;
use crate::error::PeerError;
use crate::limits::Limits;

/// Digits in a chunk size: 16 are 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

const SIZE: PeerError = PeerError::Malformed("a chunk size is not 1 to 16 hexadecimal digits (RFC 9112 7.1)");
const SIZE_END: PeerError = PeerError::Malformed("a chunk size line does not end in CRLF (RFC 9112 7.1)");
const EXTENSION: PeerError = PeerError::Malformed("a chunk extension is malformed (RFC 9112 7.1.1)");
const EXTENSIONS_LONG: PeerError =
    PeerError::Malformed("the chunk extensions are longer than this server allows (RFC 9112 7.1.1)");
const DATA_END: PeerError = PeerError::Malformed("no CRLF behind the data of a chunk (RFC 9112 7.1)");
const TRAILER_LINE: PeerError = PeerError::Malformed("a trailer line is malformed (RFC 9112 7.1.2)");
const TRAILER_FORBIDDEN: PeerError =
    PeerError::Malformed("a field that may not stand in a trailer section (RFC 9110 6.5.1)");

/// What one step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Which bytes of the input belong to the body; within what was consumed, and possibly none.
    pub data: Range<usize>,
    /// The body, trailers included, is complete: input behind `consumed` is the next request's.
    pub ended: bool,
}

/// Where in the body the decoder stands. Each state says what the next byte has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Data of a body with a length: so many bytes left, never 0.
    Length(u64),
    /// A digit of a chunk size, or what ends the size.
    Size { digits: u8, size: u64 },
    /// White space between a size and its extension.
    ExtensionSpace { size: u64 },
    /// Within extensions.
    Extension { size: u64 },
    /// The LF of a size line.
    SizeLf { size: u64 },
    /// Data of a chunk: so many bytes left, never 0.
    Data(u64),
    /// The CR behind a chunk's data.
    DataCr,
    /// The LF behind a chunk's data.
    DataLf,
    /// Within a line of the trailer section.
    Trailer,
    /// The LF of such a line.
    TrailerLf,
    /// Nothing more.
    Ended,
}

/// The decoder of one body.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    extension_bytes: u32,
    trailer_bytes: u32,
    /// The trailer line in progress: unallocated unless a body has trailers.
    line: Vec<u8>,
}

impl BodyDecoder {
    /// A decoder at the start of a body.
    #[must_use]
    pub const fn new(framing: BodyFraming) -> Self {
        let state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::Ended,
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Size { digits: 0, size: 0 },
        };
        Self { state, extension_bytes: 0, trailer_bytes: 0, line: Vec::new() }
    }

    /// Bytes still to come of a body whose length is known; `None` for chunks.
    #[must_use]
    pub const fn remaining_hint(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Ended => Some(0),
            _ => None,
        }
    }

    /// Whether the body, trailers included, is complete.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// So many bytes of a counted body were received past the decoder, at most [`remaining_hint`](Self::remaining_hint)
    /// of them. True if the body is now complete. A body in chunks cannot be skipped: nothing happens.
    pub const fn skip(&mut self, n: u64) -> bool {
        if let State::Length(left) = self.state {
            debug_assert!(n <= left, "more bytes than the body has left");
            let left = left.saturating_sub(n);
            self.state = if left == 0 { State::Ended } else { State::Length(left) };
        } else {
            debug_assert!(n == 0, "only a counted body can be skipped");
        }
        self.is_ended()
    }

    /// Decodes one step: what frames the body, then at most one contiguous range of its data, at most `data_max`
    /// bytes. Call it again with the rest of the input until it neither consumes nor ends: then it has taken all
    /// of the input, or stands at data with a `data_max` of 0. Trailers are pushed to `trailers` once checked.
    ///
    /// # Errors
    /// 400 for anything that the grammar does not name and for forbidden trailers, 431 for too large or too many
    /// trailers. No step gives data and an error at once. After an error the decoder is of no further use.
    pub fn decode(
        &mut self,
        input: &[u8],
        data_max: usize,
        limits: &Limits,
        trailers: &mut Fields,
    ) -> Result<Decoded, PeerError> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            match self.state {
                State::Length(left) => {
                    let (taken, left) = take(rest, data_max, left);
                    self.state = if left == 0 { State::Ended } else { State::Length(left) };
                    return Ok(self.step(at, taken));
                }
                State::Data(left) => {
                    let (taken, left) = take(rest, data_max, left);
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    return Ok(self.step(at, taken));
                }
                State::Ended => return Ok(self.step(at, 0)),
                State::Trailer if !rest.is_empty() => {
                    at = at.saturating_add(self.trailer_part(rest, limits)?);
                }
                state => {
                    let Some(&byte) = rest.first() else { return Ok(self.step(at, 0)) };
                    self.state = self.next(state, byte, limits, trailers)?;
                    at = at.saturating_add(1);
                }
            }
        }
    }

    fn step(&self, at: usize, taken: usize) -> Decoded {
        let consumed = at.saturating_add(taken);
        Decoded { consumed, data: at..consumed, ended: self.is_ended() }
    }

    /// The state behind one byte that frames: the grammar of RFC 9112 7.1 as a table.
    fn next(
        &mut self,
        state: State,
        byte: u8,
        limits: &Limits,
        trailers: &mut Fields,
    ) -> Result<State, PeerError> {
        match (state, byte) {
            (State::Size { digits: 1.., size }, b'\r') => Ok(State::SizeLf { size }),
            (State::Size { digits: 1.., size }, b' ' | b'\t') => {
                self.count_extension(limits)?;
                Ok(State::ExtensionSpace { size })
            }
            (State::Size { digits: 1.., size }, b';') => {
                self.count_extension(limits)?;
                Ok(State::Extension { size })
            }
            (State::Size { digits, size }, _) => add_digit(digits, size, byte),
            (State::ExtensionSpace { size }, b' ' | b'\t') => {
                self.count_extension(limits)?;
                Ok(State::ExtensionSpace { size })
            }
            (State::ExtensionSpace { size }, b';') => {
                self.count_extension(limits)?;
                Ok(State::Extension { size })
            }
            (State::ExtensionSpace { .. }, _) => Err(EXTENSION),
            (State::Extension { size }, b'\r') => Ok(State::SizeLf { size }),
            (State::Extension { size }, byte) if is_value_byte(byte) => {
                self.count_extension(limits)?;
                Ok(State::Extension { size })
            }
            (State::Extension { .. }, _) => Err(EXTENSION),
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::Trailer),
            (State::SizeLf { size }, b'\n') => Ok(State::Data(size)),
            (State::SizeLf { .. }, _) => Err(SIZE_END),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { digits: 0, size: 0 }),
            (State::DataCr | State::DataLf, _) => Err(DATA_END),
            (State::TrailerLf, b'\n') => self.end_trailer_line(limits, trailers),
            (State::TrailerLf | State::Trailer, _) => Err(TRAILER_LINE),
            (State::Length(_) | State::Data(_) | State::Ended, _) => Ok(state),
        }
    }

    fn count_extension(&mut self, limits: &Limits) -> Result<(), PeerError> {
        self.extension_bytes = self.extension_bytes.saturating_add(1);
        if self.extension_bytes as usize > limits.chunk_ext_bytes_max { Err(EXTENSIONS_LONG) } else { Ok(()) }
    }

    /// Takes of `rest`, which is not empty, what belongs to the line in progress, its CR included; says how much.
    fn trailer_part(&mut self, rest: &[u8], limits: &Limits) -> Result<usize, PeerError> {
        let stop = memchr::memchr3(b'\r', b'\n', 0, rest);
        let part = rest.get(..stop.unwrap_or(rest.len())).unwrap_or_default();
        let counted = u32::try_from(part.len()).unwrap_or(u32::MAX);
        self.trailer_bytes = self.trailer_bytes.saturating_add(counted);
        if self.trailer_bytes as usize > limits.trailer_bytes_max {
            return Err(PeerError::HeadTooLarge);
        }
        let Some(stop) = stop else {
            self.line.extend_from_slice(part);
            return Ok(part.len());
        };
        if rest.get(stop) != Some(&b'\r') {
            return Err(TRAILER_LINE);
        }
        self.line.extend_from_slice(part);
        self.state = State::TrailerLf;
        Ok(stop.saturating_add(1))
    }

    /// A whole trailer line has come: an empty one ends the body.
    fn end_trailer_line(&mut self, limits: &Limits, trailers: &mut Fields) -> Result<State, PeerError> {
        if self.line.is_empty() {
            self.line = Vec::new();
            return Ok(State::Ended);
        }
        let colon = memchr::memchr(b':', &self.line).ok_or(TRAILER_LINE)?;
        let (name, value) = self.line.split_at_checked(colon).ok_or(TRAILER_LINE)?;
        let value = trim_ows(value.get(1..).unwrap_or_default());
        if !is_token(name) || !value.iter().all(|&byte| is_value_byte(byte)) {
            return Err(TRAILER_LINE);
        }
        if is_forbidden_trailer(name) {
            return Err(TRAILER_FORBIDDEN);
        }
        if trailers.len() >= limits.headers_max {
            return Err(PeerError::TooManyHeaders);
        }
        trailers.push(name, value);
        self.line.clear();
        Ok(State::Trailer)
    }
}

/// How much of `rest` is data, with `left` bytes due and `data_max` allowed; and what is then still due.
fn take(rest: &[u8], data_max: usize, left: u64) -> (usize, u64) {
    let due = usize::try_from(left).unwrap_or(usize::MAX);
    let taken = rest.len().min(data_max).min(due);
    (taken, left.saturating_sub(taken as u64))
}

fn add_digit(digits: u8, size: u64, byte: u8) -> Result<State, PeerError> {
    let digit = match byte {
        b'0'..=b'9' => byte.wrapping_sub(b'0'),
        b'a'..=b'f' => byte.wrapping_sub(b'a' - 10),
        b'A'..=b'F' => byte.wrapping_sub(b'A' - 10),
        _ => return Err(SIZE),
    };
    if digits >= SIZE_DIGITS_MAX {
        return Err(SIZE);
    }
    Ok(State::Size { digits: digits.saturating_add(1), size: size.wrapping_shl(4) | u64::from(digit) })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = (Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>, Result<usize, PeerError>);

    /// Everything a decoder makes of `input`, fed in pieces of `piece` bytes and at most `data_max` a step: body,
    /// trailers, and how much was consumed; `usize::MAX` where the input ended first.
    fn run(framing: BodyFraming, input: &[u8], piece: usize, data_max: usize) -> Outcome {
        let mut decoder = BodyDecoder::new(framing);
        let (mut body, mut trailers) = (Vec::new(), Fields::default());
        let end = feed(&mut decoder, input, piece, data_max, &mut body, &mut trailers);
        let trailers = trailers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        (body, trailers, end)
    }

    fn feed(
        decoder: &mut BodyDecoder,
        input: &[u8],
        piece: usize,
        data_max: usize,
        body: &mut Vec<u8>,
        trailers: &mut Fields,
    ) -> Result<usize, PeerError> {
        let mut taken = 0;
        for piece in input.chunks(piece).chain([&b""[..]]) {
            let mut at = 0;
            loop {
                let step = decoder.decode(&piece[at..], data_max, &Limits::default(), trailers)?;
                assert!(step.data.len() <= data_max);
                body.extend_from_slice(&piece[at..][step.data]);
                at += step.consumed;
                taken += step.consumed;
                if step.ended {
                    return Ok(taken);
                }
                if step.consumed == 0 {
                    break;
                }
            }
            assert_eq!(at, piece.len(), "a step leaves nothing behind unless it is stopped");
        }
        Ok(usize::MAX)
    }

    /// The outcome of the whole input at once, which is that of any other split too.
    fn outcomes(framing: BodyFraming, input: &[u8]) -> Outcome {
        let whole = run(framing, input, usize::MAX, usize::MAX);
        for (piece, data_max) in [(1, usize::MAX), (2, 1), (3, 2), (usize::MAX, 1), (7, 3)] {
            let split = run(framing, input, piece, data_max);
            assert_eq!(split, whole, "{} in pieces of {piece}, {data_max} a step", input.escape_ascii());
        }
        whole
    }

    #[test]
    fn stays_small() {
        assert!(size_of::<BodyDecoder>() <= 48, "{}", size_of::<BodyDecoder>());
    }

    #[test]
    fn lengths() {
        assert_eq!(outcomes(BodyFraming::None, b"next"), (vec![], vec![], Ok(0)));
        assert_eq!(outcomes(BodyFraming::Length(0), b"next"), (vec![], vec![], Ok(0)));
        assert_eq!(outcomes(BodyFraming::Length(3), b"abcnext"), (b"abc".to_vec(), vec![], Ok(3)));
        assert_eq!(outcomes(BodyFraming::Length(9), b"abc"), (b"abc".to_vec(), vec![], Ok(usize::MAX)));
        let mut decoder = BodyDecoder::new(BodyFraming::Length(9));
        assert_eq!(decoder.remaining_hint(), Some(9));
        let step = decoder.decode(b"abc", 2, &Limits::default(), &mut Fields::default());
        assert_eq!(step, Ok(Decoded { consumed: 2, data: 0..2, ended: false }));
        assert_eq!(decoder.remaining_hint(), Some(7));
        assert_eq!(BodyDecoder::new(BodyFraming::Chunked).remaining_hint(), None);
    }

    #[test]
    fn skipped_bytes_count_as_decoded() {
        let mut decoder = BodyDecoder::new(BodyFraming::Length(9));
        assert!(!decoder.skip(4) && !decoder.skip(0));
        let step = decoder.decode(b"abc", usize::MAX, &Limits::default(), &mut Fields::default());
        assert_eq!(step, Ok(Decoded { consumed: 3, data: 0..3, ended: false }));
        assert_eq!(decoder.remaining_hint(), Some(2));
        assert!(decoder.skip(2) && decoder.is_ended());
        assert!(!BodyDecoder::new(BodyFraming::Chunked).skip(0));
    }

    #[test]
    fn chunks() {
        let table: [(&[u8], &[u8], &[u8]); 9] = [
            (b"0\r\n\r\n", b"next", b""),
            (b"3\r\nabc\r\n0\r\n\r\n", b"", b"abc"),
            (b"3\r\na\r\n\r\n1\r\n\0\r\n0\r\n\r\n", b"\r\n", b"a\r\n\0"),
            (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0", b"01234567890123456789"),
            (b"0000000000000003\r\nabc\r\n000\r\n\r\n", b"", b"abc"),
            (b"1;a\r\nx\r\n0;b=\"q\\\"\";c\r\n\r\n", b"", b"x"),
            (b"1 \t;a=\xff\r\nx\r\n0\r\n\r\n", b"\xff", b"x"),
            (b"1;\r\nx\r\n0\r\n\r\n", b"", b"x"),
            (b"00001;x\r\nx\r\n0\r\n\r\n", b"GET", b"x"),
        ];
        for (encoded, next, body) in table {
            let expected = (body.to_vec(), vec![], Ok(encoded.len()));
            assert_eq!(
                outcomes(BodyFraming::Chunked, &[encoded, next].concat()),
                expected,
                "{}",
                encoded.escape_ascii()
            );
        }
    }

    #[test]
    fn chunks_refused() {
        let table: [(&[u8], PeerError); 29] = [
            (b"\r\n", SIZE),
            (b"0x3\r\nabc", SIZE),
            (b"+3\r\nabc", SIZE),
            (b"-3\r\nabc", SIZE),
            (b"1_0\r\n", SIZE),
            (b" 3\r\nabc", SIZE),
            (b"\t3\r\nabc", SIZE),
            (b";a\r\nabc", SIZE),
            (b"g\r\n", SIZE),
            (b"00000000000000003\r\nabc", SIZE),
            (b"fffffffffffffffff\r\n", SIZE),
            (b"3\nabc", SIZE),
            (b"3\rabc", SIZE_END),
            (b"3\r\rabc", SIZE_END),
            (b"3 \r\nabc", EXTENSION),
            (b"3 3\r\nabc", EXTENSION),
            (b"3;a\nabc", EXTENSION),
            (b"3;a\0\r\nabc", EXTENSION),
            (b"3;a\x7f\r\nabc", EXTENSION),
            (b"3;a\rabc", SIZE_END),
            (b"3\r\nabcd\r\n", DATA_END),
            (b"3\r\nabc\n0\r\n\r\n", DATA_END),
            (b"3\r\nabc\r0\r\n\r\n", DATA_END),
            (b"3\r\nabc0\r\n\r\n", DATA_END),
            (b"0\r\n\n", TRAILER_LINE),
            (b"0\r\n\rGET", TRAILER_LINE),
            (b"0\r\nGET / HTTP/1.1\r\n", TRAILER_LINE),
            (b"0\r\na: b\n\r\n", TRAILER_LINE),
            (b"3;\r\nabc\r\n3\r\nabc;", DATA_END),
        ];
        for (input, error) in table {
            assert_eq!(outcomes(BodyFraming::Chunked, input).2, Err(error), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn trailers() {
        let encoded = b"1\r\nx\r\n0\r\nX-Sum: \t1 2 \r\nempty:\r\n\r\n";
        let (body, trailers, end) = outcomes(BodyFraming::Chunked, &[&encoded[..], b"next"].concat());
        assert_eq!((body.as_slice(), end), (&b"x"[..], Ok(encoded.len())));
        assert_eq!(trailers, [(b"x-sum".to_vec(), b"1 2".to_vec()), (b"empty".to_vec(), vec![])]);
        for (line, error) in [
            ("Content-Length: 1", TRAILER_FORBIDDEN),
            ("transfer-encoding: chunked", TRAILER_FORBIDDEN),
            ("HOST: a", TRAILER_FORBIDDEN),
            ("Authorization: x", TRAILER_FORBIDDEN),
            ("Cookie: x", TRAILER_FORBIDDEN),
            ("a b: c", TRAILER_LINE),
            ("a : c", TRAILER_LINE),
            (": c", TRAILER_LINE),
            ("a", TRAILER_LINE),
            (" a: folded", TRAILER_LINE),
            ("a: \x01", TRAILER_LINE),
            ("a: \0", TRAILER_LINE),
        ] {
            let input = format!("0\r\n{line}\r\n\r\n");
            assert_eq!(outcomes(BodyFraming::Chunked, input.as_bytes()).2, Err(error), "{line:?}");
        }
    }

    #[test]
    fn trailer_storage_goes_with_the_body() {
        let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
        let mut trailers = Fields::default();
        let step = decoder.decode(b"0\r\na: b\r\n\r\n", 0, &Limits::default(), &mut trailers);
        assert_eq!(step, Ok(Decoded { consumed: 11, data: 11..11, ended: true }));
        assert_eq!(decoder.line.capacity(), 0);
    }

    #[test]
    fn bounds_hold_over_the_whole_body() {
        let limits =
            Limits { chunk_ext_bytes_max: 6, trailer_bytes_max: 8, headers_max: 2, ..Limits::default() };
        let table: [(&[u8], Option<PeerError>); 6] = [
            (b"1;ab\r\nx\r\n1;ab\r\nx\r\n0\r\n\r\n", None),
            (b"1;ab\r\nx\r\n1;ab\r\nx\r\n0;\r\n\r\n", Some(EXTENSIONS_LONG)),
            (b"0\r\na: b\r\nc: d\r\n\r\n", None),
            (b"0\r\na: b\r\nc: de\r\n\r\n", Some(PeerError::HeadTooLarge)),
            (b"0\r\na:\r\nb:\r\nc:\r\n\r\n", Some(PeerError::TooManyHeaders)),
            (b"0\r\na:123456789", Some(PeerError::HeadTooLarge)),
        ];
        for (input, error) in table {
            let mut decoder = BodyDecoder::new(BodyFraming::Chunked);
            let (mut trailers, mut at) = (Fields::default(), 0);
            let end = loop {
                match decoder.decode(&input[at..], usize::MAX, &limits, &mut trailers) {
                    Ok(step) if step.ended => break None,
                    Ok(step) => at += step.consumed,
                    Err(error) => break Some(error),
                }
                assert!(at < input.len(), "neither refused nor ended: {}", input.escape_ascii());
            };
            assert_eq!(end, error, "{}", input.escape_ascii());
        }
    }
}
