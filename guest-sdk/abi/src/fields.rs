//! A packed list of fields: the headers of a response head, and trailers in both directions.
//!
//! ```text
//!  0 size u32        all of it, table and bytes included
//!  4 version u16     1
//!  6 fixed u16       16: where the table begins
//!  8 count u32       entries in the table
//! 12 reserved u32    0
//! 16 count x { name_offset u32, name_len u32, value_offset u32, value_len u32 }
//!    the bytes of names and values
//! ```
//!
//! A host that is given a list must be able to bound its work before it looks at a single field: see
//! [`FieldList::bounded`].

use crate::VERSION;
use crate::bytes::{Writer, get_span, get_u16, get_u32};

/// Bytes before the table.
pub const FIXED_BYTES: usize = 16;
/// Bytes of one table entry.
pub const ENTRY_BYTES: usize = 16;
/// Bytes of the largest list that a host takes, table included.
pub const LIST_BYTES_MAX: usize = 128 * 1024;
/// Entries of the longest list that a host takes.
pub const ENTRIES_MAX: usize = 1024;

/// Why a host does not take a list.
///
/// ```
/// use tidegate_abi::fields::{FieldList, LIST_BYTES_MAX, ListError};
///
/// assert_eq!(FieldList::bounded(&[0; 15]).unwrap_err(), ListError::Malformed);
/// assert_eq!(FieldList::bounded(&[0; LIST_BYTES_MAX + 1]).unwrap_err(), ListError::TooLarge);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// Longer than [`LIST_BYTES_MAX`], or of more than [`ENTRIES_MAX`] entries: `-EMSGSIZE`.
    TooLarge,
    /// Its outline is wrong, or its entries name more bytes than it has: `-EINVAL`.
    Malformed,
}

/// Bytes that a list of `count` fields with `text_bytes` of names and values takes when packed.
///
/// ```
/// use tidegate_abi::fields::{measure, packed_bytes};
///
/// let fields: [(&[u8], &[u8]); 1] = [(b"host", b"a.example")];
/// assert_eq!(measure(fields.into_iter()), (1, 13));
/// assert_eq!(packed_bytes(1, 13), 16 + 16 + 13);
/// ```
#[must_use]
pub const fn packed_bytes(count: usize, text_bytes: usize) -> usize {
    FIXED_BYTES + count * ENTRY_BYTES + text_bytes
}

/// Packs `fields` into `out`. Returns the bytes written, or `None` if `out` is shorter than [`packed_bytes`].
///
/// ```
/// use tidegate_abi::fields::{FieldList, pack};
///
/// let fields: [(&[u8], &[u8]); 1] = [(b"host", b"a.example")];
/// let mut out = [0; 64];
/// let size = pack(fields.iter().copied(), &mut out).unwrap();
/// let list = FieldList::parse(&out[..size]).unwrap();
/// assert_eq!(list.iter().next(), Some(Some(fields[0])));
/// assert_eq!(pack(fields.iter().copied(), &mut out[..8]), None);
/// ```
pub fn pack<'a, I>(fields: I, out: &mut [u8]) -> Option<usize>
where
    I: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    let (count, text) = measure(fields.clone());
    let size = packed_bytes(count, text);
    let mut w = Writer::new(out);
    w.u32(u32::try_from(size).ok()?);
    w.u16(VERSION);
    w.u16(FIXED_BYTES as u16);
    w.u32(u32::try_from(count).ok()?);
    w.u32(0);
    put_table(&mut w, fields.clone(), FIXED_BYTES + count * ENTRY_BYTES);
    put_bytes(&mut w, fields);
    w.finish()
}

/// Number of fields and bytes of their text. See [`packed_bytes`].
pub fn measure<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> (usize, usize) {
    fields.fold((0, 0), |(n, bytes), (name, value)| (n + 1, bytes + name.len() + value.len()))
}

