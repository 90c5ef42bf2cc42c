//! What readers of bodies share: which type a body says it has, and how much of a client's text an error repeats.

use http::StatusCode;

use crate::error::Error;
use crate::request::Request;

/// The most bytes of a message that an error shows: what is wrong fits, what a client sent to fill a log does not.
const SHOWN_BYTES_MAX: usize = 200;

/// `text`, or its beginning.
pub(crate) fn clip(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)])
}

/// The media type of the body in lower case, without parameters (RFC 9110 section 8.3.1); `None` if none is given.
pub(crate) fn media_type(request: &Request) -> Option<String> {
    let value = request.values("content-type").next()?;
    // One that is not UTF-8 is no media type, but it was given.
    let Ok(value) = std::str::from_utf8(value) else { return Some("unreadable".to_owned()) };
    let essence = value.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

/// 415, with what was given and what is taken instead.
pub(crate) fn unsupported(given: &str, wanted: &str) -> Error {
    let given = if given.is_empty() { "of an empty type" } else { given };
    let message = format!("the body is {}; {wanted} is expected", clip(given));
    Error::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}
