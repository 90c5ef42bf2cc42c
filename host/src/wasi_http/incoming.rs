//! `wasi:http/types.incoming-request` and `incoming-body`.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime::{Result, bail};
use wasmtime_wasi::p2::DynInputStream;

use super::Http;
use super::fields::FieldList;
use super::reader::BodyReader;
use super::response::ResponseReader;
use super::trailers::FutureTrailers;
use super::types::{HostIncomingBody, HostIncomingRequest, Method, Scheme};
use crate::exchange::Exchange;
use crate::guest::component::IncomingRequest;
use crate::guest::cost::{copied, entries, parsed, spend};
use crate::guest::desk::Turn;
use crate::net::http::Call;

/// Where a body comes from.
#[derive(Clone, Debug)]
pub(super) enum From {
    /// The client, with the request of that turn.
    Request(Turn),
    /// A server, with its response.
    Response(Arc<Call>),
}

/// `incoming-body`.
#[derive(Debug)]
pub(crate) struct IncomingBody {
    from: From,
    /// The stream was taken out.
    streamed: bool,
}

impl IncomingBody {
    /// Of a response from elsewhere.
    pub(super) fn of_response(call: &Arc<Call>) -> Self {
        Self { from: From::Response(Arc::clone(call)), streamed: false }
    }
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

impl Http<'_> {
    /// What the request's own exchange knows.
    ///
    /// # Errors
    /// The guest has kept the request of a call that is over: a trap.
    fn request(&self, request: &Resource<IncomingRequest>) -> Result<Arc<Exchange>> {
        self.enter()?;
        let turn = self.state.side.table.get(request)?.turn;
        let Some(exchange) = self.state.side.desk.exchange(turn) else {
            bail!("the request that is asked about is over");
        };
        Ok(exchange)
    }
}

impl HostIncomingRequest for Http<'_> {
    fn method(&mut self, request: Resource<IncomingRequest>) -> Result<Method> {
        Ok(method(self.request(&request)?.lock().head.method()))
    }

    fn path_with_query(&mut self, request: Resource<IncomingRequest>) -> Result<Option<String>> {
        let exchange = self.request(&request)?;
        let inner = exchange.lock();
        let (path, query) = (inner.head.path(), inner.head.query());
        let text = query.map_or_else(|| path.to_owned(), |query| [path, "?", query].concat());
        spend(self.state, copied(text.len()))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn scheme(&mut self, request: Resource<IncomingRequest>) -> Result<Option<Scheme>> {
        let secure = self.request(&request)?.lock().facts.secure;
        Ok(Some(if secure { Scheme::Https } else { Scheme::Http }))
    }

    fn authority(&mut self, request: Resource<IncomingRequest>) -> Result<Option<String>> {
        let exchange = self.request(&request)?;
        let inner = exchange.lock();
        Ok(Some(inner.head.authority()).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    fn headers(&mut self, request: Resource<IncomingRequest>) -> Result<Resource<FieldList>> {
        let exchange = self.request(&request)?;
        let inner = exchange.lock();
        let fields = inner.head.fields();
        spend(self.state, parsed(fields.byte_len()) + entries(fields.len()))?;
        let list = FieldList::received(&self.state.side.desk, fields)?;
        self.push_list(list)
    }

    fn consume(&mut self, request: Resource<IncomingRequest>) -> Result<Result<Resource<IncomingBody>, ()>> {
        self.enter()?;
        let table = &mut self.state.side.table;
        let own = table.get_mut(&request)?;
        if std::mem::replace(&mut own.consumed, true) {
            return Ok(Err(()));
        }
        let body = IncomingBody { from: From::Request(own.turn), streamed: false };
        Ok(Ok(table.push(body)?))
    }

    fn drop(&mut self, request: Resource<IncomingRequest>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(request)?;
        Ok(())
    }
}

impl HostIncomingBody for Http<'_> {
    fn stream(&mut self, body: Resource<IncomingBody>) -> Result<Result<Resource<DynInputStream>, ()>> {
        self.enter()?;
        let side = &mut self.state.side;
        let own = side.table.get_mut(&body)?;
        if std::mem::replace(&mut own.streamed, true) {
            return Ok(Err(()));
        }
        let reader: DynInputStream = match &own.from {
            From::Request(turn) => Box::new(BodyReader::new(&side.desk, *turn)),
            From::Response(call) => Box::new(ResponseReader::new(&side.desk, call)),
        };
        Ok(Ok(side.table.push_child(reader, &body)?))
    }

    fn finish(&mut self, body: Resource<IncomingBody>) -> Result<Resource<FutureTrailers>> {
        self.enter()?;
        let side = &mut self.state.side;
        let from = side.table.delete(body)?.from;
        Ok(side.table.push(FutureTrailers::new(&side.desk, from))?)
    }

    fn drop(&mut self, body: Resource<IncomingBody>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(body)?;
        Ok(())
    }
}
