//! Waking a parked guest from another thread.
//!
//! What a guest waits for of its request is known to its worker, which wakes it itself; but work that another thread does
//! for it, as with files, ends on that thread, and its sockets are woken one by one. Such a guest has an [`Alarm`]. It marks
//! itself and puts its name into the queue of the worker's [`Bell`], and the first in an empty queue wakes the loop, if it
//! comes from another thread; the worker empties the queue once a turn, and looks at it before it waits.
//!
//! Invariant: an alarm that goes off while its guest is polled is not queued. It is told to whoever polls, so that what
//! wakes its own poll (a slice that is over does) costs no call to the system.

use std::mem;
use std::sync::atomic::{
    AtomicBool, AtomicU8,
    Ordering::{AcqRel, Acquire, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};

/// Nobody has woken it since it was polled.
const QUIET: u8 = 0;
/// It is polled now.
const POLLED: u8 = 1;
/// It was woken while it is polled.
const NOTED: u8 = 2;
/// It is in the queue.
const QUEUED: u8 = 3;

/// Where a worker hears of guests that were woken.
pub(crate) struct Bell<T> {
    queue: Mutex<Vec<T>>,
    /// The queue is not empty; so that a look at a quiet bell takes no lock.
    rung: AtomicBool,
    /// The worker's thread, known once it has looked for the first time.
    home: OnceLock<ThreadId>,
    wake_loop: Box<dyn Fn() + Send + Sync>,
}

impl<T> Bell<T> {
    /// `wake_loop` makes the worker take another turn, from any thread.
    pub(crate) fn new(wake_loop: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let wake_loop = Box::new(wake_loop);
        let (queue, rung, home) = (Mutex::default(), AtomicBool::new(false), OnceLock::new());
        Arc::new(Self { queue, rung, home, wake_loop })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, whom: T) {
        let mut queue = self.lock();
        let first = queue.is_empty();
        queue.push(whom);
        self.rung.store(true, Release);
        drop(queue);
        // The worker itself looks before it waits for anything.
        if first && self.home.get() != Some(&thread::current().id()) {
            (self.wake_loop)();
        }
    }

    /// True if somebody was woken since the worker has looked.
    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Acquire)
    }

    /// Puts who was woken since the last time into `woken`, in place of what is there.
    pub(crate) fn take(&self, woken: &mut Vec<T>) {
        self.home.get_or_init(|| thread::current().id());
        woken.clear();
        if self.rung.load(Acquire) {
            let mut queue = self.lock();
            mem::swap(&mut *queue, woken);
            self.rung.store(false, Release);
        }
    }
}

struct Signal<T> {
    bell: Arc<Bell<T>>,
    whom: T,
    state: AtomicU8,
}

impl<T: Copy + Send + Sync> Wake for Signal<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let next = |state| match state {
            QUIET => Some(QUEUED),
            POLLED => Some(NOTED),
            _ => None,
        };
        if self.state.fetch_update(AcqRel, Acquire, next) == Ok(QUIET) {
            self.bell.ring(self.whom);
        }
    }
}

/// Wakes one guest for as long as its call lasts. What is left of it elsewhere after that rings for nobody.
pub(crate) struct Alarm<T> {
    signal: Arc<Signal<T>>,
    waker: Waker,
}

