//! Fields: names and values, forbidden ones, who may change them, their order and their size.

use wasip2::http::types::{Fields, HeaderError, OutgoingBody, OutgoingResponse, ResponseOutparam};

use crate::Behaviour;
use crate::call::{Call, Lines, fields, set, write_all};

pub(crate) const ALL: &[Behaviour] = &[
    ("fields-names", names),
    ("fields-values", values),
    ("fields-lengths", lengths),
    ("fields-forbidden", forbidden),
    ("fields-of-request", of_request),
    ("fields-of-response", of_response),
    ("fields-clone", clone),
    ("fields-order", order),
    ("fields-absent", absent),
    ("fields-set", set_replaces),
    ("fields-from-list", from_list),
    ("fields-many", many),
    ("fields-huge", huge),
    ("fields-sent", sent),
    ("fields-sent-many", |call| answer_with(call, 90, 10)),
    ("fields-sent-long", |call| answer_with(call, 1, 8000)),
    ("fields-sent-own", sent_own),
    ("fields-used-after-new", used_after_new),
];

fn result(result: Result<(), HeaderError>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned())
}

fn names(call: Call) {
    let mut lines = Lines::default();
    for name in
        ["x-fine", "X-Upper", "!#$%&'*+-.^_`|~0", "", " ", "a b", "a:", ":path", "a\r\n", "a\0", "é", "(a)"]
    {
        let fresh = Fields::new();
        let outcomes =
            (result(fresh.append(name, b"1")), result(fresh.set(name, &[b"2".to_vec()])), fresh.has(name));
        lines.add(name, outcomes);
    }
    call.say(&lines);
}

fn values(call: Call) {
    let mut lines = Lines::default();
    let values: [&[u8]; 12] = [
        b"fine",
        b"",
        b" ",
        b" a",
        b"a ",
        b"a\tb",
        b"a\rb",
        b"a\nb",
        b"a\r\nb: c",
        b"a\0b",
        b"a\x7fb",
        b"a\xffb",
    ];
    for value in values {
        let fresh = Fields::new();
        let outcome = result(fresh.append("x", value));
        let kept = fresh.get("x").iter().map(|kept| kept.escape_ascii().to_string()).collect::<Vec<_>>();
        lines.add(&value.escape_ascii().to_string(), (outcome, kept));
    }
    call.say(&lines);
}

fn lengths(call: Call) {
    let mut lines = Lines::default();
    for value in [
        "5",
        "05",
        "0",
        "abc",
        "+5",
        "-5",
        "",
        " 5",
        "5 ",
        "5, 5",
        "5_0",
        "0x5",
        "1.0",
        "18446744073709551616",
    ] {
        let fresh = Fields::new();
        let outcome = result(fresh.append("content-length", value.as_bytes()));
        let kept = fresh
            .get("content-length")
            .iter()
            .map(|kept| kept.escape_ascii().to_string())
            .collect::<Vec<_>>();
        lines.add(value, (outcome, kept));
    }
    let fresh = Fields::new();
    lines.add("first", result(fresh.append("content-length", b"5")));
    lines.add("second", result(fresh.append("Content-Length", b"5")));
    lines.add("two at once", result(fresh.set("content-length", &[b"5".to_vec(), b"5".to_vec()])));
    lines.entries("left", &fresh);
    call.say(&lines);
}

fn forbidden(call: Call) {
    let mut lines = Lines::default();
    for name in [
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
        "te",
        "trailer",
        "date",
        "server",
        "expect",
        "content-length",
    ] {
        let fresh = Fields::new();
        let outcomes = (
            result(fresh.append(name, b"1")),
            result(fresh.set(name, &[b"1".to_vec()])),
            result(fresh.delete(name)),
            Fields::from_list(&[(name.to_owned(), b"1".to_vec())]).err(),
        );
        lines.add(name, outcomes);
    }
    call.say(&lines);
}

fn try_all(lines: &mut Lines, fields: &Fields) {
    lines.add("set", result(fields.set("x-new", &[b"1".to_vec()])));
    lines.add("append", result(fields.append("x-new", b"1")));
    lines.add("delete", result(fields.delete("x-new")));
    lines.add("has it", fields.has("x-new"));
}

fn of_request(call: Call) {
    let mut lines = Lines::default();
    let headers = call.request.headers();
    try_all(&mut lines, &headers);
    lines.add("delete of one that is there", result(headers.delete("x-given")));
    lines.add("a bad name", result(headers.append("a b", b"1")));
    lines.add("a bad value", result(headers.append("x", b"\n")));
    lines.add("a forbidden one", result(headers.append("host", b"1")));
    lines.add("given", headers.get("X-Given").len());
    call.say(&lines);
}

fn of_response(call: Call) {
    let mut lines = Lines::default();
    let response = OutgoingResponse::new(fields(&[("x-old", "1")]));
    let headers = response.headers();
    try_all(&mut lines, &headers);
    lines.entries("header", &headers);
    drop(response);
    lines.entries("after its response was dropped", &headers);
    call.say(&lines);
}

