//! Each guest, asked the same as a module, as a component in tidegate, and in `wasmtime serve`.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_tests::check::{self, cut, success};
use tidegate_tests::http::Body;
use tidegate_tests::pattern::Pattern;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, until};
use tidegate_tests::{Addr, Client, End, Response};

use super::{Host, everywhere};

fn get(host: &Host, path: &str) -> Response {
    let outcome = host.client().get("a.test", path);
    outcome.unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json_of(response: &Response) -> Value {
    success(response);
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn hello_has_a_length_and_head_has_it_too() {
    everywhere("hello", &[], |host| {
        let mut client = host.client();
        let hello = client.get("a", "/").unwrap();
        check::ok(&hello, b"Hello World\n");
        assert_eq!(hello.header("content-length"), Some("12"), "{hello:?}");
        assert_eq!(hello.header("content-type"), Some("text/plain; charset=utf-8"));
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let head = client.response_to_head().unwrap();
        success(&head);
        assert_eq!(head.header("content-length"), Some("12"), "{head:?}");
        // The connection is in step afterwards.
        check::ok(&client.get("a", "/").unwrap(), b"Hello World\n");
    });
}

#[test]
fn echo_gives_bodies_of_every_size_back() {
    everywhere("echo", &[], |host| {
        let mut client = host.client();
        assert!(get(host, "/").text().contains("Hello World"));
        for size in [1, 1_000, 16_384, 16_385, 65_536, 65_537] {
            let body = Pattern::new(size as u64).take(size);
            check::ok(&client.post("a", "/", &body).unwrap(), &body);
        }
    });
}

#[test]
fn echo_passes_trailers_on() {
    everywhere("echo", &[], |host| {
        let mut client = host.client();
        // A host may send trailers only to those who say that they take some (RFC 9110 section 6.5.1).
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}5\r\nhello\r\n0\r\nx-checked: yes\r\n\r\n")).unwrap();
        let response = client.response().unwrap();
        check::ok(&response, b"hello");
        assert_eq!(response.header("x-checked"), None, "a trailer became a header");
        if host.name.ends_with("tidegate") {
            let trailer = ("x-checked".to_owned(), "yes".to_owned());
            assert!(response.trailers.contains(&trailer), "{:?}", response.trailers);
        }
    });
}

#[test]
fn echo_answers_before_the_request_has_ended() {
    everywhere("echo", &[], |host| {
        let mut client = host.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none \r\n").unwrap();
        let head = client.head().unwrap();
        let mut body = client.body(&head).unwrap();
        for (chunk, text) in [("", "one "), ("4\r\ntwo \r\n", "two "), ("6\r\nthree \r\n", "three ")] {
            client.send(chunk).unwrap();
            let mut got = Vec::new();
            while got.len() < text.len() {
                assert!(client.read_body(&mut body, &mut got, text.len()).unwrap() > 0, "{:?}", body.end());
            }
            assert_eq!(got, text.as_bytes());
        }
        client.send("0\r\n\r\n").unwrap();
        assert_eq!(client.read_body(&mut body, &mut Vec::new(), 1).unwrap(), 0);
        assert_eq!(body.end(), Some(&End::Clean));
    });
}

#[test]
fn echo_never_takes_half_a_body_for_a_whole_one() {
    everywhere("echo", &[], |host| {
        let mut client = host.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nonly this").unwrap();
        client.shutdown_write().unwrap();
        if let Ok(response) = client.response() {
            assert!(response.status() >= 400 || response.end != End::Clean, "{response:?}");
        }
        check::ok(&host.client().post("a", "/", b"still here").unwrap(), b"still here");
    });
}

/// Sixteen megabytes to and fro; the client begins to read when no more can be sent.
#[test]
fn echo_holds_its_sender_back_while_its_reader_is_slow() {
    const SIZE: usize = 16 << 20;
    everywhere("echo", &[], |host| {
        let mut client = slow_reader(host);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n")).unwrap();
        let mut writer = client.writer().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let sender = thread::spawn(move || {
            let mut pattern = Pattern::new(5);
            let mut block = vec![0; 16 << 10];
            for _ in 0..SIZE / block.len() {
                pattern.fill(&mut block);
                writer.set_deadline(PATIENCE);
                writer.write_all(&block).unwrap();
                counter.fetch_add(block.len(), Relaxed);
            }
        });
        stands_still(&sent, SIZE);
        let head = client.head().unwrap();
        let mut body = client.body(&head).unwrap();
        let (mut pattern, mut total, mut piece) = (Pattern::new(5), 0, Vec::new());
        loop {
            piece.clear();
            let n = client.read_body(&mut body, &mut piece, 64 << 10).unwrap();
            if n == 0 {
                break;
            }
            assert_eq!(pattern.check(&piece), Ok(()), "in the block at {total}");
            total += n;
        }
        sender.join().unwrap();
        assert_eq!((total, body.end()), (SIZE, Some(&End::Clean)));
    });
}

/// Waits until a sender was stopped by backpressure, which must come before its end.
fn stands_still(sent: &AtomicUsize, size: usize) {
    until("the upload stands still", || {
        let before = sent.load(Relaxed);
        thread::sleep(Duration::from_millis(300));
        before > 0 && sent.load(Relaxed) == before
    });
    let sent = sent.load(Relaxed);
    assert!(sent < size, "all of {sent} bytes were taken, and nobody read the answer");
}

/// A client whose own system keeps little for it.
fn slow_reader(host: &Host) -> Client {
    let Addr::Tcp(addr) = host.addr else { panic!("TCP by default") };
    Client::over(Stream::connect_with_receive_buffer(addr, 64 << 10, PATIENCE).unwrap())
}

#[test]
fn cookies_come_back_and_are_understood() {
    everywhere("cookies", &[("SESSION_SECRET", "one")], |host| {
        let mut client = host.client();
        let mut send = |method: &str, path: &str, cookies: &str, form: &str| {
            let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookies}\r\n");
            let length = form.len();
            let rest = format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
            );
            client.send([head, rest].concat()).unwrap();
            client.response().unwrap()
        };
        let first = send("GET", "/", "", "");
        assert_eq!(first.text(), "Hello, stranger! Visit 1.\n");
        let login = send("POST", "/login", "", "name=Ann+%C3%85");
        assert_eq!((login.status(), login.header("location")), (303, Some("/")));
        let pairs = [&first, &login].map(|response| {
            let set = response.head.all("set-cookie").into_iter().map(|line| line.split(';').next().unwrap());
            set.collect::<Vec<_>>().join("; ")
        });
        assert_eq!(send("GET", "/", &pairs.join("; "), "").text(), "Hello, Ann \u{c5}! Visit 2.\n");
        assert_eq!(send("POST", "/login", "", "nam=Ann").status(), 400);
    });
}

