//! Requests to others: the head that a guest gives [`crate::names::fetch::REQUEST`], and the one that it is given of the
//! response.
//!
//! ```text
//! the request's                                         the response's
//!  0 size u32            all of it                       0 size u32          all of it
//!  4 version u16         1                               4 version u16       1
//!  6 fixed u16           72: where the table begins      6 fixed u16         16: where the table begins
//!  8 scheme u8           0 http, 1 https                 8 status u16
//!  9 reserved u8         0                              10 reserved u16      0
//! 10 flags u16           see the constants              12 fields_count u32
//! 12 fields_count u32                                   16 fields_count x entry, then the bytes
//! 16 body_len u64        with `FLAG_LENGTH`
//! 24 connect_ns u64      how long to wait for a connection; 0: the host's default
//! 32 first_byte_ns u64   for the response's head, likewise
//! 40 between_ns u64      for more bytes of its body, likewise
//! 48 method span         { offset u32, len u32 }
//! 56 authority span      host, and port unless it is the scheme's own
//! 64 path span           with the query; no bytes: "/"
//! 72 fields_count x entry (entries as in `fields`), then the bytes
//! ```
//!
//! A host must be able to bound its work before it looks at a single field: see [`RequestView::bounded`].

use crate::VERSION;
use crate::bytes::{Writer, get_span, get_u16, get_u32, get_u64};
use crate::fields::{self, ENTRIES_MAX, ENTRY_BYTES, FieldList, LIST_BYTES_MAX, ListError};

/// Bytes before the table of a request's head, in this version.
pub const REQUEST_FIXED_BYTES: usize = 72;
/// Bytes before the table of a response's head, in this version.
pub const RESPONSE_FIXED_BYTES: usize = 16;

/// Flag of a request: more of the body is written after the call, until `finish`. Without it the body is what is given
/// with the call.
pub const FLAG_STREAM: u16 = 1;
/// Flag of a request: `body_len` says how long the body is in all. It stands beside [`FLAG_STREAM`] only.
pub const FLAG_LENGTH: u16 = 2;

/// What a guest says of the body of a request.
///
/// ```
/// use tidegate_abi::fetch::Body;
///
/// assert_ne!(Body::Given, Body::Stream(None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It is given with the call, all of it; there may be none.
    Given,
    /// It is written after the call; of so many bytes, if that is known.
    Stream(Option<u64>),
}

/// How long to wait, in nanoseconds; 0 is the host's default.
///
/// ```
/// use tidegate_abi::fetch::Timeouts;
///
/// assert_eq!(Timeouts::default().connect_ns, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect_ns: u64,
    /// For the response's head.
    pub first_byte_ns: u64,
    /// For more bytes of the response's body.
    pub between_ns: u64,
}

/// What a guest packs.
///
/// ```
/// use tidegate_abi::fetch::{Body, Request, RequestView, Timeouts};
///
/// let fields: [(&[u8], &[u8]); 1] = [(b"accept", b"*/*")];
/// let request = Request {
///     https: true,
///     body: Body::Stream(Some(12)),
///     timeouts: Timeouts { connect_ns: 5_000_000_000, ..Timeouts::default() },
///     method: b"PUT",
///     authority: b"api.example",
///     path: b"/items/42?x=1",
///     fields: fields.into_iter(),
/// };
/// let size = request.pack(&mut []).unwrap();
/// let mut packed = vec![0; size as usize];
/// assert_eq!(request.pack(&mut packed), Some(size));
///
/// let view = RequestView::bounded(&packed).unwrap();
/// assert_eq!((view.https(), view.body()), (true, Body::Stream(Some(12))));
/// assert_eq!((view.method(), view.authority()), (&b"PUT"[..], &b"api.example"[..]));
/// assert_eq!((view.path(), view.timeouts().connect_ns), (&b"/items/42?x=1"[..], 5_000_000_000));
/// assert!(view.fields().iter().flatten().eq(fields));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, F> {
    /// True for https.
    pub https: bool,
    /// What follows.
    pub body: Body,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// The method, as it is sent.
    pub method: &'a [u8],
    /// Host, and port unless it is the scheme's own.
    pub authority: &'a [u8],
    /// Path and query.
    pub path: &'a [u8],
    /// Headers: name and value.
    pub fields: F,
}

