//! Output streams: permits, flushes, zeroes and splices, and writing more than is allowed.

use wasip2::http::types::{Fields, IncomingBody, OutgoingBody, OutgoingResponse};
use wasip2::io::streams::{OutputStream, StreamError};

use crate::Behaviour;
use crate::call::{Call, Lines, outcome, set, spare, text_headers};

pub(crate) const ALL: &[Behaviour] = &[
    ("permit-whole", permit_whole),
    ("permit-exceeded", permit_exceeded),
    ("write-unchecked", write_unchecked),
    ("write-nothing", write_nothing),
    ("flush", flush),
    ("write-and-flush-4096", |call| on_body(call, |stream| stream.blocking_write_and_flush(&[b'x'; 4096]))),
    ("write-and-flush-4097", |call| misuse(call, |stream| stream.blocking_write_and_flush(&[b'x'; 4097]))),
    ("zeroes", |call| {
        on_body(call, |stream| {
            stream.check_write()?;
            stream.write_zeroes(5)
        });
    }),
    ("zeroes-exceeded", |call| {
        misuse(call, |stream| {
            let permit = stream.check_write()?;
            stream.write_zeroes(permit + 1)
        });
    }),
    ("zeroes-and-flush-4096", |call| on_body(call, |stream| stream.blocking_write_zeroes_and_flush(4096))),
    ("zeroes-and-flush-4097", |call| misuse(call, |stream| stream.blocking_write_zeroes_and_flush(4097))),
    ("splice", splice),
    ("splice-blocking", splice_blocking),
    ("splice-nothing", splice_nothing),
    ("splice-after-end", splice_after_end),
    ("one-by-one", one_by_one),
];

/// Does it to the body that the client sees, and ends that cleanly.
fn on_body(call: Call, act: impl FnOnce(&OutputStream) -> Result<(), StreamError>) {
    let (body, stream) = set(call.out, OutgoingResponse::new(text_headers()));
    act(&stream).expect("an open stream");
    stream.blocking_flush().expect("an open stream");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
}

/// Does what should trap to the body of a response that was not set, so that the trap has a status of its own.
fn misuse(call: Call, act: impl FnOnce(&OutputStream) -> Result<(), StreamError>) {
    let mut lines = Lines::default();
    let (_response, _body, stream) = spare(Fields::new());
    lines.add("no trap", outcome(act(&stream)));
    drop(stream);
    call.say(&lines);
}

/// All that the permit allows, whatever a host makes it.
fn permit_whole(call: Call) {
    on_body(call, |stream| {
        let permit = usize::try_from(stream.check_write()?).expect("a permit that fits");
        stream.write(&vec![b'x'; permit])
    });
}

fn permit_exceeded(call: Call) {
    misuse(call, |stream| {
        let permit = usize::try_from(stream.check_write()?).expect("a permit that fits");
        stream.write(&vec![b'x'; permit + 1])
    });
}

fn write_unchecked(call: Call) {
    misuse(call, |stream| stream.write(b"x"));
}

fn write_nothing(call: Call) {
    on_body(call, |stream| {
        stream.check_write()?;
        stream.write(b"")?;
        stream.blocking_write_and_flush(b"")?;
        stream.check_write()?;
        stream.write_zeroes(0)?;
        stream.blocking_write_and_flush(b"something\n")
    });
}

fn flush(call: Call) {
    on_body(call, |stream| {
        stream.flush()?;
        stream.blocking_flush()?;
        for text in ["one\n", "two\n"] {
            stream.subscribe().block();
            assert!(stream.check_write()? >= 4, "ready, and no permit");
            stream.write(text.as_bytes())?;
            stream.flush()?;
        }
        stream.blocking_flush()?;
        stream.flush()
    });
}

/// The streams of a request and of its response, with the latter's body around them.
fn between(call: Call, act: impl FnOnce(&wasip2::io::streams::InputStream, &OutputStream)) {
    let body: IncomingBody = call.request.consume().expect("the first call");
    let from = body.stream().expect("the first call");
    let (out, to) = set(call.out, OutgoingResponse::new(text_headers()));
    act(&from, &to);
    drop(from);
    drop(to);
    OutgoingBody::finish(out, None).expect("no length was said");
}

fn splice(call: Call) {
    between(call, |from, to| {
        loop {
            from.subscribe().block();
            to.subscribe().block();
            match to.splice(from, 3) {
                Ok(n) => assert!(n <= 3, "{n} bytes of 3"),
                Err(StreamError::Closed) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
    });
}

fn splice_blocking(call: Call) {
    between(call, |from, to| {
        loop {
            match to.blocking_splice(from, 1 << 20) {
                Ok(n) => assert!(n > 0, "a blocking splice of nothing"),
                Err(StreamError::Closed) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
    });
}

fn splice_nothing(call: Call) {
    between(call, |from, to| {
        from.subscribe().block();
        to.subscribe().block();
        assert_eq!(to.splice(from, 0).expect("open streams"), 0);
        assert_eq!(to.splice(from, 2).expect("open streams"), 2);
    });
}

/// The end of what is read is not the end of what is written.
fn splice_after_end(call: Call) {
    between(call, |from, to| {
        while to.blocking_splice(from, 1 << 20).is_ok() {}
        assert!(matches!(to.splice(from, 1), Err(StreamError::Closed)));
        assert!(matches!(from.read(1), Err(StreamError::Closed)));
        to.blocking_write_and_flush(b" and more\n").expect("it is still open");
    });
}

/// A thousand small writes, each with its own permit.
fn one_by_one(call: Call) {
    on_body(call, |stream| {
        let pollable = stream.subscribe();
        for number in 0..1000_u32 {
            while stream.check_write()? == 0 {
                pollable.block();
            }
            stream.write(&[b'0' + (number % 10) as u8])?;
        }
        Ok(())
    });
}
