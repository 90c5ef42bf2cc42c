//! How long a request's body is, and what becomes of the connection: decided once, here (RFC 9112 6 and 9).
//!
//! Pure: a parsed head goes in, a decision comes out. Nothing else in the server may look at Content-Length,
//! Transfer-Encoding, Connection or Expect. Wherever two readers could disagree about the length, the request is
//! refused: that disagreement is what request smuggling lives on.

use super::fields::{is_token, parse_content_length, trim_ows};
use super::head::{RequestHead, Version};
use crate::error::PeerError;

/// How a request's body is delimited (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body, or one of length 0.
    #[default]
    None,
    /// So many bytes, never 0.
    Length(u64),
    /// Chunks, and trailers behind them.
    Chunked,
}

/// What a head says about the message and the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFraming {
    /// How the body is delimited.
    pub body: BodyFraming,
    /// Whether the client is willing to go on with the connection (RFC 9112 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before it sends its body (RFC 9110 10.1.1): never on 1.0, never
    /// without a body.
    pub expect_continue: bool,
}

const CONNECT: PeerError = PeerError::NotImplemented("CONNECT is not served here (RFC 9110 9.3.6)");
const UNKNOWN_CODING: PeerError =
    PeerError::NotImplemented("the only transfer coding known here is chunked (RFC 9112 6.1)");
const CODING: PeerError =
    PeerError::Malformed("Transfer-Encoding is not chunked, once and last (RFC 9112 6.1, 6.3)");
const CODING_TWICE: PeerError = PeerError::Malformed("Transfer-Encoding is given twice (RFC 9112 6.1)");
const CODING_ON_10: PeerError = PeerError::Malformed("Transfer-Encoding on HTTP/1.0 (RFC 9112 6.1)");
const BOTH: PeerError = PeerError::Malformed("Content-Length beside Transfer-Encoding (RFC 9112 6.3)");
const LENGTH: PeerError =
    PeerError::Malformed("Content-Length is not one number (RFC 9112 6.3, RFC 9110 8.6)");
const LENGTH_TWICE: PeerError = PeerError::Malformed("Content-Length is given twice (RFC 9112 6.3)");

/// The fields that frame a message, gathered in one pass.
#[derive(Default)]
struct Gathered<'a> {
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    expects_else: bool,
}

/// Decides on a request's framing.
///
/// # Errors
/// 400 where the length is not told exactly once and exactly (RFC 9112 6.3), 417 for an expectation other than
/// 100-continue on 1.1, 501 for CONNECT and for a transfer coding in front of chunked.
pub fn request_framing(head: &RequestHead) -> Result<RequestFraming, PeerError> {
    if head.is_connect() {
        return Err(CONNECT);
    }
    let gathered = gather(head)?;
    let body = body_framing(head.version(), &gathered)?;
    let http11 = head.version() == Version::Http11;
    if http11 && gathered.expects_else {
        return Err(PeerError::ExpectationFailed);
    }
    Ok(RequestFraming {
        body,
        keep_alive: !gathered.close && (http11 || gathered.keep_alive),
        expect_continue: http11 && gathered.expects_continue && body != BodyFraming::None,
    })
}

fn gather(head: &RequestHead) -> Result<Gathered<'_>, PeerError> {
    let mut gathered = Gathered::default();
    for (name, value) in head.fields().iter() {
        match name {
            b"content-length" => once(&mut gathered.content_length, value, LENGTH_TWICE)?,
            b"transfer-encoding" => once(&mut gathered.transfer_encoding, value, CODING_TWICE)?,
            b"connection" => {
                for option in elements(value) {
                    gathered.close |= option.eq_ignore_ascii_case(b"close");
                    gathered.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            b"expect" => {
                for expectation in elements(value) {
                    let known = expectation.eq_ignore_ascii_case(b"100-continue");
                    gathered.expects_continue |= known;
                    gathered.expects_else |= !known;
                }
            }
            _ => {}
        }
    }
    Ok(gathered)
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], twice: PeerError) -> Result<(), PeerError> {
    if slot.replace(value).is_some() { Err(twice) } else { Ok(()) }
}

fn body_framing(version: Version, gathered: &Gathered<'_>) -> Result<BodyFraming, PeerError> {
    match (gathered.transfer_encoding, gathered.content_length) {
        (None, None) => Ok(BodyFraming::None),
        (None, Some(value)) => match parse_content_length(value).ok_or(LENGTH)? {
            0 => Ok(BodyFraming::None),
            length => Ok(BodyFraming::Length(length)),
        },
        (Some(_), _) if version == Version::Http10 => Err(CODING_ON_10),
        (Some(_), Some(_)) => Err(BOTH),
        (Some(value), None) if value.eq_ignore_ascii_case(b"chunked") => Ok(BodyFraming::Chunked),
        (Some(value), None) => Err(refuse_coding(value)),
    }
}

/// Which way a Transfer-Encoding that is not plainly `chunked` is wrong. Only other codings followed by one final
/// `chunked` have a length that can be known: they are merely not implemented.
fn refuse_coding(value: &[u8]) -> PeerError {
    let mut codings = value.split(|byte| *byte == b',').map(trim_ows).rev();
    let last_is_chunked = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    let others_are_codings = codings.all(|coding| {
        let name = coding.split(|byte| *byte == b';').next().map(trim_ows).unwrap_or_default();
        is_token(name) && !name.eq_ignore_ascii_case(b"chunked")
    });
    if last_is_chunked && others_are_codings { UNKNOWN_CODING } else { CODING }
}

