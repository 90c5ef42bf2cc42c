//! Bodies in async code, with clients of every kind: slow, stalled, gone. And that no way of writing a body, async or
//! not, holds more for a client than the pipe does.

use std::io::{ErrorKind, Write};
use std::pin::pin;
use std::time::Duration;
use tidegate_sdk::log::Level;
use tidegate_sdk::task::{self, Either};
use tidegate_sdk::test::{Answer, Exchange};
use tidegate_sdk::{
    BodyWriter, Error, HeaderMap, HeaderValue, Request, RequestBody, Response, ResponseWriter, Result,
    StatusCode, handler, now,
};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

fn count(answer: &Answer, call: &str) -> usize {
    answer.calls.iter().filter(|c| **c == call).count()
}

/// An upload in pieces, `gap` apart.
fn upload(whole: &[u8], piece: usize, gap: Duration) -> Exchange {
    whole.chunks(piece).fold(Exchange::post("/"), |exchange, piece| exchange.chunk_after(gap, piece))
}

#[handler]
async fn echo(request: Request, response: ResponseWriter) -> Result<()> {
    let mut from = request.into_body();
    let mut to = response.start(StatusCode::OK)?;
    while let Some(chunk) = from.chunk().await? {
        to.send(&chunk).await?;
    }
    to.set_trailers(from.trailers()?);
    to.finish()?;
    Ok(())
}

async fn forward(request: Request, response: ResponseWriter) -> Result<()> {
    let mut from = request.into_body();
    let mut to = response.start(StatusCode::OK)?;
    let moved = to.forward_async(&mut from).await?;
    assert_eq!(to.forward_async(&mut from).await?, 0, "the end is the end");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-moved", moved.into());
    to.finish_with_trailers(trailers)?;
    Ok(())
}

#[test]
fn everything_comes_through_whatever_the_pieces_and_the_pipe() {
    let whole = pattern(3_000);
    for piece in [1, 10, 999, 3_000] {
        for pipe_bytes in [1, 10, 1_000, 3_000, 9_000] {
            let exchange = || upload(&whole, piece, ms(1)).trailer("x-sum", "1").pipe_bytes(pipe_bytes);
            let copied = exchange().run_streaming(echo);
            assert!(copied.body == whole && copied.finished, "{piece} {pipe_bytes}");
            assert_eq!(copied.trailers["x-sum"], "1");
            let moved = exchange().run_streaming(forward);
            assert!(moved.body == whole && moved.finished, "{piece} {pipe_bytes}");
            assert_eq!(moved.trailers["x-moved"], "3000");

            let waits = 3_000_usize.div_ceil(piece) + 3_000_usize.div_ceil(pipe_bytes);
            for answer in [copied, moved] {
                assert!(answer.queued_bytes_max <= pipe_bytes);
                // Besides its waits it looks, now and then, whether somebody else can go on.
                let polls = count(&answer, "poll");
                assert!(
                    polls <= 2 * waits + 3_000 / 64,
                    "{piece} {pipe_bytes}: {polls} polls for {waits} waits"
                );
            }
        }
    }
}

#[test]
fn a_piece_is_as_it_came() {
    let answer = Exchange::post("/").chunk("ab").chunk_after(ms(5), vec![b'x'; 40_000]).chunk("c").run(
        async |mut request: Request| -> Result<String> {
            let mut sizes = Vec::new();
            while let Some(chunk) = request.body().chunk().await? {
                assert!(chunk.capacity() <= 2 * chunk.len() || chunk.len() > 8_000, "{}", chunk.capacity());
                sizes.push(chunk.len());
            }
            assert_eq!(request.body().chunk().await?, None, "the end is the end");
            assert_eq!(request.body().read_async(&mut [0; 4]).await?, 0);
            request.body().ready().await?;
            Ok(format!("{sizes:?}"))
        },
    );
    assert_eq!(answer.assert_status(200).text(), "[2, 16384, 16384, 7232, 1]");
}

#[test]
fn an_absent_body_costs_nothing() {
    let answer = Exchange::get("/").run(async |mut request: Request| -> Result<Vec<u8>> {
        assert_eq!(request.body().chunk().await?, None);
        request.body().collect().await
    });
    assert_eq!(answer.assert_status(200).calls, ["request_head", "respond"]);
}

#[test]
fn collecting_stops_where_its_blocking_twin_does() {
    for size in [0_usize, 1, 9, 10, 11, 12, 40_000] {
        let whole = pattern(size);
        for exchange in [Exchange::post("/").body(whole.clone()), Exchange::post("/").chunk(whole.clone())] {
            let answer = exchange.run(async |mut request: Request| request.body().collect_limited(10).await);
            if size <= 10 {
                assert_eq!((answer.status, &answer.body), (Some(StatusCode::OK), &whole), "{size}");
            } else {
                assert!(answer.assert_status(413).text().contains("at most 10 bytes"), "{}", answer.text());
            }
        }
    }
    let all = async |mut request: Request| request.body().collect().await;
    assert_eq!(Exchange::post("/").chunk(vec![0; 2 << 20]).run(all).body.len(), 2 << 20);
    Exchange::post("/").chunk(vec![0; (2 << 20) + 1]).run(all).assert_status(413);
    let text = async |mut request: Request| request.body().collect_text().await;
    assert_eq!(Exchange::post("/").body("café").run(text).text(), "café");
    Exchange::post("/").body(b"\xff".as_slice()).run(text).assert_status(400);
}

