//! Waiting for whichever of two futures is done first, and letting others go first.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::coop;

/// One of two.
///
/// ```
/// use tidegate_sdk::task::{self, Either};
///
/// let first = task::block_on(task::select(async { 1 }, std::future::pending::<&str>()));
/// assert_eq!(first, Either::Left(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

impl<T> Either<T, T> {
    /// What it holds, if both are of one type.
    ///
    /// ```
    /// use tidegate_sdk::task;
    ///
    /// let first = task::block_on(task::select(async { 1 }, std::future::pending()));
    /// assert_eq!(first.into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            Self::Left(inner) | Self::Right(inner) => inner,
        }
    }
}

thread_local! {
    /// Whose turn it is to go first.
    static RIGHT_FIRST: Cell<bool> = const { Cell::new(false) };
}

/// Runs two futures at once until one is done, and drops the other where it waits. To go on with that one afterwards,
/// pass it by reference: `&mut future`, pinned.
///
/// Which one goes first alternates from call to call, so that in a loop neither keeps the other from ever being seen.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::task::{self, Either};
/// use tidegate_sdk::{RequestBody, Result};
///
/// /// The body's next piece, or `None` if it takes longer than a second.
/// async fn soon(body: &mut RequestBody) -> Result<Option<Vec<u8>>> {
///     match task::select(body.chunk(), task::sleep(Duration::from_secs(1))).await {
///         Either::Left(chunk) => Ok(chunk?),
///         Either::Right(()) => Ok(None),
///     }
/// }
/// ```
pub async fn select<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let right_first = RIGHT_FIRST.replace(!RIGHT_FIRST.get());
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| {
        for right in [right_first, !right_first] {
            coop::refill();
            let done = if right {
                b.as_mut().poll(cx).map(Either::Right)
            } else {
                a.as_mut().poll(cx).map(Either::Left)
            };
            if done.is_ready() {
                return done;
            }
        }
        Poll::Pending
    })
    .await
}

/// Lets everybody else run who can, and goes on. For long computations between waits.
///
/// ```
/// use tidegate_sdk::task;
///
/// async fn sum(numbers: &[u64]) -> u64 {
///     let mut sum = 0;
///     for part in numbers.chunks(10_000) {
///         sum += part.iter().sum::<u64>();
///         task::yield_now().await;
///     }
///     sum
/// }
/// assert_eq!(task::block_on(sum(&[1, 2, 3])), 6);
/// ```
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
