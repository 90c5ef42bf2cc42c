//! One request and its response, as the guest has it: every method does what can be done now and never waits.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use tidegate_proto::client::state::Send as Sending;
use tidegate_proto::client::{Request, ResponseHead};
use tidegate_proto::http1::encode::push_trailer;
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::target::parse_authority;
use tidegate_proto::pipe::Pipe;

use super::dial::Dial;
use super::exchange::{Exchange, FLUSH_BYTES, Stage};
use super::failure::Failure;
use super::pool::Origin;
use super::{Body, Field, Outgoing};
use crate::net::hub::Hub;
use crate::net::network::Network;
use crate::net::readiness::{Driven, leave};
use crate::net::socket::Close;

struct Inner {
    exchange: Exchange,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A request that was sent, or is being sent, and its response.
pub(crate) struct Call {
    /// What the loop calls.
    me: Weak<dyn Driven>,
    inner: Mutex<Inner>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

/// Sends a request. It is closed with its network.
///
/// # Errors
/// The request is not valid, or the app may not send it, nor have another socket; nothing was opened.
pub(crate) fn send<'a, F: IntoIterator<Item = Field<'a>>>(
    network: &Arc<Network>,
    request: Outgoing<'_, F>,
) -> Result<Arc<Call>, Failure> {
    let idempotent = matches!(request.method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE");
    let pool = &network.hub.http;
    // What could not be sent twice, its body included, is not to meet a connection that is gone.
    let sure = !idempotent || request.body != Body::Empty;
    let kept = pool.take(&network.access, request.https, request.authority, sure);
    let kept = match (kept, network.lease()) {
        (None, _) => None,
        (Some(idle), Ok(lease)) => {
            idle.link.tcp.count(Some(lease));
            Some(idle)
        }
        (Some(idle), Err(_)) => {
            pool.put(&network.hub, idle.link, idle.wire, idle.origin);
            return Err(Failure::ConnectionLimitReached);
        }
    };
    let (origin, link, mut wire) = match kept {
        Some(idle) => (idle.origin, Some(idle.link), idle.wire),
        None => (origin(network, request.https, request.authority)?, None, Box::default()),
    };
    let head = Request {
        method: request.method,
        authority: request.authority,
        path: request.path,
        body: request.body,
    };
    if let Err(error) = wire.sender.begin(&head, request.fields) {
        if let Some(link) = link {
            pool.put(&network.hub, link, wire, origin);
        }
        return Err(error.into());
    }
    let head_request = wire.sender.is_head_request();
    wire.receiver.begin(head_request).map_err(|_| Failure::ConnectionTerminated)?;
    let now = network.hub.now();
    let repeats = idempotent && link.is_some();
    let stage = match link {
        Some(link) => Stage::Open(link),
        None => Stage::Dial(Dial::new(&origin, network, now.saturating_add(request.timeouts.connect))?),
    };
    let exchange = Exchange::new(Arc::clone(network), origin, stage, wire, request.timeouts, repeats, now);
    let call = Arc::new_cyclic(|me: &Weak<Call>| Call {
        me: me.clone(),
        inner: Mutex::new(Inner { exchange, reader: None, writer: None }),
    });
    let weak = Arc::downgrade(&call);
    network.opened(weak).map_err(|_| Failure::ConnectionTerminated)?;
    call.start();
    Ok(call)
}

fn origin(network: &Network, https: bool, authority: &str) -> Result<Arc<Origin>, Failure> {
    let parsed = parse_authority(authority).map_err(|_| Failure::HttpRequestUriInvalid)?;
    if parsed.host.is_empty() || parsed.port == Some(0) {
        return Err(Failure::HttpRequestUriInvalid);
    }
    Ok(Arc::new(Origin {
        access: Arc::clone(&network.access),
        https,
        authority: authority.into(),
        host: parsed.host.into(),
        port: parsed.port.unwrap_or(if https { 443 } else { 80 }),
    }))
}

impl Call {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) {
        let mut inner = self.lock();
        if let Stage::Open(link) = &inner.exchange.stage {
            link.tcp.set_driver(Weak::clone(&self.me));
        }
        // A body that is to follow may leave with its head.
        if inner.exchange.wire.sender.state() == Sending::Body {
            inner.exchange.hold();
        }
        let flush = inner.exchange.wire.sender.state() != Sending::Body;
        inner.exchange.advance(flush, &self.me, &mut Context::from_waker(Waker::noop()));
    }

    /// Ready when the head of the response is there.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let mut inner = self.lock();
        // Nearly always the loop has brought it.
        if !inner.exchange.take_head() {
            inner.exchange.advance(true, &self.me, cx);
        }
        if inner.exchange.take_head() {
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = &inner.exchange.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        leave(&mut inner.reader, cx);
        Poll::Pending
    }

    /// Looks at the head of the response: its status is 0 as long as [`Self::poll_head`] was not ready.
    pub(crate) fn with_head<R>(&self, f: impl FnOnce(&ResponseHead) -> R) -> R {
        let mut inner = self.lock();
        inner.exchange.take_head();
        f(inner.exchange.wire.receiver.head())
    }

    /// Reads of the response's body. None: nothing yet. 0: the end, or no room.
    ///
    /// # Errors
    /// It does not go on. What came before that is read first.
    pub(crate) fn read(&self, into: &mut [u8]) -> Result<Option<usize>, Failure> {
        let mut inner = self.lock();
        let exchange = &mut inner.exchange;
        if exchange.wire.response.is_empty() && !exchange.wire.response.is_ended() {
            self.go_on(exchange);
        }
        let n = exchange.wire.response.read(into);
        exchange.take_head();
        if n > 0 || into.is_empty() || exchange.wire.response.drained() {
            if exchange.resumes() {
                self.go_on(exchange);
            }
            return Ok(Some(n));
        }
        exchange.failure.clone().map_or(Ok(None), Err)
    }

    /// Ready when [`Self::read`] finds something; as long as the head was not [taken](Self::poll_head), when it is there.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if !inner.exchange.is_readable() {
            inner.exchange.advance(true, &self.me, cx);
        }
        if inner.exchange.is_readable() {
            return Poll::Ready(());
        }
        leave(&mut inner.reader, cx);
        Poll::Pending
    }

