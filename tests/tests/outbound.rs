//! Outbound HTTP against upstreams that do it right and wrong: the guest's error code, what its client is told, and that
//! nothing is left.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tidegate_tests::check::success;
use tidegate_tests::daemon::free_addr;
use tidegate_tests::dns::{Answer, Dns};
use tidegate_tests::probe::Fetch;
use tidegate_tests::upstream::Bad;
use tidegate_tests::{App, Response, Server, Upstream, wait};

const HOST: &str = "probe.test";

/// How a fetch fails: the guest's error code, as `wasi:http` names it, and the status for its client.
struct Failure {
    code: &'static str,
    status: u16,
}

impl Failure {
    fn fits(&self, response: &Response) -> bool {
        response.text().contains(self.code) && response.status() == self.status
    }
}

const INCOMPLETE: Failure = Failure { code: "HTTP-response-incomplete", status: 502 };
const TERMINATED: Failure = Failure { code: "connection-terminated", status: 502 };
const PROTOCOL: Failure = Failure { code: "HTTP-protocol-error", status: 502 };
const TOO_SLOW: Failure = Failure { code: "connection-read-timeout", status: 504 };
const TOO_LARGE: Failure = Failure { code: "HTTP-response-header-section-size", status: 502 };
const TRAILERS: Failure = Failure { code: "HTTP-response-trailer-section-size", status: 502 };
const CODING: Failure = Failure { code: "HTTP-response-transfer-coding", status: 502 };
const UPGRADED: Failure = Failure { code: "HTTP-upgrade-failed", status: 502 };

const ROWS: [(Bad, &Failure); 32] = [
    (Bad::HangsBeforeHead, &TOO_SLOW),
    (Bad::HangsInHead, &TOO_SLOW),
    (Bad::SlowHead, &TOO_SLOW),
    (Bad::HangsInBody, &TOO_SLOW),
    (Bad::ClosesAtOnce, &TERMINATED),
    (Bad::ClosesBeforeHead, &TERMINATED),
    (Bad::ClosesInHead, &INCOMPLETE),
    (Bad::ClosesInBody, &INCOMPLETE),
    (Bad::ClosesBetweenChunks, &INCOMPLETE),
    (Bad::ClosesInChunk, &INCOMPLETE),
    (Bad::ResetsBeforeHead, &TERMINATED),
    (Bad::ResetsInBody, &INCOMPLETE),
    (Bad::Garbage, &PROTOCOL),
    (Bad::NotHttp, &PROTOCOL),
    (Bad::OtherVersion, &PROTOCOL),
    (Bad::NoSuchStatus, &PROTOCOL),
    (Bad::EndlessHead, &TOO_LARGE),
    (Bad::EndlessField, &TOO_LARGE),
    (Bad::InterimFlood, &PROTOCOL),
    (Bad::Switches, &UPGRADED),
    (Bad::BothFramings, &PROTOCOL),
    (Bad::TwoLengths, &PROTOCOL),
    (Bad::LengthIsNoNumber, &PROTOCOL),
    (Bad::OtherCoding, &CODING),
    (Bad::FieldWithoutColon, &PROTOCOL),
    (Bad::FoldedField, &PROTOCOL),
    (Bad::NulInField, &PROTOCOL),
    (Bad::ChunkSizeIsNoNumber, &PROTOCOL),
    (Bad::ChunkSizeTooLarge, &PROTOCOL),
    (Bad::ChunkTooLong, &PROTOCOL),
    (Bad::EndlessChunkSize, &PROTOCOL),
    (Bad::EndlessTrailers, &TRAILERS),
];

fn probe(upstream: &Upstream) -> App {
    App::guest("net_probe").named("probe").connect(upstream.addr())
}

fn server(app: App) -> Server {
    Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start()
}

fn url(upstream: &Upstream) -> String {
    format!("http://{}/", upstream.addr())
}

/// Timeouts that are worth waiting for.
fn impatient(upstream: &Upstream) -> Fetch {
    Fetch::new(&url(upstream)).with("first_byte_ms", "300").with("between_bytes_ms", "300")
}

#[track_caller]
fn failed(what: &str, response: &Response, failure: &Failure) {
    assert!(
        failure.fits(response),
        "{what}: {:?} and {} expected: {response:?}",
        failure.code,
        failure.status
    );
}

