//! `wasi:io`: wasmtime-wasi's, with what each call costs spent of the guest's slice.
//!
//! A pollable that is ready at once does not make its guest wait; what keeps such a guest from holding its worker is what
//! its calls spend, and the epochs that it meets between them.

use wasmtime::component::Resource;
use wasmtime::{Result, bail};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, IoError, StreamError};
use wasmtime_wasi_io::bindings::wasi::io::{error, poll, streams};

use super::Wasi;
use crate::guest::cost::{copied, entries, spend};

/// Pollables that one `poll` takes.
const POLLABLES_MAX: usize = 1_000;

/// Bytes of an error's text.
const ERROR_BYTES_MAX: usize = 1024;

/// What a stream's operation gives.
type Streamed<T> = Result<T, StreamError>;

impl Wasi<'_> {
    /// Spends what moving so many bytes between host and guest costs besides what the stream itself spends.
    fn moved(&self, bytes: usize) -> Streamed<()> {
        spend(self.state, copied(bytes) + entries(2)).map_err(StreamError::Trap)
    }
}

impl error::Host for Wasi<'_> {}

impl error::HostError for Wasi<'_> {
    fn to_debug_string(&mut self, error: Resource<IoError>) -> Result<String> {
        self.enter()?;
        // Without the backtrace that an error of wasmtime's may carry: that would be the host's own, and takes the loop a
        // tenth of a second.
        let mut text = self.state.side.table.get(&error)?.root_cause().to_string();
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
        Ok(text)
    }

    fn drop(&mut self, error: Resource<IoError>) -> Result<()> {
        self.enter()?;
        error::HostError::drop(&mut self.state.side.table, error)
    }
}

impl poll::Host for Wasi<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> {
        if pollables.len() > POLLABLES_MAX {
            bail!("{} pollables at once: {POLLABLES_MAX} are the most", pollables.len());
        }
        spend(self.state, entries(2 + 2 * pollables.len()))?;
        poll::Host::poll(&mut self.state.side.table, pollables).await
    }
}

impl poll::HostPollable for Wasi<'_> {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> Result<bool> {
        self.enter()?;
        poll::HostPollable::ready(&mut self.state.side.table, pollable).await
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        self.enter()?;
        poll::HostPollable::block(&mut self.state.side.table, pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        self.enter()?;
        poll::HostPollable::drop(&mut self.state.side.table, pollable)
    }
}

impl streams::Host for Wasi<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> Result<streams::StreamError> {
        streams::Host::convert_stream_error(&mut self.state.side.table, error)
    }
}

impl streams::HostInputStream for Wasi<'_> {
    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> Streamed<Vec<u8>> {
        self.moved(0)?;
        let bytes = streams::HostInputStream::read(&mut self.state.side.table, stream, len)?;
        self.moved(bytes.len())?;
        Ok(bytes)
    }

    async fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> Streamed<Vec<u8>> {
        self.moved(0)?;
        let table = &mut self.state.side.table;
        let bytes = streams::HostInputStream::blocking_read(table, stream, len).await?;
        self.moved(bytes.len())?;
        Ok(bytes)
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> Streamed<u64> {
        self.moved(0)?;
        streams::HostInputStream::skip(&mut self.state.side.table, stream, len)
    }

    async fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> Streamed<u64> {
        self.moved(0)?;
        streams::HostInputStream::blocking_skip(&mut self.state.side.table, stream, len).await
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        streams::HostInputStream::subscribe(&mut self.state.side.table, stream)
    }

    async fn drop(&mut self, stream: Resource<DynInputStream>) -> Result<()> {
        self.enter()?;
        streams::HostInputStream::drop(&mut self.state.side.table, stream).await
    }
}

impl streams::HostOutputStream for Wasi<'_> {
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> Streamed<u64> {
        self.moved(0)?;
        streams::HostOutputStream::check_write(&mut self.state.side.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> Streamed<()> {
        self.moved(bytes.len())?;
        streams::HostOutputStream::write(&mut self.state.side.table, stream, bytes)
    }

    async fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> Streamed<()> {
        self.moved(bytes.len())?;
        streams::HostOutputStream::blocking_write_and_flush(&mut self.state.side.table, stream, bytes).await
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> Streamed<()> {
        self.moved(0)?;
        streams::HostOutputStream::flush(&mut self.state.side.table, stream)
    }

    async fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> Streamed<()> {
        self.moved(0)?;
        streams::HostOutputStream::blocking_flush(&mut self.state.side.table, stream).await
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> Result<Resource<DynPollable>> {
        self.enter()?;
        streams::HostOutputStream::subscribe(&mut self.state.side.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> Streamed<()> {
        self.moved(0)?;
        streams::HostOutputStream::write_zeroes(&mut self.state.side.table, stream, len)
    }

    async fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> Streamed<()> {
        self.moved(0)?;
        streams::HostOutputStream::blocking_write_zeroes_and_flush(&mut self.state.side.table, stream, len)
            .await
    }

    fn splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> Streamed<u64> {
        self.moved(0)?;
        streams::HostOutputStream::splice(&mut self.state.side.table, stream, from, len)
    }

    async fn blocking_splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> Streamed<u64> {
        self.moved(0)?;
        streams::HostOutputStream::blocking_splice(&mut self.state.side.table, stream, from, len).await
    }

    async fn drop(&mut self, stream: Resource<DynOutputStream>) -> Result<()> {
        self.enter()?;
        streams::HostOutputStream::drop(&mut self.state.side.table, stream).await
    }
}
