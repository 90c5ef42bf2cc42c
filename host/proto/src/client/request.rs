//! Checking and writing a request's head (RFC 9112 3 to 6).
//!
//! What a guest gives is checked field by field; the request line, Host and the framing are written here and nowhere
//! else, so that the server has one way to read what is sent. Must never know where it goes or how the body comes.

use crate::error::GuestError;
use crate::http1::encode::{check_field, line_bytes, push_content_length, push_line};
use crate::http1::fields::{is_token, parse_content_length};
use crate::http1::target::{is_target_byte, parse_authority};

use super::error::RequestError;

/// Most bytes that the head of one request may take.
pub const REQUEST_HEAD_BYTES_MAX: usize = 32 * 1024;
/// Longest path, with its query: what RFC 9112 3 recommends any server to take at least.
const PATH_BYTES_MAX: usize = 8 * 1024;
const METHOD_BYTES_MAX: usize = 64;

/// How long a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    Empty,
    /// So many bytes, and not one more or less.
    Known(u64),
    /// That shows when it ends. A Content-Length among the fields makes it known.
    Unknown,
}

/// A request, but for its fields.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Any token but CONNECT.
    pub method: &'a str,
    /// The host, and the port where it is not the scheme's own: becomes Host.
    pub authority: &'a str,
    /// The path and the query: empty for `/`, or `*` for OPTIONS.
    pub path: &'a str,
    /// The body to come.
    pub body: BodyLength,
}

/// How a request's body goes on the wire (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    /// So many bytes, never 0.
    Length(u64),
    Chunked,
}

/// What of a request decides on what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) framing: Framing,
    /// HEAD: the response has no body.
    pub(super) head_request: bool,
    /// The guest wants the connection closed behind the response.
    pub(super) close: bool,
}

/// What the fields say of the message and of the connection.
#[derive(Default)]
struct Notes {
    content_length: Option<u64>,
    close: bool,
}

