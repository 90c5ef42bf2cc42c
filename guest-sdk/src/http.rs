//! The types of the crate `http`, and requests to others.
//!
//! ```
//! use tidegate_sdk::{Request, Result, http};
//!
//! fn greeting(_request: Request) -> Result<String> {
//!     let mut response = http::get("http://names.internal/today").send()?;
//!     Ok(format!("Hello {}\n", response.text()?))
//! }
//! # use tidegate_sdk::test::{self, Exchange};
//! # let _names = test::upstream("http://names.internal", |_| http::Response::new("Ada"));
//! # assert_eq!(Exchange::get("/").run(greeting).text(), "Hello Ada\n");
//! ```
//!
//! See [`crate::fetch`] for all of it.

pub use ::http::*;

pub use crate::fetch::{Error as FetchError, ErrorKind as FetchErrorKind};
use crate::fetch::{Request as FetchRequest, Response as FetchResponse};

/// Sends a request, and waits for the head of its response: in text the address of what to GET, else what
/// [`get`] and its kin build, or an [`http::Request`].
///
/// ```
/// use tidegate_sdk::http::{self, Request};
///
/// # use tidegate_sdk::test;
/// # let _shop = test::upstream("http://shop.internal", |request| {
/// #     http::Response::new(format!("{} {}", request.method(), request.uri().path()))
/// # });
/// let mut chairs = http::fetch("http://shop.internal/chairs")?;
/// assert_eq!(chairs.text()?, "GET /chairs");
///
/// let remove = Request::delete("http://shop.internal/chairs/7").body(()).unwrap();
/// assert_eq!(http::fetch(remove)?.text()?, "DELETE /chairs/7");
/// # Ok::<(), tidegate_sdk::Error>(())
/// ```
///
/// # Errors
/// As [`fetch::Request::send`](FetchRequest::send).
pub fn fetch(request: impl Into<FetchRequest>) -> std::result::Result<FetchResponse, FetchError> {
    request.into().send()
}

/// As [`fetch`], for async code.
///
/// ```
/// use tidegate_sdk::{http, task};
///
/// # use tidegate_sdk::test;
/// # let _a = test::upstream("http://a.internal", |_| http::Response::new("a"));
/// # let _b = test::upstream("http://b.internal", |_| http::Response::new("b"));
/// task::block_on(async {
///     let (a, b) = (http::fetch_async("http://a.internal/"), http::fetch_async("http://b.internal/"));
///     let (mut a, mut b) = task::try_join(a, b).await?;
///     assert_eq!(a.collect_text().await? + &b.collect_text().await?, "ab");
///     Ok::<(), tidegate_sdk::Error>(())
/// })
/// # .unwrap();
/// ```
///
/// # Errors
/// As [`fetch::Request::send`](FetchRequest::send).
pub async fn fetch_async(request: impl Into<FetchRequest>) -> std::result::Result<FetchResponse, FetchError> {
    request.into().send_async().await
}

macro_rules! methods {
    ($($name:ident => $method:ident),*) => {
        $(#[doc = concat!("A ", stringify!($method), " to `url`, which is `http` or `https`, to be completed and sent.")]
        pub fn $name<U: TryInto<Uri>>(url: U) -> FetchRequest {
            FetchRequest::new(Method::$method, url)
        })*
    };
}

methods! { get => GET, head => HEAD, post => POST, put => PUT, patch => PATCH, delete => DELETE }
