//! An exchange over a Unix socket: the real module in the real host, seen from outside.
//!
//! One connection a request. The request is written on a thread of its own, because a server may answer before it has
//! read it, or read slowly while it answers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::wire::Response;
use super::{Answer, Exchange, SOCKET_VARIABLE};

/// A server that is silent for so long is taken for dead.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a stalled client does not read. The server has time to fill what there is between them.
const STALL: Duration = Duration::from_millis(500);
const READ_BYTES: usize = 64 << 10;

/// Sends `exchange` to whoever listens at `path`.
pub(super) fn send(path: &Path, exchange: Exchange) -> Answer {
    if let Some(name) = exchange.native_only() {
        panic!(
            "`Exchange::{name}` works natively only: routes belong to the server that listens at {} \
             ({SOCKET_VARIABLE})",
            path.display()
        );
    }
    let connected = UnixStream::connect(path).and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    });
    let stream = connected.unwrap_or_else(|error| {
        panic!("the server at {} ({SOCKET_VARIABLE}) cannot be reached: {error}", path.display())
    });
    thread::scope(|scope| {
        // Dropped when the answer is there: nobody waits for what was still to be sent.
        let (answered, is_over) = mpsc::channel();
        let (stream, exchange) = (&stream, &exchange);
        let writer = scope.spawn(move || write_request(stream, exchange, &is_over));
        let answer = read_response(stream, exchange);
        drop(answered);
        // Whatever is not written yet has nobody to read it.
        let _ = stream.shutdown(Shutdown::Both);
        if let Err(error) = writer.join().expect("writing does not panic")
            && !is_gone(&error)
        {
            panic!("the request could not be sent: {error}");
        }
        answer
    })
}

/// Errors of a server that did not want to hear more, or of ourselves having hung up.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected)
}

fn push_fields(out: &mut Vec<u8>, fields: &[super::exchange::Field], keep: impl Fn(&[u8]) -> bool) {
    for (name, value) in fields.iter().filter(|(name, _)| keep(name)) {
        for part in [name, &b": "[..], value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

fn write_request(mut stream: &UnixStream, exchange: &Exchange, is_over: &Receiver<()>) -> io::Result<()> {
    let has_length = exchange.headers.iter().any(|(name, _)| name == b"content-length");
    // Trailers need chunks, whatever length was declared.
    let is_chunked = exchange.has_body && (!has_length || !exchange.trailers.is_empty());
    let mut head = format!("{} {} HTTP/1.1\r\n", exchange.method, exchange.target).into_bytes();
    push_fields(&mut head, &exchange.headers, |name| !is_chunked || name != b"content-length");
    if is_chunked {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    head.extend_from_slice(b"\r\n");
    stream.write_all(&head)?;

    for chunk in &exchange.host.chunks {
        let delay = Duration::from_nanos(chunk.delay_ns);
        if !delay.is_zero() && is_over.recv_timeout(delay) != Err(RecvTimeoutError::Timeout) {
            return Ok(());
        }
        if is_chunked {
            let size = format!("{:x}\r\n", chunk.bytes.len()).into_bytes();
            stream.write_all(&[&size, &chunk.bytes[..], b"\r\n"].concat())?;
        } else {
            stream.write_all(&chunk.bytes)?;
        }
    }
    if exchange.host.body_error.is_some() {
        return stream.shutdown(Shutdown::Write);
    }
    if is_chunked {
        let mut end = b"0\r\n".to_vec();
        push_fields(&mut end, &exchange.trailers, |_| true);
        end.extend_from_slice(b"\r\n");
        stream.write_all(&end)?;
    }
    Ok(())
}

fn read_response(mut stream: &UnixStream, exchange: &Exchange) -> Answer {
    let host = &exchange.host;
    if host.stalled {
        thread::sleep(STALL);
    }
    let mut response = Response::new(&exchange.method);
    // A slow client takes little at a time.
    let mut buf = vec![0; READ_BYTES.min(host.pipe_bytes).max(1)];
    let is_closed = loop {
        // A stalled one has looked at nothing yet; now that it is over, how it began is all it tells.
        let hangs_up =
            response.has_head() && (host.stalled || response.body_bytes() >= host.client_bytes_max);
        if response.is_done() || hangs_up {
            break false;
        }
        match stream.read(&mut buf) {
            Ok(0) => break true,
            Ok(n) => {
                response.take(&buf[..n]).unwrap_or_else(|why| panic!("the response is malformed: {why}"))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Cut off: a reset is how that looks where the body ends with the connection.
            Err(error) if is_gone(&error) => break false,
            Err(error) => panic!("the response could not be read: {error}"),
        }
    };
    let hung_up = response.has_head() && !response.is_done() && !is_closed;
    let mut answer = response.into_answer(is_closed);
    answer.failed |= !answer.finished && !hung_up;
    answer
}
