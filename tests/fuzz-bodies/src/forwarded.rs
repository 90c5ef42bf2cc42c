//! The fields of proxies: whatever a client sends, it does not become another's address behind a proxy that adds to it,
//! and whom the fields name stands in them.

use std::net::{IpAddr, SocketAddr};

use tidegate_proto::edge::canonical;
use tidegate_proto::edge::forwarded::{Family, origin};
use tidegate_proto::http1::fields::Fields;

use crate::input::Choices;

const INPUT_BYTES_MAX: usize = 2048;
/// Trusted hops that are passed over.
const HOPS_MAX: usize = 64;
/// Whom the trusted proxy was asked by.
const TRUE: &str = "192.0.2.77";

fn trusts(ip: IpAddr) -> bool {
    matches!(ip.to_canonical(), IpAddr::V4(ip) if ip.octets()[0] == 10)
}

fn fields_of(name: &str, lines: &[Vec<u8>]) -> Fields {
    let mut fields = Fields::default();
    for line in lines {
        fields.push(name.as_bytes(), line);
    }
    fields
}

/// An address as any library reads it. Stricter rules on ports than these only ever make it nobody's.
fn lenient(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let ip = |text: &str| text.parse::<IpAddr>().ok();
    let bare = || text.strip_prefix('[')?.strip_suffix(']').and_then(ip);
    let hidden = || {
        let (addr, _) = text.rsplit_once(":_")?;
        ip(addr.strip_prefix('[').and_then(|addr| addr.strip_suffix(']')).unwrap_or(addr))
    };
    let port = || text.parse::<SocketAddr>().ok().map(|addr| addr.ip());
    let found = ip(text).or_else(bare).or_else(port).or_else(hidden)?;
    Some(canonical(SocketAddr::new(found, 0)).ip())
}

/// `X-Forwarded-For`, read from the right by hand: the client, or that it is one that nobody may name.
fn check_list(lines: &[Vec<u8>]) {
    let found = origin(&fields_of("x-forwarded-for", lines), Family::XForwarded, trusts).client;
    let all = lines.join(&b","[..]);
    let elements = all.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty());
    let from_right: Vec<_> = elements.rev().collect();
    let at = from_right.iter().position(|element| !lenient(element).is_some_and(trusts));
    let Some(place) = at.or(from_right.len().checked_sub(1)) else {
        assert_eq!(found, None, "of nothing");
        return;
    };
    if let Some(addr) = found {
        // A port that is not one ends the list where it stands: never further to the left.
        assert!(place < HOPS_MAX, "a chain that is too long is believed");
        assert_eq!(Some(addr.ip()), lenient(from_right[place]), "not the one whose turn it is");
    }
}

fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start().trim_ascii_end()
}

/// Behind what the client sent a proxy that is trusted adds who asked it.
fn check_added(name: &str, family: Family, sent: &[Vec<u8>], own_line: bool) {
    let mine = if family == Family::Forwarded { format!("for={TRUE}") } else { TRUE.to_owned() };
    let mut lines = sent.to_vec();
    match lines.last_mut() {
        Some(line) if !own_line => {
            line.extend_from_slice(b", ");
            line.extend_from_slice(mine.as_bytes());
        }
        _ => lines.push(mine.into_bytes()),
    }
    let client = origin(&fields_of(name, &lines), family, trusts).client;
    let expected = TRUE.parse::<IpAddr>().ok();
    // Quotes that the client opened may swallow what the proxy added: then there is nobody.
    let swallowed = family == Family::Forwarded && !own_line && client.is_none();
    assert!(swallowed || client.map(|addr| addr.ip()) == expected, "{client:?} of {lines:?}");
}

/// Choices: whether the proxy adds a line of its own. The rest are lines.
pub fn forwarded(input: &[u8]) {
    let mut choices = Choices::new(input);
    let own_line = choices.byte().is_multiple_of(2);
    let is_value = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let rest = choices.rest(INPUT_BYTES_MAX);
    // What is no value of a field does not come as far as this.
    let lines: Vec<Vec<u8>> = rest
        .split(|byte| *byte == b'\n')
        .map(|line| trim(line).iter().copied().filter(is_value).collect())
        .collect();
    check_list(&lines);
    for (name, family) in [("x-forwarded-for", Family::XForwarded), ("forwarded", Family::Forwarded)] {
        check_added(name, family, &lines, own_line);
        let fields = fields_of(name, &lines);
        let (nobody, everybody) = (origin(&fields, family, |_| false), origin(&fields, family, |_| true));
        // Whoever trusts nobody takes the last address, and whoever trusts everybody the first.
        assert!(everybody.client.is_none() || nobody.client.is_some());
    }
}
