//! Keeps what belongs to one request and uses it in the next: `/keep-writer` then `/poke` or `/drop`, `/keep-body` then `/read`.
//!
//! A fixture of the tests: where an instance serves many requests, none of this may reach another one's bodies.

use std::cell::RefCell;
use std::io::Write;
use tidegate_sdk::{BodyWriter, Error, Request, RequestBody, Response, ResponseWriter, Result, handler};

thread_local! {
    static WRITER: RefCell<Option<BodyWriter>> = const { RefCell::new(None) };
    static BODY: RefCell<Option<RequestBody>> = const { RefCell::new(None) };
}

/// What is kept, or a 404 that says that this instance keeps nothing.
fn kept<T>(place: &RefCell<Option<T>>) -> Result<T> {
    place.take().ok_or_else(|| Error::not_found("nothing was kept"))
}

fn told<T>(what: &str, result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => format!("{what}: done\n"),
        Err(error) => format!("{what}: {error}\n"),
    }
}

#[handler]
fn keeper(mut request: Request, response: ResponseWriter) -> Result<()> {
    match request.path() {
        "/keep-writer" => {
            let mut body = response.start(Response::text("begun "))?;
            body.write_all(b"and kept\n")?;
            WRITER.set(Some(body));
            Ok(())
        }
        "/poke" => {
            let mut writer = WRITER.with(kept)?;
            let mut body = response.start(Response::text(""))?;
            let mut answers = told("write", writer.try_write(b"from another request\n"));
            answers += &told("wait", writer.writable());
            answers += &told("forward", writer.forward(request.body()));
            answers += &told("finish", writer.finish());
            body.write_all(answers.as_bytes())?;
            Ok(body.finish()?)
        }
        "/drop" => {
            let writer = WRITER.with(kept)?;
            let mut body = response.start(Response::text("before "))?;
            drop(writer);
            body.write_all(b"and after\n")?;
            Ok(body.finish()?)
        }
        "/keep-body" => {
            BODY.set(Some(request.into_body()));
            response.respond("kept\n")
        }
        "/read" => {
            let mut kept = BODY.with(kept)?;
            let mut answers = told("read", kept.try_read(&mut [0; 64]));
            answers += &told("wait", kept.readable());
            answers += &told("trailers", kept.trailers());
            answers += &request.body().text()?;
            response.respond(answers)
        }
        _ => Err(Error::not_found("it keeps nothing else")),
    }
}
