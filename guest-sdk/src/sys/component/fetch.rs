//! Requests to others, on `wasi:http/outgoing-handler` 0.2.

use tidegate_abi::errno::{EAGAIN, EALREADY, EINVAL, EIO, EMSGSIZE, EPIPE, EPROTO, Errno};
use tidegate_abi::fetch::{Body, RequestView, Timeouts};
use tidegate_abi::fields::{FieldList, ListError};
use tidegate_abi::poll::READABLE;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields as Map, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::poll::Pollable;

use super::fields::Checked;
use super::incoming::{Fields, Incoming, Opened};
use super::resource::{Now, Resource};
use super::sink::Sink;

/// Where the response is. Resources stand in the order in which they have to go.
enum Answer {
    Waited { ready: Option<Pollable>, future: FutureIncomingResponse },
    There { incoming: Incoming, response: IncomingResponse },
    Failed(ErrorCode),
}

/// What is left to be sent.
enum Sending {
    Open { sink: Sink, body: OutgoingBody, left_bytes: Option<u64> },
    Ended,
}

pub(super) struct Call {
    sending: Sending,
    answer: Answer,
}

fn method_of(name: &[u8]) -> Result<Method, Errno> {
    Ok(match name {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"PUT" => Method::Put,
        b"DELETE" => Method::Delete,
        b"CONNECT" => Method::Connect,
        b"OPTIONS" => Method::Options,
        b"TRACE" => Method::Trace,
        b"PATCH" => Method::Patch,
        other => Method::Other(text(other)?),
    })
}

fn text(bytes: &[u8]) -> Result<String, Errno> {
    String::from_utf8(bytes.to_vec()).map_err(|_| EINVAL)
}

fn fields_of(list: FieldList<'_>, length: Option<u64>) -> Result<Map, Errno> {
    let mut entries = Vec::with_capacity(list.len() + 1);
    for field in list.iter() {
        let (name, value) = field.ok_or(EINVAL)?;
        entries.push((text(name)?, value.to_vec()));
    }
    if let Some(length) = length {
        entries.push(("content-length".to_owned(), length.to_string().into_bytes()));
    }
    Map::from_list(&entries).map_err(|_| EINVAL)
}

fn options_of(timeouts: Timeouts) -> Option<RequestOptions> {
    if timeouts == Timeouts::default() {
        return None;
    }
    let options = RequestOptions::new();
    let some = |ns: u64| (ns > 0).then_some(ns);
    // A host that knows no such limit goes without.
    let _ = options.set_connect_timeout(some(timeouts.connect_ns));
    let _ = options.set_first_byte_timeout(some(timeouts.first_byte_ns));
    let _ = options.set_between_bytes_timeout(some(timeouts.between_ns));
    Some(options)
}

impl Call {
    /// Sends the head of a request, and leaves its body to be written.
    pub(super) fn begin(head: &[u8], given: &[u8]) -> Result<Self, Errno> {
        // A body is written when there is room for it: only an empty one is there at once.
        if !given.is_empty() {
            return Err(EMSGSIZE);
        }
        let view = RequestView::bounded(head).map_err(|error| match error {
            ListError::TooLarge => EMSGSIZE,
            ListError::Malformed => EINVAL,
        })?;
        let length = match view.body() {
            Body::Stream(length) => length,
            // Where the method expects a body, that there is none is said (RFC 9110 section 8.6).
            Body::Given => matches!(view.method(), b"POST" | b"PUT" | b"PATCH").then_some(0),
        };
        let request = OutgoingRequest::new(fields_of(view.fields(), length)?);
        let path = if view.path().is_empty() { "/".to_owned() } else { text(view.path())? };
        request.set_method(&method_of(view.method())?).map_err(|()| EINVAL)?;
        let scheme = if view.https() { Scheme::Https } else { Scheme::Http };
        request.set_scheme(Some(&scheme)).map_err(|()| EINVAL)?;
        request.set_authority(Some(&text(view.authority())?)).map_err(|()| EINVAL)?;
        request.set_path_with_query(Some(&path)).map_err(|()| EINVAL)?;
        let body = request.body().map_err(|()| EIO)?;
        let sending = match view.body() {
            Body::Given => {
                // Of a host that refuses even that, the answer says why.
                let _ = OutgoingBody::finish(body, None);
                Sending::Ended
            }
            Body::Stream(left_bytes) => {
                Sending::Open { sink: Sink::new(body.write().map_err(|()| EIO)?), body, left_bytes }
            }
        };
        let answer = match handle(request, options_of(view.timeouts())) {
            Ok(future) => Answer::Waited { ready: None, future },
            Err(code) => Answer::Failed(code),
        };
        Ok(Self { sending, answer })
    }

