//! Components as other people's tools make them, one of each language, run unmodified and with instances of either
//! policy. All answer the same routes (`tests/README.md` has the table), so that the same tests drive them.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::check::{self, logged_problem, success};
use tidegate_tests::components::component;
use tidegate_tests::http::Body;
use tidegate_tests::pattern::Pattern;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, until};
use tidegate_tests::{Addr, Client, End, Response, Server};

/// Whether an instance serves one request or many.
#[derive(Clone, Copy)]
enum Instances {
    Fresh,
    Reused,
}
use Instances::{Fresh, Reused};

/// Starts the server with a component; `None` where it cannot be built. One at a time: the first one compiles it, the
/// others find it in the cache.
fn serve(name: &str, instances: Instances, flags: &[(&str, &str)]) -> Option<Server> {
    static STARTING: Mutex<()> = Mutex::new(());
    let path: PathBuf = component(name)?;
    let mut server = Server::builder().module(path).option("--env", "GREETING=good day");
    if let Reused = instances {
        server = server.option("--reuse", "1000");
    }
    for (flag, value) in flags {
        server = server.option(flag, value);
    }
    let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    Some(server.start())
}

fn ask(server: &Server, path: &str) -> Response {
    server.get("a", path)
}

fn simple_routes(language: &str, name: &str, instances: Instances) {
    let Some(server) = serve(name, instances, &[]) else { return };
    // On one connection, with requests of every kind after each other.
    let mut client = server.client();
    for _ in 0..2 {
        let hello = client.get("a", "/").unwrap();
        check::ok(&hello, format!("hello from {language}\n").as_bytes());
        assert_eq!(hello.header("content-type"), Some("text/plain"), "{hello:?}");

        let sum = client.post("a", "/json", br#"{"numbers":[1,-20,300]}"#).unwrap();
        success(&sum);
        assert_eq!(sum.header("content-type"), Some("application/json"), "{sum:?}");
        let value: serde_json::Value = serde_json::from_slice(&sum.body).expect("JSON");
        assert_eq!(value, serde_json::json!({ "sum": 281, "count": 3 }));
        assert_eq!(client.post("a", "/json", b"{\"numb").unwrap().status(), 400);

        check::ok(&client.get("a", "/env").unwrap(), b"good day");
        assert_eq!(client.get("a", "/nowhere").unwrap().status(), 404);
        check::ok(&client.get("a", "/log").unwrap(), b"logged\n");
    }
    for text in ["to standard output", "to standard error"] {
        let line = server.wait_for_log(|line| line.contains(text));
        assert!(line.is_some(), "{text:?} is not in the log:\n{}", server.stderr().tail(20));
    }
}

fn echo(name: &str, instances: Instances) {
    let Some(server) = serve(name, instances, &[]) else { return };
    let mut client = server.client();
    for size in [0, 1, 16_384, 65_537] {
        let body = Pattern::new(size as u64).take(size);
        check::ok(&client.post("a", "/echo", &body).unwrap(), &body);
    }

    // The answer begins before the request has ended.
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: text/x-test\r\n").unwrap();
    client.send("Transfer-Encoding: chunked\r\n\r\n4\r\none \r\n").unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/x-test")), "{head:?}");
    let mut body = client.body(&head).unwrap();
    for (chunk, text) in [("", "one "), ("4\r\ntwo \r\n", "two "), ("6\r\nthree \r\n", "three ")] {
        client.send(chunk).unwrap();
        read_exactly(&mut client, &mut body, text.as_bytes());
    }
    client.send("0\r\n\r\n").unwrap();
    assert_eq!(client.read_body(&mut body, &mut Vec::new(), 1).unwrap(), 0);
    assert_eq!(body.end(), Some(&End::Clean));

    // Ten megabytes, to a client that starts to read when nothing moves any more.
    let bytes = Pattern::new(10).take(10 << 20);
    let mut slow = small_client(&server);
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", bytes.len());
    let (sender, progress) = upload(&slow, [head.as_bytes(), &bytes].concat());
    stands_still(&progress);
    check::ok(&slow.response().unwrap(), &bytes);
    sender.join().unwrap();
}

fn read_exactly(client: &mut Client, body: &mut Body, wanted: &[u8]) {
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        let n = client.read_body(body, &mut got, wanted.len()).unwrap();
        assert!(n > 0, "ended after {got:?}: {:?}", body.end());
    }
    assert_eq!(got, wanted);
}

/// A client whose own system keeps little for it.
fn small_client(server: &Server) -> Client {
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    Client::over(Stream::connect_with_receive_buffer(addr, 64 << 10, PATIENCE).unwrap())
}

type Progress = std::sync::Arc<std::sync::atomic::AtomicUsize>;

/// Sends from a thread of its own, and counts what has left.
fn upload(client: &Client, bytes: Vec<u8>) -> (thread::JoinHandle<()>, Progress) {
    let progress = Progress::default();
    let (mut writer, counter) = (client.writer().unwrap(), progress.clone());
    let sender = thread::spawn(move || {
        for piece in bytes.chunks(16 << 10) {
            writer.set_deadline(PATIENCE);
            writer.write_all(piece).unwrap();
            counter.fetch_add(piece.len(), std::sync::atomic::Ordering::Relaxed);
        }
    });
    (sender, progress)
}

