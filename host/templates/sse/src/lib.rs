//! A handler of server-sent events: one connection, and a line whenever there is news.

use std::time::Duration;

use tidegate_sdk::sse::Event;
use tidegate_sdk::{Request, Response, Result, config, handler, sleep};

/// Counts, an event each second; `?count=5` ends after five. A browser that lost the connection comes back by itself and
/// says which event it saw last.
#[handler]
fn ticker(request: Request) -> Result<Response> {
    let every = Duration::from_millis(config::parse_or("TICK_MS", 1000)?);
    let first = request.last_event_id().and_then(|id| id.parse::<u64>().ok()).map_or(1, |seen| seen + 1);
    let count = request.query_param("count").and_then(|count| count.parse::<u64>().ok()).unwrap_or(u64::MAX);
    Ok(Response::sse(move |events| {
        for tick in (first..).take_while(|tick| tick - first < count) {
            if tick > first {
                sleep(every);
            }
            events.send(&Event::data(format!("tick {tick}")).id(tick.to_string()))?;
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use tidegate_sdk::test::{self, Exchange};

    use super::*;

    #[test]
    fn it_ticks() {
        let answer = test::app(ticker).get("/?count=2");
        answer.assert_status(200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        assert_eq!(answer.text(), "id: 1\ndata: tick 1\n\nid: 2\ndata: tick 2\n\n");
    }

    #[test]
    fn it_goes_on_where_a_client_left() {
        let again = Exchange::get("/?count=1").header("last-event-id", "41");
        assert_eq!(test::app(ticker).send(again).text(), "id: 42\ndata: tick 42\n\n");
    }
}
