//! The guest `proxy`: it sees heads, the host moves the bodies, in both directions at once and no faster than the slower
//! side; and who hangs up is felt at the other end.

use std::io;
use std::time::Duration;

use tidegate_tests::bench::big_proxy::{self, Plan, Way};
use tidegate_tests::check::{cut, ok, success};
use tidegate_tests::upstream::{Bad, Gone};
use tidegate_tests::{App, Client, Nginx, Server, Upstream, wait};

fn server(upstream: &Upstream) -> Server {
    big_proxy::server(upstream)
}

fn client(server: &Server) -> Client {
    server.client()
}

#[test]
fn method_target_fields_and_body_arrive_and_the_answer_comes_back() {
    let upstream = Upstream::serve(|peer| {
        while peer.request()?.is_some() {
            peer.respond("203 Fine", "X-From: behind\r\nX-Twice: 1\r\nX-Twice: 2\r\n", b"answer")?;
        }
        Ok(())
    });
    let server = server(&upstream);
    let mut client = client(&server);
    client
        .send(
            "PATCH /a%20b/c?d=e&f HTTP/1.1\r\nHost: proxy.test\r\nX-Own: one\r\nAccept: text/x\r\n\
             Content-Length: 5\r\n\r\nhello",
        )
        .unwrap();
    let response = client.response().unwrap();
    assert_eq!((response.status(), response.text().as_str()), (203, "answer"), "{response:?}");
    assert_eq!(response.header("x-from"), Some("behind"));
    assert_eq!(response.head.all("x-twice"), ["1", "2"]);

    let requests = upstream.requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PATCH", "/a%20b/c?d=e&f"));
    assert_eq!((request.field("x-own"), request.field("accept")), (Some("one"), Some("text/x")));
    assert_eq!(request.body, b"hello");
    assert_eq!(request.field("content-length"), Some("5"), "a length that is known is passed on");
}

#[test]
fn a_request_without_a_body_has_none_behind_either() {
    let upstream = Upstream::answering("fine");
    let server = server(&upstream);
    let mut client = client(&server);
    ok(&client.get("proxy.test", "/").unwrap(), b"fine");
    client.send("HEAD /head HTTP/1.1\r\nHost: proxy.test\r\n\r\n").unwrap();
    // The upstream of this test sends a body even to HEAD: what it does then is not what this test is about.
    let head = client.response_to_head();
    let requests = upstream.requests();
    assert_eq!(requests[0].field("content-length"), None, "{:?}", requests[0].text());
    assert_eq!(requests[0].field("transfer-encoding"), None, "{:?}", requests[0].text());
    assert_eq!(requests[1].method, "HEAD");
    assert_eq!(head.unwrap().status(), 200);
}

/// Each side says something only when it has heard the other: what is held back anywhere is a test that never ends.
#[test]
fn both_directions_stream_at_once() {
    let upstream = Upstream::echo();
    let server = server(&upstream);
    let mut client = client(&server);
    client.send("POST /echo HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let mut body = None;
    for round in 0..50 {
        let piece = format!("piece {round:03}");
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len())).unwrap();
        let body = match &mut body {
            Some(body) => body,
            None => {
                let head = client.head().unwrap();
                assert_eq!(head.status, 200, "{head:?}");
                body.insert(client.body(&head).unwrap())
            }
        };
        let mut back = Vec::new();
        while back.len() < piece.len() {
            assert!(client.read_body(body, &mut back, piece.len()).unwrap() > 0, "{:?}", body.end());
        }
        assert_eq!(String::from_utf8_lossy(&back), piece);
    }
    client.send("0\r\n\r\n").unwrap();
    let mut body = body.unwrap();
    assert_eq!(client.read_body(&mut body, &mut Vec::new(), 100).unwrap(), 0);
    assert_eq!(body.end(), Some(&tidegate_tests::End::Clean));
    assert_eq!(upstream.requests()[0].method, "POST");
    ok(&client.post("proxy.test", "/echo", b"again").unwrap(), b"again");
}

