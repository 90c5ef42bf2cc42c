//! The test module: the host in memory where it is not shown elsewhere, and requests over a socket, to a small HTTP
//! server of our own.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tidegate_sdk::test::{self, Answer, App, Exchange};
use tidegate_sdk::{Error, Request, ResponseWriter, Result, Router, StatusCode};

/// A server for one connection, which does with it what a test says.
struct Server<T> {
    path: PathBuf,
    thread: JoinHandle<T>,
    _folder: tempfile::TempDir,
}

impl<T: Send + 'static> Server<T> {
    fn new(serve: impl FnOnce(UnixStream) -> T + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = thread::spawn(move || serve(listener.accept().unwrap().0));
        Self { path, thread, _folder: folder }
    }

    /// The answer to `exchange`, and what the server made of it.
    fn ask(self, exchange: Exchange) -> (Answer, T) {
        let answer = test::socket(&self.path).send(exchange);
        (answer, self.thread.join().unwrap())
    }
}

/// A server that reads a request to its end and answers with these bytes.
fn answering(response: &'static [u8]) -> Server<String> {
    Server::new(move |mut stream| {
        let request = read_request(&stream);
        stream.write_all(response).unwrap();
        request
    })
}

/// All of a request, as it was sent. Chunked bodies end with the empty line behind the last chunk.
fn read_request(stream: &UnixStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut all = String::new();
    let section = |reader: &mut BufReader<&UnixStream>, all: &mut String| {
        loop {
            let start = all.len();
            if reader.read_line(all).unwrap() == 0 || &all[start..] == "\r\n" {
                return;
            }
        }
    };
    section(&mut reader, &mut all);
    if all.contains("transfer-encoding: chunked") {
        while !all.ends_with("\r\n0\r\n") {
            if reader.read_line(&mut all).unwrap() == 0 {
                return all;
            }
        }
        section(&mut reader, &mut all);
    } else if let Some(length) = all.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        all.push_str(std::str::from_utf8(&body).unwrap());
    }
    all
}

/// The message of the panic that `f` ends in.
fn panics<R>(f: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).map(drop).expect_err("it should have panicked");
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: now\r\nx-a: 1\r\n\r\nhi";

#[test]
fn a_request_arrives_as_it_was_described() {
    let cases = [
        (Exchange::get("/a?b"), "GET /a?b HTTP/1.1\r\nhost: test.example\r\n\r\n"),
        (
            Exchange::new("PURGE", "/").header("X-Case", "Kept"),
            "PURGE / HTTP/1.1\r\nhost: test.example\r\nx-case: Kept\r\n\r\n",
        ),
        (
            Exchange::post("/").body("hello"),
            "POST / HTTP/1.1\r\nhost: test.example\r\ncontent-length: 5\r\n\r\nhello",
        ),
        (Exchange::post("/").body(""), "POST / HTTP/1.1\r\nhost: test.example\r\ncontent-length: 0\r\n\r\n"),
        (
            Exchange::post("/").chunk("hel").chunk_after(Duration::from_millis(1), "lo world"),
            "POST / HTTP/1.1\r\nhost: test.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n8\r\nlo world\r\n0\r\n\r\n",
        ),
        (
            Exchange::post("/").body("hello").trailer("X-Sum", "1"),
            "POST / HTTP/1.1\r\nhost: test.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
        ),
        (
            Exchange::post("/").header("content-length", "6").chunk("abc").chunk("def"),
            "POST / HTTP/1.1\r\nhost: test.example\r\ncontent-length: 6\r\n\r\nabcdef",
        ),
    ];
    for (exchange, expected) in cases {
        let (answer, request) = answering(OK).ask(exchange);
        assert_eq!(request, expected);
        assert_eq!((answer.assert_status(200).text(), answer.header("x-a")), ("hi", Some("1")));
        assert_eq!(answer.headers.len(), 1, "what hosts add is left out: {:?}", answer.headers);
        assert!(answer.finished && !answer.failed);
    }
}

#[test]
fn hints_chunks_and_trailers_are_read() {
    let response = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 201 Created\r\n\
        transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 2\r\n\r\n";
    let (answer, _) = answering(response).ask(Exchange::get("/"));
    assert_eq!(answer.hints[0]["link"], "</a>");
    assert_eq!((answer.assert_status(201).text(), answer.finished), ("hi", true));
    assert_eq!(answer.trailers["x-sum"], "2");
}

#[test]
fn an_answer_to_head_has_no_body() {
    let (answer, _) =
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").ask(Exchange::new("HEAD", "/"));
    assert!(answer.body.is_empty() && answer.finished);
}

