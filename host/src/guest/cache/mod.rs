//! Compiled modules on disk, so that only the first start of a module compiles it.
//!
//! Whoever can put bytes here can run code as this server, so nothing is believed that was not written with this
//! folder's key. The folder and everything in it belong to the user who runs the server, and only that user may
//! write there; an entry is verified, and then the very file that was verified is mapped, whatever its name leads to by
//! then. An entry that is not as it was written is never loaded: the module is compiled again, and the entry replaced.
//!
//! The cache is a help and never a need: without it, or when its disk is full, modules are compiled. It knows nothing of
//! apps, and nothing of what is in the code.
//!
//! # In the state folder
//!
//! | path | what |
//! |---|---|
//! | `key` | 32 random bytes, made once (mode 0600) |
//! | `modules/` | the entries (mode 0700) |
//! | `modules/<64 hexadecimal digits>` | an entry (mode 0600), called after its [`EntryId`]; its time of modification is when it was last used, within [`TOUCH_AFTER`] |
//! | `modules/.new-*` | an entry that is being written; it gets its name when it is whole |
//!
//! # An entry
//!
//! What the compiler made, an ELF file, and behind it, where ELF looks at nothing, 72 bytes that say whose it is:
//!
//! | bytes | what |
//! |---|---|
//! | n | the code |
//! | 8 | `tgcache` and the version of this format, 1 |
//! | 32 | the entry's id again, so that one entry can not stand for another |
//! | 32 | BLAKE3 of everything before, keyed with what [`MAC_CONTEXT`] derives from `key` |

mod entry;
mod folder;
mod sweep;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

pub(crate) use self::entry::EntryId;
use self::entry::{Defect, Seal};
use self::folder::{Folder, FolderError};
use self::sweep::Sweeper;
use crate::config::{ServerSettings, StateFolder};

/// The file with the key.
const KEY_NAME: &str = "key";
/// Bytes of the key.
const KEY_BYTES: usize = blake3::KEY_LEN;
/// The folder of the entries.
const MODULES_NAME: &str = "modules";
/// What the key of the entries' seals is derived with.
const MAC_CONTEXT: &str = "tidegate 2026-11-20 seals of compiled guests";
/// How exactly it is known when an entry was last used.
const TOUCH_AFTER: Duration = Duration::from_secs(60);

/// What looking for an entry found.
#[derive(Debug)]
pub(crate) enum Found {
    /// The entry, verified.
    Whole(File),
    /// Nothing.
    Nothing,
    /// Something that is not as it was written.
    Broken(Defect),
}

/// The compiled guests of one state folder; or none, and then nothing is found and nothing kept.
#[derive(Debug)]
pub(crate) struct Cache(Option<Inner>);

#[derive(Debug)]
struct Inner {
    modules: Arc<Folder>,
    seal: Seal,
    bytes_max: u64,
    sweeper: Sweeper,
    has_warned: AtomicBool,
}

impl Cache {
    /// A cache that keeps nothing.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The cache that the settings name. What is wrong with it is told in the log, and the server does without it.
    pub(crate) fn of(settings: &ServerSettings) -> Self {
        // A unit test that names no folder is not to fill the developer's.
        if settings.cache_bytes_max == 0 || cfg!(test) && settings.state == StateFolder::User {
            return Self::none();
        }
        let Some(folder) = settings.state.folder() else {
            tracing::info!(
                "compiled guests are not kept: neither XDG_CACHE_HOME nor HOME names a folder; `--state DIR` does"
            );
            return Self::none();
        };
        Self::open(&folder, settings.cache_bytes_max).unwrap_or_else(|error| {
            tracing::warn!(
                folder = %folder.display(),
                %error,
                "compiled guests are not kept: every start compiles them; `--state DIR` names another folder"
            );
            Self::none()
        })
    }

