//! Events for a browser's `EventSource` (HTML Standard section 9.2): a response that never has to end.
//!
//! Invariant: whatever text an event carries, the client reads that event and no other. Text with line breaks is split
//! where a client would split it; where none may be, sending is an error. There is never more than one event in memory:
//! while the client is slow, [`Events::send`] waits.
//!
//! ```
//! use std::time::Duration;
//! use tidegate_sdk::sse::Event;
//! use tidegate_sdk::{Request, Response};
//!
//! fn count(request: Request) -> Response {
//!     // A client that comes back says how far it had come.
//!     let seen: u64 = request.last_event_id().and_then(|id| id.parse().ok()).unwrap_or(0);
//!     Response::sse(move |events| {
//!         for n in seen + 1..=10 {
//!             events.send(&Event::data(format!("line {n}")).id(n.to_string()))?;
//!             tidegate_sdk::sleep(Duration::from_secs(1));
//!         }
//!         Ok(())
//!     })
//! }
//! # use tidegate_sdk::test::Exchange;
//! # let answer = Exchange::get("/").header("last-event-id", "8").run(count);
//! # assert_eq!(answer.text(), "id: 9\ndata: line 9\n\nid: 10\ndata: line 10\n\n");
//! ```

use http::HeaderValue;
use http::header::CACHE_CONTROL;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::request::Request;
use crate::response::Response;
use crate::writer::BodyWriter;

type Text = Cow<'static, str>;

/// One event. Text is anything that becomes a `Cow<'static, str>`.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::sse::Event;
///
/// let event = Event::data("two\nlines").event("news").id("7").retry(Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an event is sent with `Events::send`"]
pub struct Event {
    data: Option<Text>,
    event: Option<Text>,
    id: Option<Text>,
    retry: Option<Duration>,
    comment: Option<Text>,
}

impl Event {
    /// An event with this data, which may have any number of lines. Clients join lines with `\n`, whatever ended them here.
    ///
    /// ```
    /// use tidegate_sdk::sse::Event;
    /// use tidegate_sdk::{Request, Response, test::Exchange};
    ///
    /// let app = |_: Request| Response::sse(|events| events.send(&Event::data("two\nlines")));
    /// assert_eq!(Exchange::get("/").run(app).text(), "data: two\ndata: lines\n\n");
    /// ```
    pub fn data(data: impl Into<Text>) -> Self {
        Self { data: Some(data.into()), ..Self::default() }
    }

    /// A comment, which clients ignore; it may have several lines.
    ///
    /// ```
    /// use tidegate_sdk::sse::Event;
    /// use tidegate_sdk::{Request, Response, test::Exchange};
    ///
    /// let app = |_: Request| Response::sse(|events| events.send(&Event::comment("nothing yet")));
    /// assert_eq!(Exchange::get("/").run(app).text(), ": nothing yet\n\n");
    /// ```
    pub fn comment(text: impl Into<Text>) -> Self {
        Self { comment: Some(text.into()), ..Self::default() }
    }

    /// The same under this name: `addEventListener(name, ..)` gets it, `onmessage` does not. One line.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::sse::Event;
    /// use tidegate_sdk::{Request, Response, test::Exchange};
    ///
    /// let app = |_: Request| {
    ///     let event = Event::data("rain").event("weather").id("7").retry(Duration::from_secs(5));
    ///     Response::sse(move |events| events.send(&event))
    /// };
    /// assert_eq!(Exchange::get("/").run(app).text(), "event: weather\nid: 7\nretry: 5000\ndata: rain\n\n");
    /// ```
    pub fn event(mut self, name: impl Into<Text>) -> Self {
        self.event = Some(name.into());
        self
    }

