//! Finding and parsing a request head (RFC 9112 2 to 5).
//!
//! [`HeadScanner`] finds where a head ends while it arrives, looks at each byte once, and refuses at the earliest
//! byte what no continuation could mend. [`parse`] then reads the whole head once. Must never know how long the
//! body is (that is [`framing`](super::framing)) nor which app it is for.
//!
//! Invariants: for the same bytes the outcome does not depend on how they were split; a head that was accepted
//! holds no bare CR or LF, no NUL, one space between the parts of its first line, at most one Host, and a path
//! without dot-segments.

use core::mem::MaybeUninit;

use super::fields::{Fields, is_token, is_token_byte, trim_ows};
use super::target::{parse_authority, parse_target};
use crate::error::PeerError;
use crate::limits::Limits;

/// Most header lines that [`parse`] has room for, whatever the limit says.
pub const HEADERS_CEILING: usize = 256;
/// Longest head that is ever scanned, in bytes, whatever the limit says: positions are kept in 32 bits.
pub const HEAD_BYTES_CEILING: usize = 16 * 1024 * 1024;
/// Longest method; RFC 9112 3 has a longer one answered as one that is not implemented.
const METHOD_BYTES_MAX: usize = 64;

const BARE_CR: PeerError = PeerError::Malformed("a CR without LF in the head (RFC 9112 2.2)");
const BARE_LF: PeerError = PeerError::Malformed("an LF without CR in the head (RFC 9112 2.2)");
const NUL: PeerError = PeerError::Malformed("a NUL in the head (RFC 9112 2.2, RFC 9110 5.5)");
const EMPTY_LINES: PeerError =
    PeerError::Malformed("more than one empty line before the request (RFC 9112 2.2)");
const METHOD_LONG: PeerError =
    PeerError::NotImplemented("the method is not one that is known here (RFC 9112 3)");
const REQUEST_LINE: PeerError = PeerError::Malformed("the request line is malformed (RFC 9112 3)");
const METHOD: PeerError = PeerError::Malformed("the method is not a token (RFC 9110 9.1)");
const VERSION: PeerError =
    PeerError::Malformed("the request line does not end in an HTTP version (RFC 9112 2.3)");
const FIELD_NAME: PeerError =
    PeerError::Malformed("a header line has no valid name before its colon (RFC 9112 5.1)");
const FIELD_VALUE: PeerError = PeerError::Malformed("a header value holds a control byte (RFC 9110 5.5)");
const NO_HOST: PeerError = PeerError::Malformed("an HTTP/1.1 request has no Host (RFC 9112 3.2)");
const TWO_HOSTS: PeerError = PeerError::Malformed("a request has more than one Host (RFC 9112 3.2)");
const BAD_HOST: PeerError = PeerError::Malformed("Host is not valid (RFC 9112 3.2)");

/// The protocol version that a request is served as; 1.2 and up within major 1 count as 1.1 (RFC 9110 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// Finds the end of a request head in input that grows. One scanner per request; [`Default`] starts the next.
#[derive(Clone, Debug, Default)]
pub struct HeadScanner {
    /// Everything before this offset has been looked at.
    scanned: u32,
    /// Where the line in progress begins. 0 or 2 (behind the one empty line allowed): it is the request line.
    line_start: u32,
    /// How far the request line has come.
    line: RequestLine,
}

/// How far the request line has come; the offsets are from the start of the input.
#[derive(Clone, Copy, Debug, Default)]
enum RequestLine {
    #[default]
    Method,
    Target {
        start: u32,
    },
    /// Behind the target: only the line's end is still looked for, and the same in every later line.
    Rest,
}

