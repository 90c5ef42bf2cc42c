//! Reading an app's log: its last lines, and then what comes.
//!
//! The writer hands out its files and their lengths at the moment from which it tells of every line, so that none is read
//! twice or missed. Whoever reads too slowly loses lines, and is told how many.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use memchr::memchr_iter;

use super::lock;
use super::record::note;

/// Bytes of lines that wait for a reader.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Bytes of earlier lines that are read.
const EARLIER_BYTES_MAX: usize = 8 << 20;
/// Files are read backwards, so many bytes at a time.
const BLOCK_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    bytes: usize,
    lost: u64,
    ended: bool,
}

/// Where the writer puts lines for one reader.
#[derive(Debug, Default)]
pub(super) struct Follower {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl Follower {
    /// Adds lines, or counts them as lost.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut waiting = lock(&self.waiting);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if waiting.lost > 0 || waiting.bytes + line.len() > WAITING_BYTES_MAX {
                waiting.lost += 1;
                continue;
            }
            waiting.bytes += line.len();
            waiting.lines.push_back(String::from_utf8_lossy(line).into_owned());
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// No more will come.
    pub(super) fn end(&self) {
        lock(&self.waiting).ended = true;
        self.filled.notify_one();
    }
}

/// What a log has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// A line, without its end: a JSON object.
    Line(String),
    /// Nothing for now.
    Quiet,
    /// Nothing any more: the app is gone, or the server ends.
    Ended,
}

/// Reads one app's log.
#[derive(Debug)]
pub(crate) struct LogReader {
    earlier: VecDeque<String>,
    /// The end of what was there is still to be told.
    pause: bool,
    follower: Arc<Follower>,
}

impl LogReader {
    /// # Errors
    /// A file can not be read.
    pub(super) fn new(follower: Arc<Follower>, files: &[(File, u64)], lines: usize) -> io::Result<Self> {
        Ok(Self { earlier: last_lines(files, lines)?, pause: true, follower })
    }

    /// What comes next, waited for no longer than `patience`. The lines that were there come first; asked without
    /// patience, it is quiet behind the last of them, whatever has come since.
    pub(crate) fn next(&mut self, patience: Duration) -> Logged {
        if let Some(line) = self.earlier.pop_front() {
            return Logged::Line(line);
        }
        if std::mem::take(&mut self.pause) && patience.is_zero() {
            return Logged::Quiet;
        }
        let nothing = |waiting: &mut Waiting| waiting.lines.is_empty() && waiting.lost == 0 && !waiting.ended;
        let waited = self.follower.filled.wait_timeout_while(lock(&self.follower.waiting), patience, nothing);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = waiting.lines.pop_front() {
            waiting.bytes -= line.len();
            return Logged::Line(line);
        }
        let lost = std::mem::take(&mut waiting.lost);
        if lost > 0 {
            let mut line = Vec::new();
            note(&mut line, &format!("{lost} lines are left out here: they came faster than they were read"));
            return Logged::Line(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        if waiting.ended { Logged::Ended } else { Logged::Quiet }
    }
}

/// The last lines of files, of which the newest comes first.
fn last_lines(files: &[(File, u64)], count: usize) -> io::Result<VecDeque<String>> {
    let mut lines = VecDeque::new();
    let mut bytes = 0;
    for (file, length) in files {
        let text = tail(file, *length, count - lines.len(), EARLIER_BYTES_MAX - bytes)?;
        bytes += text.len();
        let own = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let own: Vec<String> = own.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        let surplus = (lines.len() + own.len()).saturating_sub(count);
        own.into_iter().skip(surplus).rev().for_each(|line| lines.push_front(line));
        if lines.len() >= count || bytes >= EARLIER_BYTES_MAX {
            break;
        }
    }
    Ok(lines)
}

/// The end of a file, with so many lines at least if it has them, and whole ones.
fn tail(file: &File, length: u64, lines: usize, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut blocks: VecDeque<Vec<u8>> = VecDeque::new();
    let (mut at, mut bytes, mut breaks) = (length, 0, 0);
    // The last break ends the last line; the one before the first line wanted says where that begins.
    while at > 0 && breaks <= lines && bytes < bytes_max {
        let size = BLOCK_BYTES.min(usize::try_from(at).unwrap_or(BLOCK_BYTES)).min(bytes_max - bytes);
        at -= size as u64;
        let mut block = vec![0; size];
        file.read_exact_at(&mut block, at)?;
        breaks += memchr_iter(b'\n', &block).count();
        bytes += size;
        blocks.push_front(block);
    }
    let text: Vec<u8> = Vec::from(blocks).concat();
    let begin = if at > 0 {
        text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1)
    } else {
        0
    };
    Ok(text.get(begin..).unwrap_or_default().to_vec())
}
