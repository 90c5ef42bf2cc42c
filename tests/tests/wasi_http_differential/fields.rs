//! Fields: what may stand in them, who may change them, their order and their size.

use crate::row::{Answer, Row, get};

/// The WIT asks for no order between names.
const IN_ORDER: &str = "entries are listed as they were added; the oracle's are grouped by name";

const ONE_LENGTH_ONLY: &str = "a second Content-Length is refused, as later releases of the oracle do";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        get("fields-names").says(&format!("{NAMES}{}", bad_names())),
        get("fields-values").says(VALUES),
        get("fields-lengths")
            .says(&[LENGTHS, ONE_LENGTH].concat())
            .differs(ONE_LENGTH_ONLY, Answer::says([LENGTHS, TWO_LENGTHS].concat())),
        get("fields-forbidden").says(&forbidden()),
        get("fields-of-request").header("X-Given: 1").says(OF_REQUEST),
        get("fields-of-response").says(OF_RESPONSE),
        get("fields-clone").header("X-Given: 1").says(CLONE),
        get("fields-order").says(ORDER).differs(IN_ORDER, Answer::says(ORDER_BY_NAME)),
        get("fields-absent").says(ABSENT),
        get("fields-set").says(SET),
        get("fields-from-list")
            .says(&[LISTED, FROM_LIST, "two lengths: Some(HeaderError::InvalidSyntax)\n"].concat())
            .differs(
                "a second Content-Length, and the order",
                Answer::says([LISTED_BY_NAME, FROM_LIST, "two lengths: None\n"].concat()),
            ),
        // How many a host takes is its own; past that it is a trap.
        get("fields-many").traps(),
        get("fields-huge").traps(),
        get("fields-sent")
            .says("see the head\n")
            .with("x-case", &["Kept"])
            .with("set-cookie", &["a=1", "b=2"])
            .with("x-empty", &[""])
            .with("x-bytes", &["caf\u{fffd}"]),
        get("fields-sent-many").says("see the head\n").with("x-many", &["vvvvvvvvvv"; 90]),
        get("fields-sent-long").says("see the head\n").with("x-many", &[LONG]),
        get("fields-sent-own")
            .says("see the head\n")
            .with("date", &["Thu, 01 Jan 1970 00:00:00 GMT"])
            .with("server", &["mine"])
            .with("vary", &["accept"]),
        get("fields-used-after-new").says("header: content-type=text/plain\n"),
    ]
}

const LONG: &str = match std::str::from_utf8(&[b'v'; 8000]) {
    Ok(text) => text,
    Err(_) => unreachable!(),
};

const NAMES: &str = r#"x-fine: ("ok", "ok", true)
X-Upper: ("ok", "ok", true)
!#$%&'*+-.^_`|~0: ("ok", "ok", true)
: ("HeaderError::InvalidSyntax", "HeaderError::InvalidSyntax", false)
 : ("HeaderError::InvalidSyntax", "HeaderError::InvalidSyntax", false)
a b: ("HeaderError::InvalidSyntax", "HeaderError::InvalidSyntax", false)
a:: ("HeaderError::InvalidSyntax", "HeaderError::InvalidSyntax", false)
:path: ("HeaderError::InvalidSyntax", "HeaderError::InvalidSyntax", false)
"#;

/// Of names that a raw string is no place for.
fn bad_names() -> String {
    let error = "HeaderError::InvalidSyntax";
    ["a\r\n", "a\0", "\u{e9}", "(a)"].map(|name| format!("{name}: ({error:?}, {error:?}, false)\n")).concat()
}

const VALUES: &str = r#"fine: ("ok", ["fine"])
: ("ok", [""])
 : ("ok", [" "])
 a: ("ok", [" a"])
a : ("ok", ["a "])
a\tb: ("ok", ["a\\tb"])
a\rb: ("HeaderError::InvalidSyntax", [])
a\nb: ("HeaderError::InvalidSyntax", [])
a\r\nb: c: ("HeaderError::InvalidSyntax", [])
a\x00b: ("HeaderError::InvalidSyntax", [])
a\x7fb: ("HeaderError::InvalidSyntax", [])
a\xffb: ("ok", ["a\\xffb"])
"#;

