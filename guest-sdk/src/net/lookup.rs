//! Names and their addresses.

use std::io;
use std::net::IpAddr;
use tidegate_abi::poll::{Entry, READABLE};
use tidegate_abi::{errno, names, socket};

use super::{Failed, Socket, failed_at};
use crate::sys::{self, HostError, Waits, check};
use crate::task;

/// Entries that one read asks for.
const ENTRIES: usize = 16;

/// A lookup that is under way.
struct Lookup {
    socket: Socket,
    name: String,
    found: Vec<IpAddr>,
}

impl Lookup {
    fn begin(name: &str) -> io::Result<Self> {
        let handle = check(names::RESOLVE, sys::resolve(name.as_bytes()))
            .map_err(|error| failed_at(error, Some(name)))?;
        let socket = Socket::of(u32::try_from(handle).unwrap_or(u32::MAX));
        Ok(Self { socket, name: name.to_owned(), found: Vec::new() })
    }

    /// Takes what is there; all of it, at the end.
    fn step(&mut self, waits: &mut Waits) -> io::Result<Option<Vec<IpAddr>>> {
        let mut buf = [0; ENTRIES * socket::ENTRY_BYTES];
        loop {
            match self.socket.try_read(&mut buf) {
                Ok(0) if self.found.is_empty() => {
                    let error = HostError { call: names::RESOLVE, errno: errno::ENOENT };
                    return Err(failed_at(error, Some(&self.name)));
                }
                Ok(0) => return Ok(Some(std::mem::take(&mut self.found))),
                Ok(len) => {
                    let (entries, _) = buf[..len].as_chunks();
                    self.found.extend(entries.iter().filter_map(|entry| socket::address(*entry)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waits.push(Entry::new(self.socket.handle, READABLE));
                    return Ok(None);
                }
                Err(error) => return Err(self.name_it(&error)),
            }
        }
    }

    /// The same error, with the name that was looked up.
    fn name_it(&self, error: &io::Error) -> io::Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let errno = inner.map_or(errno::EIO, |failed: &Failed| failed.error.errno);
        let error = HostError { call: names::RESOLVE, errno };
        failed_at(error, Some(&self.name))
    }
}

/// The addresses of `name`, at least one, in the order in which they are to be tried. An address is its own.
///
/// ```
/// use tidegate_sdk::net;
///
/// assert_eq!(net::lookup("192.0.2.7").unwrap(), ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
/// ```
///
/// # Errors
/// `PermissionDenied` if no rule of the app leads to that name, `NotFound` if there is no such name, `TimedOut` if
/// nobody answers.
pub fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut lookup = Lookup::begin(name)?;
    sys::until(|waits| lookup.step(waits))
}

/// As [`lookup`], for async code.
///
/// ```
/// use tidegate_sdk::{net, task};
///
/// let (a, b) = task::block_on(task::join(net::lookup_async("192.0.2.7"), net::lookup_async("::1")));
/// assert!(a.unwrap()[0].is_ipv4() && b.unwrap()[0].is_ipv6());
/// ```
///
/// # Errors
/// As [`lookup`].
pub async fn lookup_async(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut lookup = Lookup::begin(name)?;
    task::until(|waits| lookup.step(waits)).await
}
