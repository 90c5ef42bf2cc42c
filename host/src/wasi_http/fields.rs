//! `wasi:http/types.fields`: headers and trailers as a component holds them.

use std::sync::Arc;

use tidegate_proto::http1::fields::{Fields, is_token, is_value_byte, parse_content_length};
use wasmtime::component::Resource;
use wasmtime::{Result, bail};

use super::Http;
use super::types::{HeaderError, HostFields};
use crate::guest::cost::{CALL, entries, parsed, spend};
use crate::guest::desk::{Desk, Held};

/// Bytes of one list, each field counted with [`FIELD_BYTES`] besides its name and value.
const LIST_BYTES_MAX: usize = 32 * 1024;
const FIELD_BYTES: usize = 32;

const CONTENT_LENGTH: &str = "content-length";

/// What belongs to the connection: never shown to a guest, never taken from one. In alphabetical order.
const FORBIDDEN: [&str; 9] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

fn is_forbidden(name: &str) -> bool {
    FORBIDDEN.binary_search(&name).is_ok()
}

/// A list of fields. Invariant: the names are tokens in lower case and none is forbidden; values are valid; there is one
/// Content-Length at most, a number without leading zeros.
#[derive(Debug)]
pub(crate) struct FieldList {
    fields: Fields,
    immutable: bool,
    held: Held,
}

/// Bytes that a list counts for.
fn list_bytes(fields: &Fields) -> usize {
    fields.byte_len() + FIELD_BYTES * fields.len()
}

impl FieldList {
    /// An empty list, or a copy, that the guest may change.
    fn new(desk: &Arc<Desk>, fields: Fields) -> Result<Self> {
        let held = desk.hold(list_bytes(&fields))?;
        Ok(Self { fields, immutable: false, held })
    }

    /// What came with a message, without what is not shown. The guest can not change it.
    pub(super) fn received(desk: &Arc<Desk>, fields: &Fields) -> Result<Self> {
        let mut shown = Fields::default();
        for (name, value) in fields.iter() {
            if !std::str::from_utf8(name).is_ok_and(is_forbidden) {
                shown.push(name, value);
            }
        }
        Self::new(desk, shown).map(Self::freeze)
    }

    /// A copy for the guest to look at.
    pub(super) fn view(&self, desk: &Arc<Desk>) -> Result<Self> {
        Self::new(desk, self.fields.clone()).map(Self::freeze)
    }

    /// The guest can not change it from here on.
    pub(super) fn freeze(mut self) -> Self {
        self.immutable = true;
        self
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The length that the list declares for the body.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.fields.get(CONTENT_LENGTH).and_then(parse_content_length)
    }

    /// Takes other fields in place of its own.
    ///
    /// # Errors
    /// They are too many: a trap.
    fn replace(&mut self, fields: Fields) -> Result<()> {
        let bytes = list_bytes(&fields);
        if bytes > LIST_BYTES_MAX {
            bail!("a list of fields of more than {LIST_BYTES_MAX} bytes");
        }
        self.held.resize(bytes)?;
        self.fields = fields;
        Ok(())
    }
}

/// A name in lower case that a guest may set.
fn checked_name(name: &str) -> Result<String, HeaderError> {
    if !is_token(name.as_bytes()) {
        return Err(HeaderError::InvalidSyntax);
    }
    let name = name.to_ascii_lowercase();
    if is_forbidden(&name) { Err(HeaderError::Forbidden) } else { Ok(name) }
}

/// A value that a guest may set.
fn checked_value(name: &str, value: Vec<u8>) -> Result<Vec<u8>, HeaderError> {
    if name == CONTENT_LENGTH {
        let length = parse_content_length(&value).ok_or(HeaderError::InvalidSyntax)?;
        return Ok(length.to_string().into_bytes());
    }
    if value.iter().all(|byte| is_value_byte(*byte)) { Ok(value) } else { Err(HeaderError::InvalidSyntax) }
}

/// What a guest gave, or its mistake.
type Given<T> = Result<T, HeaderError>;