pub(crate) fn put_table<'a>(
    w: &mut Writer<'_>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    first: usize,
) {
    let mut next = first;
    for (name, value) in fields {
        w.span(&mut next, name.len());
        w.span(&mut next, value.len());
    }
}

pub(crate) fn put_bytes<'a>(w: &mut Writer<'_>, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (name, value) in fields {
        w.put(name);
        w.put(value);
    }
}

/// A packed list that has been checked for its outline; each entry is checked as it is read.
///
/// ```
/// use tidegate_abi::fields::{FieldList, pack};
///
/// let fields: [(&[u8], &[u8]); 2] = [(b"host", b"a.example"), (b"accept", b"*/*")];
/// let mut out = [0; 128];
/// let size = pack(fields.iter().copied(), &mut out).unwrap();
///
/// let list = FieldList::bounded(&out[..size]).unwrap();
/// assert_eq!(list.len(), 2);
/// assert!(list.iter().flatten().eq(fields));
/// assert!(FieldList::EMPTY.is_empty());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FieldList<'a> {
    bytes: &'a [u8],
    table: usize,
    count: usize,
}

impl<'a> FieldList<'a> {
    /// The list without fields.
    pub const EMPTY: FieldList<'static> = FieldList { bytes: &[], table: 0, count: 0 };

