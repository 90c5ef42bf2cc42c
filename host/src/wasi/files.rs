//! `wasi:filesystem`: the folders that the app's mounts name, and nothing without them.
//!
//! The work is wasmtime-wasi's: paths that never leave their folder, and every call handed to another thread
//! ([`Mounts`]). Here stand what a call spends, what a Store may hold open, and that only files and folders are opened: a
//! pipe or a device might keep its thread for ever.
//!
//! [`Mounts`]: crate::guest::mounts::Mounts

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime::{Result, format_err};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode,
    Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, InputStream, IoError, OutputStream, Pollable,
    StreamError,
};
use wasmtime_wasi_io::bytes::Bytes;

use super::Wasi;
use crate::clock::Nanos;
use crate::exchange::waits::{Wait, waiting};
use crate::guest::cost::{copied, parsed, spend};
use crate::guest::mounts::{Call, OpenStream};

/// Handing work to another thread and hearing that it is done.
const HANDED_OVER: Nanos = 5_000;
/// More of these are held open than may be.
const TOO_MANY: ErrorCode = ErrorCode::Quota;

impl Wasi<'_> {
    /// Spends what work of another thread costs, and waits until one of the app's may be given more.
    async fn call(&mut self, bytes: usize) -> FsResult<Call> {
        self.work(bytes)?;
        let program = Arc::clone(&self.state.program);
        let Some(mounts) = &program.mounts else { return Err(ErrorCode::BadDescriptor.into()) };
        waiting(Wait::File, mounts.call()).await.ok_or_else(|| ErrorCode::Io.into())
    }

    /// Spends what work of another thread costs, and looking through so many bytes.
    fn work(&self, bytes: usize) -> FsResult<()> {
        spend(self.state, HANDED_OVER + parsed(bytes)).map_err(FsError::trap)
    }
}

/// Calls wasmtime-wasi. Of what it calls the context only the list of folders is ever wanted, and that by
/// `get-directories` alone.
macro_rules! files {
    ($self:ident, $interface:ident :: $call:ident $arguments:tt) => {
        files!(@ $self, WasiFilesystemCtx::default(), $interface :: $call $arguments)
    };
    (@ $self:ident, $context:expr, $interface:ident :: $call:ident ($($argument:expr),*)) => {
        $interface::$call(
            &mut WasiFilesystemCtxView { ctx: &mut $context, table: &mut $self.state.side.table },
            $($argument),*
        )
    };
}

/// A call that is worked on elsewhere: it spends, waits for its turn among the app's, and gives the turn back.
macro_rules! work {
    ($self:ident, $bytes:expr, $call:ident $arguments:tt) => {{
        let call = $self.call($bytes).await?;
        let done = waiting(Wait::File, files!($self, HostDescriptor::$call $arguments)).await;
        call.over();
        done
    }};
}

/// Such a call that changes what paths lead to: nothing is opened meanwhile.
macro_rules! change {
    ($self:ident, $bytes:expr, $call:ident $arguments:tt) => {{
        let call = $self.call($bytes).await?;
        let program = Arc::clone(&$self.state.program);
        let Some(mounts) = &program.mounts else { return Err(ErrorCode::BadDescriptor.into()) };
        let _paths = waiting(Wait::File, mounts.change_paths()).await;
        let done = waiting(Wait::File, files!($self, HostDescriptor::$call $arguments)).await;
        call.over();
        done
    }};
}

impl preopens::Host for Wasi<'_> {
    fn get_directories(&mut self) -> Result<Vec<(Resource<Descriptor>, String)>> {
        use preopens::Host;

        self.enter()?;
        let Some(mut folders) = self.state.program.mounts.as_ref().map(|mounts| mounts.folders()) else {
            return Ok(Vec::new());
        };
        files!(@ self, folders, Host::get_directories())
    }
}

impl types::Host for Wasi<'_> {
    fn convert_error_code(&mut self, error: FsError) -> Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> Result<Option<ErrorCode>> {
        use types::Host;

        self.enter()?;
        files!(self, Host::filesystem_error_code(error))
    }
}

