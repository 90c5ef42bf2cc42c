//! `/N` streams N bytes. Byte number i is i mod 251, so that a client can tell that each is where it belongs.

use std::io::Write;
use tidegate_sdk::{Error, Request, Response, ResponseWriter, Result, StatusCode, handler};

/// After this many bytes the pattern is back at its start.
const PERIOD: usize = 251;
/// Bytes given to one write.
const CHUNK: usize = 16 << 10;

#[handler]
fn generate(request: Request, response: ResponseWriter) -> Result<()> {
    let mut left: u64 = request
        .path_below_mount()
        .trim_start_matches('/')
        .parse()
        .map_err(|_| Error::status(StatusCode::BAD_REQUEST, "the path is a number of bytes: /1000"))?;

    let pattern: Vec<u8> = (0..CHUNK + PERIOD).map(|i| (i % PERIOD) as u8).collect();
    let mut body = response.start(Response::bytes(""))?;
    let mut phase = 0;
    while left > 0 {
        let len = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
        body.write_all(&pattern[phase..phase + len])?;
        phase = (phase + len) % PERIOD;
        left -= len as u64;
    }
    body.finish()?;
    Ok(())
}
