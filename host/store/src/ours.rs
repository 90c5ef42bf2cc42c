//! What is ours alone: a folder or file that belongs to this process's user, and that nobody else may write to.
//!
//! It is looked at through its open descriptor, so that what was looked at is what is used, wherever its name leads later. It
//! knows nothing of what is kept there, and changes nothing of what is not ours.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

/// Modes of what we make.
pub const FOLDER_MODE: Mode = Mode::RWXU;
pub const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Why a folder or a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum OursError {
    #[error("`{}`: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("`{}` belongs to user {owner}, and this server runs as user {we}", .path.display())]
    NotOurs { path: PathBuf, owner: u32, we: u32 },
    #[error("`{}` can be written by others (mode {mode:04o}): take that away with `chmod go-w`", .path.display())]
    Writable { path: PathBuf, mode: u32 },
}

impl OursError {
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::NotOurs { path, .. } | Self::Writable { path, .. } => path,
        }
    }
}

impl From<OursError> for io::Error {
    fn from(error: OursError) -> Self {
        let kind = match &error {
            OursError::Io { error, .. } => error.kind(),
            OursError::NotOurs { .. } | OursError::Writable { .. } => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}

/// Opens a folder, and makes it if it is not there, with the folders above it.
///
/// # Errors
/// It can not be had, or is not ours.
pub fn open_folder(path: &Path) -> Result<OwnedFd, OursError> {
    let error = |error: io::Error| OursError::Io { path: path.to_owned(), error };
    DirBuilder::new().recursive(true).mode(FOLDER_MODE.as_raw_mode()).create(path).map_err(error)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| error(errno.into()))?;
    check(&fd, path)?;
    Ok(fd)
}

/// Refuses what belongs to somebody else, or what somebody else may write to. `path` is for the message alone.
///
/// # Errors
/// It is not ours, or can not be looked at.
pub fn check(fd: impl AsFd, path: &Path) -> Result<Stat, OursError> {
    let error = |errno: Errno| OursError::Io { path: path.to_owned(), error: errno.into() };
    let stat = rustix::fs::fstat(fd).map_err(error)?;
    let we = rustix::process::geteuid().as_raw();
    if stat.st_uid != we {
        return Err(OursError::NotOurs { path: path.to_owned(), owner: stat.st_uid, we });
    }
    let mode = permissions(&stat);
    if mode & 0o022 != 0 {
        return Err(OursError::Writable { path: path.to_owned(), mode });
    }
    Ok(stat)
}

/// Who may do what with it.
pub fn permissions(stat: &Stat) -> u32 {
    Mode::from_raw_mode(stat.st_mode).as_raw_mode() & 0o7777
}

#[cfg(test)]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_is_made_for_us_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let fd = open_folder(&path).unwrap();
        assert_eq!(permissions(&rustix::fs::fstat(&fd).unwrap()), 0o700);
        open_folder(&path).unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        assert!(matches!(open_folder(&dir.path().join("file")), Err(OursError::Io { .. })));
    }

    #[test]
    fn what_others_may_write_to_is_refused_and_what_they_may_read_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        for (mode, fine) in [(0o600, true), (0o644, true), (0o755, true), (0o620, false), (0o602, false)] {
            set_mode(&file, mode);
            let checked = check(File::open(&file).unwrap(), &file);
            assert_eq!(checked.is_ok(), fine, "{mode:o}");
            let Err(error) = checked else { continue };
            let text =
                format!("can be written by others (mode {mode:04o}): take that away with `chmod go-w`");
            assert!(error.path() == file && error.to_string().ends_with(&text), "{error}");
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
        }
        set_mode(dir.path(), 0o770);
        assert!(matches!(open_folder(dir.path()), Err(OursError::Writable { mode: 0o770, .. })));
        set_mode(dir.path(), 0o700);
    }

    #[test]
    fn what_is_anothers_is_refused() {
        if !rustix::process::geteuid().is_root() {
            // Only root can give something away, and for anybody else the root folder is another's.
            let root = Path::new("/");
            assert!(matches!(
                check(File::open(root).unwrap(), root),
                Err(OursError::NotOurs { owner: 0, .. })
            ));
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(4711), None).unwrap();
        assert!(matches!(open_folder(dir.path()), Err(OursError::NotOurs { owner: 4711, we: 0, .. })));
    }
}
