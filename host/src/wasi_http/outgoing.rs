//! `wasi:http/outgoing-handler` and what a request to elsewhere is made of. What the request comes to is `response`'s.

use std::sync::Arc;

use ::http::uri::{Authority, PathAndQuery};
use tidegate_proto::http1::fields::is_token;
use wasmtime::Result;
use wasmtime::component::Resource;

use super::Http;
use super::bindings::wasi::http::outgoing_handler;
use super::draft::{Draft, Message, OutgoingBody};
use super::fields::FieldList;
use super::response::FutureIncomingResponse;
use super::types::{Duration, ErrorCode, HostOutgoingRequest, HostRequestOptions, Method, Scheme};
use crate::clock::Nanos;
use crate::guest::cost::{CALL, entries, parsed, spend};
use crate::guest::desk::Held;
use crate::net::http::{self, Body, Call, Outgoing, Timeouts};

/// `outgoing-request`.
#[derive(Debug)]
pub(crate) struct OutgoingRequest {
    method: Method,
    scheme: Option<Scheme>,
    authority: Option<String>,
    path_with_query: Option<String>,
    headers: FieldList,
    body: Option<Arc<Draft>>,
    /// For the texts.
    held: [Option<Held>; 4],
}

impl Drop for OutgoingRequest {
    /// What is written to the body of a request that nobody sent goes nowhere.
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            body.forget();
        }
    }
}

/// `request-options`: how long each part of an exchange may take, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct RequestOptions {
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    between_bytes: Option<Duration>,
}

impl RequestOptions {
    /// What was not said is the host's to say; no time at all is the shortest that there is.
    fn timeouts(&self) -> Timeouts {
        let or = |own: Option<Duration>, default: Nanos| own.map_or(default, |own| own.max(1));
        let Timeouts { connect, first_byte, between_bytes } = Timeouts::default();
        Timeouts {
            connect: or(self.connect, connect),
            first_byte: or(self.first_byte, first_byte),
            between_bytes: or(self.between_bytes, between_bytes),
        }
    }
}

/// The texts of a request, for which bytes are held.
#[derive(Clone, Copy)]
enum Text {
    Method,
    Scheme,
    Authority,
    Path,
}

/// A scheme (RFC 3986 3.1).
fn is_scheme(text: &str) -> bool {
    let tail = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(tail)
}

/// A path, which may be empty, with what may stand behind it (RFC 9110 7.1).
fn is_path(text: &str) -> bool {
    text.is_empty() || (text.starts_with(['/', '?']) && text.parse::<PathAndQuery>().is_ok())
}

impl Http<'_> {
    fn outgoing(&self, request: &Resource<OutgoingRequest>) -> Result<&OutgoingRequest> {
        self.enter()?;
        Ok(self.state.side.table.get(request)?)
    }

    /// Spends what taking over so many bytes of the guest's, and looking at each, costs.
    ///
    /// # Errors
    /// As [`spend`].
    fn given(&self, bytes: usize) -> Result<()> {
        spend(self.state, CALL + parsed(bytes))
    }

    /// The request, with so many bytes held for one of its texts.
    fn change(
        &mut self,
        request: &Resource<OutgoingRequest>,
        text: Text,
        bytes: usize,
    ) -> Result<&mut OutgoingRequest> {
        let own = self.state.side.table.get_mut(request)?;
        if let Some(place) = own.held.get_mut(text as usize) {
            // What was there before is free first.
            *place = None;
            *place = Some(self.state.side.desk.hold(bytes)?);
        }
        Ok(own)
    }
}