#[test]
fn an_answer_that_is_cut_off_has_failed_and_so_has_one_by_the_host() {
    let (answer, _) = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").ask(Exchange::get("/"));
    assert_eq!((answer.text(), answer.finished, answer.failed), ("half", false, true));
    let (answer, _) = answering(b"").ask(Exchange::get("/"));
    assert_eq!((answer.status, answer.finished, answer.failed), (None, false, true));
    let (answer, _) =
        answering(b"HTTP/1.1 500 No\r\ntidegate-error: guest-trap\r\ncontent-length: 0\r\n\r\n")
            .ask(Exchange::get("/"));
    assert_eq!((answer.status.unwrap().as_u16(), answer.finished, answer.failed), (500, true, true));
}

#[test]
fn an_early_answer_does_not_wait_for_the_upload() {
    let server = Server::new(|mut stream| {
        stream.write_all(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n").unwrap();
        // Never reads: far more is coming than a socket holds.
        drop(stream);
    });
    let (answer, ()) = server.ask(Exchange::post("/").body(vec![0; 16 << 20]));
    answer.assert_status(413);
}

#[test]
fn an_early_answer_does_not_wait_for_what_was_to_come_later() {
    let server = Server::new(|mut stream| {
        stream.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    });
    let start = Instant::now();
    let (answer, ()) = server.ask(Exchange::post("/").chunk_after(Duration::from_secs(3600), "late"));
    answer.assert_status(503);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_client_that_cuts_its_body_off_still_hears_the_answer() {
    let server = Server::new(|mut stream| {
        let mut request = String::new();
        stream.read_to_string(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
        request
    });
    let (answer, request) = server.ask(Exchange::post("/").chunk("half").body_cut_off());
    answer.assert_status(400);
    assert!(request.ends_with("4\r\nhalf\r\n"), "{request}");
}

/// Writes a response without end until nobody takes it any more; says how much that was.
fn flood(mut stream: UnixStream) -> usize {
    read_request(&stream);
    let mut sent = 0;
    if stream.write_all(b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n").is_err() {
        return 0;
    }
    loop {
        match stream.write(&[7; 10_000]) {
            Ok(n) => sent += n,
            Err(_) => return sent,
        }
    }
}

#[test]
fn a_client_hangs_up_when_it_was_told_to() {
    for bytes in [0, 1, 1_000_000] {
        let (answer, _) = Server::new(flood).ask(Exchange::get("/").hang_up_after(bytes));
        assert!(answer.assert_status(200).body.len() >= bytes && !answer.finished, "{bytes}");
        assert!(!answer.failed, "it was not the server's doing");
    }
}

#[test]
fn a_stalled_client_takes_nothing() {
    let (answer, sent) = Server::new(flood).ask(Exchange::get("/").stalled_client());
    assert_eq!(answer.assert_status(200).header("x-a"), Some("1"));
    assert!(!answer.finished && !answer.failed);
    // What the system holds between them, and no more.
    assert!(sent < 4 << 20, "{sent}");
}

#[test]
fn a_slow_client_takes_all_of_it_a_little_at_a_time() {
    let server = Server::new(|mut stream| {
        read_request(&stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").unwrap();
        stream.write_all(&[7; 100_000]).unwrap();
    });
    let (answer, ()) = server.ask(Exchange::get("/").pipe_bytes(7));
    assert!(answer.finished && answer.body == [7; 100_000]);
}

#[test]
fn what_cannot_be_done_over_a_socket_says_so() {
    let app = test::socket("/nobody/listens/here");
    let cases = [
        (Exchange::get("/").mount("/shop"), "Exchange::mount"),
        (Exchange::get("/").param("id", "7"), "Exchange::param"),
        (Exchange::get("/"), "cannot be reached"),
    ];
    for (exchange, part) in cases {
        let message = panics(|| app.send(exchange));
        assert!(message.contains(part) && message.contains("/nobody/listens/here"), "{message}");
    }
    let server = answering(b"SSH-2.0-nonsense\r\n");
    let message = panics(|| server.ask(Exchange::get("/")));
    assert!(message.contains("malformed"), "{message}");
}

async fn show(request: Request) -> Result<String> {
    match request.param("id") {
        Some("7") => Ok("seven\n".to_owned()),
        _ => Err(Error::status(StatusCode::NOT_FOUND, "only seven is there")),
    }
}

fn routes() -> App {
    test::app(Router::new().get("/items/{id}", show))
}

#[test]
fn an_app_is_asked_as_often_as_needed() {
    let app = routes();
    assert_eq!(app.get("/items/7").assert_status(200).text(), "seven\n");
    app.get("/items/8").assert_status(404);
    app.post("/items/7", "x").assert_status(405);
    let plain = test::app(|mut request: Request| request.body().text());
    assert_eq!(plain.post("/", "back").text(), "back");
    let streaming = test::app_streaming(|_, response: ResponseWriter| response.respond("whole"));
    assert_eq!(streaming.get("/").text(), "whole");
    assert_eq!(streaming.get("/").calls, ["request_head", "respond"]);
}

/// Run by the test below, in a process of its own which has the variable.
#[test]
fn child_asks_whoever_the_environment_names() {
    let expected = match std::env::var_os("TIDEGATE_TEST_SOCKET") {
        Some(_) => "from afar",
        None => "seven\n",
    };
    assert_eq!(routes().get("/items/7").text(), expected);
}

#[test]
fn the_environment_sends_requests_to_the_real_module() {
    let server = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfrom afar");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_asks_whoever_the_environment_names"])
        .env("TIDEGATE_TEST_SOCKET", &server.path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(server.thread.join().unwrap().starts_with("GET /items/7 "));
}

#[test]
fn a_failed_assertion_shows_what_there_is() {
    let answer = Exchange::get("/").run(|_: Request| {
        tidegate_sdk::warn!("low on tea");
        Error::status(StatusCode::CONFLICT, "taken")
    });
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let message = panics(|| answer.assert_status(200).text());
    for part in ["expected status 200", "409", "taken", "Warn: low on tea", "content-type"] {
        assert!(message.contains(part), "{message}");
    }
    let silent = Exchange::get("/").run_streaming(|_, _| Ok::<_, Error>(()));
    assert!(panics(|| silent.assert_status(200).text()).contains("no response was sent"));
    let bytes = Exchange::get("/").run(|_: Request| vec![0xff]);
    assert!(panics(|| bytes.text().len()).contains("not text"));
}

#[cfg(feature = "json")]
#[test]
fn an_answer_is_read_as_json() {
    let answer = Exchange::get("/").run(|_: Request| r#"{"a":[1,2]}"#);
    let value: std::collections::BTreeMap<String, Vec<u32>> = answer.json();
    assert_eq!(value["a"], [1, 2]);
    let message = panics(|| answer.json::<Vec<u32>>());
    assert!(message.contains("not what was expected") && message.contains(r#"{"a":[1,2]}"#), "{message}");
}

#[test]
fn a_handler_that_tries_without_waiting_is_found_out() {
    let message = panics(|| {
        Exchange::get("/").stalled_client().run_streaming(|_, response| -> Result<()> {
            let mut body = response.start(StatusCode::OK)?;
            loop {
                let _ = body.try_write(b"again");
            }
        });
    });
    assert!(message.contains("tries `write` again and again"), "{message}");
}

#[test]
fn chunks_keep_their_distance_and_the_clock_is_the_hosts() {
    let answer = Exchange::post("/")
        .chunk_after(Duration::from_secs(10), "a")
        .chunk_after(Duration::from_secs(5), "b")
        .run(|mut request: Request| -> Result<String> {
            let start = tidegate_sdk::now();
            let mut times = Vec::new();
            while request.body().read(&mut [0; 8])? > 0 {
                times.push((tidegate_sdk::now() - start).as_secs());
            }
            // A sleep leaves what is left of the limits as short as it should be.
            let left = request.deadline().unwrap().saturating_duration_since(tidegate_sdk::now());
            times.push(left.as_secs());
            Ok(format!("{times:?}"))
        });
    assert_eq!(answer.text(), "[10, 15, 14]");
}

#[test]
fn the_client_goes_on_while_the_handler_sleeps() {
    let second = Duration::from_secs(1);
    let exchange =
        Exchange::post("/").chunk_after(3 * second, "abc").chunk_after(2 * second, "d").pipe_bytes(2);
    let answer = exchange.run_streaming(|mut request, response| -> Result<()> {
        let mut body = response.start(StatusCode::OK)?;
        let (mut buf, mut left) = ([0; 8], Vec::new());
        for seconds in 0..20_u8 {
            if let Ok(n) = request.body().try_read(&mut buf) {
                left.extend_from_slice(&buf[..n]);
            }
            if let Ok(n) = body.try_write(&left) {
                left.drain(..n);
            }
            tidegate_sdk::info!("{seconds}: {}", left.len());
            tidegate_sdk::sleep(second);
        }
        body.finish()?;
        Ok(())
    });
    assert_eq!(answer.text(), "abcd");
    let seen: Vec<&str> = answer.logs.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(seen[2..6], ["2: 0", "3: 1", "4: 0", "5: 0"]);
}
