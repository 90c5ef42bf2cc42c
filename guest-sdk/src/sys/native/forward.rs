//! Moving bytes between handles of whatever kind, as the host does it.

use super::{Host, Outcome, kv, sockets, upstreams};

impl Host {
    pub(super) fn forward(&mut self, from: u32, to: u32, n: i64) -> Outcome {
        let asked = usize::try_from(n).unwrap_or(usize::MAX);
        let room = self.room(to)?;
        let n = self.peek(from, room.min(asked))?;
        let mut bytes = vec![0; n];
        if n > 0 {
            self.read_any(from, &mut bytes)?;
            self.write_any(to, &bytes)?;
        }
        Ok(n)
    }

    /// How many bytes may be written there, whatever it is.
    fn room(&mut self, to: u32) -> Outcome {
        match to {
            to if sockets::is_ours(to) => sockets::room(to),
            to if upstreams::is_ours(to) => self.fetches.room(to),
            to => self.permit(to),
        }
    }

    /// How many bytes can be read there, at most `max`; 0 at the end.
    fn peek(&mut self, from: u32, max: usize) -> Outcome {
        match from {
            from if sockets::is_ours(from) => sockets::peek(from).map(|n| n.min(max)),
            from if upstreams::is_ours(from) => self.fetches.peek(from, self.now_ns).map(|n| n.min(max)),
            from => {
                self.source(from)?;
                self.take(max)
            }
        }
    }

    pub(super) fn read_any(&mut self, handle: u32, buf: &mut [u8]) -> Outcome {
        match handle {
            handle if sockets::is_ours(handle) => sockets::read(handle, buf),
            handle if upstreams::is_ours(handle) => self.fetches.read(handle, buf, self.now_ns),
            handle if kv::is_ours(handle) => kv::read(handle, buf),
            handle => self.read(handle, buf),
        }
    }

    pub(super) fn write_any(&mut self, handle: u32, bytes: &[u8]) -> Outcome {
        match handle {
            handle if sockets::is_ours(handle) => sockets::write(handle, bytes),
            handle if upstreams::is_ours(handle) => self.fetches.write(handle, bytes),
            handle => self.write(handle, bytes),
        }
    }
}
