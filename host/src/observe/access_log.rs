//! The access log: a line a request.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::sink::{FAREWELL, Sink, SinkGuard};
use crate::config::{LogFormat, LogTarget};

/// What is known of a request when it is over.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    pub(crate) time: String,
    /// The request's id, under the name it has in the server's log.
    pub(crate) request: &'a str,
    pub(crate) app: &'a str,
    pub(crate) peer: &'a str,
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    /// 0: the connection ended before there was one.
    pub(crate) status: u16,
    /// Body bytes received and sent.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Time spent waiting for admission, CPU time of the guest, and time from the head's arrival to the last byte out.
    pub(crate) queue_us: u64,
    pub(crate) cpu_us: u64,
    pub(crate) wall_us: u64,
    /// `ok`, or the word for what went wrong.
    pub(crate) outcome: &'a str,
}

/// Where the lines go. Writing never blocks: what a slow disk or terminal does not take is dropped.
#[derive(Debug)]
pub(crate) struct AccessLog {
    sink: Sink,
    format: LogFormat,
    target: LogTarget,
}

/// Writes what is left when it is dropped, for as long as a moment, and tells of what was lost.
#[derive(Debug)]
#[must_use = "the access log ends when this is dropped"]
pub(crate) struct Guard {
    sink: Sink,
    queue: SinkGuard,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.queue.finish(Instant::now() + FAREWELL);
        report(&self.sink);
    }
}

/// The time now, as the log writes it (RFC 3339, milliseconds, UTC).
pub(crate) fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

impl AccessLog {
    /// Opens the log.
    ///
    /// # Errors
    /// The file can not be opened for appending; the error names it.
    pub(crate) fn open(target: &LogTarget, format: LogFormat) -> io::Result<(Self, Guard)> {
        let file = file(target)?;
        let (sink, queue) = Sink::start(file, "access-log")?;
        Ok((Self { sink: sink.clone(), format, target: target.clone() }, Guard { sink, queue }))
    }

    /// Opens the file again by its name, which somebody may have moved away. Lines go to it from here on; none is lost.
    ///
    /// # Errors
    /// It can not be opened; then lines go where they went.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        if let LogTarget::File(_) = self.target {
            self.sink.write_to(file(&self.target)?);
        }
        Ok(())
    }

    /// Says what was lost since it was said last.
    pub(crate) fn report(&self) {
        report(&self.sink);
    }

    pub(crate) fn write(&self, record: &Record<'_>) {
        let mut line = Vec::with_capacity(256);
        match self.format {
            LogFormat::Json => {
                if serde_json::to_writer(&mut line, record).is_err() {
                    return;
                }
            }
            LogFormat::Text => text(record, &mut line),
        }
        line.push(b'\n');
        self.sink.push(&line);
    }
}

fn file(target: &LogTarget) -> io::Result<File> {
    match target {
        // A descriptor of its own: the stream's lock is for whoever prints.
        LogTarget::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        LogTarget::File(path) => {
            let named = |e: io::Error| io::Error::new(e.kind(), format!("`{}`: {e}", path.display()));
            OpenOptions::new().create(true).append(true).open(path).map_err(named)
        }
    }
}

fn report(sink: &Sink) {
    let lost = sink.lost();
    if let Some(error) = lost.failure {
        tracing::warn!(target: "tidegate", %error, "the access log can not be written: lines are lost");
    }
    if lost.records > 0 {
        tracing::warn!(target: "tidegate", dropped = lost.records, "access log lines were lost");
    }
}

fn text(r: &Record<'_>, line: &mut Vec<u8>) {
    // Methods and targets are visible ASCII by the time they get here, ids and app names likewise.
    let _ = write!(
        line,
        "{} {} {} {} \"{} {}\" {} in={} out={} queue={}us cpu={}us wall={}us {}",
        r.time,
        r.request,
        r.app,
        r.peer,
        r.method,
        r.target,
        r.status,
        r.bytes_in,
        r.bytes_out,
        r.queue_us,
        r.cpu_us,
        r.wall_us,
        r.outcome
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_in_both_formats() {
        let record = Record {
            time: timestamp(),
            request: "r-1",
            app: "hello",
            peer: "127.0.0.1:1",
            method: "GET",
            target: "/",
            status: 200,
            bytes_in: 0,
            bytes_out: 12,
            queue_us: 0,
            cpu_us: 5,
            wall_us: 9,
            outcome: "ok",
        };
        let mut line = Vec::new();
        text(&record, &mut line);
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.contains(" r-1 hello 127.0.0.1:1 \"GET /\" 200 in=0 out=12 queue=0us cpu=5us wall=9us ok")
        );
        let json: serde_json::Value = serde_json::to_value(&record).unwrap();
        assert_eq!((&json["status"], &json["request"]), (&200.into(), &"r-1".into()));
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again_and_no_line_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let (log, guard) = AccessLog::open(&LogTarget::File(path.clone()), LogFormat::Text).unwrap();
        log.sink.push(b"one\n");
        guard.queue.drain(Instant::now() + FAREWELL);
        std::fs::rename(&path, &moved).unwrap();
        log.sink.push(b"two\n");
        guard.queue.drain(Instant::now() + FAREWELL);
        log.reopen().unwrap();
        log.sink.push(b"three\n");
        drop(guard);
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_file_that_can_not_be_opened_is_named() {
        let path = "/nowhere/access.log";
        let error = AccessLog::open(&LogTarget::File(path.into()), LogFormat::Text).unwrap_err();
        assert!(error.kind() == io::ErrorKind::NotFound && error.to_string().contains(path), "{error}");
    }
}