/// Nothing of what an upstream does wrong stays with the server, whatever became of the request.
#[test]
fn bad_upstreams_have_names_and_leave_nothing() {
    let mut wrong = Vec::new();
    for (bad, failure) in ROWS {
        let upstream = Upstream::bad(bad);
        let server = server(probe(&upstream));
        let mut client = server.client();
        success(&client.get("hello.test", "/").unwrap());
        let files = server.fd_count();
        for _ in 0..3 {
            let response = impatient(&upstream).get(&mut client, HOST);
            if !failure.fits(&response) {
                wrong.push(format!(
                    "{bad:?}: {:?} and {} expected: {response:?}",
                    failure.code, failure.status
                ));
                break;
            }
        }
        upstream.wait_until_left();
        wait::until(&format!("{bad:?}: the server has what it had"), || server.fd_count() <= files);
        success(&client.get("hello.test", "/").unwrap());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_slow_and_whole_is_no_failure() {
    let upstream = Upstream::bad(Bad::Slow);
    let server = server(probe(&upstream));
    let response = impatient(&upstream).get(&mut server.client(), HOST);
    success(&response);
    assert!(response.text().contains(&"s".repeat(20)), "{response:?}");
}

/// What comes behind a response is not the answer to the next request.
#[test]
fn bytes_behind_a_response_are_nobodys() {
    let upstream = Upstream::bad(Bad::LongerThanItSays);
    let server = server(probe(&upstream));
    let mut client = server.client();
    for _ in 0..10 {
        let response = Fetch::new(&url(&upstream)).get(&mut client, HOST);
        success(&response);
        assert!(response.text().contains("hello"), "{response:?}");
        assert!(!response.text().contains("smuggled"), "{response:?}");
    }
    assert_eq!(upstream.accepted(), 10, "a connection with something left in it was used again");
    upstream.wait_until_left();
}

#[test]
fn nobody_there_is_refused() {
    let addr = free_addr();
    let server = server(App::guest("net_probe").named("probe").connect(addr));
    let files = server.fds_at_rest();
    let response = Fetch::new(&format!("http://{addr}/")).get(&mut server.client(), HOST);
    failed("nobody", &response, &Failure { code: "connection-refused", status: 502 });
    wait::until("the server has what it had", || server.fd_count() <= files);
}

#[test]
fn names_that_lead_nowhere_have_names() {
    let dns = Dns::start();
    dns.say("broken.test", Answer::ServFail);
    dns.say("silent.test", Answer::Silence);
    let app = App::guest("net_probe").named("probe").connect("*.test:*").limit("wall", "60s");
    let manifest = format!("[server]\ndns = [\"{}\"]\n", dns.address());
    let server = Server::builder().manifest(manifest).app(app).option("--workers", "1").start();
    let rows = [
        ("none.test", Failure { code: "DNS-error", status: 502 }),
        ("broken.test", Failure { code: "DNS-error", status: 502 }),
        ("silent.test", Failure { code: "DNS-timeout", status: 504 }),
    ];
    for (name, failure) in &rows {
        let response = Fetch::new(&format!("http://{name}/")).get(&mut server.client(), HOST);
        failed(name, &response, failure);
    }
}

/// A redirect is an answer like any other, unless the guest asks to follow it.
#[test]
fn redirects_are_followed_only_when_asked() {
    let upstream = Upstream::serve(|peer| {
        while let Some(request) = peer.request()? {
            match request.target.strip_prefix("/hop/").and_then(|left| left.parse::<u32>().ok()) {
                Some(0) => peer.respond("200 OK", "", b"the end")?,
                Some(left) => {
                    let next = format!("Location: /hop/{}\r\n", left - 1);
                    peer.respond("302 Found", &next, b"elsewhere")?;
                }
                None => peer.respond("302 Found", "Location: /loop\r\n", b"elsewhere")?,
            }
        }
        Ok(())
    });
    let server = server(probe(&upstream));
    let mut client = server.client();
    let fetch = |path: &str| Fetch::new(&format!("http://{}{path}", upstream.addr()));
    let response = fetch("/hop/2").get(&mut client, HOST);
    assert!(response.text().contains("302") && !response.text().contains("the end"), "{response:?}");
    assert_eq!(upstream.requests().len(), 1);
    let response = fetch("/hop/2").with("redirects", "5").get(&mut client, HOST);
    assert!(response.text().contains("the end"), "{response:?}");
    assert_eq!(upstream.requests().len(), 4);
    let response = fetch("/loop").with("redirects", "5").get(&mut client, HOST);
    assert!(!response.text().contains("the end"), "{response:?}");
    assert!(upstream.requests().len() <= 10, "{}", upstream.requests().len());
}

/// Where a redirect leads is under the same rules as everything else.
#[test]
fn a_redirect_is_no_way_around_the_policy() {
    let inside = Upstream::answering("reached");
    let target = format!("Location: http://{}/\r\n", inside.addr());
    let upstream = Upstream::serve(move |peer| {
        while peer.request()?.is_some() {
            peer.respond("302 Found", &target, b"")?;
        }
        Ok(())
    });
    let server = server(probe(&upstream));
    let response = Fetch::new(&url(&upstream)).with("redirects", "3").get(&mut server.client(), HOST);
    assert!(!response.text().contains("reached"), "{response:?}");
    assert_eq!(inside.accepted(), 0);
    assert!(server.wait_for_log(|line| line.contains("socket denied")).is_some());
}

#[test]
fn connections_are_kept_and_used_again() {
    let upstream = Upstream::answering("kept");
    let server = server(probe(&upstream));
    for _ in 0..30 {
        success(&Fetch::new(&url(&upstream)).get(&mut server.client(), HOST));
    }
    assert_eq!(upstream.requests().len(), 30);
    assert_eq!(upstream.accepted(), 1, "one after the other, on one worker");
}

/// A connection that its server closes while it is kept is the usual race: what can be sent again is.
#[test]
fn a_kept_connection_that_ended_is_not_the_guests_problem() {
    let upstream = Upstream::serve(|peer| {
        if peer.request()?.is_some() {
            peer.respond("200 OK", "", b"once")?;
        }
        // Without a word: the next request meets a connection that is at its end, or about to be.
        Ok(())
    });
    let server = server(probe(&upstream));
    for _ in 0..20 {
        let response = Fetch::new(&url(&upstream)).get(&mut server.client(), HOST);
        success(&response);
        assert!(response.text().contains("once"), "{response:?}");
    }
    assert_eq!(upstream.accepted(), 20);
}

/// It has read the request and then ended: what is not safe to send again is sent once.
#[test]
fn what_is_not_idempotent_is_not_sent_twice() {
    let upstream = Upstream::serve(|peer| {
        if peer.request()?.is_some() {
            peer.respond("200 OK", "", b"first")?;
        }
        peer.request().map(|_| ())
    });
    let server = server(probe(&upstream));
    let mut client = server.client();
    success(&Fetch::new(&url(&upstream)).get(&mut client, HOST));
    let post = Fetch::new(&url(&upstream)).with("method", "POST");
    let response = client.post(HOST, post.path(), b"pay").unwrap();
    failed("POST on a connection that ends", &response, &TERMINATED);
    let posts = upstream.requests().iter().filter(|request| request.method == "POST").count();
    assert_eq!(posts, 1);
}

#[test]
fn connections_are_not_shared_between_apps() {
    let upstream = Upstream::answering("kept");
    let apps = ["one", "two"].map(|name| App::guest("net_probe").named(name).connect(upstream.addr()));
    let [one, two] = apps;
    let server = Server::builder().app(one).app(two).option("--workers", "1").start();
    for _ in 0..3 {
        success(&Fetch::new(&url(&upstream)).get(&mut server.client(), "one.test"));
        success(&Fetch::new(&url(&upstream)).get(&mut server.client(), "two.test"));
    }
    assert_eq!(upstream.accepted(), 2);
}

/// What a guest writes into a name, a value, a method or a target ends up as one request, or as none.
#[test]
fn nothing_is_smuggled_through_what_a_guest_sets() {
    let upstream = Upstream::answering("fine");
    let server = server(probe(&upstream));
    let mut client = server.client();
    let evil = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let headers = [
        format!("x-a: b\r\n\r\n{evil}"),
        format!("x-a: b\n\n{evil}"),
        "x-a: b\rx-c: d".to_owned(),
        "x-a\r\nx-c: d".to_owned(),
        "x a: b".to_owned(),
        "x-a: b\0c".to_owned(),
        "transfer-encoding: chunked".to_owned(),
        "transfer-encoding: identity".to_owned(),
        "content-length: 5".to_owned(),
        "content-length: 0\r\ncontent-length: 5".to_owned(),
        "connection: x-a".to_owned(),
        "connection: upgrade".to_owned(),
        "upgrade: h2c".to_owned(),
        "host: elsewhere.test".to_owned(),
        "keep-alive: timeout=1000".to_owned(),
        "proxy-connection: keep-alive".to_owned(),
        "te: trailers".to_owned(),
        "expect: 100-continue".to_owned(),
        "trailer: x-a".to_owned(),
    ];
    for header in &headers {
        let fetch = Fetch::new(&url(&upstream)).with("header", header);
        let _ = fetch.get(&mut client, HOST);
        let _ = client.post(HOST, fetch.clone().with("method", "POST").path(), b"hello").unwrap();
    }
    for method in ["GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "G ET", "", "GET\r\n", "CONNECT"] {
        let _ = Fetch::new(&url(&upstream)).with("method", method).get(&mut client, HOST);
    }
    let addr = upstream.addr();
    for target in [
        format!("http://{addr}/ HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled"),
        format!("http://{addr}/\r\nx: y"),
        format!("http://{addr}/\u{e4}"),
        format!("http://{addr}/a b"),
        format!("http://user:secret@{addr}/"),
        format!("http://{addr}#fragment"),
    ] {
        let _ = Fetch::new(&target).get(&mut client, HOST);
    }
    success(&Fetch::new(&url(&upstream)).get(&mut client, HOST));

    let requests = upstream.requests();
    assert!(!requests.is_empty());
    let mut all = String::new();
    for request in &requests {
        let text = request.text();
        let _ = writeln!(all, "{text}");
        let one = |name: &str| request.all(name).len() <= 1;
        assert!(one("host") && one("content-length") && one("transfer-encoding"), "{text}");
        assert_eq!(request.field("host"), Some(addr.to_string().as_str()), "{text}");
        let both = request.field("content-length").is_some() && request.field("transfer-encoding").is_some();
        assert!(!both, "{text}");
        assert!(["GET", "POST"].contains(&request.method.as_str()), "{text}");
        assert!(request.field("x-c").is_none() && request.field("upgrade").is_none(), "{text}");
        assert!(!text.contains("smuggled") && !text.contains("secret"), "{text}");
        let body: &[u8] = if request.method == "POST" { b"hello" } else { b"" };
        assert_eq!(request.body, body, "{text}");
    }
    assert!(!all.contains('\0'));
}

/// Many at once of all kinds, on one worker: nothing is mixed up, nothing is left.
#[test]
fn all_of_it_at_once_leaves_nothing() {
    let kinds = [
        Bad::HangsBeforeHead,
        Bad::HangsInBody,
        Bad::ClosesBeforeHead,
        Bad::ResetsInBody,
        Bad::Garbage,
        Bad::EndlessHead,
        Bad::Slow,
    ];
    let upstreams = kinds.map(Upstream::bad);
    let good = Upstream::answering("good");
    let app = upstreams.iter().fold(probe(&good), |app, upstream| app.connect(upstream.addr()));
    let server = server(app);
    success(&server.get("hello.test", "/"));
    let files = server.fds_at_rest();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for upstream in &upstreams {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut client = server.client();
                    for _ in 0..10 {
                        let _ = impatient(upstream).get(&mut client, HOST);
                        let response = Fetch::new(&url(&good)).get(&mut client, HOST);
                        success(&response);
                        assert!(response.text().contains("good"), "{response:?}");
                    }
                });
            }
        }
    });
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    // The one that is slow, and the good one, keep their connections.
    let kept = || good.open() + upstreams.last().map_or(0, Upstream::open);
    upstreams[..kinds.len() - 1].iter().for_each(Upstream::wait_until_left);
    wait::until("the server has what it had", || server.fd_count() <= files + kept());
}

/// A guest that passes the error on says as little of it as a status can.
#[test]
fn an_error_that_is_passed_on_is_a_status_and_a_line_in_the_log() {
    for bad in [Bad::ClosesBeforeHead, Bad::ResetsBeforeHead, Bad::Garbage, Bad::EndlessHead] {
        let upstream = Upstream::bad(bad);
        let app = App::guest("proxy").env("UPSTREAM", format!("http://{}", upstream.addr()));
        let server = server(app.connect(upstream.addr()));
        let mut client = server.client();
        let response = client.get("proxy.test", "/").unwrap();
        assert_eq!(response.status(), 502, "{bad:?}: {response:?}");
        let addr = upstream.addr().to_string();
        assert!(!response.text().contains(&addr), "{bad:?}: {response:?}");
        let told = server.wait_for_log(|line| line.contains("proxy") && line.contains(&addr));
        assert!(told.is_some(), "{bad:?}: not in the log:\n{}", server.stderr().tail(5));
        success(&client.get("hello.test", "/").unwrap());
    }
}
