//! Heads: the request's to the guest, the response's from it.

use std::net::SocketAddr;

use tidegate_abi::errno::{EINVAL, EMSGSIZE};
use tidegate_abi::fields::{ENTRIES_MAX, FieldList, ListError};
use tidegate_abi::request::RequestHead;
use tidegate_abi::{MODULE, names};
use tidegate_proto::http1::head::Version;
use wasmtime::{Caller, Linker, Result};

use super::memory::{Text, bytes, bytes_mut, parts};
use super::{Done, status};
use crate::exchange::Inner;
use crate::guest::cost::{copied, entries, parsed, spend};
use crate::guest::module::Handles;
use crate::guest::state::GuestState;

type Guest<'a> = Caller<'a, GuestState>;

/// 103 (Early Hints).
const EARLY_HINTS: u16 = 103;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    linker.func_wrap(MODULE, names::REQUEST_HEAD, |mut guest: Guest<'_>, buf: i32, cap: i32| {
        request_head(&mut guest, buf, cap)
    })?;
    linker.func_wrap(
        MODULE,
        names::RESPOND,
        |mut guest: Guest<'_>, code: i32, head: i32, head_len: i32, body: i32, body_len: i32| {
            let (memory, state) = parts(&mut guest)?;
            let head = bytes(memory, head, head_len)?;
            let body = bytes(memory, body, body_len)?;
            let (code, list) = match outline(state, code, head)? {
                Ok(outline) => outline,
                Err(errno) => return Ok(-errno),
            };
            let result = state.exchange.lock().response.respond(code, list.iter(), body);
            if result.is_ok() {
                spend(state, copied(body.len()))?;
            }
            Ok(status(result))
        },
    )?;
    linker.func_wrap(
        MODULE,
        names::RESPONSE_HEAD,
        |mut guest: Guest<'_>, code: i32, head: i32, head_len: i32| {
            let (memory, state) = parts(&mut guest)?;
            let head = bytes(memory, head, head_len)?;
            let (code, list) = match outline(state, code, head)? {
                Ok(outline) => outline,
                Err(errno) => return Ok(-errno),
            };
            let response = &mut state.exchange.lock().response;
            Ok(status(if code == EARLY_HINTS {
                response.hint(list.iter())
            } else {
                response.set_head(code, list.iter())
            }))
        },
    )?;
    Ok(())
}

/// A list of fields as the guest gave it, bounded before a single one is looked at.
///
/// # Errors
/// As [`spend`]; what is wrong with the list is the inner error.
pub(super) fn field_list<'a>(state: &GuestState, bytes: &'a [u8]) -> Result<Done<FieldList<'a>>> {
    match FieldList::bounded(bytes) {
        Ok(list) => {
            spend(state, parsed(bytes.len()) + entries(list.len()))?;
            Ok(Ok(list))
        }
        Err(ListError::TooLarge) => Ok(Err(EMSGSIZE)),
        Err(ListError::Malformed) => {
            spend(state, entries(ENTRIES_MAX))?;
            Ok(Err(EINVAL))
        }
    }
}

/// The outline of a response's head: its status and the list of its fields.
fn outline<'a>(state: &GuestState, code: i32, head: &'a [u8]) -> Result<Done<(u16, FieldList<'a>)>> {
    let code = u16::try_from(code).map_err(|_| EINVAL);
    let list = field_list(state, head)?;
    Ok(list.and_then(|list| Ok((code?, list))))
}

fn request_head(guest: &mut Guest<'_>, buf: i32, cap: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let out = bytes_mut(memory, buf, cap)?;
    let inner = state.exchange.lock();
    let size = pack(&inner, &state.side.handles, out);
    let fields = inner.head.fields();
    spend(state, copied(fields.byte_len()) + entries(fields.len()))?;
    Ok(size.and_then(|n| i32::try_from(n).ok()).unwrap_or(-EMSGSIZE))
}

fn pack(inner: &Inner, handles: &Handles, out: &mut [u8]) -> Option<u32> {
    let Inner { head, facts, .. } = inner;
    let address = |a: Option<SocketAddr>| a.map_or_else(|| Text::of("unix"), Text::of);
    let (peer, local, id) = (address(facts.ends.peer), address(facts.ends.local), Text::of(&facts.id));
    let path = head.path().as_bytes();
    let params = facts.params.iter().map(|(name, range)| (name.as_bytes(), path.get(range).unwrap_or(&[])));
    RequestHead {
        http_minor: u8::from(head.version() == Version::Http11),
        secure: facts.secure,
        has_body: facts.has_body,
        request_body: handles.request_body(),
        response_body: handles.response_body(),
        mount_len: u32::try_from(facts.mount_len).ok()?,
        deadline_ns: facts.deadline,
        method: head.method().as_bytes(),
        target: head.target().as_bytes(),
        authority: head.authority().as_bytes(),
        peer: peer.as_bytes(),
        local: local.as_bytes(),
        request_id: id.as_bytes(),
        params,
        fields: head.fields().iter(),
    }
    .pack(out)
}
