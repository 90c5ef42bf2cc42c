//! What guests may answer, and how it leaves: the response side of the protocol rules, as tables.

use tidegate_proto::error::GuestError;
use tidegate_proto::http1::body::BodyDecoder;
use tidegate_proto::http1::encode::{
    LAST_CHUNK, RESPONSE_HEAD_BYTES_MAX, ResponseContext, ResponseFraming, ResponseHead, encode_chunk_size,
    encode_head, encode_interim, push_trailer, response_framing,
};
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::framing::BodyFraming;
use tidegate_proto::http1::head::Version;
use tidegate_proto::limits::Limits;

const DATE: &[u8; 29] = b"Fri, 20 Nov 2026 09:00:00 GMT";

const HTTP11: ResponseContext =
    ResponseContext { head_request: false, version: Version::Http11, keep_alive: true };
const HTTP11_LAST: ResponseContext = ResponseContext { keep_alive: false, ..HTTP11 };
const HEAD11: ResponseContext = ResponseContext { head_request: true, ..HTTP11 };
const HTTP10: ResponseContext = ResponseContext { version: Version::Http10, keep_alive: false, ..HTTP11 };
const HTTP10_KEPT: ResponseContext = ResponseContext { version: Version::Http10, ..HTTP11 };

fn head(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    head.set_status(status).expect("a final status");
    for (name, value) in fields {
        head.push(name.as_bytes(), value.as_bytes())
            .unwrap_or_else(|error| panic!("{name}: {value}: {error}"));
    }
    head
}

/// What leaves for a head, without the date that every response has.
fn encoded(head: &ResponseHead, cx: &ResponseContext, known_len: Option<u64>) -> (ResponseFraming, String) {
    let framing = response_framing(cx, head, known_len);
    let mut out = Vec::new();
    encode_head(head, cx, framing, known_len, false, DATE, None, &mut out);
    let text = String::from_utf8(out).expect("ASCII in, ASCII out");
    let date = "date: Fri, 20 Nov 2026 09:00:00 GMT\r\n";
    assert_eq!(text.matches(date).count(), 1, "{text}");
    (framing, text.replace(date, ""))
}

#[test]
fn final_statuses() {
    for status in [0, 1, 99, 100, 101, 103, 199, 600, 999, 1_000, u16::MAX] {
        assert_eq!(ResponseHead::default().set_status(status), Err(GuestError::InvalidStatus), "{status}");
    }
    for status in [200, 204, 299, 418, 599] {
        let mut head = ResponseHead::default();
        assert_eq!(head.set_status(status), Ok(()), "{status}");
        assert_eq!((head.status(), head.is_set()), (status, true));
    }
}

