//! What operators see of live requests, whatever these wait for, and what cancelling one does: to its client, to its guest,
//! and to nobody else.

use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tidegate_tests::admin::{Admin, hosting_manifest};
use tidegate_tests::check::{problem, success};
use tidegate_tests::daemon::free_addr;
use tidegate_tests::http::End;
use tidegate_tests::server::Builder;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, App, Client, Server};

/// Answers, and then waits for ever.
const LINGERS: &str = r#"(module
    (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
    (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
    (memory (export "memory") 1)
    (func (export "tidegate_handle") (result i32)
        (drop (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
        (drop (call $poll (i32.const 0) (i32.const 0) (i64.const -1)))
        (i32.const 0)))"#;

struct Ps {
    server: Server,
    admin: Admin,
    _state: TempDir,
}

fn start(listen: &str, apps: impl IntoIterator<Item = App>) -> Ps {
    let state = tempfile::tempdir().expect("a state folder");
    let builder = Server::builder().manifest(hosting_manifest(state.path()) + listen);
    let builder = apps.into_iter().fold(builder, Builder::app);
    let server = builder.option("--workers", "2").option("--access-log", "-").start();
    let admin = Admin::of(state.path());
    Ps { server, admin, _state: state }
}

fn patient(app: App) -> App {
    app.limit("wall", "120s").limit("cpu", "120s")
}

impl Ps {
    fn rows(&self) -> Vec<Value> {
        let rows = self.admin.ask("GET", "/v1/requests", &Value::Null).expect("an answer").expect("rows");
        rows.as_array().expect("a list").clone()
    }

    /// The row that is so, waited for.
    #[track_caller]
    fn row(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let found = poll_for(PATIENCE, || self.rows().into_iter().find(&is_so));
        found.unwrap_or_else(|| panic!("no row of {what} in {:#?}", self.rows()))
    }

    /// The row of an app that waits for this.
    #[track_caller]
    fn waiting(&self, app: &str, waits_for: &str) -> Value {
        self.row(&format!("{app} that waits for {waits_for}"), |row| {
            row["app"] == app && row["waits_for"] == waits_for
        })
    }

    #[track_caller]
    fn cancel(&self, row: &Value) {
        let path = format!("/v1/requests/{}", row["id"].as_str().expect("an id"));
        let response = self.admin.send("DELETE", &path, b"").expect("an answer");
        assert_eq!(response.status(), 204, "{response:?}");
    }

    /// Waits until nothing of the app is live.
    #[track_caller]
    fn gone(&self, app: &str) {
        until(&format!("{app} does nothing"), || self.rows().iter().all(|row| row["app"] != app));
    }

    #[track_caller]
    fn send(&self, app: &str, path: &str) -> Client {
        let mut client = self.server.client();
        client.send_get(&format!("{app}.test"), path).expect("sent");
        client
    }
}

/// Its client is told, under the id that the row has, and the connection goes on.
#[track_caller]
fn told(mut client: Client, row: &Value, host: &str) {
    let response = client.response().expect("an answer");
    assert_eq!(problem(&response, 503, "cancelled"), row["id"].as_str().unwrap());
    assert_eq!(response.header("retry-after"), None);
    success(&client.get(host, "/").expect("the connection goes on"));
}

#[test]
fn a_guest_that_waits_for_time_is_shown_and_cancelled() {
    let ps = start("", [patient(App::guest("slow")), App::guest("hello")]);
    let client = ps.send("slow", "/50000?secret=1");
    let row = ps.waiting("slow", "timer");
    assert_eq!((&row["kind"], &row["request"]), (&"request".into(), &"GET /50000".into()), "{row}");
    assert!(row["worker"].as_u64().unwrap() < 2, "{row}");
    // Its version is the one that its app's list shows.
    assert_eq!(row["version"], 1, "{row}");
    let later = ps
        .row("later", |later| later["id"] == row["id"] && later["age_ms"].as_u64() > row["age_ms"].as_u64());
    assert!(later["age_ms"].as_u64().unwrap() < 60_000, "{later}");
    ps.cancel(&row);
    told(client, &row, "hello.test");
    ps.gone("slow");
    let id = row["id"].as_str().unwrap();
    let line = ps.server.stdout().wait_for(PATIENCE, |line| line.contains(id)).expect("an access log");
    assert!(line.contains(" 503 ") && line.ends_with(" cancelled"), "{line}");
    assert!(
        ps.server.wait_for_log(|line| line.contains(id) && line.contains("an operator cancelled")).is_some()
    );
    // It was once.
    let again = ps.admin.send("DELETE", &format!("/v1/requests/{id}"), b"").unwrap();
    assert_eq!(again.status(), 404, "{again:?}");
}

#[test]
fn a_guest_that_computes_is_shown_with_what_it_used_and_cancelled() {
    let ps = start("", [patient(App::guest("spin")), App::guest("hello")]);
    let client = ps.send("spin", "/");
    let row =
        ps.row("a spin with CPU time", |row| row["app"] == "spin" && row["cpu_us"].as_u64() > Some(20_000));
    assert!(["running", "ready"].contains(&row["waits_for"].as_str().unwrap()), "{row}");
    ps.cancel(&row);
    told(client, &row, "hello.test");
    ps.gone("spin");
}

#[test]
fn a_request_that_waits_for_its_turn_is_shown_and_cancelled() {
    let app = patient(App::guest("slow")).limit("concurrency", "1").limit("queue", "10");
    let ps = start("", [app, App::guest("hello")]);
    let first = ps.send("slow", "/50000");
    let running = ps.waiting("slow", "timer");
    let second = ps.send("slow", "/50001");
    let waiting = ps.waiting("slow", "admission");
    assert_eq!(waiting["request"], "GET /50001", "{waiting}");
    ps.cancel(&waiting);
    told(second, &waiting, "hello.test");
    // The one before was left alone, and whoever comes takes the place in the line.
    let third = ps.send("slow", "/1");
    ps.waiting("slow", "admission");
    ps.cancel(&running);
    told(first, &running, "hello.test");
    let mut third = third;
    success(&third.response().unwrap());
}

#[test]
fn bodies_that_do_not_come_or_do_not_go_are_shown_and_cancelled() {
    let ps = start("", [patient(App::guest("echo")), patient(App::guest("generate")), App::guest("hello")]);
    let mut sending = ps.server.client();
    sending.send("POST / HTTP/1.1\r\nHost: echo.test\r\nContent-Length: 1000\r\n\r\nabc").unwrap();
    let row = ps.waiting("echo", "request body");
    assert_eq!(row["request"], "POST /", "{row}");
    ps.cancel(&row);
    // What has begun is cut, and what has not is told.
    match sending.response() {
        Ok(response) if response.end == End::Clean => drop(problem(&response, 503, "cancelled")),
        Ok(response) => assert_eq!(response.status(), 200, "{response:?}"),
        Err(_) => {}
    }
    ps.gone("echo");

    let mut reading = ps.send("generate", "/100000000");
    let head = reading.head().unwrap();
    assert_eq!(head.status, 200);
    let row = ps.waiting("generate", "response");
    ps.cancel(&row);
    ps.gone("generate");
    // The body ends before its length.
    let mut body = reading.body(&head).unwrap();
    let mut bytes = Vec::new();
    let cut = loop {
        match reading.read_body(&mut body, &mut bytes, 1 << 20) {
            Ok(0) => break bytes.len() < 100_000_000,
            Ok(_) => {}
            Err(_) => break true,
        }
    };
    assert!(cut, "{} bytes came", bytes.len());
    success(&ps.server.get("hello.test", "/"));
}

#[test]
fn a_guest_that_waits_for_another_server_is_shown_and_cancelled() {
    // Connections wait in its queue, and are never answered.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = deaf.local_addr().unwrap();
    let app = patient(App::guest("proxy")).env("UPSTREAM", format!("http://{addr}")).connect(addr);
    let ps = start("", [app, App::guest("hello")]);
    let client = ps.send("proxy", "/");
    let row = ps.row("proxy that waits for a socket", |row| {
        row["app"] == "proxy" && row["waits_for"].as_str().is_some_and(|text| text.contains("socket"))
    });
    ps.cancel(&row);
    told(client, &row, "hello.test");
    ps.gone("proxy");
}

#[test]
fn a_guest_that_goes_on_after_its_answer_is_shown_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("lingers.wasm");
    std::fs::write(&module, wat::parse_str(LINGERS).unwrap()).unwrap();
    let ps = start("", [patient(App::file("lingers", Path::new(&module))), App::guest("hello")]);
    let mut client = ps.send("lingers", "/after");
    assert_eq!(client.response().unwrap().status(), 200);
    let row = ps.row("a guest after its answer", |row| row["app"] == "lingers");
    assert_eq!((&row["kind"], &row["request"]), (&"request".into(), &"GET /after".into()), "{row}");
    success(&client.get("hello.test", "/").expect("another request of that connection"));
    ps.cancel(&row);
    ps.gone("lingers");
    success(&client.get("hello.test", "/").expect("the connection was left alone"));
}

#[test]
fn raw_connections_and_residents_are_shown_and_ended() {
    let listen = "[[listen]]\ntcp = \"127.0.0.1:0\"\napp = \"raw-echo\"\n";
    let addr = free_addr();
    let resident = App::guest("tcp_server").unrouted().env("LISTEN", addr).listen(addr);
    let ps = start(listen, [App::wat("raw_echo"), resident, App::guest("hello")]);
    success(&ps.server.get("hello.test", "/"));
    let raw = Stream::connect(&Addr::Tcp(ps.server.raw_addr("raw-echo")), PATIENCE).unwrap();
    let row = ps.waiting("raw-echo", "socket");
    assert_eq!((&row["kind"], &row["request"]), (&"connection".into(), &"".into()), "{row}");
    ps.cancel(&row);
    let mut ended = raw;
    let mut byte = [0];
    assert!(matches!(std::io::Read::read(&mut ended, &mut byte), Ok(0) | Err(_)));
    ps.gone("raw-echo");

    let row = ps.row("the resident", |row| row["kind"] == "resident");
    assert!(row["waits_for"].as_str().unwrap().contains("socket"), "{row}");
    ps.cancel(&row);
    let again = ps
        .row("the resident, started again", |other| other["kind"] == "resident" && other["id"] != row["id"]);
    assert_eq!(again["app"], row["app"]);
    assert!(
        ps.server.wait_for_log(|line| line.contains("started again") && line.contains("operator")).is_some()
    );
    until("the resident listens again", || Stream::connect(&Addr::Tcp(addr), PATIENCE).is_ok());
}

#[test]
fn many_are_listed_without_holding_anybody_up() {
    const MANY: usize = 1500;
    let ps = start(
        "",
        [patient(App::guest("slow")).limit("concurrency", "100").limit("queue", "2000"), App::guest("hello")],
    );
    let clients: Vec<Client> = (0..MANY).map(|_| ps.send("slow", "/50000")).collect();
    until("all are shown", || ps.rows().len() == MANY);
    let mut other = ps.server.client();
    for _ in 0..20 {
        let rows = ps.rows();
        assert_eq!(rows.iter().filter(|row| row["waits_for"] == "admission").count(), MANY - 100);
        // The oldest first.
        assert!(rows.is_sorted_by_key(|row| std::cmp::Reverse(row["age_ms"].as_u64().unwrap())));
        success(&other.get("hello.test", "/").unwrap());
    }
    drop(clients);
    ps.gone("slow");
    assert!(ps.server.stderr().count(|line| line.contains("did not say in time")) == 0);
}
