//! A record, and the line it becomes: a JSON object.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::Log;
use crate::exchange::RequestId;
use crate::observe::guest_log::Level;

/// What a record counts for besides its text.
const RECORD_BYTES: usize = 160;

/// A record on its way to the thread.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) log: Arc<Log>,
    pub(super) at: SystemTime,
    pub(super) level: Level,
    pub(super) request: Option<RequestId>,
    /// 0: of no version.
    pub(super) version: u64,
    /// A request's failure: its code, and the status that the client was sent.
    pub(super) error: Option<(Box<str>, u16)>,
    pub(super) text: Box<str>,
}

impl Record {
    /// What it takes of the queue.
    pub(super) fn bytes(&self) -> usize {
        RECORD_BYTES + self.text.len()
    }

    /// Its line, with the break that ends it.
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        let error = self.error.as_ref();
        let request = self.request.as_ref().filter(|id| **id != RequestId::Nothing);
        write(
            line,
            &Line {
                at: humantime::format_rfc3339_millis(self.at).to_string(),
                level: self.level.word(),
                request: request.map(ToString::to_string),
                version: (self.version != 0).then_some(self.version),
                error: error.map(|(code, _)| &**code),
                status: error.map(|(_, status)| *status),
                text: &self.text,
            },
        );
    }
}

/// A line of ours, between those of the app.
pub(super) fn note(line: &mut Vec<u8>, text: &str) {
    let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let (request, version, error, status) = (None, None, None, None);
    write(line, &Line { at, level: Level::Warn.word(), request, version, error, status, text });
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    text: &'a str,
}

fn write(out: &mut Vec<u8>, line: &Line<'_>) {
    // Memory takes any number of bytes, and every key is a string.
    let _ = serde_json::to_writer(&mut *out, line);
    out.push(b'\n');
}
