//! What a handler sees of its request, as a module and as a component: the table in `docs/handlers.md`.

use serde_json::{Value, json};
use tidegate_tests::check::{self, success};

use super::{Host, everywhere};

fn ask(host: &Host, request: &str) -> Value {
    let mut client = host.client();
    client.send(request).unwrap();
    let response = client.response().unwrap();
    success(&response);
    serde_json::from_slice(&response.body).unwrap()
}

fn is_component(host: &Host) -> bool {
    host.name.starts_with("component")
}

#[test]
fn the_head_is_the_same() {
    everywhere("mirror", &[], |host| {
        let seen = ask(host, "PATCH /a%20b?x=1&y HTTP/1.1\r\nHost: shop.test:81\r\nX-One: 1\r\n\r\n");
        for (what, value) in [
            ("method", json!("PATCH")),
            ("path", json!("/a%20b")),
            ("query", json!("x=1&y")),
            ("authority", json!("shop.test:81")),
            ("secure", json!(false)),
            ("version", json!("HTTP/1.1")),
            ("mount", json!("")),
            ("param", Value::Null),
            ("headers", json!({ "host": "shop.test:81", "x-one": "1" })),
        ] {
            assert_eq!(seen[what], value, "{what}: {seen}");
        }
    });
}

#[test]
fn a_method_of_ones_own_and_no_query_are_the_same() {
    everywhere("mirror", &[], |host| {
        let seen = ask(host, "BREW / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((&seen["method"], &seen["query"]), (&json!("BREW"), &Value::Null), "{seen}");
    });
}

#[test]
fn a_body_is_there_or_not_in_every_framing() {
    everywhere("mirror", &[], |host| {
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (request, is_absent, declared_bytes, text, trailers) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), true, json!(0), "", json!([])),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), true, json!(0), "", json!([])),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".into(), true, json!(0), "", json!([])),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n".into(),
                true,
                json!(0),
                "",
                json!([]),
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".into(),
                false,
                json!(2),
                "hi",
                json!([]),
            ),
            (format!("{chunked}2\r\nhi\r\n0\r\n\r\n"), false, Value::Null, "hi", json!([])),
            (format!("{chunked}2\r\nhi\r\n0\r\nsum: 1\r\n\r\n"), false, Value::Null, "hi", json!(["sum"])),
        ] {
            let seen = ask(host, &request);
            let wanted = json!({
                "is_absent": is_absent, "declared_bytes": declared_bytes, "text": text, "trailers": trailers,
            });
            assert_eq!(seen["body"], wanted, "{request:?}");
        }
    });
}

/// A body whose bytes are still to come is no absent one. Nor does looking at it ask the client for them.
#[test]
fn a_body_that_comes_late_is_there() {
    everywhere("mirror", &[], |host| {
        let mut client = host.client();
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        // By the time that it is told to go on, the handler has looked for the body.
        while client.head().unwrap().status != 100 {}
        client.send("4\r\nlate\r\n0\r\n\r\n").unwrap();
        let response = client.response().unwrap();
        success(&response);
        let seen: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((&seen["body"]["is_absent"], &seen["body"]["text"]), (&json!(false), &json!("late")));
    });
}

/// A handler that only wants to know whether there is a body does not have the client send it.
#[test]
fn whether_there_is_a_body_is_told_without_asking_for_it() {
    everywhere("misfit", &[], |host| {
        let mut client = host.client();
        client
            .send("POST /absent HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        let head = client.head().unwrap();
        let (mut body, mut text) = (client.body(&head).unwrap(), Vec::new());
        client.read_body(&mut body, &mut text, 64).unwrap();
        assert_eq!((head.status, text.as_slice()), (200, &b"false"[..]));
    });
}

/// What stands behind a body is not known before its end: that is an error, and no trap.
#[test]
fn trailers_before_the_end_are_not_there_yet() {
    everywhere("misfit", &[], |host| {
        let mut client = host.client();
        client
            .send("POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nsum: 9\r\n\r\n")
            .unwrap();
        check::ok(&client.response().unwrap(), b"[true, false, true] body 9");
    });
}

#[test]
fn what_wasi_http_has_no_word_for_is_absent() {
    everywhere("mirror", &[], |host| {
        let (first, second) = (ask(host, GET), ask(host, GET));
        assert_ne!(first["id"], second["id"]);
        assert!(first["id"].as_str().is_some_and(|id| id.len() >= 8), "{first}");
        assert!(first["usage"]["memory_bytes"].as_u64().is_some_and(|bytes| bytes >= 65_536), "{first}");
        let usage = &first["usage"];
        if is_component(host) {
            assert_eq!((&first["peer"], &first["local"]), (&Value::Null, &Value::Null), "{first}");
            assert_eq!(first["has_deadline"], false, "{first}");
            assert_eq!((&usage["cpu_used"], &usage["cpu_left_ns"]), (&json!(false), &json!(u64::MAX)));
            assert_eq!(usage["memory_bytes_max"], u64::MAX);
        } else {
            assert!(first["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{first}");
            assert_eq!((&first["has_deadline"], &usage["cpu_used"]), (&json!(true), &json!(true)), "{first}");
        }
    });
}

#[test]
fn the_version_and_the_connection_are_the_hosts_business() {
    everywhere("mirror", &[], |host| {
        let seen = ask(host, "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nX-One: 1\r\n\r\n");
        let headers = &seen["headers"];
        assert_eq!(headers["x-one"], "1", "{seen}");
        let wanted = if is_component(host) { ("HTTP/1.1", false) } else { ("HTTP/1.0", true) };
        assert_eq!(
            (seen["version"].as_str(), headers.get("connection").is_some()),
            (Some(wanted.0), wanted.1)
        );
    });
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// They are sent where that is possible, and are no reason to fail where it is not.
#[test]
fn early_hints_go_out_or_nowhere() {
    everywhere("mirror", &[], |host| {
        let mut client = host.client();
        client.send(GET).unwrap();
        let response = client.response().unwrap();
        success(&response);
        assert_eq!(response.interim, if is_component(host) { vec![] } else { vec![103] });
    });
}
