//! The lock of a state folder: a file of its own, taken before anything else in the folder is looked at.
//!
//! It is held by the open file, so a server that is killed has given it back. The process id in it is for messages alone.

use std::fs::File;
use std::io::{Read, Seek, Write};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::OpenError;
use crate::folder::{Access, Folder, FolderError};

/// The file.
const NAME: &str = "lock";
/// Bytes of it that are read.
const BYTES_MAX: u64 = 32;
/// Times that the file may have been replaced while it was locked.
const ATTEMPTS_MAX: usize = 8;

/// The lock, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes it, or says who has it.
    pub(crate) fn take(folder: &Folder) -> Result<Self, OpenError> {
        let of_folder = |error| OpenError::of_folder(folder.path(), error);
        for _ in 0..ATTEMPTS_MAX {
            let file = folder.open_file(NAME, Access::Make).map_err(of_folder)?;
            // `Make` makes it.
            let Some(mut file) = file else { continue };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Somebody removed it meanwhile, and another server may lock the next one.
                Ok(()) if !folder.leads_to(NAME, &file) => {}
                Ok(()) => {
                    write_id(&mut file);
                    return Ok(Self(file));
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(OpenError::Held { folder: folder.path().to_owned(), by: read_id(&mut file) });
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(of_folder(folder.error(NAME, errno))),
            }
        }
        let path = folder.path().join(NAME);
        Err(of_folder(FolderError::Io { path, error: std::io::Error::other("it is replaced all the time") }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.set_len(0);
        // Closing is not enough: a child that is between fork and exec has the file open too.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// A full disk is no reason not to have the lock.
fn write_id(file: &mut File) {
    let _ = file.set_len(0);
    let _ = writeln!(file, "{}", std::process::id());
}

/// None: the other has not written it, or not yet.
fn read_id(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
