//! Responses that are not as their heads say: `/long` and `/short` than they declare, `/fails` half-way, `/forbidden`, which
//! tries to frame its body itself. `/exact` keeps its word.
//!
//! A fixture of the tests: none of these may reach a client as if it were whole.

use std::io::{ErrorKind, Write};
use tidegate_sdk::{Error, Request, Response, ResponseWriter, Result, StatusCode, handler};

#[handler]
fn misfit(request: Request, response: ResponseWriter) -> Result<()> {
    let declared = |length: &'static str| Response::text("").with_header("content-length", length);
    match request.path_below_mount() {
        "/exact" => {
            let mut body = response.start(declared("5"))?;
            body.write_all(b"exact")?;
            body.finish()?;
            Ok(())
        }
        "/long" => {
            let mut body = response.start(declared("5"))?;
            let error = body.write_all(b"too long").unwrap_err();
            // Whoever is told something else does not come to this end.
            assert_eq!(error.kind(), ErrorKind::FileTooLarge);
            Err(error.into())
        }
        "/short" => {
            let mut body = response.start(declared("50"))?;
            body.write_all(b"too short")?;
            Ok(body.finish()?)
        }
        "/fails" => {
            let mut body = response.start(StatusCode::OK)?;
            body.write_all(b"so far so good\n")?;
            Err(Error::internal("and no further"))
        }
        "/forbidden" => response.respond(Response::text("x").with_header("transfer-encoding", "chunked")),
        _ => Err(Error::not_found("it fits")),
    }
}
