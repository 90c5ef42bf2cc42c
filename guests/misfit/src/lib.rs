//! Responses that are not as their heads say: `/long` and `/short` than they declare, `/fails` half-way, `/forbidden`, which
//! tries to frame its body itself. `/exact` keeps its word.
//!
//! And whatever a query asks for: `/head?status=204&name=content-length&value=3&body=abc`, `/trailer?name=vary&bytes=9`, and
//! `/early`, which asks for trailers before their time. `/absent` looks for a body and reads nothing; `/forge` logs what
//! looks like more than one record.
//!
//! A fixture of the tests: what may not be sent must not reach a client as if it were whole.

use std::io::{ErrorKind, Write};
use tidegate_sdk::{
    Error, HeaderMap, HeaderName, HeaderValue, Request, Response, ResponseWriter, Result, StatusCode,
    handler, info,
};

/// A response as the query wants it.
fn asked_for(request: &Request) -> Result<Response> {
    let param = |name: &str| request.query_param(name).unwrap_or_default().into_owned();
    let status = param("status").parse().unwrap_or(200);
    let mut answer = Response::bytes(param("body").into_bytes()).with_status(StatusCode::from_u16(status)?);
    if !param("name").is_empty() {
        answer
            .headers_mut()
            .append(HeaderName::try_from(param("name"))?, HeaderValue::try_from(param("value"))?);
    }
    Ok(answer)
}

#[handler]
fn misfit(mut request: Request, response: ResponseWriter) -> Result<()> {
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
        "/head" => response.respond(asked_for(&request)?),
        // The same in pieces.
        "/pieces" => {
            let body = request.query_param("body").unwrap_or_default();
            let mut writer = response.start(asked_for(&request)?.with_body(""))?;
            let written = writer.write_all(body.as_bytes()).and_then(|()| writer.finish());
            info!("in pieces: {}", written.as_ref().map_or_else(ToString::to_string, |()| "sent".to_owned()));
            Ok(written?)
        }
        "/trailer" => {
            let name = HeaderName::try_from(request.query_param("name").unwrap_or_default().as_ref())?;
            let bytes = request.query_param("bytes").and_then(|text| text.parse().ok()).unwrap_or(1);
            let mut body = response.start(Response::text(""))?;
            body.write_all(b"before the trailer\n")?;
            let value = HeaderValue::try_from("1".repeat(bytes))?;
            let told = body.finish_with_trailers(HeaderMap::from_iter([(name, value)]));
            info!("trailers: {}", told.as_ref().map_or_else(ToString::to_string, |()| "sent".to_owned()));
            Ok(told?)
        }
        "/early" => {
            let mut told = Vec::new();
            let body = request.body();
            told.push(body.trailers().is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
            // A chunked body is looked at by this.
            told.push(body.is_absent());
            told.push(body.trailers().is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
            let text = body.text()?;
            let sum =
                body.trailers()?.get("sum").and_then(|sum| sum.to_str().ok()).unwrap_or("none").to_owned();
            response.respond(format!("{told:?} {text} {sum}"))
        }
        "/absent" => response.respond(request.body().is_absent().to_string()),
        "/forge" => {
            info!("first\nerror 0123456789abcdef: forged\rerror 0123456789abcdef: too");
            response.respond("logged\n")
        }
        _ => Err(Error::not_found("it fits")),
    }
}
