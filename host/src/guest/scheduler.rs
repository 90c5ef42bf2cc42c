//! Whose turn it is: weighted fair queueing between apps, and short before long within one.
//!
//! Every app has a virtual time that moves on by the CPU time it used, divided by its weight; the app furthest behind
//! runs next. An app that had nothing to run takes up where the others are: idling earns no credit.
//!
//! Within an app, what has just come or has waited for something goes before what has used up a slice, though not
//! always, so that both move on. Of the long ones, the first keeps its turn for several slices: guests that compute end
//! one after the other rather than all at once, so that fewer of them hold memory at the same time.
//!
//! An app can be held: then it keeps its queue, and has no turn until it is released. Nobody else notices.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::clock::Nanos;

/// An app's number, dense and small.
pub(crate) type AppId = u32;

/// Virtual time is kept in nanoseconds times this, so that heavy weights do not round to nothing.
const SCALE: u64 = 64;

/// Short ones that may run in a row while long ones wait.
const SHORT_STREAK_MAX: u32 = 4;

/// Where something joins its app's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// It has just come, or has waited for something.
    Short,
    /// It has used up a slice and keeps its turn.
    LongFirst,
    /// It has used up a slice and lets other long ones go before.
    LongLast,
}

#[derive(Debug)]
struct Queue<T> {
    short: VecDeque<T>,
    long: VecDeque<T>,
    short_streak: u32,
    virtual_time: u64,
    weight: u32,
    /// True while the app is in the order.
    ordered: bool,
    /// True while it is to have no turn.
    held: bool,
    /// The one that left last was a long one.
    popped_long: bool,
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self {
            short: VecDeque::new(),
            long: VecDeque::new(),
            short_streak: 0,
            virtual_time: 0,
            weight: 1,
            ordered: false,
            held: false,
            popped_long: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.short.is_empty() && self.long.is_empty()
    }

    fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }

    fn long_is_next(&self) -> bool {
        self.short.is_empty() || (self.short_streak >= SHORT_STREAK_MAX && !self.long.is_empty())
    }

    fn peek(&self) -> Option<&T> {
        if self.long_is_next() { self.long.front() } else { self.short.front() }
    }

    fn pop(&mut self) -> Option<T> {
        self.popped_long = self.long_is_next();
        if self.popped_long {
            self.short_streak = 0;
            self.long.pop_front()
        } else {
            self.short_streak = self.short_streak.saturating_add(1);
            self.short.pop_front()
        }
    }
}

/// A worker's run queue.
#[derive(Debug)]
pub(crate) struct Scheduler<T> {
    apps: Vec<Queue<T>>,
    /// Apps that have something ready, the one furthest behind first. An app is in here at most once.
    order: BinaryHeap<Reverse<(u64, AppId)>>,
    /// Virtual time of the app that ran last.
    now: u64,
    ready: usize,
}

