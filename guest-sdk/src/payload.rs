//! What a response carries: bytes that are there, or a function that writes them.
//!
//! A function is kept behind a trait with both ways to run it, so that a module links the executor only if something of
//! it is async.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::Result;
use crate::response::{Response, Unsent};
use crate::task;
use crate::writer::BodyWriter;

/// A body that is there as a whole.
///
/// ```
/// use tidegate_sdk::{Body, Response};
///
/// let body = Body::from("hello");
/// assert_eq!(body.as_bytes(), b"hello");
/// assert_eq!(Response::text(body.clone()).body(), Some(&body));
/// assert_eq!(body.into_bytes(), b"hello".to_vec());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body(Cow<'static, [u8]>);

impl Body {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, copied if they are static.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_owned()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

impl From<Cow<'static, str>> for Body {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// A future in a box, which may borrow.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A body that is written when its head has left.
pub(crate) trait Streaming {
    /// Writes all of it, waiting where it must.
    fn write(self: Box<Self>, out: &mut BodyWriter) -> Result<()>;

    /// The same for those who run under [`task::block_on`] already.
    fn write_async<'a>(self: Box<Self>, out: &'a mut BodyWriter) -> BoxFuture<'a, Result<()>>;

    /// Sends `head`, then writes the body and ends it.
    // Here and not with the response, so that a module that streams nothing has none of it.
    fn send(self: Box<Self>, head: &Response) -> Result<(), Unsent> {
        let Some(mut out) = head.open().map_err(Unsent::Refused)? else { return Ok(()) };
        let written = self.write(&mut out);
        conclude(out, written)
    }

    /// The same under [`task::block_on`].
    fn send_async<'a>(self: Box<Self>, head: &'a Response) -> BoxFuture<'a, Result<(), Unsent>>
    where
        Self: 'a,
    {
        Box::pin(async move {
            let Some(mut out) = head.open().map_err(Unsent::Refused)? else { return Ok(()) };
            let written = self.write_async(&mut out).await;
            conclude(out, written)
        })
    }
}

/// Ends the body if it was `written` to its end, and cuts it off if not.
fn conclude(out: BodyWriter, written: Result<()>) -> Result<(), Unsent> {
    written.map_err(Unsent::Broken)?;
    out.finish().map_err(|error| Unsent::Broken(error.into()))
}

/// A plain function.
struct Blocking<F>(F);

impl<F: FnOnce(&mut BodyWriter) -> Result<()> + 'static> Streaming for Blocking<F> {
    fn write(self: Box<Self>, out: &mut BodyWriter) -> Result<()> {
        (self.0)(out)
    }

    fn write_async<'a>(self: Box<Self>, out: &'a mut BodyWriter) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { (self.0)(out) })
    }
}

/// An async function.
struct Waiting<F>(F);

impl<F: AsyncFnOnce(&mut BodyWriter) -> Result<()> + 'static> Streaming for Waiting<F> {
    fn write(self: Box<Self>, out: &mut BodyWriter) -> Result<()> {
        task::block_on((self.0)(out))
    }

    fn write_async<'a>(self: Box<Self>, out: &'a mut BodyWriter) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { (self.0)(out).await })
    }
}

/// What follows a response's head.
pub(crate) enum Payload {
    Whole(Body),
    Stream(Box<dyn Streaming>),
}

impl Payload {
    pub(crate) fn blocking(write: impl FnOnce(&mut BodyWriter) -> Result<()> + 'static) -> Self {
        Self::Stream(Box::new(Blocking(write)))
    }

    pub(crate) fn waiting(write: impl AsyncFnOnce(&mut BodyWriter) -> Result<()> + 'static) -> Self {
        Self::Stream(Box::new(Waiting(write)))
    }

    /// The bytes that are there: none of a stream.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(body) => body.as_bytes(),
            Self::Stream(_) => &[],
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Whole(Body::default())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(body) => body.fmt(f),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}
