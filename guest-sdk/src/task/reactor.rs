//! What futures wait for: handles and points of time, each with the waker of who waits.
//!
//! A registration is used up by firing, so that a handle that stays ready wakes its future once and not for ever. A
//! future that is polled again sees by its absence that it fired. Each handle and direction has one owner in the SDK
//! (`&mut RequestBody`, `&mut BodyWriter`), hence at most one future that waits for it.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tidegate_abi::poll::{ENTRIES_MAX, Entry, FOREVER};

use super::coop;
use crate::sys::{self, Waits, check};
use crate::time::{NEVER_NS, WaitLimit, left_ns};

/// How long the host is asked about one part of the handles when there are more than one call takes, in nanoseconds.
const PART_NS: i64 = 5_000_000;

/// Handle and interest.
type Interest = (u32, u16);

/// When, in nanoseconds of the host's clock, and a number that keeps equal times apart.
pub(super) type TimerKey = (u64, u64);

/// Wakers by key, the least key last: what is due first is taken at no cost, and what a handler waits for at once is
/// little enough to be moved. A tree does no better, and is half of what the executor adds to a module.
struct Wakers<K>(Vec<(K, Waker)>);

impl<K: Ord> Wakers<K> {
    const fn new() -> Self {
        Self(Vec::new())
    }

    /// Where `key` stands, or belongs.
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| key.cmp(other))
    }

    /// Registers, in place of who did under that key before.
    fn insert(&mut self, key: K, waker: Waker) -> Option<Waker> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, waker)),
            Err(at) => {
                self.0.insert(at, (key, waker));
                None
            }
        }
    }

    fn remove(&mut self, key: &K) -> Option<Waker> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// Updates the waker of a registration. False if there is none, which means that it has fired.
    fn rearm(&mut self, key: &K, cx: &Context<'_>) -> bool {
        self.find(key).map(|at| self.0[at].1.clone_from(cx.waker())).is_ok()
    }
}

struct Reactor {
    waits: Wakers<Interest>,
    timers: Wakers<TimerKey>,
    next_timer: u64,
    /// Where the next long wait begins, with more handles than one call takes.
    next_part: usize,
    /// The limit on waits that everybody has been woken at. What waits since then is not under it.
    told_ns: u64,
}

thread_local! {
    static REACTOR: RefCell<Reactor> = const { RefCell::new(Reactor {
        waits: Wakers::new(),
        timers: Wakers::new(),
        next_timer: 0,
        next_part: 0,
        told_ns: NEVER_NS,
    }) };
}

/// As [`Wakers::rearm`].
fn rearm_wait(interest: Interest, cx: &Context<'_>) -> bool {
    REACTOR.with_borrow_mut(|reactor| reactor.waits.rearm(&interest, cx))
}

fn arm_wait(interest: Interest, cx: &Context<'_>) {
    // Dropping a waker may run other people's code: not under the borrow.
    let before = REACTOR.with_borrow_mut(|reactor| reactor.waits.insert(interest, cx.waker().clone()));
    drop(before);
}

/// Registers for `at_ns`.
pub(super) fn arm_timer(at_ns: u64, cx: &Context<'_>) -> TimerKey {
    REACTOR.with_borrow_mut(|reactor| {
        let key = (at_ns, reactor.next_timer);
        reactor.next_timer += 1;
        reactor.timers.insert(key, cx.waker().clone());
        key
    })
}

/// As [`Wakers::rearm`].
pub(super) fn rearm_timer(key: TimerKey, cx: &Context<'_>) -> bool {
    REACTOR.with_borrow_mut(|reactor| reactor.timers.rearm(&key, cx))
}

pub(super) fn disarm_timer(key: TimerKey) {
    let waker = REACTOR.with_borrow_mut(|reactor| reactor.timers.remove(&key));
    drop(waker);
}

/// Forgets all registrations.
pub(super) fn clear() {
    let (waits, timers) = REACTOR.with_borrow_mut(|reactor| {
        reactor.told_ns = NEVER_NS;
        (std::mem::take(&mut reactor.waits.0), std::mem::take(&mut reactor.timers.0))
    });
    drop((waits, timers));
}

/// Waits until something that is registered fires, and wakes who waited for it. It may return early, having woken nobody.
/// False if nothing is registered.
pub(super) fn wait() -> bool {
    turn(true)
}

/// Wakes whoever can go on, without waiting.
pub(super) fn look() {
    turn(false);
}

fn turn(may_wait: bool) -> bool {
    let (mut entries, first_ns, part, limit_ns) = REACTOR.with_borrow_mut(|reactor| {
        let entry = |&((handle, interest), _): &(Interest, Waker)| Entry::new(handle, interest);
        let entries: Vec<Entry> = reactor.waits.0.iter().rev().map(entry).collect();
        let part = reactor.next_part;
        reactor.next_part = part.wrapping_add(1);
        let limit_ns = Some(WaitLimit::at_ns()).filter(|&at_ns| at_ns != reactor.told_ns);
        let first_ns = reactor.timers.0.last().map(|(key, _)| key.0);
        (entries, first_ns, part, limit_ns.unwrap_or(NEVER_NS))
    });
    if entries.is_empty() && first_ns.is_none() {
        return false;
    }
    let due_ns = first_ns.unwrap_or(NEVER_NS).min(limit_ns);
    let timeout_ns = match due_ns {
        _ if !may_wait => 0,
        NEVER_NS => FOREVER,
        due_ns => left_ns(due_ns),
    };
    poll_parts(&mut entries, timeout_ns, part);
    wake(take_fired(&entries, due_ns, limit_ns));
    true
}