impl HostOutgoingRequest for Http<'_> {
    fn new(&mut self, headers: Resource<FieldList>) -> Result<Resource<OutgoingRequest>> {
        self.enter()?;
        let table = &mut self.state.side.table;
        let headers = table.delete(headers)?.freeze();
        Ok(table.push(OutgoingRequest {
            method: Method::Get,
            scheme: None,
            authority: None,
            path_with_query: None,
            headers,
            body: None,
            held: [const { None }; 4],
        })?)
    }

    fn body(&mut self, request: Resource<OutgoingRequest>) -> Result<Result<Resource<OutgoingBody>, ()>> {
        self.enter()?;
        let side = &mut self.state.side;
        let own = side.table.get_mut(&request)?;
        if own.body.is_some() {
            return Ok(Err(()));
        }
        let draft = Draft::new(&side.desk, Message::Request, own.headers.content_length());
        own.body = Some(Arc::clone(&draft));
        Ok(Ok(side.table.push(OutgoingBody::new(draft))?))
    }

    fn method(&mut self, request: Resource<OutgoingRequest>) -> Result<Method> {
        Ok(self.outgoing(&request)?.method.clone())
    }

    fn set_method(&mut self, request: Resource<OutgoingRequest>, method: Method) -> Result<Result<(), ()>> {
        let name = if let Method::Other(name) = &method { name.as_str() } else { "GET" };
        self.given(name.len())?;
        if !is_token(name.as_bytes()) {
            return Ok(Err(()));
        }
        let bytes = name.len();
        self.change(&request, Text::Method, bytes)?.method = method;
        Ok(Ok(()))
    }

    fn path_with_query(&mut self, request: Resource<OutgoingRequest>) -> Result<Option<String>> {
        Ok(self.outgoing(&request)?.path_with_query.clone())
    }

    fn set_path_with_query(
        &mut self,
        request: Resource<OutgoingRequest>,
        path: Option<String>,
    ) -> Result<Result<(), ()>> {
        let bytes = path.as_ref().map_or(0, String::len);
        self.given(bytes)?;
        if path.as_deref().is_some_and(|path| !is_path(path)) {
            return Ok(Err(()));
        }
        self.change(&request, Text::Path, bytes)?.path_with_query = path;
        Ok(Ok(()))
    }

    fn scheme(&mut self, request: Resource<OutgoingRequest>) -> Result<Option<Scheme>> {
        Ok(self.outgoing(&request)?.scheme.clone())
    }

    fn set_scheme(
        &mut self,
        request: Resource<OutgoingRequest>,
        scheme: Option<Scheme>,
    ) -> Result<Result<(), ()>> {
        let name = if let Some(Scheme::Other(name)) = &scheme { name.as_str() } else { "http" };
        self.given(name.len())?;
        if !is_scheme(name) {
            return Ok(Err(()));
        }
        let bytes = name.len();
        self.change(&request, Text::Scheme, bytes)?.scheme = scheme;
        Ok(Ok(()))
    }

    fn authority(&mut self, request: Resource<OutgoingRequest>) -> Result<Option<String>> {
        Ok(self.outgoing(&request)?.authority.clone())
    }

    fn set_authority(
        &mut self,
        request: Resource<OutgoingRequest>,
        authority: Option<String>,
    ) -> Result<Result<(), ()>> {
        let bytes = authority.as_ref().map_or(0, String::len);
        self.given(bytes)?;
        if authority.as_deref().is_some_and(|authority| authority.parse::<Authority>().is_err()) {
            return Ok(Err(()));
        }
        self.change(&request, Text::Authority, bytes)?.authority = authority;
        Ok(Ok(()))
    }

    fn headers(&mut self, request: Resource<OutgoingRequest>) -> Result<Resource<FieldList>> {
        let list = &self.outgoing(&request)?.headers;
        spend(self.state, parsed(list.fields().byte_len()) + entries(list.fields().len()))?;
        let list = list.view(&self.state.side.desk)?;
        self.push_list(list)
    }

    fn drop(&mut self, request: Resource<OutgoingRequest>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(request)?;
        Ok(())
    }
}

impl Http<'_> {
    fn options(&mut self, options: &Resource<RequestOptions>) -> Result<&mut RequestOptions> {
        self.enter()?;
        Ok(self.state.side.table.get_mut(options)?)
    }
}

impl HostRequestOptions for Http<'_> {
    fn new(&mut self) -> Result<Resource<RequestOptions>> {
        self.enter()?;
        Ok(self.state.side.table.push(RequestOptions::default())?)
    }

    fn connect_timeout(&mut self, options: Resource<RequestOptions>) -> Result<Option<Duration>> {
        Ok(self.options(&options)?.connect)
    }

    fn set_connect_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        timeout: Option<Duration>,
    ) -> Result<Result<(), ()>> {
        self.options(&options)?.connect = timeout;
        Ok(Ok(()))
    }

    fn first_byte_timeout(&mut self, options: Resource<RequestOptions>) -> Result<Option<Duration>> {
        Ok(self.options(&options)?.first_byte)
    }

    fn set_first_byte_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        timeout: Option<Duration>,
    ) -> Result<Result<(), ()>> {
        self.options(&options)?.first_byte = timeout;
        Ok(Ok(()))
    }

    fn between_bytes_timeout(&mut self, options: Resource<RequestOptions>) -> Result<Option<Duration>> {
        Ok(self.options(&options)?.between_bytes)
    }

    fn set_between_bytes_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        timeout: Option<Duration>,
    ) -> Result<Result<(), ()>> {
        self.options(&options)?.between_bytes = timeout;
        Ok(Ok(()))
    }

    fn drop(&mut self, options: Resource<RequestOptions>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(options)?;
        Ok(())
    }
}

impl outgoing_handler::Host for Http<'_> {
    fn handle(
        &mut self,
        request: Resource<OutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> Result<Result<Resource<FutureIncomingResponse>, ErrorCode>> {
        self.enter()?;
        let table = &mut self.state.side.table;
        let request = table.delete(request)?;
        let options = options.map(|options| table.delete(options)).transpose()?.unwrap_or_default();
        let fields = request.headers.fields();
        spend(self.state, parsed(fields.byte_len()) + entries(fields.len()))?;
        match self.send(request, options.timeouts()) {
            Ok(call) => Ok(Ok(self.state.side.table.push(FutureIncomingResponse::new(call))?)),
            Err(code) => Ok(Err(code)),
        }
    }
}

impl Http<'_> {
    fn send(&mut self, mut request: OutgoingRequest, timeouts: Timeouts) -> Result<Arc<Call>, ErrorCode> {
        let https = match request.scheme {
            None | Some(Scheme::Https) => true,
            Some(Scheme::Http) => false,
            Some(Scheme::Other(_)) => return Err(ErrorCode::HttpProtocolError),
        };
        let Some(authority) = request.authority.as_deref() else {
            return Err(ErrorCode::HttpRequestUriInvalid);
        };
        let outgoing = Outgoing {
            method: name_of(&request.method),
            https,
            authority,
            path: request.path_with_query.as_deref().unwrap_or_default(),
            fields: request.headers.fields().iter(),
            body: request.body.as_ref().map_or(Body::Empty, |body| body.length()),
            timeouts,
        };
        let call = http::send(self.state.network(), outgoing)?;
        if let Some(body) = request.body.take() {
            body.send(&call);
        }
        Ok(call)
    }
}

fn name_of(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}
