//! A child's output, line by line, kept in memory, and waited for on a condition variable.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines kept; a flood beyond this is counted but not stored, so that a runaway child cannot eat the test.
const LINES_MAX: usize = 200_000;

/// The lines one stream of a child has printed so far. Clones see the same lines.
#[derive(Clone, Default)]
pub struct LineLog {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    bytes: u64,
    closed: bool,
}

impl LineLog {
    /// Collects `reader` on a thread of its own until it ends. Bytes that are not UTF-8 are replaced.
    pub fn collect(reader: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        thread::spawn(move || writer.fill(BufReader::new(reader)));
        log
    }

    fn fill(&self, mut reader: impl BufRead) {
        let mut line = Vec::new();
        loop {
            line.clear();
            let ended = !matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0);
            let mut state = self.state();
            if ended {
                state.closed = true;
            } else {
                state.bytes += line.len() as u64;
                if state.lines.len() < LINES_MAX {
                    let text = String::from_utf8_lossy(&line);
                    state.lines.push(text.trim_end_matches(['\n', '\r']).to_owned());
                }
            }
            drop(state);
            self.shared.1.notify_all();
            if ended {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first line, already printed or printed within `within`, that `wanted` accepts.
    pub fn wait_for(&self, within: Duration, mut wanted: impl FnMut(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + within;
        let mut seen = 0;
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines.iter().skip(seen).find(|line| wanted(line)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return None;
            }
            let woken = self.shared.1.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// The lines so far that `wanted` accepts.
    pub fn count(&self, mut wanted: impl FnMut(&str) -> bool) -> usize {
        self.state().lines.iter().filter(|line| wanted(line)).count()
    }

    /// Bytes printed so far, also those of lines that were not kept.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// The last `n` lines, for the message of a failure.
    pub fn tail(&self, n: usize) -> String {
        let state = self.state();
        let from = state.lines.len().saturating_sub(n);
        state.lines[from..].join("\n")
    }
}
