//! Unix sockets in the file system: how a path is claimed, and how it is given up.
//!
//! It knows neither who listens there nor for what. Invariants: a path is taken over only from a server that is gone, and removed
//! only if what it names is still what was made here or [owned](SocketFile::own); a socket that is its owner's alone is so from
//! the first moment there is one.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Whoever the process's umask lets.
    Anybody,
    /// Nobody but this process's user.
    OwnerAlone,
}

/// Listens at `path`. A file that nobody listens at any more is replaced.
///
/// # Errors
/// Somebody listens there, it is another kind of file, or the system says no.
pub(crate) fn claim(path: &Path, backlog: i32, admits: Admits) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    if admits == Admits::OwnerAlone {
        // The file is made with the mode of the socket: there is no moment at which others could open it.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    }
    let addr = SockAddr::unix(path)?;
    if let Err(error) = socket.bind(&addr) {
        if error.kind() != io::ErrorKind::AddrInUse || !is_left_behind(path) {
            return Err(error);
        }
        fs::remove_file(path)?;
        socket.bind(&addr)?;
    }
    // As long as it does not listen, nobody can connect whatever the file's mode is.
    if admits == Admits::OwnerAlone && fs::symlink_metadata(path)?.mode() & 0o077 != 0 {
        let _ = fs::remove_file(path);
        let message = "the file system does not keep the socket to its owner";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    socket.listen(backlog)?;
    Ok(OwnedFd::from(socket).into())
}

/// A socket of a server that is gone.
fn is_left_behind(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a socket. Dropping it removes the file, if it is ours to remove and still the same.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode. None: it could not be looked at, or is not ours to remove.
    ours: Option<(u64, u64)>,
}

impl SocketFile {
    /// Somebody else's, as yet.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, ours: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the path names now is ours to remove, unless something was before.
    pub(crate) fn own(&mut self) {
        if self.ours.is_none() {
            self.ours = identity(&self.path);
        }
    }

    /// It is another's again.
    pub(crate) fn disown(&mut self) {
        self.ours = None;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // By now the path may be another server's.
        if self.ours.is_some() && identity(&self.path) == self.ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Which file a path names: device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else_is() {
        for admits in [Admits::Anybody, Admits::OwnerAlone] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("s");
            // A server that was killed leaves the file and no socket.
            drop(UnixListener::bind(&path).unwrap());
            let live = claim(&path, 16, admits).unwrap();
            assert_eq!(claim(&path, 16, admits).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(live);
            fs::remove_file(&path).unwrap();
            fs::write(&path, b"a file of someone's").unwrap();
            assert_eq!(claim(&path, 16, admits).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            assert_eq!(fs::read(&path).unwrap(), b"a file of someone's");
        }
    }

    #[test]
    fn an_owners_socket_is_its_alone_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _live = claim(&path, 16, Admits::OwnerAlone).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o077, 0);
    }

    #[test]
    fn a_file_goes_only_if_it_is_ours_and_still_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        drop(SocketFile::at(path.clone()));
        assert!(path.exists(), "nobody said that it is ours");
        let mut disowned = SocketFile::at(path.clone());
        disowned.own();
        disowned.disown();
        drop(disowned);
        assert!(path.exists(), "it is another's again");
        let mut old = SocketFile::at(path.clone());
        old.own();
        // The old file stays, so that its inode is not given to the new one.
        fs::rename(&path, dir.path().join("old")).unwrap();
        let _new = UnixListener::bind(&path).unwrap();
        // What was ours is not exchanged for what is there now.
        old.own();
        drop(old);
        UnixStream::connect(&path).unwrap();
        let mut last = SocketFile::at(path.clone());
        last.own();
        drop(last);
        assert!(!path.exists());
    }
}
