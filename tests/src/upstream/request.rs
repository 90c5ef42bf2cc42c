//! A request as an upstream saw it, and its body as it comes in: strict, as what comes is what the server under test wrote.

use std::io::{self, ErrorKind};

use super::peer::Peer;

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Every byte of the head.
    pub raw: Vec<u8>,
    /// Method.
    pub method: String,
    /// Target.
    pub target: String,
    /// Names as they were sent.
    pub fields: Vec<(String, String)>,
    /// As far as it was read.
    pub body: Vec<u8>,
    /// Fields after the last chunk.
    pub trailers: Vec<(String, String)>,
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

impl Request {
    pub(super) fn parse(raw: Vec<u8>, connection: usize) -> io::Result<Self> {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let line = lines.next().unwrap_or_default();
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(broken(format!("request line {line:?}")));
        };
        let (method, target) = (method.to_owned(), target.to_owned());
        let field = |line: &str| {
            let (name, value) = line.split_once(':').ok_or_else(|| broken(format!("field {line:?}")))?;
            Ok((name.to_owned(), value.trim().to_owned()))
        };
        let fields = lines.map(field).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { connection, raw, method, target, fields, ..Self::default() })
    }

    /// The value of the only field of this name. Panics when there are several.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times: {self:?}", all.len());
        all.first().copied()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let wanted = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value.as_str()).collect()
    }

    /// The head as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }
}

enum Framing {
    Length(u64),
    ChunkSize,
    Chunk(u64),
    Trailers,
    Ended,
}

/// What is left of a request's body.
pub struct Body {
    framing: Framing,
    /// Fields after the last chunk.
    pub trailers: Vec<(String, String)>,
}

impl Body {
    pub(super) fn of(head: &Request) -> io::Result<Self> {
        let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
        let framing = match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Framing::Ended,
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Framing::ChunkSize,
            ([length], []) => match length.parse().map_err(|_| broken(format!("length {length:?}")))? {
                0 => Framing::Ended,
                length => Framing::Length(length),
            },
            _ => return Err(broken(format!("ambiguous framing: {:?}", head.text()))),
        };
        Ok(Self { framing, trailers: Vec::new() })
    }

    /// Appends what comes next to `out`. 0: the clean end. Errors: the client ended in the middle, or broke the framing.
    pub fn read(&mut self, from: &mut Peer, out: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            match self.framing {
                Framing::Ended => return Ok(0),
                Framing::Length(left) => {
                    let n = take(from, left, out)?;
                    self.framing = if n == left { Framing::Ended } else { Framing::Length(left - n) };
                    return Ok(n as usize);
                }
                Framing::Chunk(0) => {
                    if !line(from)?.is_empty() {
                        return Err(broken("a chunk longer than it says"));
                    }
                    self.framing = Framing::ChunkSize;
                }
                Framing::Chunk(left) => {
                    let n = take(from, left, out)?;
                    self.framing = Framing::Chunk(left - n);
                    return Ok(n as usize);
                }
                Framing::ChunkSize => {
                    let text = line(from)?;
                    let size = u64::from_str_radix(&text, 16);
                    self.framing = match size.map_err(|_| broken(format!("chunk size {text:?}")))? {
                        0 => Framing::Trailers,
                        size => Framing::Chunk(size),
                    };
                }
                Framing::Trailers => {
                    let text = line(from)?;
                    match text.split_once(':') {
                        Some((name, value)) => {
                            self.trailers.push((name.to_owned(), value.trim().to_owned()));
                        }
                        None if text.is_empty() => self.framing = Framing::Ended,
                        None => return Err(broken(format!("trailer {text:?}"))),
                    }
                }
            }
        }
    }
}

fn take(from: &mut Peer, left: u64, out: &mut Vec<u8>) -> io::Result<u64> {
    if from.buf.is_empty() && from.fill()? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let n = from.buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    out.extend(from.buf.drain(..n));
    Ok(n as u64)
}

fn line(from: &mut Peer) -> io::Result<String> {
    loop {
        if let Some(at) = from.buf.windows(2).position(|window| window == b"\r\n") {
            let line = from.buf.drain(..at + 2).take(at).collect();
            return String::from_utf8(line).map_err(|_| broken("a line that is no text"));
        }
        if from.fill()? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}
