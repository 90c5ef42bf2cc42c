//! Request targets and what becomes of them below a folder: a path that is taken, once decoded by whoever serves files,
//! never leaves it.

use std::path::{Component, Path};

use tidegate_proto::http1::head::{HeadScanner, RequestHead, parse};
use tidegate_proto::http1::target::{TargetForm, parse_authority, parse_target};
use tidegate_proto::limits::Limits;

use crate::input::Choices;

const INPUT_BYTES_MAX: usize = 1024;

/// Escapes become bytes, once; what is none stays.
fn decoded(path: &str) -> Vec<u8> {
    let (bytes, mut at, mut out) = (path.as_bytes(), 0, Vec::new());
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let hex = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) if byte == b'%' => {
                out.push(escaped);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Segment by segment, as a careful server would map it, it goes down or stays.
fn check_below(path: &str) {
    for segment in path.split('/') {
        let segment = decoded(segment);
        assert!(!matches!(segment.as_slice(), b"." | b".."), "a dot-segment in {path:?}");
        // A slash that was escaped makes a segment of two: whoever decodes first and splits then is on their own, and
        // so is told apart here.
        let Ok(text) = std::str::from_utf8(&segment) else { continue };
        if !text.contains('/') {
            let climbs = Path::new(text).components().any(|part| part == Component::ParentDir);
            assert!(!climbs, "{text:?} of {path:?} leaves the folder");
        }
    }
}

fn check(method: &str, text: &str) -> bool {
    let Ok(target) = parse_target(method, text) else { return false };
    match target.form {
        TargetForm::Origin => {
            let query = target.query.map(|query| format!("?{query}")).unwrap_or_default();
            assert_eq!(format!("{}{query}", target.path), text, "the parts are the whole");
            assert!(target.path.starts_with('/') && target.authority.is_none());
        }
        TargetForm::Absolute => {
            let authority = target.authority.expect("an absolute form has one");
            assert!(text.contains(authority) && parse_authority(authority).is_ok());
            assert!(target.path.starts_with('/') || (target.path == "*" && method == "OPTIONS"));
            // Without scheme and authority it is the same path.
            let query = target.query.map(|query| format!("?{query}")).unwrap_or_default();
            let origin = format!("{}{query}", target.path);
            let again = parse_target(method, &origin).expect("the origin form of an absolute one");
            assert_eq!((again.path, again.query), (target.path, target.query));
        }
        TargetForm::Authority => assert!(method == "CONNECT" && target.path.is_empty()),
        TargetForm::Asterisk => assert!(method == "OPTIONS" && text == "*"),
    }
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{text:?}");
    check_below(target.path);
    true
}

/// Choices: the method. The rest is a target, or behind a line's end a Host.
pub fn target(input: &[u8]) {
    let mut choices = Choices::new(input);
    let method = choices.pick(&["GET", "OPTIONS", "CONNECT", "POST"]);
    let rest = choices.rest(INPUT_BYTES_MAX);
    let (line, host) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &b"a"[..]),
    };
    let taken = std::str::from_utf8(line).is_ok_and(|text| check(method, text));
    // As a part of a request it is taken only if it is taken by itself, and Host only if it is an authority.
    let request = [method.as_bytes(), b" ", line, b" HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
    let limits = Limits::default();
    let (mut scanner, mut head) = (HeadScanner::default(), RequestHead::default());
    let Ok(Some(len)) = scanner.scan(&request, &limits) else { return };
    if parse(&request[..len], &limits, &mut head).is_err() || len != request.len() {
        return;
    }
    let single = !host.windows(2).any(|two| two == b"\r\n");
    assert!(!single || taken, "{}", request.escape_ascii());
    assert_eq!(head.target().as_bytes(), line);
    check_below(head.path());
    let host = head.host();
    assert!(
        !host.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || b"/@?#\\".contains(&byte)),
        "{host:?}"
    );
    if single && !head.authority().is_empty() {
        assert!(parse_authority(head.authority()).is_ok(), "{}", head.authority());
    }
}
