//! A handler with routes: each is a method, a pattern, and a function.

use serde::{Deserialize, Serialize};
use tidegate_sdk::{Error, Request, Response, Result, Router, handler, middleware};

#[handler]
fn app() -> Router {
    Router::new()
        .get("/", home)
        .get("/hello/{name}", hello)
        .post("/orders", order)
        .with(middleware::logger())
}

fn home(_request: Request) -> Response {
    Response::text("GET /hello/{name}, POST /orders\n")
}

fn hello(request: Request) -> Result<Response> {
    let name: String = request.param_as("name")?;
    Ok(Response::text(format!("Hello, {name}!\n")))
}

#[derive(Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Serialize)]
struct Receipt {
    item: String,
    total: u32,
}

/// A body that is no JSON, or lacks a field, is answered with 400 and the place of what is wrong.
fn order(mut request: Request) -> Result<Response> {
    let order: Order = request.json()?;
    if order.count == 0 {
        return Err(Error::bad_request("order at least one"));
    }
    Ok(Response::json(&Receipt { item: order.item, total: order.count.saturating_mul(3) }))
}

#[cfg(test)]
mod tests {
    use tidegate_sdk::test::{self, Exchange};

    use super::*;

    #[test]
    fn a_parameter_of_the_path() {
        let answer = test::app(app()).get("/hello/Ada%20L");
        answer.assert_status(200);
        assert_eq!(answer.text(), "Hello, Ada L!\n");
    }

    #[test]
    fn json_in_and_out() {
        let post = |body: &str| {
            test::app(app()).send(Exchange::post("/orders").header("content-type", "application/json").body(body))
        };
        let answer = post(r#"{ "item": "tea", "count": 2 }"#);
        answer.assert_status(200);
        assert_eq!(answer.text(), r#"{"item":"tea","total":6}"#);
        post(r#"{ "item": "tea", "count": 0 }"#).assert_status(400);
        post("tea").assert_status(400);
    }

    #[test]
    fn what_is_not_there() {
        let app = test::app(app());
        app.get("/nowhere").assert_status(404);
        app.get("/orders").assert_status(405);
    }
}
