//! Tables for the scanner and the parser of request heads.

use super::*;

type Scanned = Result<Option<usize>, PeerError>;

fn scan_all(input: &[u8], limits: &Limits) -> Scanned {
    HeadScanner::default().scan(input, limits)
}

/// Scans byte by byte, spoiling each byte that the scanner has seen but for the last (a CR waits for its LF): a
/// scanner that went back over anything would trip over what it finds there.
fn scan_spoiled(input: &[u8], limits: &Limits) -> Scanned {
    let mut scanner = HeadScanner::default();
    let mut seen = Vec::new();
    for &byte in input {
        if let Some(at) = seen.len().checked_sub(2) {
            seen[at] = 0;
        }
        seen.push(byte);
        if let Some(length) = scanner.scan(&seen, limits)? {
            return Ok(Some(length));
        }
    }
    Ok(None)
}

fn parsed(input: &str) -> Result<RequestHead, PeerError> {
    let limits = Limits::default();
    let length = scan_all(input.as_bytes(), &limits)?.expect("a whole head");
    assert_eq!(length, input.len());
    let mut head = RequestHead::default();
    parse(input.as_bytes(), &limits, &mut head)?;
    Ok(head)
}

#[test]
fn the_scanner_looks_at_each_byte_once() {
    let limits = Limits::default();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "p".repeat(8_000), "v".repeat(8_000));
    let table: [(&[u8], Scanned); 20] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore", Ok(Some(27))),
        (b"\r\nGET / HTTP/1.1\r\n\r\n", Ok(Some(20))),
        (long.as_bytes(), Ok(Some(long.len()))),
        (b"", Ok(None)),
        (b"\r", Ok(None)),
        (b"\r\n", Ok(None)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r", Ok(None)),
        (b"\r\n\r\nGET", Err(EMPTY_LINES)),
        (b"\n", Err(BARE_LF)),
        (b"GET / HTTP/1.1\n", Err(BARE_LF)),
        (b"GET / HTTP/1.1\r\nHost: a\n", Err(BARE_LF)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Err(BARE_LF)),
        (b"\rG", Err(BARE_CR)),
        (b"GET / HTTP/1.1\r\nHost: a\rb", Err(BARE_CR)),
        (b"GET / HTTP/1.1\r\r\n", Err(BARE_CR)),
        (b"GET /\0", Err(NUL)),
        (b"GET / HTTP/1.1\r\nA: \0", Err(NUL)),
        (&[b'M'; 65], Err(METHOD_LONG)),
        (b" ", Err(METHOD)),
        (b"\r\n\t", Err(METHOD)),
    ];
    for (input, expected) in table {
        assert_eq!(scan_all(input, &limits), expected, "{}", input.escape_ascii());
        assert_eq!(scan_spoiled(input, &limits), expected, "spoiled {}", input.escape_ascii());
    }
}

#[test]
fn too_long_is_told_at_the_byte_that_makes_it_certain() {
    let limits = Limits { head_bytes_max: 64, target_bytes_max: 8, ..Limits::default() };
    let table: [(&str, usize, Scanned); 6] = [
        ("GET /1234567 HTTP/1.1\r\n\r\n", 25, Ok(Some(25))),
        ("GET /12345678 HTTP/1.1\r\n\r\n", 13, Err(PeerError::TargetTooLong)),
        ("\r\nGET /12345678\0", 15, Err(PeerError::TargetTooLong)),
        ("GET /1234567\r\n", 14, Ok(None)),
        (
            "GET / HTTP/1.1\r\nA: 345678901234567890123456789012345678901234\r\n\r\n",
            64,
            Err(PeerError::HeadTooLarge),
        ),
        ("GET / HTTP/1.1\r\nA: 34567890123456789012345678901234567890123\r\n\r\n", 64, Ok(Some(64))),
    ];
    for (input, certain, expected) in table {
        let input = input.as_bytes();
        assert_eq!(scan_all(input, &limits), expected, "{}", input.escape_ascii());
        assert_eq!(scan_spoiled(&input[..certain], &limits), expected, "{}", input.escape_ascii());
        assert_eq!(scan_spoiled(&input[..certain - 1], &limits), Ok(None), "{}", input.escape_ascii());
    }
}

#[test]
fn a_head_taken_apart() {
    let head = parsed(
        "\r\nPOST /a/b?c=d HTTP/1.1\r\nHOST: A.Example.:8080\r\nX-Note: \t two  words \t\r\nEmpty:\r\n\r\n",
    )
    .expect("valid");
    assert_eq!((head.method(), head.target(), head.path()), ("POST", "/a/b?c=d", "/a/b"));
    assert_eq!((head.query(), head.authority(), head.host()), (Some("c=d"), "A.Example.:8080", "a.example"));
    assert_eq!((head.version(), head.is_head(), head.is_connect()), (Version::Http11, false, false));
    let fields: Vec<_> = head.fields().iter().collect();
    assert_eq!(
        fields,
        [(&b"host"[..], &b"A.Example.:8080"[..]), (b"x-note", b"two  words"), (b"empty", b"")]
    );
}

