//! Range requests, against the host in memory.
#![cfg(feature = "range")]

use proptest::prelude::*;
use tidegate_sdk::range::{self, Range, Requested, parse};
use tidegate_sdk::test::{Answer, Exchange};
use tidegate_sdk::{Error, IntoResponse, Request, Response, Result, StatusCode};

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn part(start: u64, end: u64) -> Requested {
    Requested::Part(Range { start, end })
}

#[test]
fn fields_are_read_as_the_rfc_says() {
    use Requested::{Unsatisfiable, Whole};
    let cases = [
        // First and last, which may lie past the end.
        ("bytes=0-0", part(0, 1)),
        ("bytes=0-9", part(0, 10)),
        ("bytes=3-5", part(3, 6)),
        ("bytes=3-", part(3, 10)),
        ("bytes=0-99", part(0, 10)),
        ("bytes=9-9", part(9, 10)),
        ("bytes=0-18446744073709551615", part(0, 10)),
        ("BYTES=3-5", part(3, 6)),
        // The last ones, which may be more than there are.
        ("bytes=-1", part(9, 10)),
        ("bytes=-10", part(0, 10)),
        ("bytes=-11", part(0, 10)),
        ("bytes=-18446744073709551615", part(0, 10)),
        // Nothing that is there.
        ("bytes=10-", Unsatisfiable),
        ("bytes=10-20", Unsatisfiable),
        ("bytes=18446744073709551615-", Unsatisfiable),
        ("bytes=-0", Unsatisfiable),
        ("bytes=10-11, 12-13", Unsatisfiable),
        // Several that are one.
        ("bytes=0-2, 3-5", part(0, 6)),
        ("bytes=3-5,0-3", part(0, 6)),
        ("bytes=0-5, 2-3", part(0, 6)),
        ("bytes=0-1, 40-50", part(0, 2)),
        ("bytes=8-, -4", part(6, 10)),
        // Several that are not.
        ("bytes=0-0, -1", Whole),
        ("bytes=0-1, 3-4, 6-7", Whole),
        // What is no range at all.
        ("", Whole),
        ("bytes", Whole),
        ("bytes=", Whole),
        ("bytes=-", Whole),
        ("bytes=,", Whole),
        ("bytes=a-b", Whole),
        ("bytes=5-3", Whole),
        ("bytes=0-1, 5-3", Whole),
        ("bytes=+1-2", Whole),
        ("bytes=1", Whole),
        ("bytes=1-2-3", Whole),
        ("bytes=--1", Whole),
        ("bytes=-0, x", Whole),
        ("bytes 0-1", Whole),
        ("lines=0-1", Whole),
        ("x, bytes=0-1", Whole),
        // Too large for any counter: nobody has to serve that, and nobody may overflow.
        ("bytes=0-99999999999999999999", Whole),
        ("bytes=99999999999999999999-", Whole),
        ("bytes=-99999999999999999999", Whole),
    ];
    for (field, wanted) in cases {
        assert_eq!(parse(field, 10), wanted, "{field:?}");
    }
}

#[test]
fn nothing_and_almost_everything_have_ranges_too() {
    for (field, wanted) in [
        ("bytes=0-", Requested::Unsatisfiable),
        ("bytes=0-0", Requested::Unsatisfiable),
        ("bytes=-1", Requested::Whole),
        ("bytes=-0", Requested::Unsatisfiable),
    ] {
        assert_eq!(parse(field, 0), wanted, "{field:?}");
    }
    assert_eq!(parse("bytes=-1", u64::MAX), part(u64::MAX - 1, u64::MAX));
    assert_eq!(parse("bytes=0-18446744073709551615", u64::MAX), part(0, u64::MAX));
}

fn alphabet(request: Request) -> Response {
    Response::text(ALPHABET)
        .with_header("etag", "\"v1\"")
        .with_header("last-modified", DATE)
        .with_header("x-kept", "1")
        .with_header("cache-control", "max-age=60")
        .with_range(&request)
}

fn get(range: &str) -> Exchange {
    Exchange::get("/").header("range", range)
}

#[track_caller]
fn whole(answer: &Answer) {
    assert_eq!((answer.status, answer.text()), (Some(StatusCode::OK), ALPHABET));
    assert!(!answer.headers.contains_key("content-range"));
}