    /// The same with this id, which a client that comes back sends along: [`Request::last_event_id`]. One
    /// line. See [`Self::event`].
    pub fn id(mut self, id: impl Into<Text>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The same, and from now on the client waits this long (in whole milliseconds) before it connects again.
    /// See [`Self::event`].
    pub fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    /// Appends what is sent for it.
    fn encode(&self, out: &mut String) -> Result<()> {
        if let Some(text) = &self.comment {
            push_lines(out, "", text);
        }
        if let Some(name) = &self.event {
            push_line(out, "event", name)?;
        }
        if let Some(id) = &self.id {
            push_line(out, "id", id)?;
        }
        if let Some(after) = self.retry {
            // Writing to a `String` cannot fail.
            let _ = writeln!(out, "retry: {}", after.as_millis());
        }
        if let Some(data) = &self.data {
            push_lines(out, "data", data);
        }
        if !out.is_empty() {
            out.push('\n');
        }
        Ok(())
    }
}

/// A field of one line. A line break would begin another field, and a client takes no id with a NUL.
fn push_line(out: &mut String, name: &str, value: &str) -> Result<()> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(Error::internal(format!("an event's {name} has a line break or a NUL: {value:?}")));
    }
    push_lines(out, name, value);
    Ok(())
}

/// A field once for each line of `text`. The space after the colon is not part of the value: one of its own survives.
fn push_lines(out: &mut String, name: &str, text: &str) {
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (line, next) = match text.find(['\n', '\r']) {
            Some(at) if text[at..].starts_with("\r\n") => (&text[..at], Some(&text[at + 2..])),
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        for part in [name, ": ", line, "\n"] {
            out.push_str(part);
        }
        rest = next;
    }
}

/// Where events are sent to.
///
/// [`Response::sse`] gives one; in a handler that has a [`ResponseWriter`](crate::ResponseWriter) it is made from the body:
///
/// ```
/// use tidegate_sdk::sse::{self, Event, Events};
/// use tidegate_sdk::{Request, ResponseWriter, Result};
///
/// fn once(_request: Request, response: ResponseWriter) -> Result<()> {
///     let mut body = response.start(sse::head())?;
///     Events::new(&mut body).send(&Event::data("hello"))?;
///     body.finish()?;
///     Ok(())
/// }
/// # let answer = tidegate_sdk::test::Exchange::get("/").run_streaming(once);
/// # assert_eq!(answer.text(), "data: hello\n\n");
/// ```
#[derive(Debug)]
pub struct Events<'a> {
    body: &'a mut BodyWriter,
    /// The event that is being sent.
    text: String,
}

impl<'a> Events<'a> {
    /// Events into `body`, whose head should be [`head`]. See [`Events`].
    pub fn new(body: &'a mut BodyWriter) -> Self {
        Self { body, text: String::new() }
    }

    /// Sends one event. Waits while the client is slow. See [`Events`].
    ///
    /// # Errors
    /// A name or an id that has a line break or a NUL: nothing is sent then. A client that is gone.
    pub fn send(&mut self, event: &Event) -> Result<()> {
        self.encode(event)?;
        self.body.write_all(self.text.as_bytes())?;
        Ok(())
    }

    /// As [`Self::send`], for async code. See [`Response::sse_async`].
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_async(&mut self, event: &Event) -> Result<()> {
        self.encode(event)?;
        self.body.send(self.text.as_bytes()).await?;
        Ok(())
    }

    /// Sends a comment without text, so that nobody on the way takes the connection for dead. Every 15 seconds or so
    /// will do.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::{Request, Response, sleep, test::Exchange};
    ///
    /// let quiet = |_: Request| {
    ///     Response::sse(|events| {
    ///         sleep(Duration::from_secs(15));
    ///         events.keep_alive()
    ///     })
    /// };
    /// assert_eq!(Exchange::get("/").run(quiet).text(), ":\n\n");
    /// ```
    ///
    /// # Errors
    /// A client that is gone.
    pub fn keep_alive(&mut self) -> Result<()> {
        Ok(self.body.write_all(KEEP_ALIVE)?)
    }

