//! The packed head of a request, as `request_head` writes it.
//!
//! ```text
//!   0 size u32           all of it, tables and bytes included
//!   4 version u16        1
//!   6 fixed u16          where the tables begin; grows as fields are appended
//!   8 http_minor u8      0 for HTTP/1.0, 1 for HTTP/1.1
//!   9 scheme u8          0 http, 1 https
//!  10 flags u16          bit 0: a body follows
//!  12 request_body u32   handle to read from
//!  16 response_body u32  handle to write to
//!  20 mount_len u32      bytes of the path that the app's route covers
//!  24 deadline_ns u64    when the response head is due, on the monotonic clock of WASI
//!  32 method span        { offset u32, len u32 }
//!  40 target span        as the client sent it
//!  48 authority span     host and port, without userinfo; empty if there is none
//!  56 peer span          text: "192.0.2.1:4711", "[2001:db8::1]:4711" or "unix"
//!  64 local span         likewise
//!  72 request_id span
//!  80 params_count u32   route parameters
//!  84 fields_count u32   headers
//!  88 params_count x entry, then fields_count x entry (entries as in `fields`; header names in lower case),
//!     then the bytes
//! ```

use crate::VERSION;
use crate::bytes::{Writer, get_span, get_u16, get_u32, get_u64};
use crate::fields::{self, ENTRY_BYTES, FieldList};

/// Bytes before the tables, in this version.
pub const FIXED_BYTES: usize = 88;

/// Flag: a body follows the head (it may turn out to be empty).
pub const FLAG_BODY: u16 = 1;

/// What the host packs.
///
/// ```
/// use tidegate_abi::request::RequestHead;
///
/// let fields: [(&[u8], &[u8]); 1] = [(b"host", b"a.example")];
/// let params: [(&[u8], &[u8]); 1] = [(b"id", b"42")];
/// let head = RequestHead {
///     http_minor: 1,
///     secure: true,
///     has_body: false,
///     request_body: 3,
///     response_body: 4,
///     mount_len: 5,
///     deadline_ns: 30_000_000_000,
///     method: b"GET",
///     target: b"/shop/42",
///     authority: b"a.example",
///     peer: b"192.0.2.1:4711",
///     local: b"192.0.2.2:443",
///     request_id: b"r-1",
///     params: params.into_iter(),
///     fields: fields.into_iter(),
/// };
/// let size = head.pack(&mut []).unwrap();
/// let mut out = vec![0; size as usize];
/// assert_eq!(head.pack(&mut out), Some(size));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a, P, F> {
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub http_minor: u8,
    /// True for https.
    pub secure: bool,
    /// True if a body follows.
    pub has_body: bool,
    /// Handle of the request body.
    pub request_body: u32,
    /// Handle of the response body.
    pub response_body: u32,
    /// Bytes of the path that the app's route covers.
    pub mount_len: u32,
    /// When the response head is due, in nanoseconds on WASI's monotonic clock.
    pub deadline_ns: u64,
    /// The method, as sent.
    pub method: &'a [u8],
    /// The target, as sent.
    pub target: &'a [u8],
    /// Host and port.
    pub authority: &'a [u8],
    /// The client's address.
    pub peer: &'a [u8],
    /// The server's address.
    pub local: &'a [u8],
    /// The request's id.
    pub request_id: &'a [u8],
    /// Route parameters: name and value.
    pub params: P,
    /// Headers: name in lower case, and value.
    pub fields: F,
}

