//! Between `http::HeaderMap` and the packed lists of the ABI.

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_abi::fields::{self, FieldList};

/// A name and a value as bytes.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

/// Most heads fit into this, and then packing allocates nothing.
const SMALL_BYTES: usize = 256;

/// Packs `pairs` and passes the result to `send`. No pairs are no bytes.
pub(crate) fn packed<R>(pairs: &[Pair<'_>], send: impl FnOnce(&[u8]) -> R) -> R {
    if pairs.is_empty() {
        return send(&[]);
    }
    let (count, text_bytes) = fields::measure(pairs.iter().copied());
    let size = fields::packed_bytes(count, text_bytes);
    if size <= SMALL_BYTES {
        let mut small = [0; SMALL_BYTES];
        fields::pack(pairs.iter().copied(), &mut small);
        return send(&small[..size]);
    }
    let mut large = vec![0; size];
    fields::pack(pairs.iter().copied(), &mut large);
    send(&large)
}

/// The fields of `headers` in order.
pub(crate) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = Pair<'_>> {
    headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// The fields of `headers`, packed.
pub(crate) fn packed_map<R>(headers: &HeaderMap, send: impl FnOnce(&[u8]) -> R) -> R {
    packed(&pairs(headers).collect::<Vec<_>>(), send)
}

/// A map of what `list` holds. Values may have bytes above 0x7f (obs-text, RFC 9110 section 5.5). An entry that `http`
/// has no place for is left out: the host sends none.
pub(crate) fn to_map(list: FieldList<'_>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(list.len().min(128));
    for (name, value) in list.iter().flatten() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            // Full is the only error, and far beyond what a head may have.
            let _ = map.try_append(name, value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(map: &HeaderMap) -> HeaderMap {
        packed_map(map, |bytes| to_map(FieldList::parse(bytes).unwrap()))
    }

    #[test]
    fn maps_survive_packing_whatever_their_size() {
        let mut map = HeaderMap::new();
        assert_eq!(round_trip(&map), map);
        for i in 0..40 {
            let name = HeaderName::from_bytes(format!("x-{}", i / 2).as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(&vec![b'a' + i % 26; 5 + usize::from(i)]).unwrap());
            assert_eq!(round_trip(&map), map, "{i}");
        }
    }

    #[test]
    fn obs_text_is_kept_as_bytes() {
        let mut map = HeaderMap::new();
        map.insert("x-name", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        assert_eq!(round_trip(&map)["x-name"].as_bytes(), b"caf\xe9");
    }

    #[test]
    fn what_http_has_no_place_for_is_left_out() {
        let list: [Pair<'_>; 3] = [(b"a b", b"1"), (b"c", b"\n"), (b"d", b"2")];
        let map = packed(&list, |bytes| to_map(FieldList::parse(bytes).unwrap()));
        assert_eq!(map.len(), 1);
        assert_eq!(map["d"], "2");
    }
}