/// Waits until an upload was stopped by backpressure, which must come before its end.
fn stands_still(progress: &Progress) {
    let now = || progress.load(std::sync::atomic::Ordering::Relaxed);
    until("the upload stands still", || {
        let before = now();
        thread::sleep(Duration::from_millis(300));
        before > 0 && now() == before
    });
    assert!(now() < 10 << 20, "the whole upload was taken, and nobody read the answer");
}

fn bodies_that_are_made(name: &str, instances: Instances) {
    let Some(server) = serve(name, instances, &[("--workers", "1")]) else { return };
    let big = ask(&server, "/big?bytes=3000000");
    success(&big);
    assert_eq!(big.body.len(), 3_000_000);
    let misplaced = big.body.iter().enumerate().find(|(i, byte)| usize::from(**byte) != i % 256);
    assert_eq!(misplaced, None);

    // Line by line: made all at once they would come all at once.
    let mut client = server.client();
    client.send_get("a", "/stream?n=4&ms=200").unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.header("content-type"), Some("text/plain"), "{head:?}");
    let mut body = client.body(&head).unwrap();
    read_exactly(&mut client, &mut body, b"line 1\n");
    let first = Instant::now();
    read_exactly(&mut client, &mut body, b"line 2\nline 3\nline 4\n");
    assert!(first.elapsed() >= Duration::from_millis(200), "600 ms in {:?}", first.elapsed());
    assert_eq!(client.read_body(&mut body, &mut Vec::new(), 1).unwrap(), 0);
    assert_eq!(body.end(), Some(&End::Clean));

    // A client that reads the head of much and stops costs no memory, and one that leaves takes its request with it.
    let rss = server.rss_bytes();
    let mut idle = small_client(&server);
    idle.send_get("a", "/big?bytes=1000000000").unwrap();
    assert_eq!(idle.head().unwrap().status, 200);
    rests(&server);
    let grown = server.rss_bytes().saturating_sub(rss);
    assert!(grown < 100 << 20, "the server has grown by {grown} bytes");
    idle.reset().unwrap();
    client.send_get("a", "/stream?n=1000&ms=1000").unwrap();
    client.reset().unwrap();
    rests(&server);
    success(&ask(&server, "/"));
}

/// Waits until the server uses next to no CPU time.
fn rests(server: &Server) {
    until("the server rests", || {
        let before = server.cpu_time();
        thread::sleep(Duration::from_millis(200));
        server.cpu_time().saturating_sub(before) < Duration::from_millis(40)
    });
}

/// A hundred at once, on one worker.
fn crowd(name: &str, instances: Instances) {
    let Some(server) = serve(name, instances, &[("--workers", "1")]) else { return };
    success(&ask(&server, "/"));
    let mut clients: Vec<Client> = (0..100).map(|_| server.client()).collect();
    let started = Instant::now();
    for client in &mut clients {
        client.send_get("a", "/wait?ms=500").unwrap();
    }
    for client in &mut clients {
        check::ok(&client.response().unwrap(), b"waited\n");
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(500), "nobody waited: {took:?}");
    assert!(took < Duration::from_secs(25), "they waited for each other: {took:?}");

    halves(&mut clients);
}

/// Each client has the first half of its body back before any of them sends the second: all of their guests are at work
/// at the same time.
fn halves(clients: &mut [Client]) {
    let bodies: Vec<Vec<u8>> = (0..100).map(|seed| Pattern::new(seed).take(20_000)).collect();
    assert_eq!(clients.len(), bodies.len());
    for (client, body) in clients.iter_mut().zip(&bodies) {
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n").unwrap();
        client.send(&body[..10_000]).unwrap();
    }
    let mut echoes = Vec::new();
    for (client, body) in clients.iter_mut().zip(&bodies) {
        let head = client.head().unwrap();
        assert_eq!(head.status, 200, "{head:?}");
        let mut echo = client.body(&head).unwrap();
        read_exactly(client, &mut echo, &body[..10_000]);
        echoes.push(echo);
    }
    for (client, body) in clients.iter_mut().zip(&bodies) {
        client.send(&body[10_000..]).unwrap();
    }
    for ((client, body), echo) in clients.iter_mut().zip(&bodies).zip(&mut echoes) {
        read_exactly(client, echo, &body[10_000..]);
        assert_eq!(client.read_body(echo, &mut Vec::new(), 1).unwrap(), 0);
        assert_eq!(echo.end(), Some(&End::Clean));
    }
}