fn clone(call: Call) {
    let mut lines = Lines::default();
    let headers = call.request.headers();
    let copy = headers.clone();
    try_all(&mut lines, &copy);
    lines.add("append to the copy", result(copy.append("x-new", b"1")));
    lines.add("the copy has it", copy.has("x-new"));
    lines.add("the original has it", headers.has("x-new"));
    drop(headers);
    lines.add("the copy outlives it", copy.has("x-given"));
    call.say(&lines);
}

fn order(call: Call) {
    let mut lines = Lines::default();
    let fresh = Fields::new();
    for (name, value) in [("X-Bee", "1"), ("x-ant", "2"), ("x-bee", "3"), ("X-Cow", "4"), ("x-ANT", "5")] {
        fresh.append(name, value.as_bytes()).expect("a valid header");
    }
    lines.entries("entry", &fresh);
    lines.add(
        "get",
        fresh.get("X-BEE").iter().map(|value| value.escape_ascii().to_string()).collect::<Vec<_>>(),
    );
    call.say(&lines);
}

fn absent(call: Call) {
    let mut lines = Lines::default();
    let fresh = Fields::new();
    lines.add("get", fresh.get("x").len());
    lines.add("has", fresh.has("x"));
    lines.add("delete", result(fresh.delete("x")));
    lines.add("get of a bad name", fresh.get("a b").len());
    lines.add("has of a bad name", fresh.has("a b"));
    lines.add("delete of a bad name", result(fresh.delete("a b")));
    lines.add("entries", fresh.entries().len());
    call.say(&lines);
}

fn set_replaces(call: Call) {
    let mut lines = Lines::default();
    let fresh = fields(&[("x", "1"), ("y", "2"), ("x", "3")]);
    lines.add("set to two", result(fresh.set("X", &[b"4".to_vec(), b"5".to_vec()])));
    lines.entries("entry", &fresh);
    lines.add("set to none", result(fresh.set("x", &[])));
    lines.entries("entry", &fresh);
    lines.add("one bad value of two", result(fresh.set("y", &[b"6".to_vec(), b"\n".to_vec()])));
    lines.entries("entry", &fresh);
    lines.add("delete", result(fresh.delete("Y")));
    lines.add("left", fresh.entries().len());
    call.say(&lines);
}

fn from_list(call: Call) {
    let mut lines = Lines::default();
    let list = |entries: &[(&str, &[u8])]| {
        let entries: Vec<_> =
            entries.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
        Fields::from_list(&entries)
    };
    match list(&[("X-A", b"1"), ("x-b", b"2"), ("x-a", b"\xff")]) {
        Ok(fields) => {
            lines.entries("entry", &fields);
            try_all(&mut lines, &fields);
        }
        Err(error) => lines.add("error", error),
    }
    lines.add("empty", list(&[]).is_ok());
    lines.add("a bad name", list(&[("x", b"1"), ("a b", b"1")]).err());
    lines.add("a bad value", list(&[("x", b"1\n")]).err());
    lines.add("a forbidden one", list(&[("x", b"1"), ("Connection", b"close")]).err());
    lines.add("two lengths", list(&[("content-length", b"1"), ("content-length", b"1")]).err());
    call.say(&lines);
}

/// Ten thousand of them: past any bound that a host may have.
fn many(call: Call) {
    let mut lines = Lines::default();
    let fresh = Fields::new();
    let taken = (0..10_000).take_while(|n| fresh.append(&format!("x-{n}"), b"1").is_ok()).count();
    lines.add("taken", taken);
    call.say(&lines);
}

fn huge(call: Call) {
    let mut lines = Lines::default();
    lines.add("append", result(Fields::new().append("x", &vec![b'a'; 1 << 20])));
    call.say(&lines);
}

/// Headers that a client must see as they were given.
fn sent(call: Call) {
    let headers = fields(&[
        ("content-type", "text/plain"),
        ("X-Case", "Kept"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-empty", ""),
    ]);
    headers.append("x-bytes", b"caf\xe9").expect("obs-text is a value's");
    let (body, stream) = set(call.out, OutgoingResponse::new(headers));
    write_all(&stream, b"see the head\n");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
}

/// So many headers of so many bytes, which the client counts.
fn answer_with(call: Call, number: usize, bytes: usize) {
    let headers = fields(&[("content-type", "text/plain")]);
    for _ in 0..number {
        headers.append("x-many", &vec![b'v'; bytes]).expect("within any limit");
    }
    let (body, stream) = set(call.out, OutgoingResponse::new(headers));
    write_all(&stream, b"see the head\n");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
}

/// Headers that a server has an opinion on, and a guest may set.
fn sent_own(call: Call) {
    let headers = fields(&[
        ("content-type", "text/plain"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("server", "mine"),
        ("vary", "accept"),
    ]);
    let (body, stream) = set(call.out, OutgoingResponse::new(headers));
    write_all(&stream, b"see the head\n");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
}

/// The handle of the response's own fields, taken before it was set, still answers after.
fn used_after_new(call: Call) {
    let mut lines = Lines::default();
    let response = OutgoingResponse::new(fields(&[("content-type", "text/plain")]));
    let headers = response.headers();
    let body = response.body().expect("the first call");
    ResponseOutparam::set(call.out, Ok(response));
    lines.entries("header", &headers);
    let stream = body.write().expect("the first call");
    lines.write_to(&stream);
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
}
