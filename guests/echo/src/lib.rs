//! Sends a request's body back as it comes, with its content type and trailers. Without a body it says hello.
//!
//! The bytes are moved inside the host: none of them enters the sandbox, and neither a slow sender nor a slow reader
//! makes anything pile up.

use tidegate_sdk::{Request, Response, ResponseWriter, Result, handler};

#[handler]
fn echo(request: Request, response: ResponseWriter) -> Result<()> {
    let content_type = request.headers().get("content-type").cloned();
    let mut body = request.into_body();
    if body.is_absent() {
        return response.respond("Hello World\n");
    }

    let mut head = Response::empty();
    if let Some(content_type) = content_type {
        head = head.with_header("content-type", content_type);
    }
    let mut out = response.start(head)?;
    out.forward(&mut body)?;
    out.finish_with_trailers(body.trailers()?)?;
    Ok(())
}