impl<T> Scheduler<T> {
    pub(crate) fn new() -> Self {
        Self { apps: Vec::new(), order: BinaryHeap::new(), now: 0, ready: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready == 0
    }

    /// Something of `app` is ready to run.
    pub(crate) fn push(&mut self, app: AppId, weight: u32, item: T, join: Join) {
        let index = app as usize;
        while self.apps.len() <= index {
            self.apps.push(Queue::new());
        }
        let queue = &mut self.apps[index];
        queue.weight = weight.max(1);
        queue.virtual_time = queue.virtual_time.max(self.now);
        match join {
            Join::Short => queue.short.push_back(item),
            Join::LongFirst => queue.long.push_front(item),
            Join::LongLast => queue.long.push_back(item),
        }
        self.ready += usize::from(!queue.held);
        self.enter(app);
    }

    /// Something of `app` that has just been popped is to wait, and all else that the app has: it has no turn until
    /// [`Self::release`].
    pub(crate) fn hold(&mut self, app: AppId, item: T) {
        if let Some(queue) = self.apps.get_mut(app as usize) {
            self.ready -= if queue.held { 0 } else { queue.len() };
            queue.held = true;
            if queue.popped_long { queue.long.push_front(item) } else { queue.short.push_front(item) }
        }
    }

    /// `app` has its turns again. It has earned nothing meanwhile.
    pub(crate) fn release(&mut self, app: AppId) {
        let Some(queue) = self.apps.get_mut(app as usize).filter(|queue| queue.held) else { return };
        queue.held = false;
        queue.virtual_time = queue.virtual_time.max(self.now);
        self.ready += queue.len();
        self.enter(app);
    }

    /// How much of `app` is ready to run, held or not.
    pub(crate) fn ready_of(&self, app: AppId) -> usize {
        self.apps.get(app as usize).map_or(0, Queue::len)
    }

    fn enter(&mut self, app: AppId) {
        if let Some(queue) = self.apps.get_mut(app as usize)
            && !queue.ordered
            && !queue.held
            && !queue.is_empty()
        {
            queue.ordered = true;
            self.order.push(Reverse((queue.virtual_time, app)));
        }
    }

    /// What most likely runs next.
    pub(crate) fn peek(&self) -> Option<T>
    where
        T: Copy,
    {
        let Reverse((_, app)) = self.order.peek()?;
        self.apps.get(*app as usize)?.peek().copied()
    }

    /// What runs next, and whose it is. [`Self::charge`] follows.
    pub(crate) fn pop(&mut self) -> Option<(AppId, T)> {
        while let Some(Reverse((at, app))) = self.order.pop() {
            let Some(queue) = self.apps.get_mut(app as usize) else { continue };
            queue.ordered = false;
            if at < queue.virtual_time {
                // It has been charged since it was put here.
                self.enter(app);
                continue;
            }
            let Some(item) = queue.pop() else { continue };
            self.now = self.now.max(queue.virtual_time);
            self.ready -= 1;
            return Some((app, item));
        }
        None
    }

    /// `app`, whose turn it was, has used `cpu`.
    pub(crate) fn charge(&mut self, app: AppId, cpu: Nanos) {
        if let Some(queue) = self.apps.get_mut(app as usize) {
            queue.virtual_time += cpu.saturating_mul(SCALE) / u64::from(queue.weight);
            self.enter(app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MS;

    #[test]
    fn weights_divide_the_time() {
        let mut s = Scheduler::new();
        for _ in 0..50 {
            s.push(0, 1, 'a', Join::Short);
            s.push(1, 3, 'b', Join::Short);
        }
        let mut ran = [0, 0];
        for _ in 0..40 {
            let (app, item) = s.pop().unwrap();
            ran[app as usize] += 1;
            s.charge(app, MS);
            s.push(app, if app == 0 { 1 } else { 3 }, item, Join::Short);
        }
        assert_eq!(ran, [10, 30]);
    }

    #[test]
    fn an_app_that_idled_runs_next_but_has_no_credit() {
        let mut s = Scheduler::new();
        for _ in 0..1000 {
            s.push(0, 1, 'a', Join::Short);
            let (app, _) = s.pop().unwrap();
            s.charge(app, MS);
        }
        let mut order = Vec::new();
        for _ in 0..10 {
            s.push(0, 1, 'a', Join::Short);
            s.push(1, 1, 'b', Join::Short);
        }
        for _ in 0..10 {
            let (app, item) = s.pop().unwrap();
            s.charge(app, MS);
            order.push(item);
        }
        assert!(order[..2].contains(&'b'), "{order:?}");
        let b = order.iter().filter(|c| **c == 'b').count();
        assert!((4..=6).contains(&b), "{order:?}");
    }

    #[test]
    fn within_an_app_it_is_first_come_first_served() {
        let mut s = Scheduler::new();
        for i in 0..5 {
            s.push(7, 1, i, Join::Short);
        }
        let order: Vec<_> = std::iter::from_fn(|| {
            let (app, i) = s.pop()?;
            s.charge(app, 0);
            Some(i)
        })
        .collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
        assert!(s.is_empty());
    }

    #[test]
    fn short_ones_go_first_and_long_ones_move_on() {
        let mut s = Scheduler::new();
        for _ in 0..20 {
            s.push(0, 1, "short", Join::Short);
        }
        s.push(0, 1, "long", Join::LongLast);
        let order: Vec<_> = (0..10)
            .filter_map(|_| {
                let (app, item) = s.pop()?;
                s.charge(app, 0);
                if item == "long" {
                    s.push(0, 1, item, Join::LongLast);
                }
                Some(item)
            })
            .collect();
        assert_eq!(order[..4], ["short"; 4]);
        assert_eq!(order.iter().filter(|item| **item == "long").count(), 2, "{order:?}");
    }

    #[test]
    fn a_held_app_keeps_its_queue_and_has_no_turn() {
        let mut s = Scheduler::new();
        for (app, items) in [(0, ["a", "b"]), (1, ["x", "y"])] {
            for item in items {
                s.push(app, 1, item, Join::Short);
            }
        }
        s.push(0, 1, "long", Join::LongLast);
        let (app, item) = s.pop().unwrap();
        assert_eq!((app, item), (0, "a"));
        s.hold(app, item);
        s.charge(app, 0);
        s.push(0, 1, "c", Join::Short);
        assert_eq!((s.ready_of(0), s.ready_of(1), s.ready_of(9)), (4, 2, 0));
        for expected in ["x", "y"] {
            assert!(!s.is_empty());
            let (app, item) = s.pop().unwrap();
            assert_eq!(item, expected);
            s.charge(app, MS);
        }
        assert!(s.is_empty() && s.pop().is_none() && s.peek().is_none());
        s.release(1);
        s.release(0);
        s.release(0);
        s.push(1, 1, "z", Join::Short);
        let order: Vec<_> = std::iter::from_fn(|| {
            let (app, item) = s.pop()?;
            s.charge(app, MS);
            Some(item)
        })
        .collect();
        assert_eq!(order, ["a", "b", "z", "c", "long"], "nothing was earned by waiting");
        assert!(s.is_empty());
    }

    #[test]
    fn what_is_held_goes_back_to_where_it_was() {
        let mut s = Scheduler::new();
        for item in ["a", "b"] {
            s.push(0, 1, item, Join::LongLast);
        }
        for _ in 0..3 {
            let (app, item) = s.pop().unwrap();
            assert_eq!(item, "a");
            s.hold(app, item);
            s.charge(app, 0);
            assert!(s.is_empty());
            s.release(0);
        }
        s.push(0, 1, "short", Join::Short);
        assert_eq!(s.pop(), Some((0, "short")));
    }

    #[test]
    fn a_long_one_keeps_its_turn_until_it_gives_it_up() {
        let mut s = Scheduler::new();
        s.push(0, 1, 'a', Join::LongLast);
        s.push(0, 1, 'b', Join::LongLast);
        for (expected, join) in
            [('a', Join::LongFirst), ('a', Join::LongLast), ('b', Join::LongFirst), ('b', Join::LongLast)]
        {
            let (app, item) = s.pop().unwrap();
            s.charge(app, MS);
            assert_eq!(item, expected);
            s.push(0, 1, item, join);
        }
    }
}
