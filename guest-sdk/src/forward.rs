//! Moving bytes from one handle to another inside the host, with what else has to go on meanwhile.
//!
//! What this file must never know: what the handles stand for, and how waiting is done.

use http::HeaderMap;
use std::io;
use tidegate_abi::poll::{Entry, READABLE, WRITABLE};

use crate::sys::{self, Waits};

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
                    // Nobody says which side it is that is not ready. The one that is would answer at once and for ever.
                    let source = Entry::new(from.handle(), READABLE);
                    let has_some = sys::poll(&mut [source], 0) > 0;
                    waits.push(if has_some { Entry::new(to, WRITABLE) } else { source });
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        waits.push(Entry::new(to, WRITABLE));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sys::native::{Host, with_host};

    const SOURCE: u32 = 100;
    const SINK: u32 = 101;
    const SECOND: u64 = 1_000_000_000;

    /// Moves a byte as soon as both sides are ready, and that is all there is.
    struct Once {
        ended: bool,
        tries: u32,
    }

    impl Pull for Once {
        fn handle(&self) -> u32 {
            SOURCE
        }

        fn is_ended(&self) -> bool {
            self.ended
        }

        fn forward_to(&mut self, to: u32) -> io::Result<u64> {
            assert_eq!(to, SINK);
            self.tries += 1;
            let ready = |handle, interest| sys::poll(&mut [Entry::new(handle, interest)], 0) > 0;
            if !ready(SOURCE, READABLE) || !ready(SINK, WRITABLE) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.ended = true;
            Ok(1)
        }
    }

    /// Runs `f` beside a host whose two handles are ready at these times.
    #[allow(clippy::field_reassign_with_default, reason = "the other fields are private")]
    fn beside<R>(source_ns: u64, sink_ns: u64, f: impl FnOnce() -> R) -> (R, Host) {
        let mut host = Host::default();
        host.others = BTreeMap::from([(SOURCE, source_ns), (SINK, sink_ns)]);
        with_host(host, f)
    }

    /// What the first try waits for, and how often it tries in all.
    fn waited_for(source_ns: u64, sink_ns: u64) -> (Vec<Entry>, u32) {
        let run = || {
            let (mut forwarding, mut waits) = (Forwarding::default(), Waits::new());
            let mut source = Once { ended: false, tries: 0 };
            assert_eq!(forwarding.step(&mut source, SINK, &mut waits).unwrap(), None);
            let moved = sys::until(|waits| forwarding.step(&mut source, SINK, waits)).unwrap();
            assert_eq!(moved, 1);
            (waits, source.tries)
        };
        beside(source_ns, sink_ns, run).0
    }

    #[test]
    fn only_the_side_that_is_not_ready_is_waited_for() {
        let source = vec![Entry::new(SOURCE, READABLE)];
        let sink = vec![Entry::new(SINK, WRITABLE)];
        // The last number is how often it was tried: twice in vain by now, and once when all was ready.
        assert_eq!(waited_for(9 * SECOND, 0), (source.clone(), 3));
        assert_eq!(waited_for(0, 9 * SECOND), (sink, 3));
        // Neither is: the source first, then what is left.
        assert_eq!(waited_for(5 * SECOND, 9 * SECOND), (source, 4));
    }
}
