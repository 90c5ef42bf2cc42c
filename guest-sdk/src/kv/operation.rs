//! One operation that is under way: begun, waited for, read to its end.

use std::io;

use tidegate_abi::poll::{Entry, READABLE};

use super::Error;
use crate::sys::{self, HostError, Waits, check};
use crate::task;

/// Bytes that one read asks for.
const READ_BYTES: usize = 4 << 10;

/// An operation. Dropped, nobody waits for it any more; it may happen all the same.
pub(super) struct Operation {
    handle: u32,
    call: &'static str,
    key: String,
    read: Vec<u8>,
}

type Came = Result<Vec<u8>, HostError>;

impl Operation {
    /// `handle` is what the import has returned.
    pub(super) fn begin(call: &'static str, key: &str, handle: i32) -> Result<Self, Error> {
        let handle = check(call, handle).map_err(|error| Error::of_host(error, key))?;
        let handle = u32::try_from(handle).unwrap_or(u32::MAX);
        Ok(Self { handle, call, key: key.to_owned(), read: Vec::new() })
    }

    /// Takes what is there; all of it, at the end.
    fn step(&mut self, waits: &mut Waits) -> io::Result<Option<Came>> {
        let mut buf = [0; READ_BYTES];
        loop {
            match check(self.call, sys::read(self.handle, &mut buf)) {
                Ok(0) => return Ok(Some(Ok(std::mem::take(&mut self.read)))),
                Ok(len) => self.read.extend_from_slice(&buf[..len]),
                Err(error) if error.errno == tidegate_abi::errno::EAGAIN => {
                    waits.push(Entry::new(self.handle, READABLE));
                    return Ok(None);
                }
                Err(error) => return Ok(Some(Err(error))),
            }
        }
    }

    fn over(&self, came: io::Result<Came>) -> Result<Vec<u8>, Error> {
        match came {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(Error::of_host(error, &self.key)),
            Err(error) => Err(Error::of_wait(&error, self.call, &self.key)),
        }
    }

    /// Waits for it.
    pub(super) fn run(mut self) -> Result<Vec<u8>, Error> {
        let came = sys::until(|waits| self.step(waits));
        self.over(came)
    }

    /// Waits for it, and lets other futures run.
    pub(super) async fn run_async(mut self) -> Result<Vec<u8>, Error> {
        let came = task::until(|waits| self.step(waits)).await;
        self.over(came)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        sys::close(self.handle);
    }
}