impl Wasi<'_> {
    /// Looks at what is to be opened. What is not there yet may be made.
    async fn check_kind(
        &mut self,
        folder: &Resource<Descriptor>,
        flags: PathFlags,
        path: &str,
    ) -> FsResult<()> {
        let folder = Resource::new_borrow(folder.rep());
        match files!(self, HostDescriptor::stat_at(folder, flags, path.to_owned())).await {
            Ok(stat) => match stat.type_ {
                DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink => {
                    Ok(())
                }
                _ => Err(ErrorCode::Access.into()),
            },
            Err(error) if matches!(error.downcast_ref(), Some(ErrorCode::NoEntry)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn stream(&mut self) -> FsResult<OpenStream> {
        self.state.side.open_files.stream().ok_or_else(|| TOO_MANY.into())
    }

    fn writer(
        &mut self,
        stream: Resource<DynOutputStream>,
        open: OpenStream,
    ) -> FsResult<Resource<DynOutputStream>> {
        let table = &mut self.state.side.table;
        let inner = table.delete(stream)?;
        let writer: DynOutputStream = Box::new(Writer { inner, _open: open });
        Ok(table.push(writer)?)
    }
}

impl HostDescriptor for Wasi<'_> {
    fn read_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        self.work(0)?;
        let open = self.stream()?;
        let stream = files!(self, HostDescriptor::read_via_stream(file, offset))?;
        let table = &mut self.state.side.table;
        let inner = table.delete(stream)?;
        let reader: DynInputStream = Box::new(Reader { inner, _open: open });
        Ok(table.push(reader)?)
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.work(0)?;
        let open = self.stream()?;
        let stream = files!(self, HostDescriptor::write_via_stream(file, offset))?;
        self.writer(stream, open)
    }

    fn append_via_stream(&mut self, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.work(0)?;
        let open = self.stream()?;
        let stream = files!(self, HostDescriptor::append_via_stream(file))?;
        self.writer(stream, open)
    }

    async fn advise(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        work!(self, 0, advise(file, offset, len, advice))
    }

    async fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        work!(self, 0, sync_data(descriptor))
    }

    async fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        work!(self, 0, get_flags(descriptor))
    }

    async fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        work!(self, 0, get_type(descriptor))
    }

    async fn set_size(&mut self, file: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        work!(self, 0, set_size(file, size))
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        work!(self, 0, set_times(descriptor, accessed, modified))
    }

    async fn read(
        &mut self,
        file: Resource<Descriptor>,
        len: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let read = work!(self, 0, read(file, len, offset))?;
        spend(self.state, copied(read.0.len())).map_err(FsError::trap)?;
        Ok(read)
    }

    async fn write(
        &mut self,
        file: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        spend(self.state, copied(bytes.len())).map_err(FsError::trap)?;
        work!(self, 0, write(file, bytes, offset))
    }

    async fn read_directory(
        &mut self,
        folder: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let call = self.call(0).await?;
        let borrowed = Resource::new_borrow(folder.rep());
        let size = waiting(Wait::File, files!(self, HostDescriptor::stat(borrowed))).await?.size;
        let Some(mounts) = &self.state.program.mounts else { return Err(ErrorCode::BadDescriptor.into()) };
        let permit = self.state.side.open_files.permit_listing(mounts, size).ok_or(TOO_MANY)?;
        let listing = files!(self, HostDescriptor::read_directory(folder)).await;
        call.over();
        let listing = listing?;
        self.state.side.open_files.listed(permit);
        Ok(listing)
    }

    async fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        work!(self, 0, sync(descriptor))
    }

    async fn create_directory_at(&mut self, folder: Resource<Descriptor>, path: String) -> FsResult<()> {
        work!(self, path.len(), create_directory_at(folder, path))
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        work!(self, 0, stat(descriptor))
    }

    async fn stat_at(
        &mut self,
        folder: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        work!(self, path.len(), stat_at(folder, flags, path))
    }

    async fn set_times_at(
        &mut self,
        folder: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        work!(self, path.len(), set_times_at(folder, flags, path, accessed, modified))
    }

    async fn link_at(
        &mut self,
        old_folder: Resource<Descriptor>,
        old_flags: PathFlags,
        old_path: String,
        new_folder: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        change!(
            self,
            old_path.len() + new_path.len(),
            link_at(old_folder, old_flags, old_path, new_folder, new_path)
        )
    }

    async fn open_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let call = self.call(2 * path.len()).await?;
        let program = Arc::clone(&self.state.program);
        let Some(mounts) = &program.mounts else { return Err(ErrorCode::BadDescriptor.into()) };
        let Some(permit) = self.state.side.open_files.permit(mounts) else { return Err(TOO_MANY.into()) };
        let _paths = mounts.keep_paths().await;
        self.check_kind(&folder, path_flags, &path).await?;
        let opened = files!(self, HostDescriptor::open_at(folder, path_flags, path, open_flags, flags)).await;
        call.over();
        let opened = opened?;
        let side = &mut self.state.side;
        side.open_files.opened(side.table.get(&opened)?, permit);
        Ok(opened)
    }

    async fn readlink_at(&mut self, folder: Resource<Descriptor>, path: String) -> FsResult<String> {
        work!(self, path.len(), readlink_at(folder, path))
    }

    async fn remove_directory_at(&mut self, folder: Resource<Descriptor>, path: String) -> FsResult<()> {
        work!(self, path.len(), remove_directory_at(folder, path))
    }

    async fn rename_at(
        &mut self,
        old_folder: Resource<Descriptor>,
        old_path: String,
        new_folder: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        change!(self, old_path.len() + new_path.len(), rename_at(old_folder, old_path, new_folder, new_path))
    }

    async fn symlink_at(
        &mut self,
        folder: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        change!(self, target.len() + path.len(), symlink_at(folder, target, path))
    }

    async fn unlink_file_at(&mut self, folder: Resource<Descriptor>, path: String) -> FsResult<()> {
        work!(self, path.len(), unlink_file_at(folder, path))
    }

    async fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> Result<bool> {
        spend(self.state, HANDED_OVER)?;
        files!(self, HostDescriptor::is_same_object(one, other)).await
    }

    async fn metadata_hash(&mut self, descriptor: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        work!(self, 0, metadata_hash(descriptor))
    }

    async fn metadata_hash_at(
        &mut self,
        folder: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        work!(self, path.len(), metadata_hash_at(folder, flags, path))
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> Result<()> {
        self.enter()?;
        files!(self, HostDescriptor::drop(descriptor))?;
        self.state.side.open_files.look();
        Ok(())
    }
}