#[test]
fn fields_that_a_guest_may_not_set() {
    use GuestError::{ContentLength, ForbiddenField, InvalidName, InvalidValue};
    let table: [(&[u8], &[u8], GuestError); 43] = [
        (b"", b"v", InvalidName),
        (b"a b", b"v", InvalidName),
        (b"a:", b"v", InvalidName),
        (b" a", b"v", InvalidName),
        (b"a\r\nb", b"v", InvalidName),
        (b"a\n", b"v", InvalidName),
        (b"a\0", b"v", InvalidName),
        (b"\xe9", b"v", InvalidName),
        (b"a/b", b"v", InvalidName),
        (b"a", b"v\r\nSet-Cookie: x", InvalidValue),
        (b"a", b"v\r", InvalidValue),
        (b"a", b"v\n", InvalidValue),
        (b"a", b"\nv", InvalidValue),
        (b"a", b"v\0", InvalidValue),
        (b"a", b"\x0bv", InvalidValue),
        (b"a", b"v\x7f", InvalidValue),
        (b"a", b"v\x1b[31m", InvalidValue),
        (b"Transfer-Encoding", b"chunked", ForbiddenField),
        (b"transfer-encoding", b"identity", ForbiddenField),
        (b"Upgrade", b"websocket", ForbiddenField),
        (b"KEEP-ALIVE", b"timeout=5", ForbiddenField),
        (b"Proxy-Connection", b"close", ForbiddenField),
        (b"TE", b"trailers", ForbiddenField),
        (b"HTTP2-Settings", b"AAMAAABk", ForbiddenField),
        (b"Connection", b"keep-alive", ForbiddenField),
        (b"Connection", b"upgrade", ForbiddenField),
        (b"Connection", b"close, x", ForbiddenField),
        (b"Connection", b"", ForbiddenField),
        (b"Content-Length", b"", ContentLength),
        (b"Content-Length", b"+5", ContentLength),
        (b"Content-Length", b"-5", ContentLength),
        (b"Content-Length", b"0x5", ContentLength),
        (b"Content-Length", b"1_0", ContentLength),
        (b"Content-Length", b"1 0", ContentLength),
        (b"Content-Length", b"5, 5", ContentLength),
        (b"Content-Length", b"5.0", ContentLength),
        (b"Content-Length", b"five", ContentLength),
        (b"content-length", b"18446744073709551616", ContentLength),
        (b"Content-Length", b"5\r\nX: y", InvalidValue),
        (b"Connection", b"close\r\n", InvalidValue),
        (b"Date", b"\0", InvalidValue),
        (b"(date)", b"x", InvalidName),
        (b"Upgrade ", b"x", InvalidName),
    ];
    for (name, value, error) in table {
        let mut head = ResponseHead::default();
        let what = format!("{}: {}", name.escape_ascii(), value.escape_ascii());
        assert_eq!(head.push(name, value), Err(error), "{what}");
        assert!(head.lines().is_empty() && !head.close() && head.content_length().is_none(), "{what}");
        assert_eq!(head.push(b"a", b"b"), Ok(()), "{what}: another try is allowed");
    }
}

#[test]
fn content_length_is_given_once() {
    for second in ["5", "6", "x"] {
        let mut head = head(200, &[("Content-Length", "5")]);
        assert_eq!(head.push(b"content-length", second.as_bytes()), Err(GuestError::ContentLength));
        assert_eq!(head.content_length(), Some(5));
    }
}

#[test]
fn fields_that_pass() {
    let mut head = head(200, &[("X-Mixed", " \t v w\t "), ("x-empty", ""), ("Connection", " Close ")]);
    assert_eq!(head.push(b"Obs", b"\xe9\xff"), Ok(()));
    assert_eq!(head.lines(), b"X-Mixed: v w\r\nx-empty: \r\nObs: \xe9\xff\r\n");
    assert!(head.close() && !head.has_content_type());
    assert_eq!(head.push(b"content-TYPE", b"text/plain"), Ok(()));
    assert!(head.has_content_type());
}

#[test]
fn a_head_is_bounded() {
    let mut head = ResponseHead::default();
    let value = vec![b'v'; RESPONSE_HEAD_BYTES_MAX - "a: \r\n".len()];
    assert_eq!(head.push(b"aa", &value), Err(GuestError::TooLarge));
    assert_eq!(head.push(b"a", &value), Ok(()), "exactly full");
    assert_eq!(head.push(b"b", b""), Err(GuestError::TooLarge));
    assert_eq!(head.lines().len(), RESPONSE_HEAD_BYTES_MAX);
    head.clear();
    head.shrink(1_024);
    assert_eq!(head.push(b"b", b""), Ok(()));
}

/// What it is about, the request, status, fields and known length; how it is framed, and the lines that are added.
type Row = (&'static str, ResponseContext, u16, Given, Option<u64>, ResponseFraming, &'static str);
type Given = &'static [(&'static str, &'static str)];

