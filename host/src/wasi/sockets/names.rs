//! `ip-name-lookup`: names that the host's resolver looks up.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hickory_resolver::proto::rr::Name;
use rustix::io::Errno;
use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::Given;
use super::bindings::wasi::sockets::ip_name_lookup::{Host, HostResolveAddressStream};
use super::bindings::wasi::sockets::network::{ErrorCode, IpAddress};
use super::errors::lookup_code;
use super::network::NetworkHandle;
use crate::config::sockets::is_name;
use crate::guest::cost::{parsed, spend};
use crate::net::network::NameLookup;
use crate::wasi::Wasi;

/// Bytes of a name with letters of all the world: more than one of 253 can come of.
const UNICODE_BYTES_MAX: usize = 1024;

/// `resolve-address-stream`.
#[derive(Debug)]
pub(crate) struct Addresses {
    lookup: NameLookup,
    found: Option<Result<Arc<[IpAddr]>, ErrorCode>>,
    /// How many of them were given.
    given: usize,
}

impl Addresses {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.found.is_none() {
            match self.lookup.poll(cx) {
                Poll::Ready(answer) => self.found = Some(answer.map_err(|error| lookup_code(&error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    fn next(&mut self) -> Result<Option<IpAddr>, ErrorCode> {
        if self.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Err(ErrorCode::WouldBlock);
        }
        match &self.found {
            Some(Ok(addresses)) => {
                let next = addresses.get(self.given).map(IpAddr::to_canonical);
                self.given += usize::from(next.is_some());
                Ok(next)
            }
            Some(Err(code)) => Err(*code),
            None => Err(ErrorCode::WouldBlock),
        }
    }
}

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

/// The name in ASCII. None: it is neither a name nor an address.
fn ascii(name: String) -> Option<String> {
    let name = if name.is_ascii() {
        name
    } else if name.len() <= UNICODE_BYTES_MAX {
        Name::from_utf8(&name).ok()?.to_ascii()
    } else {
        return None;
    };
    (is_name(&name) || name.parse::<IpAddr>().is_ok()).then_some(name)
}

impl Host for Wasi<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<NetworkHandle>,
        name: String,
    ) -> Given<Resource<Addresses>> {
        spend(self.state, parsed(name.len()))?;
        self.opens()?;
        self.state.side.table.get(&network)?;
        let network = Arc::clone(self.state.network());
        if !network.access.allows_anything() {
            // What other hosts answer where names may not be looked up. The operator is told which one it was.
            if is_name(&name) {
                let _ = network.lookup(&name, None);
            }
            return Err(ErrorCode::PermanentResolverFailure.into());
        }
        let name = ascii(name).ok_or(ErrorCode::InvalidArgument)?;
        let lookup = network.lookup(&name, None).map_err(|errno| match errno {
            Errno::ACCESS => ErrorCode::AccessDenied,
            // The app looks names up too often.
            _ => ErrorCode::TemporaryResolverFailure,
        })?;
        Ok(self.state.side.table.push(Addresses { lookup, found: None, given: 0 })?)
    }
}

impl HostResolveAddressStream for Wasi<'_> {
    fn resolve_next_address(&mut self, this: Resource<Addresses>) -> Given<Option<IpAddress>> {
        self.enter()?;
        Ok(self.state.side.table.get_mut(&this)?.next()?.map(IpAddress::from))
    }

    fn subscribe(&mut self, this: Resource<Addresses>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        subscribe(&mut self.state.side.table, this)
    }

    fn drop(&mut self, this: Resource<Addresses>) -> Result<()> {
        self.enter()?;
        self.state.side.table.delete(this)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_in_ascii() {
        let table = [
            ("db.example", Some("db.example")),
            ("DB.example.", Some("DB.example.")),
            ("10.0.0.5", Some("10.0.0.5")),
            ("::1", Some("::1")),
            ("b\u{fc}cher.example", Some("xn--bcher-kva.example")),
            ("a b", None),
            ("", None),
            ("127.1", None),
            ("b\u{fc} cher.example", None),
        ];
        for (name, expected) in table {
            assert_eq!(ascii(name.to_owned()).as_deref(), expected, "{name:?}");
        }
        assert_eq!(ascii("\u{fc}".repeat(1_000)), None);
    }
}
