//! Asks three others at once and merges what they say: `/?item=chair` gives one JSON object with prices, stock and
//! reviews.
//!
//! It takes as long as the slowest, and no longer than a second: a part that fails or is late is said to be missing,
//! and does not spoil the others. Where they are is the app's configuration: `PRICES`, `STOCK` and `REVIEWS`, each a
//! URL.

use serde_json::{Map, Value, json};
use std::time::Duration;
use tidegate_sdk::{Error, Request, Response, Result, config, handler, http, task};

/// The parts, each with the variable that says where it is.
const PARTS: [(&str, &str); 3] = [("prices", "PRICES"), ("stock", "STOCK"), ("reviews", "REVIEWS")];
/// How long any part may take.
const PATIENCE: Duration = Duration::from_secs(1);

#[handler]
async fn gather(request: Request) -> Result<Response> {
    let item =
        request.query_param("item").ok_or_else(|| Error::bad_request("which item? ask for /?item=chair"))?;
    // It becomes part of a URL: rather a few letters than whatever somebody thinks of.
    if item.is_empty() || !item.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Error::bad_request("an item has letters, digits and dashes"));
    }
    let urls = PARTS.iter().map(|(_, variable)| Ok(format!("{}?item={item}", config::var(variable)?)));
    let urls = urls.collect::<Result<Vec<_>>>()?;

    let answers = task::join_all(urls.into_iter().map(ask)).await;
    let mut page = Map::from_iter([("item".to_owned(), Value::from(&*item))]);
    page.extend(PARTS.iter().zip(answers).map(|((name, _), answer)| ((*name).to_owned(), answer)));
    Ok(Response::json(&page))
}

/// What one of them says, or that it says nothing. Why is for the log.
async fn ask(url: String) -> Value {
    let asking = async {
        let answer = http::fetch_async(url.as_str()).await?;
        answer.error_for_status()?.json_async::<Value>().await
    };
    match task::timeout(PATIENCE, asking).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            tidegate_sdk::warn!("{error}");
            json!({ "error": "not available" })
        }
        Err(late) => {
            tidegate_sdk::warn!("{url}: {late}");
            json!({ "error": "too slow" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::fetch::ErrorKind;
    use tidegate_sdk::now;
    use tidegate_sdk::test::{self, Exchange, Upstream};

    /// Everybody where they are; dropped, they are gone.
    fn configured() -> impl Sized {
        PARTS.map(|(name, variable)| config::for_test(variable, &format!("http://{name}.internal/of")))
    }

    fn part(name: &'static str, delay_ms: u64) -> Upstream {
        test::upstream_after(
            Duration::from_millis(delay_ms),
            &format!("http://{name}.internal"),
            move |request| {
                http::Response::new(format!(r#"{{"{name}":"{}"}}"#, request.uri().query().unwrap()))
            },
        )
    }

    #[test]
    fn all_are_asked_at_once() {
        let _set = configured();
        let _parts = [part("prices", 300), part("stock", 100), part("reviews", 250)];
        let timed = async |request: Request| {
            let start = now();
            let response = gather(request).await;
            assert_eq!(now() - start, Duration::from_millis(300));
            response
        };
        let answer = Exchange::get("/?item=chair").run(timed);
        assert_eq!(
            answer.assert_status(200).text(),
            r#"{"item":"chair","prices":{"prices":"item=chair"},"reviews":{"reviews":"item=chair"},"stock":{"stock":"item=chair"}}"#
        );
    }

    #[test]
    fn one_that_fails_does_not_spoil_the_others() {
        let _set = configured();
        let _parts = [part("prices", 1_001), part("reviews", 10)];
        let _broken =
            test::upstream("http://stock.internal", |_| Err::<http::Response<()>, _>(ErrorKind::Refused));
        let answer = Exchange::get("/?item=chair").run(gather);
        assert_eq!(
            answer.assert_status(200).text(),
            r#"{"item":"chair","prices":{"error":"too slow"},"reviews":{"reviews":"item=chair"},"stock":{"error":"not available"}}"#
        );
        let logged: Vec<_> = answer.logs.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(
            logged,
            [
                "GET http://stock.internal/of?item=chair: connection-refused",
                "http://prices.internal/of?item=chair: not done within 1s",
            ]
        );
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for target in ["/", "/?item=", "/?item=a%26b=c"] {
            Exchange::get(target).run(gather).assert_status(400);
        }
    }
}
