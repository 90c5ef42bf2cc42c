//! Requests to others in the module ABI by a hand-written guest, which gives the host whatever bytes it is told to: what
//! arrives is one request as the host writes it, or none.

use tidegate_abi::errno::{EACCES, EINVAL, EMSGSIZE};
use tidegate_abi::fetch::{Body, Request as Packed, Timeouts};
use tidegate_tests::check::{ok, success};
use tidegate_tests::upstream::{Bad, Request};
use tidegate_tests::{App, Client, Response, Server, Upstream};

const HOST: &str = "raw.test";

fn serve(upstream: &Upstream) -> Server {
    let app = App::wat("raw_fetch").named("raw").connect(upstream.addr());
    Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start()
}

/// A head, as far as a test cares.
#[derive(Clone, Copy)]
struct Head<'a> {
    body: Body,
    method: &'a [u8],
    authority: &'a [u8],
    path: &'a [u8],
    fields: &'a [(&'a [u8], &'a [u8])],
}

impl<'a> Head<'a> {
    fn get(authority: &'a str) -> Self {
        Self { body: Body::Given, method: b"GET", authority: authority.as_bytes(), path: b"/", fields: &[] }
    }

    fn packed(&self) -> Vec<u8> {
        let timeouts =
            Timeouts { first_byte_ns: 1_000_000_000, between_ns: 500_000_000, ..Timeouts::default() };
        let Head { body, method, authority, path, fields } = *self;
        let fields = fields.iter().copied();
        let request = Packed { https: false, body, timeouts, method, authority, path, fields };
        let size = request.pack(&mut []).unwrap();
        let mut packed = vec![0; size as usize];
        request.pack(&mut packed).unwrap();
        packed
    }
}

fn send(client: &mut Client, path: &str, head: &Head<'_>) -> Response {
    client.post(HOST, path, &head.packed()).unwrap()
}

#[track_caller]
fn refused(response: &Response, errno: i32, what: &str) {
    assert_eq!(response.status(), 502, "{what}: {response:?}");
    assert_eq!(response.body, errno.to_le_bytes(), "{what}: {response:?}");
}

/// One request, its framing the host's, and nothing that the guest was not to set.
#[track_caller]
fn well_formed(request: &Request, authority: &str) {
    let text = request.text();
    assert_eq!(request.field("host"), Some(authority), "{text}");
    let framed = request.all("content-length").len() + request.all("transfer-encoding").len();
    assert!(framed <= 1, "{text}");
    for name in ["upgrade", "keep-alive", "proxy-connection", "http2-settings", "te"] {
        assert!(request.all(name).is_empty(), "{text}");
    }
    assert!(!text.contains("smuggled"), "{text}");
}

#[test]
fn what_is_right_arrives_as_it_is() {
    let upstream = Upstream::echo();
    let addr = upstream.addr().to_string();
    let server = serve(&upstream);
    let mut client = server.client();
    let fields: [(&[u8], &[u8]); 3] = [(b"x-a", b"b"), (b"X-Twice", b"1"), (b"x-twice", b"2, \t3")];
    let head = Head { method: b"REPORT", path: b"/a%20b?c=d&e", fields: &fields, ..Head::get(&addr) };
    ok(&send(&mut client, "/", &head), b"");
    ok(&send(&mut client, "/s", &Head { body: Body::Stream(Some(5)), ..head }), b"hello");
    ok(&send(&mut client, "/s", &Head { body: Body::Stream(None), ..head }), b"hello");
    let requests = upstream.requests();
    for request in &requests {
        well_formed(request, &addr);
        assert_eq!((request.method.as_str(), request.target.as_str()), ("REPORT", "/a%20b?c=d&e"));
        assert_eq!((request.field("x-a"), request.all("x-twice")), (Some("b"), vec!["1", "2, \t3"]));
    }
    assert_eq!(requests[1].field("content-length"), Some("5"));
    assert_eq!(requests[2].field("transfer-encoding"), Some("chunked"));
    assert_eq!((requests.len(), upstream.accepted()), (3, 1));
}

