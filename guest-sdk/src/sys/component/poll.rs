//! Waiting, on `wasi:io/poll`.

use tidegate_abi::poll::{ERROR, Entry, READABLE};
use wasip2::clocks::monotonic_clock;
use wasip2::io::poll::Pollable;

use super::resource::{self, DIRECTIONS, Now, Resource};
use super::{CALL, Call};

/// Waits that long; for ever, if it is negative.
pub(super) fn sleep(timeout_ns: i64) {
    let timeout_ns = u64::try_from(timeout_ns).unwrap_or(u64::MAX);
    if timeout_ns > 0 {
        monotonic_clock::subscribe_duration(timeout_ns).block();
    }
}

/// A direction of an entry that the host has to be asked about.
struct Question {
    entry: usize,
    interest: u16,
    now: Now,
}

/// As the import `poll`, for at least one entry.
pub(super) fn poll(entries: &mut [Entry], timeout_ns: i64) -> i32 {
    // Only who waits looks at the clock.
    let until_ns = u64::try_from(timeout_ns).ok().filter(|ns| *ns > 0);
    let until_ns = until_ns.map(|ns| monotonic_clock::now().saturating_add(ns));
    loop {
        let mut questions = Vec::with_capacity(entries.len());
        let mut ready = 0;
        for (at, entry) in entries.iter_mut().enumerate() {
            entry.ready = 0;
            prepare(at, entry, &mut questions);
            ready += i32::from(entry.ready != 0);
        }
        if timeout_ns != 0 {
            // What was written must not wait for its writer.
            CALL.with_borrow_mut(|call| call.iter_mut().for_each(|call| call.outgoing.flush()));
            resource::flush();
        }
        let wait = ready == 0 && timeout_ns != 0;
        let (fired, is_over) = CALL.with_borrow(|call| {
            resource::with_all(|others| {
                let pollables: Vec<Option<&Pollable>> =
                    questions.iter().map(|question| find(call.as_ref(), others, entries, question)).collect();
                if wait { block(&pollables, until_ns) } else { (look(&pollables), true) }
            })
        });
        for (question, fired) in questions.iter().zip(fired) {
            let entry = &mut entries[question.entry];
            let is_ready = fired
                && (question.now == Now::Waits
                    || resource::advance(entry.handle, question.interest) == Now::Ready);
            if is_ready {
                ready += i32::from(entry.ready == 0);
                entry.ready |= question.interest;
            }
        }
        if ready > 0 || is_over {
            return ready;
        }
    }
}

/// Says what of an entry is known, and asks about the rest.
fn prepare(at: usize, entry: &mut Entry, questions: &mut Vec<Question>) {
    for interest in DIRECTIONS.into_iter().filter(|interest| entry.interest & interest != 0) {
        let now = if resource::is_ours(entry.handle) {
            resource::advance(entry.handle, interest)
        } else {
            CALL.with_borrow_mut(|call| call.as_mut().and_then(|call| call.advance(entry.handle, interest)))
                .unwrap_or_else(|| {
                    // Of an earlier call: whoever uses it hears so at once.
                    entry.ready |= ERROR;
                    Now::Ready
                })
        };
        if now == Now::Ready {
            entry.ready |= interest;
        } else {
            questions.push(Question { entry: at, interest, now });
        }
    }
}

impl Call {
    /// As [`Resource::advance`], for the two bodies; `None` for what is neither, and for a direction that a body does
    /// not have.
    fn advance(&mut self, handle: u32, interest: u16) -> Option<Now> {
        if handle == self.handles.request_body {
            if interest != READABLE {
                return Some(Now::Waits);
            }
            self.incoming.subscribe(&self.request);
            let is_known = self.incoming.is_known();
            Some(if is_known { Now::Ready } else { Now::Waits })
        } else if handle == self.handles.response_body {
            if interest == READABLE {
                return Some(Now::Waits);
            }
            self.outgoing.subscribe();
            Some(if self.outgoing.is_known() { Now::Ready } else { Now::Waits })
        } else {
            None
        }
    }

    fn pollable(&self, handle: u32, interest: u16) -> Option<&Pollable> {
        match interest {
            READABLE if handle == self.handles.request_body => self.incoming.pollable(),
            READABLE => None,
            _ if handle == self.handles.response_body => self.outgoing.pollable(),
            _ => None,
        }
    }
}

fn find<'a>(
    call: Option<&'a Call>,
    others: &'a [(u32, Box<dyn Resource>)],
    entries: &[Entry],
    question: &Question,
) -> Option<&'a Pollable> {
    let handle = entries[question.entry].handle;
    if resource::is_ours(handle) {
        let (_, resource) = others.iter().find(|(other, _)| *other == handle)?;
        resource.pollable(question.interest)
    } else {
        call?.pollable(handle, question.interest)
    }
}

/// Which of them are ready now.
fn look(pollables: &[Option<&Pollable>]) -> Vec<bool> {
    pollables.iter().map(|pollable| pollable.is_some_and(Pollable::ready)).collect()
}

/// Waits until one of them is ready, or the time is over. Says which are, and whether it is over.
fn block(pollables: &[Option<&Pollable>], until_ns: Option<u64>) -> (Vec<bool>, bool) {
    let timer = until_ns.map(monotonic_clock::subscribe_instant);
    let all: Vec<&Pollable> = pollables.iter().copied().flatten().chain(&timer).collect();
    match all[..] {
        [] => return (vec![false; pollables.len()], true),
        [only] => {
            only.block();
            return (pollables.iter().map(Option::is_some).collect(), timer.is_some());
        }
        _ => {}
    }
    let fired = wasip2::io::poll::poll(&all);
    let mut at = 0;
    let which = pollables.iter().map(|pollable| {
        let here = at;
        at += u32::from(pollable.is_some());
        pollable.is_some() && fired.contains(&here)
    });
    let which: Vec<bool> = which.collect();
    (which, timer.is_some() && fired.contains(&at))
}