#[test]
fn targets_and_hosts() {
    let table = [
        ("GET / HTTP/1.0\r\n\r\n", "/", None, "", ""),
        ("GET /? HTTP/1.1\r\nHost:\r\n\r\n", "/", Some(""), "", ""),
        (
            "GET http://T.example:1/p?q HTTP/1.1\r\nHost: other\r\n\r\n",
            "/p",
            Some("q"),
            "T.example:1",
            "t.example",
        ),
        ("GET http://t.example HTTP/1.1\r\nHost: other\r\n\r\n", "/", None, "t.example", "t.example"),
        ("GET http://t.example?q HTTP/1.0\r\n\r\n", "/", Some("q"), "t.example", "t.example"),
        ("OPTIONS http://t.example HTTP/1.1\r\nHost: t\r\n\r\n", "*", None, "t.example", "t.example"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", None, "a", "a"),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\n", "", None, "a.example:443", "a.example"),
        ("GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n", "/", None, "[2001:DB8::1]:80", "[2001:db8::1]"),
    ];
    for (input, path, query, authority, host) in table {
        let head = parsed(input).unwrap_or_else(|error| panic!("{input:?}: {error}"));
        assert_eq!(
            (head.path(), head.query(), head.authority(), head.host()),
            (path, query, authority, host),
            "{input:?}"
        );
    }
}

#[test]
fn versions() {
    for (version, served) in [
        ("1.0", Version::Http10),
        ("1.1", Version::Http11),
        ("1.2", Version::Http11),
        ("1.9", Version::Http11),
    ] {
        let head = parsed(&format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n")).expect(version);
        assert_eq!((head.version(), head.method(), head.path(), head.host()), (served, "GET", "/", "a"));
    }
    let table = [
        ("GET / HTTP/2.0", PeerError::VersionNotSupported),
        ("GET / HTTP/3.1", PeerError::VersionNotSupported),
        ("PRI * HTTP/2.0", PeerError::VersionNotSupported),
        ("GET / HTTP/0.9", VERSION),
        ("GET / HTTP/1.10", REQUEST_LINE),
        ("GET / HTTP/1.", VERSION),
        ("GET / HTTP/1", VERSION),
        ("GET / HTTP/2", VERSION),
        ("GET / http/1.1", VERSION),
        ("GET / HTTP/1.x", VERSION),
        ("GET / HTTPS/1.1", VERSION),
        ("GET / ", VERSION),
        ("GET / x HTTP/1.1", REQUEST_LINE),
        ("GET / x HTTP/1.2", REQUEST_LINE),
        ("GET / x HTTP/2.0", VERSION),
        ("GET /", REQUEST_LINE),
        ("GET", METHOD),
    ];
    for (line, error) in table {
        let got = parsed(&format!("{line}\r\nHost: a\r\n\r\n")).map(|_| ());
        assert_eq!(got.map_err(|error| error.status()), Err(error.status()), "{line:?}");
    }
}

#[test]
fn refused() {
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100));
    let table = [
        ("GET / HTTP/1.1\r\n\r\n", NO_HOST),
        ("GET http://a/ HTTP/1.1\r\n\r\n", NO_HOST),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", TWO_HOSTS),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", TWO_HOSTS),
        (
            "GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n",
            PeerError::Malformed("Host or the target's authority is invalid (RFC 9112 3.2)"),
        ),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", METHOD),
        ("G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n", METHOD),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", REQUEST_LINE),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", REQUEST_LINE),
        ("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", METHOD),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", FIELD_NAME),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", FIELD_NAME),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", FIELD_NAME),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", FIELD_NAME),
        ("GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", FIELD_NAME),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: \x01\r\n\r\n", FIELD_VALUE),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: \x7f\r\n\r\n", FIELD_VALUE),
        (many.as_str(), PeerError::TooManyHeaders),
    ];
    for (input, error) in table {
        assert_eq!(parsed(input).map(|_| ()), Err(error), "{input:?}");
    }
}

#[test]
fn a_head_is_reused_without_traces() {
    let limits = Limits::default();
    let mut head = RequestHead::default();
    parse(b"HEAD http://a.example/x?y HTTP/1.1\r\nHost: a\r\nCookie: c\r\n\r\n", &limits, &mut head)
        .expect("valid");
    assert!(head.is_head());
    parse(b"GET /z HTTP/1.0\r\n\r\n", &limits, &mut head).expect("valid");
    assert_eq!((head.path(), head.query(), head.authority(), head.fields().len()), ("/z", None, "", 0));
    parse(b"GET /#f HTTP/1.0\r\n\r\n", &limits, &mut head).expect_err("a fragment");
    assert_eq!((head.method(), head.target(), head.host()), ("", "", ""), "an error leaves nothing");
    head.shrink(0);
    assert_eq!(head.text.capacity(), 0);
}
