//! What `std` has no stable way to ask for, by the interface itself.

use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags, filesystem_error_code,
};
use wasip2::io::streams::StreamError;

use crate::Said;

pub(crate) fn name(error: ErrorCode) -> String {
    error.name().to_owned()
}

fn stream_name(error: StreamError) -> String {
    match error {
        StreamError::Closed => "closed".to_owned(),
        StreamError::LastOperationFailed(error) => {
            filesystem_error_code(&error).map_or("no code".to_owned(), name)
        }
    }
}

fn done(result: Result<(), ErrorCode>) -> Said {
    result.map(|()| b"ok".to_vec()).map_err(name)
}

/// The folders that the guest was given.
pub(crate) fn folders() -> Said {
    let names: Vec<String> = get_directories().into_iter().map(|(_, name)| name).collect();
    Ok(names.join(" ").into_bytes())
}

/// `FOLDER/REST`: the folder, as it was given, and the path in it.
pub(crate) fn find(path: &str) -> Result<(Descriptor, String), String> {
    let inside =
        |name: &str| path.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
    let mut found = get_directories().into_iter().filter_map(|(folder, name)| Some((folder, inside(&name)?)));
    found.next().ok_or_else(|| "no such folder".to_owned())
}

pub(crate) fn open(path: &str, open: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, String> {
    let (folder, path) = find(path)?;
    folder.open_at(PathFlags::SYMLINK_FOLLOW, &path, open, flags).map_err(name)
}

pub(crate) fn truncate(path: &str) -> Said {
    open(path, OpenFlags::TRUNCATE, DescriptorFlags::READ).map(|_| b"ok".to_vec())
}

pub(crate) fn open_for_writing(path: &str) -> Said {
    open(path, OpenFlags::empty(), DescriptorFlags::WRITE).map(|_| b"ok".to_vec())
}

/// Writes as much as the stream permits, and `more`.
pub(crate) fn fill(path: &str, more: usize) -> Said {
    let file = open(path, OpenFlags::TRUNCATE, DescriptorFlags::WRITE)?;
    let stream = file.write_via_stream(0).map_err(name)?;
    let room = stream.check_write().map_err(stream_name)?;
    let bytes = vec![b'x'; room as usize + more];
    stream.write(&bytes).and_then(|()| stream.blocking_flush()).map_err(stream_name)?;
    Ok(b"ok".to_vec())
}

pub(crate) fn times(path: &str) -> Said {
    let (folder, path) = find(path)?;
    done(folder.set_times_at(PathFlags::SYMLINK_FOLLOW, &path, NewTimestamp::Now, NewTimestamp::Now))
}

/// `TARGET,PATH`.
pub(crate) fn symlink(paths: &str) -> Said {
    let (target, path) = paths.split_once(',').ok_or("no comma")?;
    let (folder, path) = find(path)?;
    done(folder.symlink_at(target, &path))
}

/// `FROM,TO`.
pub(crate) fn link(paths: &str) -> Said {
    let (from, to) = paths.split_once(',').ok_or("no comma")?;
    let ((from_folder, from), (to_folder, to)) = (find(from)?, find(to)?);
    done(from_folder.link_at(PathFlags::empty(), &from, &to_folder, &to))
}
