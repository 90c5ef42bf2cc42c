//! Checking and writing responses: heads, interim responses, chunks and trailers (RFC 9112 4, 6, 7).
//!
//! A guest's head is checked field by field when it is set, and kept as the very lines that go on the wire, so that
//! sending it is one copy. What belongs to the connection (framing, persistence, Date) is written here and nowhere
//! else. Must never know sockets, owners of buffers or clocks: the date comes in as an argument.
//!
//! Invariants: the lines that a [`ResponseHead`] holds are whole and valid and never name a field of the
//! connection; an encoded head frames its body in exactly one way.

use super::fields::{is_forbidden_trailer, is_token, is_value_byte, parse_content_length, trim_ows};
use super::head::Version;
use crate::error::GuestError;

pub use super::problem::encode_problem;

/// Most bytes that the lines of one response head may take.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 32 * 1024;

/// The chunk that ends a body without trailers (RFC 9112 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Room for what [`encode_head`] adds to a guest's lines: status line, length or coding, date, connection, end.
const ADDED_BYTES_MAX: usize = 256;

/// What a response head says of itself beside its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Notes {
    close: bool,
    date: bool,
    server: bool,
    content_type: bool,
}

/// A response head as a guest sets it. Reusable: a warm one takes a head without allocating.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// 0 until it is set.
    status: u16,
    content_length: Option<u64>,
    notes: Notes,
    /// `name: value\r\n`, checked, without Content-Length and Connection.
    lines: Vec<u8>,
    /// Bytes of all fields as they were given: white space, Content-Length and Connection included.
    given_bytes: usize,
}

impl ResponseHead {
    /// Forgets the head and keeps the storage.
    pub fn clear(&mut self) {
        self.status = 0;
        self.content_length = None;
        self.notes = Notes::default();
        self.lines.clear();
        self.given_bytes = 0;
    }

    /// Gives storage back that is larger than `max_bytes`, as far as what is held allows.
    pub fn shrink(&mut self, max_bytes: usize) {
        if self.lines.capacity() > max_bytes {
            self.lines.shrink_to(max_bytes);
        }
    }

    /// Sets the final status.
    ///
    /// # Errors
    /// [`GuestError::InvalidStatus`] outside 200 to 599 (RFC 9110 15).
    pub const fn set_status(&mut self, status: u16) -> Result<(), GuestError> {
        if matches!(status, 200..=599) {
            self.status = status;
            Ok(())
        } else {
            Err(GuestError::InvalidStatus)
        }
    }

    /// Adds a field; the name keeps its letter case, the value loses white space around it. Content-Length is kept
    /// apart, `Connection: close` becomes [`close`](Self::close); neither becomes a line.
    ///
    /// # Errors
    /// More than [`RESPONSE_HEAD_BYTES_MAX`] in all, counted as given and before anything is looked at; a name or value
    /// that RFC 9110 5.1 and 5.5 do not allow, a field of the connection, a Content-Length that is invalid or the
    /// second one, a second Connection. The head is as it was before.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), GuestError> {
        let given_bytes = self.given_bytes.saturating_add(line_bytes(name, value));
        if given_bytes > RESPONSE_HEAD_BYTES_MAX {
            return Err(GuestError::TooLarge);
        }
        let value = check_field(name, value)?;
        let mut notes = self.notes;
        match Known::of(name) {
            Known::ContentLength => {
                let length = parse_content_length(value).ok_or(GuestError::ContentLength)?;
                if self.content_length.is_some() {
                    return Err(GuestError::ContentLength);
                }
                self.content_length = Some(length);
                self.given_bytes = given_bytes;
                return Ok(());
            }
            Known::Connection if !notes.close && value.eq_ignore_ascii_case(b"close") => {
                self.notes.close = true;
                self.given_bytes = given_bytes;
                return Ok(());
            }
            Known::Connection | Known::Forbidden => return Err(GuestError::ForbiddenField),
            Known::Date => notes.date = true,
            Known::Server => notes.server = true,
            Known::ContentType => notes.content_type = true,
            Known::Other => {}
        }
        push_line(name, value, &mut self.lines);
        self.notes = notes;
        self.given_bytes = given_bytes;
        Ok(())
    }

    /// The status, 0 until it is set.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Whether a final status was set.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.status != 0
    }

    /// The Content-Length that the guest gave.
    #[must_use]
    pub const fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Whether the guest asked for the connection to be closed behind this response.
    #[must_use]
    pub const fn close(&self) -> bool {
        self.notes.close
    }

    /// Whether the guest named the type of its content.
    #[must_use]
    pub const fn has_content_type(&self) -> bool {
        self.notes.content_type
    }

    /// The fields as they go on the wire, `name: value\r\n` each: what [`encode_interim`] takes.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }
}

