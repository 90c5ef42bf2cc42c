//! Who did what, one line of JSON each, on the disk before it is answered.
//!
//! A line that a crash cut off is followed by whole ones, and passed over when the file is read. The file is replaced when
//! it is large; the one before is kept. Refusals of one actor that come without end are summed ([`refusals`]); a crash takes
//! what was not told of them along.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::StoreError;
use crate::folder::{Access, Folder};

mod refusals;

use refusals::Refusals;

const NAME: &str = "audit.log";
/// The one before.
const OLD_NAME: &str = "audit.log.1";
/// A file that is this large is replaced.
const BYTES_MAX: u64 = 10 << 20;
/// Bytes that are read at once, from the end.
const BLOCK_BYTES: u64 = 64 * 1024;
/// Lines that are read at most.
const LINES_MAX: usize = 100_000;

/// What somebody did, or was not let.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Who.
    pub by: String,
    /// What: `deploy`, `rollback`, ...
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// It was done.
    pub ok: bool,
    /// More about it; if it was not done, why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Audit {
    folder: Arc<Folder>,
    bytes_max: u64,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    /// None: it is opened with the next record.
    file: Option<File>,
    refusals: Refusals,
}

impl Audit {
    pub(crate) fn new(folder: &Arc<Folder>) -> Self {
        Self { folder: Arc::clone(folder), bytes_max: BYTES_MAX, written: Mutex::default() }
    }

    /// Adds a record of what somebody did; a refusal may be counted instead. `whose` is who it counts for.
    pub(crate) fn append(&self, whose: &str, record: &AuditRecord) -> Result<(), StoreError> {
        self.append_at(whose, record, Instant::now())
    }

    /// The same for a refusal that stands for several.
    pub(crate) fn append_times(
        &self,
        whose: &str,
        times: u64,
        record: &AuditRecord,
    ) -> Result<(), StoreError> {
        self.add(whose, times, record, Instant::now())
    }

    fn append_at(&self, whose: &str, record: &AuditRecord, now: Instant) -> Result<(), StoreError> {
        self.add(whose, 1, record, now)
    }

    fn add(&self, whose: &str, times: u64, record: &AuditRecord, now: Instant) -> Result<(), StoreError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if !record.ok && !written.refusals.may_tell(whose, times, record, now) {
            return Ok(());
        }
        let mut before = written.refusals.take_old(now);
        before.extend(written.refusals.take_due(whose, now));
        for sum in &before {
            // They are in the server's log, each. What was done must have its record all the same.
            let _ = self.write(&mut written.file, sum);
        }
        if times > 1 {
            return self.write(&mut written.file, &refusals::repeated(times, record.clone()));
        }
        self.write(&mut written.file, record)
    }

    /// Tells what was counted.
    fn tell_sums(&self) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for sum in written.refusals.take(None) {
            let _ = self.write(&mut written.file, &sum);
        }
    }

    fn write(&self, kept: &mut Option<File>, record: &AuditRecord) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::from(self.folder.error(NAME, error));
        let mut line = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        // Put back when all went well.
        let (mut file, mut len) = self.current(kept.take())?;
        if len > 0 && len + line.len() as u64 > self.bytes_max {
            self.folder.rename(NAME, OLD_NAME)?;
            (file, len) = self.current(None)?;
        }
        if let Err(error) = write(&file, len, &line) {
            // A part of it would be a line that says something else.
            let _ = file.set_len(len);
            return Err(failed(error));
        }
        *kept = Some(file);
        Ok(())
    }

    /// The file and its length. Whoever moved it away meanwhile has it, and a new one begins.
    fn current(&self, file: Option<File>) -> Result<(File, u64), StoreError> {
        let error = |error: io::Error| StoreError::from(self.folder.error(NAME, error));
        let file = match file.filter(|file| self.folder.leads_to(NAME, file)) {
            Some(file) => file,
            None => {
                let made = self.folder.open_file(NAME, Access::Make)?;
                self.folder.sync()?;
                made.ok_or_else(|| error(io::ErrorKind::NotFound.into()))?
            }
        };
        let len = file.metadata().map_err(error)?.len();
        Ok((file, len))
    }

    /// The last records, oldest first.
    pub(crate) fn tail(&self, lines: usize) -> Result<Vec<Value>, StoreError> {
        self.tell_sums();
        let lines = lines.min(LINES_MAX);
        let mut newest_first = Vec::new();
        for name in [NAME, OLD_NAME] {
            if newest_first.len() >= lines {
                break;
            }
            if let Some(file) = self.folder.open_file(name, Access::Read)? {
                read_back(&file, lines, &mut newest_first).map_err(|error| self.folder.error(name, error))?;
            }
        }
        newest_first.truncate(lines);
        newest_first.reverse();
        Ok(newest_first)
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.tell_sums();
    }
}

/// Appends a line behind `len` bytes, and ends the one before if a crash did not.
fn write(file: &File, len: u64, line: &[u8]) -> io::Result<()> {
    let mut at = len;
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    if last != [b'\n'] {
        file.write_all_at(b"\n", at)?;
        at += 1;
    }
    file.write_all_at(line, at)?;
    file.sync_data()
}

/// Reads a file from its end until there are `lines` records.
fn read_back(file: &File, lines: usize, newest_first: &mut Vec<Value>) -> io::Result<()> {
    let mut at = file.metadata()?.len();
    // The front of a line that goes on in what was read before.
    let mut rest = Vec::new();
    while at > 0 && newest_first.len() < lines {
        let wanted = at.min(BLOCK_BYTES);
        at -= wanted;
        let mut block = vec![0; usize::try_from(wanted).unwrap_or(0)];
        file.read_exact_at(&mut block, at)?;
        block.append(&mut rest);
        let mut parts = block.split(|byte| *byte == b'\n');
        // The first may begin before this block.
        let first = if at > 0 { parts.next().unwrap_or_default() } else { &[] };
        for part in parts.rev() {
            newest_first.extend(serde_json::from_slice::<Value>(part).ok().filter(Value::is_object));
        }
        rest = first.to_vec();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
