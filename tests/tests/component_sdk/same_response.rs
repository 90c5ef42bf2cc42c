//! What becomes of a response that a handler makes, as a module and as a component: where a module's host takes one, the
//! component sends it, and where that refuses one, the component does not send it either.

use std::io;

use tidegate_tests::artifacts::{component_guest, module_guest};
use tidegate_tests::check;
use tidegate_tests::{End, Response, Server};

use super::{Host, everywhere};

/// What a client can tell apart.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Whole {
        status: u16,
        length: Option<String>,
        body: String,
    },
    /// Cut off, no answer at all, or an error of the server's.
    Failed,
}

fn seen(outcome: &io::Result<Response>) -> Seen {
    match outcome {
        Ok(response) if response.end == End::Clean && response.status() < 500 => Seen::Whole {
            status: response.status(),
            length: response.header("content-length").map(str::to_owned),
            body: response.text(),
        },
        Ok(_) => Seen::Failed,
        Err(error) => {
            let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
            assert!(kinds.contains(&error.kind()), "{error}");
            Seen::Failed
        }
    }
}

fn ask(host: &Host, method: &str, path: &str) -> Seen {
    let mut client = host.client();
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
    seen(&if method == "HEAD" { client.response_to_head() } else { client.response() })
}

fn whole(status: u16, length: Option<&str>, body: &str) -> Seen {
    Seen::Whole { status, length: length.map(str::to_owned), body: body.to_owned() }
}

#[test]
fn headers_of_the_connection_are_taken_or_refused_alike() {
    everywhere("misfit", &[], |host| {
        for (name, value, is_sent) in [
            ("connection", "close", true),
            ("connection", "Close", true),
            ("host", "b", true),
            ("proxy-authenticate", "basic", true),
            ("x-one", "1", true),
            ("connection", "keep-alive", false),
            ("keep-alive", "timeout%3D5", false),
            ("te", "trailers", false),
            ("upgrade", "h2c", false),
            ("transfer-encoding", "chunked", false),
            ("proxy-connection", "close", false),
            ("content-length", "%2B3", false),
            ("content-length", "4", false),
        ] {
            let outcome = ask(host, "GET", &format!("/head?body=abc&name={name}&value={value}"));
            let wanted = if is_sent { whole(200, Some("3"), "abc") } else { Seen::Failed };
            assert_eq!(outcome, wanted, "{name}: {value}");
        }
    });
}

#[test]
fn a_status_is_a_final_one() {
    everywhere("misfit", &[], |host| {
        for status in [100, 101, 103, 199, 600, 999] {
            assert_eq!(ask(host, "GET", &format!("/head?status={status}&body=x")), Seen::Failed, "{status}");
        }
        for status in [200, 299, 418, 451] {
            let outcome = ask(host, "GET", &format!("/head?status={status}&body=x"));
            assert_eq!(outcome, whole(status, Some("1"), "x"), "{status}");
        }
    });
}

/// RFC 9110 section 8.6.
#[test]
fn lengths_without_a_body_are_the_same() {
    everywhere("misfit", &[], |host| {
        let asked = |method: &str, status: u16, length: &str, body: &str| {
            let query = format!("status={status}&name=content-length&value={length}&body={body}");
            let at_once = ask(host, method, &format!("/head?{query}"));
            println!("{method} {status}, {length} for {body:?}: {at_once:?}");
            at_once
        };
        assert_eq!(asked("HEAD", 200, "5", ""), whole(200, Some("5"), ""));
        assert_eq!(asked("HEAD", 200, "3", "abc"), whole(200, Some("3"), ""));
        // Where nobody reads a body, `wasmtime serve` says no length of it.
        let told = (!host.name.ends_with("serve")).then_some("5");
        assert_eq!(asked("GET", 304, "5", ""), whole(304, told, ""));
        // Never said with this status.
        assert_eq!(asked("GET", 204, "5", ""), whole(204, None, ""));
        assert_eq!(asked("HEAD", 204, "5", ""), whole(204, None, ""));
        for method in ["GET", "HEAD"] {
            for status in [200, 204, 304] {
                assert_eq!(asked(method, status, "2", "abc"), Seen::Failed);
                assert_eq!(asked(method, status, "5", "abc"), Seen::Failed);
            }
        }
    });
}