#[test]
fn trailers_go_up() {
    let upstream = Upstream::answering("fine");
    let server = server(&upstream);
    let mut client = client(&server);
    client
        .send("POST / HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n")
        .unwrap();
    client.send("5\r\nhello\r\n0\r\nX-Sum: five\r\n\r\n").unwrap();
    ok(&client.response().unwrap(), b"fine");
    let requests = upstream.requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    let trailers: Vec<_> =
        request.trailers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str())).collect();
    assert_eq!((request.body.as_slice(), trailers), (&b"hello"[..], vec![("x-sum".to_owned(), "five")]));
}

#[test]
fn trailers_come_down() {
    let upstream = Upstream::serve(|peer| {
        while peer.request()?.is_some() {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n")?;
            peer.send("5\r\nhello\r\n0\r\nX-Sum: five\r\n\r\n")?;
        }
        Ok(())
    });
    let server = server(&upstream);
    let response = server.get("proxy.test", "/");
    ok(&response, b"hello");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "five".to_owned())], "{response:?}");
}

/// 64 MB to an upstream that is slow at first, and from one to a slow client: what is on its way is bounded.
#[test]
fn what_is_slow_holds_the_other_side_back() {
    let plan = Plan { total: 64_000_000, slow: Duration::from_secs(1), slow_rate: 1_000_000 };
    for way in [Way::Up, Way::Down] {
        let report = big_proxy::run(&plan, way).unwrap();
        assert!(report.took > plan.slow, "{way:?}: nobody was slow: {report:?}");
        assert!(report.rss_peak < 64 << 20, "{way:?}: {report:?}");
    }
}

#[test]
fn a_real_server_behind() {
    let Some(nginx) = Nginx::files(None) else { return };
    let app = App::guest("proxy").env("UPSTREAM", format!("http://{}", nginx.addr())).connect(nginx.addr());
    let server = Server::builder().app(app).option("--workers", "1").start();
    let mut client = client(&server);
    let big = tidegate_tests::pattern::Pattern::new(3).take(3_000_000);
    let head = "PUT /new/file HTTP/1.1\r\nHost: proxy.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut writer = client.writer().unwrap();
    let mut request = head.as_bytes().to_vec();
    for piece in big.chunks(100_000) {
        request.extend(format!("{:x}\r\n", piece.len()).as_bytes());
        request.extend([piece, b"\r\n"].concat());
    }
    request.extend(b"0\r\n\r\n");
    io::Write::write_all(&mut writer, &request).unwrap();
    assert_eq!(client.response().unwrap().status(), 201);
    ok(&client.get("proxy.test", "/new/file").unwrap(), &big);
    assert_eq!(client.get("proxy.test", "/none").unwrap().status(), 404);
    client.send("GET /new/file HTTP/1.1\r\nHost: proxy.test\r\nRange: bytes=5-9\r\n\r\n").unwrap();
    let part = client.response().unwrap();
    assert_eq!((part.status(), part.body.as_slice()), (206, &big[5..10]));
}

#[test]
fn connections_to_the_upstream_are_kept() {
    let upstream = Upstream::answering("fine");
    let server = server(&upstream);
    for _ in 0..50 {
        ok(&server.get("proxy.test", "/"), b"fine");
    }
    assert_eq!(upstream.requests().len(), 50);
    assert!(upstream.accepted() <= 2, "{} connections for 50 requests in a row", upstream.accepted());
}

#[test]
fn a_client_that_hangs_up_is_felt_at_the_upstream() {
    let upstream = Upstream::bad(Bad::HangsBeforeHead);
    let server = server(&upstream);
    let mut client = client(&server);
    client.send_get("proxy.test", "/").unwrap();
    upstream.wait_for_requests(1);
    client.reset().unwrap();
    let gone = upstream.wait_until_gone();
    assert!(matches!(gone, Gone::Closed | Gone::Reset));
    upstream.wait_until_left();
}