    /// Takes the response if it is there.
    fn go_on(&mut self) {
        let Answer::Waited { ready, future } = &mut self.answer else { return };
        let Some(got) = future.get() else {
            ready.get_or_insert_with(|| future.subscribe());
            return;
        };
        let opened = got.unwrap_or(Err(ErrorCode::InternalError(None))).and_then(|response| {
            let body = response.consume().map_err(|()| ErrorCode::InternalError(None))?;
            let stream = body.stream().map_err(|()| ErrorCode::InternalError(None))?;
            Ok(Answer::There { incoming: Incoming::open(stream, Some(body)), response })
        });
        self.answer = opened.unwrap_or_else(Answer::Failed);
    }

    fn code(&self) -> Option<&ErrorCode> {
        match &self.answer {
            Answer::Waited { .. } => None,
            Answer::There { incoming, .. } => incoming.code(),
            Answer::Failed(code) => Some(code),
        }
    }
}

impl Resource for Call {
    fn incoming(&mut self) -> Result<&mut Incoming, Errno> {
        self.go_on();
        match &mut self.answer {
            Answer::Waited { .. } => Err(EAGAIN),
            Answer::There { incoming, .. } => Ok(incoming),
            Answer::Failed(code) => Err(super::errno_of(code)),
        }
    }

    fn sink(&mut self) -> Result<&mut Sink, Errno> {
        match &mut self.sending {
            Sending::Open { sink, .. } => Ok(sink),
            Sending::Ended => Err(EPIPE),
        }
    }

    fn advance(&mut self, interest: u16) -> Now {
        if interest == READABLE {
            return match self.incoming() {
                Ok(incoming) => {
                    incoming.subscribe(&Opened);
                    // The head is something to read, and somebody has to ask for it.
                    if incoming.is_known() { Now::Ready } else { Now::Waits }
                }
                Err(EAGAIN) => Now::Waits,
                Err(_) => Now::Ready,
            };
        }
        let Ok(sink) = self.sink() else { return Now::Ready };
        sink.subscribe();
        Now::Waits
    }

