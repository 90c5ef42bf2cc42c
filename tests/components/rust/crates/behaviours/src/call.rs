//! What the behaviours share: their request, an answer made of lines, and small ways to name an outcome.

use std::fmt::{Debug, Write as _};

use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam, http_error_code,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// One call of the handler.
pub(crate) struct Call {
    pub(crate) request: IncomingRequest,
    pub(crate) out: ResponseOutparam,
}

impl Call {
    /// The path without its query.
    pub(crate) fn path(&self) -> String {
        let target = self.request.path_with_query().unwrap_or_default();
        target.split('?').next().unwrap_or_default().to_owned()
    }

    /// What comes after the question mark.
    pub(crate) fn query(&self) -> String {
        let target = self.request.path_with_query().unwrap_or_default();
        target.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default()
    }

    /// Answers with 200 and the lines.
    pub(crate) fn say(self, lines: &Lines) {
        self.answer(200, &lines.0);
    }

    /// A whole answer in text.
    pub(crate) fn answer(self, status: u16, text: &str) {
        let (body, stream) = self.start(status);
        write_all(&stream, text.as_bytes());
        drop(stream);
        OutgoingBody::finish(body, None).expect("no length was said");
    }

    /// Sets the head of a text and opens its body.
    pub(crate) fn start(self, status: u16) -> (OutgoingBody, OutputStream) {
        let response = OutgoingResponse::new(text_headers());
        response.set_status_code(status).expect("a status that exists");
        set(self.out, response)
    }
}

/// Sets `response` and opens its body.
pub(crate) fn set(out: ResponseOutparam, response: OutgoingResponse) -> (OutgoingBody, OutputStream) {
    let body = response.body().expect("the first call");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the first call");
    (body, stream)
}

/// A response that will never be set: its body can be misused, and the report of that still be sent.
pub(crate) fn spare(headers: Fields) -> (OutgoingResponse, OutgoingBody, OutputStream) {
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("the first call");
    let stream = body.write().expect("the first call");
    (response, body, stream)
}

pub(crate) fn text_headers() -> Fields {
    fields(&[("content-type", "text/plain")])
}

pub(crate) fn fields(entries: &[(&str, &str)]) -> Fields {
    let entries: Vec<_> =
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Fields::from_list(&entries).expect("valid headers")
}

/// Writes in pieces that `blocking-write-and-flush` takes.
pub(crate) fn write_all(stream: &OutputStream, bytes: &[u8]) {
    for piece in bytes.chunks(4096) {
        stream.blocking_write_and_flush(piece).expect("an open stream");
    }
}

/// A report, a line a fact.
#[derive(Default)]
pub(crate) struct Lines(String);

impl Lines {
    /// `what: value`, as Rust shows it.
    pub(crate) fn add(&mut self, what: &str, value: impl Debug) {
        let _ = writeln!(self.0, "{what}: {value:?}");
    }

    /// Writes the report so far.
    pub(crate) fn write_to(&self, stream: &OutputStream) {
        write_all(stream, self.0.as_bytes());
    }

    /// Answers with the report where the request is gone.
    pub(crate) fn answer(&self, out: ResponseOutparam) {
        let (body, stream) = set(out, OutgoingResponse::new(text_headers()));
        self.write_to(&stream);
        drop(stream);
        OutgoingBody::finish(body, None).expect("no length was said");
    }

    /// The entries, in their order, with what is no text escaped.
    pub(crate) fn entries(&mut self, what: &str, fields: &Fields) {
        self.list(what, &fields.entries());
    }

    /// The entries by name: the order in which a host shows different names of a request is its own.
    pub(crate) fn entries_by_name(&mut self, what: &str, fields: &Fields) {
        let mut entries = fields.entries();
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.list(what, &entries);
    }

    fn list(&mut self, what: &str, entries: &[(String, Vec<u8>)]) {
        for (name, value) in entries {
            let _ = writeln!(self.0, "{what}: {name}={}", value.escape_ascii());
        }
    }
}

/// The outcome of a stream's operation, without what only one host would say of it.
pub(crate) fn outcome<T: Debug>(result: Result<T, StreamError>) -> String {
    match result {
        Ok(value) => format!("ok {value:?}"),
        Err(StreamError::Closed) => "closed".to_owned(),
        Err(StreamError::LastOperationFailed(error)) => match http_error_code(&error) {
            Some(code) => format!("failed {}", code_name(&code)),
            None => "failed".to_owned(),
        },
    }
}

/// The code with its payload, unless that is a text of the host's own.
pub(crate) fn code_name(code: &ErrorCode) -> String {
    match code {
        ErrorCode::InternalError(_) => "InternalError".to_owned(),
        other => format!("{other:?}").trim_start_matches("ErrorCode::").to_owned(),
    }
}