#[test]
fn framings_and_heads() {
    use ResponseFraming::{Chunked, Close, Length, None as Nothing};
    let cl: Given = &[("Content-Length", "5")];
    let table: [Row; 31] = [
        ("finished first", HTTP11, 200, &[], Some(2), Length(2), "content-length: 2\r\n"),
        ("finished and empty", HTTP11, 200, &[], Some(0), Length(0), "content-length: 0\r\n"),
        ("length from the guest", HTTP11, 200, cl, None, Length(5), "content-length: 5\r\n"),
        ("the guest's length goes first", HTTP11, 200, cl, Some(4), Length(5), "content-length: 5\r\n"),
        ("streamed", HTTP11, 200, &[], None, Chunked, "transfer-encoding: chunked\r\n"),
        ("an error streamed", HTTP11, 500, &[], None, Chunked, "transfer-encoding: chunked\r\n"),
        (
            "streamed, client closes",
            HTTP11_LAST,
            200,
            &[],
            None,
            Chunked,
            "transfer-encoding: chunked\r\nconnection: close\r\n",
        ),
        (
            "finished, client closes",
            HTTP11_LAST,
            200,
            &[],
            Some(2),
            Length(2),
            "content-length: 2\r\nconnection: close\r\n",
        ),
        (
            "guest closes",
            HTTP11,
            200,
            &[("connection", "close")],
            Some(2),
            Length(2),
            "content-length: 2\r\nconnection: close\r\n",
        ),
        ("1.0 streamed", HTTP10, 200, &[], None, Close, ""),
        ("1.0 finished", HTTP10, 200, &[], Some(2), Length(2), "content-length: 2\r\n"),
        (
            "1.0 kept, finished",
            HTTP10_KEPT,
            200,
            &[],
            Some(2),
            Length(2),
            "content-length: 2\r\nconnection: keep-alive\r\n",
        ),
        (
            "1.0 kept, length",
            HTTP10_KEPT,
            200,
            cl,
            None,
            Length(5),
            "content-length: 5\r\nconnection: keep-alive\r\n",
        ),
        ("1.0 kept, streamed, so it closes", HTTP10_KEPT, 200, &[], None, Close, ""),
        (
            "1.0 kept, guest closes",
            HTTP10_KEPT,
            200,
            &[("connection", "close")],
            Some(2),
            Length(2),
            "content-length: 2\r\n",
        ),
        ("HEAD streamed", HEAD11, 200, &[], None, Nothing, ""),
        ("HEAD keeps the guest's length", HEAD11, 200, cl, None, Nothing, "content-length: 5\r\n"),
        ("HEAD keeps GET's length", HEAD11, 200, &[], Some(9), Nothing, "content-length: 9\r\n"),
        ("HEAD, the guest's length goes first", HEAD11, 200, cl, Some(9), Nothing, "content-length: 5\r\n"),
        ("HEAD, nothing written tells nothing", HEAD11, 200, &[], Some(0), Nothing, ""),
        ("HEAD of a 204", HEAD11, 204, cl, Some(9), Nothing, ""),
        ("HEAD of a 304", HEAD11, 304, cl, Some(0), Nothing, "content-length: 5\r\n"),
        ("204", HTTP11, 204, &[], Some(0), Nothing, ""),
        ("204 with a body to discard", HTTP11, 204, &[], Some(3), Nothing, ""),
        ("204 with a length", HTTP11, 204, cl, None, Nothing, ""),
        ("204 on 1.0 kept", HTTP10_KEPT, 204, &[], None, Nothing, "connection: keep-alive\r\n"),
        ("304", HTTP11, 304, &[], Some(0), Nothing, ""),
        ("304 with GET's length", HTTP11, 304, cl, Some(0), Nothing, "content-length: 5\r\n"),
        ("304 with a body to discard", HTTP11, 304, &[], Some(3), Nothing, ""),
        ("205", HTTP11, 205, &[], None, Nothing, "content-length: 0\r\n"),
        ("205 with a length", HTTP11, 205, cl, None, Nothing, "content-length: 0\r\n"),
    ];
    for (what, cx, status, fields, known_len, framing, lines) in table {
        let (got, text) = encoded(&head(status, fields), &cx, known_len);
        let (line, rest) = text.split_once("\r\n").expect("a status line");
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {line}");
        assert_eq!((got, rest), (framing, format!("{lines}\r\n").as_str()), "{what}");
    }
}

#[test]
fn a_whole_head() {
    let head = head(200, &[("Content-Type", "text/plain"), ("X-Mixed", "v")]);
    let mut out = b"before".to_vec();
    encode_head(&head, &HTTP11, ResponseFraming::Length(5), Some(5), false, DATE, Some("tidegate"), &mut out);
    assert_eq!(
        out.escape_ascii().to_string(),
        b"beforeHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Mixed: v\r\ncontent-length: 5\r\n\
          date: Fri, 20 Nov 2026 09:00:00 GMT\r\nserver: tidegate\r\n\r\n"
            .escape_ascii()
            .to_string()
    );
}

