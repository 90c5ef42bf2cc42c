//! A folder that is ours alone: who owns it and who may write to it is looked at before anything in it is used.
//!
//! It is opened once, and everything in it is reached through that descriptor: a path that leads elsewhere later leads
//! nobody astray. Symbolic links inside are not followed.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use tidegate_store::ours::{self, FILE_MODE, FOLDER_MODE, OursError};

/// Begins the name of a file that is being written.
const ASIDE_PREFIX: &str = ".new-";

/// Why a folder, or a file in it, is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("`{}`: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Ours(#[from] OursError),
    #[error("`{}` can be read by others (mode {mode:04o}): take that away with `chmod 600`", .path.display())]
    Readable { path: PathBuf, mode: u32 },
    #[error("`{}` lies on a file system from which nothing may be executed (mounted with `noexec`)", .path.display())]
    NoExec { path: PathBuf },
    #[error("`{}` is not a file", .path.display())]
    NotAFile { path: PathBuf },
}

impl FolderError {
    /// True if what was to be made was there.
    pub(super) fn is_there_already(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::AlreadyExists)
    }
}

/// An open folder that was ours when it was opened.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    /// For messages alone.
    path: PathBuf,
}

/// One file of a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

impl Listed {
    /// True for what a writer left behind, or is about to rename.
    pub(super) fn is_aside(&self) -> bool {
        self.name.starts_with(ASIDE_PREFIX)
    }
}

impl Folder {
    /// Opens a folder, and makes it if it is not there, with the folders above it.
    pub(super) fn open(path: &Path) -> Result<Self, FolderError> {
        Ok(Self { fd: ours::open_folder(path)?, path: path.to_owned() })
    }

    /// Likewise for a folder in this one.
    pub(super) fn subfolder(&self, name: &str) -> Result<Self, FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.fd, name, flags, Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT) => match rustix::fs::mkdirat(&self.fd, name, FOLDER_MODE) {
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            },
            opened => opened,
        };
        let fd = opened.map_err(|errno| self.error(name, errno))?;
        let path = self.path.join(name);
        ours::check(&fd, &path)?;
        Ok(Self { fd, path })
    }

    /// Refuses a folder on a file system from which code can not be mapped.
    pub(super) fn check_executable(&self) -> Result<(), FolderError> {
        let stat = rustix::fs::fstatvfs(&self.fd).map_err(|errno| self.error("", errno))?;
        if stat.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            return Err(FolderError::NoExec { path: self.path.clone() });
        }
        Ok(())
    }

    /// Opens a file for reading. None: it is not there.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>, FolderError> {
        // Without NONBLOCK a pipe of that name would be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.error(name, errno)),
        };
        let path = self.path.join(name);
        let stat = ours::check(&fd, &path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FolderError::NotAFile { path });
        }
        Ok(Some(fd.into()))
    }

    /// Refuses a file that others may read.
    pub(super) fn check_secret(&self, name: &str, file: &File) -> Result<(), FolderError> {
        let stat = rustix::fs::fstat(file).map_err(|errno| self.error(name, errno))?;
        let mode = ours::permissions(&stat);
        if mode & 0o077 == 0 {
            Ok(())
        } else {
            Err(FolderError::Readable { path: self.path.join(name), mode })
        }
    }

    /// Makes a file that appears whole, or not at all; an error if the name is taken.
    pub(super) fn create(&self, name: &str, parts: &[&[u8]]) -> Result<(), FolderError> {
        let aside = self.write_aside(parts)?;
        let linked = rustix::fs::linkat(&self.fd, &aside, &self.fd, name, AtFlags::empty());
        self.remove(&aside);
        linked.map_err(|errno| self.error(name, errno))
    }

    /// The same in place of what may have the name.
    pub(super) fn replace(&self, name: &str, parts: &[&[u8]]) -> Result<(), FolderError> {
        let aside = self.write_aside(parts)?;
        rustix::fs::renameat(&self.fd, &aside, &self.fd, name).map_err(|errno| {
            self.remove(&aside);
            self.error(name, errno)
        })
    }

    /// Writes a file under a name that nobody looks for, and returns the name. It is not synced to the disk: what a
    /// crash leaves of it fails its verification.
    fn write_aside(&self, parts: &[&[u8]]) -> Result<String, FolderError> {
        let mut random = [0; 8];
        super::fill_random(&mut random).map_err(|error| self.error(ASIDE_PREFIX, error))?;
        let name = format!("{ASIDE_PREFIX}{:016x}", u64::from_le_bytes(random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, &name, flags, FILE_MODE);
        let mut file = File::from(fd.map_err(|errno| self.error(&name, errno))?);
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        written.map_err(|error| {
            self.remove(&name);
            self.error(&name, error)
        })?;
        Ok(name)
    }

    /// Removes a file. One that is gone already is as good; so is one that stays, to whoever asks.
    pub(super) fn remove(&self, name: &str) {
        let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// The files in it.
    pub(super) fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            // One that is removed meanwhile is not there.
            listed.extend(self.look(entry.file_name()));
        }
        Ok(listed)
    }

    fn look(&self, name: &CStr) -> Option<Listed> {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
        let modified =
            SystemTime::UNIX_EPOCH + Duration::new(seconds, u32::try_from(stat.st_mtime_nsec).ok()?);
        let name = name.to_str().ok()?.to_owned();
        Some(Listed { name, bytes: u64::try_from(stat.st_size).unwrap_or(0), modified })
    }

    /// A failure with a file of this folder.
    pub(super) fn error(&self, name: &str, error: impl Into<io::Error>) -> FolderError {
        FolderError::Io { path: self.path.join(name), error: error.into() }
    }
}