    fn pollable(&self, interest: u16) -> Option<&Pollable> {
        match (&self.answer, &self.sending) {
            (Answer::Waited { ready, .. }, _) if interest == READABLE => ready.as_ref(),
            (Answer::There { incoming, .. }, _) if interest == READABLE => incoming.pollable(),
            (_, Sending::Open { sink, .. }) if interest != READABLE => sink.pollable(),
            _ => None,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let Sending::Open { sink, left_bytes, .. } = &mut self.sending else { return Err(EPIPE) };
        if left_bytes.is_some_and(|left| bytes.len() as u64 > left) {
            return Err(tidegate_abi::errno::EFBIG);
        }
        let n = sink.write(bytes)?;
        *left_bytes = left_bytes.map(|left| left.saturating_sub(n as u64));
        Ok(n)
    }

    fn finish(&mut self, trailers: &[u8]) -> Result<(), Errno> {
        let trailers = Checked::trailers(trailers)?;
        let trailers = if trailers.is_empty() { None } else { Some(trailers.make()?) };
        match std::mem::replace(&mut self.sending, Sending::Ended) {
            Sending::Ended => Err(EALREADY),
            Sending::Open { sink, body, .. } => {
                drop(sink);
                OutgoingBody::finish(body, trailers).map_err(|_| EPROTO)
            }
        }
    }

    fn trailers(&mut self) -> Result<Fields, Errno> {
        self.incoming()?.trailers(&Opened).map(<[_]>::to_vec)
    }

    fn error(&mut self) -> Errno {
        match &self.answer {
            Answer::Waited { .. } => 0,
            Answer::There { incoming, .. } => incoming.end().and_then(Result::err).unwrap_or(0),
            Answer::Failed(code) => super::errno_of(code),
        }
    }

    fn head(&mut self) -> Result<(u16, Fields), Errno> {
        self.incoming()?;
        let Answer::There { response, .. } = &self.answer else { return Err(EAGAIN) };
        let mut fields = response.headers().entries();
        for (name, _) in &mut fields {
            name.make_ascii_lowercase();
        }
        Ok((response.status(), fields))
    }

    fn reason(&mut self) -> String {
        self.code().map(named).unwrap_or_default()
    }
}

/// The code as the WIT has it, with what it says besides.
fn named(code: &ErrorCode) -> String {
    use ErrorCode as C;
    let name = match code {
        C::DnsTimeout => "DNS-timeout",
        C::DnsError(why) => {
            return why.rcode.as_ref().map_or("DNS-error".to_owned(), |rcode| format!("DNS-error: {rcode}"));
        }
        C::DestinationNotFound => "destination-not-found",
        C::DestinationUnavailable => "destination-unavailable",
        C::DestinationIpProhibited => "destination-IP-prohibited",
        C::DestinationIpUnroutable => "destination-IP-unroutable",
        C::ConnectionRefused => "connection-refused",
        C::ConnectionTerminated => "connection-terminated",
        C::ConnectionTimeout => "connection-timeout",
        C::ConnectionReadTimeout => "connection-read-timeout",
        C::ConnectionWriteTimeout => "connection-write-timeout",
        C::ConnectionLimitReached => "connection-limit-reached",
        C::TlsProtocolError => "TLS-protocol-error",
        C::TlsCertificateError => "TLS-certificate-error",
        C::TlsAlertReceived(_) => "TLS-alert-received",
        C::HttpRequestDenied => "HTTP-request-denied",
        C::HttpRequestLengthRequired => "HTTP-request-length-required",
        C::HttpRequestBodySize(_) => "HTTP-request-body-size",
        C::HttpRequestMethodInvalid => "HTTP-request-method-invalid",
        C::HttpRequestUriInvalid => "HTTP-request-URI-invalid",
        C::HttpRequestUriTooLong => "HTTP-request-URI-too-long",
        C::HttpRequestHeaderSectionSize(_) => "HTTP-request-header-section-size",
        C::HttpRequestHeaderSize(_) => "HTTP-request-header-size",
        C::HttpRequestTrailerSectionSize(_) => "HTTP-request-trailer-section-size",
        C::HttpRequestTrailerSize(_) => "HTTP-request-trailer-size",
        C::HttpResponseIncomplete => "HTTP-response-incomplete",
        C::HttpResponseHeaderSectionSize(_) => "HTTP-response-header-section-size",
        C::HttpResponseHeaderSize(_) => "HTTP-response-header-size",
        C::HttpResponseBodySize(_) => "HTTP-response-body-size",
        C::HttpResponseTrailerSectionSize(_) => "HTTP-response-trailer-section-size",
        C::HttpResponseTrailerSize(_) => "HTTP-response-trailer-size",
        C::HttpResponseTransferCoding(_) => "HTTP-response-transfer-coding",
        C::HttpResponseContentCoding(_) => "HTTP-response-content-coding",
        C::HttpResponseTimeout => "HTTP-response-timeout",
        C::HttpUpgradeFailed => "HTTP-upgrade-failed",
        C::HttpProtocolError => "HTTP-protocol-error",
        C::LoopDetected => "loop-detected",
        C::ConfigurationError => "configuration-error",
        C::InternalError(None) => "internal-error",
        C::InternalError(Some(why)) => return format!("internal-error: {why}"),
    };
    name.to_owned()
}
