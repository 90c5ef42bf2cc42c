//! The fields with which proxies say for whom they ask: `X-Forwarded-For` and its kin, or `Forwarded` (RFC 7239).
//!
//! Every proxy adds the address that it was asked from at the right end; what stands left of that anybody may have made
//! up. So a chain is read from the right: past the proxies that are trusted, to the first address that is not one of
//! theirs. Must never know who the peer is: whoever calls has found it to be trusted.
//!
//! Invariants: nothing that a client wrote is believed beyond what a trusted proxy wrote to the right of it; the work is
//! linear in the bytes of the fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{canonical, port};
use crate::http1::fields::{Fields, is_token_byte, trim_ows};

/// Trusted hops that are passed over; a longer chain is not believed.
const HOPS_MAX: usize = 64;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";

/// Which fields a proxy writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and whatever else begins so, and `X-Real-IP`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Family {
    /// The family that a field belongs to, by its name in lower case. `_` counts as `-`: many a gateway makes the same
    /// variable of both.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        let is = |name: &[u8], known: &[u8]| {
            name.len() == known.len()
                && name.iter().zip(known).all(|(a, b)| a == b || (*a == b'_' && *b == b'-'))
        };
        let prefixed = || {
            let (start, rest) = name.split_at_checked(b"x-forwarded".len())?;
            (is(start, b"x-forwarded") && matches!(rest, [] | [b'-' | b'_', ..])).then_some(())
        };
        match name.first() {
            Some(b'f') if name == b"forwarded" => Some(Self::Forwarded),
            Some(b'x') if prefixed().is_some() || is(name, b"x-real-ip") => Some(Self::XForwarded),
            _ => None,
        }
    }
}

/// What is said of a request's client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its address, with port 0 where none is said. None: nothing is said, or nothing that can be used.
    pub client: Option<SocketAddr>,
    /// Whether it came over https. None: nothing is said.
    pub secure: Option<bool>,
}

/// Reads what a trusted peer says in the fields of one family. `trusts` tells which addresses are those of proxies.
///
/// The client is the right-most address that is not a proxy's, or the left-most if all are. If that place holds something
/// else, as `unknown`, there is none.
#[must_use]
pub fn origin(fields: &Fields, family: Family, trusts: impl Fn(IpAddr) -> bool) -> Origin {
    match family {
        Family::XForwarded => x_forwarded(fields, trusts),
        Family::Forwarded => forwarded(fields, trusts).unwrap_or_default(),
    }
}

/// The elements of a list from the last to the first, over all of its lines; empty ones do not count (RFC 9110 5.6.1).
fn from_right<'a>(fields: &'a Fields, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = fields.iter().rev().filter(move |(have, _)| *have == name.as_bytes());
    let elements = lines.flat_map(|(_, value)| value.rsplit(|byte| *byte == b','));
    elements.map(trim_ows).filter(|element| !element.is_empty())
}

fn x_forwarded(fields: &Fields, trusts: impl Fn(IpAddr) -> bool) -> Origin {
    let (mut client, mut place) = (None, 0);
    for (at, element) in from_right(fields, FOR).enumerate() {
        place = at;
        client = node(element).filter(|_| at < HOPS_MAX);
        if client.is_none_or(|addr| !trusts(addr.ip())) {
            break;
        }
    }
    // A proxy that adds to the one list adds to the other; one that replaces leaves a single word.
    let said = from_right(fields, PROTO).take(place.saturating_add(1)).last();
    Origin { client, secure: said.and_then(is_https) }
}

/// None: a line is malformed, and nothing left of its end can be told apart.
fn forwarded(fields: &Fields, trusts: impl Fn(IpAddr) -> bool) -> Option<Origin> {
    let mut hops = 0_usize;
    let mut left_most = Element::default();
    for (_, value) in fields.iter().rev().filter(|(name, _)| *name == b"forwarded") {
        let (mut first, mut stop, mut passed) = (None, None, 0_usize);
        let mut rest = Some(value);
        while let Some(input) = rest {
            let (element, after) = element(input)?;
            rest = after;
            let Some(element) = element else { continue };
            if element.client.is_some_and(|addr| trusts(addr.ip())) {
                first.get_or_insert(element);
                passed = passed.saturating_add(1);
            } else {
                (stop, passed) = (Some(element), 0);
            }
        }
        hops = hops.saturating_add(passed);
        if hops > HOPS_MAX {
            return None;
        }
        if let Some(stop) = stop {
            return Some(stop.origin());
        }
        left_most = first.unwrap_or(left_most);
    }
    Some(left_most.origin())
}

/// What one proxy adds to `Forwarded`.
#[derive(Clone, Copy, Debug, Default)]
struct Element<'a> {
    client: Option<SocketAddr>,
    named: bool,
    proto: Option<&'a [u8]>,
}

impl<'a> Element<'a> {
    /// None: a parameter is there twice.
    fn set(&mut self, name: &[u8], value: &'a [u8]) -> Option<()> {
        let before = if name.eq_ignore_ascii_case(b"for") {
            self.client = node(value);
            std::mem::replace(&mut self.named, true)
        } else if name.eq_ignore_ascii_case(b"proto") {
            self.proto.replace(value).is_some()
        } else {
            false
        };
        (!before).then_some(())
    }

