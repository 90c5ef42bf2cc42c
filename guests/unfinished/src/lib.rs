//! Starts a response and returns without finishing it. Its client sees that the response is not whole: a body that is
//! dropped without `finish` is cut off.

use std::io::Write;
use tidegate_sdk::{Request, Response, ResponseWriter, Result, handler};

#[handler]
fn unfinished(_request: Request, response: ResponseWriter) -> Result<()> {
    let mut body = response.start(Response::text(""))?;
    body.write_all(b"this is not all\n")?;
    Ok(())
}
