//! Request targets and authorities: the four forms, Host, and what is refused in them (RFC 9112 3.2, RFC 3986).
//!
//! Pure functions from text to borrowed parts. Nothing is decoded or normalised: paths are routed as they came, so
//! that what the router saw is what the guest sees. In exchange, whatever a later reader might normalise into
//! another path (dot-segments) is refused here.

use core::net::Ipv6Addr;

use crate::error::PeerError;

/// Which of the four forms a target has (RFC 9112 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`, of nearly every request.
    Origin,
    /// `http://host/path?query`, as towards a proxy.
    Absolute,
    /// `host:port`, of CONNECT only.
    Authority,
    /// `*`, of OPTIONS only.
    Asterisk,
}

/// A target taken apart. The parts borrow from its text, but for the path of an absolute form without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Which form it had.
    pub form: TargetForm,
    /// The authority of an absolute or authority form, checked.
    pub authority: Option<&'a str>,
    /// The path as received: `/` where an absolute form leaves it out, `*` for OPTIONS of the server as a whole,
    /// empty for CONNECT.
    pub path: &'a str,
    /// What follows the first `?`, without it.
    pub query: Option<&'a str>,
}

/// An authority taken apart (RFC 3986 3.2, without userinfo).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host as it came, an IPv6 literal in its brackets, without the port and without one trailing dot.
    pub host: &'a str,
    /// The port, where one is given.
    pub port: Option<u16>,
}

const BAD_BYTE: PeerError = PeerError::Malformed("the target holds a byte that no URI may hold (RFC 3986 2)");
const FRAGMENT: PeerError = PeerError::Malformed("the target holds a fragment (RFC 9112 3.2)");
const NO_FORM: PeerError =
    PeerError::Malformed("the target has none of the forms its method allows (RFC 9112 3.2)");
const ASTERISK: PeerError = PeerError::Malformed("the target * is for OPTIONS only (RFC 9112 3.2.4)");
const SCHEME: PeerError = PeerError::Malformed("the target's scheme is not http or https (RFC 9110 4.2)");
const DOT_SEGMENT: PeerError = PeerError::Malformed("the path holds a dot-segment (RFC 3986 5.2.4)");
const BAD_AUTHORITY: PeerError =
    PeerError::Malformed("Host or the target's authority is invalid (RFC 9112 3.2)");
const USERINFO: PeerError =
    PeerError::Malformed("userinfo in Host or the target's authority (RFC 9110 4.2.4)");
const BAD_PORT: PeerError =
    PeerError::Malformed("the port in Host or the target is invalid (RFC 3986 3.2.3)");

/// Which bytes may stand in a target: visible ASCII without the characters that RFC 3986 leaves out. A table, as
/// every byte of every target is looked up.
// Evaluated when it is compiled, where an index out of range would be an error of the build.
#[allow(clippy::indexing_slicing)]
const TARGET_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest: &[u8] =
        b"!$%&'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz~";
    while let [byte, tail @ ..] = rest {
        table[*byte as usize] = true;
        rest = tail;
    }
    table
};

pub(crate) fn is_target_byte(byte: u8) -> bool {
    TARGET_BYTES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Takes a target apart as its method has it.
///
/// # Errors
/// [`PeerError::Malformed`] for a form that the method does not allow, a byte outside RFC 3986, a fragment, an
/// invalid authority, or a dot-segment in the path, percent-encoded or not.
pub fn parse_target<'a>(method: &str, target: &'a str) -> Result<Target<'a>, PeerError> {
    if !target.bytes().all(is_target_byte) {
        return Err(if target.contains('#') { FRAGMENT } else { BAD_BYTE });
    }
    if method == "CONNECT" {
        let authority = parse_authority(target)?;
        if authority.host.is_empty() || authority.port.is_none() {
            return Err(NO_FORM);
        }
        return Ok(Target { form: TargetForm::Authority, authority: Some(target), path: "", query: None });
    }
    if target.starts_with('/') {
        let (path, query) = split_query(target);
        check_dot_segments(path)?;
        return Ok(Target { form: TargetForm::Origin, authority: None, path, query });
    }
    if target == "*" {
        if method != "OPTIONS" {
            return Err(ASTERISK);
        }
        return Ok(Target { form: TargetForm::Asterisk, authority: None, path: target, query: None });
    }
    parse_absolute(method, target)
}

