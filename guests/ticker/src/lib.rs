//! Server-sent events: a line every `TICK_MS` milliseconds, a second unless the app's configuration says otherwise.
//!
//! Each event has its number as id. A browser that loses the connection comes back with the last id it saw, and the
//! handler goes on from there. It ends when the client goes: sending fails, and a handler that sleeps is cancelled.

use std::time::Duration;
use tidegate_sdk::sse::Event;
use tidegate_sdk::{Request, Response, Result, config, handler, sleep};

#[handler]
fn ticker(request: Request) -> Result<Response> {
    let tick = Duration::from_millis(config::parse_or("TICK_MS", 1_000)?);
    // An id that is none of ours is no reason to refuse: such a client begins anew.
    let seen: u32 = request.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(0);

    Ok(Response::sse(move |events| {
        for n in u64::from(seen) + 1.. {
            // Waits while the client is slow: lines are late then, and never pile up.
            events.send(&Event::data(format!("line {n}")).id(n.to_string()))?;
            sleep(tick);
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::StatusCode;
    use tidegate_sdk::test::Exchange;

    #[test]
    fn lines_are_numbered() {
        let answer = Exchange::get("/").hang_up_after(60).run(ticker);
        assert_eq!(answer.status, Some(StatusCode::OK));
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        let begin = "id: 1\ndata: line 1\n\nid: 2\ndata: line 2\n\nid: 3\ndata: line 3\n\n";
        assert!(answer.text().starts_with(begin), "{}", answer.text());
    }

    #[test]
    fn a_client_that_comes_back_misses_nothing() {
        for (last, next) in [("41", "id: 42\n"), ("4294967295", "id: 4294967296\n"), ("x", "id: 1\n")] {
            let answer = Exchange::get("/").header("last-event-id", last).hang_up_after(10).run(ticker);
            assert!(answer.text().starts_with(next), "{last}: {}", answer.text());
        }
    }

    #[test]
    fn a_pace_that_is_no_number_is_a_500() {
        let _set = config::for_test("TICK_MS", "often");
        let answer = Exchange::get("/").run(ticker);
        assert_eq!(answer.status, Some(StatusCode::INTERNAL_SERVER_ERROR));
        assert!(answer.logs[0].1.contains("TICK_MS"), "{:?}", answer.logs);
    }
}
