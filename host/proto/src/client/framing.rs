//! How long a response's body is, and whether the connection outlives it: decided once, here (RFC 9112 6.3 and 9.3).
//!
//! Pure: what the head says goes in, a decision comes out. Wherever two readers could disagree about the length, the
//! response is refused.

use crate::http1::fields::{parse_content_length, trim_ows};
use crate::http1::head::Version;

use super::error::ResponseError;

/// How a response's body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    #[default]
    None,
    /// So many bytes, never 0.
    Length(u64),
    /// Chunks, and trailers behind them.
    Chunked,
    /// Until the connection ends.
    Close,
}

/// What a final head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) framing: Framing,
    /// Another exchange may follow on the connection.
    pub(super) keep: bool,
}

const LENGTH: ResponseError =
    ResponseError::Malformed("Content-Length is not one number (RFC 9112 6.3, RFC 9110 8.6)");
const LENGTH_TWICE: ResponseError = ResponseError::Malformed("Content-Length is given twice (RFC 9112 6.3)");
const CODING_TWICE: ResponseError =
    ResponseError::Malformed("Transfer-Encoding is given twice (RFC 9112 6.1)");
const CODING_ON_10: ResponseError = ResponseError::Malformed("Transfer-Encoding on HTTP/1.0 (RFC 9112 6.1)");
const BOTH: ResponseError =
    ResponseError::Malformed("Content-Length beside Transfer-Encoding (RFC 9112 6.3)");

/// The fields that frame a message, gathered one by one.
#[derive(Default)]
pub(super) struct Gathered {
    content_length: Option<u64>,
    /// Whether it is chunked and nothing else.
    transfer_encoding: Option<bool>,
    close: bool,
    keep_alive: bool,
    /// Connection names fields, which are the connection's then (RFC 9110 7.6.1).
    pub(super) nominates: bool,
}

impl Gathered {
    /// Takes in a field; its name is in any letter case.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            14 if is("content-length") => {
                once(&mut self.content_length, parse_content_length(value).ok_or(LENGTH)?, LENGTH_TWICE)?;
            }
            17 if is("transfer-encoding") => {
                once(&mut self.transfer_encoding, value.eq_ignore_ascii_case(b"chunked"), CODING_TWICE)?;
            }
            10 if is("connection") => {
                for option in options(value) {
                    if option.eq_ignore_ascii_case(b"close") {
                        self.close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    } else {
                        self.nominates = true;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Decides on a final response.
    pub(super) fn decide(
        &self,
        version: Version,
        status: u16,
        head_request: bool,
    ) -> Result<Decision, ResponseError> {
        let framing = match (self.transfer_encoding, self.content_length) {
            (Some(_), _) if version == Version::Http10 => return Err(CODING_ON_10),
            (Some(_), Some(_)) => return Err(BOTH),
            (Some(true), None) => Framing::Chunked,
            (Some(false), None) => return Err(ResponseError::TransferCoding),
            (None, Some(0)) => Framing::None,
            (None, Some(length)) => Framing::Length(length),
            (None, None) => Framing::Close,
        };
        let persists = !self.close && (version == Version::Http11 || self.keep_alive);
        Ok(match (head_request, status) {
            (true, _) | (_, 304) => Decision { framing: Framing::None, keep: persists },
            // 204 has no body whatever it says; but who says otherwise may send one (RFC 9110 8.6, 15.3.5).
            (_, 204) => {
                let silent = matches!(framing, Framing::None | Framing::Close);
                Decision { framing: Framing::None, keep: persists && silent }
            }
            _ => Decision { framing, keep: persists && framing != Framing::Close },
        })
    }
}

fn once<T>(slot: &mut Option<T>, value: T, twice: ResponseError) -> Result<(), ResponseError> {
    if slot.replace(value).is_some() { Err(twice) } else { Ok(()) }
}

/// The options that a Connection field names; empty ones are skipped (RFC 9110 5.6.1.2).
pub(super) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim_ows).filter(|option| !option.is_empty())
}