#[test]
fn a_client_that_hangs_up_in_the_middle_of_the_answer_is_felt_too() {
    let upstream = Upstream::bad(Bad::EndlessBody);
    let server = server(&upstream);
    for _ in 0..10 {
        let mut client = client(&server);
        client.send_get("proxy.test", "/").unwrap();
        let head = client.head().unwrap();
        let mut body = client.body(&head).unwrap();
        client.read_body(&mut body, &mut Vec::new(), 100_000).unwrap();
        client.reset().unwrap();
    }
    upstream.wait_until_left();
    assert_eq!(upstream.accepted(), 10, "a connection in the middle of a body is nobody else's");
}

/// An upload that breaks off must not look like a whole one behind the proxy.
#[test]
fn an_upload_that_breaks_off_breaks_off_at_the_upstream() {
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let upstream = Upstream::serve(|peer| {
            let whole = peer.request();
            peer.send(if whole.is_ok() { "whole" } else { "cut" })
        });
        let server = server(&upstream);
        let mut client = client(&server);
        client
            .send(format!("POST / HTTP/1.1\r\nHost: proxy.test\r\n{framing}\r\n\r\n5\r\nhello\r\n"))
            .unwrap();
        upstream.wait_for_requests(1);
        client.reset().unwrap();
        upstream.wait_until_left();
        let requests = upstream.requests();
        assert_eq!(requests.len(), 1, "{framing}: {requests:?}");
        // The behaviour keeps a body only when it was whole.
        assert!(requests[0].body.is_empty(), "{framing}: it looked whole: {requests:?}");
    }
}

/// The upstream's answer comes before the body was read: the client has it, and nothing waits for the rest.
#[test]
fn an_answer_before_the_end_of_the_request_is_passed_on() {
    let upstream = Upstream::serve(|peer| {
        peer.head()?;
        peer.send("HTTP/1.1 403 No\r\nContent-Length: 7\r\nConnection: close\r\n\r\nrefused")?;
        peer.wait_for_end().map(|_| ())
    });
    let server = server(&upstream);
    let mut client = client(&server);
    client
        .send("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: 100000000\r\n\r\nsome of it")
        .unwrap();
    let response = client.response().unwrap();
    assert_eq!((response.status(), response.text().as_str()), (403, "refused"), "{response:?}");
    drop(client);
    upstream.wait_until_left();
}

/// What the upstream breaks off is broken off for the client as well.
#[test]
fn an_answer_that_breaks_off_is_cut() {
    for bad in [Bad::ClosesInBody, Bad::ClosesBetweenChunks, Bad::ClosesInChunk, Bad::ResetsInBody] {
        let upstream = Upstream::bad(bad);
        let server = server(&upstream);
        cut(&client(&server).get("proxy.test", "/"));
        upstream.wait_until_left();
    }
}

#[test]
fn without_an_upstream_there_is_502_and_the_server_goes_on() {
    let addr = tidegate_tests::daemon::free_addr();
    let app = App::guest("proxy").env("UPSTREAM", format!("http://{addr}")).connect(addr);
    let server = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start();
    let mut client = client(&server);
    let response = client.get("proxy.test", "/").unwrap();
    assert_eq!(response.status(), 502, "{response:?}");
    success(&client.get("hello.test", "/").unwrap());
}

/// Each request of many at once gets its own answer, over however many connections.
#[test]
fn answers_are_not_mixed_up() {
    let upstream = Upstream::echo();
    let server = server(&upstream);
    let files = server.fds_at_rest();
    std::thread::scope(|scope| {
        for number in 0..16_u64 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for round in 0..20 {
                    let body = tidegate_tests::pattern::Pattern::new(number << 8 | round).take(20_000);
                    ok(&client.post("proxy.test", "/", &body).unwrap(), &body);
                }
            });
        }
    });
    assert!(upstream.accepted() <= 64, "{} connections for 16 clients", upstream.accepted());
    // What is kept is bounded, and what was the clients' is gone.
    wait::until("the clients' descriptors are gone", || server.fd_count() <= files + upstream.open());
}
