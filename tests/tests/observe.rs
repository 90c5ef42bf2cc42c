//! What an operator sees: the access log, a line for each failure, ids that are the same everywhere, and limits of
//! connections.

use std::io::Write;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tidegate_tests::artifacts;
use tidegate_tests::check::{problem, success};
use tidegate_tests::server::Builder;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, App, Client, Server};

/// Both logs as JSON.
fn logging(builder: Builder) -> Builder {
    builder.option("--access-log", "-").option("--log-format", "json").option("--workers", "1")
}

/// The line of the access log about this target.
#[track_caller]
fn record(server: &Server, target: &str) -> Value {
    let target = format!("\"target\":\"{target}\"");
    let line = server.stdout().wait_for(PATIENCE, |line| line.contains(&target));
    let line = line.unwrap_or_else(|| panic!("no line with {target}:\n{}", server.stdout().tail(10)));
    serde_json::from_str(&line).expect("a JSON object a line")
}

/// The line of the server's log about the failure of this request.
#[track_caller]
fn failure(server: &Server, id: &str) -> Value {
    let line = server.wait_for_log(|line| line.contains("request failed") && line.contains(id));
    let line = line.unwrap_or_else(|| panic!("no line with {id}:\n{}", server.stderr().tail(10)));
    serde_json::from_str(&line).expect("a JSON object a line")
}

/// Both logs agree on how a request ended.
#[track_caller]
fn ended(server: &Server, target: &str, outcome: &str, level: &str) -> Value {
    let record = record(server, target);
    assert_eq!(record["outcome"], outcome, "{record}");
    let failure = failure(server, record["request"].as_str().expect("an id"));
    assert_eq!((&failure["error"], &failure["level"]), (&outcome.into(), &level.into()), "{failure}");
    assert_eq!((&failure["app"], &failure["status"]), (&record["app"], &record["status"]), "{failure}");
    record
}

#[test]
fn the_access_log_has_a_line_for_each_request() {
    let server = Server::builder()
        .app(App::guest("hello"))
        .app(App::guest("trap"))
        .option("--access-log", "-")
        .option("--log-format", "json")
        .start();
    let mut client = server.client();
    success(&client.get("hello.test", "/some/path?query").unwrap());
    let id = problem(&client.get("trap.test", "/").unwrap(), 500, "guest-trap");

    let wanted = |words: &[&str]| {
        let line = server.stdout().wait_for(PATIENCE, |line| words.iter().all(|word| line.contains(word)));
        let line = line.unwrap_or_else(|| panic!("no line with {words:?}:\n{}", server.stdout().tail(10)));
        serde_json::from_str::<serde_json::Value>(&line).expect("a JSON object a line")
    };
    let served = wanted(&["/some/path"]);
    assert_eq!(served["status"], 200, "{served}");
    let failed = wanted(&[&id]);
    assert_eq!(failed["status"], 500, "{failed}");
    for line in [served, failed] {
        // Id, status, bytes, and the three times: how long it waited, computed, and took.
        let object = line.as_object().expect("an object");
        for part in ["request", "status", "bytes", "queue", "cpu", "wall"] {
            assert!(object.keys().any(|key| key.contains(part)), "no {part} in {line}");
        }
    }
    assert_eq!(server.stdout().count(|line| line.contains("/some/path")), 1);
}

/// The guest has returned, and its answer waits for a reader who goes away.
#[test]
fn an_answer_that_did_not_leave_is_cancelled() {
    let app = App::guest("generate").line("watermarks = { high = \"32MiB\", low = \"1MiB\" }");
    let app = app.limit("concurrency", "1").limit("queue", "0");
    let server = logging(Server::builder().app(app)).env("TIDEGATE_LOG", "debug").start();
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    let mut client = Client::over(Stream::connect_with_receive_buffer(addr, 4_096, PATIENCE).unwrap());
    client.send_get("generate.test", "/30000000").unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    until("the guest has returned", || server.get("generate.test", "/1").status() == 200);
    client.reset().unwrap();
    ended(&server, "/30000000", "cancelled", "DEBUG");
}

