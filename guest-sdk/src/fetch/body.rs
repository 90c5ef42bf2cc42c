//! What a request to somebody else carries.

use std::fmt;

use super::ResponseBody;
use crate::body::RequestBody;
use crate::forward::Pull;

/// The body of a request to somebody else: bytes that are there, or what comes from elsewhere, which is then moved
/// inside the host.
///
/// ```
/// use tidegate_sdk::{Request, Result, http};
///
/// /// Stores what the client sends.
/// fn store(request: Request) -> Result<String> {
///     let stored = http::put("http://store.internal/file").body(request.into_body()).send()?;
///     Ok(format!("{}\n", stored.status()))
/// }
/// # use tidegate_sdk::test::{self, Exchange};
/// # let _store = test::upstream("http://store.internal", |request| {
/// #     assert_eq!(request.body(), b"hello");
/// #     http::Response::new(())
/// # });
/// # assert_eq!(Exchange::post("/").chunk("hel").chunk("lo").run(store).text(), "200 OK\n");
/// ```
#[derive(Default)]
pub struct Body(pub(super) Inner);

pub(super) enum Inner {
    Whole(crate::Body),
    /// What is moved, and its length if that is known.
    Source(Box<dyn Pull>, Option<u64>),
}

impl Default for Inner {
    fn default() -> Self {
        Self::Whole(crate::Body::default())
    }
}

impl<T: Into<crate::Body>> From<T> for Body {
    fn from(whole: T) -> Self {
        Self(Inner::Whole(whole.into()))
    }
}

impl From<RequestBody> for Body {
    fn from(body: RequestBody) -> Self {
        if body.is_absent() {
            return Self::default();
        }
        let declared_bytes = body.declared_bytes();
        Self(Inner::Source(Box::new(body), declared_bytes))
    }
}

impl From<ResponseBody> for Body {
    fn from(body: ResponseBody) -> Self {
        let declared_bytes = body.declared_bytes();
        Self(Inner::Source(Box::new(body), declared_bytes))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Whole(body) => body.fmt(f),
            Inner::Source(..) => f.write_str("Source"),
        }
    }
}
