//! What a handler opens besides its request: sockets, lookups, requests to others. Each is a handle with the same few
//! operations, behind a trait, so that a component has the code of those kinds only that it opens.
//!
//! Invariants: a number is never given twice; what a handler leaves open is closed when its call is over.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use tidegate_abi::errno::{EBADF, ENOTSUP, Errno};
use tidegate_abi::poll::{READABLE, WRITABLE};
use wasip2::io::poll::Pollable;

use super::incoming::{Fields, Incoming, Opened};
use super::sink::Sink;

/// Above the numbers of all requests that an instance may ever serve.
pub(super) const FIRST_HANDLE: u32 = 1 << 30;

/// How far a direction of a resource is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    /// It would not wait.
    Ready,
    /// It is ready when its pollable is.
    Waits,
    /// When its pollable is ready, it has to be asked again.
    Unfinished,
}

/// Something open. What a kind has no use for it leaves out.
pub(super) trait Resource {
    /// What is read from.
    ///
    /// # Errors
    /// `EAGAIN`: it is not there yet. `EBADF`: nothing ever is. Or how it failed.
    fn incoming(&mut self) -> Result<&mut Incoming, Errno> {
        Err(EBADF)
    }

    /// What is written to; likewise.
    fn sink(&mut self) -> Result<&mut Sink, Errno> {
        Err(EBADF)
    }

    /// Goes on as far as it can without waiting, and says how far a direction is. It has a pollable after that, unless
    /// it is ready.
    fn advance(&mut self, interest: u16) -> Now {
        if interest == READABLE {
            let Ok(incoming) = self.incoming() else { return Now::Ready };
            incoming.subscribe(&Opened);
            return if incoming.is_known() { Now::Ready } else { Now::Waits };
        }
        let Ok(sink) = self.sink() else { return Now::Ready };
        sink.subscribe();
        Now::Waits
    }

    /// What a direction waits for.
    fn pollable(&self, interest: u16) -> Option<&Pollable>;

    /// As the import `read`.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Errno> {
        self.incoming()?.read(&Opened, buf)
    }

    /// As the import `write`.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.sink()?.write(bytes)
    }

    /// As the import `finish`.
    fn finish(&mut self, _trailers: &[u8]) -> Result<(), Errno> {
        Err(ENOTSUP)
    }

    /// What follows what was read.
    fn trailers(&mut self) -> Result<Fields, Errno> {
        Err(ENOTSUP)
    }

    /// How it failed; 0 if it has not.
    fn error(&mut self) -> Errno {
        0
    }

    /// As the import `socket_address`.
    fn address(&mut self, _which: u32) -> Result<SocketAddr, Errno> {
        Err(ENOTSUP)
    }

    /// The head of the response to a request.
    fn head(&mut self) -> Result<(u16, Fields), Errno> {
        Err(ENOTSUP)
    }

    /// Why a request failed; nothing if it has not.
    fn reason(&mut self) -> String {
        String::new()
    }
}

thread_local! {
    static NEXT: Cell<u32> = const { Cell::new(FIRST_HANDLE) };
    static TABLE: RefCell<Vec<(u32, Box<dyn Resource>)>> = const { RefCell::new(Vec::new()) };
}

/// Whether `handle` is of this table.
pub(super) fn is_ours(handle: u32) -> bool {
    handle >= FIRST_HANDLE
}

/// Opens it.
pub(super) fn open(resource: Box<dyn Resource>) -> usize {
    let handle = NEXT.get();
    // An import that returns one has half of the numbers.
    NEXT.set(handle.checked_add(1).filter(|next| *next >> 31 == 0).expect("an instance has handles left"));
    TABLE.with_borrow_mut(|table| table.push((handle, resource)));
    handle as usize
}

/// What `f` makes of it.
pub(super) fn with<R>(
    handle: u32,
    f: impl FnOnce(&mut dyn Resource) -> Result<R, Errno>,
) -> Result<R, Errno> {
    TABLE.with_borrow_mut(|table| match table.iter_mut().find(|(other, _)| *other == handle) {
        Some((_, resource)) => f(resource.as_mut()),
        None => Err(EBADF),
    })
}

/// Takes it out.
pub(super) fn take(handle: u32) -> Option<Box<dyn Resource>> {
    TABLE.with_borrow_mut(|table| {
        let at = table.iter().position(|(other, _)| *other == handle)?;
        Some(table.swap_remove(at).1)
    })
}

/// Puts back what was taken out.
pub(super) fn put_back(handle: u32, resource: Box<dyn Resource>) {
    TABLE.with_borrow_mut(|table| table.push((handle, resource)));
}

/// Closes all.
pub(super) fn clear() {
    drop(TABLE.take());
}

/// As [`Resource::advance`]; one that is not there is ready to say so.
pub(super) fn advance(handle: u32, interest: u16) -> Now {
    with(handle, |resource| Ok(resource.advance(interest))).unwrap_or(Now::Ready)
}

/// Looks at the pollables of all.
pub(super) fn with_all<R>(f: impl FnOnce(&[(u32, Box<dyn Resource>)]) -> R) -> R {
    TABLE.with_borrow(|table| f(table))
}

/// Has the host send what was written to any of them.
pub(super) fn flush() {
    TABLE.with_borrow_mut(|table| {
        for (_, resource) in table {
            if let Ok(sink) = resource.sink() {
                sink.flush();
            }
        }
    });
}

/// What an interest is made of.
pub(super) const DIRECTIONS: [u16; 2] = [READABLE, WRITABLE];
