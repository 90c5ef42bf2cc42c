//! The chunked coding: what is encoded reads back in any split, and any bytes are read as the grammar has it (RFC 9112
//! section 7.1), by a reader that has them all at once and takes its time.

use tidegate_proto::http1::body::BodyDecoder;
use tidegate_proto::http1::encode::{encode_chunk_size, push_trailer};
use tidegate_proto::http1::fields::{Fields, is_forbidden_trailer};
use tidegate_proto::http1::framing::BodyFraming;
use tidegate_proto::limits::Limits;

use crate::input::{Choices, Dice, narrow};

const INPUT_BYTES_MAX: usize = 4096;

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After so many bytes.
    Whole(usize),
    More,
    Refused,
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    body: Vec<u8>,
    trailers: Lines,
    end: End,
}

fn decode(pieces: &[&[u8]], data_max: usize, limits: &Limits) -> Outcome {
    let (mut decoder, mut trailers) = (BodyDecoder::new(BodyFraming::Chunked), Fields::default());
    let (mut body, mut taken) = (Vec::new(), 0);
    let mut end = End::More;
    'all: for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let Ok(step) = decoder.decode(rest, data_max, limits, &mut trailers) else {
                end = End::Refused;
                break 'all;
            };
            assert!(step.data.len() <= data_max && step.data.end <= step.consumed);
            body.extend_from_slice(&rest[step.data]);
            rest = &rest[step.consumed..];
            taken += step.consumed;
            if step.ended {
                end = End::Whole(taken);
                break 'all;
            }
            assert!(step.consumed > 0, "it stands still with input left");
        }
    }
    assert_eq!(decoder.is_ended(), matches!(end, End::Whole(_)));
    let trailers = trailers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    Outcome { body, trailers, end }
}

/// The grammar, read slowly. Data of a chunk counts as far as it has come; of a line nothing before its end.
fn model(input: &[u8]) -> Outcome {
    let mut outcome = Outcome { body: Vec::new(), trailers: Vec::new(), end: End::More };
    outcome.end = read(input, &mut outcome.body, &mut outcome.trailers);
    outcome
}

fn read(input: &[u8], body: &mut Vec<u8>, trailers: &mut Lines) -> End {
    let mut at = 0;
    loop {
        let rest = &input[at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 16 {
            return End::Refused;
        }
        let Some(after) = rest.get(digits) else { return End::More };
        if digits == 0 || !matches!(after, b'\r' | b';' | b' ' | b'\t') {
            return End::Refused;
        }
        let size =
            std::str::from_utf8(&rest[..digits]).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        let size = size.expect("up to 16 digits");
        let spaces = rest[digits..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let extension = digits + spaces;
        match rest.get(extension) {
            None => return End::More,
            Some(b'\r') if spaces == 0 => {}
            Some(b';') => {}
            Some(_) => return End::Refused,
        }
        let value = |byte: &&u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        let line = extension + rest[extension..].iter().take_while(value).count();
        match rest.get(line..(line + 2).min(rest.len())).unwrap_or_default() {
            [] | [b'\r'] => return End::More,
            b"\r\n" => at += line + 2,
            _ => return End::Refused,
        }
        if size == 0 {
            break;
        }
        let rest = &input[at..];
        let there = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        body.extend_from_slice(&rest[..there]);
        if (there as u64) < size {
            return End::More;
        }
        match rest.get(there..(there + 2).min(rest.len())).unwrap_or_default() {
            [] | [b'\r'] => return End::More,
            b"\r\n" => at += there + 2,
            _ => return End::Refused,
        }
    }
    loop {
        let rest = &input[at..];
        let Some(stop) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)) else {
            return End::More;
        };
        match &rest[stop..(stop + 2).min(rest.len())] {
            [b'\r'] => return End::More,
            b"\r\n" => at += stop + 2,
            _ => return End::Refused,
        }
        let line = &rest[..stop];
        if line.is_empty() {
            return End::Whole(at);
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return End::Refused };
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let named = !name.is_empty() && name.iter().all(token) && !is_forbidden_trailer(name);
        if !named || !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
            return End::Refused;
        }
        if trailers.len() == Limits::default().headers_max {
            return End::Refused;
        }
        trailers.push((name.to_ascii_lowercase(), value.to_vec()));
    }
}

fn trim(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(first) = bytes.iter().position(|byte| !is_space(byte)) else { return &[] };
    let last = bytes.iter().rposition(|byte| !is_space(byte)).unwrap_or(first);
    &bytes[first..=last]
}

fn same_in_any_split(wire: &[u8], dice: &mut Dice, data_max: usize, limits: &Limits) -> Outcome {
    let whole = decode(&[wire], usize::MAX, limits);
    assert_eq!(decode(&dice.pieces(wire), data_max, limits), whole, "split");
    assert_eq!(decode(&wire.chunks(1).collect::<Vec<_>>(), data_max, limits), whole, "byte by byte");
    whole
}

/// Choices: what to do with the rest, a seed, the data that a step may give.
pub fn chunks(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (kind, mut dice) = (choices.byte(), Dice::new(choices.byte()));
    let data_max = usize::from(choices.byte()).max(1);
    let rest = choices.rest(INPUT_BYTES_MAX);
    match kind % 3 {
        0 => {
            let outcome = same_in_any_split(rest, &mut dice, data_max, &Limits::default());
            assert_eq!(outcome, model(rest), "{}", rest.escape_ascii());
        }
        1 => {
            same_in_any_split(rest, &mut dice, data_max, &narrow());
        }
        _ => round_trip(rest, &mut dice, data_max),
    }
}

fn round_trip(body: &[u8], dice: &mut Dice, data_max: usize) {
    let mut wire = Vec::new();
    for piece in dice.pieces(body).into_iter().filter(|piece| !piece.is_empty()) {
        encode_chunk_size(piece.len(), &mut wire);
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    // What may stand in a trailer is for the encoder to say.
    let mut lines = Vec::new();
    let (name, value) = body.split_at(body.len().min(dice.below(8)));
    let trailer = push_trailer(name, &value[..value.len().min(20)], &mut lines).is_ok();
    wire.extend_from_slice(b"0\r\n");
    wire.extend_from_slice(&lines);
    wire.extend_from_slice(b"\r\n");
    let outcome = same_in_any_split(&wire, dice, data_max, &Limits::default());
    assert_eq!((outcome.end, outcome.trailers.len()), (End::Whole(wire.len()), usize::from(trailer)));
    assert!(outcome.body == body, "another body");
}
