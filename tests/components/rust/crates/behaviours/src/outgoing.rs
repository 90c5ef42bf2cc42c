//! Outgoing requests: how they are built, and what comes of one that the host does not allow.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme};

use crate::Behaviour;
use crate::call::{Call, Lines, code_name, fields};

pub(crate) const ALL: &[Behaviour] = &[
    ("outgoing", outgoing),
    ("outgoing-built", built),
    ("outgoing-body", body),
    ("outgoing-options", options),
    ("outgoing-long", long),
];

/// Forty requests at a time, each with a path of 60,000 bytes.
fn long(call: Call) {
    let path = format!("/{}", "p".repeat(59_999));
    let requests: Vec<_> = (0..40).map(|_| OutgoingRequest::new(Fields::new())).collect();
    let set = requests.iter().filter(|request| request.set_path_with_query(Some(&path)).is_ok()).count();
    let mut lines = Lines::default();
    lines.add("set", set);
    call.say(&lines);
}

/// To a port of the loopback where nobody listens.
fn outgoing(call: Call) {
    let mut lines = Lines::default();
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some("127.0.0.1:1")).expect("an authority");
    request.set_path_with_query(Some("/")).expect("a path");
    match handle(request, None) {
        Ok(future) => {
            future.subscribe().block();
            match future.get() {
                Some(Ok(Ok(response))) => lines.add("status", response.status()),
                Some(Ok(Err(code))) => lines.add("failed later", code_name(&code)),
                other => lines.add("odd", other.is_some()),
            }
            lines.add("taken already", matches!(future.get(), Some(Err(()))));
        }
        Err(code) => lines.add("failed at once", code_name(&code)),
    }
    call.say(&lines);
}

fn built(call: Call) {
    let mut lines = Lines::default();
    let request = OutgoingRequest::new(fields(&[("x", "1")]));
    let show = |lines: &mut Lines, what| {
        lines.add(what, (request.method(), request.path_with_query(), request.scheme(), request.authority()));
    };
    show(&mut lines, "at first");
    for method in [Method::Post, Method::Other("PURGE".to_owned()), Method::Other("a b".to_owned())] {
        lines.add("method", (&method, request.set_method(&method).is_ok()));
    }
    let paths = ["/a?b=c", "/a b", "no-slash", "http://b.test/", "", "?a=b", "/é", "/a#b"];
    for path in paths.map(Some).into_iter().chain([None]) {
        lines.add("path", (path, request.set_path_with_query(path).is_ok()));
    }
    for scheme in [
        Some(Scheme::Https),
        Some(Scheme::Other("ftp".to_owned())),
        Some(Scheme::Other("a b".to_owned())),
        None,
    ] {
        lines.add("scheme", (&scheme, request.set_scheme(scheme.as_ref()).is_ok()));
    }
    for authority in [Some("a.test:80"), Some("[::1]:1"), Some("a b"), Some(""), Some("a.test/b"), None] {
        lines.add("authority", (authority, request.set_authority(authority).is_ok()));
    }
    show(&mut lines, "at last");
    let headers = request.headers();
    lines.add("its headers", headers.append("y", b"1").err());
    lines.entries("header", &headers);
    call.say(&lines);
}

/// The same rules as a response's.
fn body(call: Call) {
    let mut lines = Lines::default();
    let request = OutgoingRequest::new(fields(&[("content-length", "5")]));
    let body = request.body().expect("the first call");
    lines.add("second body", request.body().is_ok());
    let stream = body.write().expect("the first call");
    lines.add("second stream", body.write().is_ok());
    assert!(stream.check_write().expect("an open stream") >= 2);
    stream.write(b"12").expect("within the permit");
    drop(stream);
    lines.add("finish", OutgoingBody::finish(body, None).map_err(|code| code_name(&code)));
    call.say(&lines);
}

fn options(call: Call) {
    let mut lines = Lines::default();
    let options = RequestOptions::new();
    let all = || (options.connect_timeout(), options.first_byte_timeout(), options.between_bytes_timeout());
    lines.add("at first", all());
    lines.add("connect", options.set_connect_timeout(Some(1)));
    lines.add("first byte", options.set_first_byte_timeout(Some(0)));
    lines.add("between bytes", options.set_between_bytes_timeout(Some(u64::MAX)));
    lines.add("set", all());
    lines.add("connect", options.set_connect_timeout(None));
    lines.add("at last", all());
    call.say(&lines);
}
