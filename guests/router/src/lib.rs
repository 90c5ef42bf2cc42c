//! A small shop: routes with parameters and a wildcard, a router inside a router, middleware, JSON in and out, and
//! errors in a shape of the app's own.

use serde::{Deserialize, Serialize};
use tidegate_sdk::middleware::{self, Next};
use tidegate_sdk::{Error, Request, Response, Result, Router, StatusCode, config, handler};

#[handler]
fn shop() -> Router {
    let admin = Router::new().get("/whoami", whoami).post("/items", add).with(with_token);
    Router::new()
        .get("/items", list)
        .get("/items/{id}", show)
        .get("/files/*", file)
        .nest("/admin", admin)
        // The first is outermost: it logs what the client gets.
        .with(middleware::logger())
        .with(request_id)
        .with(middleware::on_error(own_shape))
}

#[derive(Serialize)]
struct Item {
    id: u32,
    name: String,
    cents: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewItem {
    name: String,
    cents: u64,
}

/// Where a real shop would ask its database. A static that handlers change would not do: each request has a sandbox of
/// its own, and finds everything as it was compiled.
fn stock() -> Vec<Item> {
    let item = |(id, (name, cents)): (u32, (&str, u64))| Item { id, name: name.to_owned(), cents };
    (1..).zip([("kettle", 3_990), ("teapot", 2_450), ("cup", 600)]).map(item).collect()
}

fn list(_request: Request) -> Response {
    Response::json(&stock())
}

fn show(request: Request) -> Result<Response> {
    let id: u32 = request.param_as("id")?;
    let item = stock().into_iter().find(|item| item.id == id);
    let item = item.ok_or_else(|| Error::not_found(format!("there is no item {id}")))?;
    Ok(Response::json(&item))
}

fn add(mut request: Request) -> Result<Response> {
    let NewItem { name, cents } = request.json()?;
    let item = Item { id: 4, name, cents };
    let location = format!("/items/{}", item.id);
    Ok(Response::json(&item).with_status(StatusCode::CREATED).with_header("location", location))
}

/// What `*` stood for is the rest of the path.
fn file(request: Request) -> String {
    let name = request.param("*").unwrap_or_default();
    format!("the file {name:?} would be here\n")
}

/// Who is asking: what [`with_token`] leaves behind for the handlers.
#[derive(Clone)]
struct User(String);

fn whoami(request: Request) -> Result<String> {
    let User(name) = request.extensions().get().ok_or_else(|| Error::unauthorized("nobody"))?;
    Ok(format!("{name}\n"))
}

/// Lets in who shows one of the tokens in the variable TOKENS: `ada=open-sesame,bob=hocus-pocus`.
fn with_token(mut request: Request, next: Next) -> Result<Response> {
    let tokens = config::var("TOKENS")?;
    let shown = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let user = shown.and_then(|shown| {
        let mut pairs = tokens.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(_, token)| is_same(token, shown)).map(|(name, _)| User(name.to_owned()))
    });
    let Some(user) = user else {
        return Err(Error::unauthorized("show a token").with_header("www-authenticate", "Bearer"));
    };
    request.extensions_mut().insert(user);
    Ok(next.run(request))
}

/// Looks at every byte, so that the time it takes does not tell how much of a guess was right.
fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// Middleware around everything, errors too. It is async, which goes as well; it need not be.
async fn request_id(request: Request, next: Next) -> Response {
    let id = request.id().to_owned();
    next.run_async(request).await.with_header("request-id", id)
}

/// Every error leaves like this, those of the router itself as well.
fn own_shape(error: &Error) -> Response {
    #[derive(Serialize)]
    struct Shape<'a> {
        error: &'a str,
        status: u16,
    }
    let status = error.status_code();
    let shape = Shape { error: error.message().unwrap_or("something went wrong"), status: status.as_u16() };
    Response::json(&shape).with_status(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::test::{self, Answer, Exchange};

    fn ask(exchange: Exchange) -> Answer {
        let _tokens = config::for_test("TOKENS", "ada=open-sesame,bob=hocus-pocus");
        test::app(shop()).send(exchange)
    }

    #[test]
    fn every_path_leads_where_it_should() {
        let missing = r#"{"error":"there is no item 9","status":404}"#;
        for (method, target, status, body) in [
            ("GET", "/items/2", 200, r#"{"id":2,"name":"teapot","cents":2450}"#),
            ("GET", "/items/9", 404, missing),
            ("GET", "/files/a/b%20c.txt", 200, "the file \"a/b c.txt\" would be here\n"),
            ("GET", "/nowhere", 404, r#"{"error":"nothing is at this path","status":404}"#),
            ("DELETE", "/items", 405, r#"{"error":"this path takes GET, HEAD, OPTIONS","status":405}"#),
            ("GET", "/admin/whoami", 401, r#"{"error":"show a token","status":401}"#),
        ] {
            let answer = ask(Exchange::new(method, target));
            assert_eq!((answer.status.unwrap().as_u16(), answer.text()), (status, body), "{method} {target}");
            assert!(answer.header("request-id").is_some_and(|id| !id.is_empty()));
        }
    }

    #[test]
    fn a_token_says_who_is_asking() {
        for (token, status) in [("open-sesame", 200), ("hocus-pocus", 200), ("open-sesamf", 401), ("", 401)] {
            let exchange = Exchange::get("/admin/whoami").header("authorization", format!("Bearer {token}"));
            assert_eq!(ask(exchange).status.unwrap(), status, "{token}");
        }
    }

    #[test]
    fn an_item_is_read_and_shown_as_json() {
        let post = |body: &str| {
            let exchange = Exchange::post("/admin/items").header("authorization", "Bearer open-sesame");
            ask(exchange.header("content-type", "application/json").body(body))
        };
        let answer = post(r#"{"name":"bowl","cents":900}"#);
        assert_eq!(answer.status.unwrap(), 201);
        assert_eq!(answer.headers["location"], "/items/4");
        assert_eq!(answer.text(), r#"{"id":4,"name":"bowl","cents":900}"#);
        for wrong in ["", "{", r#"{"name":"bowl"}"#, r#"{"name":"bowl","cents":-1}"#] {
            let answer = post(wrong);
            assert_eq!(answer.status.unwrap(), 400, "{wrong}");
            assert!(answer.text().starts_with(r#"{"error":""#), "{}", answer.text());
        }
    }
}
