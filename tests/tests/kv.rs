//! The key-value store from end to end: as a module and as a component, plain and hosted, over crashes.

use std::path::Path;
use std::thread;

use rustix::process::Signal;
use tidegate_tests::artifacts::{component_guest, module_guest};
use tidegate_tests::check;
use tidegate_tests::wait::{PATIENCE, until};
use tidegate_tests::{App, Client, Response, Server};

/// Runs a test for the probe as a module, and as a component.
fn for_both(test: impl Fn(&'static str, &Path)) {
    test("module", &module_guest("kv_probe"));
    test("component", &component_guest("kv_probe"));
}

fn serve(source: &Path, kv: &str) -> Server {
    Server::builder().app(App::file("kv", source).line(kv)).option("--workers", "2").start()
}

fn send(client: &mut Client, host: &str, method: &str, path: &str, body: &[u8]) {
    let (host, length) = (format!("{host}.test"), body.len());
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
    client.send([head.as_bytes(), body].concat()).unwrap();
}

fn ask(server: &Server, host: &str, method: &str, path: &str, body: &[u8]) -> Response {
    let mut client = server.client();
    send(&mut client, host, method, path, body);
    client.response().unwrap()
}

/// The answer to a request that succeeds.
fn done(server: &Server, method: &str, path: &str, body: &[u8]) -> String {
    let response = ask(server, "kv", method, path, body);
    assert_eq!(response.status(), 200, "{method} {path}: {}", response.text());
    response.text()
}

fn status(server: &Server, method: &str, path: &str) -> u16 {
    ask(server, "kv", method, path, b"").status()
}

#[test]
fn values_outlive_their_request() {
    for_both(|kind, source| {
        let server = serve(source, "kv = true");
        let run = |method, path: &str, body: &[u8]| done(&server, method, path, body);
        assert_eq!(status(&server, "GET", "/v/a"), 404, "{kind}");
        assert_eq!(run("GET", "/exists/a", b""), "false\n");
        assert_eq!(run("PUT", "/v/a", b"one"), "set\n");
        assert_eq!(run("GET", "/v/a", b""), "one");
        assert_eq!(run("GET", "/exists/a", b""), "true\n");
        assert_eq!(run("PUT", "/v/empty", b""), "set\n");
        assert_eq!(run("GET", "/v/empty", b""), "");
        let large = vec![b'x'; 1 << 20];
        assert_eq!(run("PUT", "/v/large", &large), "set\n");
        assert!(run("GET", "/v/large", b"").into_bytes() == large, "{kind}: all of it");
        assert_eq!(run("GET", "/keys", b""), "a\nempty\nlarge\n");
        assert_eq!(run("GET", "/keys/e", b""), "empty\n");
        assert_eq!(run("DELETE", "/v/a", b""), "deleted\n");
        assert_eq!(run("DELETE", "/v/a", b""), "deleted\n");
        assert_eq!(status(&server, "GET", "/v/a"), 404);
    });
}

#[test]
fn what_is_wrong_has_its_kind() {
    for_both(|kind, source| {
        let server = serve(source, "kv = true");
        let told = done(&server, "POST", "/kinds/a", b"");
        assert_eq!(told, "Content Invalid Invalid Invalid Content\n", "{kind}");
        let log = server.wait_for_log(|line| line.contains("kept in memory for this run"));
        assert!(log.is_some(), "that it does not last is said");
    });
}

#[test]
fn numbers_and_swaps_are_whole() {
    for_both(|kind, source| {
        let server = serve(source, "kv = true");
        let run = |method, path: &str| done(&server, method, path, b"");
        assert_eq!(run("POST", "/add/n/5"), "5\n", "{kind}");
        assert_eq!(run("POST", "/add/n/-7"), "-2\n");
        assert_eq!(run("GET", "/v/n"), "-2");
        assert_eq!(run("POST", "/swap/s/-/one"), "true\n");
        assert_eq!(run("POST", "/swap/s/-/two"), "false\n");
        assert_eq!(run("POST", "/swap/s/one/two"), "true\n");
        assert_eq!(run("GET", "/v/s"), "two");
        if kind == "module" {
            assert_eq!(run("POST", "/swap/s/two/-"), "true\n");
            assert_eq!(status(&server, "GET", "/v/s"), 404);
        }
        // In one request, at once.
        let sums: Vec<u64> = (1..=100).collect();
        assert_eq!(run("POST", "/many/all/100"), format!("{sums:?}\n"));
    });
}

#[test]
fn a_hundred_clients_lose_no_increment() {
    for_both(|kind, source| {
        let server = serve(source, "kv = true");
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    let mut client = server.client();
                    for _ in 0..20 {
                        send(&mut client, "kv", "POST", "/add/n/1", b"");
                        check::success(&client.response().unwrap());
                    }
                });
            }
        });
        assert_eq!(done(&server, "GET", "/v/n", b""), "200", "{kind}");
    });
}

