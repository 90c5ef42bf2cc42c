//! Whose turn it is: weighted fair queueing between apps, first come first served within one.
//!
//! Every app has a virtual time that moves on by the CPU time it used, divided by its weight; the app furthest behind
//! runs next. An app that had nothing to run takes up where the others are: idling earns no credit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::clock::Nanos;

/// An app's number, dense and small.
pub(crate) type AppId = u32;

/// Virtual time is kept in nanoseconds times this, so that heavy weights do not round to nothing.
const SCALE: u64 = 64;

#[derive(Debug)]
struct Queue<T> {
    ready: VecDeque<T>,
    virtual_time: u64,
    weight: u32,
    /// True while the app is in the order.
    ordered: bool,
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
    pub(crate) fn push(&mut self, app: AppId, weight: u32, item: T) {
        let index = app as usize;
        while self.apps.len() <= index {
            self.apps.push(Queue { ready: VecDeque::new(), virtual_time: 0, weight: 1, ordered: false });
        }
        let queue = &mut self.apps[index];
        queue.weight = weight.max(1);
        queue.virtual_time = queue.virtual_time.max(self.now);
        queue.ready.push_back(item);
        self.ready += 1;
        self.enter(app);
    }

    fn enter(&mut self, app: AppId) {
        if let Some(queue) = self.apps.get_mut(app as usize)
            && !queue.ordered
            && !queue.ready.is_empty()
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
        self.apps.get(*app as usize)?.ready.front().copied()
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
            let Some(item) = queue.ready.pop_front() else { continue };
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
            s.push(0, 1, 'a');
            s.push(1, 3, 'b');
        }
        let mut ran = [0, 0];
        for _ in 0..40 {
            let (app, item) = s.pop().unwrap();
            ran[app as usize] += 1;
            s.charge(app, MS);
            s.push(app, if app == 0 { 1 } else { 3 }, item);
        }
        assert_eq!(ran, [10, 30]);
    }

    #[test]
    fn an_app_that_idled_runs_next_but_has_no_credit() {
        let mut s = Scheduler::new();
        for _ in 0..1000 {
            s.push(0, 1, 'a');
            let (app, _) = s.pop().unwrap();
            s.charge(app, MS);
        }
        let mut order = Vec::new();
        for _ in 0..10 {
            s.push(0, 1, 'a');
            s.push(1, 1, 'b');
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
            s.push(7, 1, i);
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
}
