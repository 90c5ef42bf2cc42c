//! Finding and parsing a response's head (RFC 9112 2, 4 and 5).
//!
//! [`Scanner`] finds where a head ends while it arrives, looks at each byte once, and refuses at the earliest byte what no
//! continuation could mend; then [`parse`] reads the whole head once. Fields of the connection are looked at here and go
//! no further.
//!
//! Invariant: for the same bytes the outcome does not depend on how they were split.

use core::mem::MaybeUninit;

use crate::http1::fields::{Fields, trim_ows};
use crate::http1::head::{HEAD_BYTES_CEILING, HEADERS_CEILING, Version};
use crate::limits::Limits;

use super::error::ResponseError;
use super::framing::{Decision, Gathered, options};

/// How every response begins that can be read here.
const PREFIX: &[u8] = b"HTTP/1.";

const NOT_HTTP: ResponseError =
    ResponseError::Malformed("what came does not begin as a response of HTTP/1 does (RFC 9112 4)");
const BARE_CR: ResponseError = ResponseError::Malformed("a CR without LF in the head (RFC 9112 2.2)");
const BARE_LF: ResponseError = ResponseError::Malformed("an LF without CR in the head (RFC 9112 2.2)");
const NUL: ResponseError = ResponseError::Malformed("a NUL in the head (RFC 9112 2.2, RFC 9110 5.5)");
const STATUS_LINE: ResponseError = ResponseError::Malformed("the status line is malformed (RFC 9112 4)");
const FIELD_NAME: ResponseError =
    ResponseError::Malformed("a header line has no valid name before its colon (RFC 9112 5.1)");
const FIELD_VALUE: ResponseError =
    ResponseError::Malformed("a header value holds a control byte (RFC 9110 5.5)");

/// Finds the end of a response's head in input that grows. [`Default`] starts the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scanner {
    /// Everything before this offset has been looked at.
    scanned: usize,
    /// Where the line in progress begins.
    line_start: usize,
}

impl Scanner {
    /// Looks at what is new in `input`, which begins with the head's first byte and holds at least what it held in the last
    /// call. Gives the whole length of the head, once its end is there; `None` asks for more.
    pub(super) fn scan(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, ResponseError> {
        let seen = input.get(..PREFIX.len()).unwrap_or(input);
        if !PREFIX.starts_with(seen) {
            return Err(NOT_HTTP);
        }
        let bytes_max = limits.head_bytes_max.min(HEAD_BYTES_CEILING);
        let window = input.get(..bytes_max).unwrap_or(input);
        loop {
            let rest = window.get(self.scanned..).unwrap_or_default();
            let hit = memchr::memchr3(b'\r', b'\n', 0, rest);
            let stop = hit.map_or(window.len(), |offset| self.scanned.saturating_add(offset));
            self.scanned = stop;
            match window.get(stop..).unwrap_or_default() {
                [b'\r', b'\n', ..] => {}
                // A head that fills the window can no longer end within it.
                [b'\r'] | [] if window.len() >= bytes_max => return Err(ResponseError::HeadTooLarge),
                [b'\r'] | [] => return Ok(None),
                [b'\r', ..] => return Err(BARE_CR),
                [b'\n', ..] => return Err(BARE_LF),
                _ => return Err(NUL),
            }
            let next = stop.saturating_add(2);
            if stop == self.line_start {
                return Ok(Some(next));
            }
            (self.line_start, self.scanned) = (next, next);
        }
    }
}

/// A response's head, parsed and checked. Reusable: a warm one takes a head without allocating.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    status: u16,
    version: Version,
    fields: Fields,
}

impl ResponseHead {
    /// The status, 200 to 999; 0 as long as no head has come.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The version of the response.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The fields in their order, names in lower case, without those of the connection (RFC 9110 7.6.1).
    #[must_use]
    pub const fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(super) fn clear(&mut self) {
        self.status = 0;
        self.fields.clear();
    }

    pub(super) fn shrink(&mut self, max_bytes: usize) {
        self.fields.shrink(max_bytes);
    }
}

/// What a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// 1xx: another head follows.
    Interim,
    Final(Decision),
}

/// Reads a head: `input` is exactly what [`Scanner::scan`] measured.
pub(super) fn parse(
    input: &[u8],
    limits: &Limits,
    head_request: bool,
    head: &mut ResponseHead,
) -> Result<Parsed, ResponseError> {
    head.clear();
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_CEILING];
    let room = room.get_mut(..limits.headers_max.min(HEADERS_CEILING)).unwrap_or_default();
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, input, room) {
        // Anything behind the end would be bytes that were never part of this head.
        Ok(httparse::Status::Complete(length)) if length == input.len() => {}
        Ok(_) => return Err(STATUS_LINE),
        Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::HeadTooLarge),
        Err(httparse::Error::HeaderName) => return Err(FIELD_NAME),
        Err(httparse::Error::HeaderValue) => return Err(FIELD_VALUE),
        Err(_) => return Err(STATUS_LINE),
    }
    let (Some(status), Some(version)) = (response.code, response.version) else { return Err(STATUS_LINE) };
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    match status {
        ..100 => return Err(STATUS_LINE),
        101 => return Err(ResponseError::Upgraded),
        100..200 => return Ok(Parsed::Interim),
        _ => {}
    }
    let mut gathered = Gathered::default();
    for header in response.headers.iter() {
        gathered.take(header.name.as_bytes(), trim_ows(header.value))?;
    }
    let decision = gathered.decide(version, status, head_request)?;
    for header in response.headers.iter() {
        let name = header.name.as_bytes();
        let nominated = gathered.nominates && is_nominated(name, response.headers);
        if !nominated && !is_of_connection(name) {
            head.fields.push(name, trim_ows(header.value));
        }
    }
    (head.status, head.version) = (status, version);
    Ok(Parsed::Final(decision))
}

/// Fields that end here: they speak of this connection and of no other.
fn is_of_connection(name: &[u8]) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match name.len() {
        2 => is("te"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("http2-settings"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

/// True if a Connection field names it. Content-Length stays whatever that says: it is how the message was framed.
fn is_nominated(name: &[u8], headers: &[httparse::Header<'_>]) -> bool {
    let of_connection = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
    !name.eq_ignore_ascii_case(b"content-length")
        && of_connection
            .flat_map(|header| options(header.value))
            .any(|option| option.eq_ignore_ascii_case(name))
}