    /// Checks the outline of `bytes`. `None`: it is too short, of another version, or its table leaves it.
    ///
    /// ```
    /// use tidegate_abi::fields::FieldList;
    ///
    /// assert!(FieldList::parse(&[]).unwrap().is_empty());
    /// assert!(FieldList::parse(&[45, 0, 0, 0]).is_none());
    /// ```
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self { bytes, table: 0, count: 0 });
        }
        let size = get_u32(bytes, 0)? as usize;
        let table = get_u16(bytes, 6)? as usize;
        let count = get_u32(bytes, 8)? as usize;
        if get_u16(bytes, 4)? != VERSION || table < FIXED_BYTES {
            return None;
        }
        Self::at(bytes.get(..size)?, table, count)
    }

    /// Checks a list that comes from the other side: besides its outline its size, and that the entries share no
    /// bytes, by their sum. Whoever goes through the fields then looks at no more bytes than were given. See
    /// [`FieldList`] for an example.
    ///
    /// # Errors
    /// See [`ListError`].
    pub fn bounded(bytes: &'a [u8]) -> Result<Self, ListError> {
        if bytes.len() > LIST_BYTES_MAX {
            return Err(ListError::TooLarge);
        }
        let list = Self::parse(bytes).ok_or(ListError::Malformed)?;
        if list.count > ENTRIES_MAX {
            return Err(ListError::TooLarge);
        }
        if list.named_bytes().is_some_and(|sum| sum <= list.bytes.len()) {
            Ok(list)
        } else {
            Err(ListError::Malformed)
        }
    }

    /// Bytes of all names and values together, as the table has them.
    pub(crate) fn named_bytes(&self) -> Option<usize> {
        (0..self.count).try_fold(0_usize, |sum, i| {
            let at = self.table + i * ENTRY_BYTES;
            let (name, value) = (get_u32(self.bytes, at + 4)?, get_u32(self.bytes, at + 12)?);
            sum.checked_add(name as usize)?.checked_add(value as usize)
        })
    }

    pub(crate) fn at(bytes: &'a [u8], table: usize, count: usize) -> Option<Self> {
        let end = count.checked_mul(ENTRY_BYTES)?.checked_add(table)?;
        (end <= bytes.len()).then_some(Self { bytes, table, count })
    }

    /// Number of entries. See [`FieldList`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if there are none. See [`FieldList`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries in order; `None` stands for one whose bytes lie outside the layout. See [`FieldList`].
    pub fn iter(&self) -> impl Iterator<Item = Option<(&'a [u8], &'a [u8])>> + use<'a> {
        let Self { bytes, table, count } = *self;
        (0..count).map(move |i| {
            let at = table + i * ENTRY_BYTES;
            Some((get_span(bytes, at)?, get_span(bytes, at + 8)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    const FIELDS: [(&[u8], &[u8]); 2] = [(b"content-type", b"text/plain"), (b"x", b"")];

    #[test]
    fn what_is_packed_is_read_back() {
        let mut out = vec![0; 256];
        let n = pack(FIELDS.iter().copied(), &mut out).unwrap();
        assert_eq!(n, packed_bytes(2, 12 + 10 + 1));
        let list = FieldList::parse(&out[..n]).unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), vec![Some(FIELDS[0]), Some(FIELDS[1])]);
    }

    #[test]
    fn no_bytes_are_an_empty_list() {
        assert!(FieldList::parse(&[]).unwrap().is_empty());
    }

    /// A list of `count` entries which all name the `len` bytes behind the table.
    fn overlapping(count: usize, len: usize) -> Vec<u8> {
        let text = FIXED_BYTES + count * ENTRY_BYTES;
        let mut list = Vec::new();
        list.extend_from_slice(&u32::try_from(text + len).unwrap().to_le_bytes());
        list.extend_from_slice(&[1, 0, 16, 0]);
        list.extend_from_slice(&u32::try_from(count).unwrap().to_le_bytes());
        list.extend_from_slice(&[0; 4]);
        for _ in 0..count {
            for number in [text, 1, text, len] {
                list.extend_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
            }
        }
        list.resize(text + len, b' ');
        list
    }

    #[test]
    fn a_list_names_no_more_bytes_than_it_has() {
        let mut honest = vec![0; 256];
        let n = pack(FIELDS.iter().copied(), &mut honest).unwrap();
        assert_eq!(FieldList::bounded(&honest[..n]).unwrap().len(), 2);
        assert!(FieldList::bounded(&[]).unwrap().is_empty());
        assert_eq!(FieldList::bounded(&[0; 15]).unwrap_err(), ListError::Malformed);
        // One that is as long as can be, and one byte more.
        assert_eq!(FieldList::bounded(&overlapping(1, LIST_BYTES_MAX - 32)).unwrap().len(), 1);
        assert_eq!(
            FieldList::bounded(&overlapping(1, LIST_BYTES_MAX - 31)).unwrap_err(),
            ListError::TooLarge
        );
        // The same spaces over and over again.
        assert_eq!(FieldList::bounded(&overlapping(1_000, 65_536)).unwrap_err(), ListError::Malformed);
        // Lengths whose sum does not fit into 32 bits.
        let mut huge = overlapping(2, 8);
        huge[28..32].fill(0xff);
        huge[44..48].fill(0xff);
        assert_eq!(FieldList::bounded(&huge).unwrap_err(), ListError::Malformed);
    }

    #[test]
    fn a_list_has_so_many_entries_and_no_more() {
        assert_eq!(FieldList::bounded(&overlapping(ENTRIES_MAX, 0)).unwrap().len(), ENTRIES_MAX);
        assert_eq!(FieldList::bounded(&overlapping(ENTRIES_MAX + 1, 0)).unwrap_err(), ListError::TooLarge);
    }

    #[test]
    fn a_short_buffer_is_refused() {
        let mut out = vec![0; packed_bytes(2, 23)];
        for len in 0..out.len() {
            assert_eq!(pack(FIELDS.iter().copied(), &mut out[..len]), None, "{len}");
        }
        assert!(pack(FIELDS.iter().copied(), &mut out).is_some());
    }

    #[test]
    fn every_cut_and_every_changed_number_is_survived() {
        let mut out = vec![0; 128];
        let n = pack(FIELDS.iter().copied(), &mut out).unwrap();
        for len in 1..n {
            assert!(FieldList::parse(&out[..len]).is_none(), "{len}");
        }
        for at in 0..n {
            for value in [0xff, 0x80, 0x7f] {
                let mut bad = out[..n].to_vec();
                bad[at] = value;
                if let Some(list) = FieldList::parse(&bad) {
                    list.iter().for_each(drop);
                }
            }
        }
    }
}