#[track_caller]
fn partial(answer: &Answer, body: &str, content_range: &str) {
    assert_eq!((answer.status, answer.text()), (Some(StatusCode::PARTIAL_CONTENT), body));
    assert_eq!(answer.headers["content-range"], content_range);
}

#[test]
fn a_part_is_sent_with_all_that_belongs_to_the_whole() {
    let answer = get("bytes=2-4").run(alphabet);
    partial(&answer, "cde", "bytes 2-4/26");
    for (name, value) in [
        ("etag", "\"v1\""),
        ("last-modified", DATE),
        ("x-kept", "1"),
        ("cache-control", "max-age=60"),
        ("content-type", "text/plain; charset=utf-8"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(answer.headers[name], value, "{name}");
    }
    partial(&get("bytes=-2").run(alphabet), "yz", "bytes 24-25/26");
}

#[test]
fn without_a_range_the_whole_says_that_ranges_are_taken() {
    for exchange in [Exchange::get("/"), get("bytes=0-0, -1"), get("seconds=1-2")] {
        let answer = exchange.run(alphabet);
        whole(&answer);
        assert_eq!(answer.headers["accept-ranges"], "bytes");
    }
}

#[test]
fn what_is_not_there_is_416_with_the_length() {
    let answer = get("bytes=26-").run(alphabet);
    assert_eq!(answer.status, Some(StatusCode::RANGE_NOT_SATISFIABLE));
    assert_eq!(answer.headers["content-range"], "bytes */26");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.headers["x-kept"], "1");
    for name in ["etag", "last-modified", "cache-control"] {
        assert!(!answer.headers.contains_key(name), "{name}");
    }
    assert!(answer.text().contains("26 bytes"), "{}", answer.text());
}

#[test]
fn if_range_wants_the_very_same_content() {
    let same = ["\"v1\"", DATE];
    let other = ["\"v2\"", "W/\"v1\"", "v1", "", "Sun, 06 Nov 1994 08:49:38 GMT", "\"v1\", \"v2\""];
    for condition in same {
        let answer = get("bytes=0-1").header("if-range", condition).run(alphabet);
        partial(&answer, "ab", "bytes 0-1/26");
    }
    for condition in other {
        whole(&get("bytes=0-1").header("if-range", condition).run(alphabet));
        // Not 416 either: the client would have got the whole.
        whole(&get("bytes=99-").header("if-range", condition).run(alphabet));
    }
    let weak =
        |request: Request| Response::text(ALPHABET).with_header("etag", "W/\"v1\"").with_range(&request);
    whole(&get("bytes=0-1").header("if-range", "W/\"v1\"").run(weak));
    let bare = |request: Request| Response::text(ALPHABET).with_range(&request);
    whole(&get("bytes=0-1").header("if-range", "\"v1\"").run(bare));
}

#[test]
fn only_a_get_is_cut() {
    for method in ["HEAD", "POST", "PUT", "get"] {
        whole(&Exchange::new(method, "/").header("range", "bytes=0-1").run(alphabet));
    }
}

#[test]
fn only_a_200_that_is_whole_is_cut() {
    let answer = get("bytes=0-1")
        .run(|request: Request| (StatusCode::NOT_FOUND, "gone").into_response().with_range(&request));
    assert_eq!((answer.status, answer.text()), (Some(StatusCode::NOT_FOUND), "gone"));
    let answer = get("bytes=9-").run(|request: Request| {
        Error::status(StatusCode::FORBIDDEN, "no").into_response().with_range(&request)
    });
    assert_eq!(answer.status, Some(StatusCode::FORBIDDEN));
    let answer = get("bytes=0-1").run(|request: Request| {
        Response::stream(|body| Ok(std::io::Write::write_all(body, b"streamed")?)).with_range(&request)
    });
    assert_eq!((answer.status, answer.text()), (Some(StatusCode::OK), "streamed"));
    assert!(!answer.headers.contains_key("accept-ranges") && answer.finished);
}

#[test]
fn the_length_of_the_whole_is_not_said_of_a_part() {
    let handler =
        |request: Request| Response::text(ALPHABET).with_header("content-length", "26").with_range(&request);
    let answer = get("bytes=1-3").run(handler);
    partial(&answer, "bcd", "bytes 1-3/26");
    assert!(!answer.headers.contains_key("content-length"));
    assert!(!get("bytes=99-").run(handler).headers.contains_key("content-length"));
}

