//! Pollables, clocks, and the rest of WASI 0.2.

use crate::answers::{BOUNDED, CLEAN_END};
use crate::row::{Answer, Row, chunked, get, post};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = polls();
    rows.extend(world());
    rows.extend(outgoing());
    rows.extend(kept());
    rows
}

fn polls() -> Vec<Row> {
    vec![
        get("poll-nothing").traps(),
        get("poll-several").says("ready: [0, 2]\nagain: [1]\neach: [true, false, true]\n"),
        get("poll-first-of-many").says("ready: [123]\n"),
        get("poll-twice-the-same").says("ready: [0, 1]\nblock returns again: true\n"),
        get("poll-body").says("ready: [1]\nread: None\n"),
        post("poll-body").says("ready: [1]\nread: Some(\"hello body\")\n"),
        post("pollable-outlives-stream").traps(),
        chunked("pollable-outlives-trailers").traps(),
        get("pollable-of-output-outlives-it").traps(),
        get("timers").says(
            "ready at once: false\nready after: true\nearly: false\nearly: false\nnever: false\nnever: false\n",
        ),
        get("clocks").says("monotonic: true\nresolution: true\nwall: true\nwall resolution: true\n"),
    ]
}

/// Only where it says where to can the log name the rule.
const DENIED_LATER: &str =
    "a socket is denied when it is used: the log has the rule that would allow just that";

fn world() -> Vec<Row> {
    vec![
        get("random").says(
            "lengths: [0, 1, 1000]\ninsecure lengths: [0, 1, 1000]\nequal: false\nequal numbers: false\n\
             equal insecure numbers: false\nzero seed: false\n",
        ),
        get("random-huge").traps(),
        get("environment").says("variables: []\narguments: 0\nfolder: None\n"),
        get("stdio").says("stdout: \"ok ()\"\nstderr: \"ok ()\"\n"),
        get("stdin").says("stdin: \"closed\"\n"),
        get("terminals").says("stdin: false\nstdout: false\nstderr: false\n"),
        get("preopens").says("directories: 0\n"),
        get("tcp-connect")
            .says("connect: Err(\"access-denied\")\nfinish: Some(\"not-in-progress\")\n")
            .differs(DENIED_LATER, Answer::says("create: \"access-denied\"\n")),
        get("tcp-bind")
            .says("bind: Err(\"access-denied\")\n")
            .differs(DENIED_LATER, Answer::says("create: \"access-denied\"\n")),
        get("udp-bind")
            .says("bind: Err(\"invalid-argument\")\n")
            .differs(DENIED_LATER, Answer::says("create: \"access-denied\"\n")),
        get("resolve").says(
            "localhost: (\"at once\", \"permanent-resolver-failure\")\n\
             127.0.0.1: (\"at once\", \"permanent-resolver-failure\")\n\
             a b: (\"at once\", \"permanent-resolver-failure\")\n",
        ),
    ]
}

fn outgoing() -> Vec<Row> {
    vec![
        get("outgoing").says("failed later: \"DestinationIpProhibited\"\ntaken already: true\n").differs(
            "nothing is reached until a rule allows it",
            Answer::says("failed later: \"ConnectionRefused\"\ntaken already: true\n"),
        ),
        get("outgoing-built").says(&built(false)).differs(
            "a path that is a whole target is refused, as later releases of the oracle do",
            Answer::says(built(true)),
        ),
        get("outgoing-body").says(
            "second body: false\nsecond stream: false\nfinish: Err(\"HttpRequestBodySize(Some(2))\")\n",
        ),
        get("outgoing-options").says(
            "at first: (None, None, None)\nconnect: Ok(())\nfirst byte: Ok(())\nbetween bytes: Ok(())\n\
             set: (Some(1), Some(0), Some(18446744073709551615))\nconnect: Ok(())\n\
             at last: (None, Some(0), Some(18446744073709551615))\n",
        ),
        get("outgoing-long").traps().differs(BOUNDED, Answer::says("set: 40\n")),
    ]
}

/// In this order nothing is left of one for the next, whatever the policy: what is then, `exchanges` tells.
fn kept() -> Vec<Row> {
    let nothing = "kept: \"nothing\"\n";
    vec![
        get("count").says("1\n"),
        get("kept-streams").says(nothing),
        get("kept-request").says(nothing),
        get("hoard").says("hoarded\n"),
        get("keep").cut("part of it\n").differs(CLEAN_END, Answer::says("part of it\n")),
    ]
}

/// Whether what does not begin with a slash is taken for a path.
fn built(loose: bool) -> String {
    let loose = format!("path: (Some(\"no-slash\"), {loose})\npath: (Some(\"http://b.test/\"), {loose})\n");
    [BUILT_BEFORE, &loose, BUILT_AFTER].concat()
}

const BUILT_BEFORE: &str = r#"at first: (Method::Get, None, None, None)
method: (Method::Post, true)
method: (Method::Other("PURGE"), true)
method: (Method::Other("a b"), false)
path: (Some("/a?b=c"), true)
path: (Some("/a b"), false)
"#;

const BUILT_AFTER: &str = r#"path: (Some(""), true)
path: (Some("?a=b"), true)
path: (Some("/é"), true)
path: (Some("/a#b"), true)
path: (None, true)
scheme: (Some(Scheme::Https), true)
scheme: (Some(Scheme::Other("ftp")), true)
scheme: (Some(Scheme::Other("a b")), false)
scheme: (None, true)
authority: (Some("a.test:80"), true)
authority: (Some("[::1]:1"), true)
authority: (Some("a b"), false)
authority: (Some(""), false)
authority: (Some("a.test/b"), false)
authority: (None, true)
at last: (Method::Other("PURGE"), None, None, None)
its headers: Some(HeaderError::Immutable)
header: x=1
"#;