#[test]
fn a_reader_who_is_too_slow_is_told_of() {
    let server = logging(Server::builder().app(App::guest("generate"))).option("--http", "write_grace=300ms");
    let server = server.start();
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    let mut client = Client::over(Stream::connect_with_receive_buffer(addr, 4_096, PATIENCE).unwrap());
    client.send_get("generate.test", "/100000000").unwrap();
    ended(&server, "/100000000", "slow-reader", "INFO");
}

/// One request runs and one waits for admission when the time to drain is over.
#[test]
fn what_a_drain_cuts_off_is_told_of() {
    let app = App::guest("slow").limit("concurrency", "1").limit("queue", "1").limit("wall", "60s");
    let mut server = logging(Server::builder().app(app)).option("--drain", "500ms").start();
    let mut clients = [server.client(), server.client()];
    clients[0].send_get("slow.test", "/50000").unwrap();
    clients[1].send_get("slow.test", "/50001").unwrap();
    server.settle();
    until("one runs and one waits", || server.get("slow.test", "/1").status() == 503);
    server.signal(Signal::TERM);
    let [one, two] = ["/50000", "/50001"].map(|target| ended(&server, target, "drained", "WARN"));
    // Which of the two came first is not known.
    let mut waited = [&one, &two].map(|record| record["queue_us"].as_u64().expect("a number"));
    waited.sort_unstable();
    assert!(waited[0] < 400_000 && waited[1] >= 500_000, "{one}\n{two}");
    server.wait_exit(PATIENCE);
}