    /// Opens the state folder, and makes what is missing in it. Above `bytes_max` what was not used for longest goes.
    fn open(folder: &Path, bytes_max: u64) -> Result<Self, FolderError> {
        let state = Folder::open(folder)?;
        let modules = Arc::new(state.subfolder(MODULES_NAME)?);
        modules.check_executable()?;
        let seal = Seal::new(&blake3::derive_key(MAC_CONTEXT, &key(&state)?));
        let sweeper = Sweeper::default();
        Ok(Self(Some(Inner { modules, seal, bytes_max, sweeper, has_warned: AtomicBool::new(false) })))
    }

    /// Whether it keeps anything.
    pub(crate) fn keeps(&self) -> bool {
        self.0.is_some()
    }

    /// Looks for an entry and verifies it.
    pub(crate) fn find(&self, id: &EntryId) -> Found {
        let Some(inner) = &self.0 else { return Found::Nothing };
        let file = match inner.modules.open_file(&id.name()) {
            Ok(Some(file)) => file,
            Ok(None) => return Found::Nothing,
            Err(error) => return Found::Broken(error.into()),
        };
        match inner.seal.verify(&file, id) {
            Ok(()) => {
                touch(&file);
                Found::Whole(file)
            }
            Err(defect) => Found::Broken(defect),
        }
    }

    /// Keeps code, in place of what may be there. True if it is there now. A failure is told once.
    pub(crate) fn store(&self, id: &EntryId, code: &[u8]) -> bool {
        let Some(inner) = &self.0 else { return false };
        let trailer = inner.seal.trailer(id, code);
        if (code.len() + trailer.len()) as u64 > inner.bytes_max {
            return false;
        }
        match inner.modules.replace(&id.name(), &[code, &trailer]) {
            Ok(()) => {
                inner.sweeper.start(&inner.modules, inner.bytes_max);
                true
            }
            Err(error) => {
                if !inner.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "a compiled guest can not be kept: the next start compiles it again");
                }
                false
            }
        }
    }
}

/// Notes that an entry was used. Where that can not be written down it may go too early.
fn touch(file: &File) {
    let now = SystemTime::now();
    let modified = file.metadata().and_then(|meta| meta.modified());
    let is_fresh = modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age < TOUCH_AFTER));
    if !is_fresh {
        let _ = file.set_modified(now);
    }
}

/// The key of a state folder; made when there is none. Two servers that make it at once agree on one.
fn key(state: &Folder) -> Result<[u8; KEY_BYTES], FolderError> {
    if let Some(key) = read_key(state)? {
        return Ok(key);
    }
    let mut made = [0; KEY_BYTES];
    fill_random(&mut made).map_err(|error| state.error(KEY_NAME, error))?;
    match state.create(KEY_NAME, &[&made]) {
        Ok(()) => Ok(made),
        Err(error) if error.is_there_already() => match read_key(state)? {
            Some(key) => Ok(key),
            // Cut short, by a disk that was full or a machine that lost power. Whatever it sealed is lost.
            None => {
                state.replace(KEY_NAME, &[&made])?;
                read_key(state)?
                    .ok_or_else(|| state.error(KEY_NAME, io::Error::from(io::ErrorKind::InvalidData)))
            }
        },
        Err(error) => Err(error),
    }
}

/// None: there is no key, or it is no whole one.
fn read_key(state: &Folder) -> Result<Option<[u8; KEY_BYTES]>, FolderError> {
    let Some(file) = state.open_file(KEY_NAME)? else { return Ok(None) };
    state.check_secret(KEY_NAME, &file)?;
    let mut key = [0; KEY_BYTES];
    let error = |error| state.error(KEY_NAME, error);
    if file.metadata().map_err(error)?.len() != KEY_BYTES as u64 {
        return Ok(None);
    }
    io::Read::read_exact(&mut &file, &mut key).map_err(error)?;
    Ok(Some(key))
}

fn fill_random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let done = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())?;
        bytes = &mut bytes[done..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
