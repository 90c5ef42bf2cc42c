//! A `wasi:http` component that does one thing with files or sockets and says what came of it. The path is what, the query
//! with what: `/read?/public/a.txt`. Errors are said by the name of their kind, as `std` or WASI has it.

mod files;
mod many;
mod raw;
mod sockets;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// What an action says, or the name of its error.
type Said = Result<Vec<u8>, String>;

struct Files;

impl Guest for Files {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let text = match act(path, query) {
            Ok(text) => text,
            Err(name) => format!("error {name}").into_bytes(),
        };
        answer(out, &text);
    }
}

fn act(path: &str, query: &str) -> Said {
    match path {
        "/read" => files::read(query),
        "/list" => files::list(query),
        "/write" => files::write(query),
        "/append" => files::append(query),
        "/remove" => files::remove(query),
        "/rename" => files::rename(query),
        "/mkdir" => files::make_folder(query),
        "/size" => files::size(query),
        "/again" => files::again(query),
        "/folders" => raw::folders(),
        "/truncate" => raw::truncate(query),
        "/times" => raw::times(query),
        "/symlink" => raw::symlink(query),
        "/link" => raw::link(query),
        "/open-for-writing" => raw::open_for_writing(query),
        "/overfill" => raw::fill(query, 0),
        "/overfill-more" => raw::fill(query, 1),
        "/hold-files" => many::files(query),
        "/hold-streams" => many::streams(query),
        "/hold-listings" => many::listings(query),
        "/connect" => sockets::connect(query),
        "/resolve" => sockets::resolve(query),
        "/bind" => sockets::bind(query),
        _ => Err("no such action".to_owned()),
    }
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

wasip2::http::proxy::export!(Files);
