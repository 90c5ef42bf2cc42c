//! Fields (headers and trailers) of one message, and the character rules that they obey.
//!
//! All names and values lie in one buffer, found by spans, so that a warm `Fields` takes a whole head without
//! allocating. Must never know what a field means: that is [`framing`](super::framing)'s and the guest's business;
//! only the list of names that a trailer section may not carry is kept here, for both directions.
//! Invariant: every span lies within the buffer, `start <= middle <= end`, and names are in lower case.

use core::fmt;

/// Where one field lies: its name in `start..middle`, its value in `middle..end`.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    middle: u32,
    end: u32,
}

/// An ordered multimap of fields: names in lower case, values as the bytes that came.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Fields {
    /// Forgets all fields and keeps the storage.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Appends a field. The name is put into lower case; neither part is checked here.
    ///
    /// A field that would bring the whole past 4 GiB is not taken; the scanner's ceiling keeps heads far below.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        let middle = start.saturating_add(name.len());
        let end = middle.saturating_add(value.len());
        let (Ok(start), Ok(middle), Ok(end)) =
            (u32::try_from(start), u32::try_from(middle), u32::try_from(end))
        else {
            return;
        };
        self.bytes.extend_from_slice(name);
        if let Some(name) = self.bytes.get_mut(start as usize..) {
            name.make_ascii_lowercase();
        }
        self.bytes.extend_from_slice(value);
        self.spans.push(Span { start, middle, end });
    }

    /// All fields in the order in which they came, as (name, value).
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + DoubleEndedIterator + Clone {
        self.spans.iter().map(|span| (self.slice(span.start, span.middle), self.slice(span.middle, span.end)))
    }

    /// The first value of a name, which is given in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// All values of a name, which is given in lower case, in order.
    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(have, _)| *have == name.as_bytes()).map(|(_, value)| value)
    }

    /// Takes out the fields whose names, in lower case, are not to stay. Gives their number.
    pub fn retain(&mut self, mut stays: impl FnMut(&[u8]) -> bool) -> usize {
        if self.spans.iter().all(|span| stays(self.slice(span.start, span.middle))) {
            return 0;
        }
        let before = self.spans.len();
        let (mut spans, mut end) = (core::mem::take(&mut self.spans), 0_u32);
        spans.retain_mut(|span| {
            let stay = stays(self.slice(span.start, span.middle));
            if stay {
                // What stays closes the gap before it, if there is one.
                let gap = span.start.saturating_sub(end);
                if gap > 0 {
                    self.bytes.copy_within(span.start as usize..span.end as usize, end as usize);
                }
                span.start = end;
                span.middle = span.middle.saturating_sub(gap);
                span.end = span.end.saturating_sub(gap);
                end = span.end;
            }
            stay
        });
        self.spans = spans;
        self.bytes.truncate(end as usize);
        before.saturating_sub(self.spans.len())
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes of all names and values together.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Gives storage back that is larger than `max_bytes`, as far as the fields that are held allow.
    pub fn shrink(&mut self, max_bytes: usize) {
        if self.bytes.capacity() > max_bytes {
            self.bytes.shrink_to(max_bytes);
        }
        let max_spans = max_bytes.checked_div(size_of::<Span>()).unwrap_or_default();
        if self.spans.capacity() > max_spans {
            self.spans.shrink_to(max_spans);
        }
    }

    fn slice(&self, start: u32, end: u32) -> &[u8] {
        // The spans are ours and in range (the invariant); an empty slice stands in for what cannot be.
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }
}

impl fmt::Debug for Fields {
    /// Names and the lengths of values: a value may be a credential, and debug output ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name.escape_ascii().to_string(), value.len())))
            .finish()
    }
}

/// Whether a byte may stand in a token (RFC 9110 5.6.2).
#[must_use]
pub const fn is_token_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || byte.is_ascii_alphanumeric()
}

/// Whether a byte may stand in a field value (RFC 9110 5.5): no control byte but TAB; obs-text passes.
#[must_use]
pub const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether `bytes` is a token: not empty, token bytes only (RFC 9110 5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Strips optional white space, SP and TAB only, from both ends (RFC 9110 5.6.3).
#[must_use]
pub fn trim_ows(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [b' ' | b'\t', tail @ ..] | [tail @ .., b' ' | b'\t'] = rest {
        rest = tail;
    }
    rest
}

/// A Content-Length: digits only, no sign, no space, no list, within 64 bits (RFC 9110 8.6).
#[must_use]
pub fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Whether a field must not stand in a trailer section, in either direction (RFC 9110 6.5.1).
///
/// `name` is in any letter case. What decides on framing, routing, access, conditions, caching or the reading of
/// the content has to be known before the content; taken from a trailer it would come too late, or from someone
/// whom nobody checked.
#[must_use]
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}

