//! The files of the apps' logs: opened when there is something to write, a few at a time, and put aside when they have
//! grown.
//!
//! Everything is reached through the folder's descriptor, which was ours alone to write to when it was opened. Nothing
//! follows a link, and nothing but a plain file of ours is written to.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tidegate_store::ours::{self, FILE_MODE};

use super::Rotation;

/// Files that are open at once.
pub(super) const OPEN_MAX: usize = 64;
/// How often an open file is looked at: somebody may have removed it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A file that is written.
#[derive(Debug)]
struct Open {
    app: Box<str>,
    file: File,
    bytes: u64,
    /// What was written last ends in the middle of a line.
    torn: bool,
    used: u64,
    looked: Instant,
}

/// The folder, and what is open of it.
#[derive(Debug)]
pub(super) struct Files {
    folder: OwnedFd,
    /// For messages alone.
    path: PathBuf,
    rotation: Rotation,
    open: Vec<Open>,
    uses: u64,
}

impl Files {
    /// # Errors
    /// The folder can not be made or opened, or others may write to it.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let folder = ours::open_folder(path)?;
        Ok(Self { folder, path: path.to_owned(), rotation, open: Vec::new(), uses: 0 })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.path
    }

    /// Bytes that the app's file still takes before it is put aside.
    ///
    /// # Errors
    /// It can not be opened.
    pub(super) fn room(&mut self, app: &str) -> io::Result<u64> {
        let bytes_max = self.rotation.bytes_max;
        Ok(bytes_max.saturating_sub(self.get(app)?.bytes))
    }

    /// Writes whole lines to the app's file. What is not written as a whole is taken back.
    ///
    /// # Errors
    /// The disk is full, say. Nothing of `lines` is in the file then, as far as that can be seen to.
    pub(super) fn write(&mut self, app: &str, lines: &[u8]) -> io::Result<()> {
        let open = self.get(app)?;
        if open.torn {
            open.file.write_all(b"\n")?;
            open.bytes += 1;
            open.torn = false;
        }
        match open.file.write_all(lines) {
            Ok(()) => {
                open.bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                open.torn = open.file.set_len(open.bytes).is_err();
                Err(error)
            }
        }
    }

    /// Puts the app's file aside, behind which the older ones move on and the oldest goes. One that is empty stays.
    ///
    /// # Errors
    /// It can not be renamed: then it goes on growing.
    pub(super) fn rotate(&mut self, app: &str) -> io::Result<()> {
        if self.get(app)?.bytes == 0 {
            return Ok(());
        }
        self.close(app);
        let files = self.rotation.files;
        // Those that were kept when more were.
        for number in files.saturating_add(1).. {
            if self.remove(&older(app, number)).is_err() {
                break;
            }
        }
        for number in (1..files).rev() {
            match rustix::fs::renameat(&self.folder, older(app, number), &self.folder, older(app, number + 1))
            {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if files == 0 {
            return self.remove(&current(app));
        }
        Ok(rustix::fs::renameat(&self.folder, current(app), &self.folder, older(app, 1))?)
    }

    /// The app's files as they are now, for reading: the newest first, each with its length.
    pub(super) fn read(&self, app: &str) -> Vec<(File, u64)> {
        let names = std::iter::once(current(app)).chain((1..=self.rotation.files).map(|n| older(app, n)));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut files = Vec::new();
        for name in names {
            let Ok(fd) = rustix::fs::openat(&self.folder, &name, flags, Mode::empty()) else {
                // There may be no current file right after the others have moved on.
                if files.is_empty() && name == current(app) { continue } else { break }
            };
            match rustix::fs::fstat(&fd).map_err(io::Error::from).and_then(|stat| check(&stat)) {
                Ok(bytes) => files.push((fd.into(), bytes)),
                Err(_) => break,
            }
        }
        files
    }

    /// Removes all of the app's files.
    pub(super) fn forget(&mut self, app: &str) {
        self.close(app);
        // One that is missing says nothing of those behind it: somebody may have removed it.
        let gone = self.remove(&current(app));
        let mut misses = u32::from(gone.is_err());
        for number in 1.. {
            let removed = self.remove(&older(app, number)).is_ok();
            misses = if removed { 0 } else { misses + 1 };
            if misses > self.rotation.files.max(1) {
                break;
            }
        }
    }

    /// Closes all files: each is opened anew when it is written to.
    pub(super) fn close_all(&mut self) {
        self.open.clear();
    }

    /// Files that are open.
    #[cfg(test)]
    pub(super) fn opened(&self) -> usize {
        self.open.len()
    }

    fn close(&mut self, app: &str) {
        self.open.retain(|open| *open.app != *app);
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())?)
    }

    /// The app's file, opened if it is not.
    fn get(&mut self, app: &str) -> io::Result<&mut Open> {
        self.uses += 1;
        let uses = self.uses;
        let found = self.open.iter().position(|open| *open.app == *app);
        let at = match found.filter(|at| self.open.get_mut(*at).is_some_and(Open::is_there)) {
            Some(at) => at,
            None => {
                self.close(app);
                if self.open.len() >= OPEN_MAX
                    && let Some(oldest) = (0..self.open.len()).min_by_key(|at| self.open[*at].used)
                {
                    self.open.swap_remove(oldest);
                }
                self.open.push(self.open_file(app)?);
                self.open.len() - 1
            }
        };
        let open = &mut self.open[at];
        open.used = uses;
        Ok(open)
    }

    fn open_file(&self, app: &str) -> io::Result<Open> {
        // Without NONBLOCK a pipe of that name would be waited for.
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.folder, current(app), flags, FILE_MODE)?;
        let bytes = check(&rustix::fs::fstat(&fd)?)?;
        let file = File::from(fd);
        let mut last = [b'\n'];
        if bytes > 0 {
            file.read_exact_at(&mut last, bytes - 1)?;
        }
        let (torn, looked) = (last != *b"\n", Instant::now());
        Ok(Open { app: app.into(), file, bytes, torn, used: 0, looked })
    }
}

impl Open {
    /// False once the file has no name any more. Looks now and then.
    fn is_there(&mut self) -> bool {
        if self.looked.elapsed() < LOOK_INTERVAL {
            return true;
        }
        self.looked = Instant::now();
        let stat = rustix::fs::fstat(&self.file);
        if let Ok(stat) = &stat {
            // Somebody may have cut it short.
            self.bytes = u64::try_from(stat.st_size).unwrap_or(0);
        }
        stat.is_ok_and(|stat| stat.st_nlink > 0)
    }
}

/// The file that is written.
fn current(app: &str) -> String {
    format!("{app}.log")
}

fn older(app: &str, number: u32) -> String {
    format!("{app}.log.{number}")
}

/// Refuses whatever is no plain file of ours, under one name. Gives its length.
fn check(stat: &Stat) -> io::Result<u64> {
    let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !plain || stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_nlink > 1 {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "it is not a plain file of this server's user",
        ));
    }
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}