/// Appends a head to `out`. On an error `out` is as it was.
pub(super) fn encode<'a>(
    request: &Request<'_>,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) -> Result<Written, RequestError> {
    let start = out.len();
    let result = append(request, fields, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn append<'a>(
    request: &Request<'_>,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) -> Result<Written, RequestError> {
    let method = request.method.as_bytes();
    if !is_token(method) || method.len() > METHOD_BYTES_MAX || method == b"CONNECT" {
        return Err(RequestError::Method);
    }
    let host = check_authority(request.authority)?;
    check_path(request)?;
    out.reserve(512);
    out.extend_from_slice(method);
    out.extend_from_slice(if matches!(request.path.as_bytes(), [] | [b'?', ..]) { b" /" } else { b" " });
    out.extend_from_slice(request.path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    push_line(b"host", host.as_bytes(), out);
    let notes = append_fields(fields, out)?;
    let framing = frame(request.body, notes.content_length)?;
    match (framing, notes.content_length) {
        (Framing::Length(length), _) => push_content_length(length, out),
        (Framing::Chunked, _) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // What a server expects content with (RFC 9110 8.6); and who says that there is none, says it to the server.
        (Framing::None, None) if request.body == BodyLength::Empty && !expects_content(method) => {}
        (Framing::None, _) => push_content_length(0, out),
    }
    if notes.close {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(Written { framing, head_request: method == b"HEAD", close: notes.close })
}

fn expects_content(method: &[u8]) -> bool {
    matches!(method, b"POST" | b"PUT" | b"PATCH")
}

/// What goes into Host.
fn check_authority(authority: &str) -> Result<&str, RequestError> {
    let parsed = parse_authority(authority).map_err(|_| RequestError::Authority)?;
    if parsed.host.is_empty() {
        return Err(RequestError::Authority);
    }
    // A colon with nothing behind it is no port.
    Ok(authority.strip_suffix(':').unwrap_or(authority))
}

fn check_path(request: &Request<'_>) -> Result<(), RequestError> {
    let path = request.path;
    if path.len() > PATH_BYTES_MAX {
        return Err(RequestError::PathTooLong);
    }
    let form = match path.as_bytes() {
        [] | [b'/' | b'?', ..] => true,
        b"*" => return if request.method == "OPTIONS" { Ok(()) } else { Err(RequestError::Path) },
        _ => false,
    };
    if form && path.bytes().all(is_target_byte) { Ok(()) } else { Err(RequestError::Path) }
}

/// Appends what is not ours, and notes what is.
fn append_fields<'a>(
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) -> Result<Notes, RequestError> {
    let mut notes = Notes::default();
    let mut connection = false;
    let mut given_bytes: usize = out.len();
    for (name, value) in fields {
        given_bytes = given_bytes.saturating_add(line_bytes(name, value));
        if given_bytes > REQUEST_HEAD_BYTES_MAX {
            return Err(RequestError::TooLarge);
        }
        let value = check_field(name, value).map_err(|error| match error {
            GuestError::InvalidName => RequestError::FieldName,
            _ => RequestError::FieldValue,
        })?;
        match Known::of(name) {
            Known::Other => push_line(name, value, out),
            Known::ContentLength => {
                let length = parse_content_length(value).ok_or(RequestError::ContentLength)?;
                if notes.content_length.replace(length).is_some() {
                    return Err(RequestError::ContentLength);
                }
            }
            Known::Connection if !connection && value.eq_ignore_ascii_case(b"close") => {
                connection = true;
                notes.close = true;
            }
            // The body follows at once, so there is nothing for the server to promise (RFC 9110 10.1.1).
            Known::Expect if value.eq_ignore_ascii_case(b"100-continue") => {}
            Known::Connection | Known::Expect | Known::Forbidden => return Err(RequestError::ForbiddenField),
        }
    }
    Ok(notes)
}

/// One way to delimit the body, which what the guest says of it does not contradict.
fn frame(body: BodyLength, content_length: Option<u64>) -> Result<Framing, RequestError> {
    let length = match (body, content_length) {
        (BodyLength::Unknown, None) => return Ok(Framing::Chunked),
        (BodyLength::Unknown, Some(length)) => length,
        (BodyLength::Empty, given) => given.map_or(Ok(0), |given| agree(0, given))?,
        (BodyLength::Known(length), given) => given.map_or(Ok(length), |given| agree(length, given))?,
    };
    Ok(if length == 0 { Framing::None } else { Framing::Length(length) })
}

fn agree(length: u64, given: u64) -> Result<u64, RequestError> {
    if length == given { Ok(length) } else { Err(RequestError::ContentLength) }
}

/// Names that mean something to the connection.
#[derive(Clone, Copy)]
enum Known {
    ContentLength,
    Connection,
    Expect,
    /// The connection's alone (RFC 9110 7.6.1), or Host.
    Forbidden,
    Other,
}

impl Known {
    fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // By length first: one comparison at most for nearly every name.
        match name.len() {
            2 if is("te") => Self::Forbidden,
            4 if is("host") => Self::Forbidden,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Forbidden,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::Forbidden,
            14 if is("content-length") => Self::ContentLength,
            14 if is("http2-settings") => Self::Forbidden,
            16 if is("proxy-connection") => Self::Forbidden,
            17 if is("transfer-encoding") => Self::Forbidden,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Request<'_> =
        Request { method: "GET", authority: "a.example", path: "/p?q", body: BodyLength::Empty };

    fn written(request: &Request<'_>, fields: &[(&str, &str)]) -> Result<(String, Written), RequestError> {
        let mut out = b"before".to_vec();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let result = encode(request, fields, &mut out);
        assert!(out.starts_with(b"before"));
        if result.is_err() {
            assert_eq!(out, b"before", "nothing of it is left");
        }
        result.map(|written| (String::from_utf8(out[6..].to_vec()).expect("ASCII"), written))
    }

    #[test]
    fn a_head_as_it_goes_on_the_wire() {
        let (text, written) = written(&GET, &[("Accept", " */*\t"), ("x-empty", "")]).expect("valid");
        assert_eq!(text, "GET /p?q HTTP/1.1\r\nhost: a.example\r\nAccept: */*\r\nx-empty: \r\n\r\n");
        assert_eq!(written, Written { framing: Framing::None, head_request: false, close: false });
    }

    #[test]
    fn framing_is_ours_and_one() {
        use BodyLength::{Empty, Known, Unknown};
        let cl = |n: &'static str| vec![("Content-Length", n)];
        type Row<'a> = (&'a str, BodyLength, Vec<(&'a str, &'a str)>, Option<Framing>, &'a str);
        let table: [Row<'_>; 16] = [
            ("GET", Empty, vec![], Some(Framing::None), ""),
            ("DELETE", Empty, vec![], Some(Framing::None), ""),
            ("POST", Empty, vec![], Some(Framing::None), "content-length: 0\r\n"),
            ("PATCH", Empty, vec![], Some(Framing::None), "content-length: 0\r\n"),
            ("GET", Empty, cl("0"), Some(Framing::None), "content-length: 0\r\n"),
            ("GET", Empty, cl("1"), None, ""),
            ("GET", Known(0), vec![], Some(Framing::None), "content-length: 0\r\n"),
            ("PUT", Known(5), vec![], Some(Framing::Length(5)), "content-length: 5\r\n"),
            ("PUT", Known(5), cl("005"), Some(Framing::Length(5)), "content-length: 5\r\n"),
            ("PUT", Known(5), cl("6"), None, ""),
            ("PUT", Unknown, vec![], Some(Framing::Chunked), "transfer-encoding: chunked\r\n"),
            ("PUT", Unknown, cl("7"), Some(Framing::Length(7)), "content-length: 7\r\n"),
            ("PUT", Unknown, cl("0"), Some(Framing::None), "content-length: 0\r\n"),
            ("PUT", Unknown, cl("+7"), None, ""),
            ("PUT", Unknown, cl("7, 7"), None, ""),
            ("PUT", Unknown, [cl("7"), cl("7")].concat(), None, ""),
        ];
        for (method, body, fields, framing, line) in table {
            let request = Request { method, body, ..GET };
            match (written(&request, &fields), framing) {
                (Ok((text, written)), Some(framing)) => {
                    assert_eq!(written.framing, framing, "{method} {body:?} {fields:?}");
                    let expected = format!("{method} /p?q HTTP/1.1\r\nhost: a.example\r\n{line}\r\n");
                    assert_eq!(text, expected);
                }
                (Err(error), None) => assert_eq!(error, RequestError::ContentLength, "{fields:?}"),
                (result, _) => panic!("{method} {body:?} {fields:?}: {result:?}"),
            }
        }
    }

    #[test]
    fn fields_of_the_connection_are_not_the_guests() {
        for name in [
            "Host",
            "host",
            "TE",
            "Transfer-Encoding",
            "transfer-encoding",
            "Upgrade",
            "Keep-Alive",
            "Proxy-Connection",
            "HTTP2-Settings",
        ] {
            assert_eq!(written(&GET, &[(name, "x")]), Err(RequestError::ForbiddenField), "{name}");
        }
        for value in ["keep-alive", "close, x-a", "x-a", "", "upgrade"] {
            let fields = [("Connection", value)];
            assert_eq!(written(&GET, &fields), Err(RequestError::ForbiddenField), "{value}");
        }
        let twice = [("Connection", "close"), ("Connection", "close")];
        assert_eq!(written(&GET, &twice), Err(RequestError::ForbiddenField));
        let (text, close) = written(&GET, &[("Connection", "Close")]).expect("may be asked for");
        assert!(close.close && text.ends_with("\r\nconnection: close\r\n\r\n"), "{text}");
        let (text, _) = written(&GET, &[("Expect", "100-Continue")]).expect("passed over");
        assert!(!text.to_ascii_lowercase().contains("expect"), "{text}");
        assert_eq!(written(&GET, &[("Expect", "x")]), Err(RequestError::ForbiddenField));
    }

    #[test]
    fn nothing_gets_out_of_its_line() {
        for name in ["", "a b", "a:", "a\r\nb", "a\0", "\u{e9}", "a\t"] {
            assert_eq!(written(&GET, &[(name, "x")]), Err(RequestError::FieldName), "{name:?}");
        }
        for value in ["a\r\nb: c", "a\nb", "a\rb", "\0", "a\x7f", "\x01"] {
            assert_eq!(written(&GET, &[("x", value)]), Err(RequestError::FieldValue), "{value:?}");
        }
        for method in ["", "G ET", "GET /x HTTP/1.1\r\n", "G\r", "CONNECT", &"X".repeat(65)] {
            assert_eq!(written(&Request { method, ..GET }, &[]), Err(RequestError::Method), "{method:?}");
        }
        for path in ["x", "http://a/", "/a b", "/\r\n", "/#f", "/\u{e9}", "/\0", "*", "/a\x7f", "/<"] {
            assert_eq!(written(&Request { path, ..GET }, &[]), Err(RequestError::Path), "{path:?}");
        }
        for authority in ["", "a b", "u@a", "a/x", "a\r\n", "a:x", "a:65536", "[::1", ":80", "a,b"] {
            let request = Request { authority, ..GET };
            assert_eq!(written(&request, &[]), Err(RequestError::Authority), "{authority:?}");
        }
    }

    #[test]
    fn targets_and_hosts() {
        let table = [
            ("GET", "", "a", "GET / HTTP/1.1\r\nhost: a\r\n"),
            ("GET", "?q=1", "a:8080", "GET /?q=1 HTTP/1.1\r\nhost: a:8080\r\n"),
            ("GET", "//b/../c", "a:", "GET //b/../c HTTP/1.1\r\nhost: a\r\n"),
            ("OPTIONS", "*", "[::1]:8", "OPTIONS * HTTP/1.1\r\nhost: [::1]:8\r\n"),
        ];
        for (method, path, authority, expected) in table {
            let (text, _) = written(&Request { method, path, authority, ..GET }, &[]).expect("valid");
            assert_eq!(text, format!("{expected}\r\n"));
        }
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        assert_eq!(written(&Request { path: &long, ..GET }, &[]), Err(RequestError::PathTooLong));
        let value = "v".repeat(1_000);
        let many = vec![("x", value.as_str()); REQUEST_HEAD_BYTES_MAX / 1_000 + 1];
        assert!(matches!(written(&GET, &many), Err(RequestError::TooLarge)));
        let (text, _) = written(&GET, &many[..many.len() - 2]).expect("it fits");
        assert!(text.len() <= REQUEST_HEAD_BYTES_MAX);
    }
}
