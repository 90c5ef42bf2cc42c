//! The body of a response as it comes in: framing, trailers, and whether its end was a clean one.
//!
//! Strict on purpose (RFC 9112 section 7.1): a chunk that is not exactly as it should be fails the test.

use std::io::{self, ErrorKind, Read};

use crate::http::{Connection, Head};

/// How a body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As its framing says it should; for a body delimited by the connection's end: an orderly close.
    Clean,
    /// The connection ended before the body did; the text says how.
    Cut(String),
}

/// What is left to come, by the framing of the head.
enum State {
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    Trailers,
    UntilClose,
    Ended,
}

/// Reads the body of one response, piece by piece.
pub struct Body {
    state: State,
    /// Fields after the last chunk.
    pub trailers: Vec<(String, String)>,
    end: Option<End>,
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

impl Body {
    /// Decides the framing (RFC 9112 section 6.3). `bodiless`: the request was HEAD.
    pub(crate) fn new(head: &Head, bodiless: bool) -> io::Result<Self> {
        let lengths = head.all("content-length");
        let chunked = head.header("transfer-encoding").is_some();
        if lengths.len() > 1 || (chunked && !lengths.is_empty()) {
            return Err(broken(format!("ambiguous framing: {head:?}")));
        }
        let state = if bodiless || matches!(head.status, 100..=199 | 204 | 304) {
            State::Ended
        } else if chunked {
            State::ChunkSize
        } else if let Some(length) = lengths.first() {
            match length.parse().map_err(|_| broken(format!("content-length {length:?}")))? {
                0 => State::Ended,
                n => State::Length(n),
            }
        } else {
            State::UntilClose
        };
        let end = matches!(state, State::Ended).then_some(End::Clean);
        Ok(Self { state, trailers: Vec::new(), end })
    }

    /// How the body ended, once it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Appends what comes next, at most about `max` bytes, to `out`. Returns their number; 0 is the end, and then
    /// [`Self::end`] says which. Errors: the deadline, or bytes that break the framing.
    pub fn read(&mut self, from: &mut Connection, out: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        if max == 0 || self.end.is_some() {
            return Ok(0);
        }
        match self.step(from, out, max) {
            Ok(n) => Ok(n),
            Err(error) => match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    self.end = Some(End::Cut(error.kind().to_string()));
                    Ok(0)
                }
                _ => Err(error),
            },
        }
    }

    fn step(&mut self, from: &mut Connection, out: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        loop {
            match self.state {
                State::ChunkSize => {
                    self.state = match chunk_size(&from.line()?)? {
                        0 => State::Trailers,
                        n => State::ChunkData(n),
                    };
                }
                State::Trailers => {
                    let line = from.line()?;
                    if line.is_empty() {
                        self.state = State::Ended;
                        continue;
                    }
                    let field = line.split_once(": ").ok_or_else(|| broken(format!("trailer {line:?}")))?;
                    self.trailers.push((field.0.to_owned(), field.1.to_owned()));
                }
                State::Length(left) => {
                    let n = take(from, out, max, left)?;
                    self.state = if n == left { State::Ended } else { State::Length(left - n) };
                    return Ok(n as usize);
                }
                State::ChunkData(left) => {
                    let n = take(from, out, max, left)?;
                    self.state = State::ChunkData(left - n);
                    if n == left {
                        let after = from.line()?;
                        if !after.is_empty() {
                            return Err(broken(format!("after a chunk: {after:?}")));
                        }
                        self.state = State::ChunkSize;
                    }
                    return Ok(n as usize);
                }
                State::UntilClose => match take(from, out, max, u64::MAX) {
                    Ok(n) => return Ok(n as usize),
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.state = State::Ended,
                    Err(error) => return Err(error),
                },
                State::Ended => {
                    self.end = Some(End::Clean);
                    return Ok(0);
                }
            }
        }
    }

    /// Reads to the end, within the deadline of `from`.
    pub fn read_to_end(&mut self, from: &mut Connection) -> io::Result<(Vec<u8>, End)> {
        let mut out = Vec::new();
        loop {
            if self.read(from, &mut out, 1 << 20)? == 0 {
                let end = self.end.clone().ok_or_else(|| broken("no end"))?;
                return Ok((out, end));
            }
        }
    }
}

fn take(from: &mut Connection, out: &mut Vec<u8>, max: usize, left: u64) -> io::Result<u64> {
    let want = usize::try_from(left).unwrap_or(usize::MAX).min(max);
    let start = out.len();
    out.resize(start + want.min(256 * 1024), 0);
    let read = from.read(&mut out[start..]);
    out.truncate(start + *read.as_ref().unwrap_or(&0));
    match read {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(n) => Ok(n as u64),
        Err(error) => Err(error),
    }
}

fn chunk_size(line: &str) -> io::Result<u64> {
    let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let size = if digits { u64::from_str_radix(line, 16).ok() } else { None };
    size.ok_or_else(|| broken(format!("chunk size {line:?}")))
}
