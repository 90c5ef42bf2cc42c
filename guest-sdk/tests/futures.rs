//! Bodies through the traits of other people's async code.
#![cfg(feature = "futures")]

use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tidegate_sdk::task;
use tidegate_sdk::test::Exchange;
use tidegate_sdk::{Error, Request, ResponseWriter, Result, StatusCode};

/// What `futures::io::copy` does, by hand.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buf = [0; 100];
    loop {
        let n = poll_fn(|cx| Pin::new(&mut from).poll_read(cx, &mut buf)).await?;
        if n == 0 {
            return poll_fn(|cx| Pin::new(&mut to).poll_close(cx)).await;
        }
        let mut done = 0;
        while done < n {
            done += poll_fn(|cx| Pin::new(&mut to).poll_write(cx, &buf[done..n])).await?;
        }
        poll_fn(|cx| Pin::new(&mut to).poll_flush(cx)).await?;
    }
}

async fn echo(request: Request, response: ResponseWriter) -> Result<()> {
    copy(request.into_body(), response.start(StatusCode::OK)?).await?;
    Ok(())
}

fn upload(whole: &[u8]) -> Exchange {
    whole
        .chunks(77)
        .fold(Exchange::post("/"), |exchange, piece| exchange.chunk_after(Duration::from_millis(1), piece))
}

#[test]
fn bodies_are_read_written_and_closed() {
    let whole: Vec<u8> = (0..5_000).map(|i| (i % 251) as u8).collect();
    for pipe_bytes in [1, 100, 10_000] {
        let answer = upload(&whole).pipe_bytes(pipe_bytes).run_streaming(echo);
        assert!(answer.body == whole && answer.finished && !answer.failed, "{pipe_bytes}");
    }
    let answer = upload(&whole).stalled_client().pipe_bytes(64).run_streaming(echo);
    assert_eq!((answer.queued_bytes_max, answer.finished), (64, false));
}

#[test]
fn a_stream_gives_the_pieces_and_ends_after_an_error() {
    let pieces = async |request: Request| {
        let mut stream = request.into_body().into_stream();
        let mut seen = Vec::new();
        while let Some(piece) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
            seen.push(
                piece
                    .map_or_else(|error| error.kind().to_string(), |piece| String::from_utf8(piece).unwrap()),
            );
        }
        assert!(poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await.is_none());
        seen.join(",")
    };
    let exchange = || Exchange::post("/").chunk("ab").chunk("c");
    assert_eq!(exchange().run(pieces).text(), "ab,c");
    assert_eq!(exchange().body_cut_off().run(pieces).text(), "ab,c,connection reset");
}

#[test]
fn closing_twice_is_closing() {
    let answer = Exchange::get("/").run_streaming(async |_: Request, response: ResponseWriter| {
        let mut body = response.start("x")?;
        poll_fn(|cx| Pin::new(&mut body).poll_close(cx)).await?;
        body.finish()?;
        Ok::<_, Error>(())
    });
    assert!(answer.finished && !answer.failed);
    assert_eq!(answer.calls.iter().filter(|call| **call == "finish").count(), 1);
}

#[test]
fn a_wait_ends_with_the_body_it_was_for() {
    let answer =
        Exchange::post("/").chunk_after(Duration::from_secs(5), "late").run(async |request: Request| {
            let mut body = request.into_body();
            let read = poll_fn(|cx| Pin::new(&mut body).poll_read(cx, &mut [0; 9]));
            assert!(task::timeout(Duration::from_secs(1), read).await.is_err());
            drop(body);
            task::sleep(Duration::from_secs(60)).await;
            "done"
        });
    assert_eq!(answer.text(), "done");
    assert_eq!(answer.calls.iter().filter(|call| **call == "poll").count(), 2);
}