/// The elements of a list; empty ones are skipped (RFC 9110 5.6.1.2).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_ows).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::parse;
    use crate::limits::Limits;

    fn framing(method: &str, version: &str, lines: &str) -> Result<RequestFraming, PeerError> {
        let mut head = RequestHead::default();
        let text = format!("{method} / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        parse(text.as_bytes(), &Limits::default(), &mut head).expect("the head itself is well formed");
        request_framing(&head)
    }

    fn body(version: &str, lines: &str) -> Result<BodyFraming, PeerError> {
        framing("POST", version, lines).map(|framing| framing.body)
    }

    #[test]
    fn bodies() {
        use BodyFraming::{Chunked, Length, None};
        let table = [
            ("1.1", "", None),
            ("1.0", "", None),
            ("1.1", "Content-Length: 0\r\n", None),
            ("1.1", "Content-Length: 5\r\n", Length(5)),
            ("1.0", "content-length:\t005 \r\n", Length(5)),
            ("1.1", "Content-Length: 18446744073709551615\r\n", Length(u64::MAX)),
            ("1.1", "Transfer-Encoding: chunked\r\n", Chunked),
            ("1.1", "transfer-ENCODING: \t ChunKED \t\r\n", Chunked),
        ];
        for (version, lines, expected) in table {
            assert_eq!(body(version, lines), Ok(expected), "{lines:?}");
        }
    }

    #[test]
    fn bodies_refused() {
        let table = [
            ("1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", BOTH),
            ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", BOTH),
            ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CODING_TWICE),
            ("1.1", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", CODING_TWICE),
            ("1.1", "Transfer-Encoding: chunked, identity\r\n", CODING),
            ("1.1", "Transfer-Encoding: identity\r\n", CODING),
            ("1.1", "Transfer-Encoding: ,chunked\r\n", CODING),
            ("1.1", "Transfer-Encoding: chunked,\r\n", CODING),
            ("1.1", "Transfer-Encoding: chunked, chunked\r\n", CODING),
            ("1.1", "Transfer-Encoding: xchunked\r\n", CODING),
            ("1.1", "Transfer-Encoding: chunkedx\r\n", CODING),
            ("1.1", "Transfer-Encoding: chunked;q\r\n", CODING),
            ("1.1", "Transfer-Encoding: chunked;q=1, chunked\r\n", CODING),
            ("1.1", "Transfer-Encoding: \"chunked\"\r\n", CODING),
            ("1.1", "Transfer-Encoding:\r\n", CODING),
            ("1.1", "Transfer-Encoding: chun ked\r\n", CODING),
            ("1.1", "Transfer-Encoding: \u{a0}chunked\r\n", CODING),
            ("1.1", "Transfer-Encoding: gzip\r\n", CODING),
            ("1.1", "Transfer-Encoding: gzip, chunked\r\n", UNKNOWN_CODING),
            ("1.1", "Transfer-Encoding: foo;a=b , Chunked\r\n", UNKNOWN_CODING),
            ("1.0", "Transfer-Encoding: chunked\r\n", CODING_ON_10),
            ("1.0", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", CODING_ON_10),
            ("1.1", "Content-Length: 5\r\nContent-Length: 5\r\n", LENGTH_TWICE),
            ("1.1", "Content-Length: 5\r\nContent-Length: 6\r\n", LENGTH_TWICE),
            ("1.1", "Content-Length: 5, 5\r\n", LENGTH),
            ("1.1", "Content-Length:\r\n", LENGTH),
            ("1.1", "Content-Length: +5\r\n", LENGTH),
            ("1.1", "Content-Length: -5\r\n", LENGTH),
            ("1.1", "Content-Length: 0x5\r\n", LENGTH),
            ("1.1", "Content-Length: 1_0\r\n", LENGTH),
            ("1.1", "Content-Length: 1 0\r\n", LENGTH),
            ("1.1", "Content-Length: 18446744073709551616\r\n", LENGTH),
        ];
        for (version, lines, error) in table {
            assert_eq!(body(version, lines), Err(error), "{lines:?}");
        }
        assert_eq!(UNKNOWN_CODING.status(), 501);
    }

    #[test]
    fn persistence() {
        let table = [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: foo, CLOSE\r\n", false),
            ("1.1", "Connection: foo\r\nConnection: close\r\n", false),
            ("1.1", "Connection: keep-alive\r\n", true),
            ("1.1", "Connection: closed\r\n", true),
            ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: foo , keep-alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ];
        for (version, lines, keep_alive) in table {
            assert_eq!(
                framing("GET", version, lines).map(|framing| framing.keep_alive),
                Ok(keep_alive),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn expectations() {
        let table = [
            ("1.1", "Content-Length: 1\r\nExpect: 100-continue\r\n", Ok(true)),
            ("1.1", "Content-Length: 1\r\nExpect: 100-Continue\r\n", Ok(true)),
            ("1.1", "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", Ok(true)),
            ("1.1", "Expect: 100-continue\r\n", Ok(false)),
            ("1.1", "Content-Length: 1\r\n", Ok(false)),
            ("1.1", "Expect: 200-ok\r\n", Err(PeerError::ExpectationFailed)),
            ("1.1", "Content-Length: 1\r\nExpect: 100-continue, x\r\n", Err(PeerError::ExpectationFailed)),
            ("1.0", "Content-Length: 1\r\nExpect: 100-continue\r\n", Ok(false)),
            ("1.0", "Expect: 200-ok\r\n", Ok(false)),
        ];
        for (version, lines, expected) in table {
            assert_eq!(
                framing("POST", version, lines).map(|framing| framing.expect_continue),
                expected,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn connect_is_not_served() {
        let mut head = RequestHead::default();
        parse(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", &Limits::default(), &mut head)
            .expect("well formed");
        assert_eq!(request_framing(&head), Err(CONNECT));
    }
}
