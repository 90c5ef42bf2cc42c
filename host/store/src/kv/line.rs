//! Requests that wait for a thread, in turn for each space: one that asks for a lot stands in nobody's way but its own.
//!
//! How many may wait is for those to bound who ask. Invariant: within a space they come out in the order they went in.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Request;

#[derive(Default)]
struct State {
    spaces: HashMap<Arc<str>, VecDeque<Request>>,
    /// Spaces with requests, the next in front.
    turns: VecDeque<Arc<str>>,
    closed: bool,
}

/// What comes out of a line.
pub(super) enum Taken {
    Batch(Vec<Request>),
    /// Nothing waits.
    Nothing,
    /// Nothing waits, and nothing will come.
    Closed,
}

#[derive(Default)]
pub(super) struct Line {
    state: Mutex<State>,
    ready: Condvar,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that comes after the end is dropped.
    pub(super) fn push(&self, request: Request) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return drop(request);
        }
        let name = Arc::clone(&request.space.name);
        match state.spaces.get_mut(&name) {
            Some(waiting) => waiting.push_back(request),
            None => {
                state.spaces.insert(Arc::clone(&name), VecDeque::from([request]));
                state.turns.push_back(name);
            }
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Nothing more goes in; what waits comes out still.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// Nothing more goes in, and what waits is dropped.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let (waiting, _) = (mem::take(&mut state.spaces), mem::take(&mut state.turns));
        drop(state);
        drop(waiting);
    }

    /// Takes up to `requests` and not many more than `bytes`, one of each space in turn. If nothing is there it waits, or
    /// says so.
    pub(super) fn take(&self, wait: bool, requests: usize, bytes: usize) -> Taken {
        let mut state = self.lock();
        while state.turns.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            if !wait {
                return Taken::Nothing;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut batch, mut taken) = (Vec::new(), 0);
        while batch.len() < requests && taken < bytes {
            let Some(name) = state.turns.pop_front() else { break };
            let Some(waiting) = state.spaces.get_mut(&name) else { continue };
            if let Some(request) = waiting.pop_front() {
                taken += request.operation.bytes();
                batch.push(request);
            }
            if waiting.is_empty() {
                state.spaces.remove(&name);
            } else {
                state.turns.push_back(name);
            }
        }
        Taken::Batch(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Key, Operation, Quota, Space};
    use super::*;

    fn request(space: &str, key: &str) -> Request {
        let quota = Quota { keys: 1, bytes: 1 };
        Request {
            space: Arc::new(Space { name: space.into(), owner: "".into(), quota }),
            pool: None,
            operation: Operation::Get(Key::new(key).unwrap()),
            reply: Box::new(|_| ()),
        }
    }

    fn taken(line: &Line, requests: usize, bytes: usize) -> Vec<String> {
        let Taken::Batch(batch) = line.take(false, requests, bytes) else { return Vec::new() };
        let name = |request: Request| match request.operation {
            Operation::Get(key) => format!("{}/{}", request.space.name, &*key),
            _ => unreachable!("nothing else was put in"),
        };
        batch.into_iter().map(name).collect()
    }

    #[test]
    fn spaces_take_turns_and_keep_their_order() {
        let line = Line::default();
        for key in ["1", "2", "3", "4"] {
            line.push(request("busy", key));
        }
        line.push(request("other", "1"));
        assert_eq!(taken(&line, 3, 1000), ["busy/1", "other/1", "busy/2"]);
        line.push(request("other", "2"));
        assert_eq!(taken(&line, 3, 1000), ["busy/3", "other/2", "busy/4"]);
        assert!(matches!(line.take(false, 3, 1000), Taken::Nothing));
    }

    #[test]
    fn a_batch_ends_where_it_is_large_enough() {
        let line = Line::default();
        for key in ["four", "more", "last"] {
            line.push(request("a", key));
        }
        assert_eq!(taken(&line, 9, 8), ["a/four", "a/more"]);
        assert_eq!(taken(&line, 9, 1), ["a/last"]);
    }

    #[test]
    fn after_the_end_what_waits_comes_out_and_nothing_goes_in() {
        let line = Line::default();
        line.push(request("a", "1"));
        line.close();
        line.push(request("a", "2"));
        assert_eq!(taken(&line, 9, 1000), ["a/1"]);
        assert!(matches!(line.take(true, 9, 1000), Taken::Closed));
    }
}