impl<'a, F> Request<'a, F>
where
    F: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    /// Packs the head into `out` if it fits. Returns its size in bytes either way: more than `out.len()` means that
    /// nothing was written. `None` if the head is larger than the layout can say. See [`Request`].
    pub fn pack(&self, out: &mut [u8]) -> Option<u32> {
        let texts = [self.method, self.authority, self.path];
        let (count, fields_text) = fields::measure(self.fields.clone());
        let text: usize = texts.iter().map(|t| t.len()).sum();
        let table_end = REQUEST_FIXED_BYTES + count * ENTRY_BYTES;
        let size = u32::try_from(table_end + text + fields_text).ok()?;
        let Some(out) = out.get_mut(..size as usize) else { return Some(size) };

        let (flags, body_len) = match self.body {
            Body::Given => (0, 0),
            Body::Stream(None) => (FLAG_STREAM, 0),
            Body::Stream(Some(len)) => (FLAG_STREAM | FLAG_LENGTH, len),
        };
        let mut w = Writer::new(out);
        w.u32(size);
        w.u16(VERSION);
        w.u16(REQUEST_FIXED_BYTES as u16);
        w.put(&[u8::from(self.https), 0]);
        w.u16(flags);
        w.u32(u32::try_from(count).ok()?);
        w.u64(body_len);
        w.u64(self.timeouts.connect_ns);
        w.u64(self.timeouts.first_byte_ns);
        w.u64(self.timeouts.between_ns);
        let mut next = table_end;
        for text in texts {
            w.span(&mut next, text.len());
        }
        fields::put_table(&mut w, self.fields.clone(), next);
        for text in texts {
            w.put(text);
        }
        fields::put_bytes(&mut w, self.fields.clone());
        w.finish().map(|_| size)
    }
}

/// A request's head as the host reads it: its outline and its numbers are checked, each text and field is checked as it
/// is read. See [`Request`] for an example.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    bytes: &'a [u8],
    fields: FieldList<'a>,
    https: bool,
    body: Body,
}

impl<'a> RequestView<'a> {
    /// Checks a head that comes from the other side: besides its outline its size, and that its texts and fields share
    /// no bytes, by their sum. Whoever goes through them then looks at no more bytes than were given.
    ///
    /// ```
    /// use tidegate_abi::fetch::RequestView;
    /// use tidegate_abi::fields::ListError;
    ///
    /// assert_eq!(RequestView::bounded(&[72, 0, 0, 0]).unwrap_err(), ListError::Malformed);
    /// ```
    ///
    /// # Errors
    /// See [`ListError`]. A scheme, flags, or a text outside of the layout count as malformed.
    pub fn bounded(bytes: &'a [u8]) -> Result<Self, ListError> {
        if bytes.len() > LIST_BYTES_MAX {
            return Err(ListError::TooLarge);
        }
        let view = Self::parse(bytes).ok_or(ListError::Malformed)?;
        if view.fields.len() > ENTRIES_MAX {
            return Err(ListError::TooLarge);
        }
        let texts = [48, 56, 64]
            .into_iter()
            .try_fold(0_usize, |sum, at| sum.checked_add(get_span(view.bytes, at)?.len()));
        let sum = texts.and_then(|texts| view.fields.named_bytes()?.checked_add(texts));
        sum.filter(|sum| *sum <= view.bytes.len()).map(|_| view).ok_or(ListError::Malformed)
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.get(..get_u32(bytes, 0)? as usize)?;
        let fixed = get_u16(bytes, 6)? as usize;
        if get_u16(bytes, 4)? != VERSION || fixed < REQUEST_FIXED_BYTES {
            return None;
        }
        let fields = FieldList::at(bytes, fixed, get_u32(bytes, 12)? as usize)?;
        let https = match bytes.get(8)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let body = match get_u16(bytes, 10)? {
            0 => Body::Given,
            FLAG_STREAM => Body::Stream(None),
            flags if flags == FLAG_STREAM | FLAG_LENGTH => Body::Stream(Some(get_u64(bytes, 16)?)),
            _ => return None,
        };
        Some(Self { bytes, fields, https, body })
    }

    fn number(&self, at: usize) -> u64 {
        get_u64(self.bytes, at).unwrap_or(0)
    }

    fn text(&self, at: usize) -> &'a [u8] {
        get_span(self.bytes, at).unwrap_or(&[])
    }

    /// True for https.
    #[must_use]
    pub fn https(&self) -> bool {
        self.https
    }

    /// What follows.
    #[must_use]
    pub fn body(&self) -> Body {
        self.body
    }

    /// How long to wait.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        Timeouts { connect_ns: self.number(24), first_byte_ns: self.number(32), between_ns: self.number(40) }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        self.text(48)
    }

    /// Host, and maybe port.
    #[must_use]
    pub fn authority(&self) -> &'a [u8] {
        self.text(56)
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.text(64)
    }

    /// Headers.
    #[must_use]
    pub fn fields(&self) -> FieldList<'a> {
        self.fields
    }
}