#[test]
fn date_and_server_of_the_guest_stand() {
    let head = head(299, &[("DATE", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine")]);
    let mut out = Vec::new();
    encode_head(&head, &HTTP11, ResponseFraming::Chunked, None, true, DATE, Some("ours"), &mut out);
    assert_eq!(
        out.escape_ascii().to_string(),
        b"HTTP/1.1 299 \r\nDATE: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: mine\r\n\
          transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            .escape_ascii()
            .to_string(),
        "a status without a phrase keeps its space"
    );
}

#[test]
fn interim_responses() {
    let mut out = Vec::new();
    encode_interim(100, b"", &mut out);
    assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
    out.clear();
    let mut early = ResponseHead::default();
    early.push(b"Link", b"</style.css>; rel=preload").expect("valid");
    encode_interim(103, early.lines(), &mut out);
    assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
}

#[test]
fn trailers_of_a_guest() {
    use GuestError::{ForbiddenTrailer, InvalidName, InvalidValue, TooLarge};
    let mut out = Vec::new();
    let table: [(&[u8], &[u8], GuestError); 12] = [
        (b"", b"v", InvalidName),
        (b"a b", b"v", InvalidName),
        (b"a", b"v\r\n\r\nHTTP/1.1 200 OK", InvalidValue),
        (b"a", b"\0", InvalidValue),
        (b"Content-Length", b"5", ForbiddenTrailer),
        (b"transfer-encoding", b"chunked", ForbiddenTrailer),
        (b"HOST", b"a", ForbiddenTrailer),
        (b"Set-Cookie", b"a=b", ForbiddenTrailer),
        (b"Authorization", b"x", ForbiddenTrailer),
        (b"Connection", b"close", ForbiddenTrailer),
        (b"Content-Type", b"text/html", ForbiddenTrailer),
        (b"a", &[b'v'; RESPONSE_HEAD_BYTES_MAX], TooLarge),
    ];
    for (name, value, error) in table {
        assert_eq!(push_trailer(name, value, &mut out), Err(error), "{}", name.escape_ascii());
        assert!(out.is_empty(), "{}", name.escape_ascii());
    }
    push_trailer(b"Grpc-Status", b" 0 ", &mut out).expect("valid");
    assert_eq!(out, b"Grpc-Status: 0\r\n");
}

/// What the encoder writes for a body, the decoder reads back.
#[test]
fn chunks_and_trailers_read_back() {
    let mut wire = Vec::new();
    for data in [&b"a"[..], &[b'x'; 300], b"\r\n0\r\n\r\n"] {
        encode_chunk_size(data.len(), &mut wire);
        wire.extend_from_slice(data);
        wire.extend_from_slice(b"\r\n");
    }
    let plain = wire.len();
    wire.extend_from_slice(LAST_CHUNK);
    let read = |wire: &[u8]| {
        let (mut decoder, mut trailers) = (BodyDecoder::new(BodyFraming::Chunked), Fields::default());
        let (mut body, mut at) = (Vec::new(), 0);
        loop {
            let step =
                decoder.decode(&wire[at..], usize::MAX, &Limits::default(), &mut trailers).expect("valid");
            assert!(step.consumed > 0, "stuck at {at}");
            body.extend_from_slice(&wire[at..][step.data]);
            at += step.consumed;
            if step.ended {
                return (body, trailers, at);
            }
        }
    };
    let expected = [&b"a"[..], &[b'x'; 300], b"\r\n0\r\n\r\n"].concat();
    let (body, trailers, at) = read(&wire);
    assert_eq!((body, trailers.len(), at), (expected.clone(), 0, wire.len()));
    wire.truncate(plain);
    wire.extend_from_slice(b"0\r\n");
    push_trailer(b"X-Sum", b"7", &mut wire).expect("valid");
    wire.extend_from_slice(b"\r\n");
    let (body, trailers, at) = read(&wire);
    assert_eq!((body, trailers.get("x-sum"), at), (expected, Some(&b"7"[..]), wire.len()));
}
