//! The request, its body and its trailers; and the streams that bodies are read and written with.

use crate::answers::UNANNOUNCED;
use crate::row::{Answer, Row, chunked, get, post};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = head();
    rows.extend(incoming());
    rows.extend(reading());
    rows.extend(trailers());
    rows.extend(streams());
    rows
}

/// What the guest is shown of a request.
fn shown(method: &str, target: &str, headers: &[&str]) -> String {
    let head = format!(
        "method: Method::{method}\ntarget: Some({target:?})\nscheme: Some(Scheme::Http)\nauthority: Some(\"a.test\")\n"
    );
    headers.iter().fold(head, |text, header| text + "header: " + header + "\n")
}

fn head() -> Vec<Row> {
    vec![
        get("request").says(&shown("Get", "/request", &[])),
        get("request?a=b&c=%20d?e").says(&shown("Get", "/request?a=b&c=%20d?e", &[])),
        get("request").method("PURGE").says(&shown("Other(\"PURGE\")", "/request", &[])),
        get("request").method("get").says(&shown("Other(\"get\")", "/request", &[])),
        get("request").method("OPTIONS").says(&shown("Options", "/request", &[])),
        get("request").method("PATCH").says(&shown("Patch", "/request", &[])),
        get("request").http_1_0().says(&shown("Get", "/request", &[])),
        post("request").says(&shown("Post", "/request", &["content-length=10"])),
        // What is between two neighbours, and the host, is not shown; other names are, in lower case, as often as they came.
        chunked("request")
            .header("Connection: keep-alive")
            .header("Keep-Alive: timeout=5")
            .header("Proxy-Connection: keep-alive")
            .header("HTTP2-Settings: AAMAAABkAAQAAP__")
            .header("TE: trailers")
            .header("X-Given: one")
            .header("X-GIVEN: two")
            .says(&shown(
                "Post",
                "/request",
                &["te=trailers", "trailer=x-sum", "x-given=one", "x-given=two"],
            )),
        get("request").target("http://a.test/request?absolute").says(&shown("Get", "/request?absolute", &[])),
        get("request-dropped-headers").header("X-Given: 1").says("header: x-given=1\n"),
    ]
}

fn incoming() -> Vec<Row> {
    let twice = "first: true\nsecond: false\nafter a drop: false\n";
    vec![
        post("consume-twice").says(twice),
        post("stream-twice").says(twice),
        post("body-in-dropped").says("dropped\n"),
        chunked("body-in-dropped").says("dropped\n"),
        post("body-in-unread").says("unread\n"),
        post("finish-in-with-stream").traps(),
        post("drop-in-with-stream").traps(),
        get("echo").says(""),
        post("echo").says("hello body"),
        // The guest hands the trailers on, and has not announced them.
        chunked("echo")
            .says("hello body")
            .with_trailer("x-sum", "42")
            .differs(UNANNOUNCED, Answer::says("hello body")),
        post("echo").http_1_0().says("hello body"),
        post("request-dropped-body").says("body: \"ok \\\"hello body\\\"\"\n"),
        get("collect").says("body: \"ok \\\"\\\"\"\n"),
        chunked("collect").says("body: \"ok \\\"hello body\\\"\"\n"),
    ]
}

fn reading() -> Vec<Row> {
    vec![
        post("read-small").says(
            r#"read: "ok \"h\""
read: "ok \"el\""
read: "ok \"lo \""
"#,
        ),
        post("read-zero").says(
            r#"read: "ok []"
blocking read: "ok []"
skip: "ok 0"
blocking skip: "ok 0"
then: "ok \"hello body\""
"#,
        ),
        get("read-zero").says(
            r#"read: "closed"
blocking read: "closed"
skip: "closed"
blocking skip: "closed"
then: "ok \"\""
"#,
        ),
        post("read-after-end").says(
            r#"body: "ok \"hello body\""
read: "closed"
read of nothing: "closed"
blocking read: "closed"
skip: "closed"
blocking skip: "closed"
ready: true
"#,
        ),
        post("read-huge").says("read: \"ok \\\"hello body\\\"\"\n"),
        post("skip").says("skip: \"ok 2\"\nblocking skip: \"ok 1\"\nrest: \"ok \\\"lo body\\\"\"\n"),
    ]
}

fn trailers() -> Vec<Row> {
    let none = "trailers: \"none\"\n";
    let one = "trailers: 1\ntrailer: x-sum=42\n";
    let body = "body: \"ok \\\"hello body\\\"\"\n";
    let again = "trailers: \"taken already\"\n";
    vec![
        get("finish-without-stream").says(none),
        post("finish-without-stream").says(none),
        chunked("finish-without-stream").says(one),
        post("finish-after-a-part").says(&format!("read: \"ok \\\"h\\\"\"\n{none}")),
        chunked("finish-after-a-part").says(&format!("read: \"ok \\\"h\\\"\"\n{one}")),
        get("trailers-in").says(&format!("body: \"ok \\\"\\\"\"\n{none}")),
        post("trailers-in").says(&format!("{body}{none}")),
        chunked("trailers-in").says(&format!("{body}{one}")),
        get("trailers-in-twice").says(&format!("{none}{again}")),
        chunked("trailers-in-twice").says(&format!("{one}{again}")),
        chunked("trailers-fixed")
            .says("append: Some(HeaderError::Immutable)\nclone: None\ntrailer: x-sum=42\n"),
    ]
}

fn streams() -> Vec<Row> {
    let permit = "the WIT: a write beyond the permit traps";
    let ok = || Answer::says("no trap: \"ok ()\"\n");
    let digits: String = (0..1000_u32).map(|n| char::from_digit(n % 10, 10).unwrap_or_default()).collect();
    vec![
        get("permit-whole").says("").many(b'x'),
        get("permit-exceeded").traps().differs(permit, ok()),
        get("write-unchecked").answers(ok()),
        get("write-nothing").says("something\n"),
        get("flush").says("one\ntwo\n"),
        get("write-and-flush-4096").says(&"x".repeat(4096)),
        get("write-and-flush-4097").traps(),
        get("zeroes").says("\0\0\0\0\0"),
        get("zeroes-exceeded").traps(),
        get("zeroes-and-flush-4096").says(&"\0".repeat(4096)),
        get("zeroes-and-flush-4097").traps(),
        get("splice").says(""),
        post("splice").says("hello body"),
        chunked("splice").says("hello body"),
        post("splice-blocking").says("hello body"),
        chunked("splice-blocking").says("hello body"),
        post("splice-nothing").says("he"),
        post("splice-after-end").says("hello body and more\n"),
        get("one-by-one").says(&digits),
    ]
}
