//! What the author of a guest is told in `tidegate dev` of a handler that panics or traps, in the answer and in the
//! terminal; and that in production a client is told nothing of it.

use std::time::Duration;

use tidegate_tests::check::{closed, cut, problem};
use tidegate_tests::wait::poll_for;
use tidegate_tests::{Client, Response, Server, artifacts};

/// How long the first build of a guest may take, its dependencies included.
const BUILD: Duration = Duration::from_secs(300);

const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// `tidegate dev` on the guest `trap`, once it has been built.
fn dev() -> Server {
    let server = Server::builder().dev(artifacts::workspace().join("guests/trap")).start();
    let built =
        || (server.get("localhost", "/").header("tidegate-error") == Some("guest-trap")).then_some(());
    assert!(poll_for(BUILD, built).is_some(), "it was not built:\n{}", server.stderr().tail(40));
    server
}

fn get(client: &mut Client, path: &str, accept: &str) -> Response {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n")).unwrap();
    client.response().unwrap()
}

fn trapped(response: &Response, media_type: &str) {
    assert_eq!(response.status(), 500, "{response:?}");
    assert_eq!(response.header("tidegate-error"), Some("guest-trap"), "{response:?}");
    assert_eq!(response.header("content-type"), Some(media_type), "{response:?}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{response:?}");
    assert!(response.header("x-request-id").is_some(), "{response:?}");
}

#[test]
fn the_author_is_told_what_panicked_and_where() {
    let server = dev();
    // All of it on one connection: a failure before the head is the guest's and not the connection's.
    let mut client = server.client();

    let response = get(&mut client, "/panic", "*/*");
    trapped(&response, "application/problem+json");
    let document: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let panic = document["panic"].as_str().unwrap();
    assert!(panic.contains("src/lib.rs:") && panic.ends_with(": no </pre>&tea in stock"), "{document}");
    let frames: Vec<&str> =
        document["backtrace"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    let find = frames.iter().position(|frame| frame.starts_with("trap::find "));
    let handler = frames.iter().position(|frame| frame.starts_with("trap::trap "));
    assert!(find < handler && find.is_some(), "{frames:?}");
    assert!(
        frames.iter().all(|frame| frame.contains("lib.rs:") && frame.starts_with("trap::")),
        "{frames:?}"
    );
    assert_eq!(document["type"], "urn:tidegate:error:guest-trap");

    let response = get(&mut client, "/panic?a=1&b=2", HTML);
    trapped(&response, "text/html; charset=utf-8");
    let page = response.text();
    for part in ["no &lt;/pre&gt;&amp;tea in stock", "trap::find", "src/lib.rs:", "/panic?a=1&amp;b=2"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(!page.contains("</pre>&tea"), "{page}");
    let policy = response.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");

    let response = get(&mut client, "/panic", "text/plain");
    trapped(&response, "text/plain; charset=utf-8");
    assert!(response.text().contains("no </pre>&tea in stock\n    at trap::find"), "{response:?}");

    // An abort says nothing; where it was is known all the same.
    let response = get(&mut client, "/", "*/*");
    let document: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert!(document["panic"].is_null(), "{document}");
    assert!(document["detail"].as_str().unwrap().contains("unreachable"), "{document}");
    assert!(document["backtrace"][0].as_str().unwrap().starts_with("trap::trap "), "{document}");

    client.send(format!("HEAD /panic HTTP/1.1\r\nHost: localhost\r\nAccept: {HTML}\r\n\r\n")).unwrap();
    trapped(&client.response_to_head().unwrap(), "text/html; charset=utf-8");
    trapped(&get(&mut client, "/panic", "*/*"), "application/problem+json");
}

#[test]
fn the_terminal_has_it_as_one_block() {
    let server = dev();
    server.get("localhost", "/panic");
    let first = server.wait_for_log(|line| line.contains("tea in stock")).expect("the panic");
    assert!(
        first.starts_with("trap | ERROR panicked at ") && first.ends_with("no </pre>&tea in stock"),
        "{first}"
    );
    let failed = server.wait_for_log(|line| line.contains("request failed") && line.contains("guest-trap"));
    assert!(failed.is_some(), "{}", server.stderr().tail(40));
    let lines = server.stderr().lines();
    let at = lines.iter().position(|line| *line == first).unwrap();
    let block: Vec<&String> =
        lines[at + 1..].iter().take_while(|line| line.starts_with("trap |     ")).collect();
    assert!(block.len() >= 2 && block.iter().all(|line| line.contains(" at trap::")), "{lines:#?}");
    assert_eq!(server.stderr().count(|line| line.contains("tea in stock")), 1, "told once: {lines:#?}");
    // The access log stands beside it.
    let line = server.stdout().wait_for(Duration::from_secs(10), |line| line.contains("\"GET /panic\" 500"));
    assert!(line.is_some(), "{}", server.stdout().tail(40));
}

#[test]
fn a_trap_after_the_head_is_told_to_the_terminal_and_cuts_the_answer() {
    let server = dev();
    let mut client = server.client();
    client.send_get("localhost", "/late").unwrap();
    let outcome = client.response();
    cut(&outcome);
    assert!(outcome.is_err() || outcome.is_ok_and(|response| !response.text().contains("trap::")));
    closed(&mut client);
    let told = server.wait_for_log(|line| line.starts_with("trap |") && line.contains(" at trap::trap "));
    assert!(told.is_some(), "{}", server.stderr().tail(40));
}

#[test]
fn a_client_in_production_is_told_nothing() {
    // The very module that dev has built, with all its debug information.
    drop(dev());
    let folder = artifacts::workspace().join("guests/target/wasm32-wasip1/debug");
    let server = Server::builder().module(folder.join("trap.wasm")).start();
    let mut client = server.client();
    for accept in [HTML, "text/plain", "*/*"] {
        for path in ["/panic", "/"] {
            let response = get(&mut client, path, accept);
            problem(&response, 500, "guest-trap");
            let all = format!("{:?}\n{}", response.head, response.text());
            for leak in ["stock", "trap::", "lib.rs", "backtrace", "panic", "unreachable", "src/"] {
                assert!(!all.contains(leak), "{leak} is in {all}");
            }
        }
    }
    // The operator's log has it.
    let told = server.wait_for_log(|line| line.contains("ERROR guest") && line.contains("tea in stock"));
    assert!(told.is_some(), "{}", server.stderr().tail(40));
}