fn parse_absolute<'a>(method: &str, target: &'a str) -> Result<Target<'a>, PeerError> {
    let (scheme, rest) = target.split_once("://").ok_or(NO_FORM)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) { SCHEME } else { NO_FORM });
    }
    let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end).ok_or(NO_FORM)?;
    if parse_authority(authority)?.host.is_empty() {
        return Err(BAD_AUTHORITY);
    }
    let (path, query) = split_query(rest);
    check_dot_segments(path)?;
    // RFC 9112 3.2.4: OPTIONS of an authority without path or query speaks of the server as a whole.
    let path = match (path, query, method) {
        ("", None, "OPTIONS") => "*",
        ("", _, _) => "/",
        _ => path,
    };
    Ok(Target { form: TargetForm::Absolute, authority: Some(authority), path, query })
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)))
}

/// Refuses `.` and `..` as segments, with either dot also as `%2e`.
fn check_dot_segments(path: &str) -> Result<(), PeerError> {
    let bytes = path.as_bytes();
    // Only a segment that begins with a dot, written either way, is worth a look; nearly every path has none.
    for dot in memchr::memchr2_iter(b'.', b'%', bytes) {
        let (before, from) = bytes.split_at_checked(dot).unwrap_or_default();
        if before.last() == Some(&b'/') && from.split(|byte| *byte == b'/').next().is_some_and(is_dot_segment)
        {
            return Err(DOT_SEGMENT);
        }
    }
    Ok(())
}

fn is_dot_segment(segment: &[u8]) -> bool {
    let mut rest = segment;
    let mut dots = 0_u8;
    while let [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] = rest {
        rest = tail;
        dots = dots.saturating_add(1);
    }
    rest.is_empty() && matches!(dots, 1 | 2)
}

/// Takes an authority apart: the value of Host, or that part of a target.
///
/// An empty one is allowed here, as RFC 9112 3.2 has it for Host; a caller that needs a host checks for it.
///
/// # Errors
/// [`PeerError::Malformed`] for userinfo, a path, a list, white space, a byte that no registered name holds, an
/// IPv6 literal that is none, or a port that is no number within 16 bits.
pub fn parse_authority(text: &str) -> Result<Authority<'_>, PeerError> {
    if text.is_empty() {
        return Ok(Authority { host: "", port: None });
    }
    let (host, port) = if text.starts_with('[') { split_literal(text)? } else { split_name(text)? };
    let port = match port {
        // RFC 3986 3.2.3: a colon with nothing behind it is the default port.
        None | Some("") => None,
        Some(digits) => Some(parse_port(digits)?),
    };
    Ok(Authority { host, port })
}

/// `[address]` and what follows its colon.
fn split_literal(text: &str) -> Result<(&str, Option<&str>), PeerError> {
    let close = text.find(']').ok_or(BAD_AUTHORITY)?;
    let (host, rest) = text.split_at_checked(close.saturating_add(1)).ok_or(BAD_AUTHORITY)?;
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).ok_or(BAD_AUTHORITY)?;
    address.parse::<Ipv6Addr>().map_err(|_| BAD_AUTHORITY)?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(BAD_AUTHORITY),
    }
}

/// A registered name or IPv4 address, and what follows its colon.
fn split_name(text: &str) -> Result<(&str, Option<&str>), PeerError> {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    check_name(name)?;
    if text.contains('@') {
        return Err(USERINFO);
    }
    // A fully qualified name is the same host (RFC 3986 3.2.2).
    let host = name.strip_suffix('.').unwrap_or(name);
    if host.is_empty() {
        return Err(BAD_AUTHORITY);
    }
    Ok((host, port))
}

