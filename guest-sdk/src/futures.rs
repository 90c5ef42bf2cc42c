//! Bodies as the traits of `futures-core` and `futures-io`, for other people's async code.
//!
//! These traits have no future whose end would tell that nobody waits any more, so a wait that was begun is given up
//! when the body is dropped, or used up by one needless wake.

use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::body::RequestBody;
use crate::writer::BodyWriter;

/// A request's body as a stream of pieces: see [`RequestBody::into_stream`].
///
/// After an error or the end it gives `None`.
///
/// ```
/// use futures_core::Stream;
/// use std::future::poll_fn;
/// use std::pin::Pin;
/// use tidegate_sdk::{Request, Result};
///
/// async fn count_pieces(request: Request) -> Result<String> {
///     let mut pieces = request.into_body().into_stream();
///     let mut count = 0;
///     while let Some(piece) = poll_fn(|cx| Pin::new(&mut pieces).poll_next(cx)).await {
///         count += usize::from(!piece?.is_empty());
///     }
///     Ok(format!("{count} pieces\n"))
/// }
/// # use tidegate_sdk::test::Exchange;
/// # assert_eq!(Exchange::post("/").chunk("a").chunk("b").run(count_pieces).text(), "2 pieces\n");
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless they are read"]
pub struct BodyStream {
    body: RequestBody,
    failed: bool,
}

impl BodyStream {
    /// The body, with what is left of it.
    ///
    /// ```
    /// use tidegate_sdk::{Request, Result};
    ///
    /// async fn echo(request: Request) -> Result<Vec<u8>> {
    ///     let stream = request.into_body().into_stream();
    ///     stream.into_inner().collect().await
    /// }
    /// # assert_eq!(tidegate_sdk::test::Exchange::post("/").body([1, 2]).run(echo).body, [1, 2]);
    /// ```
    #[must_use]
    pub fn into_inner(self) -> RequestBody {
        self.body
    }
}

impl RequestBody {
    /// The body as a stream of its pieces, those of [`Self::chunk`].
    ///
    /// ```
    /// use tidegate_sdk::Request;
    ///
    /// fn pieces(request: Request) -> impl futures_core::Stream<Item = std::io::Result<Vec<u8>>> {
    ///     request.into_body().into_stream()
    /// }
    /// ```
    pub fn into_stream(self) -> BodyStream {
        BodyStream { body: self, failed: false }
    }
}

impl Stream for BodyStream {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        self.body.poll_chunk(cx).map(|chunk| {
            self.failed = chunk.is_err();
            chunk.transpose()
        })
    }
}

impl AsyncRead for RequestBody {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read_async(cx, buf)
    }
}

/// Closing it is [`BodyWriter::finish`]: dropped without that, the response is cut off.
impl AsyncWrite for BodyWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_async(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.end())
    }
}
