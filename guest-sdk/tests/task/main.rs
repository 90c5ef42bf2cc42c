//! The executor, its timers, and the ways to combine futures, against the clock of the host in memory.

mod spawn;

use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, pending, poll_fn, ready};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tidegate_sdk::task::{self, Either, block_on};
use tidegate_sdk::test::{Answer, Exchange};
use tidegate_sdk::{Request, Result, now};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs `future` and says how long that took, on the host's clock.
fn timed<F: Future>(future: F) -> (F::Output, Duration) {
    let start = now();
    let output = block_on(future);
    (output, now() - start)
}

fn polls(answer: &Answer) -> usize {
    answer.calls.iter().filter(|call| **call == "poll").count()
}

/// Tells when it is dropped.
struct Dropped<'a>(&'a Cell<u32>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A channel as another crate might have it: it knows nothing but wakers.
struct Channel<T>(Rc<RefCell<(VecDeque<T>, Option<Waker>)>>);

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Channel<T> {
    fn new() -> Self {
        Self(Rc::new(RefCell::new((VecDeque::new(), None))))
    }

    fn send(&self, value: T) {
        let mut inner = self.0.borrow_mut();
        inner.0.push_back(value);
        let waker = inner.1.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn receive(&self) -> T {
        poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            match inner.0.pop_front() {
                Some(value) => Poll::Ready(value),
                None => {
                    inner.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

#[test]
fn what_is_ready_needs_no_host() {
    let answer = Exchange::get("/").run(async |_: Request| "hi");
    assert_eq!((answer.text(), &answer.calls[..]), ("hi", &["respond"][..]));
}

#[test]
fn joined_futures_take_turns() {
    let order = RefCell::new(String::new());
    let walk = async |name: char| {
        for _ in 0..3 {
            order.borrow_mut().push(name);
            task::yield_now().await;
        }
        name
    };
    assert_eq!(block_on(task::join3(walk('a'), walk('b'), walk('c'))), ('a', 'b', 'c'));
    assert_eq!(order.take(), "abcabcabc");
    assert_eq!(block_on(task::join_all("abc".chars().map(&walk))), ['a', 'b', 'c']);
    assert_eq!(order.take(), "abcabcabc");
}

#[test]
fn waits_overlap() {
    let (_, took) = timed(task::join(task::sleep(ms(30)), task::sleep(ms(20))));
    assert_eq!(took, ms(30));
    let (_, took) = timed(task::join_all((1..=100).map(|n| task::sleep(ms(n)))));
    assert_eq!(took, ms(100));
}

#[test]
fn the_first_error_ends_a_try_join() {
    let dropped = Cell::new(0);
    let slow = async {
        let _dropped = Dropped(&dropped);
        task::sleep(ms(50)).await;
        Ok::<_, &str>(1)
    };
    let failing = async {
        task::sleep(ms(10)).await;
        Err::<(), _>("no")
    };
    assert_eq!(timed(task::try_join(slow, failing)), (Err("no"), ms(10)));
    assert_eq!(dropped.get(), 1);

    assert_eq!(block_on(task::try_join(ready(Ok::<_, ()>(1)), ready(Ok(2)))), Ok((1, 2)));
    let all = |bad: u64| {
        let one = |n: u64| async move {
            task::sleep(ms(n)).await;
            if n == bad { Err(n) } else { Ok(n * 2) }
        };
        timed(task::try_join_all([30, 10, 20].map(one)))
    };
    assert_eq!(all(20), (Err(20), ms(20)));
    assert_eq!(all(0), (Ok(vec![60, 20, 40]), ms(30)));
    assert_eq!(block_on(task::try_join_all(Vec::<std::future::Ready<Result<(), ()>>>::new())), Ok(vec![]));
}

#[test]
fn select_drops_the_loser_and_keeps_the_time() {
    let dropped = Cell::new(0);
    let slow = async {
        let _dropped = Dropped(&dropped);
        task::sleep(ms(50)).await;
    };
    let (winner, took) = timed(task::select(slow, async {
        task::sleep(ms(10)).await;
        "fast"
    }));
    assert_eq!((winner, took, dropped.get()), (Either::Right("fast"), ms(10), 1));
    assert_eq!(Either::<i32, i32>::Left(1).into_inner(), 1);

    // By reference, it is not dropped and goes on.
    let (total, took) = timed(async {
        let mut slow = pin!(task::sleep(ms(50)));
        for _ in 0..3 {
            assert_eq!(task::select(&mut slow, task::sleep(ms(10))).await, Either::Right(()));
        }
        slow.await;
    });
    assert_eq!((total, took), ((), ms(50)));
}

#[test]
fn neither_side_of_a_select_starves_the_other() {
    let mut lefts = 0;
    for _ in 0..10 {
        lefts += u32::from(block_on(task::select(ready(()), ready(()))) == Either::Left(()));
    }
    assert_eq!(lefts, 5);
}

#[test]
fn a_race_has_one_winner_and_the_others_are_dropped() {
    let dropped = Cell::new(0);
    let runner = |n: u64| {
        let dropped = &dropped;
        async move {
            let _dropped = Dropped(dropped);
            task::sleep(ms(n)).await;
            n
        }
    };
    assert_eq!(timed(task::race([40, 10, 30].map(runner))), (10, ms(10)));
    assert_eq!(dropped.get(), 3);
}

#[test]
#[should_panic(expected = "has no first")]
fn a_race_of_nobody_is_a_mistake() {
    block_on(task::race(Vec::<std::future::Ready<()>>::new()));
}

#[test]
fn a_timeout_of_an_hour_is_tested_at_once() {
    let start = Instant::now();
    let (result, took) = timed(task::timeout(ms(3_600_000), pending::<()>()));
    assert_eq!(took, ms(3_600_000));
    assert_eq!(result.unwrap_err().to_string(), "not done within 3600s");
    assert!(start.elapsed() < Duration::from_secs(60), "no real hour passes");

    assert_eq!(timed(task::timeout(ms(20), task::sleep(ms(10)))), (Ok(()), ms(10)));
    // No time at all is still enough for what is ready.
    assert_eq!(block_on(task::timeout(Duration::ZERO, ready(1))), Ok(1));
    assert!(block_on(task::timeout(Duration::ZERO, pending::<()>())).is_err());
    // `?` makes a response of it.
    let answer = Exchange::get("/")
        .run(async |_: Request| -> Result<&'static str> { Ok(task::timeout(ms(5), pending()).await?) });
    answer.assert_status(500);
}

#[test]
fn sleeping_until_a_time_that_is_past_does_not_wait() {
    let (_, took) = timed(async {
        let start = now();
        task::sleep_until(start + ms(5)).await;
        task::sleep_until(start + ms(3)).await;
        task::sleep(Duration::ZERO).await;
        assert_eq!(now() - start, ms(5));
        task::sleep(Duration::from_secs(u32::MAX.into())).await;
    });
    assert!(took > Duration::from_secs(u32::MAX.into()));
}

#[test]
fn an_interval_keeps_its_rhythm_and_leaves_out_what_was_missed() {
    block_on(async {
        let start = now();
        let mut ticks = task::interval(ms(10));
        let mut due = Vec::new();
        for work in [0, 3, 7, 25, 0, 0] {
            due.push((ticks.tick().await - start).as_millis());
            task::sleep(ms(work)).await;
        }
        assert_eq!(due, [0, 10, 20, 30, 40, 60]);
        // A tick that nobody waited for to its end is not lost.
        assert!(task::timeout(ms(4), ticks.tick()).await.is_err());
        assert_eq!(ticks.tick().await - start, ms(70));
    });
}

#[test]
#[should_panic(expected = "tick for ever")]
fn an_interval_of_no_time_is_a_mistake() {
    let _ticks = task::interval(Duration::ZERO);
}

#[test]
fn wakers_of_other_crates_work() {
    let (sum, took) = timed(async {
        let channel = Channel::new();
        let sender = channel.clone();
        let send = async move {
            for i in 1..=4 {
                task::sleep(ms(10)).await;
                sender.send(i);
            }
        };
        let receive = async {
            let mut sum = 0;
            for _ in 0..4 {
                sum += channel.receive().await;
            }
            sum
        };
        task::join(send, receive).await.1
    });
    assert_eq!((sum, took), (10, ms(40)));
}

#[test]
fn a_waker_may_be_used_up_on_another_thread() {
    let woken = Arc::new((AtomicBool::new(false), Mutex::new(None::<Waker>)));
    let theirs = Arc::clone(&woken);
    block_on(poll_fn(|cx| {
        if woken.0.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        *woken.1.lock().unwrap() = Some(cx.waker().clone());
        let theirs = Arc::clone(&theirs);
        let thread = std::thread::spawn(move || {
            theirs.0.store(true, Ordering::Release);
            theirs.1.lock().unwrap().take().unwrap().wake();
        });
        thread.join().unwrap();
        Poll::Pending
    }));
}

#[test]
#[should_panic(expected = "waits for something that can never happen")]
fn waiting_for_nothing_is_found_out() {
    block_on(pending::<()>());
}

#[test]
#[should_panic(expected = "waits for something that can never happen")]
fn waiting_for_oneself_is_found_out() {
    let channel = Channel::<()>::new();
    block_on(async {
        // The sender's turn would come when this is over.
        let send = async { channel.send(()) };
        task::join(async { block_on(channel.receive()) }, send).await;
    });
}

#[test]
fn after_a_panic_the_next_handler_starts_afresh() {
    for _ in 0..2 {
        let result = std::panic::catch_unwind(|| {
            block_on(async {
                task::spawn(pending::<()>());
                task::sleep(ms(1)).await;
                panic!("on purpose");
            })
        });
        assert!(result.is_err());
        assert_eq!(timed(task::sleep(ms(7))).1, ms(7));
    }
}

#[test]
fn a_blocking_piece_may_run_an_executor_of_its_own() {
    let seen = RefCell::new(Vec::new());
    let (_, took) = timed(async {
        let background = task::spawn(async {
            task::sleep(ms(15)).await;
            "task"
        });
        let outer = async {
            task::sleep(ms(10)).await;
            seen.borrow_mut().push("outer");
        };
        let inner = async {
            task::sleep(ms(5)).await;
            // The outer future stands still meanwhile, the task does not.
            block_on(async {
                task::sleep(ms(20)).await;
                seen.borrow_mut().push("inner");
            });
            assert!(background.is_finished());
            let output = background.await;
            seen.borrow_mut().push(output);
        };
        task::join(outer, inner).await;
    });
    assert_eq!(seen.take(), ["inner", "task", "outer"]);
    assert_eq!(took, ms(25));
}

#[test]
fn only_who_was_woken_is_polled() {
    const N: usize = 1_000;
    let count = Cell::new(0);
    let channels: Vec<Channel<()>> = (0..N).map(|_| Channel::new()).collect();
    let children = channels.iter().map(|channel| {
        let mut receive = Box::pin(channel.receive());
        let count = &count;
        poll_fn(move |cx| {
            count.set(count.get() + 1);
            receive.as_mut().poll(cx)
        })
    });
    let send = async {
        for channel in channels.iter().rev() {
            task::yield_now().await;
            channel.send(());
        }
    };
    block_on(task::join(task::join_all(children), send));
    assert_eq!(count.get(), 2 * N);
}

/// Reads a body that is all there, a byte at a time, beside somebody who counts turns.
#[test]
fn a_body_that_is_always_ready_lets_others_run() {
    let answer = Exchange::post("/").chunk(vec![0; 10_000]).run(async |mut request: Request| {
        let read = Cell::new(0_usize);
        let reading = async {
            while request.body().read_async(&mut [0; 1]).await? > 0 {
                read.set(read.get() + 1);
            }
            Ok::<_, tidegate_sdk::Error>(())
        };
        let watching = async {
            let (mut last, mut most) = (0, 0);
            while last < 10_000 {
                task::yield_now().await;
                most = most.max(read.get() - last);
                last = read.get();
            }
            most
        };
        let (done, most) = task::join(reading, watching).await;
        done.map(|()| most.to_string())
    });
    let most: usize = answer.assert_status(200).text().parse().unwrap();
    assert!((1..=64).contains(&most), "{most} reads in a row");
}

#[test]
fn a_timer_is_seen_by_those_who_never_wait() {
    let spun = Cell::new(0_u64);
    let spin = async {
        loop {
            spun.set(spun.get() + 1);
            task::yield_now().await;
        }
    };
    assert!(matches!(block_on(task::select(spin, task::sleep(ms(1)))), Either::Right(())));
    assert!(spun.get() > 100);
}

#[test]
fn nobody_is_asked_twice_while_nothing_happens() {
    let answer = Exchange::get("/").run(async |_: Request| {
        let ticks = async {
            let mut ticks = task::interval(ms(10));
            for _ in 0..5 {
                ticks.tick().await;
            }
        };
        task::join(ticks, task::sleep(ms(25))).await;
        "done"
    });
    // At 0 (when the first tick is due), 10, 20, 25, 30 and 40 ms.
    assert_eq!(polls(answer.assert_status(200)), 6);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sleepers_wake_in_order_and_results_keep_theirs(delays in prop::collection::vec(0_u64..50, 1..60)) {
        let woken = RefCell::new(Vec::new());
        let start = now();
        let outputs = block_on(task::join_all(delays.iter().copied().enumerate().map(|(i, delay)| {
            let woken = &woken;
            async move {
                task::sleep(ms(delay)).await;
                woken.borrow_mut().push((delay, (now() - start).as_millis()));
                i
            }
        })));
        prop_assert_eq!(outputs, (0..delays.len()).collect::<Vec<_>>());
        let woken = woken.into_inner();
        let mut sorted = delays.clone();
        sorted.sort_unstable();
        prop_assert_eq!(woken.iter().map(|(delay, _)| *delay).collect::<Vec<_>>(), sorted);
        prop_assert!(woken.iter().all(|(delay, at)| u128::from(*delay) == *at));
    }

    #[test]
    fn tasks_in_any_order_all_run(steps in prop::collection::vec((0_u64..20, 0_usize..4, any::<bool>()), 1..40)) {
        // Each waits, yields, and may be aborted half-way: who is not, is done in time.
        let done = Rc::new(RefCell::new(Vec::new()));
        let expected: Vec<usize> =
            steps.iter().enumerate().filter(|(_, (_, _, aborted))| !aborted).map(|(i, _)| i).collect();
        block_on(async {
            let mut handles = Vec::new();
            for (i, (delay, yields, aborted)) in steps.into_iter().enumerate() {
                let done = Rc::clone(&done);
                let handle = task::spawn(async move {
                    task::sleep(ms(delay)).await;
                    for _ in 0..yields {
                        task::yield_now().await;
                    }
                    task::sleep(ms(25)).await;
                    done.borrow_mut().push(i);
                });
                handles.push((handle, aborted));
            }
            task::sleep(ms(22)).await;
            let mut left = Vec::new();
            for (handle, aborted) in handles {
                if aborted {
                    handle.abort();
                } else {
                    left.push(handle);
                }
            }
            task::join_all(left).await;
        });
        let mut done = done.take();
        done.sort_unstable();
        prop_assert_eq!(done, expected);
    }
}
