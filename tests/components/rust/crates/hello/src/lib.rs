//! The smallest handler as a plain `wasi:http` component, without a framework: it answers what the module guest `hello`
//! does.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

const TEXT: &[u8] = b"Hello World\n";

struct Hello;

impl Guest for Hello {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let headers = Fields::new();
        headers.append("content-type", b"text/plain; charset=utf-8").expect("a valid header");
        headers.append("content-length", TEXT.len().to_string().as_bytes()).expect("a valid header");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("the first call");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("the first call");
        stream.blocking_write_and_flush(TEXT).expect("an open stream");
        drop(stream);
        OutgoingBody::finish(body, None).expect("as long as was said");
    }
}

wasip2::http::proxy::export!(Hello);
