//! A handler that ignores backpressure cannot be written by accident: whatever way of writing a body it takes, and
//! however little it thinks of its client, the memory it costs is bounded.
//!
//! Why that is so: between handler and client lies one pipe, of 64 KiB, and no way of writing goes around it.
//!
//! - What waits (`write`, `forward`, a `BufWriter`, `Response::stream`, events) waits inside the call until the client
//!   has made room. A parked handler costs what it costs already and no CPU time.
//! - What is awaited borrows the writer until it is done. There is one writer, it cannot be cloned, and a future that
//!   is not awaited writes nothing: sends cannot pile up.
//! - What does not wait (`try_write`) takes no more than there is room for and hands the rest back. Who tries again and
//!   again pays with CPU time of its own, which has a limit, and others have their turn meanwhile.
//! - What is whole before it is sent (a `Vec`, JSON, a range of it) is the handler's own memory, which has a limit too.
//!   The host takes of it what the pipe has room for.
//!
//! So each way is asked for a gigabyte (what is whole: for 32 MiB) by a client that reads the head and stops. Once the
//! handler rests, neither the server nor the handler may have grown by more than a small amount; then the client reads
//! on and finds every byte in its place, or hangs up, and nothing is left. The handlers live in `guests/flood`; whoever
//! adds a way of writing to the SDK adds it there and to the lists below. `AsyncWrite` of the feature `futures` is in
//! `guest-sdk/tests/futures.rs` instead: the feature would be on for every guest that is built beside this one.

use std::io::Write;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_tests::check::{self, success};
use tidegate_tests::http::Body;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, App, Client, End, Server};

/// What a flood may add to the server, apart from the memory of a handler that makes its body as a whole.
const SLACK: u64 = 10 << 20;
/// Of a handler that streams. One that gathered what its client does not read would be ended at once.
const SMALL: (&str, u64) = ("4MiB", 4 << 20);
/// Of a handler that makes its body as a whole: what handlers have unless the manifest says otherwise.
const LARGE: (&str, u64) = ("64MiB", 64 << 20);

/// Ways of writing that wait for the client.
const WAITING: &[&str] = &["/write", "/bufwriter", "/copy", "/stream", "/sse", "/writable"];
/// Ways of writing that are awaited.
const AWAITED: &[&str] = &["/send", "/stream-async", "/sse-async", "/ready"];
/// Ways of writing that need the whole body first.
const WHOLE: &[&str] = &["/respond", "/start", "/json", "/range"];
/// Ways of sending the request's body back.
const FORWARDED: &[&str] = &["/forward", "/forward-async", "/echo-async"];

/// One worker, and place for one request: what a cancelled one has not given back would be missed at once. The client's
/// rate is not looked at, or it would be cut off before the end of the test.
fn server(memory: &str) -> Server {
    let app = App::guest("flood").limit("memory", memory).limit("concurrency", "1").limit("queue", "0");
    let server = Server::builder()
        .app(app)
        .option("--workers", "1")
        .option("--http", "min_rate=0")
        .option("--access-log", "-")
        .start();
    success(&server.get("flood.test", "/idle"));
    server
}

/// The first `n` bytes of the flood.
fn expected(path: &str, n: usize) -> Vec<u8> {
    match path {
        "/json" => [b"\"".to_vec(), vec![b'x'; n - 1]].concat(),
        "/sse" | "/sse-async" => {
            let mut text: String = (0..=n / 1000).map(|i| format!("data: {i:01000}\n\n")).collect();
            text.truncate(n);
            text.into_bytes()
        }
        _ => (0..n).map(|i| (i % 251) as u8).collect(),
    }
}

/// A client whose own system keeps little for it.
fn client(server: &Server) -> Client {
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    Client::over(Stream::connect_with_receive_buffer(addr, 64 << 10, PATIENCE).unwrap())
}

/// Sends a gigabyte chunk by chunk, for as long as the server takes it.
fn upload(mut to: Stream) -> JoinHandle<()> {
    to.set_deadline(Duration::from_secs(120));
    // 251 periods of 251 bytes: each block ends where the pattern begins.
    let mut chunk = format!("{:x}\r\n", 251 * 251).into_bytes();
    chunk.extend((0..251 * 251).map(|i| (i % 251) as u8));
    chunk.extend(b"\r\n");
    // An error is the end of the connection: the one that the test makes.
    thread::spawn(move || drop((0..17_100).try_for_each(|_| to.write_all(&chunk))))
}

/// Somebody who asked for the flood, has read its head, and then nothing.
struct Stalled {
    path: String,
    client: Client,
    body: Body,
    sender: Option<JoinHandle<()>>,
}

impl Stalled {
    fn new(server: &Server, path: &str) -> Self {
        let mut client = client(server);
        let mut sender = None;
        let get = format!("GET {path} HTTP/1.1\r\nHost: flood.test\r\n");
        if FORWARDED.contains(&path) {
            let post = get.replace("GET", "POST");
            client.send(format!("{post}Transfer-Encoding: chunked\r\n\r\n")).unwrap();
            sender = Some(upload(client.writer().unwrap()));
        } else if path == "/range" {
            client.send(format!("{get}Range: bytes=251-\r\n\r\n")).unwrap();
        } else {
            client.send(format!("{get}\r\n")).unwrap();
        }
        let head = client.head().unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(head.status, if path == "/range" { 206 } else { 200 }, "{path}: {head:?}");
        let body = client.body(&head).unwrap();
        Self { path: path.to_owned(), client, body, sender }
    }