const LENGTHS: &str = r#"5: ("ok", ["5"])
05: ("ok", ["5"])
0: ("ok", ["0"])
abc: ("HeaderError::InvalidSyntax", [])
+5: ("HeaderError::InvalidSyntax", [])
-5: ("HeaderError::InvalidSyntax", [])
: ("HeaderError::InvalidSyntax", [])
 5: ("HeaderError::InvalidSyntax", [])
5 : ("HeaderError::InvalidSyntax", [])
5, 5: ("HeaderError::InvalidSyntax", [])
5_0: ("HeaderError::InvalidSyntax", [])
0x5: ("HeaderError::InvalidSyntax", [])
1.0: ("HeaderError::InvalidSyntax", [])
18446744073709551616: ("HeaderError::InvalidSyntax", [])
first: "ok"
"#;

const ONE_LENGTH: &str = r#"second: "HeaderError::InvalidSyntax"
two at once: "HeaderError::InvalidSyntax"
left: content-length=5
"#;

const TWO_LENGTHS: &str = r#"second: "ok"
two at once: "ok"
left: content-length=5
left: content-length=5
"#;

/// Those that a host frames messages with, and the others.
fn forbidden() -> String {
    let forbidden = [
        "connection",
        "Connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "host",
        "http2-settings",
    ];
    let allowed = ["te", "trailer", "date", "server", "expect", "content-length"];
    let line = |name: &str, outcome: &str, error: &str| {
        format!("{name}: ({outcome:?}, {outcome:?}, {outcome:?}, {error})\n")
    };
    let error = "HeaderError::Forbidden";
    let some = format!("Some({error})");
    let forbidden = forbidden.iter().map(|name| line(name, error, &some));
    forbidden.chain(allowed.iter().map(|name| line(name, "ok", "None"))).collect()
}

const OF_REQUEST: &str = r#"set: "HeaderError::Immutable"
append: "HeaderError::Immutable"
delete: "HeaderError::Immutable"
has it: false
delete of one that is there: "HeaderError::Immutable"
a bad name: "HeaderError::InvalidSyntax"
a bad value: "HeaderError::InvalidSyntax"
a forbidden one: "HeaderError::Forbidden"
given: 1
"#;

const OF_RESPONSE: &str = r#"set: "HeaderError::Immutable"
append: "HeaderError::Immutable"
delete: "HeaderError::Immutable"
has it: false
header: x-old=1
after its response was dropped: x-old=1
"#;

const CLONE: &str = r#"set: "ok"
append: "ok"
delete: "ok"
has it: false
append to the copy: "ok"
the copy has it: true
the original has it: false
the copy outlives it: true
"#;

const ORDER: &str = r#"entry: x-bee=1
entry: x-ant=2
entry: x-bee=3
entry: x-cow=4
entry: x-ant=5
get: ["1", "3"]
"#;

const ORDER_BY_NAME: &str = r#"entry: x-bee=1
entry: x-bee=3
entry: x-ant=2
entry: x-ant=5
entry: x-cow=4
get: ["1", "3"]
"#;

const ABSENT: &str = r#"get: 0
has: false
delete: "ok"
get of a bad name: 0
has of a bad name: false
delete of a bad name: "HeaderError::InvalidSyntax"
entries: 0
"#;

const SET: &str = r#"set to two: "ok"
entry: x=4
entry: x=5
entry: y=2
set to none: "ok"
entry: y=2
one bad value of two: "HeaderError::InvalidSyntax"
entry: y=2
delete: "ok"
left: 0
"#;

const LISTED: &str = r#"entry: x-a=1
entry: x-b=2
entry: x-a=\xff
"#;

const LISTED_BY_NAME: &str = r#"entry: x-a=1
entry: x-a=\xff
entry: x-b=2
"#;

const FROM_LIST: &str = r#"set: "ok"
append: "ok"
delete: "ok"
has it: false
empty: true
a bad name: Some(HeaderError::InvalidSyntax)
a bad value: Some(HeaderError::InvalidSyntax)
a forbidden one: Some(HeaderError::Forbidden)
"#;