/// The head of a response, as the host packs it.
///
/// ```
/// use tidegate_abi::fetch::{Response, ResponseView};
///
/// let fields: [(&[u8], &[u8]); 1] = [(b"content-type", b"text/plain")];
/// let response = Response { status: 200, fields: fields.into_iter() };
/// let mut packed = [0; 64];
/// let size = response.pack(&mut packed).unwrap();
/// let view = ResponseView::parse(&packed[..size as usize]).unwrap();
/// assert_eq!(view.status(), 200);
/// assert!(view.fields().iter().flatten().eq(fields));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Response<F> {
    /// The status: 200 and above.
    pub status: u16,
    /// Headers: name in lower case, and value.
    pub fields: F,
}

impl<'a, F> Response<F>
where
    F: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    /// Packs the head into `out` if it fits, as [`Request::pack`] does. See [`Response`].
    pub fn pack(&self, out: &mut [u8]) -> Option<u32> {
        let (count, text) = fields::measure(self.fields.clone());
        let table_end = RESPONSE_FIXED_BYTES + count * ENTRY_BYTES;
        let size = u32::try_from(table_end + text).ok()?;
        let Some(out) = out.get_mut(..size as usize) else { return Some(size) };
        let mut w = Writer::new(out);
        w.u32(size);
        w.u16(VERSION);
        w.u16(RESPONSE_FIXED_BYTES as u16);
        w.u16(self.status);
        w.u16(0);
        w.u32(u32::try_from(count).ok()?);
        fields::put_table(&mut w, self.fields.clone(), table_end);
        fields::put_bytes(&mut w, self.fields.clone());
        w.finish().map(|_| size)
    }
}

/// A response's head as the guest reads it. See [`Response`].
#[derive(Clone, Copy, Debug)]
pub struct ResponseView<'a> {
    status: u16,
    fields: FieldList<'a>,
}

impl<'a> ResponseView<'a> {
    /// Checks the outline. `None`: cut off, of another version, or a table that leaves it.
    ///
    /// ```
    /// use tidegate_abi::fetch::ResponseView;
    ///
    /// assert!(ResponseView::parse(&[16, 0, 0, 0]).is_none());
    /// ```
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.get(..get_u32(bytes, 0)? as usize)?;
        let fixed = get_u16(bytes, 6)? as usize;
        if get_u16(bytes, 4)? != VERSION || fixed < RESPONSE_FIXED_BYTES {
            return None;
        }
        let fields = FieldList::at(bytes, fixed, get_u32(bytes, 12)? as usize)?;
        Some(Self { status: get_u16(bytes, 8)?, fields })
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Headers; names are in lower case.
    #[must_use]
    pub fn fields(&self) -> FieldList<'a> {
        self.fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    const FIELDS: [(&[u8], &[u8]); 2] = [(b"accept", b"*/*"), (b"x-empty", b"")];

    type Pairs<'a> = core::iter::Copied<core::slice::Iter<'a, (&'a [u8], &'a [u8])>>;

    fn request(body: Body) -> Request<'static, Pairs<'static>> {
        Request {
            https: true,
            body,
            timeouts: Timeouts { connect_ns: 1, first_byte_ns: 2, between_ns: u64::MAX },
            method: b"PATCH",
            authority: b"db.example:8443",
            path: b"/a/b?c=d",
            fields: FIELDS.iter().copied(),
        }
    }

    fn packed(body: Body) -> Vec<u8> {
        let mut out = vec![0; request(body).pack(&mut []).unwrap() as usize];
        let size = out.len();
        assert_eq!(request(body).pack(&mut out).unwrap() as usize, size);
        out
    }