/// A host may leave a trailer out; a handler that asks for one that may not be there is told.
#[test]
fn trailers_are_sent_or_refused_alike() {
    // Every name that may not stand in a trailer section.
    const FORBIDDEN: &str = "connection content-length http2-settings keep-alive proxy-connection te trailer \
        transfer-encoding upgrade forwarded host x-forwarded-for x-forwarded-host x-forwarded-proto authorization cookie \
        proxy-authenticate proxy-authorization set-cookie www-authenticate cache-control expect if-match \
        if-modified-since if-none-match if-range if-unmodified-since max-forwards pragma range age date expires location \
        retry-after vary warning content-encoding content-language content-location content-range content-type \
        x-request-id";
    everywhere("misfit", &[], |host| {
        let ask = |name: &str, bytes: usize| ask(host, "GET", &format!("/trailer?name={name}&bytes={bytes}"));
        for name in FORBIDDEN.split_whitespace() {
            assert_eq!(ask(name, 1), Seen::Failed, "{name}");
        }
        for bytes in [16 << 10, 40_000, 100_000] {
            assert_eq!(ask("sum", bytes), Seen::Failed, "{bytes}");
        }
        for (name, bytes) in [("sum", 1), ("etag", 9), ("sum", 16_000)] {
            assert_eq!(ask(name, bytes), whole(200, None, "before the trailer\n"), "{name}, {bytes}");
        }
    });
}

/// The two ways in tidegate, where the log can be seen.
fn in_tidegate(ask: impl Fn(&Server)) {
    for guest in [module_guest("misfit"), component_guest("misfit")] {
        println!("{}", guest.display());
        ask(&Server::builder().module(guest).start());
    }
}

#[test]
fn the_handler_is_told_why_its_trailers_are_refused() {
    in_tidegate(|server| {
        for (query, why) in [("name=vary", "(EINVAL)"), ("name=sum&bytes=40000", "(EMSGSIZE)")] {
            let outcome = server.client().get("a", &format!("/trailer?{query}"));
            assert_eq!(seen(&outcome), Seen::Failed, "{query}");
            let line = server.wait_for_log(|line| line.contains("trailers: finish") && line.contains(why));
            assert!(line.is_some(), "{query}: no {why} in the log:\n{}", server.stderr().tail(20));
        }
        check::ok(&server.get("a", "/exact"), b"exact");
    });
}

#[test]
fn the_handler_is_told_that_a_body_for_nobody_is_too_long_or_too_short() {
    in_tidegate(|server| {
        for (length, why) in [(2, "(EFBIG)"), (5, "(EPROTO)")] {
            let mut client = server.client();
            let path = format!("/pieces?name=content-length&value={length}&body=abc");
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
            let _ = client.response_to_head();
            let line = server.wait_for_log(|line| line.contains("in pieces") && line.contains(why));
            assert!(line.is_some(), "{length}: no {why} in the log:\n{}", server.stderr().tail(20));
        }
    });
}

/// A handler cannot make a line of the log that looks like another record.
#[test]
fn a_record_of_several_lines_is_one_record() {
    in_tidegate(|server| {
        check::ok(&server.get("a", "/forge"), b"logged\n");
        let forged = "error 0123456789abcdef: ";
        for text in ["forged", "too"] {
            let line = server.wait_for_log(|line| line.contains(&[forged, text].concat()));
            let line =
                line.unwrap_or_else(|| panic!("{text:?} is not in the log:\n{}", server.stderr().tail(20)));
            // In a line of its own it stands apart from where a record begins.
            assert!(!line.starts_with(forged) && !line.contains(&["=\"", forged].concat()), "{line}");
        }
    });
}
