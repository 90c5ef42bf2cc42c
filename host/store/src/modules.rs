//! Modules as they were uploaded, in files that are called after the BLAKE3 of what is in them.
//!
//! A file that has its name is whole. It knows no WebAssembly: whether a module is one, others find out.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{ReceiveError, StoreError};
use crate::folder::{Access, Folder};

/// The folder.
const NAME: &str = "wasm";
/// Bytes that are read at once.
const BLOCK_BYTES: usize = 128 * 1024;
/// How exactly it is known when a module was last asked for.
const TOUCH_AFTER: Duration = Duration::from_secs(60);
/// A module that nobody refers to, and that was asked for within this time, is about to be referred to.
const GRACE: Duration = Duration::from_secs(60 * 60);

/// A module that was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleFile {
    /// BLAKE3 of it, 64 hexadecimal digits.
    pub hash: String,
    pub bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Modules {
    folder: Arc<Folder>,
}

impl Modules {
    pub(crate) fn open(state: &Folder) -> Result<Self, StoreError> {
        let folder = state.subfolder(NAME)?;
        // Whoever wrote them is no more: the lock is ours.
        folder.sweep(Duration::ZERO)?;
        Ok(Self { folder: Arc::new(folder) })
    }

    /// Takes a module in. It is on the disk when this returns.
    pub(crate) fn receive(&self, read: &mut dyn Read, bytes_max: u64) -> Result<ModuleFile, ReceiveError> {
        let mut aside = self.folder.aside()?;
        let mut hasher = blake3::Hasher::new();
        let mut block = vec![0; BLOCK_BYTES];
        let mut bytes = 0;
        loop {
            let read = match read.read(&mut block) {
                Ok(0) => break,
                Ok(read) => block.get(..read).unwrap_or(&block),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ReceiveError::Read(error)),
            };
            bytes += read.len() as u64;
            if bytes > bytes_max {
                return Err(ReceiveError::TooLarge { bytes_max });
            }
            hasher.update(read);
            aside.file.write_all(read).map_err(|error| self.folder.error("", error))?;
        }
        let hash = hasher.finalize().to_hex().to_string();
        // In place of the same one, which may be damaged, and is as old as it is.
        aside.keep(&hash)?;
        Ok(ModuleFile { hash, bytes })
    }

    /// Whether it is there. Whoever asks, means to use it: it stays for a while.
    pub(crate) fn has(&self, hash: &str) -> bool {
        matches!(self.open_file(hash), Ok(Some(_)))
    }

    /// Opens one. None: it is not there.
    pub(crate) fn open_file(&self, hash: &str) -> Result<Option<File>, StoreError> {
        if !is_name(hash) {
            return Ok(None);
        }
        let file = self.folder.open_file(hash, Access::Read)?;
        if let Some(file) = &file {
            touch(file);
        }
        Ok(file)
    }

    /// Reads one and verifies it. None: it is not there.
    pub(crate) fn read(&self, hash: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut file) = self.open_file(hash)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| self.folder.error(hash, error))?;
        if blake3::hash(&bytes).to_hex().as_str() == hash {
            return Ok(Some(bytes));
        }
        let what = "it is not what its name says: upload the module again".to_owned();
        Err(StoreError::Damaged { path: self.folder.path().join(hash), what })
    }

    /// Removes those that nobody refers to. The caller sees to it that nobody begins to meanwhile.
    pub(crate) fn collect(&self, is_used: impl Fn(&str) -> bool) -> Result<usize, StoreError> {
        let mut removed = self.folder.sweep(GRACE)?;
        for file in self.folder.list()? {
            if is_name(&file.name) && !is_used(&file.name) && !file.is_younger(GRACE) {
                self.folder.remove(&file.name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// True for what may be the name of a module.
fn is_name(hash: &str) -> bool {
    hash.len() == 2 * blake3::OUT_LEN && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Notes that a module was asked for. Where that can not be written down it may go too early, and is uploaded again.
fn touch(file: &File) {
    let now = SystemTime::now();
    let modified = file.metadata().and_then(|meta| meta.modified());
    let is_fresh = modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age < TOUCH_AFTER));
    if !is_fresh {
        let _ = file.set_modified(now);
    }
}
