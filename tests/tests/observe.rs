//! What an operator sees: the access log, ids that are the same everywhere, and limits of connections.

use tidegate_tests::check::{problem, success};
use tidegate_tests::wait::PATIENCE;
use tidegate_tests::{App, Client, Server};

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
        for part in ["id", "status", "bytes", "queue", "cpu", "wall"] {
            assert!(object.keys().any(|key| key.contains(part)), "no {part} in {line}");
        }
    }
    assert_eq!(server.stdout().count(|line| line.contains("/some/path")), 1);
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
