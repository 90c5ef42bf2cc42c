//! Entries of `poll`: `{ handle u32, interest u16, ready u16 }`, eight bytes each.

/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 8;
/// Entries that one call takes at most; more is `-EINVAL`.
pub const ENTRIES_MAX: usize = 256;

/// Bytes are there, or the end.
pub const READABLE: u16 = 1;
/// There is room: after full, only from the low watermark on.
pub const WRITABLE: u16 = 2;
/// The handle failed; `error` tells how. Always reported.
pub const ERROR: u16 = 4;
/// The other side is gone. Always reported.
pub const HANGUP: u16 = 8;

/// A timeout of `poll` that waits for ever.
pub const FOREVER: i64 = -1;

/// One entry.
///
/// ```
/// use tidegate_abi::poll::{Entry, READABLE};
///
/// let entry = Entry::new(3, READABLE);
/// assert_eq!(entry.to_bytes(), [3, 0, 0, 0, 1, 0, 0, 0]);
/// let answered = Entry::from_bytes([3, 0, 0, 0, 1, 0, 1, 0]);
/// assert_eq!(answered, Entry { ready: READABLE, ..entry });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// The handle asked about.
    pub handle: u32,
    /// What is asked: [`READABLE`], [`WRITABLE`] or both.
    pub interest: u16,
    /// What is so: set by the host.
    pub ready: u16,
}

impl Entry {
    /// An entry that asks for `interest`. See [`Entry`].
    #[must_use]
    pub const fn new(handle: u32, interest: u16) -> Self {
        Self { handle, interest, ready: 0 }
    }

    /// Reads an entry from its eight bytes. See [`Entry`].
    #[must_use]
    pub const fn from_bytes(b: [u8; ENTRY_BYTES]) -> Self {
        Self {
            handle: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            interest: u16::from_le_bytes([b[4], b[5]]),
            ready: u16::from_le_bytes([b[6], b[7]]),
        }
    }

    /// The entry's eight bytes. See [`Entry`].
    #[must_use]
    pub const fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let (h, i, r) = (self.handle.to_le_bytes(), self.interest.to_le_bytes(), self.ready.to_le_bytes());
        [h[0], h[1], h[2], h[3], i[0], i[1], r[0], r[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        let entry = Entry { handle: 0x0403_0201, interest: READABLE | WRITABLE, ready: HANGUP };
        assert_eq!(entry.to_bytes(), [1, 2, 3, 4, 3, 0, 8, 0]);
        assert_eq!(Entry::from_bytes(entry.to_bytes()), entry);
        assert_eq!(core::mem::size_of::<Entry>(), ENTRY_BYTES);
    }
}
