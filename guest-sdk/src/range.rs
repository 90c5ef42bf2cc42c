//! Range requests (RFC 9110 section 14), with the feature `range`.
//!
//! [`Response::with_range`] does it all for a body that is there as a whole. Who streams content of a known length asks
//! [`requested`] (or [`parse`]) which part is wanted, and sends that.
//!
//! Several parts are answered with the whole, which is always allowed, unless together they make one. Invariant: a
//! [`Range`] that comes from here is not empty and lies within the content.

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    LAST_MODIFIED,
};
use http::{HeaderValue, Method, StatusCode};
use http_range_header::{EndPosition, RangeUnsatisfiableError, StartPosition, parse_range_header};

use crate::error::Error;
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// A part of some content, in bytes: from `start` up to, but not including, `end`.
///
/// ```
/// use tidegate_sdk::range::Range;
///
/// let part = Range { start: 2, end: 6 };
/// assert_eq!(part.len(), 4);
/// assert_eq!(&"a long one"[part.start as usize..part.end as usize], "long");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::len_without_is_empty)] // It is never empty.
pub struct Range {
    /// The first byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Range {
    /// How many bytes it is. See [`Range`].
    #[must_use]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// The value of `Content-Range` for it, where `length` is that of the whole content (RFC 9110 section 14.4).
    ///
    /// ```
    /// use tidegate_sdk::range::Range;
    ///
    /// assert_eq!(Range { start: 0, end: 500 }.content_range(1234), "bytes 0-499/1234");
    /// ```
    #[must_use]
    pub fn content_range(self, length: u64) -> HeaderValue {
        field(format!("bytes {}-{}/{length}", self.start, self.end - 1))
    }
}

/// Digits and punctuation as a field's value.
fn field(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("it is plain ASCII")
}

/// What a client asked for. See [`requested`] and [`parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// Everything: 200.
    Whole,
    /// One part: 206 with [`Range::content_range`].
    Part(Range),
    /// Nothing that is there: 416; [`unsatisfiable`] makes the error.
    Unsatisfiable,
}

/// Reads a `Range` field for content of `length` bytes (RFC 9110 section 14.2). One that cannot be read, or is in other
/// units, asks for everything: so says the RFC.
///
/// ```
/// use tidegate_sdk::range::{Range, Requested, parse};
///
/// assert_eq!(parse("bytes=2-", 10), Requested::Part(Range { start: 2, end: 10 }));
/// assert_eq!(parse("bytes=-3", 10), Requested::Part(Range { start: 7, end: 10 }));
/// assert_eq!(parse("bytes=10-", 10), Requested::Unsatisfiable);
/// assert_eq!(parse("lines=1-2", 10), Requested::Whole);
/// ```
#[must_use]
pub fn parse(field: &str, length: u64) -> Requested {
    let Some(set) = bytes_set(field) else { return Requested::Whole };
    let specs = match parse_range_header(&format!("bytes={set}")) {
        Ok(parsed) => parsed.ranges,
        // Well-formed, but nobody can send the last no bytes.
        Err(RangeUnsatisfiableError::ZeroSuffix) if !set.contains(',') => return Requested::Unsatisfiable,
        Err(_) => return Requested::Whole,
    };
    let mut parts = Vec::with_capacity(specs.len());
    for spec in &specs {
        match part(spec.start, spec.end, length) {
            Part::There(range) => parts.push(range),
            Part::Beyond => {}
            Part::Unanswerable => return Requested::Whole,
        }
    }
    match merged(parts).as_slice() {
        [] => Requested::Unsatisfiable,
        [one] => Requested::Part(*one),
        _ => Requested::Whole,
    }
}

/// The ranges of a field whose unit is `bytes`, in any letter case.
fn bytes_set(field: &str) -> Option<&str> {
    let (unit, set) = field.split_once('=')?;
    unit.eq_ignore_ascii_case("bytes").then_some(set)
}

/// Where one range of the field lies.
enum Part {
    There(Range),
    /// Past the end.
    Beyond,
    /// Last before first, which makes the whole field invalid; or the end of nothing, for which there is no
    /// `Content-Range`.
    Unanswerable,
}

fn part(start: StartPosition, end: EndPosition, length: u64) -> Part {
    let start = match start {
        StartPosition::Index(start) => start,
        StartPosition::FromLast(_) if length == 0 => return Part::Unanswerable,
        StartPosition::FromLast(count) => length.saturating_sub(count),
    };
    let end = match end {
        EndPosition::Index(last) if last < start => return Part::Unanswerable,
        EndPosition::Index(last) => last.saturating_add(1).min(length),
        EndPosition::LastByte => length,
    };
    if start < length { Part::There(Range { start, end }) } else { Part::Beyond }
}

/// `parts` in order, with those that overlap or touch made one.
fn merged(mut parts: Vec<Range>) -> Vec<Range> {
    parts.sort_unstable();
    parts.dedup_by(|next, kept| {
        let touches = next.start <= kept.end;
        if touches {
            kept.end = kept.end.max(next.end);
        }
        touches
    });
    parts
}