impl HeadScanner {
    /// Looks at what is new in `input`, which begins with the request's first byte (the one empty line that may
    /// precede it included) and holds at least what it held in the last call. Gives the whole length of the head,
    /// in bytes of `input`, once its end is there; `None` asks for more.
    ///
    /// # Errors
    /// 400 for a bare CR or LF, a NUL, or a second empty line or white space in front; 414 and 431 as soon as no continuation
    /// could keep within `limits`; 501 for a method that is too long to be one.
    pub fn scan(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, PeerError> {
        let bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
        let window = input.get(..bytes_max).unwrap_or(input);
        loop {
            let from = self.scanned as usize;
            let rest = window.get(from..).unwrap_or_default();
            let hit = memchr::memchr3(b'\r', b'\n', 0, rest);
            let stop = hit.map_or(window.len(), |offset| from.saturating_add(offset));
            if !matches!(self.line, RequestLine::Rest) {
                self.request_line(window, from, stop, limits)?;
            }
            self.scanned = offset_u32(stop);
            match window.get(stop..).unwrap_or_default() {
                [b'\r', b'\n', ..] => {}
                [b'\r'] | [] => {
                    // A head that fills the window can no longer end within it.
                    return if window.len() >= bytes_max { Err(PeerError::HeadTooLarge) } else { Ok(None) };
                }
                [b'\r', ..] => return Err(BARE_CR),
                [b'\n', ..] => return Err(BARE_LF),
                _ => return Err(NUL),
            }
            let next = stop.saturating_add(2);
            let empty = stop == self.line_start as usize;
            match (empty, self.line_start) {
                (true, 0) => {}
                (true, 2) => return Err(EMPTY_LINES),
                (true, _) => return Ok(Some(next)),
                (false, _) => self.line = RequestLine::Rest,
            }
            self.line_start = offset_u32(next);
            self.scanned = self.line_start;
        }
    }

    /// Follows the request line over `from..stop`, none of which is a line's end.
    fn request_line(
        &mut self,
        input: &[u8],
        from: usize,
        stop: usize,
        limits: &Limits,
    ) -> Result<(), PeerError> {
        let mut from = from;
        if matches!(self.line, RequestLine::Method) {
            let first = input.get(from..stop).unwrap_or_default().first();
            if from == self.line_start as usize && first.is_some_and(|&byte| !is_token_byte(byte)) {
                return Err(METHOD);
            }
            let space = find_space(input, from, stop);
            let method_end = space.unwrap_or(stop);
            if method_end.saturating_sub(self.line_start as usize) > METHOD_BYTES_MAX {
                return Err(METHOD_LONG);
            }
            let Some(space) = space else { return Ok(()) };
            from = space.saturating_add(1);
            self.line = RequestLine::Target { start: offset_u32(from) };
        }
        if let RequestLine::Target { start } = self.line {
            let space = find_space(input, from, stop);
            if space.unwrap_or(stop).saturating_sub(start as usize) > limits.target_bytes_max {
                return Err(PeerError::TargetTooLong);
            }
            if space.is_some() {
                self.line = RequestLine::Rest;
            }
        }
        Ok(())
    }
}

fn find_space(input: &[u8], from: usize, stop: usize) -> Option<usize> {
    let offset = memchr::memchr(b' ', input.get(from..stop)?)?;
    Some(from.saturating_add(offset))
}

/// Offsets within a head fit: [`HEAD_BYTES_CEILING`] bounds them.
fn offset_u32(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// Part of [`RequestHead::text`].
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    start: u32,
    end: u32,
}

/// A request head, parsed and checked. Reusable: a warm one takes a head without allocating.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Method, target, authority, host in lower case, and a path that the target leaves out: what the parts name.
    text: String,
    method: Part,
    target: Part,
    path: Part,
    query: Option<Part>,
    authority: Part,
    host: Part,
    version: Version,
    fields: Fields,
}

impl RequestHead {
    /// Forgets the request and keeps the storage.
    pub fn clear(&mut self) {
        let (mut text, mut fields) = (core::mem::take(&mut self.text), core::mem::take(&mut self.fields));
        text.clear();
        fields.clear();
        *self = Self { text, fields, ..Self::default() };
    }

