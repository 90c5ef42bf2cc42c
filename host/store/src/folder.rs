//! A folder that is ours alone. It is opened once, and what is in it is reached through that descriptor; symbolic links
//! inside are not followed.
//!
//! A file appears whole or not at all: it is written under a name that nobody looks for ([`Aside`]), synced, and renamed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::ours::{self, FILE_MODE, FOLDER_MODE, OursError};

/// Begins the name of a file that is being written. Not that of compiled guests, which other servers may write here.
const ASIDE_PREFIX: &str = ".aside-";

/// Why a folder, or a file in it, is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("`{}`: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Ours(OursError),
    #[error("`{}` is not a file: move it away", .path.display())]
    NotAFile { path: PathBuf },
}

impl FolderError {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::NotAFile { path } => path,
            Self::Ours(error) => error.path(),
        }
    }
}

impl From<OursError> for FolderError {
    fn from(error: OursError) -> Self {
        match error {
            OursError::Io { path, error } => Self::Io { path, error },
            other => Self::Ours(other),
        }
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Reading and writing what is there.
    Write,
    /// The same, and made if it is not there.
    Make,
}

/// One file of a folder.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) modified: SystemTime,
}

impl Listed {
    /// True for what a writer left behind, or is about to rename.
    pub(crate) fn is_aside(&self) -> bool {
        self.name.starts_with(ASIDE_PREFIX)
    }

    /// True if it was touched within `age`. So is what will be touched, by a clock that was set back.
    pub(crate) fn is_younger(&self, age: Duration) -> bool {
        SystemTime::now().duration_since(self.modified).is_ok_and(|since| since < age)
            || self.modified > SystemTime::now()
    }
}

/// An open folder that was ours when it was opened.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder, and makes it if it is not there, with the folders above it.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let error = |error: io::Error| FolderError::Io { path: path.to_owned(), error };
        let is_new = !path.exists();
        let fd = ours::open_folder(path)?;
        if is_new {
            // The name itself is to outlive a power failure. A parent that we may not read is not ours to sync.
            if let Some(parent) = path.parent().and_then(|parent| File::open(parent).ok()) {
                parent.sync_all().map_err(error)?;
            }
        }
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Likewise for a folder in this one.
    pub(crate) fn subfolder(&self, name: &str) -> Result<Self, FolderError> {
        match rustix::fs::mkdirat(&self.fd, name, FOLDER_MODE) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.error(name, errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(|errno| self.error(name, errno))?;
        let path = self.path.join(name);
        ours::check(&fd, &path)?;
        Ok(Self { fd, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file. None: it is not there.
    pub(crate) fn open_file(&self, name: &str, access: Access) -> Result<Option<File>, FolderError> {
        let how = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
            Access::Make => OFlags::RDWR | OFlags::CREATE,
        };
        // Without NONBLOCK a pipe of that name would be waited for.
        let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, FILE_MODE) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if access != Access::Make => return Ok(None),
            Err(errno) => return Err(self.error(name, errno)),
        };
        let path = self.path.join(name);
        let stat = ours::check(&fd, &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FolderError::NotAFile { path });
        }
        Ok(Some(fd.into()))
    }

    /// Begins a file.
    pub(crate) fn aside(&self) -> Result<Aside<'_>, FolderError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // One of another process with this id is long over: the folder has one server at a time.
        let name = format!("{ASIDE_PREFIX}{}-{number}", std::process::id());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, &name, flags, FILE_MODE)
            .map_err(|errno| self.error(&name, errno))?;
        Ok(Aside { folder: self, file: fd.into(), name, is_kept: false })
    }

    /// True if `file` is what the name leads to.
    pub(crate) fn leads_to(&self, name: &str, file: &File) -> bool {
        let Ok(there) = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        rustix::fs::fstat(file).is_ok_and(|ours| (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino))
    }

    /// Gives a file another name, in place of what may have it.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), FolderError> {
        rustix::fs::renameat(&self.fd, from, &self.fd, to).map_err(|errno| self.error(to, errno))
    }

    /// Removes a file. One that is gone already is as good.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FolderError> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error(name, errno)),
        }
    }

    /// Makes the names in it durable.
    pub(crate) fn sync(&self) -> Result<(), FolderError> {
        rustix::fs::fsync(&self.fd).map_err(|errno| self.error("", errno))
    }

    /// The files in it.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, FolderError> {
        let mut listed = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(|errno| self.error("", errno))? {
            let entry = entry.map_err(|errno| self.error("", errno))?;
            // One that is removed meanwhile is not there.
            listed.extend(entry.file_name().to_str().ok().and_then(|name| self.look(name)));
        }
        Ok(listed)
    }

    /// One of them. None: there is no such file.
    pub(crate) fn look(&self, name: &str) -> Option<Listed> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let modified = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        Some(Listed { name: name.to_owned(), modified })
    }

    /// Removes what writers left behind that are no more.
    pub(crate) fn sweep(&self, age_min: Duration) -> Result<usize, FolderError> {
        let mut removed = 0;
        for file in self.list()?.iter().filter(|file| file.is_aside() && !file.is_younger(age_min)) {
            self.remove(&file.name)?;
            removed += 1;
        }
        Ok(removed)
    }

    /// A failure with a file of this folder.
    pub(crate) fn error(&self, name: &str, error: impl Into<io::Error>) -> FolderError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        FolderError::Io { path, error: error.into() }
    }
}

/// A file that has no name yet that anybody looks for. Dropped before it is kept, it is gone.
#[derive(Debug)]
pub(crate) struct Aside<'a> {
    folder: &'a Folder,
    pub(crate) file: File,
    name: String,
    is_kept: bool,
}

impl Aside<'_> {
    /// Its name as long as it has no other.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes it durable, whole and under this name, in place of what may have it.
    pub(crate) fn keep(mut self, name: &str) -> Result<(), FolderError> {
        self.file.sync_all().map_err(|error| self.folder.error(&self.name, error))?;
        self.folder.rename(&self.name, name)?;
        self.is_kept = true;
        self.folder.sync()
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            // What stays goes with the next sweep.
            let _ = self.folder.remove(&self.name);
        }
    }
}
