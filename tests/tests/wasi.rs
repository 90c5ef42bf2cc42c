//! The WASI that `std` needs: environment, clocks, random numbers, waiting, and output that goes into the log.

use std::time::{Duration, Instant};

use tidegate_tests::check::{self, success};
use tidegate_tests::{App, Client, Server};

#[test]
fn a_guest_sees_its_own_environment_and_no_more() {
    let server = Server::builder()
        .app(App::wat("environment").named("one").line("env = { GREETING = \"hello\", EMPTY = \"\" }"))
        .app(App::wat("environment").named("two"))
        .env("SECRET_OF_THE_HOST", "x")
        .start();
    let mut variables: Vec<String> =
        server.get("one.test", "/").text().split_terminator('\0').map(str::to_owned).collect();
    variables.sort();
    assert_eq!(variables, ["EMPTY=", "GREETING=hello"]);
    check::ok(&server.get("two.test", "/"), b"");
}

#[test]
fn flags_set_variables() {
    let server = Server::builder().wat("environment").option("--env", "A=1").option("--env", "B=2=3").start();
    let mut variables: Vec<String> =
        server.get("a", "/").text().split_terminator('\0').map(str::to_owned).collect();
    variables.sort();
    assert_eq!(variables, ["A=1", "B=2=3"]);
}

#[test]
fn random_numbers_differ_from_request_to_request() {
    for reuse in ["1", "100"] {
        let server = Server::builder().wat("random").option("--reuse", reuse).start();
        let mut seen: Vec<Vec<u8>> = (0..50).map(|_| server.get("a", "/").body).collect();
        assert!(seen.iter().all(|bytes| bytes.len() == 32));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 50);
    }
}

#[test]
fn waiting_through_wasi_holds_up_nobody() {
    let server = Server::builder().wat("wasi_sleep").option("--workers", "1").start();
    success(&server.get("a", "/"));
    let started = Instant::now();
    let mut clients: Vec<Client> = (0..50).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send_get("a", "/").unwrap();
    }
    for client in &mut clients {
        let response = client.response().unwrap();
        success(&response);
        let nanos = u64::from_le_bytes(response.body.try_into().expect("eight bytes"));
        assert!(nanos >= 200_000_000, "it slept {nanos} ns");
    }
    // One after the other they would take ten seconds.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[test]
fn output_is_logged_line_by_line_and_forges_nothing() {
    for format in ["text", "json"] {
        let server = Server::builder().wat("forger").option("--log-format", format).start();
        success(&server.get("a", "/"));
        for words in ["said by log", "said by stdout"] {
            let line = server.wait_for_log(|line| line.contains(words));
            assert!(line.is_some(), "{words:?} is not in the log:\n{}", server.stderr().tail(20));
        }
        assert!(server.wait_for_log(|line| line.contains("FORGED four")).is_some());
        for line in server.stderr().lines() {
            // A forged line would begin with what the guest wrote; a terminal would act on raw control characters.
            assert!(!line.starts_with("FORGED"), "{format}: {line:?}");
            assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{format}: {line:?}");
            // What it says is a quoted field behind those that say whose it is.
            if format == "text" && line.contains("said by") {
                let text = line.split_once(" INFO guest: app=\"forger\" request=").expect("a guest's line").1;
                let text = text.split_once(" text=").expect("the text").1;
                assert!(text.starts_with('"') && text.ends_with('"'), "{line:?}");
            }
            if format == "json" {
                assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
            }
        }
    }
}