    /// Gives storage back that is larger than about `max_bytes`, as far as what is held allows.
    pub fn shrink(&mut self, max_bytes: usize) {
        if self.text.capacity() > max_bytes {
            self.text.shrink_to(max_bytes);
        }
        self.fields.shrink(max_bytes);
    }

    /// The method, letter case as received: methods are case-sensitive (RFC 9110 9.1).
    #[must_use]
    pub fn method(&self) -> &str {
        self.part(self.method)
    }

    /// The target as received.
    #[must_use]
    pub fn target(&self) -> &str {
        self.part(self.target)
    }

    /// The path as received, never empty but for CONNECT: `/` where an absolute form leaves it out, `*` where
    /// OPTIONS asks about the server as a whole.
    #[must_use]
    pub fn path(&self) -> &str {
        self.part(self.path)
    }

    /// What follows the first `?` of the target, without it.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.map(|part| self.part(part))
    }

    /// The effective authority: of an absolute target, else Host; empty on 1.0 without either (RFC 9112 3.3).
    #[must_use]
    pub fn authority(&self) -> &str {
        self.part(self.authority)
    }

    /// The host of [`authority`](Self::authority): lower case, no port, no trailing dot, IPv6 in its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.part(self.host)
    }

    /// The version that the request is served as.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The header fields, names in lower case.
    #[must_use]
    pub const fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Takes out the fields whose names, in lower case, are not to stay. Gives their number.
    pub fn retain_fields(&mut self, stays: impl FnMut(&[u8]) -> bool) -> usize {
        self.fields.retain(stays)
    }

    /// Whether the method is HEAD: its answer has no body (RFC 9110 9.3.2).
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method() == "HEAD"
    }

    /// Whether the method is CONNECT, which this server does not do.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.method() == "CONNECT"
    }

    fn part(&self, part: Part) -> &str {
        // The parts are ours and in range; an empty text stands in for what cannot be.
        self.text.get(part.start as usize..part.end as usize).unwrap_or_default()
    }

    fn append(&mut self, text: &str) -> Part {
        let start = offset_u32(self.text.len());
        self.text.push_str(text);
        Part { start, end: offset_u32(self.text.len()) }
    }

    /// Takes the first line over. Path and query are stored once, as the tail of the target.
    fn set_request_line(&mut self, method: &str, target: &str) -> Result<(), PeerError> {
        let parsed = parse_target(method, target)?;
        self.method = self.append(method);
        self.target = self.append(target);
        let mut path_end = self.target.end;
        if let Some(query) = parsed.query {
            let start = path_end.saturating_sub(offset_u32(query.len()));
            self.query = Some(Part { start, end: path_end });
            path_end = start.saturating_sub(1);
        }
        self.path = Part { start: path_end.saturating_sub(offset_u32(parsed.path.len())), end: path_end };
        if self.path() != parsed.path {
            // An absolute form without a path: it has one nonetheless, only not in the target.
            self.path = self.append(parsed.path);
        }
        if let Some(authority) = parsed.authority {
            self.set_authority(authority)?;
        }
        Ok(())
    }

    fn set_authority(&mut self, authority: &str) -> Result<(), PeerError> {
        let host = parse_authority(authority)?.host;
        self.authority = self.append(authority);
        self.host = self.append(host);
        if let Some(tail) = self.text.get_mut(self.host.start as usize..) {
            tail.make_ascii_lowercase();
        }
        Ok(())
    }

    /// The rules of Host (RFC 9112 3.2): one on 1.1, never two, valid even where an absolute target overrides it.
    fn check_host(&mut self, host: Option<&[u8]>) -> Result<(), PeerError> {
        let Some(host) = host else {
            return if self.version == Version::Http11 { Err(NO_HOST) } else { Ok(()) };
        };
        let host = core::str::from_utf8(host).map_err(|_| BAD_HOST)?;
        // The target's own authority, which is never empty, is in place already and wins.
        if self.authority().is_empty() { self.set_authority(host) } else { parse_authority(host).map(|_| ()) }
    }
}

