//! JSON in and out (RFC 8259), by way of serde.
//!
//! What the client sent wrong is a 400 that says where; what this side cannot serialize is a 500 that the log explains.
//! What this must never do: echo a client's megabyte in an error.

use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::COLLECT_BYTES_MAX;
use crate::content::{self, clip};
use crate::error::{Error, Result};
use crate::request::Request;
use crate::response::{IntoResponse, Response};

/// `application/json`, or anything that says it is JSON underneath (RFC 6839 section 3.1).
fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}

fn check_type(request: &Request) -> Result<()> {
    match content::media_type(request) {
        Some(given) if !is_json(&given) => Err(content::unsupported(&given, "application/json")),
        _ => Ok(()),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.is_empty() {
        return Err(Error::status(StatusCode::BAD_REQUEST, "the body is empty; JSON is expected"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column, text) = (error.line(), error.column(), error.to_string());
        // Serde puts the place behind its message; here it stands in front, where cutting does not reach it.
        let place = format!(" at line {line} column {column}");
        let what = clip(text.strip_suffix(&place).unwrap_or(&text));
        let message = format!("the JSON is wrong at line {line}, column {column}: {what}");
        Error::status(StatusCode::BAD_REQUEST, message)
    })
}

/// Bodies as values, with the feature `json`.
impl Request {
    /// The body, read as JSON, up to [`COLLECT_BYTES_MAX`].
    ///
    /// ```
    /// use serde::Deserialize;
    /// use tidegate_sdk::{Request, Result};
    ///
    /// #[derive(Deserialize)]
    /// struct Order {
    ///     item: String,
    ///     count: u32,
    /// }
    ///
    /// fn order(mut request: Request) -> Result<String> {
    ///     let order: Order = request.json()?;
    ///     Ok(format!("{} of {}\n", order.count, order.item))
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # let order_of = Exchange::post("/").body(r#"{"item": "chair", "count": 2}"#);
    /// # assert_eq!(order_of.run(order).text(), "2 of chair\n");
    /// ```
    ///
    /// # Errors
    /// 415 if there is a `Content-Type` and it is neither `application/json` nor ends in `+json`; 400 with line and
    /// column if the body is not such JSON, or is empty; else as [`RequestBody::bytes_limited`].
    ///
    /// [`RequestBody::bytes_limited`]: crate::RequestBody::bytes_limited
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.json_limited(COLLECT_BYTES_MAX)
    }

    /// As [`Self::json`], up to `bytes_max`.
    ///
    /// ```
    /// # use tidegate_sdk::{Request, Result};
    /// fn sum(mut request: Request) -> Result<String> {
    ///     let numbers: Vec<i64> = request.json_limited(64 << 10)?;
    ///     Ok(format!("{}\n", numbers.iter().sum::<i64>()))
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::post("/").body("[1, 2]").run(sum).text(), "3\n");
    /// ```
    ///
    /// # Errors
    /// As [`Self::json`]; 413 above `bytes_max`.
    pub fn json_limited<T: DeserializeOwned>(&mut self, bytes_max: usize) -> Result<T> {
        check_type(self)?;
        parse(&self.body().bytes_limited(bytes_max)?)
    }

    /// As [`Self::json`], for async handlers.
    ///
    /// ```
    /// # use tidegate_sdk::{Request, Result};
    /// async fn sum(mut request: Request) -> Result<String> {
    ///     let numbers: Vec<i64> = request.json_async().await?;
    ///     Ok(format!("{}\n", numbers.iter().sum::<i64>()))
    /// }
    /// # use tidegate_sdk::test::Exchange;
    /// # assert_eq!(Exchange::post("/").body("[1, 2]").run(sum).text(), "3\n");
    /// ```
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn json_async<T: DeserializeOwned>(&mut self) -> Result<T> {
        check_type(self)?;
        parse(&self.body().collect().await?)
    }
}

/// A value that becomes a JSON response. Any [`Serialize`] will do.
///
/// ```
/// use serde::Serialize;
/// use tidegate_sdk::{IntoResponse, Json, Request};
///
/// #[derive(Serialize)]
/// struct Greeting {
///     hello: String,
/// }
///
/// fn greet(request: Request) -> Json<Greeting> {
///     Json(Greeting { hello: request.path().to_owned() })
/// }
/// # assert_eq!(Json(1).into_response().header("content-type").unwrap(), "application/json");
/// # let answer = tidegate_sdk::test::Exchange::get("/a").run(greet);
/// # assert_eq!(answer.text(), r#"{"hello":"/a"}"#);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Response::json(&self.0)
    }
}

/// Values as bodies, with the feature `json`.
impl Response {
    /// 200 with `value` as JSON. A value that cannot be serialized (a map whose keys are not text, for one) makes it
    /// a 500, and the log says why.
    ///
    /// ```
    /// use tidegate_sdk::Response;
    ///
    /// let response = Response::json(&[1, 2, 3]).with_status(tidegate_sdk::StatusCode::CREATED);
    /// assert_eq!(response.header("content-type").unwrap(), "application/json");
    /// ```
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::typed(HeaderValue::from_static("application/json"), body),
            Err(error) => Error::internal(error).into_response(),
        }
    }
}
