//! A `wasi:http` component that does one thing with sockets, as `std` has them, and says what came of it. The path is what,
//! the query with whom: `/ping?127.0.0.1:80`. Errors are said by the name of their kind.

mod tcp;
mod udp;

use std::fmt::Debug;
use std::io;
use std::net::ToSocketAddrs as _;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// What an action says, or the name of its error.
type Said = Result<String, String>;

struct Net;

impl Guest for Net {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let text = act(path, query).unwrap_or_else(|name| format!("error {name}"));
        answer(out, text.as_bytes());
    }
}

fn act(path: &str, query: &str) -> Said {
    match path {
        "/ping" => tcp::ping(query),
        "/turns" => tcp::turns(query),
        "/non-blocking" => tcp::non_blocking(query),
        "/addresses" => tcp::addresses(query),
        "/options" => tcp::options(query),
        "/timeout" => tcp::timeout(query),
        "/accept" => tcp::accept(query),
        "/hold" => tcp::hold(query),
        "/bind-tcp" => tcp::bind(query),
        "/udp" => udp::connected(query),
        "/udp-to" => udp::unconnected(query),
        "/bind-udp" => udp::bind(query),
        "/resolve" => resolve(query),
        _ => Err("no such action".to_owned()),
    }
}

/// Addresses of `name:port`, in order.
fn resolve(name: &str) -> Said {
    let mut addrs: Vec<_> = name.to_socket_addrs().map_err(kind)?.map(|addr| addr.to_string()).collect();
    addrs.sort();
    Ok(addrs.join(" "))
}

/// The name of an error's kind.
fn kind(error: io::Error) -> String {
    format!("{:?}", error.kind())
}

/// A setting, or why there is none.
fn shown<T: Debug>(result: io::Result<T>) -> String {
    result.map_or_else(kind, |value| format!("{value:?}"))
}

fn answer(out: ResponseOutparam, text: &[u8]) {
    let headers = Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]);
    let response = OutgoingResponse::new(headers.expect("a valid header"));
    let body = response.body().expect("the first call");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the first call");
    for piece in text.chunks(4096) {
        stream.blocking_write_and_flush(piece).expect("an open stream");
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
}

wasip2::http::proxy::export!(Net);