/// Names that mean something to the connection.
#[derive(Clone, Copy)]
enum Known {
    ContentLength,
    Connection,
    Date,
    Server,
    ContentType,
    /// The connection's alone (RFC 9110 7.6.1): a guest never sets it.
    Forbidden,
    Other,
}

impl Known {
    fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // By length first: one comparison at most for nearly every name.
        match name.len() {
            2 if is("te") => Self::Forbidden,
            4 if is("date") => Self::Date,
            6 if is("server") => Self::Server,
            7 if is("upgrade") => Self::Forbidden,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::Forbidden,
            12 if is("content-type") => Self::ContentType,
            14 if is("content-length") => Self::ContentLength,
            14 if is("http2-settings") => Self::Forbidden,
            16 if is("proxy-connection") => Self::Forbidden,
            17 if is("transfer-encoding") => Self::Forbidden,
            _ => Self::Other,
        }
    }
}

/// What a field counts for: itself as it was given, a colon, a space and a line's end.
pub(crate) fn line_bytes(name: &[u8], value: &[u8]) -> usize {
    name.len().saturating_add(value.len()).saturating_add(4)
}

/// Checks a field and gives its value without the white space around it.
pub(crate) fn check_field<'a>(name: &[u8], value: &'a [u8]) -> Result<&'a [u8], GuestError> {
    if !is_token(name) {
        return Err(GuestError::InvalidName);
    }
    let value = trim_ows(value);
    if value.iter().all(|&byte| is_value_byte(byte)) { Ok(value) } else { Err(GuestError::InvalidValue) }
}

pub(crate) fn push_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// How a response's body goes on the wire (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body bytes at all on the wire; any that come are discarded.
    None,
    /// So many bytes; a body that is longer or shorter aborts the connection.
    Length(u64),
    /// Chunks, until [`LAST_CHUNK`] or trailers.
    Chunked,
    /// Bytes until the connection closes, as 1.0 has it.
    Close,
}

/// What of the request decides on how its response is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseContext {
    /// The request's method was HEAD.
    pub head_request: bool,
    /// The request's version.
    pub version: Version,
    /// The client allows the connection to go on.
    pub keep_alive: bool,
}

/// Decides how a response's body is framed; `known_len` is its whole length where it is finished already, in bytes.
///
/// HEAD, 204, 304 and 205 carry no content (RFC 9110 9.3.2, 15.3.5, 15.3.6, 15.4.5). Else a length, the guest's
/// own first; else chunks, or on 1.0 the connection's end.
#[must_use]
pub const fn response_framing(
    cx: &ResponseContext,
    head: &ResponseHead,
    known_len: Option<u64>,
) -> ResponseFraming {
    if cx.head_request || matches!(head.status, 204 | 205 | 304) {
        return ResponseFraming::None;
    }
    match (head.content_length, known_len, cx.version) {
        (Some(length), _, _) | (None, Some(length), _) => ResponseFraming::Length(length),
        (None, None, Version::Http11) => ResponseFraming::Chunked,
        (None, None, Version::Http10) => ResponseFraming::Close,
    }
}