    /// Reads about `n` bytes, fewer if the body ends before, and looks at each.
    fn reads_on(&mut self, n: usize) {
        let mut got = Vec::new();
        while got.len() < n && self.client.read_body(&mut self.body, &mut got, 1 << 20).unwrap() > 0 {}
        assert!(got == expected(&self.path, got.len()), "{}: not the bytes that were sent", self.path);
        assert!(got.len() >= n || self.body.end().is_some());
    }

    fn hangs_up(self) {
        if let Some(sender) = self.sender {
            // A socket is closed when its last handle is.
            self.client.shutdown_write().unwrap();
            sender.join().unwrap();
        }
        self.client.reset().unwrap();
    }
}

/// Waits until nothing happens in the server any more: three looks in a row, a tenth of a second apart, in which it
/// used next to no CPU time. A handler that is not parked would use all of it.
fn rests(server: &Server, path: &str) {
    let mut quiet = 0;
    let looked = poll_for(PATIENCE, || {
        let before = server.cpu_time();
        thread::sleep(Duration::from_millis(100));
        quiet =
            if server.cpu_time().saturating_sub(before) < Duration::from_millis(2) { quiet + 1 } else { 0 };
        (quiet == 3).then_some(())
    });
    assert!(looked.is_some(), "{path}: the handler of a stalled client goes on working");
}

/// The client is gone, and so is all that there was for it.
fn nothing_is_left(server: &Server, path: &str, nth: usize, files: usize, rss_max: u64) {
    let target = format!(" {path}\" ");
    let cancelled = |line: &str| line.contains(&target) && line.ends_with("cancelled");
    until(&format!("{path}: the handler is cancelled"), || server.stdout().count(cancelled) == nth);
    until(&format!("{path}: its place is free"), || server.get("flood.test", "/idle").status() == 200);
    until(&format!("{path}: its descriptors are given back"), || server.fd_count() <= files);
    until(&format!("{path}: its memory is given back"), || server.rss_bytes() <= rss_max);
}

/// Floods through each of `paths`, by a handler with this much memory.
fn flood(paths: &[&str], (memory, guest): (&str, u64)) {
    let server = server(memory);
    let idle = server.rss_bytes();
    let files = server.fd_count();
    for path in paths {
        for reads in [true, false] {
            let mut stalled = Stalled::new(&server, path);
            rests(&server, path);
            let grown = server.rss_peak_bytes().saturating_sub(idle);
            println!("{path}: {} KiB more at the peak", grown >> 10);
            assert!(grown <= SLACK + guest, "{path}: the server grew by {grown} bytes");
            if reads {
                stalled.reads_on(4 << 20);
                assert_eq!(stalled.body.end(), None, "{path}");
            }
            stalled.hangs_up();
            nothing_is_left(&server, path, if reads { 1 } else { 2 }, files, idle + SLACK);
        }
    }
}

#[test]
fn what_waits_costs_nothing_while_the_client_stalls() {
    flood(WAITING, SMALL);
}

#[test]
fn what_is_awaited_costs_nothing_while_the_client_stalls() {
    flood(AWAITED, SMALL);
}

#[test]
fn what_is_whole_is_bounded_by_the_handlers_own_memory() {
    flood(WHOLE, LARGE);
}

#[test]
fn what_is_forwarded_slows_its_sender_down() {
    flood(FORWARDED, SMALL);
}

/// The one way to ignore that there is no room is to say so in so many words, and to try again at once. It costs CPU
/// time and nothing else: others are served meanwhile, and the limit ends it.
#[test]
fn who_tries_again_and_again_is_ended_by_the_cpu_limit_and_holds_nobody_up() {
    let spin = App::guest("flood").limit("memory", SMALL.0).limit("cpu", "2s");
    let server = Server::builder()
        .app(spin)
        .app(App::guest("hello"))
        .option("--workers", "1")
        .option("--http", "min_rate=0")
        .start();
    success(&server.get("flood.test", "/idle"));
    let hello = server.get("hello.test", "/").body;
    let idle = server.rss_bytes();

    let mut stalled = Stalled::new(&server, "/try-write");
    let ended = |line: &str| line.contains("flood") && line.contains("cpu-limit");
    let mut client = server.client();
    let mut others = 0;
    let started = Instant::now();
    while server.stderr().count(ended) == 0 {
        assert!(started.elapsed() < PATIENCE, "it still spins");
        check::ok(&client.get("hello.test", "/").unwrap(), &hello);
        others += 1;
    }
    assert!(others >= 20, "only {others} others were served beside it");
    let grown = server.rss_peak_bytes().saturating_sub(idle);
    assert!(grown <= SLACK + SMALL.1, "the server grew by {grown} bytes");

    // What had been taken is right as far as it goes, and does not look whole.
    stalled.reads_on(usize::MAX);
    assert!(matches!(stalled.body.end(), Some(End::Cut(_))), "{:?}", stalled.body.end());
}