/// Reads a head: `input` is exactly what [`HeadScanner::scan`] measured, and nothing that it has not seen. On an
/// error `head` is left cleared.
///
/// # Errors
/// 400 for anything malformed in the request line, the target, a field line or Host; 431 for more than
/// `limits.headers_max` lines; 505 for a major version that is not 1.
pub fn parse(input: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<(), PeerError> {
    head.clear();
    let input = input.strip_prefix(b"\r\n").unwrap_or(input);
    let result = parse_with_httparse(input, limits, head).or_else(|error| match error {
        Refused::Peer(error) => Err(error),
        Refused::Version => parse_other_version(input, limits, head),
    });
    if result.is_err() {
        head.clear();
    }
    result
}

enum Refused {
    Peer(PeerError),
    /// The request line does not end in HTTP/1.0 or HTTP/1.1.
    Version,
}

impl From<PeerError> for Refused {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

fn parse_with_httparse(input: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<(), Refused> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_CEILING];
    let room = room.get_mut(..limits.headers_max.min(HEADERS_CEILING)).unwrap_or_default();
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(input, room) {
        // Anything behind the end would be bytes that were never part of this head.
        Ok(httparse::Status::Complete(length)) if length == input.len() => {}
        Ok(_) => return Err(REQUEST_LINE.into()),
        Err(httparse::Error::Version) => return Err(Refused::Version),
        Err(error) => return Err(translate(error, input).into()),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(REQUEST_LINE.into());
    };
    if !is_token(method.as_bytes()) {
        return Err(METHOD.into());
    }
    head.version = if version == 0 { Version::Http10 } else { Version::Http11 };
    head.set_request_line(method, target)?;
    let mut host = None;
    for header in request.headers.iter() {
        let value = trim_ows(header.value);
        if header.name.eq_ignore_ascii_case("host") && host.replace(value).is_some() {
            return Err(TWO_HOSTS.into());
        }
        head.fields.push(header.name.as_bytes(), value);
    }
    head.check_host(host)?;
    Ok(())
}

/// The sentence for what httparse refused.
fn translate(error: httparse::Error, input: &[u8]) -> PeerError {
    match error {
        httparse::Error::TooManyHeaders => PeerError::TooManyHeaders,
        httparse::Error::HeaderName => FIELD_NAME,
        httparse::Error::HeaderValue => FIELD_VALUE,
        httparse::Error::Token
            if !is_token(first_line(input).split(|byte| *byte == b' ').next().unwrap_or_default()) =>
        {
            METHOD
        }
        _ => REQUEST_LINE,
    }
}

fn first_line(input: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\r', input).unwrap_or(input.len());
    input.get(..end).unwrap_or_default()
}

/// A request line that names neither 1.0 nor 1.1. Rare, so it may allocate: a later minor version is read again
/// as 1.1, of which it is a superset (RFC 9110 2.5).
fn parse_other_version(input: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<(), PeerError> {
    let line = first_line(input);
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => {
            let mut patched = input.to_vec();
            // An exact 1.0 or 1.1 at the line's end means that something else stood where the version belongs.
            let minor_at =
                line.len().checked_sub(1).filter(|_| !matches!(minor, b'0' | b'1')).ok_or(REQUEST_LINE)?;
            *patched.get_mut(minor_at).ok_or(REQUEST_LINE)? = b'1';
            match parse_with_httparse(&patched, limits, head) {
                Ok(()) => Ok(()),
                Err(Refused::Peer(error)) => Err(error),
                Err(Refused::Version) => Err(REQUEST_LINE),
            }
        }
        [b'H', b'T', b'T', b'P', b'/', b'2'..=b'9', b'.', minor]
            if minor.is_ascii_digit() && line.split(|byte| *byte == b' ').count() == 3 =>
        {
            Err(PeerError::VersionNotSupported)
        }
        _ => Err(VERSION),
    }
}

#[cfg(test)]
mod tests;
