//! The response: the outparam, the status, the length, and bodies taken, finished, dropped and left.

use crate::row::{Answer, Row, get, post};

/// The oracle ends a body cleanly whose guest is gone.
pub(crate) const CLEAN_END: &str =
    "a body that its guest did not finish is cut, so that a crash never looks like a clean end";
const STATUS: &str = "a final status is 200 to 599, as for every guest";
pub(crate) const UNANNOUNCED: &str = "trailers need no announcement (RFC 9110 section 6.6.2 only advises it)";
const ASKED: &str = "trailers are sent to whoever can frame them, as to a module's clients";
/// The oracle keeps whatever it is given.
pub(crate) const BOUNDED: &str = "what a component makes the host keep is bounded";
const LENGTH: &str = "a body that is not as long as its head says is cut";

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = outparam();
    rows.extend(failing());
    rows.extend(body());
    rows.extend(length());
    rows.extend(status());
    rows
}

fn outparam() -> Vec<Row> {
    let mut rows = vec![
        get("hello").says("hello\n"),
        get("hello").http_1_0().says("hello\n"),
        get("hello").head().says(""),
        post("hello").says("hello\n"),
        get("no-such-behaviour").answers(Answer::status(404, "no behaviour \"no-such-behaviour\"\n")),
        get("unset").fails(502, "no-response"),
        get("dropped").fails(502, "no-response"),
        get("set-late").says("late\n"),
        get("body-before-set").says("early\n"),
        get("work-after-finish").says("done\n"),
        get("trap-after-finish").says("done\n"),
        get("read-after-finish").says("done\n"),
        post("read-after-finish").says("done\n"),
        get("response-dropped").says("another\n"),
        get("head-shown").says("header: x-one=1\nheader: x-two=2\n"),
    ];
    let codes = [
        "internal",
        "denied",
        "length-required",
        "too-large",
        "timeout",
        "upstream",
        "dns",
        "field",
        "loop",
        "else",
    ];
    rows.extend(codes.map(|code| get(&format!("error?{code}")).fails(500, "guest-error")));
    rows
}

fn failing() -> Vec<Row> {
    let part = || Answer::says("part of it\n");
    vec![
        get("panic").traps(),
        get("recurse").traps(),
        get("exit-ok").traps(),
        get("exit-err").traps(),
        get("panic-late").crashes().differs(CLEAN_END, part()),
        get("panic-late").http_1_0().crashes().differs(CLEAN_END, part()),
        get("exit-late").crashes().differs(CLEAN_END, part()),
    ]
}

fn body() -> Vec<Row> {
    let twice = "first: true\nsecond: false\nafter a drop: false\n";
    let before = "before them\n";
    vec![
        get("body-untaken").says("").with("content-length", &["0"]),
        get("body-unwritten").says(""),
        get("body-dropped").cut("part of it\n"),
        get("body-left").cut("part of it\n").differs(CLEAN_END, Answer::says("part of it\n")),
        get("body-taken-and-left").cut("").differs(CLEAN_END, Answer::says("")),
        get("body-twice").says(twice),
        get("write-twice").says(twice),
        get("finish-with-stream").traps(),
        get("drop-with-stream").traps(),
        get("response-dropped-body").says("check: \"closed\"\nwrite and flush: \"closed\"\nfinish: true\n"),
        get("trailers-out")
            .header("TE: trailers")
            .says(before)
            .with("trailer", &["x-sum"])
            .with_trailer("x-sum", "42"),
        get("trailers-forbidden").header("TE: trailers").says(before).with_trailer("x-sum", "42"),
        get("trailers-out").says(before).with_trailer("x-sum", "42").differs(ASKED, Answer::says(before)),
        get("trailers-out").http_1_0().says(before),
        get("trailers-unannounced")
            .header("TE: trailers")
            .says(before)
            .with_trailer("x-sum", "42")
            .differs(UNANNOUNCED, Answer::says(before)),
        get("trailers-empty").says(before),
        get("trailers-let-go").says("let go: 200\n"),
        get("trailers-hoarded").traps().differs(BOUNDED, Answer::says("kept: 200\n")),
    ]
}

fn length() -> Vec<Row> {
    vec![
        get("length-exact").says("12345").with("content-length", &["5"]),
        get("length-exact").head().says("").with("content-length", &["5"]),
        get("length-zero").says("").with("content-length", &["0"]),
        get("length-more").cut("12345").differs(LENGTH, Answer::says("12345")),
        get("length-less").cut("12"),
        get("length-none").cut("").differs(LENGTH, Answer::says("")),
        get("length-none").head().says("").with("content-length", &["5"]),
        get("length-early?200").cut(""),
        get("length-early?200").head().says("").with("content-length", &["5"]),
        get("length-early?304").answers(Answer::status(304, "")),
        get("length-early?304").head().answers(Answer::status(304, "")),
        get("length-seen").says(
            "less, write: \"ok ()\"\n\
             less, finish: \"HttpResponseBodySize(Some(2))\"\n\
             exact, write: \"ok ()\"\n\
             exact, finish: \"ok\"\n\
             more, permit beyond it: true\n\
             more, write: \"failed HttpResponseBodySize(Some(8))\"\n\
             more, finish: \"HttpResponseBodySize(Some(8))\"\n",
        ),
    ]
}

fn status() -> Vec<Row> {
    let empty = |code| Answer::status(code, "");
    vec![
        get("status?200").answers(empty(200)),
        get("status?204").answers(empty(204)).with("content-length", &[]).with("transfer-encoding", &[]),
        get("status?304").answers(empty(304)),
        get("status?205").answers(empty(205)),
        get("status?404").answers(empty(404)),
        get("status?599").answers(empty(599)),
        // None of these is a final status.
        get("status?100").fails(502, "bad-response"),
        get("status?199").fails(502, "bad-response"),
        get("status?600").fails(502, "bad-response").differs(STATUS, empty(600)),
        get("status?999").fails(502, "bad-response").differs(STATUS, empty(999)),
        get("status-with-body?200").says("body\n"),
        get("status-with-body?404").answers(Answer::status(404, "body\n")),
        get("status-with-body?204").answers(empty(204)),
        get("status-with-body?304").answers(empty(304)),
        get("status-with-body?200").head().says(""),
        get("status-codes").says(STATUS_CODES),
    ]
}

const STATUS_CODES: &str = "\
at first: 200
0: (false, 200)
1: (false, 200)
99: (false, 200)
100: (true, 100)
101: (true, 101)
199: (true, 199)
200: (true, 200)
204: (true, 204)
304: (true, 304)
404: (true, 404)
599: (true, 599)
600: (true, 600)
999: (true, 999)
1000: (false, 999)
65535: (false, 999)
";
