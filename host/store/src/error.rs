//! What goes wrong, by whose business it is: opening the folder, keeping something in it, taking a module in.

use std::io;
use std::path::{Path, PathBuf};

use crate::folder::FolderError;

/// Why a state folder is not opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the state folder `{}` is held by another server{}: stop that one, or name another folder with `--state DIR`",
        .folder.display(), process(*.by)
    )]
    Held { folder: PathBuf, by: Option<u32> },
    /// A server of another version wrote it.
    #[error(
        "the state folder `{}` has format {found}, and this server knows format {known}: start a server of the version \
         that wrote it, or name another folder with `--state DIR`",
        .folder.display()
    )]
    Version { folder: PathBuf, found: u64, known: u64 },
    /// Somebody else could change what is in it.
    #[error("the state folder `{}` is not safe to use: {why}", .folder.display())]
    Unsafe { folder: PathBuf, why: String },
    /// A file is not as it was written.
    #[error(
        "the state folder `{}` is damaged: {what}; put back a copy of the folder, or move `{}` away to begin without apps",
        .folder.display(), .file.display()
    )]
    Damaged { folder: PathBuf, file: PathBuf, what: String },
    /// There is no room for what opening writes.
    #[error("the state folder `{}` can not be opened: its disk is full ({error}): make room on it", .folder.display())]
    DiskFull { folder: PathBuf, error: io::Error },
    /// The system says no.
    #[error("the state folder `{}` can not be opened: {what}: {error}", .folder.display())]
    Io { folder: PathBuf, what: String, error: io::Error },
}

fn process(by: Option<u32>) -> String {
    by.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl OpenError {
    pub(crate) fn of_folder(folder: &Path, error: FolderError) -> Self {
        let folder = folder.to_owned();
        match error {
            FolderError::Io { error, .. } if is_full(&error) => Self::DiskFull { folder, error },
            FolderError::Io { path, error } => {
                Self::Io { folder, what: format!("`{}`", path.display()), error }
            }
            other => Self::Unsafe { folder, why: other.to_string() },
        }
    }

    /// The same of a store that is being opened.
    pub(crate) fn of_store(folder: &Path, error: StoreError) -> Self {
        let folder = folder.to_owned();
        match error {
            StoreError::DiskFull { error, .. } => Self::DiskFull { folder, error },
            StoreError::Damaged { path, what } => Self::Damaged { folder, file: path, what },
            StoreError::Io { path, error } => {
                Self::Io { folder, what: format!("`{}`", path.display()), error }
            }
            StoreError::Version { found, known, .. } => Self::Version { folder, found, known },
            StoreError::Unsafe(why) => Self::Unsafe { folder, why },
            other @ (StoreError::NoModule { .. } | StoreError::Record { .. }) => {
                Self::Io { folder, what: other.to_string(), error: io::ErrorKind::InvalidData.into() }
            }
        }
    }
}

/// Why something was not kept, or not found out. What was there is there still.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room. What was to be kept is kept when there is, if it is asked for again.
    #[error("the disk of `{}` is full ({error}): make room on it and try again", .path.display())]
    DiskFull { path: PathBuf, error: io::Error },
    /// The system says no.
    #[error("`{}`: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    /// A file is not as it was written.
    #[error("`{}` is damaged: {what}; put back a copy of it", .path.display())]
    Damaged { path: PathBuf, what: String },
    /// A server of another version wrote it.
    #[error("`{}` has format {found}, and this server knows format {known}", .path.display())]
    Version { path: PathBuf, found: u64, known: u64 },
    /// Somebody else could change it.
    #[error("not safe to use: {0}")]
    Unsafe(String),
    /// A version is to be kept whose module is not there.
    #[error("there is no module {hash}: upload it first")]
    NoModule { hash: String },
    /// A record contradicts itself.
    #[error("the record of app `{app}` can not be kept: {what}")]
    Record { app: String, what: String },
}

impl StoreError {
    /// A failure of the system with a file.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            _ if is_full(&error) => Self::DiskFull { path, error },
            // What the database says of a file that is too short, and of one that is none of its.
            io::ErrorKind::UnexpectedEof => Self::Damaged { path, what: "it was cut short".to_owned() },
            io::ErrorKind::InvalidData => Self::Damaged { path, what: error.to_string() },
            _ => Self::Io { path, error },
        }
    }

    /// What the database says.
    pub(crate) fn database(path: &Path, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::io(path, error),
            redb::Error::UpgradeRequired(found) => {
                Self::Version { path: path.to_owned(), found: found.into(), known: DATABASE_FORMAT }
            }
            redb::Error::Corrupted(what) => Self::Damaged { path: path.to_owned(), what },
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
                Self::Io { path: path.to_owned(), error: io::Error::other("it failed before") }
            }
            other => Self::Damaged { path: path.to_owned(), what: other.to_string() },
        }
    }

    /// True if there was no room.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }
}

/// The database's own format of files.
const DATABASE_FORMAT: u64 = 3;

impl From<FolderError> for StoreError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Io { path, error } => Self::io(&path, error),
            other => Self::Unsafe(other.to_string()),
        }
    }
}

/// Why a module was not taken in. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("the module has more than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    /// The one who sends it failed.
    #[error("the module did not come whole: {0}")]
    Read(io::Error),
    #[error("the disk of `{}` is full ({error}): make room on it and try again", .path.display())]
    DiskFull { path: PathBuf, error: io::Error },
    #[error("the module can not be kept: `{}`: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl From<FolderError> for ReceiveError {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Io { path, error } if is_full(&error) => Self::DiskFull { path, error },
            FolderError::Io { path, error } => Self::Io { path, error },
            other => Self::Io { path: other.path().to_owned(), error: io::Error::other(other.to_string()) },
        }
    }
}

/// True if there was no room: on the disk, in the user's quota of it, or below the process's limit on files.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