/// One `poll`, or several if there are more entries than one takes: all are looked at, and if none is ready one part is
/// waited for, each time another, and for a short time only.
fn poll_parts(entries: &mut [Entry], timeout_ns: i64, part: usize) {
    let poll = |entries: &mut [Entry], timeout_ns| match check("poll", sys::poll(entries, timeout_ns)) {
        Ok(ready) => ready,
        Err(error) => panic!("the host cannot wait: {error}"),
    };
    if entries.len() <= ENTRIES_MAX {
        poll(entries, timeout_ns);
        return;
    }
    let ready: usize = entries.chunks_mut(ENTRIES_MAX).map(|part| poll(part, 0)).sum();
    if ready == 0 && timeout_ns != 0 {
        let parts = entries.len().div_ceil(ENTRIES_MAX);
        let short_ns = if timeout_ns < 0 { PART_NS } else { timeout_ns.min(PART_NS) };
        if let Some(part) = entries.chunks_mut(ENTRIES_MAX).nth(part % parts) {
            poll(part, short_ns);
        }
    }
}

/// The wakers of all that is ready or due. At the limit on waits that is everybody, once: they find out for themselves.
fn take_fired(entries: &[Entry], due_ns: u64, limit_ns: u64) -> Vec<Waker> {
    let now_ns = if due_ns == NEVER_NS { 0 } else { sys::monotonic_ns() };
    let all = now_ns >= limit_ns;
    REACTOR.with_borrow_mut(|reactor| {
        if all {
            reactor.told_ns = limit_ns;
        }
        let ready = entries.iter().filter(|entry| all || entry.ready != 0);
        let mut fired: Vec<Waker> =
            ready.filter_map(|entry| reactor.waits.remove(&(entry.handle, entry.interest))).collect();
        while let Some((_, waker)) = reactor.timers.0.pop_if(|((at_ns, _), _)| all || *at_ns <= now_ns) {
            fired.push(waker);
        }
        fired
    })
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

/// Waits until `handle` is ready for `interest`, or has failed, or the limit on waits has passed.
pub(crate) fn ready(handle: u32, interest: u16) -> Ready {
    Ready { interest: (handle, interest), armed: false }
}

/// See [`ready`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub(crate) struct Ready {
    interest: Interest,
    armed: bool,
}

impl Future for Ready {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.armed {
            self.armed = rearm_wait(self.interest, cx);
            return if self.armed { Poll::Pending } else { Poll::Ready(Ok(())) };
        }
        if WaitLimit::is_over() {
            return Poll::Ready(Err(WaitLimit::error()));
        }
        arm_wait(self.interest, cx);
        self.armed = true;
        Poll::Pending
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if self.armed {
            disarm(self.interest);
        }
    }
}

fn disarm(interest: Interest) {
    let waker = REACTOR.with_borrow_mut(|reactor| reactor.waits.remove(&interest));
    drop(waker);
}

/// Gives a registration of [`poll_io`] up when the future that made it is dropped.
pub(crate) struct Disarm(pub(crate) u32, pub(crate) u16);

impl Drop for Disarm {
    fn drop(&mut self) {
        disarm((self.0, self.1));
    }
}

/// Polls `op`, an operation on `handle` that does not wait, until it gives something other than `WouldBlock`. Whoever
/// polls it is registered meanwhile, also beyond this call: see [`Disarm`].
pub(crate) fn poll_io<T>(
    handle: u32,
    interest: u16,
    cx: &Context<'_>,
    mut op: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    // Not ready since: what is waited for need not be asked.
    if rearm_wait((handle, interest), cx) || coop::proceed(cx).is_pending() {
        return Poll::Pending;
    }
    match op() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            if WaitLimit::is_over() {
                return Poll::Ready(Err(WaitLimit::error()));
            }
            arm_wait((handle, interest), cx);
            Poll::Pending
        }
        done => Poll::Ready(done),
    }
}

/// As [`sys::until`], for async code: `waiting` is what `op` waits for, kept from one poll to the next.
pub(crate) fn poll_until<T>(
    waiting: &mut Vec<Ready>,
    cx: &mut Context<'_>,
    mut op: impl FnMut(&mut Waits) -> io::Result<Option<T>>,
) -> Poll<io::Result<T>> {
    let mut waits = Waits::new();
    loop {
        let mut fired = waiting.is_empty();
        for ready in &mut *waiting {
            if let Poll::Ready(done) = Pin::new(ready).poll(cx) {
                done?;
                fired = true;
            }
        }
        if !fired {
            return Poll::Pending;
        }
        waiting.clear();
        if coop::proceed(cx).is_pending() {
            return Poll::Pending;
        }
        if let Some(done) = op(&mut waits)? {
            return Poll::Ready(Ok(done));
        }
        waiting.extend(waits.drain(..).map(|entry| ready(entry.handle, entry.interest)));
    }
}

/// See [`poll_until`].
pub(crate) async fn until<T>(mut op: impl FnMut(&mut Waits) -> io::Result<Option<T>>) -> io::Result<T> {
    let mut waiting = Vec::new();
    poll_fn(|cx| poll_until(&mut waiting, cx, &mut op)).await
}