impl Http<'_> {
    fn list(&self, list: &Resource<FieldList>) -> Result<&FieldList> {
        Ok(self.state.side.table.get(list)?)
    }

    /// Spends what it costs to look through a list, for a name of so many bytes.
    fn search(&self, list: &Resource<FieldList>, name_bytes: usize) -> Result<&Fields> {
        spend(self.state, CALL + parsed(name_bytes))?;
        let fields = &self.list(list)?.fields;
        spend(self.state, parsed(fields.byte_len()) + entries(fields.len()))?;
        Ok(fields)
    }

    fn replace(&mut self, list: &Resource<FieldList>, fields: Fields) -> Result<()> {
        let side = &mut self.state.side;
        side.table.get_mut(list)?.replace(fields)
    }

    /// Makes a resource of a list.
    pub(super) fn push_list(&mut self, list: FieldList) -> Result<Resource<FieldList>> {
        Ok(self.state.side.table.push(list)?)
    }
}

impl HostFields for Http<'_> {
    fn new(&mut self) -> Result<Resource<FieldList>> {
        self.enter()?;
        let list = FieldList::new(&self.state.side.desk, Fields::default())?;
        self.push_list(list)
    }

    fn from_list(&mut self, given: Vec<(String, Vec<u8>)>) -> Result<Given<Resource<FieldList>>> {
        let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
        spend(self.state, parsed(bytes) + entries(given.len() + 2))?;
        let mut fields = Fields::default();
        let mut sized = false;
        for (name, value) in given {
            let checked = checked_name(&name).and_then(|name| Ok((checked_value(&name, value)?, name)));
            let (value, name) = match checked {
                Ok(checked) => checked,
                Err(error) => return Ok(Err(error)),
            };
            if name == CONTENT_LENGTH && std::mem::replace(&mut sized, true) {
                return Ok(Err(HeaderError::InvalidSyntax));
            }
            fields.push(name.as_bytes(), &value);
        }
        let mut list = FieldList::new(&self.state.side.desk, Fields::default())?;
        list.replace(fields)?;
        self.push_list(list).map(Ok)
    }

    fn get(&mut self, list: Resource<FieldList>, name: String) -> Result<Vec<Vec<u8>>> {
        let fields = self.search(&list, name.len())?;
        Ok(fields.get_all(&name.to_ascii_lowercase()).map(<[u8]>::to_vec).collect())
    }

    fn has(&mut self, list: Resource<FieldList>, name: String) -> Result<bool> {
        let fields = self.search(&list, name.len())?;
        Ok(fields.get(&name.to_ascii_lowercase()).is_some())
    }

    fn set(&mut self, list: Resource<FieldList>, name: String, values: Vec<Vec<u8>>) -> Result<Given<()>> {
        spend(self.state, parsed(values.iter().map(Vec::len).sum()) + entries(values.len()))?;
        self.search(&list, name.len())?;
        let name = match checked_name(&name) {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        if self.list(&list)?.immutable {
            return Ok(Err(HeaderError::Immutable));
        }
        if name == CONTENT_LENGTH && values.len() > 1 {
            return Ok(Err(HeaderError::InvalidSyntax));
        }
        let values: Given<Vec<_>> = values.into_iter().map(|value| checked_value(&name, value)).collect();
        let values = match values {
            Ok(values) => values,
            Err(error) => return Ok(Err(error)),
        };
        let mut fields = Fields::default();
        // The new values stand where the first of the old ones stood.
        let mut values = Some(values);
        let mut place = |fields: &mut Fields| {
            values.take().into_iter().flatten().for_each(|value| fields.push(name.as_bytes(), &value));
        };
        for (old, value) in self.list(&list)?.fields.iter() {
            if old == name.as_bytes() {
                place(&mut fields);
            } else {
                fields.push(old, value);
            }
        }
        place(&mut fields);
        self.replace(&list, fields).map(Ok)
    }

    fn delete(&mut self, list: Resource<FieldList>, name: String) -> Result<Given<()>> {
        self.search(&list, name.len())?;
        let name = match checked_name(&name) {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        let own = self.list(&list)?;
        if own.immutable {
            return Ok(Err(HeaderError::Immutable));
        }
        let mut fields = Fields::default();
        own.fields.iter().filter(|(old, _)| *old != name.as_bytes()).for_each(|(n, v)| fields.push(n, v));
        self.replace(&list, fields).map(Ok)
    }

    fn append(&mut self, list: Resource<FieldList>, name: String, value: Vec<u8>) -> Result<Given<()>> {
        spend(self.state, parsed(name.len() + value.len()) + entries(1))?;
        let checked = checked_name(&name).and_then(|name| Ok((checked_value(&name, value)?, name)));
        let (value, name) = match checked {
            Ok(checked) => checked,
            Err(error) => return Ok(Err(error)),
        };
        let side = &mut self.state.side;
        let own = side.table.get_mut(&list)?;
        if name == CONTENT_LENGTH && own.fields.get(CONTENT_LENGTH).is_some() {
            return Ok(Err(HeaderError::InvalidSyntax));
        }
        if own.immutable {
            return Ok(Err(HeaderError::Immutable));
        }
        let bytes = list_bytes(&own.fields) + name.len() + value.len() + FIELD_BYTES;
        if bytes > LIST_BYTES_MAX {
            bail!("a list of fields of more than {LIST_BYTES_MAX} bytes");
        }
        own.held.resize(bytes)?;
        own.fields.push(name.as_bytes(), &value);
        Ok(Ok(()))
    }

    fn entries(&mut self, list: Resource<FieldList>) -> Result<Vec<(String, Vec<u8>)>> {
        let fields = self.search(&list, 0)?;
        let text = |name| String::from_utf8_lossy(name).into_owned();
        Ok(fields.iter().map(|(name, value)| (text(name), value.to_vec())).collect())
    }

    fn clone(&mut self, list: Resource<FieldList>) -> Result<Resource<FieldList>> {
        let fields = self.search(&list, 0)?.clone();
        let list = FieldList::new(&self.state.side.desk, fields)?;
        self.push_list(list)
    }

    fn drop(&mut self, list: Resource<FieldList>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(list)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forbidden_names_are_found() {
        assert!(FORBIDDEN.is_sorted());
        assert!(FORBIDDEN.iter().all(|name| is_forbidden(name)));
        assert!(!is_forbidden("content-length") && !is_forbidden("hos") && !is_forbidden(""));
    }

    #[test]
    fn names_are_tokens_in_lower_case_and_not_the_connections() {
        assert_eq!(checked_name("X-Request-ID").unwrap(), "x-request-id");
        for bad in ["", "a b", "a:b", "a\r\nb", "\u{e9}", "a\0"] {
            assert!(matches!(checked_name(bad), Err(HeaderError::InvalidSyntax)), "{bad:?}");
        }
        for name in ["Host", "CONNECTION", "Transfer-Encoding"] {
            assert!(matches!(checked_name(name), Err(HeaderError::Forbidden)), "{name}");
        }
    }

    #[test]
    fn values_can_not_end_their_line() {
        for good in [&b""[..], b"a b", b"\ta", b" a ", b"\xff\x80"] {
            assert_eq!(checked_value("x", good.to_vec()).unwrap(), good);
        }
        for bad in [&b"a\r\nb: c"[..], b"a\nb", b"\r", b"\0", b"\x7f", b"\x1b[31m"] {
            assert!(matches!(checked_value("x", bad.to_vec()), Err(HeaderError::InvalidSyntax)), "{bad:?}");
        }
    }

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        assert_eq!(checked_value(CONTENT_LENGTH, b"007".to_vec()).unwrap(), b"7");
        for bad in [&b""[..], b"+5", b"-5", b" 5", b"5, 5", b"0x5", b"18446744073709551616"] {
            let checked = checked_value(CONTENT_LENGTH, bad.to_vec());
            assert!(matches!(checked, Err(HeaderError::InvalidSyntax)), "{bad:?}");
        }
    }
}
