//! Lists of fields that a handler gives, checked as a module's host checks them: what that refuses is refused here too,
//! before `wasi:http` sees it, and what `wasi:http` lets no guest say is left out.
//!
//! Hosts may trap on a list that is too large for them, so its size comes first.

use tidegate_abi::errno::{EINVAL, EMSGSIZE, Errno};
use tidegate_abi::fields::{FieldList, ListError};
use wasip2::http::types::Fields;

const HEAD_BYTES_MAX: usize = 32 << 10;
const TRAILERS_BYTES_MAX: usize = 16 << 10;
/// What a field counts for on the wire besides its text, and what hosts of `wasi:http` count for it.
const LINE_BYTES: usize = 4;
const FIELD_BYTES: usize = 32;
/// Bytes that a host takes in one list, counted its way.
const LIST_BYTES_MAX: usize = 32 << 10;

const CONTENT_LENGTH: &str = "content-length";

/// Never a handler's to set (RFC 9110 section 7.6.1). `connection: close` is.
const CONNECTION: [&str; 6] =
    ["http2-settings", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

/// What a module may send and a component cannot: its host says these itself, or nobody does.
const UNSAYABLE: [&str; 3] = ["host", "proxy-authenticate", "proxy-authorization"];

/// What may not stand in a trailer section (RFC 9110 section 6.5.1), nor in early hints, besides [`CONNECTION`] and
/// [`UNSAYABLE`]: the list of a module's host.
const BEFORE_CONTENT: [&str; 34] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "trailer",
    "vary",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

fn is_any_of(name: &str, known: &[&str]) -> bool {
    known.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Fields that may be sent.
pub(super) struct Checked {
    entries: Vec<(String, Vec<u8>)>,
}

impl Checked {
    /// Unpacks a list of at most `bytes_max`, each field with a name that is text and a value without white space
    /// around it.
    fn unpack(packed: &[u8], bytes_max: usize) -> Result<Self, Errno> {
        let list = FieldList::bounded(packed).map_err(|error| match error {
            ListError::TooLarge => EMSGSIZE,
            ListError::Malformed => EINVAL,
        })?;
        let (mut entries, mut line_bytes) = (Vec::with_capacity(list.len() + 1), 0);
        for field in list.iter() {
            let (name, value) = field.ok_or(EINVAL)?;
            line_bytes += name.len() + value.len() + LINE_BYTES;
            if line_bytes > bytes_max {
                return Err(EMSGSIZE);
            }
            let name = std::str::from_utf8(name).map_err(|_| EINVAL)?;
            entries.push((name.to_owned(), value.trim_ascii().to_vec()));
        }
        Ok(Self { entries })
    }

    /// The head of a response, without what its host says itself; with the length that it declares.
    ///
    /// # Errors
    /// `EMSGSIZE`: too large. `EINVAL`: a field that is not the handler's to set, or a length that is none.
    pub(super) fn head(packed: &[u8]) -> Result<(Self, Option<u64>), Errno> {
        let mut head = Self::unpack(packed, HEAD_BYTES_MAX)?;
        let (mut closes, mut declared_bytes) = (false, None);
        for (name, value) in &head.entries {
            if is_any_of(name, &CONNECTION) {
                return Err(EINVAL);
            }
            if name.eq_ignore_ascii_case("connection")
                && (std::mem::replace(&mut closes, true) || !value.eq_ignore_ascii_case(b"close"))
            {
                return Err(EINVAL);
            }
            if name.eq_ignore_ascii_case(CONTENT_LENGTH)
                && declared_bytes.replace(length_of(value).ok_or(EINVAL)?).is_some()
            {
                return Err(EINVAL);
            }
        }
        head.entries
            .retain(|(name, _)| !name.eq_ignore_ascii_case("connection") && !is_any_of(name, &UNSAYABLE));
        Ok((head, declared_bytes))
    }

    /// Early hints, which are checked and go nowhere.
    ///
    /// # Errors
    /// As [`Self::trailers`].
    pub(super) fn hint(packed: &[u8]) -> Result<Self, Errno> {
        Self::unpack(packed, HEAD_BYTES_MAX)?.without_what_comes_before()
    }

    /// What follows a body.
    ///
    /// # Errors
    /// `EMSGSIZE`: too large. `EINVAL`: a field that may not stand there.
    pub(super) fn trailers(packed: &[u8]) -> Result<Self, Errno> {
        Self::unpack(packed, TRAILERS_BYTES_MAX)?.without_what_comes_before()
    }

    fn without_what_comes_before(self) -> Result<Self, Errno> {
        let known = [&CONNECTION[..], &UNSAYABLE, &BEFORE_CONTENT];
        let refused = |name: &str| known.iter().any(|known| is_any_of(name, known));
        if self.entries.iter().any(|(name, _)| refused(name)) { Err(EINVAL) } else { Ok(self) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Says the length of the body, or none at all.
    pub(super) fn set_length(&mut self, length: Option<u64>) {
        self.entries.retain(|(name, _)| !name.eq_ignore_ascii_case(CONTENT_LENGTH));
        if let Some(length) = length {
            self.entries.push((CONTENT_LENGTH.to_owned(), length.to_string().into_bytes()));
        }
    }

    /// The resource.
    ///
    /// # Errors
    /// `EMSGSIZE`: more than a host takes. `EINVAL`: a name or a value that is not valid.
    pub(super) fn make(&self) -> Result<Fields, Errno> {
        if self.is_empty() {
            return Ok(Fields::new());
        }
        let counted = |(name, value): &(String, Vec<u8>)| name.len() + value.len() + FIELD_BYTES;
        if self.entries.iter().map(counted).sum::<usize>() > LIST_BYTES_MAX {
            return Err(EMSGSIZE);
        }
        Fields::from_list(&self.entries).map_err(|_| EINVAL)
    }
}

/// Digits and nothing else (RFC 9110 section 8.6): `parse` alone takes a sign.
fn length_of(value: &[u8]) -> Option<u64> {
    let text =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}