/// A reg-name (RFC 3986 3.2.2) without the comma, which only a list of hosts would have.
fn check_name(name: &str) -> Result<(), PeerError> {
    let mut rest = name.as_bytes();
    loop {
        rest = match rest {
            [] => return Ok(()),
            [b'%', a, b, tail @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
            [b'-' | b'.' | b'_' | b'~', tail @ ..] => tail,
            [b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=', tail @ ..] => tail,
            [byte, tail @ ..] if byte.is_ascii_alphanumeric() => tail,
            [b'@', ..] => return Err(USERINFO),
            _ => return Err(BAD_AUTHORITY),
        };
    }
}

fn parse_port(digits: &str) -> Result<u16, PeerError> {
    // `parse` alone would take a plus sign.
    if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(if digits.contains('@') { USERINFO } else { BAD_PORT });
    }
    digits.parse().map_err(|_| BAD_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_by_form() {
        use TargetForm::{Absolute, Asterisk, Authority, Origin};
        let table = [
            ("GET", "/", Origin, None, "/", None),
            ("GET", "/a/b?c=d", Origin, None, "/a/b", Some("c=d")),
            ("GET", "/?", Origin, None, "/", Some("")),
            ("GET", "/a?b?c/../d", Origin, None, "/a", Some("b?c/../d")),
            ("GET", "//double", Origin, None, "//double", None),
            ("GET", "/a[0]!$&'()*+,;=:@%20", Origin, None, "/a[0]!$&'()*+,;=:@%20", None),
            ("GET", "/http://x/", Origin, None, "/http://x/", None),
            ("GET", "http://a.example/p?q", Absolute, Some("a.example"), "/p", Some("q")),
            ("GET", "HTTPS://a.example:8443", Absolute, Some("a.example:8443"), "/", None),
            ("GET", "http://a.example?q", Absolute, Some("a.example"), "/", Some("q")),
            ("GET", "http://[::1]:80/", Absolute, Some("[::1]:80"), "/", None),
            ("OPTIONS", "http://a.example", Absolute, Some("a.example"), "*", None),
            ("OPTIONS", "*", Asterisk, None, "*", None),
            ("OPTIONS", "/x", Origin, None, "/x", None),
            ("CONNECT", "a.example:443", Authority, Some("a.example:443"), "", None),
        ];
        for (method, target, form, authority, path, query) in table {
            assert_eq!(
                parse_target(method, target),
                Ok(Target { form, authority, path, query }),
                "{method} {target}"
            );
        }
    }

    #[test]
    fn targets_refused() {
        let table = [
            ("GET", "", NO_FORM),
            ("GET", "*", ASTERISK),
            ("GET", "a.example:80", NO_FORM),
            ("GET", "path", NO_FORM),
            ("GET", "?q", NO_FORM),
            ("GET", "/a#b", FRAGMENT),
            ("GET", "/a\"b", BAD_BYTE),
            ("GET", "/<", BAD_BYTE),
            ("GET", "/>", BAD_BYTE),
            ("GET", "/\\", BAD_BYTE),
            ("GET", "/^", BAD_BYTE),
            ("GET", "/`", BAD_BYTE),
            ("GET", "/{", BAD_BYTE),
            ("GET", "/}", BAD_BYTE),
            ("GET", "/|", BAD_BYTE),
            ("GET", "/\u{e9}", BAD_BYTE),
            ("GET", "/\t", BAD_BYTE),
            ("GET", "/\u{7f}", BAD_BYTE),
            ("GET", "ftp://a.example/", SCHEME),
            ("GET", "ht/tp://a.example/", NO_FORM),
            ("GET", "http:///p", BAD_AUTHORITY),
            ("GET", "http://?q", BAD_AUTHORITY),
            ("GET", "http://u@a.example/", USERINFO),
            ("GET", "http://u:p@a.example/", USERINFO),
            ("GET", "http://a.example:http/", BAD_PORT),
            ("GET", "http:/a", NO_FORM),
            ("CONNECT", "/", BAD_AUTHORITY),
            ("CONNECT", "a.example", NO_FORM),
            ("CONNECT", "http://a.example/", BAD_PORT),
            ("OPTIONS", "**", NO_FORM),
        ];
        for (method, target, error) in table {
            assert_eq!(parse_target(method, target), Err(error), "{method} {target}");
        }
    }

    #[test]
    fn dot_segments() {
        for path in [
            "/.",
            "/..",
            "/./",
            "/../",
            "/a/../b",
            "/a/.",
            "/a/..",
            "/%2e",
            "/%2E%2e/",
            "/.%2E/",
            "/%2e./x",
            "/a/%2e%2E",
            "http://a.example/../x",
        ] {
            assert_eq!(parse_target("GET", path), Err(DOT_SEGMENT), "{path}");
        }
        for path in [
            "/...",
            "/.a",
            "/a.",
            "/a..b/",
            "/..a",
            "/.well-known/x",
            "/%2e%2e%2e",
            "/%2f..x",
            "/a%2",
            "/?/../",
        ] {
            assert!(parse_target("GET", path).is_ok(), "{path}");
        }
    }

    #[test]
    fn authorities() {
        let table = [
            ("", "", None),
            ("a.example", "a.example", None),
            ("A.Example:8080", "A.Example", Some(8080)),
            ("a.example.", "a.example", None),
            ("a.example.:80", "a.example", Some(80)),
            ("a.example:", "a.example", None),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("a_b~c!$&'()*+;=", "a_b~c!$&'()*+;=", None),
            ("a%20b", "a%20b", None),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:443", "[2001:DB8::1]", Some(443)),
            ("[::ffff:1.2.3.4]:", "[::ffff:1.2.3.4]", None),
            ("a:65535", "a", Some(65535)),
            ("a:0", "a", Some(0)),
        ];
        for (text, host, port) in table {
            assert_eq!(parse_authority(text), Ok(Authority { host, port }), "{text}");
        }
    }

    #[test]
    fn authorities_refused() {
        let table = [
            ("u@a", USERINFO),
            ("u:p@a", USERINFO),
            ("@", USERINFO),
            ("a/", BAD_AUTHORITY),
            ("a/b", BAD_AUTHORITY),
            ("a?b", BAD_AUTHORITY),
            ("a#b", BAD_AUTHORITY),
            ("a, b", BAD_AUTHORITY),
            ("a,b", BAD_AUTHORITY),
            ("a b", BAD_AUTHORITY),
            ("a\tb", BAD_AUTHORITY),
            ("http://a", BAD_PORT),
            (":80", BAD_AUTHORITY),
            (".", BAD_AUTHORITY),
            ("a%2", BAD_AUTHORITY),
            ("a%zz", BAD_AUTHORITY),
            ("a:b", BAD_PORT),
            ("a:+80", BAD_PORT),
            ("a:-1", BAD_PORT),
            ("a:80:80", BAD_PORT),
            ("a:65536", BAD_PORT),
            ("a:000080", BAD_PORT),
            ("a:80 ", BAD_PORT),
            ("::1", BAD_AUTHORITY),
            ("[::1", BAD_AUTHORITY),
            ("[::1]x", BAD_AUTHORITY),
            ("[::1]:x", BAD_PORT),
            ("[::g]", BAD_AUTHORITY),
            ("[fe80::1%25eth0]", BAD_AUTHORITY),
            ("[v1.a]", BAD_AUTHORITY),
            ("[1.2.3.4]", BAD_AUTHORITY),
            ("[]", BAD_AUTHORITY),
            ("\u{e9}", BAD_AUTHORITY),
        ];
        for (text, error) in table {
            assert_eq!(parse_authority(text), Err(error), "{text}");
        }
    }
}
