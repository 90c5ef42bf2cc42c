//! Heads: the request's to the guest, the response's from it.

use std::net::SocketAddr;

use tidegate_abi::errno::{EINVAL, EMSGSIZE};
use tidegate_abi::fields::FieldList;
use tidegate_abi::request::RequestHead;
use tidegate_abi::{MODULE, names};
use tidegate_proto::http1::head::Version;
use wasmtime::{Caller, Linker, Result};

use super::memory::{Text, bytes, bytes_mut, parts};
use super::status;
use crate::exchange::Inner;
use crate::guest::state::{GuestState, Handles};

type Guest<'a> = Caller<'a, GuestState>;

/// A packed response head: more than the encoded one may be, since offsets and lengths come with it.
const PACKED_BYTES_MAX: usize = 128 * 1024;
/// 103 (Early Hints).
const EARLY_HINTS: i32 = 103;

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
            Ok(with_fields(code, head, |code, list| {
                status(state.exchange.lock().response.respond(code, list.iter(), body))
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        names::RESPONSE_HEAD,
        |mut guest: Guest<'_>, code: i32, head: i32, head_len: i32| {
            let (memory, state) = parts(&mut guest)?;
            let head = bytes(memory, head, head_len)?;
            Ok(with_fields(code, head, |code, list| {
                let response = &mut state.exchange.lock().response;
                status(if i32::from(code) == EARLY_HINTS {
                    response.hint(list.iter())
                } else {
                    response.set_head(code, list.iter())
                })
            }))
        },
    )?;
    Ok(())
}

/// Reads the outline of a packed head; what is wrong with it is an error, and another try is allowed.
fn with_fields(code: i32, head: &[u8], f: impl FnOnce(u16, FieldList<'_>) -> i32) -> i32 {
    if head.len() > PACKED_BYTES_MAX {
        return -EMSGSIZE;
    }
    match (u16::try_from(code), FieldList::parse(head)) {
        (Ok(code), Some(list)) => f(code, list),
        _ => -EINVAL,
    }
}

fn request_head(guest: &mut Guest<'_>, buf: i32, cap: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let out = bytes_mut(memory, buf, cap)?;
    let inner = state.exchange.lock();
    let size = pack(&inner, &state.handles, out);
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
        secure: false,
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