#[test]
fn router_finds_refuses_and_answers_for_itself() {
    everywhere("router", &[("TOKENS", "ada=open-sesame")], |host| {
        let mut client = host.client();
        let mut ask = |request: &str, fields: &str, body: &str| {
            let length =
                if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            client.send(format!("{request} HTTP/1.1\r\nHost: a\r\n{fields}{length}\r\n{body}")).unwrap();
            let is_head = request.starts_with("HEAD");
            if is_head { client.response_to_head() } else { client.response() }.unwrap()
        };
        assert_eq!(
            json_of(&ask("GET /items/2", "", "")),
            json!({ "id": 2, "name": "teapot", "cents": 2450 })
        );
        assert_eq!(ask("GET /files/a/b%20c.txt", "", "").text(), "the file \"a/b c.txt\" would be here\n");
        for (request, status) in
            [("GET /items/9", 404), ("GET /nowhere", 404), ("DELETE /items", 405), ("GET /admin/whoami", 401)]
        {
            let refused = ask(request, "", "");
            assert_eq!((refused.status(), &refused.end), (status, &End::Clean), "{request}");
            let body: Value = serde_json::from_slice(&refused.body).unwrap();
            assert_eq!(body["status"], status, "{request}: {body}");
        }
        let fields = "Authorization: Bearer open-sesame\r\nContent-Type: application/json\r\n";
        let added = ask("POST /admin/items", fields, r#"{"name":"bowl","cents":900}"#);
        assert_eq!((added.status(), added.header("location")), (201, Some("/items/4")), "{added:?}");
        let (list, head) = (ask("GET /items", "", ""), ask("HEAD /items", "", ""));
        assert_eq!(head.header("content-length"), list.header("content-length"));
        let options = ask("OPTIONS /items", "", "");
        assert_eq!((options.status(), options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
        assert!(list.header("request-id").is_some_and(|id| !id.is_empty()), "{list:?}");
    });
}

#[test]
fn upload_hashes_what_comes_in_chunks() {
    everywhere("upload", &[], |host| {
        let body = Pattern::new(8).take(8 << 20);
        let mut client = host.client();
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let mut writer = client.writer().unwrap();
        let sent = body.clone();
        let sender = thread::spawn(move || {
            for chunk in sent.chunks(12_345) {
                let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
                writer.write_all(&framed).unwrap();
            }
            writer.write_all(b"0\r\n\r\n").unwrap();
        });
        let receipt = json_of(&client.response().unwrap());
        sender.join().unwrap();
        let sha256 = format!("{:x}", Sha256::digest(&body));
        assert_eq!(receipt, json!({ "bytes": body.len(), "sha256": sha256 }));
        let nothing = json!({ "bytes": 0, "sha256": format!("{:x}", Sha256::digest(b"")) });
        assert_eq!(json_of(&client.get("a", "/").unwrap()), nothing);
    });
}

/// Reads until `count` events are there in full.
fn events(client: &mut Client, body: &mut Body, count: usize) -> String {
    let mut bytes = Vec::new();
    while bytes.windows(2).filter(|pair| pair == b"\n\n").count() < count {
        assert!(client.read_body(body, &mut bytes, 16 << 10).unwrap() > 0, "{:?}", body.end());
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn ticker_ticks_at_its_pace_and_goes_on_where_it_was() {
    everywhere("ticker", &[("TICK_MS", "50")], |host| {
        let mut client = host.client();
        let began = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 3\r\n\r\n").unwrap();
        let head = client.head().unwrap();
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        let mut body = client.body(&head).unwrap();
        let text = events(&mut client, &mut body, 4);
        assert!(text.starts_with("id: 4\ndata: line 4\n\nid: 5\ndata: line 5\n\n"), "{text}");
        // Three pauses lie between four events.
        assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    });
}

#[test]
fn ticker_keeps_no_event_back() {
    everywhere("ticker", &[("TICK_MS", "3600000")], |host| {
        let mut client = host.client();
        client.send_get("a", "/").unwrap();
        let head = client.head().unwrap();
        let mut body = client.body(&head).unwrap();
        assert!(events(&mut client, &mut body, 1).starts_with("id: 1\n"));
    });
    everywhere("ticker", &[("TICK_MS", "often")], |host| assert_eq!(get(host, "/").status(), 500));
}

#[test]
fn async_fanout_waits_for_all_at_once() {
    everywhere("async_fanout", &[], |host| {
        let came = |part: &str| json!({ "part": part, "value": format!("{part} of today") });
        let started = Instant::now();
        // Twenty parts of 400 ms: one after the other they would take eight seconds.
        let parts: String = (0..20).map(|i| format!("&part{i}=400")).collect();
        let page = json_of(&get(host, &format!("/all?late=60000{parts}")));
        let took = started.elapsed();
        let late = json!({ "part": "late", "error": "not done within 1s" });
        let parts = page["parts"].as_array().unwrap();
        assert_eq!(
            (parts.len(), &parts[0], &parts[1], &parts[20]),
            (21, &late, &came("part0"), &came("part19"))
        );
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(6), "{took:?}");

        // The body is read meanwhile, and the answer waits for both.
        let mut client = host.client();
        client
            .send("POST /all?a=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .unwrap();
        assert_eq!(get(host, "/first?slow=900&fast=20&never=86400000").text(), "fast of today");
        client.send("6\r\n world\r\n0\r\n\r\n").unwrap();
        assert_eq!(json_of(&client.response().unwrap()), json!({ "parts": [came("a")], "body_bytes": 11 }));
        assert_eq!(get(host, "/each?quick=10&late=60000").text().lines().count(), 2);
        assert_eq!(get(host, "/all?a=soon").status(), 400);
    });
}

#[test]
fn resize_makes_thumbnails_and_refuses_the_rest() {
    const WIDE: &[u8] = include_bytes!("../../pictures/wide.png");
    everywhere("resize", &[], |host| {
        let mut client = host.client();
        let small = client.post("a", "/?width=64", WIDE).unwrap();
        success(&small);
        let number = |at: usize| u32::from_be_bytes(small.body[at..at + 4].try_into().unwrap());
        assert_eq!((&small.body[1..4], number(16), number(20)), (&b"PNG"[..], 64, 32));
        let refused = client.post("a", "/", &WIDE[..WIDE.len() / 2]).unwrap();
        assert_eq!((refused.status(), &refused.end), (422, &End::Clean), "{refused:?}");
    });
}

#[test]
fn counter_chatty_and_ignore_body_answer() {
    everywhere("counter", &[], |host| {
        assert!(get(host, "/").text().trim_end().parse::<u32>().unwrap() >= 1);
    });
    everywhere("chatty", &[], |host| check::ok(&get(host, "/500"), b"logged 500 lines\n"));
    everywhere("ignore_body", &[], |host| {
        check::ok(&host.client().post("a", "/", &[b'x'; 1_000]).unwrap(), b"no, thank you\n");
    });
}

#[test]
fn generate_gives_exactly_as_many_bytes_as_asked_for() {
    everywhere("generate", &[], |host| {
        let mut client = host.client();
        for n in [0, 1, 16_384, 16_385, 65_536, 5_000_000] {
            let response = client.get("a", &format!("/{n}")).unwrap();
            success(&response);
            assert_eq!(response.body.len(), n);
            assert!(response.body.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i % 251));
        }
        client.send("HEAD /100000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        success(&client.response_to_head().unwrap());
        assert_eq!(client.get("a", "/7").unwrap().body.len(), 7);
    });
}

/// Every way of writing, towards a client that reads a little, and then goes.
#[test]
fn flood_has_every_byte_in_its_place() {
    const WAYS: &[&str] = &[
        "/write",
        "/bufwriter",
        "/copy",
        "/stream",
        "/writable",
        "/send",
        "/stream-async",
        "/ready",
        "/try-write",
        "/respond",
        "/start",
    ];
    everywhere("flood", &[], |host| {
        for path in WAYS {
            let mut client = slow_reader(host);
            client.send_get("a", path).unwrap();
            let head = client.head().unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(head.status, 200, "{path}");
            let (mut body, mut got) = (client.body(&head).unwrap(), Vec::new());
            while got.len() < 2 << 20 {
                assert!(
                    client.read_body(&mut body, &mut got, 1 << 20).unwrap() > 0,
                    "{path}: {:?}",
                    body.end()
                );
            }
            let misplaced = got.iter().enumerate().find(|(i, byte)| usize::from(**byte) != i % 251);
            assert_eq!(misplaced, None, "{path}");
            client.reset().unwrap();
        }
    });
}

/// What is forwarded, spliced by the host or through the handler's memory.
#[test]
fn flood_sends_back_what_it_gets() {
    everywhere("flood", &[], |host| {
        let body = Pattern::new(9).take(300_000);
        for path in ["/forward", "/forward-async", "/echo-async"] {
            let mut client = host.client();
            let length = body.len();
            client
                .send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"))
                .unwrap();
            let mut writer = client.writer().unwrap();
            let sent = body.clone();
            let sender = thread::spawn(move || writer.write_all(&sent));
            check::ok(&client.response().unwrap(), &body);
            sender.join().unwrap().unwrap();
        }
    });
}

/// One after the other they would take ten seconds.
#[test]
fn slow_sleepers_share_their_host() {
    everywhere("slow", &[], |host| {
        let started = Instant::now();
        let mut clients: Vec<Client> = (0..100).map(|_| host.client()).collect();
        clients.iter_mut().for_each(|client| client.send_get("a", "/100").unwrap());
        clients.iter_mut().for_each(|client| success(&client.response().unwrap()));
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(8), "{took:?}");
        assert_eq!(get(host, "/soon").status(), 400);
    });
}

#[test]
fn failures_are_never_a_clean_end() {
    let fails = |guest: &str, path: &str| {
        everywhere(guest, &[], |host| {
            let response = get(host, path);
            assert!(response.status() >= 500, "{response:?}");
            // It was one request's failure.
            assert!(get(host, path).status() >= 500);
        });
    };
    fails("trap", "/");
    fails("trap", "/panic");
    fails("recurse", "/");
    fails("bomb", "/");
    fails("silent", "/");
    for (guest, path) in [("trap", "/late"), ("unfinished", "/")] {
        everywhere(guest, &[], |host| {
            let outcome = host.client().get("a", path);
            // `wasmtime serve` has a clean end for a guest that traps after its head.
            if !(guest == "trap" && host.name.ends_with("serve")) {
                cut(&outcome);
            }
        });
    }
}

/// What a host would say about a body that is not as declared is said by the SDK, the same everywhere.
#[test]
fn misfit_never_looks_whole() {
    everywhere("misfit", &[], |host| {
        let exact = get(host, "/exact");
        check::ok(&exact, b"exact");
        assert_eq!(exact.header("content-length"), Some("5"), "{exact:?}");
        for path in ["/long", "/short", "/fails", "/forbidden"] {
            println!("{path}");
            cut(&host.client().get("a", path));
        }
        let problem = get(host, "/else");
        assert_eq!((problem.status(), &problem.end), (404, &End::Clean), "{problem:?}");
        assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    });
}