    /// Why it does not go on, if it does not: what was received before can still be read.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.lock().exchange.failure.clone()
    }

    /// Looks at the trailers of the response: they are whole when its body was read to the end.
    pub(crate) fn with_trailers<R>(&self, f: impl FnOnce(&Fields) -> R) -> R {
        f(self.lock().exchange.wire.receiver.trailers())
    }

    /// Bytes of the request's body that are taken now.
    ///
    /// # Errors
    /// It does not go on.
    pub(crate) fn permit(&self) -> Result<usize, Failure> {
        self.lock().exchange.permit()
    }

    /// Takes what it can of `bytes`.
    ///
    /// # Errors
    /// It does not go on, or that would be more than was announced.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut inner = self.lock();
        let exchange = &mut inner.exchange;
        exchange.permit()?;
        exchange.check_length(bytes.len())?;
        let mut n = exchange.wire.request.write(bytes);
        self.written(exchange);
        if n < bytes.len() && exchange.permit()? > 0 {
            // What has left made room.
            n += exchange.wire.request.write(bytes.get(n..).unwrap_or_default());
            self.written(exchange);
        }
        Ok(n)
    }

    /// Bytes were put into the request's pipe: few of them wait a moment for more.
    fn written(&self, exchange: &mut Exchange) {
        if exchange.wire.request.is_empty() {
            return;
        }
        let many = exchange.wire.request.len() >= FLUSH_BYTES;
        if !many {
            exchange.hold();
        }
        exchange.advance(many, &self.me, &mut Context::from_waker(Waker::noop()));
    }

    /// Ready when the request's body takes bytes, or will not take any.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        inner.exchange.advance(true, &self.me, cx);
        if inner.exchange.is_writable() {
            return Poll::Ready(());
        }
        leave(&mut inner.writer, cx);
        Poll::Pending
    }

    /// Ends the request's body cleanly. Without that it is cut off when the call is closed.
    ///
    /// # Errors
    /// It does not go on; it is shorter than was announced; a trailer is not valid.
    pub(crate) fn finish<'a>(&self, trailers: impl IntoIterator<Item = Field<'a>>) -> Result<(), Failure> {
        let mut lines = Vec::new();
        for (name, value) in trailers {
            push_trailer(name, value, &mut lines).map_err(|error| match error {
                tidegate_proto::error::GuestError::TooLarge => Failure::HttpRequestTrailerSectionSize,
                tidegate_proto::error::GuestError::ForbiddenTrailer => {
                    Failure::HttpRequestDenied("a field may not stand in a trailer section")
                }
                _ => Failure::HttpRequestDenied("a trailer is not valid"),
            })?;
        }
        let mut inner = self.lock();
        let exchange = &mut inner.exchange;
        exchange.permit()?;
        if exchange.wire.request.is_ended() {
            return Ok(());
        }
        exchange.check_end()?;
        exchange.wire.trailers = lines;
        exchange.wire.request.end();
        exchange.advance(true, &self.me, &mut Context::from_waker(Waker::noop()));
        Ok(())
    }

    /// Takes bytes of the response out of their pipe, as [`Self::read`] would.
    ///
    /// # Errors
    /// There is none left, and it does not go on.
    pub(crate) fn with_incoming_pipe<R>(&self, f: impl FnOnce(&mut Pipe) -> R) -> Result<R, Failure> {
        let mut inner = self.lock();
        let exchange = &mut inner.exchange;
        if exchange.wire.response.is_empty() && !exchange.wire.response.is_ended() {
            self.go_on(exchange);
            if let (true, Some(failure)) = (exchange.wire.response.is_empty(), &exchange.failure) {
                return Err(failure.clone());
            }
        }
        let result = f(&mut exchange.wire.response);
        if exchange.resumes() {
            self.go_on(exchange);
        }
        Ok(result)
    }

    /// Puts bytes of the request's body into their pipe, as [`Self::write`] would: at most as many as the permit that `f` is
    /// given.
    ///
    /// # Errors
    /// It does not go on.
    pub(crate) fn with_outgoing_pipe<R>(&self, f: impl FnOnce(&mut Pipe, usize) -> R) -> Result<R, Failure> {
        let mut inner = self.lock();
        let exchange = &mut inner.exchange;
        let permit = exchange.permit()?;
        let result = f(&mut exchange.wire.request, permit);
        self.written(exchange);
        Ok(result)
    }

    /// Goes on where nobody is to be woken: the guest itself is here.
    fn go_on(&self, exchange: &mut Exchange) {
        exchange.advance(false, &self.me, &mut Context::from_waker(Waker::noop()));
    }

    /// Ends it. The connection is kept if both messages are at their ends.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        let stage = inner.exchange.close();
        let waiting = [inner.reader.take(), inner.writer.take()];
        drop(inner);
        // Closing a connection is a system call or two: not under the lock.
        drop(stage);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Close for Call {
    fn close(&self) {
        Self::close(self);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        drop(self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).exchange.close());
    }
}

impl Driven for Call {
    fn drive(self: Arc<Self>, _: &Arc<Hub>) {
        let mut inner = self.lock();
        let waker = inner.reader.clone().or_else(|| inner.writer.clone());
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        inner.exchange.advance(false, &self.me, &mut cx);
        let reader = if inner.exchange.is_readable() { inner.reader.take() } else { None };
        let writer = if inner.exchange.is_writable() { inner.writer.take() } else { None };
        drop(inner);
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }
}