    #[test]
    fn what_is_packed_is_read_back() {
        for body in [Body::Given, Body::Stream(None), Body::Stream(Some(0)), Body::Stream(Some(u64::MAX))] {
            let bytes = packed(body);
            let view = RequestView::bounded(&bytes).unwrap();
            assert_eq!((view.https(), view.body()), (true, body));
            assert_eq!(view.timeouts(), request(body).timeouts);
            assert_eq!((view.method(), view.authority()), (&b"PATCH"[..], &b"db.example:8443"[..]));
            assert_eq!(view.path(), b"/a/b?c=d");
            assert_eq!(view.fields().iter().flatten().collect::<Vec<_>>(), FIELDS);
        }
        let mut out = [0; 256];
        let response = Response { status: 599, fields: FIELDS.iter().copied() };
        let size = response.pack(&mut out).unwrap() as usize;
        let view = ResponseView::parse(&out[..size]).unwrap();
        assert_eq!(view.status(), 599);
        assert_eq!(view.fields().iter().flatten().collect::<Vec<_>>(), FIELDS);
    }

    #[test]
    fn too_small_a_buffer_is_left_alone_and_told_the_size() {
        let size = packed(Body::Given).len();
        let mut small = vec![0xaa; size - 1];
        assert_eq!(request(Body::Given).pack(&mut small).unwrap() as usize, size);
        let response = Response { status: 200, fields: FIELDS.iter().copied() };
        let size = response.pack(&mut []).unwrap() as usize;
        assert_eq!(response.pack(&mut small[..size - 1]).unwrap() as usize, size);
        assert!(small.iter().all(|byte| *byte == 0xaa));
    }

    /// A head with one thing changed is malformed.
    fn malformed(change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = packed(Body::Stream(Some(3)));
        change(&mut bytes);
        assert_eq!(RequestView::bounded(&bytes).unwrap_err(), ListError::Malformed);
    }

    #[test]
    fn what_is_not_known_is_not_taken() {
        malformed(|bytes| bytes[4] = 2);
        malformed(|bytes| bytes[6] = 71);
        malformed(|bytes| bytes[8] = 2);
        // A length without a stream, and a flag of a later version.
        malformed(|bytes| bytes[10] = 2);
        malformed(|bytes| bytes[10] = 4);
        // Texts that leave the layout: their beginning, and their length.
        for span in [48, 56, 64] {
            malformed(|bytes| bytes[span + 3] = 1);
            malformed(|bytes| bytes[span + 7] = 1);
        }
    }

    #[test]
    fn a_head_names_no_more_bytes_than_it_has() {
        // The path and every field name all of the head, over and over again.
        malformed(|bytes| {
            let all = u32::try_from(bytes.len()).unwrap().to_le_bytes();
            for span in [64, 72, 80, 88, 96] {
                bytes[span..span + 4].fill(0);
                bytes[span + 4..span + 8].copy_from_slice(&all);
            }
        });
        // Lengths whose sum does not fit into 32 bits.
        malformed(|bytes| bytes[76..80].fill(0xff));
    }

    #[test]
    fn a_head_is_no_larger_than_a_list_may_be() {
        let mut bytes = packed(Body::Given);
        bytes.resize(LIST_BYTES_MAX, 0);
        assert!(RequestView::bounded(&bytes).is_ok(), "what is behind it is not looked at");
        bytes.push(0);
        assert_eq!(RequestView::bounded(&bytes).unwrap_err(), ListError::TooLarge);

        for (count, taken) in [(ENTRIES_MAX, true), (ENTRIES_MAX + 1, false)] {
            let fields = vec![(&b""[..], &b""[..]); count];
            let many: Request<'_, Pairs<'_>> =
                Request { fields: fields.iter().copied(), ..request(Body::Given) };
            let mut out = vec![0; many.pack(&mut []).unwrap() as usize];
            many.pack(&mut out).unwrap();
            assert_eq!(RequestView::bounded(&out).is_ok(), taken, "{count}");
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let bytes = packed(Body::Stream(None));
        for len in 0..bytes.len() {
            assert!(RequestView::bounded(&bytes[..len]).is_err(), "{len}");
        }
        let mut response = vec![0; 256];
        let size = Response { status: 200, fields: FIELDS.iter().copied() }.pack(&mut response).unwrap();
        response.truncate(size as usize);
        for len in 0..response.len() {
            assert!(ResponseView::parse(&response[..len]).is_none(), "{len}");
        }
        for value in [0x00, 0x7f, 0xff] {
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] = value;
                if let Ok(view) = RequestView::bounded(&bad) {
                    view.fields().iter().for_each(drop);
                    assert!(view.method().len() + view.authority().len() + view.path().len() <= bad.len());
                }
            }
            for at in 0..response.len() {
                let mut bad = response.clone();
                bad[at] = value;
                if let Some(view) = ResponseView::parse(&bad) {
                    view.fields().iter().for_each(drop);
                }
            }
        }
    }
}
