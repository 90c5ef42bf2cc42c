//! What is left of a request's body, sent while its response is waited for and read.
//!
//! Invariants: it never waits, it says what for; a peer that wants no more of it has answered or failed, so that is for
//! whoever reads the response; a source that fails ends all of it.

use http::HeaderMap;
use std::fmt;
use std::io;
use tidegate_abi::poll::{Entry, WRITABLE};
use tidegate_abi::{errno, names};

use crate::fields::packed_map;
use crate::forward::{Forwarding, Pull};
use crate::sys::{self, HostError, Waits, check};

pub(super) struct Upload {
    from: From,
    to: u32,
}

enum From {
    /// Bytes, and how many of them were sent.
    Whole(crate::Body, usize),
    Source(Box<dyn Pull>, Forwarding),
    /// All was sent, or nobody wants the rest.
    Done,
}

impl Upload {
    pub(super) fn done(to: u32) -> Self {
        Self { from: From::Done, to }
    }

    pub(super) fn of_bytes(body: crate::Body, to: u32) -> Self {
        Self { from: From::Whole(body, 0), to }
    }

    pub(super) fn of_source(source: Box<dyn Pull>, to: u32) -> Self {
        Self { from: From::Source(source, Forwarding::default()), to }
    }

    /// Sends what can be sent now.
    ///
    /// # Errors
    /// Those of the source.
    pub(super) fn step(&mut self, waits: &mut Waits) -> io::Result<()> {
        let to = self.to;
        let mut trailers = HeaderMap::new();
        let is_sent = match &mut self.from {
            From::Done => return Ok(()),
            From::Whole(body, sent) => loop {
                let rest = &body.as_bytes()[*sent..];
                if rest.is_empty() {
                    break true;
                }
                match check(names::WRITE, sys::write(to, rest)) {
                    Ok(n) => *sent += n,
                    Err(HostError { errno: errno::EAGAIN, .. }) => {
                        waits.push(Entry::new(to, WRITABLE));
                        break false;
                    }
                    Err(_) => {
                        self.from = From::Done;
                        return Ok(());
                    }
                }
            },
            From::Source(source, forwarding) => match forwarding.step(source.as_mut(), to, waits) {
                Ok(None) => false,
                Ok(Some(_)) => {
                    trailers = source.trailers()?;
                    true
                }
                Err(error) if is_unwanted(source.as_ref(), &error) => {
                    self.from = From::Done;
                    return Ok(());
                }
                Err(error) => return Err(of_source(error)),
            },
        };
        if is_sent {
            self.from = From::Done;
            end(to, &trailers);
        }
        Ok(())
    }
}

/// Ends the request. If that is not taken, the response says why.
fn end(to: u32, trailers: &HeaderMap) {
    let finished = packed_map(trailers, |packed| check(names::FINISH, sys::finish(to, packed)));
    if let Err(HostError { errno: errno::EINVAL | errno::EMSGSIZE, .. }) = finished {
        // Trailers of somebody else's that may not be passed on.
        sys::finish(to, &[]);
    }
}

/// Whether moving failed because of the side that it was moved to: a number does not say whose it is, but the source
/// does.
fn is_unwanted(source: &dyn Pull, error: &io::Error) -> bool {
    let own = error.get_ref().and_then(|inner| inner.downcast_ref::<HostError>());
    // A limit of this side's is no failure of the host's.
    own.is_none_or(|own| own.call != names::READ) && sys::error(source.handle()) == 0
}

/// The error of moving as that of reading, which is what it was.
fn of_source(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(&HostError { errno, .. }) => HostError { call: names::READ, errno }.into(),
        None => error,
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.from {
            From::Whole(_, sent) => return write!(f, "Upload({sent} bytes sent)"),
            From::Source(..) => "Upload(moving)",
            From::Done => "Upload(done)",
        };
        f.write_str(state)
    }
}
