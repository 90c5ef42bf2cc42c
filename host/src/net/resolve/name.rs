//! What a guest may ask for: a host's name or an address, parsed once.
//!
//! It knows nothing of name servers. A [`Name`] is what may be put into a query and into the cache: in lower case, without
//! the trailing dot, with labels that have a length. Two spellings of one name are equal after this.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::LookupError;

/// Bytes of a name without its trailing dot (RFC 1035, section 2.3.4, less the lengths that go around it).
const NAME_BYTES_MAX: usize = 253;
/// Bytes of a label.
const LABEL_BYTES_MAX: usize = 63;

/// What was asked for.
#[expect(clippy::large_enum_variant, reason = "what is in the cache is found without an allocation")]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An address, which answers itself.
    Address(IpAddr),
    /// `localhost` or a name below it: nobody is asked (RFC 6761, section 6.3).
    Loopback,
    Name(Name),
}

/// A host's name in the form in which it is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    bytes: [u8; NAME_BYTES_MAX],
    len: usize,
}

impl Name {
    pub(super) fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Takes `text` apart. An IPv6 address may stand in brackets. Letters are ASCII: other names are to come as Punycode.
///
/// # Errors
/// [`LookupError::BadName`], for what could never be a host's name too: one whose last label is a number. Such texts are
/// addresses in forms that only some parsers know (`127.1`, `0x7f000001`), and no name server should hear of them.
pub(super) fn parse(text: &str) -> Result<Target, LookupError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Target::Address(address));
    }
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(LookupError::BadName)?;
        let address: Ipv6Addr = inner.parse().map_err(|_| LookupError::BadName)?;
        return Ok(Target::Address(address.into()));
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut name = Name { bytes: [0; NAME_BYTES_MAX], len: text.len() };
    let bytes = name.bytes.get_mut(..text.len()).ok_or(LookupError::BadName)?;
    bytes.copy_from_slice(text.as_bytes());
    bytes.make_ascii_lowercase();
    if !bytes.split(|byte| *byte == b'.').all(is_label) {
        return Err(LookupError::BadName);
    }
    let text = name.as_str();
    let last = text.rsplit_once('.').map_or(text, |(_, last)| last);
    if is_number(last) {
        return Err(LookupError::BadName);
    }
    if last == "localhost" {
        return Ok(Target::Loopback);
    }
    Ok(Target::Name(name))
}

fn is_label(label: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.iter().all(allowed)
}

fn is_number(label: &str) -> bool {
    let hex =
        label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || label.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> String {
        match parse(text) {
            Ok(Target::Name(name)) => name.as_str().to_owned(),
            other => panic!("{text:?} is {other:?}"),
        }
    }

    #[test]
    fn spellings_of_a_name_are_one() {
        for text in ["db.example", "DB.Example", "db.example.", "dB.eXAMPLE."] {
            assert_eq!(name(text), "db.example");
        }
        assert_eq!(name("redis"), "redis");
        assert_eq!(name("_srv.a-b.x1"), "_srv.a-b.x1");
        assert_eq!(name("localhost.example"), "localhost.example");
        assert_eq!(name("notlocalhost"), "notlocalhost");
        assert_eq!(name("1.2.3.4.example"), "1.2.3.4.example");
    }

    #[test]
    fn lengths_are_bounded() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        assert_eq!(name(&longest), longest);
        assert_eq!(name(&format!("{longest}.")), longest);
        assert_eq!(parse(&format!("{longest}a")), Err(LookupError::BadName));
        assert_eq!(parse(&format!("{label}a.example")), Err(LookupError::BadName));
    }

    #[test]
    fn addresses_answer_themselves() {
        for (text, address) in [
            ("10.0.0.5", "10.0.0.5"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:10.0.0.5", "::ffff:10.0.0.5"),
        ] {
            assert_eq!(parse(text), Ok(Target::Address(address.parse().unwrap())), "{text}");
        }
    }

    #[test]
    fn localhost_is_loopback_in_every_spelling() {
        for text in ["localhost", "LOCALHOST", "localhost.", "a.localhost", "a.b.LocalHost."] {
            assert_eq!(parse(text), Ok(Target::Loopback), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.b..",
            ".localhost",
            "a b",
            "a\0b",
            "a/b",
            "a:80",
            "user@a",
            "*",
            "*.example",
            "b\u{fc}cher.example",
            "\u{212a}elvin.example",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0X7F.1",
            "0x",
            "1.2.3.4.",
            "1.2.3.256",
            "a.0x1f",
            "01.02.03.04",
            "[::1",
            "::1]",
            "[10.0.0.5]",
            "[]",
            "fe80::1%eth0",
            "a\\.b",
            "a%2eb",
        ] {
            assert_eq!(parse(text), Err(LookupError::BadName), "{text:?}");
        }
    }
}