/// Which part of content of `length` bytes `request` asks for. `validators` are the content's `ETag` and `Last-Modified`,
/// whichever it has, as they are sent: what `If-Range` is compared with (RFC 9110 section 13.1.5).
///
/// ```
/// use tidegate_sdk::range::{self, Requested};
/// use tidegate_sdk::{Request, Response, Result, StatusCode};
///
/// /// A mebibyte of zeros, of which clients may fetch any part.
/// fn zeros(request: Request) -> Result<Response> {
///     let length = 1 << 20;
///     let part = match range::requested(&request, length, &["\"v1\""]) {
///         Requested::Whole => return Ok(Response::bytes(vec![0; 1 << 20]).with_header("accept-ranges", "bytes")),
///         Requested::Part(part) => part,
///         Requested::Unsatisfiable => return Err(range::unsatisfiable(length)),
///     };
///     Ok(Response::bytes(vec![0; part.len() as usize])
///         .with_status(StatusCode::PARTIAL_CONTENT)
///         .with_header("etag", "\"v1\"")
///         .with_header("content-range", part.content_range(length)))
/// }
/// # use tidegate_sdk::test::Exchange;
/// # let answer = Exchange::get("/").header("range", "bytes=0-9").run(zeros);
/// # assert_eq!(answer.assert_status(206).body, [0; 10]);
/// ```
#[must_use]
pub fn requested(request: &Request, length: u64, validators: &[&str]) -> Requested {
    // Only GET knows ranges (RFC 9110 section 14.2).
    if request.method() != Method::GET {
        return Requested::Whole;
    }
    match (request.header("range"), request.header("if-range")) {
        (Some(field), None) => parse(field, length),
        (Some(field), Some(condition)) if is_strong(condition) && validators.contains(&condition) => {
            parse(field, length)
        }
        _ => Requested::Whole,
    }
}

/// Weak entity tags never match here: the bytes may have changed. A date is compared as the text it was sent as, which
/// is what "exact match" asks for.
fn is_strong(validator: &str) -> bool {
    !validator.starts_with("W/")
}

/// 416 with the length that there is (RFC 9110 section 15.5.17), for content of `length` bytes.
///
/// ```
/// use tidegate_sdk::{IntoResponse, range};
///
/// let response = range::unsatisfiable(10).into_response();
/// assert_eq!(response.status_code(), 416);
/// assert_eq!(response.header("content-range").unwrap(), "bytes */10");
/// ```
#[must_use]
pub fn unsatisfiable(length: u64) -> Error {
    let message = format!("the content has {length} bytes; none of them was asked for");
    Error::status(StatusCode::RANGE_NOT_SATISFIABLE, message)
        .with_header(CONTENT_RANGE, field(format!("bytes */{length}")))
        .with_header(ACCEPT_RANGES, HeaderValue::from_static("bytes"))
}

/// Headers that speak of the content, and so not of a 416.
const OF_CONTENT: [http::HeaderName; 6] =
    [CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LAST_MODIFIED];

/// Parts of whole responses, with the feature `range`.
impl Response {
    /// The same, or the part of it that `request` asks for: 206 with `Content-Range`, or 416 if it has no such part. Only
    /// a 200 with a whole body to a GET is cut; anything else stays as it is. Call it last: `If-Range` is compared with
    /// the `ETag` and the `Last-Modified` of this response.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Response};
    ///
    /// static FILM: &[u8] = b"a long one";
    ///
    /// fn film(request: Request) -> Response {
    ///     Response::bytes(FILM).with_header("etag", "\"1\"").with_range(&request)
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # let answer = Exchange::get("/").header("range", "bytes=2-5").run(film);
    /// # assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (206, "long"));
    /// ```
    #[must_use]
    pub fn with_range(mut self, request: &Request) -> Self {
        let (StatusCode::OK, Some(body)) = (self.status_code(), self.body()) else { return self };
        let length = body.as_bytes().len() as u64;
        // By their typed names: a search by text would bring 18 KiB of code.
        let headers = self.headers_mut();
        let validators =
            [ETAG, LAST_MODIFIED].map(|name| headers.get(name).and_then(|value| value.to_str().ok()));
        let validators: Vec<&str> = validators.into_iter().flatten().collect();
        match requested(request, length, &validators) {
            Requested::Whole => self.with_header(ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            Requested::Part(part) => self.cut(part, length),
            Requested::Unsatisfiable => {
                let mut refusal = unsatisfiable(length).into_response();
                let mut kept = std::mem::take(self.headers_mut());
                for name in OF_CONTENT {
                    kept.remove(name);
                }
                refusal.headers_mut().extend(kept);
                refusal
            }
        }
    }

    fn cut(mut self, part: Range, length: u64) -> Self {
        // In `usize`: both lie within a body in memory.
        let bytes = part.start as usize..part.end as usize;
        let body = self.body().map(|body| body.as_bytes()[bytes].to_vec()).unwrap_or_default();
        // The length of the whole, if the handler gave one.
        self.headers_mut().remove(CONTENT_LENGTH);
        self.with_status(StatusCode::PARTIAL_CONTENT)
            .with_header(CONTENT_RANGE, part.content_range(length))
            .with_header(ACCEPT_RANGES, HeaderValue::from_static("bytes"))
            .with_body(body)
    }
}