impl HostDirectoryEntryStream for Wasi<'_> {
    async fn read_directory_entry(
        &mut self,
        listing: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.enter().map_err(FsError::trap)?;
        files!(self, HostDirectoryEntryStream::read_directory_entry(listing)).await
    }

    fn drop(&mut self, listing: Resource<DirectoryEntryStream>) -> Result<()> {
        self.enter()?;
        files!(self, HostDirectoryEntryStream::drop(listing))?;
        self.state.side.open_files.listing_closed();
        Ok(())
    }
}

/// A stream of a file, counted.
struct Reader {
    inner: DynInputStream,
    _open: OpenStream,
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        waiting(Wait::File, self.inner.blocking_read(size)).await
    }

    fn skip(&mut self, count: usize) -> Result<usize, StreamError> {
        self.inner.skip(count)
    }

    async fn blocking_skip(&mut self, count: usize) -> Result<usize, StreamError> {
        waiting(Wait::File, self.inner.blocking_skip(count)).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        waiting(Wait::File, self.inner.ready()).await;
    }
}

/// Likewise.
struct Writer {
    inner: DynOutputStream,
    _open: OpenStream,
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        // Nobody else sees to it, and the bytes wait here for their thread.
        if bytes.len() > self.inner.check_write()? {
            return Err(StreamError::Trap(format_err!("more was written than `check-write` permits")));
        }
        self.inner.write(bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        waiting(Wait::File, self.inner.blocking_write_and_flush(bytes)).await
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        waiting(Wait::File, self.inner.ready()).await;
    }
}