impl<T: Copy + Send + Sync + 'static> Alarm<T> {
    pub(crate) fn new(bell: &Arc<Bell<T>>, whom: T) -> Self {
        let signal = Arc::new(Signal { bell: Arc::clone(bell), whom, state: AtomicU8::new(QUIET) });
        Self { waker: Waker::from(Arc::clone(&signal)), signal }
    }

    /// Polls the guest. Beside what came of it: whether it was woken meanwhile, and so is to be polled again.
    pub(crate) fn during<R>(&self, poll: impl FnOnce(&Waker) -> R) -> (R, bool) {
        // One that stands in the queue is polled once more than it needs to be.
        self.signal.state.store(POLLED, Release);
        let result = poll(&self.waker);
        (result, self.signal.state.swap(QUIET, AcqRel) == NOTED)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A bell, and how often it woke the loop.
    fn bell() -> (Arc<Bell<u32>>, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let bell = Bell::new(move || {
            counted.fetch_add(1, Relaxed);
        });
        (bell, wakes)
    }

    fn woken(bell: &Bell<u32>) -> Vec<u32> {
        let mut woken = vec![99];
        bell.take(&mut woken);
        woken
    }

    #[test]
    fn a_wake_during_the_poll_costs_no_call_and_is_told() {
        let (bell, wakes) = bell();
        let alarm = Alarm::new(&bell, 1);
        let ((), again) = alarm.during(|waker| {
            waker.wake_by_ref();
            waker.wake_by_ref();
        });
        assert!(again);
        assert_eq!((woken(&bell), wakes.load(Relaxed)), (vec![], 0));
        assert!(!alarm.during(|_| ()).1, "it was told once");
    }

    #[test]
    fn a_wake_after_the_poll_queues_once_and_wakes_the_loop_once() {
        let (bell, wakes) = bell();
        let (one, two) = (Alarm::new(&bell, 1), Alarm::new(&bell, 2));
        let (waker, again) = one.during(Waker::clone);
        assert!(!again);
        waker.wake_by_ref();
        waker.wake();
        two.during(Waker::clone).0.wake();
        assert_eq!(wakes.load(Relaxed), 1, "the second finds the loop on its way");
        assert_eq!(woken(&bell), [1, 2]);
        assert!(woken(&bell).is_empty());
        // Once polled, it can be woken again.
        let waker = one.during(Waker::clone).0;
        thread::spawn(|| waker.wake()).join().unwrap();
        assert_eq!((woken(&bell), wakes.load(Relaxed)), (vec![1], 2));
    }

    #[test]
    fn the_worker_itself_wakes_without_a_call() {
        let (bell, wakes) = bell();
        let (one, two) = (Alarm::new(&bell, 1), Alarm::new(&bell, 2));
        assert!(woken(&bell).is_empty() && !bell.is_rung());
        one.during(Waker::clone).0.wake();
        assert!(bell.is_rung(), "which it looks at before it waits");
        // Whoever comes meanwhile need not wake it either.
        let waker = two.during(Waker::clone).0;
        thread::spawn(|| waker.wake()).join().unwrap();
        assert_eq!(wakes.load(Relaxed), 0);
        assert_eq!(woken(&bell), [1, 2]);
        assert!(!bell.is_rung());
    }

    #[test]
    fn a_guest_that_is_polled_before_the_queue_was_emptied_can_be_woken_again() {
        let (bell, _) = bell();
        let alarm = Alarm::new(&bell, 1);
        let waker = alarm.during(Waker::clone).0;
        waker.wake_by_ref();
        assert!(!alarm.during(|_| ()).1);
        waker.wake_by_ref();
        assert_eq!(woken(&bell), [1, 1]);
    }

    #[test]
    fn a_waker_outlives_its_alarm() {
        let (bell, wakes) = bell();
        let waker = Alarm::new(&bell, 7).during(Waker::clone).0;
        waker.wake();
        assert_eq!((woken(&bell), wakes.load(Relaxed)), (vec![7], 1), "whose slot is stale by then");
    }

    /// However the threads meet: work that is over is always heard of.
    #[test]
    fn no_wake_is_lost_between_threads() {
        const ROUNDS: usize = 20_000;
        let (rang, turns) = mpsc::channel();
        let bell = Bell::new(move || {
            let _ = rang.send(());
        });
        let alarm = Alarm::new(&bell, 1_u32);
        let finished = Arc::new(AtomicUsize::new(0));
        let (give, take) = mpsc::sync_channel::<Waker>(1);
        let count = Arc::clone(&finished);
        let other = thread::spawn(move || {
            for waker in take {
                count.fetch_add(1, Release);
                waker.wake();
            }
        });
        let mut woken = Vec::new();
        for round in 0..ROUNDS {
            let mut begun = false;
            loop {
                let (done, again) = alarm.during(|waker| {
                    if !mem::replace(&mut begun, true) {
                        give.send(waker.clone()).unwrap();
                    }
                    finished.load(Acquire) > round
                });
                if done {
                    break;
                }
                bell.take(&mut woken);
                while woken.is_empty() && !again {
                    turns.recv_timeout(Duration::from_secs(30)).expect("a wake that was not lost");
                    bell.take(&mut woken);
                }
            }
        }
        drop(give);
        other.join().unwrap();
    }
}