const FORBIDDEN_TRAILERS: [&str; 43] = [
    // Framing, and what belongs to the connection.
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Routing.
    "forwarded",
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    // Who asks.
    "authorization",
    "cookie",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "www-authenticate",
    // Controls and conditions.
    "cache-control",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "pragma",
    "range",
    // Control data of a response.
    "age",
    "date",
    "expires",
    "location",
    "retry-after",
    "vary",
    "warning",
    // How the content is read.
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-type",
    // Ours: names the request in the log.
    "x-request-id",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_lower_cases_names_and_leaves_values() {
        let mut fields = Fields::default();
        fields.push(b"Accept", b"Text/HTML");
        fields.push(b"X-Note", b"");
        fields.push(b"ACCEPT", b"\xff");
        let all: Vec<_> = fields.iter().collect();
        assert_eq!(all, [(&b"accept"[..], &b"Text/HTML"[..]), (b"x-note", b""), (b"accept", b"\xff")]);
        assert_eq!(fields.get("accept"), Some(&b"Text/HTML"[..]));
        assert_eq!(fields.get("absent"), None);
        assert_eq!(fields.get_all("accept").count(), 2);
        assert_eq!((fields.len(), fields.byte_len()), (3, 6 + 9 + 6 + 6 + 1));
    }

    #[test]
    fn clear_keeps_storage_and_shrink_gives_it_back() {
        let mut fields = Fields::default();
        fields.push(b"a", &[b'x'; 10_000]);
        fields.clear();
        assert!(fields.is_empty() && fields.byte_len() == 0);
        assert!(fields.bytes.capacity() >= 10_000);
        fields.shrink(1_024);
        assert!(fields.bytes.capacity() < 10_000);
        fields.push(b"b", b"1");
        fields.shrink(0);
        assert_eq!(fields.get("b"), Some(&b"1"[..]), "what is held survives");
    }

    #[test]
    fn what_is_taken_out_leaves_nothing() {
        let all = ["a", "bb", "a", "ccc", "a", "bb"];
        for mask in 0..8_u32 {
            let stays = |name: &[u8]| mask >> (name.len() - 1) & 1 == 1;
            let (mut fields, mut expected) = (Fields::default(), Fields::default());
            for (number, name) in all.iter().enumerate() {
                let value = "v".repeat(number * 3);
                fields.push(name.as_bytes(), value.as_bytes());
                if stays(name.as_bytes()) {
                    expected.push(name.as_bytes(), value.as_bytes());
                }
            }
            let taken = fields.retain(stays);
            assert_eq!(taken, all.len() - expected.len(), "{mask}");
            assert!(fields.iter().eq(expected.iter()), "{mask}");
            assert_eq!(fields.bytes, expected.bytes, "{mask}");
            fields.push(b"d", b"behind");
            assert_eq!(fields.get("d"), Some(&b"behind"[..]), "{mask}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let mut fields = Fields::default();
        fields.push(b"Authorization", b"secret");
        let text = format!("{fields:?}");
        assert!(text.contains("authorization") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn white_space_is_sp_and_tab_only() {
        for (given, trimmed) in [
            (&b" \t a b\t "[..], &b"a b"[..]),
            (b"", b""),
            (b" \t", b""),
            (b"\x0ba\x0c", b"\x0ba\x0c"),
            (b"\xa0", b"\xa0"),
        ] {
            assert_eq!(trim_ows(given), trimmed);
        }
    }

    #[test]
    fn content_length_is_digits_within_64_bits() {
        for (value, length) in [
            (&b"0"[..], Some(0)),
            (b"007", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"99999999999999999999999999", None),
            (b"", None),
            (b"+1", None),
            (b"-1", None),
            (b"0x1", None),
            (b"1_0", None),
            (b"1 0", None),
            (b"1, 1", None),
            (b"1.0", None),
            (b"\xb2", None),
        ] {
            assert_eq!(parse_content_length(value), length, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn trailers_that_decide_anything_are_forbidden() {
        for name in
            ["Transfer-Encoding", "CONTENT-LENGTH", "host", "Authorization", "Cookie", "Set-Cookie", "TE"]
        {
            assert!(is_forbidden_trailer(name.as_bytes()), "{name}");
        }
        for name in ["grpc-status", "content-digest", "server-timing", "x-checksum", "hostname"] {
            assert!(!is_forbidden_trailer(name.as_bytes()), "{name}");
        }
    }
}