/// Whoever was told an id finds it in the log, with what was wrong.
#[test]
fn every_refusal_has_a_line() {
    let echo = App::guest("echo").limit("body", "10B");
    let server = logging(Server::builder().app(echo)).option("--http", "head_timeout=300ms").start();
    for (request, status, code, app) in [
        ("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n", 404, "no-such-app", "-"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad-request", "-"),
        ("GET / HTTP/1.1\r\nHost: a", 408, "request-timeout", "-"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501, "not-implemented", "-"),
        ("POST / HTTP/1.1\r\nHost: echo.test\r\nContent-Length: 11\r\n\r\n", 413, "body-too-large", "echo"),
    ] {
        let mut client = server.client();
        client.send(request).unwrap();
        let id = problem(&client.response().unwrap(), status, code);
        let line = failure(&server, &id);
        assert_eq!((&line["error"], &line["status"]), (&code.into(), &status.into()), "{line}");
        assert_eq!((&line["level"], &line["app"]), (&"INFO".into(), &app.into()), "{line}");
        assert!(line["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{line}");
    }
}

#[test]
fn the_log_names_what_the_guest_met() {
    let server = logging(Server::builder())
        .app(App::guest("spin").limit("cpu", "50ms"))
        .app(App::guest("slow").limit("wall", "300ms"))
        .app(App::wat("guest_error"))
        .app(App::guest("bad_head"))
        .app(App::guest("unfinished"))
        .start();
    for (host, path, code, detail) in [
        ("spin.test", "/", "cpu-limit", "the CPU limit of 50ms ran out"),
        ("slow.test", "/50000", "wall-limit", "the wall limit of 300ms ran out"),
        ("guest-error.test", "/", "guest-error", "the handler returned 7"),
        ("bad-head.test", "/", "bad-response", "refused: a field value holds a control byte"),
        ("unfinished.test", "/", "unfinished", "dropped the body without finishing it"),
    ] {
        let _ = server.client().get(host, path);
        let line = server.wait_for_log(|line| line.contains(&format!("\"error\":\"{code}\"")));
        let line = line.unwrap_or_else(|| panic!("no {code}:\n{}", server.stderr().tail(10)));
        assert!(line.contains(detail), "{line}");
    }
}

#[test]
fn an_access_log_that_can_not_be_written_is_told_of_once() {
    let server = Server::builder().guest("hello").option("--access-log", "/dev/full").start();
    let failed = |line: &str| line.contains("the access log can not be written") && line.contains("No space");
    for round in 0..2 {
        success(&server.get("a", "/"));
        assert!(server.wait_for_log(failed).is_some(), "{}", server.stderr().tail(10));
        until("the loss is told of", || {
            server.stderr().count(|line| line.contains("lines were lost")) > round
        });
    }
    assert_eq!(server.stderr().count(failed), 1);
}

#[test]
fn an_access_log_that_can_not_be_opened_is_named() {
    let builder = Server::builder().guest("hello").option("--access-log", "no/such/folder/a.log");
    let (status, said) = builder.start_refused();
    assert!(!status.success() && said.contains("no/such/folder/a.log"), "{status}: {said}");
}

/// Ends the process with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A terminal that is stopped, a pager that was not scrolled: the server serves, and ends when it is told to.
#[test]
fn a_standard_output_that_nobody_reads_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let mut command = artifacts::tidegate();
    command.arg("serve").arg(artifacts::guest("hello")).args(["--access-log", "-", "--workers", "1"]);
    command.arg("--listen").arg(format!("unix:{}", socket.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Ended(command.spawn().unwrap());
    let unread = server.0.stdout.take().unwrap();

    let addr = Addr::Unix(socket);
    let connected = poll_for(PATIENCE, || Client::connect(&addr).ok());
    let mut client = connected.expect("the server listens");
    // Far more lines than any queue holds, in requests that need no guest.
    let mut writer = client.writer().unwrap();
    let writing = thread::spawn(move || {
        let requests = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
        let wrote = (0..150).try_for_each(|_| writer.write_all(requests.as_bytes()));
        wrote.and_then(|()| writer.write_all(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    });
    let answers = client.rest().unwrap();
    writing.join().unwrap().unwrap();
    assert_eq!(answers.windows(13).filter(|bytes| bytes == b"HTTP/1.1 204 ").count(), 150_001);
    kill_process(Pid::from_child(&server.0), Signal::TERM).unwrap();
    let status = poll_for(Duration::from_secs(15), || server.0.try_wait().unwrap());
    assert_eq!(status.expect("it ends").code(), Some(0));
    drop(unread);
}

#[test]
fn the_access_log_is_off_unless_asked_for() {
    let server = Server::builder().guest("hello").start();
    success(&server.get("a", "/not-in-the-log"));
    success(&server.get("a", "/"));
    let all = [server.stdout().lines(), server.stderr().lines()].concat();
    assert!(all.iter().all(|line| !line.contains("not-in-the-log")), "{all:?}");
}

#[test]
fn an_id_is_taken_from_the_peer_only_where_it_is_trusted() {
    let request = "GET / HTTP/1.1\r\nHost: trap.test\r\nX-Request-Id: from-the-peer-1\r\n\r\n";
    for trusted in [false, true] {
        let builder = Server::builder().app(App::guest("trap"));
        let builder = if trusted { builder.flag("--trust-request-id") } else { builder };
        let server = builder.start();
        let mut client = server.client();
        client.send(request).unwrap();
        let id = problem(&client.response().unwrap(), 500, "guest-trap");
        assert_eq!(id == "from-the-peer-1", trusted, "{id}");
        assert!(server.wait_for_log(|line| line.contains(&id)).is_some());
    }
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    let server =
        Server::builder().guest("hello").option("--workers", "1").option("--connections", "4").start();
    let mut inside: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut inside {
        success(&client.get("a", "/").unwrap());
    }
    let mut outside: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut outside {
        client.send_get("a", "/").unwrap();
    }
    for client in &mut inside {
        success(&client.get("a", "/").unwrap());
    }
    drop(inside);
    for client in &mut outside {
        success(&client.response().unwrap());
    }
}

#[test]
fn the_backlog_is_as_long_as_set() {
    let server = Server::builder()
        .guest("hello")
        .listen("unix:web.sock")
        .option("--workers", "1")
        .option("--connections", "1")
        .option("--backlog", "2")
        .start();
    let mut inside = server.client();
    success(&inside.get("a", "/").unwrap());
    let Addr::Unix(path) = server.addr() else { panic!("a Unix socket is asked for") };
    let addr = socket2::SockAddr::unix(path).unwrap();
    let outside: Vec<_> = (0..50)
        .map_while(|_| {
            let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.connect(&addr).is_ok().then_some(socket)
        })
        .collect();
    // Linux lets one more in than it is told.
    assert_eq!(outside.len(), 3, "connections that were let in to wait");
}
