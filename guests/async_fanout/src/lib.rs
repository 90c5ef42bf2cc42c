//! Asks several others at once: an `async fn` handler that waits for many things and holds nobody up.
//!
//! `/all?prices=300&stock=100` asks for two parts that take 300 and 100 milliseconds, and answers after 300. The parts
//! are timers that stand in for upstreams; `gather` asks real ones.

use serde::Serialize;
use std::time::Duration;
use tidegate_sdk::{Error, Request, Response, Result, Router, StatusCode, handler, task};

/// How long any part may take.
const PATIENCE: Duration = Duration::from_secs(1);

#[handler]
fn fanout() -> Router {
    Router::new().any("/all", all).get("/first", first).get("/each", each)
}

struct Part {
    name: String,
    takes: Duration,
}

impl Part {
    /// The upstream.
    async fn fetch(self) -> String {
        task::sleep(self.takes).await;
        format!("{} of today", self.name)
    }

    async fn fetch_in_time(self) -> Answer {
        let part = self.name.clone();
        match task::timeout(PATIENCE, self.fetch()).await {
            Ok(value) => Answer { part, value: Some(value), error: None },
            Err(late) => Answer { part, value: None, error: Some(late.to_string()) },
        }
    }
}

#[derive(Serialize)]
struct Answer {
    part: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The parts that the query names, with the milliseconds that each takes.
fn parts(request: &Request) -> Result<Vec<Part>> {
    let part = |(name, millis): (_, std::borrow::Cow<'_, str>)| {
        let millis = millis.parse().map_err(|_| Error::bad_request("a part is NAME=MILLISECONDS"))?;
        Ok(Part { name: String::from(name), takes: Duration::from_millis(millis) })
    };
    let parts: Vec<_> = request.query_pairs().map(part).collect::<Result<_>>()?;
    if parts.is_empty() {
        Err(Error::bad_request("no parts: ask for /all?prices=300&stock=100"))
    } else {
        Ok(parts)
    }
}

/// All parts, in the order they were asked for; one that takes too long does not spoil the others. The request's body
/// is read meanwhile.
async fn all(mut request: Request) -> Result<Response> {
    #[derive(Serialize)]
    struct Page {
        parts: Vec<Answer>,
        body_bytes: usize,
    }
    let fetches = parts(&request)?.into_iter().map(Part::fetch_in_time);
    let (parts, body) = task::join(task::join_all(fetches), request.body().collect()).await;
    Ok(Response::json(&Page { parts, body_bytes: body?.len() }))
}

/// The part that is there first. The others are dropped where they wait.
async fn first(request: Request) -> Result<String> {
    let fetches = parts(&request)?.into_iter().map(Part::fetch);
    let fastest = task::timeout(PATIENCE, task::race(fetches)).await;
    fastest
        .map_err(|late| Error::status(StatusCode::GATEWAY_TIMEOUT, "no part came in time").with_source(late))
}

/// A line of JSON for each part, sent as soon as it is there.
async fn each(request: Request) -> Result<Response> {
    let mut running: Vec<_> =
        parts(&request)?.into_iter().map(|part| task::spawn(part.fetch_in_time())).collect();
    let lines = Response::stream_async(async move |body| {
        while !running.is_empty() {
            let next = running.iter_mut().enumerate().map(|(at, part)| async move { (at, part.await) });
            let (at, answer) = task::race(next).await;
            let _done = running.swap_remove(at);
            // While a slow client is waited for, the other parts go on.
            body.send(format!("{}\n", serde_json::to_string(&answer)?).as_bytes()).await?;
        }
        Ok(())
    });
    Ok(lines.with_header("content-type", "application/x-ndjson"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tidegate_sdk::now;
    use tidegate_sdk::test::{self, Exchange};

    /// How long `all` takes on the clock of the host in memory, which only moves while the handler waits.
    fn took(exchange: Exchange) -> Duration {
        let took = Rc::new(Cell::new(Duration::ZERO));
        let clock = Rc::clone(&took);
        let answer = exchange.run(move |request: Request| {
            let clock = Rc::clone(&clock);
            async move {
                let start = now();
                let response = all(request).await;
                clock.set(now() - start);
                response
            }
        });
        answer.assert_status(200);
        took.get()
    }

    #[test]
    fn all_parts_take_as_long_as_the_slowest() {
        assert_eq!(took(Exchange::get("/all?a=300&b=100&c=250")).as_millis(), 300);
        assert_eq!(took(Exchange::get("/all?a=300&b=86400000")), PATIENCE);
    }

    #[test]
    fn the_body_is_read_meanwhile() {
        let slow = Duration::from_millis(200);
        let exchange = Exchange::post("/all?a=300").chunk_after(slow, "one").chunk_after(slow, "two");
        assert_eq!(took(exchange).as_millis(), 400);
    }

    #[test]
    fn the_first_is_the_fastest() {
        let app = test::app(fanout());
        assert_eq!(app.get("/first?a=300&b=100&c=250").assert_status(200).text(), "b of today");
        app.get("/first?a=3000&b=2000").assert_status(504);
    }

    #[test]
    fn each_is_sent_in_the_order_they_come() {
        let answer = test::app(fanout()).get("/each?late=9000&slow=200&quick=100");
        let lines = [
            r#"{"part":"quick","value":"quick of today"}"#,
            r#"{"part":"slow","value":"slow of today"}"#,
            r#"{"part":"late","error":"not done within 1s"}"#,
        ];
        assert_eq!(answer.text().lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn what_is_no_list_of_parts_is_refused() {
        for target in ["/all", "/all?a", "/first?a=soon", "/each?a=-1"] {
            test::app(fanout()).get(target).assert_status(400);
        }
    }
}