#[test]
fn an_app_sees_its_own_keys_alone() {
    for_both(|kind, source| {
        let app = |name| App::file(name, source).line("kv = true");
        let server = Server::builder().app(app("kv")).app(app("other")).start();
        assert_eq!(ask(&server, "kv", "PUT", "/v/secret", b"of kv").text(), "set\n", "{kind}");
        assert_eq!(ask(&server, "other", "GET", "/v/secret", b"").status(), 404);
        assert_eq!(ask(&server, "other", "GET", "/keys", b"").text(), "");
        assert_eq!(ask(&server, "other", "DELETE", "/v/secret", b"").text(), "deleted\n");
        assert_eq!(ask(&server, "kv", "GET", "/v/secret", b"").text(), "of kv");
    });
}

#[test]
fn without_the_setting_nothing_is_kept() {
    for_both(|kind, source| {
        let server = serve(source, "kv = false");
        let response = ask(&server, "kv", "PUT", "/v/a", b"x");
        assert_eq!((response.status(), response.text().as_str()), (409, "Denied\n"), "{kind}");
        let line = server.wait_for_log(|line| line.contains("key-value store denied"));
        assert!(line.is_some_and(|line| line.contains("kv = true")), "the operator is told the setting");
    });
}

#[test]
fn quotas_hold() {
    for_both(|kind, source| {
        let server = serve(source, "kv = { keys = 3, bytes = \"1KiB\" }");
        let put = |key: &str, body: &[u8]| ask(&server, "kv", "PUT", &format!("/v/{key}"), body).text();
        assert_eq!(put("a", &[b'x'; 1_000]), "set\n", "{kind}");
        assert_eq!(put("b", &[b'x'; 100]), "Quota\n");
        assert_eq!(put("a", b"x"), "set\n");
        assert_eq!(
            (put("b", b""), put("c", b""), put("d", b"")),
            ("set\n".into(), "set\n".into(), "Quota\n".into())
        );
        assert_eq!(done(&server, "DELETE", "/v/a", b""), "deleted\n");
        assert_eq!(put("d", b""), "set\n");
    });
}

#[test]
fn what_a_failed_request_has_set_stays() {
    for_both(|kind, source| {
        let server = serve(source, "kv = true");
        assert_eq!(status(&server, "POST", "/trap/a"), 500, "{kind}");
        assert_eq!(done(&server, "GET", "/v/a", b""), "before");
        let mut client = server.client();
        send(&mut client, "kv", "POST", "/then_sleep/b", b"");
        until("the value is there", || status(&server, "GET", "/v/b") == 200);
        client.reset().unwrap();
        assert_eq!(done(&server, "GET", "/v/b", b""), "begun");
        assert_eq!(done(&server, "POST", "/add/n/1", b""), "1\n", "and the store goes on");
    });
}

fn hosted(source: &Path, state: &Path) -> Server {
    let admin = format!("unix:{}", state.join("admin.sock").display());
    Server::builder()
        .app(App::file("kv", source).line("kv = true"))
        .option("--workers", "2")
        .option("--state", state.to_str().unwrap())
        .option("--admin", &admin)
        .start()
}

/// What was answered is there after a kill at any moment, and a deploy changes nothing about that.
#[test]
fn a_hosted_app_keeps_its_data_over_kills() {
    for_both(|kind, source| {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let mut answered = 0;
        for round in 0..4 {
            let mut server = hosted(source, &state);
            let mut client = server.client();
            for _ in 0..10 * (round + 1) {
                send(&mut client, "kv", "POST", "/add/n/1", b"");
                let response = client.response().unwrap();
                check::success(&response);
                let sum: u64 = response.text().trim().parse().unwrap();
                // One that was on its way when the server was killed may have happened.
                assert!(sum == answered + 1 || sum == answered + 2, "{kind}: {sum} after {answered}");
                answered = sum;
            }
            send(&mut client, "kv", "POST", "/add/n/1", b"");
            server.signal(Signal::KILL);
            server.wait_exit(PATIENCE);
        }
        assert!(state.join("kv.redb").is_file(), "{kind}");
    });
}

/// The guest that stands in the guide.
#[test]
fn the_counter_counts() {
    let app = App::guest("kv_counter").line("kv = true");
    let server = Server::builder().app(app).start();
    let get = |path: &str| ask(&server, "kv-counter", "GET", path, b"");
    check::ok(&get("/views/a"), b"1\n");
    check::ok(&get("/views/a"), b"2\n");
    check::ok(&get("/views/b"), b"1\n");
    check::ok(&get("/views"), br#"[{"path":"/a","views":2},{"path":"/b","views":1}]"#);
}