/// Appends a whole final head to `out`. `framing` is what [`response_framing`] gave and `known_len` what it was
/// given; `close` says that the connection ends behind this response, which also holds if the guest, the client or
/// the framing wants it; `date` is an IMF-fixdate of 29 bytes (RFC 9110 5.6.7), written unless the guest gave one.
// The eight are what a head consists of; a struct for them would be built and taken apart once a response.
#[allow(clippy::too_many_arguments)]
pub fn encode_head(
    head: &ResponseHead,
    cx: &ResponseContext,
    framing: ResponseFraming,
    known_len: Option<u64>,
    close: bool,
    date: &[u8],
    server: Option<&str>,
    out: &mut Vec<u8>,
) {
    let server = server.filter(|_| !head.notes.server);
    out.reserve(head.lines.len().saturating_add(server.map_or(0, str::len)).saturating_add(ADDED_BYTES_MAX));
    push_status_line(head.status, out);
    out.extend_from_slice(&head.lines);
    match framing {
        ResponseFraming::Length(length) => push_content_length(length, out),
        ResponseFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        ResponseFraming::Close => {}
        ResponseFraming::None => {
            if let Some(length) = length_without_content(head, cx, known_len) {
                push_content_length(length, out);
            }
        }
    }
    if !head.notes.date {
        push_line(b"date", date, out);
    }
    if let Some(server) = server {
        push_line(b"server", server.as_bytes(), out);
    }
    push_connection(cx, close || head.notes.close || framing == ResponseFraming::Close, out);
    out.extend_from_slice(b"\r\n");
}

/// The Content-Length of a response without content (RFC 9110 8.6): HEAD and 304 may say what GET would carry, 205
/// says that there is nothing, 204 never says anything.
fn length_without_content(head: &ResponseHead, cx: &ResponseContext, known_len: Option<u64>) -> Option<u64> {
    match head.status {
        204 => None,
        205 => Some(0),
        304 => head.content_length,
        // A handler that wrote nothing because it saw HEAD has not told how much GET would carry.
        _ if cx.head_request => head.content_length.or(known_len.filter(|length| *length > 0)),
        _ => None,
    }
}

/// What is said about the connection (RFC 9112 9.3, and C.2.2 for 1.0): only what the version does not imply.
pub(super) fn push_connection(cx: &ResponseContext, close: bool, out: &mut Vec<u8>) {
    match (close || !cx.keep_alive, cx.version) {
        (true, Version::Http11) => out.extend_from_slice(b"connection: close\r\n"),
        (false, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, Version::Http10) | (false, Version::Http11) => {}
    }
}

/// Appends an interim response: 100, or 103 with the lines of a [`ResponseHead`]. Never towards 1.0 (RFC 9110 15.2).
pub fn encode_interim(status: u16, lines: &[u8], out: &mut Vec<u8>) {
    out.reserve(lines.len().saturating_add(64));
    push_status_line(status, out);
    out.extend_from_slice(lines);
    out.extend_from_slice(b"\r\n");
}

/// Appends a chunk's size line; `n` bytes of data and CRLF follow (RFC 9112 7.1). Nothing for 0, which would end
/// the body.
pub fn encode_chunk_size(n: usize, out: &mut Vec<u8>) {
    if n == 0 {
        return;
    }
    let mut digits = [0_u8; 16];
    let mut length: usize = 0;
    let mut rest = n;
    for slot in digits.iter_mut().rev() {
        *slot = hex_digit(rest & 0xf);
        length = length.saturating_add(1);
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len().saturating_sub(length)..).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
}