    fn origin(self) -> Origin {
        Origin { client: self.client, secure: self.proto.and_then(is_https) }
    }
}

/// An element and what follows its comma.
type Parsed<'a> = (Option<Element<'a>>, Option<&'a [u8]>);

/// The element that `input` begins with, if it is not empty, and what is behind its comma, if there is one.
fn element(input: &[u8]) -> Option<Parsed<'_>> {
    let mut element = None::<Element<'_>>;
    let mut rest = input;
    loop {
        rest = trim_ows(rest);
        let name_len = rest.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(rest.len());
        if let Some((name @ [_, ..], after)) = rest.split_at_checked(name_len) {
            let (value, after) = value(after.strip_prefix(b"=")?)?;
            element.get_or_insert_default().set(name, value)?;
            rest = trim_ows(after);
        }
        match rest.split_first() {
            None => return Some((element, None)),
            Some((b',', after)) => return Some((element, Some(after))),
            Some((b';', after)) => rest = after,
            Some(_) => return None,
        }
    }
}

/// The value that `input` begins with, and what is behind it. A backslash stays: nothing that is read here needs one.
fn value(input: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(quoted) = input.strip_prefix(b"\"") {
        let mut escaped = false;
        let end = quoted.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })?;
        let (value, after) = quoted.split_at_checked(end)?;
        return Some((value, after.strip_prefix(b"\"")?));
    }
    // Addresses with colons should be quoted, and often are not.
    let ends = |byte: &u8| matches!(byte, b';' | b',' | b'"' | b' ' | b'\t');
    let (value, after) = input.split_at_checked(input.iter().position(ends).unwrap_or(input.len()))?;
    (!value.is_empty()).then_some((value, after))
}

/// An address, with a port or without: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`. A
/// port may be obfuscated (RFC 7239 6.3): then it counts as none.
fn node(bytes: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (ip, rest) = if let Some(inside) = text.strip_prefix('[') {
        let (addr, rest) = inside.split_once(']')?;
        (IpAddr::V6(addr.parse::<Ipv6Addr>().ok()?), rest)
    } else if let Ok(addr) = text.parse::<Ipv6Addr>() {
        (IpAddr::V6(addr), "")
    } else {
        let (addr, rest) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
        (IpAddr::V4(addr.parse::<Ipv4Addr>().ok()?), rest)
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => 0,
        None => return None,
        Some(hidden) if hidden.starts_with('_') && hidden.bytes().all(is_token_byte) => 0,
        Some(digits) => port(digits)?,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// Whether a scheme is secure; of one that is not known here nothing is said.
fn is_https(scheme: &[u8]) -> Option<bool> {
    let is = |names: [&[u8]; 2]| names.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    // Some proxies name the scheme of an upgrade.
    if is([b"https", b"wss"]) { Some(true) } else { is([b"http", b"ws"]).then_some(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_families() {
        let x =
            ["x-forwarded-for", "x-forwarded-proto", "x-forwarded", "x-forwarded-client-cert", "x-real-ip"];
        let folded = ["x_forwarded_for", "x-forwarded_host", "x_real-ip"];
        for name in x.into_iter().chain(folded) {
            assert_eq!(Family::of(name.as_bytes()), Some(Family::XForwarded), "{name}");
        }
        assert_eq!(Family::of(b"forwarded"), Some(Family::Forwarded));
        for name in ["", "x", "x-forward", "x-forwardedness", "x-real-ips", "forwarded-for", "for", "host"] {
            assert_eq!(Family::of(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn nodes() {
        let table = [
            ("192.0.2.1", Some("192.0.2.1:0")),
            ("192.0.2.1:80", Some("192.0.2.1:80")),
            ("192.0.2.1:_p", Some("192.0.2.1:0")),
            ("2001:db8::1", Some("[2001:db8::1]:0")),
            ("[2001:db8::1]", Some("[2001:db8::1]:0")),
            ("[2001:db8::1]:65535", Some("[2001:db8::1]:65535")),
            ("::ffff:192.0.2.1", Some("192.0.2.1:0")),
            ("[::ffff:192.0.2.1]:7", Some("192.0.2.1:7")),
        ];
        for (text, addr) in table {
            assert_eq!(node(text.as_bytes()).map(|addr| addr.to_string()).as_deref(), addr, "{text}");
        }
        for bad in [
            "",
            "unknown",
            "_hidden",
            "unix:",
            "192.0.2",
            "192.0.2.1.5",
            "192.0.2.01",
            "192.0.2.1:",
            "192.0.2.1:80:80",
            "192.0.2.1:65536",
            "192.0.2.1:+1",
            "192.0.2.1:080",
            "192.0.2.1 ",
            "[192.0.2.1]",
            "[2001:db8::1",
            "[2001:db8::1]x",
            "2001:db8::1]",
            "[fe80::1%eth0]",
            "3221225985",
            "localhost",
            "\u{660}.0.0.1",
        ] {
            assert_eq!(node(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(node(b"\xff"), None);
    }
}
