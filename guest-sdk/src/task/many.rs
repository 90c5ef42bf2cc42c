//! Waiting for any number of futures of one type together.
//!
//! Each has a waker of its own, so that a turn costs as much as there are futures that were woken, not as there are
//! futures.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::coop;

/// Who was woken since the last turn, and whom to tell.
#[derive(Default)]
struct Woken {
    children: Vec<usize>,
    parent: Option<Waker>,
}

struct ChildWaker {
    index: usize,
    queued: AtomicBool,
    woken: Arc<Mutex<Woken>>,
}

fn lock(woken: &Mutex<Woken>) -> MutexGuard<'_, Woken> {
    woken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wake for ChildWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut woken = lock(&self.woken);
        woken.children.push(self.index);
        let parent = woken.parent.take();
        drop(woken);
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

struct Child<F> {
    future: Pin<Box<F>>,
    waker: Arc<ChildWaker>,
}

struct Children<F> {
    /// `None` once done.
    children: Vec<Option<Child<F>>>,
    woken: Arc<Mutex<Woken>>,
}

impl<F: Future> Children<F> {
    fn new(futures: impl IntoIterator<Item = F>) -> Self {
        let woken = Arc::new(Mutex::new(Woken::default()));
        let child = |(index, future)| {
            let waker = ChildWaker { index, queued: AtomicBool::new(true), woken: Arc::clone(&woken) };
            Some(Child { future: Box::pin(future), waker: Arc::new(waker) })
        };
        let children: Vec<_> = futures.into_iter().enumerate().map(child).collect();
        lock(&woken).children = (0..children.len()).collect();
        Self { children, woken }
    }

    /// Polls who was woken. Each output goes to `done`, which says whether to go on.
    fn turn(&mut self, cx: &Context<'_>, mut done: impl FnMut(usize, F::Output) -> bool) {
        let mut woken = lock(&self.woken);
        woken.parent = Some(cx.waker().clone());
        let indices = mem::take(&mut woken.children);
        drop(woken);
        for index in indices {
            let Some(child) = &mut self.children[index] else { continue };
            child.waker.queued.store(false, Ordering::Release);
            coop::refill();
            let waker = Waker::from(Arc::clone(&child.waker));
            if let Poll::Ready(output) = child.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.children[index] = None;
                if !done(index, output) {
                    return;
                }
            }
        }
    }
}

/// Runs any number of futures at once, until all are done. Outputs are in the futures' order.
///
/// ```
/// use tidegate_sdk::task;
///
/// let squares = task::block_on(task::join_all((1..4).map(|n| async move { n * n })));
/// assert_eq!(squares, [1, 4, 9]);
/// ```
pub async fn join_all<I>(futures: I) -> Vec<<I::Item as Future>::Output>
where
    I: IntoIterator<Item: Future>,
{
    let all = try_join_all(futures.into_iter().map(infallible)).await;
    all.unwrap_or_else(|never: std::convert::Infallible| match never {})
}

async fn infallible<F: Future>(future: F) -> Result<F::Output, std::convert::Infallible> {
    Ok(future.await)
}

/// Runs any number of futures at once, until all are done or one fails.
///
/// # Errors
/// The first error; the other futures are dropped where they wait.
///
/// ```
/// use tidegate_sdk::task;
///
/// let numbers = task::block_on(task::try_join_all(["1", "2", "x"].map(|s| async move { s.parse::<u32>() })));
/// assert!(numbers.is_err());
/// ```
pub async fn try_join_all<I, T, E>(futures: I) -> Result<Vec<T>, E>
where
    I: IntoIterator<Item: Future<Output = Result<T, E>>>,
{
    let mut children = Children::new(futures);
    let mut left = children.children.len();
    let mut outputs: Vec<Option<T>> = (0..left).map(|_| None).collect();
    let mut failed = None;
    poll_fn(|cx| {
        if left > 0 {
            children.turn(cx, |index, result| {
                left -= 1;
                match result {
                    Ok(output) => outputs[index] = Some(output),
                    Err(error) => failed = Some(error),
                }
                failed.is_none()
            });
        }
        if left == 0 || failed.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    match failed {
        Some(error) => Err(error),
        None => Ok(outputs.into_iter().flatten().collect()),
    }
}

/// Runs any number of futures at once until one is done, and drops the others where they wait.
///
/// # Panics
/// If there are none.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::task;
///
/// let first = task::block_on(task::race([30, 10, 20].map(|ms| async move {
///     task::sleep(Duration::from_millis(ms)).await;
///     ms
/// })));
/// assert_eq!(first, 10);
/// ```
pub async fn race<I>(futures: I) -> <I::Item as Future>::Output
where
    I: IntoIterator<Item: Future>,
{
    let mut children = Children::new(futures);
    assert!(!children.children.is_empty(), "a race of no futures has no first");
    poll_fn(|cx| {
        let mut first = None;
        children.turn(cx, |_, output| {
            first = Some(output);
            false
        });
        first.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