/// Content that is made, not held: as long as anybody wants.
fn made(request: Request) -> Result<Response> {
    let length = 1 << 40;
    match range::requested(&request, length, &["\"made\""]) {
        Requested::Part(part) => Ok(Response::text(format!("{} bytes", part.len()))
            .with_status(StatusCode::PARTIAL_CONTENT)
            .with_header("content-range", part.content_range(length))),
        Requested::Unsatisfiable => Err(range::unsatisfiable(length)),
        Requested::Whole => Ok(Response::text("all")),
    }
}

#[test]
fn who_makes_content_learns_which_part_is_wanted() {
    let answer = get("bytes=-5").header("if-range", "\"made\"").run(made);
    partial(&answer, "5 bytes", "bytes 1099511627771-1099511627775/1099511627776");
    let answer = get("bytes=1099511627776-").run(made);
    assert_eq!(answer.status, Some(StatusCode::RANGE_NOT_SATISFIABLE));
    assert_eq!(answer.headers["content-range"], "bytes */1099511627776");
    assert_eq!(get("bytes=0-1").header("if-range", "\"x\"").run(made).text(), "all");
}

fn spec() -> impl Strategy<Value = String> {
    let number = prop_oneof![4 => 0_u64..40, 1 => any::<u64>(), 1 => Just(u64::MAX)];
    let first = prop::option::weighted(0.8, number.clone());
    let last = prop::option::weighted(0.7, number);
    (first, last).prop_map(|(first, last)| {
        let text = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        format!("{}-{}", text(first), text(last))
    })
}

/// Which bytes the field asks for, one by one: what RFC 9110 section 14.1.2 says and nothing else. `None`: invalid.
fn naive(specs: &[String], length: u64) -> Option<Vec<bool>> {
    let mut wanted = vec![false; length as usize];
    for spec in specs {
        let (first, last) = spec.split_once('-')?;
        let (first, last) = (first.parse::<u64>().ok(), last.parse::<u64>().ok());
        for (at, wanted) in (0..).zip(&mut wanted) {
            *wanted |= match (first, last) {
                (Some(first), Some(last)) if first > last => return None,
                (Some(first), last) => at >= first && last.is_none_or(|last| at <= last),
                (None, Some(count)) => at >= length.saturating_sub(count),
                (None, None) => return None,
            };
        }
    }
    Some(wanted)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_answer_is_what_was_asked_for_byte_by_byte(specs in prop::collection::vec(spec(), 1..4), length in 1_u64..40) {
        let field = format!("bytes={}", specs.join(", "));
        let wanted = naive(&specs, length);
        match parse(&field, length) {
            Requested::Part(part) => {
                prop_assert!(part.start < part.end && part.end <= length);
                prop_assert_eq!(part.len(), part.end - part.start);
                let inside: Vec<bool> = (0..length).map(|at| (part.start..part.end).contains(&at)).collect();
                prop_assert_eq!(Some(inside), wanted);
            }
            Requested::Unsatisfiable => prop_assert!(wanted.unwrap().iter().all(|wanted| !wanted)),
            Requested::Whole => {
                // Several parts, or a field that is not valid.
                let parts = wanted.map(|wanted| wanted.split(|wanted| !wanted).filter(|run| !run.is_empty()).count());
                prop_assert!(parts.is_none_or(|parts| parts > 1 || specs.len() > 1), "{}", field);
            }
        }
    }

    #[test]
    fn any_field_gives_a_part_within_the_content(field in "(bytes=)?[-0-9, a]{0,20}", length in any::<u64>()) {
        if let Requested::Part(part) = parse(&field, length) {
            prop_assert!(part.start < part.end && part.end <= length);
        }
    }

    #[test]
    fn what_is_sent_is_that_part_of_the_body(first in 0_usize..30, last in 0_usize..30) {
        let answer = get(&format!("bytes={first}-{last}")).run(alphabet);
        match answer.status.unwrap().as_u16() {
            206 => prop_assert_eq!(answer.text(), &ALPHABET[first..(last + 1).min(26)]),
            416 => prop_assert!(first >= 26),
            status => prop_assert!(status == 200 && last < first),
        }
    }
}