/// Appends one checked trailer line to `out`. Behind a last chunk's size line, `0\r\n`, such lines and an empty one
/// end a chunked body (RFC 9112 7.1.2).
///
/// # Errors
/// [`GuestError::TooLarge`] where `out` would grow past [`RESPONSE_HEAD_BYTES_MAX`] with the field as it was given,
/// which is looked at first; a name or value that is not valid, [`GuestError::ForbiddenTrailer`] for a field that may
/// not stand there (RFC 9110 6.5.1). `out` is as it was.
pub fn push_trailer(name: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<(), GuestError> {
    if out.len().saturating_add(line_bytes(name, value)) > RESPONSE_HEAD_BYTES_MAX {
        return Err(GuestError::TooLarge);
    }
    let value = check_field(name, value)?;
    if is_forbidden_trailer(name) {
        return Err(GuestError::ForbiddenTrailer);
    }
    push_line(name, value, out);
    Ok(())
}

pub(super) fn push_status_line(status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(u64::from(status), out);
    // The space stays where there is no phrase (RFC 9112 4).
    out.extend_from_slice(b" ");
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn push_content_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    push_decimal(length, out);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn push_decimal(number: u64, out: &mut Vec<u8>) {
    // 20 digits are what 64 bits take.
    let mut digits = [0_u8; 20];
    let mut length: usize = 0;
    let mut rest = number;
    for slot in digits.iter_mut().rev() {
        *slot = hex_digit(usize::try_from(rest % 10).unwrap_or_default());
        length = length.saturating_add(1);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len().saturating_sub(length)..).unwrap_or_default());
}

/// A digit below 16; what is not below 16 is the caller's mistake and comes out as 0.
pub(super) fn hex_digit(value: usize) -> u8 {
    b"0123456789abcdef".get(value).copied().unwrap_or(b'0')
}

/// The phrase that goes with a status (RFC 9110 15); empty where none is registered.
#[must_use]
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let mut out = Vec::new();
        for number in [0, 9, 10, 65_535, u64::MAX] {
            out.clear();
            push_decimal(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for n in [1, 15, 16, 0xabc, 65_536, usize::MAX] {
            out.clear();
            encode_chunk_size(n, &mut out);
            assert_eq!(out, format!("{n:x}\r\n").as_bytes());
        }
        out.clear();
        encode_chunk_size(0, &mut out);
        assert!(out.is_empty(), "a size of 0 would end the body");
    }

    #[test]
    fn a_head_is_one_allocation_however_full() {
        let mut head = ResponseHead::default();
        head.set_status(511).expect("a final status");
        while head.push(b"x-filler", &[b'v'; 100]).is_ok() {}
        assert!(
            head.lines().len() > RESPONSE_HEAD_BYTES_MAX - 200
                && head.lines().len() <= RESPONSE_HEAD_BYTES_MAX
        );
        let cx = ResponseContext { head_request: false, version: Version::Http11, keep_alive: false };
        let server = "s".repeat(100);
        let mut out = Vec::new();
        encode_head(
            &head,
            &cx,
            ResponseFraming::Length(u64::MAX),
            None,
            true,
            &[b'd'; 29],
            Some(&server),
            &mut out,
        );
        let added = out.len() - head.lines().len() - server.len();
        assert!(added <= ADDED_BYTES_MAX, "{added}: the reserve covers it");
    }

    #[test]
    fn white_space_and_fields_without_a_line_count_too() {
        let mut value = [b' '; 1_000];
        value[999] = b'v';
        let fits = RESPONSE_HEAD_BYTES_MAX / (1_000 + 5);
        let mut head = ResponseHead::default();
        for _ in 0..fits {
            head.push(b"x", &value).expect("it fits");
        }
        assert_eq!(head.push(b"x", &value), Err(GuestError::TooLarge), "as given, not as it is sent");
        // What is too large is not looked at: a byte that is not valid would have another error.
        let blank = [b' '; RESPONSE_HEAD_BYTES_MAX];
        for name in [&b"connection"[..], b"content-length", b"x", b"in valid"] {
            assert_eq!(ResponseHead::default().push(name, &blank), Err(GuestError::TooLarge));
            assert_eq!(push_trailer(name, &blank, &mut Vec::new()), Err(GuestError::TooLarge));
        }
        let mut head = ResponseHead::default();
        let mut close = [b' '; RESPONSE_HEAD_BYTES_MAX - 20];
        close[..5].copy_from_slice(b"close");
        head.push(b"connection", &close).expect("it fits");
        assert_eq!(head.push(b"content-length", b"0"), Err(GuestError::TooLarge), "connection has counted");
    }

    #[test]
    fn a_second_connection_is_refused() {
        let mut head = ResponseHead::default();
        head.push(b"connection", b"close").expect("valid");
        assert_eq!(head.push(b"Connection", b"close"), Err(GuestError::ForbiddenField));
        assert!(head.close());
        head.clear();
        head.push(b"connection", b"close").expect("valid again");
    }

    #[test]
    fn the_first_error_leaves_the_head_as_it_was() {
        let mut head = ResponseHead::default();
        head.push(b"content-length", b"3").expect("valid");
        head.push(b"a", b"b").expect("valid");
        assert_eq!(head.push(b"Content-Length", b"3"), Err(GuestError::ContentLength));
        assert_eq!(head.push(b"date", b"a\r\nb"), Err(GuestError::InvalidValue));
        assert_eq!(
            (head.lines(), head.content_length(), head.notes.date),
            (&b"a: b\r\n"[..], Some(3), false)
        );
        head.clear();
        assert!(!head.is_set() && head.lines().is_empty() && head.content_length().is_none());
    }
}