/// It costs the request that crashed, and no other: not the one beside it, not the next one.
fn crash(name: &str, instances: Instances) {
    let Some(server) = serve(name, instances, &[("--workers", "1")]) else { return };
    let mut beside = server.client();
    beside.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nstill ").unwrap();
    for _ in 0..3 {
        let mut client = server.client();
        let crashed = client.get("a", "/crash");
        if name == "js" {
            // Its engine catches what a handler throws: it begins a response of its own, and does not finish it.
            let crashed = crashed.unwrap();
            assert_eq!((crashed.status(), crashed.header("tidegate-error")), (500, None), "{crashed:?}");
            assert_ne!(crashed.end, End::Clean, "{crashed:?}");
        } else {
            logged_problem(&server, &crashed.unwrap(), 500, "guest-trap");
            success(&client.get("a", "/").unwrap());
        }
        success(&ask(&server, "/"));
    }
    beside.send("yes").unwrap();
    check::ok(&beside.response().unwrap(), b"still yes");
}

fn trailers(name: &str, instances: Instances) {
    let Some(server) = serve(name, instances, &[]) else { return };
    let mut client = server.client();
    for _ in 0..3 {
        client.send("GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n").unwrap();
        let response = client.response().unwrap();
        check::ok(&response, b"body\n");
        assert_eq!(response.trailers, [("x-bytes".to_owned(), "5".to_owned())]);
        assert_eq!(response.header("x-bytes"), None, "a trailer became a header: {response:?}");
    }
}

fn limits(name: &str, instances: Instances) {
    let flags = [("--limit", "memory=64MiB"), ("--limit", "cpu=2s"), ("--limit", "wall=20s")];
    let Some(server) = serve(name, instances, &flags) else { return };
    for (path, status, code) in [("/hoard", 500, "guest-memory"), ("/spin", 504, "cpu-limit")] {
        logged_problem(&server, &ask(&server, path), status, code);
        success(&ask(&server, "/"));
    }
    let Some(server) = serve(name, instances, &[("--limit", "wall=500ms")]) else { return };
    logged_problem(&server, &ask(&server, "/wait?ms=60000"), 504, "wall-limit");
    success(&ask(&server, "/wait?ms=1"));
}

/// The tests of one component, for instances of the policies named. A module has its language's name, and in it are
/// `fresh` and `reused`.
macro_rules! language {
    ($module:ident, [Fresh], $tests:tt) => {
        mod $module {
            language!(@policy fresh Fresh $tests);
        }
    };
    ($module:ident, [Fresh, Reused], $tests:tt) => {
        mod $module {
            language!(@policy fresh Fresh $tests);
            language!(@policy reused Reused $tests);
        }
    };
    (@policy $policy:ident $instances:ident [$($test:ident ($($argument:literal),*)),* $(,)?]) => {
        mod $policy {
            $(
                #[test]
                fn $test() {
                    crate::$test($($argument,)* crate::$instances);
                }
            )*
        }
    };
}

language!(
    rust,
    [Fresh, Reused],
    [
        simple_routes("Rust", "rust"),
        echo("rust"),
        bodies_that_are_made("rust"),
        crowd("rust"),
        crash("rust"),
        trailers("rust"),
        limits("rust"),
    ]
);

// Of a handler on a fetch event there is one request an instance: its engine has the one event, and refuses a second.
language!(
    javascript,
    [Fresh],
    [
        simple_routes("JavaScript", "js"),
        echo("js"),
        bodies_that_are_made("js"),
        crowd("js"),
        crash("js"),
        limits("js"),
    ]
);

language!(
    javascript_raw,
    [Fresh, Reused],
    [
        simple_routes("JavaScript", "js_raw"),
        echo("js_raw"),
        bodies_that_are_made("js_raw"),
        crowd("js_raw"),
        crash("js_raw"),
        trailers("js_raw"),
        limits("js_raw"),
    ]
);

language!(
    python,
    [Fresh, Reused],
    [
        simple_routes("Python", "python"),
        echo("python"),
        bodies_that_are_made("python"),
        crowd("python"),
        crash("python"),
        trailers("python"),
        limits("python"),
    ]
);

language!(
    c,
    [Fresh, Reused],
    [
        simple_routes("C", "c"),
        echo("c"),
        bodies_that_are_made("c"),
        crowd("c"),
        crash("c"),
        trailers("c"),
        limits("c"),
    ]
);

/// What is known not to work, and what holds of it: the engine refuses a second event, and the request that asks for one
/// gets an error. Its instance goes with it, so that the next request is answered.
#[test]
fn javascript_on_a_fetch_event_does_not_fail_for_ever_where_it_is_reused() {
    let Some(server) = serve("js", Reused, &[("--workers", "1")]) else { return };
    let mut client = server.client();
    let (mut good, mut failed) = (0, 0);
    // Until one has failed and one has succeeded after it.
    let mut after_failure = false;
    until("a request that fails, and one that does not after it", || {
        let response = client.get("a", "/").unwrap();
        if response.status() == 200 {
            check::ok(&response, b"hello from JavaScript\n");
            good += 1;
            after_failure = failed > 0;
        } else {
            logged_problem(&server, &response, 502, "no-response");
            failed += 1;
        }
        // Each answer leaves one used instance at the most, and each failure takes one away.
        assert!(failed <= good, "{failed} failures and {good} answers: {response:?}");
        after_failure && good >= 10
    });
}

#[path = "components/wstd.rs"]
mod wstd;
