//! The key-value store: bounds, the flags of `swap`, and the page of keys that `list` gives.
//!
//! ```text
//!  0 more u32       1: there are more keys behind the last one
//!  4 each key: its bytes as u32, then the bytes
//! ```

/// Bytes of the longest key; there are none of no bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Bytes of the longest value.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// [`crate::names::kv::SWAP`]: the old value is none at all, and what is given for it has no bytes.
pub const OLD_ABSENT: u32 = 1;
/// [`crate::names::kv::SWAP`]: the new value is none at all, and what is given for it has no bytes.
pub const NEW_ABSENT: u32 = 2;

/// Bytes in front of the keys of a page.
pub const PAGE_FIXED_BYTES: usize = 4;
/// Bytes in front of each key.
pub const PAGE_KEY_BYTES: usize = 4;

/// The first bytes of a page. See [`Page`].
#[must_use]
pub const fn page_head(more: bool) -> [u8; PAGE_FIXED_BYTES] {
    (more as u32).to_le_bytes()
}

/// The bytes in front of a key. See [`Page`].
#[must_use]
pub const fn page_key(len: u32) -> [u8; PAGE_KEY_BYTES] {
    len.to_le_bytes()
}

/// A page of keys, read.
///
/// ```
/// use tidegate_abi::kv::{Page, page_head, page_key};
///
/// let bytes = [&page_head(true)[..], &page_key(2), b"ab", &page_key(1), b"c"].concat();
/// let page = Page::new(&bytes).unwrap();
/// assert!(page.more());
/// assert_eq!(page.keys().collect::<Vec<_>>(), [&b"ab"[..], b"c"]);
/// assert!(Page::new(b"").is_none());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    more: bool,
    keys: &'a [u8],
}

impl<'a> Page<'a> {
    /// None: it is cut short. See [`Page`].
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (head, keys) = bytes.split_first_chunk()?;
        let mut rest = keys;
        while !rest.is_empty() {
            (_, rest) = next(rest)?;
        }
        Some(Self { more: u32::from_le_bytes(*head) != 0, keys })
    }

    /// True if there are more keys behind the last one. See [`Page`].
    #[must_use]
    pub const fn more(&self) -> bool {
        self.more
    }

    /// The keys, in the order of their bytes. See [`Page`].
    pub fn keys(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.keys;
        core::iter::from_fn(move || {
            let (key, behind) = next(rest)?;
            rest = behind;
            Some(key)
        })
    }
}

/// The key in front, and what is behind it.
fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = [1, 0, 0, 0, 2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0];
        let page = Page::new(&bytes).unwrap();
        assert!(page.more());
        assert_eq!(page.keys().collect::<Vec<_>>(), [&b"ab"[..], b""]);
        assert!(!Page::new(&page_head(false)).unwrap().more());
    }

    #[test]
    fn what_is_cut_short_is_no_page() {
        let bytes = [0, 0, 0, 0, 2, 0, 0, 0, b'a', b'b'];
        for len in 0..bytes.len() {
            assert_eq!(Page::new(&bytes[..len]).is_some(), len == PAGE_FIXED_BYTES, "{len}");
        }
        assert!(Page::new(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'a']).is_none());
    }
}
