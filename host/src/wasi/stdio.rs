//! Standard streams: input is empty, output and error are lines of the app's log.

use std::sync::Arc;

use wasmtime::format_err;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};
use wasmtime_wasi_io::bytes::Bytes;

use crate::guest::cost::logged;
use crate::guest::desk::{Desk, Stdio};

/// Bytes that one write takes at most.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// An input that has nothing in it.
#[derive(Debug)]
pub(super) struct Empty;

#[async_trait]
impl InputStream for Empty {
    fn read(&mut self, _: usize) -> Result<Bytes, StreamError> {
        Err(StreamError::Closed)
    }
}

#[async_trait]
impl Pollable for Empty {
    async fn ready(&mut self) {}
}

/// Prints into the app's log. It never makes the guest wait: what is over the app's rate is dropped there, and counted.
#[derive(Debug)]
pub(super) struct Printer {
    desk: Arc<Desk>,
    stream: Stdio,
}

impl Printer {
    pub(super) fn new(desk: &Arc<Desk>, stream: Stdio) -> Self {
        Self { desk: Arc::clone(desk), stream }
    }
}

#[async_trait]
impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::Trap(format_err!("more was written than `check-write` permits")));
        }
        self.desk.print(self.stream, &bytes);
        self.desk.spend(logged(bytes.len())).map_err(StreamError::Trap)
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}