impl<'a, P, F> RequestHead<'a, P, F>
where
    P: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    F: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    fn texts(&self) -> [&'a [u8]; 6] {
        [self.method, self.target, self.authority, self.peer, self.local, self.request_id]
    }

    /// Packs the head into `out` if it fits. Returns its size in bytes either way: more than `out.len()` means that
    /// nothing was written. `None` if the head is larger than the layout can say. See [`RequestHead`].
    pub fn pack(&self, out: &mut [u8]) -> Option<u32> {
        let (params, params_text) = fields::measure(self.params.clone());
        let (count, fields_text) = fields::measure(self.fields.clone());
        let tables = FIXED_BYTES + (params + count) * ENTRY_BYTES;
        let fixed_text: usize = self.texts().iter().map(|t| t.len()).sum();
        let size = tables + fixed_text + params_text + fields_text;
        let size32 = u32::try_from(size).ok()?;
        let Some(out) = out.get_mut(..size) else { return Some(size32) };

        let mut w = Writer::new(out);
        w.u32(size32);
        w.u16(VERSION);
        w.u16(FIXED_BYTES as u16);
        w.put(&[self.http_minor, u8::from(self.secure)]);
        w.u16(if self.has_body { FLAG_BODY } else { 0 });
        w.u32(self.request_body);
        w.u32(self.response_body);
        w.u32(self.mount_len);
        w.u64(self.deadline_ns);
        let mut next = tables;
        for text in self.texts() {
            w.span(&mut next, text.len());
        }
        w.u32(u32::try_from(params).ok()?);
        w.u32(u32::try_from(count).ok()?);
        fields::put_table(&mut w, self.params.clone(), next);
        fields::put_table(&mut w, self.fields.clone(), next + params_text);
        for text in self.texts() {
            w.put(text);
        }
        fields::put_bytes(&mut w, self.params.clone());
        fields::put_bytes(&mut w, self.fields.clone());
        w.finish().map(|_| size32)
    }
}

/// A packed head as the guest reads it.
///
/// ```
/// use tidegate_abi::request::RequestView;
///
/// # use tidegate_abi::request::RequestHead;
/// # let head = RequestHead {
/// #     http_minor: 1,
/// #     secure: true,
/// #     has_body: false,
/// #     request_body: 3,
/// #     response_body: 4,
/// #     mount_len: 5,
/// #     deadline_ns: 30_000_000_000,
/// #     method: b"GET",
/// #     target: b"/shop/42",
/// #     authority: b"a.example",
/// #     peer: b"192.0.2.1:4711",
/// #     local: b"192.0.2.2:443",
/// #     request_id: b"r-1",
/// #     params: [(&b"id"[..], &b"42"[..])].into_iter(),
/// #     fields: [(&b"host"[..], &b"a.example"[..])].into_iter(),
/// # };
/// # let mut packed = [0; 512];
/// # head.pack(&mut packed).unwrap();
/// let view = RequestView::parse(&packed).unwrap();
/// assert_eq!((view.method(), view.target(), view.http_minor()), (&b"GET"[..], &b"/shop/42"[..], 1));
/// assert_eq!((view.secure(), view.authority()), (true, &b"a.example"[..]));
/// assert_eq!((view.peer(), view.local()), (&b"192.0.2.1:4711"[..], &b"192.0.2.2:443"[..]));
/// assert_eq!((view.has_body(), view.request_body(), view.response_body()), (false, 3, 4));
/// assert_eq!(&view.target()[..view.mount_len()], b"/shop");
/// assert_eq!((view.deadline_ns(), view.request_id()), (30_000_000_000, &b"r-1"[..]));
/// assert!(view.params().iter().flatten().eq([(&b"id"[..], &b"42"[..])]));
/// assert!(view.fields().iter().flatten().eq([(&b"host"[..], &b"a.example"[..])]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    bytes: &'a [u8],
    params: FieldList<'a>,
    fields: FieldList<'a>,
}