#[test]
fn what_is_wrong_is_refused_at_once() {
    let upstream = Upstream::answering("fine");
    let addr = upstream.addr().to_string();
    let server = serve(&upstream);
    let mut client = server.client();
    let good = Head::get(&addr);
    let long = vec![b'a'; 9_000];
    let huge = vec![b'a'; 40_000];

    let methods: [&[u8]; 7] =
        [b"", b"G ET", b"GET\r\n", b"GET / HTTP/1.1\r\nx: ", b"G\0ET", b"CONNECT", b"GET\xff"];
    for method in methods {
        refused(&send(&mut client, "/", &Head { method, ..good }), EINVAL, &format!("{method:?}"));
    }
    let paths: [&[u8]; 8] = [
        b"relative",
        b"http://elsewhere.test/",
        b"/ HTTP/1.1\r\nx: y",
        b"/a b",
        b"/a\r\nb",
        b"/a\0b",
        b"/\xc3\xa4",
        b"/#fragment",
    ];
    for path in paths {
        refused(&send(&mut client, "/", &Head { path, ..good }), EINVAL, &String::from_utf8_lossy(path));
    }
    refused(
        &send(&mut client, "/", &Head { path: &[b"/", long.as_slice()].concat(), ..good }),
        EMSGSIZE,
        "long",
    );
    let with_user = format!("user@{addr}");
    let broken = format!("{addr}\r\nx: y");
    let spaced = format!("{addr} ");
    let slashed = format!("{addr}/");
    let authorities = ["", &with_user, &broken, &spaced, &slashed, "127.0.0.1:99999", "[::1", ":80", "a:b:c"];
    for authority in authorities {
        let head = Head { authority: authority.as_bytes(), ..good };
        refused(&send(&mut client, "/", &head), EINVAL, authority);
    }
    let fields: [(&[u8], &[u8]); 24] = [
        (b"", b"b"),
        (b"x a", b"b"),
        (b"x-a:", b"b"),
        (b"x-a\r\nx-c", b"b"),
        (b"x-a\0", b"b"),
        (b"x-\xc3\xa4", b"b"),
        (b"x-a", b"b\r\nx-c: d"),
        (b"x-a", b"b\nx-c: d"),
        (b"x-a", b"b\rx-c: d"),
        (b"x-a", b"b\0c"),
        (b"x-a", b"b\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        (b"transfer-encoding", b"chunked"),
        (b"Transfer-Encoding", b"identity"),
        (b"transfer-encoding", b"\x0bchunked"),
        (b"host", b"elsewhere.test"),
        (b"connection", b"x-a"),
        (b"connection", b"upgrade"),
        (b"upgrade", b"h2c"),
        (b"keep-alive", b"timeout=1000"),
        (b"proxy-connection", b"keep-alive"),
        (b"http2-settings", b"AAMAAABkAAQAAP__"),
        (b"content-length", b"+5"),
        (b"content-length", b"5, 6"),
        (b"content-length", b""),
    ];
    for field in &fields {
        let what = String::from_utf8_lossy(&[field.0, b": ", field.1].concat()).into_owned();
        let head = Head { fields: std::slice::from_ref(field), ..good };
        let response = send(&mut client, "/", &head);
        // What may not be set is refused or left out; what is malformed is refused.
        let left_out = response.status() == 200 && [&b"keep-alive"[..], b"connection"].contains(&field.0);
        if !left_out {
            refused(&response, EINVAL, &what);
        }
    }
    let twice: [(&[u8], &[u8]); 2] = [(b"content-length", b"5"), (b"Content-Length", b"6")];
    refused(
        &send(&mut client, "/s", &Head { fields: &twice, body: Body::Stream(None), ..good }),
        EINVAL,
        "two",
    );
    let other: [(&[u8], &[u8]); 1] = [(b"content-length", b"6")];
    let head = Head { fields: &other, body: Body::Stream(Some(5)), ..good };
    refused(&send(&mut client, "/s", &head), EINVAL, "a length that is not the body's");
    let large: [(&[u8], &[u8]); 1] = [(b"x-a", &huge)];
    refused(&send(&mut client, "/", &Head { fields: &large, ..good }), EMSGSIZE, "a large field");
    let denied = send(&mut client, "/", &Head { authority: b"127.0.0.1:1", ..good });
    assert_eq!((denied.status(), denied.text().as_str()), (504, "destination-IP-prohibited"));
    refused(&send(&mut client, "/", &Head { authority: b"elsewhere.test", ..good }), EACCES, "a name");

    for request in upstream.requests() {
        well_formed(&request, &addr);
        assert!(request.body.is_empty(), "{request:?}");
    }
    ok(&send(&mut client, "/", &good), b"fine");
    success(&client.get("hello.test", "/").unwrap());
}

/// The layout itself, cut off and pointing out of itself.
#[test]
fn a_head_that_is_none_is_refused() {
    let upstream = Upstream::answering("fine");
    let addr = upstream.addr().to_string();
    let server = serve(&upstream);
    let mut client = server.client();
    let fields: [(&[u8], &[u8]); 1] = [(b"x-a", b"b")];
    let good = Head { fields: &fields, ..Head::get(&addr) }.packed();
    for cut in 0..good.len() {
        let response = client.post(HOST, "/", &good[..cut]).unwrap();
        refused(&response, EINVAL, &format!("{cut} bytes"));
    }
    // Every byte of the numbers, turned over: refused, or something that is a request all the same.
    for at in 0..88 {
        for flip in [0xff, 0x01] {
            let mut bytes = good.clone();
            bytes[at] ^= flip;
            let response = client.post(HOST, "/", &bytes).unwrap();
            assert!([200, 502, 504].contains(&response.status()), "byte {at}: {response:?}");
        }
    }
    for request in upstream.requests() {
        assert_eq!(request.all("host").len(), 1, "{request:?}");
        assert!(request.target.starts_with('/'), "{request:?}");
    }
    ok(&client.post(HOST, "/", &good).unwrap(), b"fine");
}

/// A body that is not as long as was said never looks like one that is.
#[test]
fn a_body_of_another_length_is_cut_off() {
    let upstream = Upstream::serve(|peer| {
        let whole = peer.request();
        peer.respond("200 OK", "", if whole.is_ok() { b"whole" } else { b"cut" })
    });
    let addr = upstream.addr().to_string();
    let server = serve(&upstream);
    let mut client = server.client();
    for length in [0, 1, 4, 6, 100] {
        let head = Head { method: b"POST", body: Body::Stream(Some(length)), ..Head::get(&addr) };
        let response = send(&mut client, "/l", &head);
        assert_ne!(response.body, b"whole", "{length} bytes said, 5 written: {response:?}");
    }
    let head = Head { method: b"POST", body: Body::Stream(None), ..Head::get(&addr) };
    assert_ne!(send(&mut client, "/l", &head).body, b"whole", "never finished");
    let head = Head { method: b"POST", body: Body::Stream(Some(5)), ..Head::get(&addr) };
    ok(&send(&mut client, "/s", &head), b"whole");
}

#[test]
fn why_it_failed_is_told_in_words() {
    let rows = [
        (Bad::ClosesBeforeHead, "connection-terminated"),
        (Bad::Garbage, "HTTP-protocol-error"),
        (Bad::HangsInBody, "connection-read-timeout"),
        (Bad::ClosesInChunk, "HTTP-response-incomplete"),
    ];
    for (bad, reason) in rows {
        let upstream = Upstream::bad(bad);
        let server = serve(&upstream);
        let response = send(&mut server.client(), "/", &Head::get(&upstream.addr().to_string()));
        assert_eq!(response.status(), 504, "{bad:?}: {response:?}");
        assert!(response.text().contains(reason), "{bad:?}: {response:?}");
        upstream.wait_until_left();
    }
}
