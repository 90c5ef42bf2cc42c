//! The access log: a line a request.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};

use crate::config::{LogFormat, LogTarget};

/// What is known of a request when it is over.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    pub(crate) time: String,
    pub(crate) id: &'a str,
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
    writer: NonBlocking,
    format: LogFormat,
}

/// The time now, as the log writes it (RFC 3339, milliseconds, UTC).
pub(crate) fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

impl AccessLog {
    /// Opens the log. The guard writes what is left when it is dropped.
    ///
    /// # Errors
    /// The file can not be opened for appending.
    pub(crate) fn open(target: &LogTarget, format: LogFormat) -> io::Result<(Self, WorkerGuard)> {
        let (writer, guard) = match target {
            LogTarget::Stdout => tracing_appender::non_blocking(io::stdout()),
            LogTarget::File(path) => {
                tracing_appender::non_blocking(OpenOptions::new().create(true).append(true).open(path)?)
            }
        };
        Ok((Self { writer, format }, guard))
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
        // A full queue counts the line as dropped; nothing else can fail here.
        let _ = self.writer.clone().write_all(&line);
    }
}

fn text(r: &Record<'_>, line: &mut Vec<u8>) {
    // Methods and targets are visible ASCII by the time they get here, ids and app names likewise.
    let _ = write!(
        line,
        "{} {} {} {} \"{} {}\" {} in={} out={} queue={}us cpu={}us wall={}us {}",
        r.time,
        r.id,
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
            id: "r-1",
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
        assert_eq!(json["status"], 200);
    }
}