#[test]
fn a_body_that_is_cut_off_is_an_error_and_never_an_end() {
    let answer = Exchange::post("/").chunk("half").body_cut_off().run_streaming(echo);
    assert_eq!((answer.status, answer.text()), (Some(StatusCode::OK), "half"));
    assert!(answer.failed && !answer.finished);
    let answer = Exchange::post("/").chunk("half").body_cut_off().run_streaming(forward);
    assert!(answer.failed && !answer.finished);
    let answer = Exchange::post("/").chunk("half").body_cut_off().run(async |mut request: Request| {
        assert_eq!(request.body().chunk().await.unwrap().unwrap(), b"half");
        assert_eq!(request.body().read_async(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        request.body().collect().await
    });
    answer.assert_status(400);
}

/// Answers while the request still comes, with a heartbeat beside it.
#[test]
fn a_slow_upload_does_not_hold_up_the_rest_of_the_handler() {
    let answer =
        upload(b"abcde", 1, ms(100)).run_streaming(async |request: Request, response: ResponseWriter| {
            let mut from = request.into_body();
            let mut to = response.start(StatusCode::OK)?;
            let mut ticks = task::interval(ms(35));
            loop {
                match task::select(from.chunk(), ticks.tick()).await {
                    Either::Left(chunk) => match chunk? {
                        Some(chunk) => to.send(&chunk).await?,
                        None => break,
                    },
                    Either::Right(_) => to.send(b".").await?,
                }
            }
            to.finish()?;
            Ok::<_, Error>(())
        });
    // Ticks at 0, 35, 70 and so on; letters at 100, 200, ... 500.
    assert_eq!(answer.text(), "...a...b...c...d...e");
    assert!(answer.finished);
}

#[test]
fn who_gives_up_waiting_is_not_woken_for_it() {
    let answer = Exchange::post("/").chunk_after(ms(50), "late").run(async |mut request: Request| {
        let start = now();
        let body = request.body();
        assert!(task::timeout(ms(10), body.chunk()).await.is_err());
        assert!(task::timeout(ms(10), body.read_async(&mut [0; 9])).await.is_err());
        assert!(task::timeout(ms(10), body.ready()).await.is_err());
        assert_eq!(now() - start, ms(30));
        task::sleep(ms(100)).await;
        // Nothing is lost.
        body.collect_text().await
    });
    assert_eq!(answer.assert_status(200).text(), "late");
    // One for each of the four waits; the body came during the last.
    assert_eq!(count(&answer, "poll"), 4);
}

#[test]
fn a_client_that_is_gone_ends_the_handler_and_nobody_is_blamed() {
    let answer =
        Exchange::get("/").hang_up_after(64).run_streaming(async |_: Request, response: ResponseWriter| {
            let mut body = response.start(StatusCode::OK)?;
            loop {
                body.send(&[0; 16]).await?;
            }
            #[allow(unreachable_code)]
            Ok::<_, Error>(())
        });
    assert!(!answer.finished && answer.body.len() == 64);
    assert!(answer.logs.iter().all(|(level, _)| *level > Level::Info), "{:?}", answer.logs);
}

#[test]
fn a_stalled_client_runs_into_a_timeout_of_the_handlers_own() {
    let answer = Exchange::get("/").stalled_client().pipe_bytes(1_000).run_streaming(
        async |_: Request, response: ResponseWriter| {
            let start = now();
            let mut body = response.start(StatusCode::OK)?;
            assert!(task::timeout(ms(500), body.send(&[0; 10_000])).await.is_err());
            assert_eq!(now() - start, ms(500));
            assert_eq!(body.try_write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
            // A minute after the pipe was full the client is gone.
            body.ready().await?;
            assert_eq!(now() - start, ms(60_000));
            assert_eq!(body.send(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            Ok::<_, Error>(())
        },
    );
    assert_eq!((answer.queued_bytes_max, answer.body.len()), (1_000, 1_000));
}

const FLOOD: usize = 4 << 20;
const PIECE: usize = 5_000;

fn flood_blocking(body: &mut BodyWriter) -> Result<()> {
    for _ in 0..FLOOD / PIECE {
        body.write_all(&[7; PIECE])?;
    }
    Ok(())
}

async fn flood_async(body: &mut BodyWriter) -> Result<()> {
    for _ in 0..FLOOD / PIECE {
        body.send(&[7; PIECE]).await?;
    }
    Ok(())
}

/// Every way to write a body, given far more to say than the client takes.
fn floods(exchange: impl Fn() -> Exchange) -> Vec<(&'static str, Answer)> {
    let upload = || (0..FLOOD / PIECE).fold(exchange(), |exchange, _| exchange.chunk(vec![7; PIECE]));
    vec![
        (
            "Write",
            exchange().run_streaming(|_, response| flood_blocking(&mut response.start(StatusCode::OK)?)),
        ),
        (
            "try_write",
            exchange().run_streaming(|_, response| -> Result<()> {
                let mut body = response.start(StatusCode::OK)?;
                let mut left = FLOOD;
                while left > 0 {
                    match body.try_write(&vec![7; left.min(PIECE)]) {
                        Ok(n) => left -= n,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => body.writable()?,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            }),
        ),
        (
            "forward",
            upload().run_streaming(|request, response| -> Result<()> {
                response.start(StatusCode::OK)?.forward(&mut request.into_body())?;
                Ok(())
            }),
        ),
        (
            "send",
            exchange().run_streaming(async |_: Request, response: ResponseWriter| {
                flood_async(&mut response.start(StatusCode::OK)?).await
            }),
        ),
        (
            "try_write and ready",
            exchange().run_streaming(async |_: Request, response: ResponseWriter| {
                let mut body = response.start(StatusCode::OK)?;
                let mut left = FLOOD;
                while left > 0 {
                    match body.try_write(&vec![7; left.min(PIECE)]) {
                        Ok(n) => left -= n,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => body.ready().await?,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok::<_, Error>(())
            }),
        ),
        ("forward_async", upload().run_streaming(forward)),
        ("chunk by chunk", upload().run_streaming(echo)),
        ("stream", exchange().run(|_: Request| Response::stream(flood_blocking))),
        ("stream_async", exchange().run(|_: Request| Response::stream_async(flood_async))),
        (
            "sse",
            exchange().run(|_: Request| {
                Response::sse(|events| {
                    for _ in 0..FLOOD / PIECE {
                        events.send(&tidegate_sdk::sse::Event::data("7".repeat(PIECE)))?;
                    }
                    Ok(())
                })
            }),
        ),
        ("whole", exchange().run(|_: Request| vec![7; FLOOD])),
        ("whole, async", exchange().run(async |_: Request| vec![7; FLOOD])),
        ("start", exchange().run_streaming(|_, response| response.start(vec![7; FLOOD]).map(drop))),
    ]
}

#[test]
fn a_stalled_client_never_has_more_waiting_for_it_than_its_pipe_holds() {
    for pipe_bytes in [1, 4_999, 5_000, 65_536] {
        for (name, answer) in floods(|| Exchange::post("/").stalled_client().pipe_bytes(pipe_bytes)) {
            assert_eq!(answer.queued_bytes_max, pipe_bytes, "{name}");
            // What the handler got rid of is what is waiting: nothing was dropped, nothing is kept elsewhere.
            assert_eq!(answer.body.len(), pipe_bytes, "{name}");
            assert!(!answer.finished, "{name}");
        }
    }
}

#[test]
fn a_slow_client_gets_all_of_it_with_as_little_waiting() {
    for (name, answer) in floods(|| Exchange::post("/").pipe_bytes(10_000)) {
        assert!(answer.queued_bytes_max <= 10_000, "{name}");
        assert!(answer.body.len() >= FLOOD / PIECE * PIECE, "{name}: {}", answer.body.len());
    }
}

#[test]
fn a_send_may_be_joined_with_others() {
    let answer = Exchange::get("/").pipe_bytes(3).run_streaming(
        async |_: Request, response: ResponseWriter| -> Result<()> {
            let mut body = response.start(StatusCode::OK)?;
            for name in ["a", "b"] {
                let send = pin!(body.send(name.as_bytes()));
                task::join(send, task::yield_now()).await.0?;
            }
            body.finish()?;
            Ok(())
        },
    );
    assert_eq!(answer.text(), "ab");
}

#[test]
fn trailers_are_sent_by_the_end_and_refused_ones_are_an_error() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    let sent = trailers.clone();
    let answer = Exchange::get("/").run_streaming(move |_, response| -> Result<()> {
        let mut body = response.start("x")?;
        body.set_trailers(sent);
        body.finish()?;
        Ok(())
    });
    assert_eq!((answer.trailers, answer.finished), (trailers, true));

    let answer = Exchange::get("/").run_streaming(|_, response| -> Result<()> {
        let mut large = HeaderMap::new();
        large.insert("x-large", HeaderValue::from_bytes(&[b'x'; 17 << 10])?);
        let body = response.start("x")?;
        assert_eq!(body.finish_with_trailers(large).unwrap_err().kind(), ErrorKind::InvalidInput);
        Ok(())
    });
    assert!(!answer.finished);
}

/// That it compiles is the point: futures of bodies can be kept in a box and need not be `Send`.
#[test]
fn futures_of_bodies_can_be_boxed() {
    type Boxed<'a> = std::pin::Pin<Box<dyn Future<Output = std::io::Result<Option<Vec<u8>>>> + 'a>>;
    fn next(body: &mut RequestBody) -> Boxed<'_> {
        Box::pin(body.chunk())
    }
    let answer = Exchange::post("/")
        .chunk("a")
        .run(async |mut request: Request| next(request.body()).await.map(Option::unwrap));
    assert_eq!(answer.text(), "a");
}
