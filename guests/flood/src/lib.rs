//! A gigabyte through whichever way of writing a body the path names, as a handler would do it that never thinks of its
//! client. Byte number i is i mod 251, so that a client can tell that each is where it belongs.
//!
//! A fixture of the tests: see `tests/tests/flood.rs`.

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use tidegate_sdk::sse::Event;
use tidegate_sdk::{BodyWriter, Error, Request, Response, ResponseWriter, Result, StatusCode, handler, task};

/// After this many bytes the pattern is back at its start.
const PERIOD: usize = 251;
/// Bytes of one write: whole periods, about 16 KiB.
const BLOCK: usize = 64 * PERIOD;
/// Together a little more than 1 GiB.
const BLOCKS: usize = 66_900;
/// Of the bodies that are made as a whole: they have to fit into the handler's own memory. About 32 MiB.
const WHOLE_BLOCKS: usize = 2_090;
/// Events of a kilobyte: a gigabyte as well.
const EVENTS: usize = 1 << 20;

fn pattern(blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK).map(|i| (i % PERIOD) as u8).collect()
}

fn event(n: usize) -> Event {
    Event::data(format!("{n:01000}"))
}

#[handler]
fn flood(request: Request, response: ResponseWriter) -> Result<()> {
    let path = request.path_below_mount().to_owned();
    let begin = |response: ResponseWriter| response.start(Response::bytes(""));
    match path.as_str() {
        "/idle" => response.respond("idle\n"),
        // What is whole before it is sent.
        "/respond" => response.respond(pattern(WHOLE_BLOCKS)),
        "/start" => Ok(response.start(pattern(WHOLE_BLOCKS))?.finish()?),
        "/json" => response.respond(Response::json(&"x".repeat(8 << 20))),
        "/range" => response.respond(Response::bytes(pattern(WHOLE_BLOCKS / 2)).with_range(&request)),
        // What waits.
        "/write" => write(begin(response)?),
        "/bufwriter" => bufwriter(begin(response)?),
        "/copy" => copy(begin(response)?),
        "/stream" => response.respond(Response::stream(write_all)),
        "/sse" => {
            response.respond(Response::sse(|events| (0..EVENTS).try_for_each(|n| events.send(&event(n)))))
        }
        "/forward" => forward(request, begin(response)?),
        // What is awaited.
        "/send" => task::block_on(send(begin(response)?)),
        "/stream-async" => response.respond(Response::stream_async(send_all)),
        "/sse-async" => response.respond(Response::sse_async(async |events| {
            for n in 0..EVENTS {
                events.send_async(&event(n)).await?;
            }
            Ok(())
        })),
        "/forward-async" => task::block_on(forward_async(request, begin(response)?)),
        "/echo-async" => task::block_on(echo_async(request, begin(response)?)),
        // What does not wait.
        "/writable" => writable(begin(response)?),
        "/ready" => task::block_on(ready(begin(response)?)),
        "/try-write" => try_write(begin(response)?),
        _ => Err(Error::status(StatusCode::NOT_FOUND, format!("no way of writing is called {path}"))),
    }
}

fn write_all(body: &mut BodyWriter) -> Result<()> {
    let block = pattern(1);
    for _ in 0..BLOCKS {
        body.write_all(&block)?;
    }
    Ok(())
}

fn write(mut body: BodyWriter) -> Result<()> {
    write_all(&mut body)?;
    Ok(body.finish()?)
}

fn bufwriter(body: BodyWriter) -> Result<()> {
    let mut body = BufWriter::with_capacity(256 << 10, body);
    let block = pattern(1);
    for _ in 0..BLOCKS * (BLOCK / PERIOD) {
        body.write_all(&block[..PERIOD])?;
    }
    let body = body.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(body.finish()?)
}

/// The pattern without end, to be read.
struct Pattern(usize);

impl Read for Pattern {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buf {
            *byte = (self.0 % PERIOD) as u8;
            self.0 += 1;
        }
        Ok(buf.len())
    }
}

fn copy(mut body: BodyWriter) -> Result<()> {
    io::copy(&mut Pattern(0).take((BLOCKS * BLOCK) as u64), &mut body)?;
    Ok(body.finish()?)
}

fn forward(request: Request, mut body: BodyWriter) -> Result<()> {
    body.forward(&mut request.into_body())?;
    Ok(body.finish()?)
}

async fn send_all(body: &mut BodyWriter) -> Result<()> {
    let block = pattern(1);
    for _ in 0..BLOCKS {
        body.send(&block).await?;
    }
    Ok(())
}

async fn send(mut body: BodyWriter) -> Result<()> {
    send_all(&mut body).await?;
    Ok(body.finish()?)
}

async fn forward_async(request: Request, mut body: BodyWriter) -> Result<()> {
    body.forward_async(&mut request.into_body()).await?;
    Ok(body.finish()?)
}

/// Piece by piece, through the handler's own memory.
async fn echo_async(request: Request, mut body: BodyWriter) -> Result<()> {
    let mut from = request.into_body();
    while let Some(piece) = from.chunk().await? {
        body.send(&piece).await?;
    }
    Ok(body.finish()?)
}

/// As in Node: writes until it is told that there is no room, then waits for "drain".
fn writable(mut body: BodyWriter) -> Result<()> {
    retry(&mut body, BodyWriter::writable)?;
    Ok(body.finish()?)
}

async fn ready(mut body: BodyWriter) -> Result<()> {
    let block = pattern(1);
    for _ in 0..BLOCKS {
        let mut rest = &block[..];
        while !rest.is_empty() {
            match body.try_write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => body.ready().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(body.finish()?)
}

/// Takes "there is no room" for "try again": the one way to ignore a client that is not slowed down by itself.
fn try_write(mut body: BodyWriter) -> Result<()> {
    retry(&mut body, |_| Ok(()))?;
    Ok(body.finish()?)
}

fn retry(body: &mut BodyWriter, refused: impl Fn(&mut BodyWriter) -> io::Result<()>) -> Result<()> {
    let block = pattern(1);
    for _ in 0..BLOCKS {
        let mut rest = &block[..];
        while !rest.is_empty() {
            match body.try_write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => refused(body)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