    /// As [`Self::keep_alive`], for async code.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::sse::{Event, Events};
    /// use tidegate_sdk::{Result, task};
    ///
    /// /// Sends what `next` gives, and signs of life while it takes its time.
    /// async fn send_next(events: &mut Events<'_>, next: impl Future<Output = String>) -> Result<()> {
    ///     let mut next = std::pin::pin!(next);
    ///     loop {
    ///         match task::timeout(Duration::from_secs(15), &mut next).await {
    ///             Ok(data) => return events.send_async(&Event::data(data)).await,
    ///             Err(_) => events.keep_alive_async().await?,
    ///         }
    ///     }
    /// }
    /// # use tidegate_sdk::{Request, Response, test::Exchange};
    /// # async fn slow() -> String {
    /// #     task::sleep(Duration::from_secs(20)).await;
    /// #     "hi".to_owned()
    /// # }
    /// # let app = |_: Request| Response::sse_async(async |events| send_next(events, slow()).await);
    /// # assert_eq!(Exchange::get("/").run(app).text(), ":\n\ndata: hi\n\n");
    /// ```
    ///
    /// # Errors
    /// A client that is gone.
    pub async fn keep_alive_async(&mut self) -> Result<()> {
        Ok(self.body.send(KEEP_ALIVE).await?)
    }

    fn encode(&mut self, event: &Event) -> Result<()> {
        self.text.clear();
        event.encode(&mut self.text)
    }
}

const KEEP_ALIVE: &[u8] = b":\n\n";

/// The head of a stream of events: 200, `text/event-stream`, not to be stored. See [`Events`].
#[must_use]
pub fn head() -> Response {
    with_head(Response::empty())
}

fn with_head(response: Response) -> Response {
    response
        .with_header(http::header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))
        .with_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

/// Events, sent.
impl Response {
    /// 200 with the events that `write` sends. The response ends cleanly when `write` returns `Ok`, and the client then
    /// comes back after a while; it is cut off at an `Err`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::sse::Event;
    /// use tidegate_sdk::{Request, Response};
    ///
    /// fn countdown(_request: Request) -> Response {
    ///     Response::sse(|events| {
    ///         for n in (1..=3).rev() {
    ///             events.send(&Event::data(n.to_string()))?;
    ///             tidegate_sdk::sleep(Duration::from_secs(1));
    ///         }
    ///         events.send(&Event::data("").event("lift-off"))
    ///     })
    /// }
    /// # let answer = tidegate_sdk::test::Exchange::get("/").run(countdown);
    /// # assert!(answer.text().starts_with("data: 3\n\ndata: 2\n\n"));
    /// ```
    pub fn sse(write: impl FnOnce(&mut Events<'_>) -> Result<()> + 'static) -> Self {
        with_head(Self::stream(move |body| write(&mut Events::new(body))))
    }

    /// As [`Self::sse`], for an async closure.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate_sdk::sse::Event;
    /// use tidegate_sdk::{Request, Response, task};
    ///
    /// async fn ticks(_request: Request) -> Response {
    ///     Response::sse_async(async |events| {
    ///         loop {
    ///             events.send_async(&Event::data("tick")).await?;
    ///             task::sleep(Duration::from_secs(1)).await;
    ///         }
    ///     })
    /// }
    /// ```
    pub fn sse_async(write: impl AsyncFnOnce(&mut Events<'_>) -> Result<()> + 'static) -> Self {
        with_head(Self::stream_async(async move |body: &mut BodyWriter| write(&mut Events::new(body)).await))
    }
}

/// Events, asked for.
impl Request {
    /// The id of the last event that this client got before its connection was lost (HTML Standard section 9.2.4).
    ///
    /// ```
    /// use tidegate_sdk::{Request, test::Exchange};
    ///
    /// let seen = |request: Request| request.last_event_id().unwrap_or("nothing").to_owned();
    /// assert_eq!(Exchange::get("/").header("last-event-id", "7").run(seen).text(), "7");
    /// assert_eq!(Exchange::get("/").run(seen).text(), "nothing");
    /// ```
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.header("last-event-id").filter(|id| !id.is_empty())
    }
}
