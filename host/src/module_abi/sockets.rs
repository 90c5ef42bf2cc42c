//! Sockets that a guest opens, and names that it looks up. What is done with them afterwards is in [`opened`].
//!
//! [`opened`]: super::opened

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tidegate_abi::errno::{EBADF, EINVAL, EMFILE, ENOTSUP};
use tidegate_abi::socket::{LOCAL, NAME_BYTES_MAX, PEER, TCP, UDP};
use tidegate_abi::{MODULE, names};
use wasmtime::{Caller, Linker, Result};

use super::body::find;
use super::memory::{Text, bytes, bytes_mut, parts};
use super::{Done, answer, system_errno};
use crate::guest::cost::{opened as opening, spend};
use crate::guest::module::{Handle, Handles, Opened};
use crate::guest::state::GuestState;
use crate::net::connect::{Connection, Names, Target};

type Guest<'a> = Caller<'a, GuestState>;

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    linker
        .func_wrap(MODULE, names::CONNECT, |mut guest: Guest<'_>, kind: i32, addr: i32, len: i32| {
            connect(&mut guest, kind, addr, len)
        })?
        .func_wrap(MODULE, names::RESOLVE, |mut guest: Guest<'_>, name: i32, len: i32| {
            resolve(&mut guest, name, len)
        })?
        .func_wrap(
            MODULE,
            names::SOCKET_ADDRESS,
            |mut guest: Guest<'_>, handle: i32, which: i32, buf: i32, cap: i32| {
                socket_address(&mut guest, handle, which, buf, cap)
            },
        )?;
    Ok(())
}

fn connect(guest: &mut Guest<'_>, kind: i32, addr: i32, len: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let text = bytes(memory, addr, len)?;
    let target = Some(text).filter(|text| text.len() <= NAME_BYTES_MAX).and_then(Target::parse);
    let (Some(target), kind @ (TCP | UDP)) = (target, kind.cast_unsigned()) else { return Ok(-EINVAL) };
    open(state, |state| {
        let network = Arc::clone(state.network());
        let connection = match kind {
            TCP => Connection::new(&network, target).map(|tcp| Opened::Tcp(Box::new(tcp))),
            _ => Connection::new(&network, target).map(|udp| Opened::Udp(Box::new(udp))),
        };
        connection.map_err(system_errno)
    })
}

fn resolve(guest: &mut Guest<'_>, name: i32, len: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let text = bytes(memory, name, len)?;
    let name = Some(text).filter(|text| (1..=NAME_BYTES_MAX).contains(&text.len()));
    let Some(name) = name.and_then(|text| std::str::from_utf8(text).ok()) else { return Ok(-EINVAL) };
    open(state, |state| {
        // Who knows an address learns nothing by asking for it.
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Opened::Names(Box::new(Names::of(address))));
        }
        let names = Names::new(state.network(), name).map_err(system_errno)?;
        Ok(Opened::Names(Box::new(names)))
    })
}

/// Opens something if there is room for one more, and gives it a number.
pub(super) fn open(
    state: &mut GuestState,
    opened: impl FnOnce(&mut GuestState) -> Done<Opened>,
) -> Result<i32> {
    if !state.side.handles.has_room() {
        return Ok(-EMFILE);
    }
    spend(state, opening())?;
    Ok(match opened(state) {
        Ok(opened) => {
            let number = state.side.handles.open(opened);
            number.and_then(|number| i32::try_from(number).ok()).unwrap_or(-EMFILE)
        }
        Err(errno) => -errno,
    })
}

fn socket_address(guest: &mut Guest<'_>, handle: i32, which: i32, buf: i32, cap: i32) -> Result<i32> {
    let (memory, state) = parts(guest)?;
    let out = bytes_mut(memory, buf, cap)?;
    let which = which.cast_unsigned();
    if !matches!(which, LOCAL | PEER) {
        return Ok(-EINVAL);
    }
    let found = find(state, handle);
    Ok(answer(match found {
        None => Err(EBADF),
        Some(Handle::Opened(place)) => address(&mut state.side.handles, place, which == PEER).map(|addr| {
            let text = Text::of(addr);
            let text = text.as_bytes();
            if let Some(room) = out.get_mut(..text.len()) {
                room.copy_from_slice(text);
            }
            text.len()
        }),
        Some(_) => Err(ENOTSUP),
    }))
}

fn address(handles: &mut Handles, place: usize, peer: bool) -> Done<SocketAddr> {
    let address = match handles.opened(place) {
        Some(Opened::Tcp(tcp)) => {
            tcp.now().and_then(|tcp| if peer { tcp.peer_addr() } else { tcp.local_addr() })
        }
        Some(Opened::Udp(udp)) => {
            udp.now().and_then(|udp| if peer { udp.peer_addr() } else { udp.local_addr() })
        }
        _ => return Err(ENOTSUP),
    };
    address.map_err(system_errno)
}
