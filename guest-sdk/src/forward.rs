//! Moving bytes from one handle to another inside the host, with what else has to go on meanwhile.
//!
//! What this file must never know: what the handles stand for, and how waiting is done.

use http::HeaderMap;
use std::io;
use tidegate_abi::poll::{Entry, READABLE, WRITABLE};

use crate::sys::Waits;

/// Moves in a row, before others have their turn.
const MOVES_MAX: u32 = 16;

/// What can be moved inside the host: the body of a request, that of a response to a request of yours, what comes from
/// a socket.
///
/// It is implemented by the SDK alone.
pub trait Source: Pull {}

impl<T: Pull> Source for T {}

/// How a source is moved. Public in name only: the module is private, so that nobody else implements [`Source`].
pub trait Pull {
    /// What is read from.
    fn handle(&self) -> u32;

    /// True once nothing more comes.
    fn is_ended(&self) -> bool;

    /// Has the host move what can be moved now to the handle `to`; 0 at the end, which is remembered.
    ///
    /// # Errors
    /// `WouldBlock` if either side is not ready.
    fn forward_to(&mut self, to: u32) -> io::Result<u64>;

    /// What followed the body, once it has ended; nothing, where nothing can.
    ///
    /// # Errors
    /// Those of the source.
    fn trailers(&mut self) -> io::Result<HeaderMap> {
        Ok(HeaderMap::new())
    }

    /// Does what has to go on beside it, as far as it goes without waiting.
    ///
    /// # Errors
    /// What ends all of it.
    fn beside(&mut self, waits: &mut Waits) -> io::Result<()> {
        let _ = waits;
        Ok(())
    }
}

/// A move that is under way.
#[derive(Debug, Default)]
pub(crate) struct Forwarding {
    moved: u64,
    /// Nobody says which side it is that is not ready: they are waited for in turn. Asked for both at once, the one
    /// that is ready would answer at once and for ever.
    awaits_room: bool,
}

impl Forwarding {
    /// Moves what can be moved now. The number of bytes, once that was all.
    pub(crate) fn step<S: Pull + ?Sized>(
        &mut self,
        from: &mut S,
        to: u32,
        waits: &mut Waits,
    ) -> io::Result<Option<u64>> {
        from.beside(waits)?;
        for _ in 0..MOVES_MAX {
            if from.is_ended() {
                return Ok(Some(self.moved));
            }
            match from.forward_to(to) {
                Ok(n) => self.moved += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let side = if self.awaits_room {
                        Entry::new(to, WRITABLE)
                    } else {
                        Entry::new(from.handle(), READABLE)
                    };
                    self.awaits_room = !self.awaits_room;
                    waits.push(side);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        waits.push(Entry::new(to, WRITABLE));
        Ok(None)
    }
}
