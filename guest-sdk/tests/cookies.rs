//! Cookies in and out, against the host in memory.
#![cfg(feature = "cookies")]

use proptest::prelude::*;
use tidegate_sdk::cookies::{Cookie, SameSite, time::Duration};
use tidegate_sdk::test::{Answer, Exchange};
use tidegate_sdk::{Request, Response, StatusCode, header};

fn list(request: Request) -> String {
    format!("{:?}", request.cookies().iter().collect::<Vec<_>>())
}

#[test]
fn cookies_are_read_and_odd_ones_spoil_no_others() {
    let cases: [(&[u8], &str); 17] = [
        (b"", "[]"),
        (b"a=1", r#"[("a", "1")]"#),
        (b"a=1; b=2;c=3 ;  d = 4", r#"[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]"#),
        (b"a=1; a=2", r#"[("a", "1"), ("a", "2")]"#),
        (b"a=", r#"[("a", "")]"#),
        (b"a=b=c==", r#"[("a", "b=c==")]"#),
        (b"a=\"quoted\"", r#"[("a", "quoted")]"#),
        (b"a=\"", r#"[("a", "\"")]"#),
        (b"a=\"x; b=1", r#"[("a", "\"x"), ("b", "1")]"#),
        (b"alone; =nameless; ; a=1;", r#"[("a", "1")]"#),
        (b"bad=\xff\xfe; a=1", r#"[("a", "1")]"#),
        (b"\xff=1; a=1", r#"[("a", "1")]"#),
        (b"a=caf%C3%A9%3B%22", "[(\"a\", \"caf\u{e9};\\\"\")]"),
        ("a=caf\u{e9}".as_bytes(), "[(\"a\", \"caf\u{e9}\")]"),
        (b"a=100%; b=%ff; c=%zz", r#"[("a", "100%"), ("b", "%ff"), ("c", "%zz")]"#),
        (b"a=1+1", r#"[("a", "1+1")]"#),
        (b"a=1, b=2", r#"[("a", "1, b=2")]"#),
    ];
    for (line, wanted) in cases {
        let answer = Exchange::get("/").header("cookie", line).run(list);
        assert_eq!(answer.text(), wanted, "{}", String::from_utf8_lossy(line));
    }
    assert_eq!(Exchange::get("/").run(list).text(), "[]");
}

#[test]
fn several_lines_are_read_in_order() {
    let answer = Exchange::get("/").header("cookie", "a=1; b=2").header("cookie", "c=3").run(list);
    assert_eq!(answer.text(), r#"[("a", "1"), ("b", "2"), ("c", "3")]"#);
}

#[test]
fn the_first_of_a_name_is_found_and_its_letters_matter() {
    let get = |request: Request| {
        let cookies = request.cookies();
        assert!(!cookies.is_empty());
        format!("{:?} {:?} {:?}", cookies.get("a"), cookies.get("A"), cookies.get("b"))
    };
    let answer = Exchange::get("/").header("cookie", "a=1; A=2; a=3").run(get);
    assert_eq!(answer.text(), r#"Some("1") Some("2") None"#);
}

#[test]
fn a_name_is_never_decoded() {
    let answer = Exchange::get("/")
        .header("cookie", "%5F_Host-id=forged; __Host-i%64=forged")
        .run(|request: Request| format!("{:?}", request.cookies().get("__Host-id")));
    assert_eq!(answer.text(), "None");
}

fn lines(answer: &Answer) -> Vec<String> {
    answer.headers.get_all(header::SET_COOKIE).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
}

#[test]
fn attributes_are_sent_and_each_cookie_has_its_line() {
    let answer = Exchange::get("/").run(|_: Request| {
        let session = Cookie::build(("session", "a b;c"))
            .path("/shop")
            .domain("shop.example")
            .max_age(Duration::seconds(60))
            .secure(true)
            .http_only(true)
            .same_site(SameSite::Strict);
        Response::text("hello\n")
            .with_cookie(session)
            .with_cookie(("theme", "dark"))
            .with_cookie(("theme", "light"))
    });
    let lines = lines(&answer);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("session=a%20b%3Bc; "), "{lines:?}");
    let attributes =
        ["HttpOnly", "SameSite=Strict", "Secure", "Path=/shop", "Domain=shop.example", "Max-Age=60"];
    for attribute in attributes {
        assert!(lines[0].split("; ").any(|part| part == attribute), "{attribute} is not in {lines:?}");
    }
    assert_eq!(lines[1..], ["theme=dark", "theme=light"]);
    assert_eq!(answer.text(), "hello\n");
}

#[test]
fn a_removed_cookie_is_empty_and_past() {
    let answer = Exchange::get("/").run(|_: Request| {
        Response::empty().with_removed_cookie(Cookie::build("a").path("/x")).with_removed_cookie("b")
    });
    let lines = lines(&answer);
    assert!(lines[0].starts_with("a=; Path=/x; Max-Age=0; Expires="), "{lines:?}");
    assert!(lines[1].starts_with("b=; Max-Age=0; Expires="), "{lines:?}");
}

#[test]
fn what_cannot_be_a_cookie_is_a_500_and_never_a_header() {
    let cases = [
        Cookie::new("", "1"),
        Cookie::new("a b", "1"),
        Cookie::new("a;b", "1"),
        Cookie::new("a=b", "1"),
        Cookie::new("a\r\nx: y", "1"),
        Cookie::new("caf\u{e9}", "1"),
        Cookie::build(("a", "1")).path("/; Domain=example").build(),
        Cookie::build(("a", "1")).path("/\r\nset-cookie: b=2").build(),
        Cookie::build(("a", "1")).domain("x; Secure").build(),
    ];
    for cookie in cases {
        let shown = format!("{cookie:?}");
        let answer =
            Exchange::get("/").run(move |_: Request| Response::text("ok").with_cookie(cookie.clone()));
        assert_eq!(answer.status, Some(StatusCode::INTERNAL_SERVER_ERROR), "{shown}");
        assert!(
            lines(&answer).is_empty() && !answer.headers.contains_key("x"),
            "{shown}: {:?}",
            answer.headers
        );
        assert!(answer.logs.iter().any(|(_, text)| text.contains("cookie")), "{:?}", answer.logs);
    }
}

#[test]
fn a_value_is_never_taken_for_attributes() {
    let answer =
        Exchange::get("/").run(|_: Request| Response::empty().with_cookie(("a", "1; Secure\r\nx: y, b=2")));
    assert_eq!(lines(&answer), ["a=1%3B%20Secure%0D%0Ax%3A%20y%2C%20b%3D2"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_comes_back_as_it_was(value in ".{0,20}") {
        let sent = value.clone();
        let set = Exchange::get("/").run(move |_: Request| Response::empty().with_cookie(("a", sent.clone())));
        let line = lines(&set).remove(0);
        prop_assert_eq!(line.matches(';').count(), 0);
        let answer = Exchange::get("/").header("cookie", format!("z=1; {line}; b=2")).run(|request: Request| {
            request.cookies().get("a").unwrap().to_owned()
        });
        prop_assert_eq!(answer.text(), value);
    }

    #[test]
    fn any_line_is_read(line in prop::collection::vec(prop_oneof![32_u8..127, 128..=255_u8], 0..60)) {
        let answer = Exchange::get("/").header("cookie", line).run(list);
        prop_assert_eq!(answer.status, Some(StatusCode::OK));
    }
}