impl<'a> RequestView<'a> {
    /// Checks the outline. `None`: cut off, of another version, or a table that leaves it.
    ///
    /// ```
    /// use tidegate_abi::request::RequestView;
    ///
    /// assert!(RequestView::parse(&[88, 0, 0, 0]).is_none());
    /// ```
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.get(..get_u32(bytes, 0)? as usize)?;
        let fixed = get_u16(bytes, 6)? as usize;
        if get_u16(bytes, 4)? != VERSION || fixed < FIXED_BYTES {
            return None;
        }
        let params_count = get_u32(bytes, 80)? as usize;
        let params = FieldList::at(bytes, fixed, params_count)?;
        let after = params_count.checked_mul(ENTRY_BYTES)?.checked_add(fixed)?;
        let fields = FieldList::at(bytes, after, get_u32(bytes, 84)? as usize)?;
        Some(Self { bytes, params, fields })
    }

    fn number(&self, at: usize) -> u32 {
        get_u32(self.bytes, at).unwrap_or(0)
    }

    fn text(&self, at: usize) -> &'a [u8] {
        get_span(self.bytes, at).unwrap_or(&[])
    }

    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    #[must_use]
    pub fn http_minor(&self) -> u8 {
        self.bytes.get(8).copied().unwrap_or(1)
    }

    /// True for https.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.bytes.get(9) == Some(&1)
    }

    /// True if a body follows.
    #[must_use]
    pub fn has_body(&self) -> bool {
        get_u16(self.bytes, 10).unwrap_or(0) & FLAG_BODY != 0
    }

    /// Handle of the request body.
    #[must_use]
    pub fn request_body(&self) -> u32 {
        self.number(12)
    }

    /// Handle of the response body.
    #[must_use]
    pub fn response_body(&self) -> u32 {
        self.number(16)
    }

    /// Bytes of the path that the app's route covers.
    #[must_use]
    pub fn mount_len(&self) -> usize {
        self.number(20) as usize
    }

    /// When the response head is due, in nanoseconds on WASI's monotonic clock.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        get_u64(self.bytes, 24).unwrap_or(u64::MAX)
    }

    /// The method, as sent.
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        self.text(32)
    }

    /// The target, as sent.
    #[must_use]
    pub fn target(&self) -> &'a [u8] {
        self.text(40)
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &'a [u8] {
        self.text(48)
    }

    /// The client's address, as text.
    #[must_use]
    pub fn peer(&self) -> &'a [u8] {
        self.text(56)
    }

    /// The server's address, as text.
    #[must_use]
    pub fn local(&self) -> &'a [u8] {
        self.text(64)
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &'a [u8] {
        self.text(72)
    }

    /// Route parameters.
    #[must_use]
    pub fn params(&self) -> FieldList<'a> {
        self.params
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

    const PARAMS: [(&[u8], &[u8]); 1] = [(b"id", b"42")];
    const FIELDS: [(&[u8], &[u8]); 2] = [(b"host", b"a.example"), (b"accept", b"*/*")];

    type Pairs = core::iter::Copied<core::slice::Iter<'static, (&'static [u8], &'static [u8])>>;

    fn head() -> RequestHead<'static, Pairs, Pairs> {
        RequestHead {
            http_minor: 1,
            secure: false,
            has_body: true,
            request_body: 3,
            response_body: 4,
            mount_len: 5,
            deadline_ns: 77,
            method: b"POST",
            target: b"/shop/42?x=1",
            authority: b"a.example:80",
            peer: b"127.0.0.1:4711",
            local: b"127.0.0.1:8080",
            request_id: b"r-1",
            params: PARAMS.iter().copied(),
            fields: FIELDS.iter().copied(),
        }
    }

    #[test]
    fn what_is_packed_is_read_back() {
        let mut out = vec![0; 1024];
        let size = head().pack(&mut out).unwrap() as usize;
        let view = RequestView::parse(&out[..size]).unwrap();
        assert_eq!((view.http_minor(), view.secure(), view.has_body()), (1, false, true));
        assert_eq!((view.request_body(), view.response_body(), view.mount_len()), (3, 4, 5));
        assert_eq!(view.deadline_ns(), 77);
        assert_eq!(view.method(), b"POST");
        assert_eq!(view.target(), b"/shop/42?x=1");
        assert_eq!(view.authority(), b"a.example:80");
        assert_eq!(view.peer(), b"127.0.0.1:4711");
        assert_eq!(view.local(), b"127.0.0.1:8080");
        assert_eq!(view.request_id(), b"r-1");
        assert_eq!(view.params().iter().flatten().collect::<Vec<_>>(), PARAMS);
        assert_eq!(view.fields().iter().flatten().collect::<Vec<_>>(), FIELDS);
    }

    #[test]
    fn too_small_a_buffer_is_left_alone_and_told_the_size() {
        let mut out = vec![0; 1024];
        let size = head().pack(&mut out).unwrap();
        let mut small = vec![0xaa; size as usize - 1];
        assert_eq!(head().pack(&mut small), Some(size));
        assert!(small.iter().all(|b| *b == 0xaa));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let mut out = vec![0; 1024];
        let size = head().pack(&mut out).unwrap() as usize;
        for len in 0..size {
            assert!(RequestView::parse(&out[..len]).is_none());
        }
        for at in 0..size {
            let mut bad = out[..size].to_vec();
            bad[at] = 0xff;
            if let Some(view) = RequestView::parse(&bad) {
                view.fields().iter().for_each(drop);
                let _ = (view.method(), view.request_id(), view.target());
            }
        }
    }
}
