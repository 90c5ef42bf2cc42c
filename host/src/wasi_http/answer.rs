//! `wasi:http/types.outgoing-response` and `response-outparam`: the answer, and the right to give it.

use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::Resource;

use super::Http;
use super::draft::{Draft, Message, OutgoingBody};
use super::fields::FieldList;
use super::types::{ErrorCode, HostOutgoingResponse, HostResponseOutparam};
use crate::exchange::{Field, Refusal};
use crate::guest::component::ResponseOutparam;
use crate::guest::cost::{entries, parsed, spend};

/// Bytes of an error that the log is told of.
const ERROR_BYTES_MAX: usize = 1024;
/// 103 (Early Hints), the one interim response that a guest may send.
const EARLY_HINTS: u16 = 103;

/// `outgoing-response`.
#[derive(Debug)]
pub(crate) struct OutgoingResponse {
    status: u16,
    headers: FieldList,
    /// The body, once it was asked for.
    body: Option<Arc<Draft>>,
}

impl OutgoingResponse {
    /// The fields as the response's head takes them. The standard lets a guest set one more that is the connection's.
    fn head(&self) -> impl Iterator<Item = Option<Field<'_>>> {
        let own = |(name, _): &Field<'_>| *name != b"te";
        self.headers.fields().iter().filter(own).map(Some)
    }
}

impl Drop for OutgoingResponse {
    /// What is written to the body of a response that nobody sent goes nowhere.
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            body.forget();
        }
    }
}

/// An error that the handler answered with, for the log. A guest's own text may be of any length.
fn describe(code: &ErrorCode) -> String {
    let text = match code {
        ErrorCode::InternalError(Some(text)) => {
            format!("InternalError: {}", &text[..text.floor_char_boundary(ERROR_BYTES_MAX)])
        }
        ErrorCode::DnsError(_) | ErrorCode::TlsAlertReceived(_) => code.to_string(),
        other => format!("{other:?}"),
    };
    format!("the handler answered with the error {}", &text[..text.floor_char_boundary(ERROR_BYTES_MAX)])
}

impl HostOutgoingResponse for Http<'_> {
    fn new(&mut self, headers: Resource<FieldList>) -> Result<Resource<OutgoingResponse>> {
        self.enter()?;
        let table = &mut self.state.side.table;
        let headers = table.delete(headers)?.freeze();
        Ok(table.push(OutgoingResponse { status: 200, headers, body: None })?)
    }

    fn status_code(&mut self, response: Resource<OutgoingResponse>) -> Result<u16> {
        self.enter()?;
        Ok(self.state.side.table.get(&response)?.status)
    }

    fn set_status_code(
        &mut self,
        response: Resource<OutgoingResponse>,
        status: u16,
    ) -> Result<Result<(), ()>> {
        self.enter()?;
        let own = self.state.side.table.get_mut(&response)?;
        if !(100..1000).contains(&status) {
            return Ok(Err(()));
        }
        own.status = status;
        Ok(Ok(()))
    }

    fn headers(&mut self, response: Resource<OutgoingResponse>) -> Result<Resource<FieldList>> {
        let list = &self.state.side.table.get(&response)?.headers;
        spend(self.state, parsed(list.fields().byte_len()) + entries(list.fields().len() + 2))?;
        let list = list.view(&self.state.side.desk)?;
        self.push_list(list)
    }

    fn body(&mut self, response: Resource<OutgoingResponse>) -> Result<Result<Resource<OutgoingBody>, ()>> {
        self.enter()?;
        let side = &mut self.state.side;
        let own = side.table.get_mut(&response)?;
        if own.body.is_some() {
            return Ok(Err(()));
        }
        let draft = Draft::new(&side.desk, Message::Response, own.headers.content_length());
        own.body = Some(Arc::clone(&draft));
        Ok(Ok(side.table.push(OutgoingBody::new(draft))?))
    }

    fn drop(&mut self, response: Resource<OutgoingResponse>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(response)?;
        Ok(())
    }
}

impl HostResponseOutparam for Http<'_> {
    fn set(
        &mut self,
        param: Resource<ResponseOutparam>,
        answer: Result<Resource<OutgoingResponse>, ErrorCode>,
    ) -> Result<()> {
        self.enter()?;
        let side = &mut self.state.side;
        let turn = side.table.delete(param)?.turn;
        let exchange = side.desk.exchange(turn);
        let mut response = match answer {
            Ok(response) => side.table.delete(response)?,
            Err(code) => {
                // The right to answer may be that of an earlier call, which nobody waits for any more.
                if exchange.is_some() {
                    side.reported = Some(describe(&code));
                }
                return Ok(());
            }
        };
        let Some(exchange) = exchange else { return Ok(()) };
        let fields = response.headers.fields();
        spend(self.state, parsed(fields.byte_len()) + entries(fields.len()))?;
        // A head that is not valid is noted in the response: the client is told once the call is over. One whose client
        // is gone is nobody's concern.
        let set = exchange.lock().response.set_head(response.status, response.head());
        if set.is_ok() {
            match response.body.take() {
                Some(draft) => draft.attach(),
                None => {
                    // A length that was declared without a body cuts the response off; there is nobody to tell.
                    let _ = exchange.lock().response.finish(std::iter::empty());
                }
            }
        }
        Ok(())
    }

    fn send_informational(
        &mut self,
        param: Resource<ResponseOutparam>,
        status: u16,
        headers: Resource<FieldList>,
    ) -> Result<Result<(), ErrorCode>> {
        self.enter()?;
        let side = &mut self.state.side;
        let turn = side.table.get(&param)?.turn;
        let list = side.table.delete(headers)?;
        spend(self.state, parsed(list.fields().byte_len()) + entries(list.fields().len()))?;
        if status != EARLY_HINTS {
            let text = format!("{status} is not sent by this server: the one interim response is 103");
            return Ok(Err(ErrorCode::InternalError(Some(text))));
        }
        let Some(exchange) = self.state.side.desk.exchange(turn) else { return Ok(Ok(())) };
        let sent = exchange.lock().response.hint(list.fields().iter().map(Some));
        Ok(match sent {
            Ok(()) => Ok(()),
            Err(Refusal::Gone(fault)) => Err(fault.into()),
            Err(Refusal::Full | Refusal::TooLarge) => {
                Err(ErrorCode::InternalError(Some("too many interim responses".to_owned())))
            }
            Err(other) => Err(ErrorCode::InternalError(Some(format!("{other:?}")))),
        })
    }

    fn drop(&mut self, param: Resource<ResponseOutparam>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(param)?;
        Ok(())
    }
}
