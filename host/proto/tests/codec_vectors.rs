//! Runs the wire vectors through the codec alone: each whole, byte by byte, and split in two at every byte.

mod common;
#[path = "common/driver.rs"]
mod driver;

use common::{Case, End, load};
use driver::{Accepted, Outcome, run};
use tidegate_proto::http1::head::Version;
use tidegate_proto::limits::Limits;

/// Up to here an input is split at every byte; a longer one at its first and last so many bytes, and at every
/// 251st between them, as every split of 64 KiB would take minutes and add nothing.
const SPLIT_EVERYWHERE_BYTES: usize = 2_048;

fn check(case: &Case, outcome: &Outcome) {
    let name = &case.name;
    assert_eq!(outcome.end, case.end(), "{name} ({}): {:?}", case.section, outcome.detail);
    assert_eq!(outcome.requests.len(), case.accept.len(), "{name}: {:?}", outcome.requests);
    for (got, expected) in outcome.requests.iter().zip(&case.accept) {
        assert_eq!((&got.method, &got.target), (&expected.method, &expected.target()), "{name}");
        let version = if got.version == Version::Http10 { "1.0" } else { "1.1" };
        assert_eq!(version, expected.version, "{name}");
        assert_eq!(expected.host.as_ref().unwrap_or(&got.host), &got.host, "{name}");
        assert_eq!(expected.path.as_ref().unwrap_or(&got.path), &got.path, "{name}");
        assert_eq!(got.body.escape_ascii().to_string(), expected.body().escape_ascii().to_string(), "{name}");
        assert_eq!(got.trailers, expected.trailers(), "{name}");
        assert_eq!(got.framing.keep_alive, expected.keep_alive, "{name}: keep-alive");
        assert_eq!(got.framing.expect_continue, expected.expect_continue, "{name}: expect");
        for (field, value) in expected.fields() {
            assert_eq!(field_of(got, field), Some(value.as_slice()), "{name}: {field}");
        }
    }
}

fn field_of<'a>(request: &'a Accepted, name: &str) -> Option<&'a [u8]> {
    request.fields.iter().find(|(have, _)| have == name.as_bytes()).map(|(_, value)| value.as_slice())
}

fn split_points(length: usize) -> impl Iterator<Item = usize> {
    let edge = SPLIT_EVERYWHERE_BYTES / 2;
    (0..=length).filter(move |at| {
        length <= SPLIT_EVERYWHERE_BYTES || *at <= edge || length - at <= edge || at.is_multiple_of(251)
    })
}

#[test]
fn vectors_whole() {
    let cases = load("http1");
    assert!(cases.len() > 100, "the file holds every case of the rules: {}", cases.len());
    for case in &cases {
        check(case, &run([case.input().as_slice()], &Limits::default(), usize::MAX));
    }
}

#[test]
fn vectors_byte_by_byte() {
    for case in load("http1") {
        let input = case.input();
        let whole = run([input.as_slice()], &Limits::default(), usize::MAX);
        assert_eq!(run(input.chunks(1), &Limits::default(), usize::MAX), whole, "{}", case.name);
        assert_eq!(run(input.chunks(3), &Limits::default(), 2), whole, "{} with little room", case.name);
    }
}

#[test]
fn vectors_split_at_every_byte() {
    for case in load("http1") {
        let input = case.input();
        let whole = run([input.as_slice()], &Limits::default(), usize::MAX);
        for at in split_points(input.len()) {
            let (first, second) = input.split_at(at);
            assert_eq!(
                run([first, second], &Limits::default(), usize::MAX),
                whole,
                "{} split at {at}",
                case.name
            );
        }
    }
}

/// What was refused stays refused whatever follows, and a request that is whole is served whatever follows it.
#[test]
fn refusals_do_not_depend_on_what_follows() {
    for case in load("http1").iter().filter(|case| matches!(case.end(), End::Refused(_) | End::Closed)) {
        let mut input = case.input();
        input.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        check(case, &run([input.as_slice()], &Limits::default(), usize::MAX));
    }
}
