//! Waiting for a few futures together.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::coop;

/// Polls a future that is there still, with a turn of its own. Its output goes to `output`, and it is dropped.
fn step<F: Future>(mut future: Pin<&mut Option<F>>, output: &mut Option<F::Output>, cx: &mut Context<'_>) {
    if let Some(running) = future.as_mut().as_pin_mut() {
        coop::refill();
        if let Poll::Ready(done) = running.poll(cx) {
            *output = Some(done);
            future.set(None);
        }
    }
}

/// Runs two futures at once, until both are done.
///
/// ```
/// use tidegate_sdk::task;
///
/// assert_eq!(task::block_on(task::join(async { 1 }, async { "b" })), (1, "b"));
/// ```
pub async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(Some(a)), pin!(Some(b)));
    let (mut x, mut y) = (None, None);
    poll_fn(|cx| {
        step(a.as_mut(), &mut x, cx);
        step(b.as_mut(), &mut y, cx);
        if x.is_some() && y.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    match (x, y) {
        (Some(x), Some(y)) => (x, y),
        _ => unreachable!("both are done"),
    }
}

/// Runs three futures at once, until all are done.
///
/// ```
/// use tidegate_sdk::task;
///
/// assert_eq!(task::block_on(task::join3(async { 1 }, async { 2 }, async { 3 })), (1, 2, 3));
/// ```
pub async fn join3<A: Future, B: Future, C: Future>(a: A, b: B, c: C) -> (A::Output, B::Output, C::Output) {
    let (mut a, mut b, mut c) = (pin!(Some(a)), pin!(Some(b)), pin!(Some(c)));
    let (mut x, mut y, mut z) = (None, None, None);
    poll_fn(|cx| {
        step(a.as_mut(), &mut x, cx);
        step(b.as_mut(), &mut y, cx);
        step(c.as_mut(), &mut z, cx);
        if x.is_some() && y.is_some() && z.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    match (x, y, z) {
        (Some(x), Some(y), Some(z)) => (x, y, z),
        _ => unreachable!("all are done"),
    }
}

/// Runs two futures at once, until both are done or one fails.
///
/// # Errors
/// The first error; the other future is dropped where it waits.
///
/// ```
/// use tidegate_sdk::task;
///
/// let result: Result<((), ()), &str> =
///     task::block_on(task::try_join(std::future::pending(), async { Err("no") }));
/// assert_eq!(result, Err("no"));
/// ```
pub async fn try_join<A, B, T, U, E>(a: A, b: B) -> Result<(T, U), E>
where
    A: Future<Output = Result<T, E>>,
    B: Future<Output = Result<U, E>>,
{
    let (mut a, mut b) = (pin!(Some(a)), pin!(Some(b)));
    let (mut x, mut y) = (None, None);
    poll_fn(|cx| {
        step(a.as_mut(), &mut x, cx);
        if !matches!(x, Some(Err(_))) {
            step(b.as_mut(), &mut y, cx);
        }
        let failed = matches!(x, Some(Err(_))) || matches!(y, Some(Err(_)));
        if failed || x.is_some() && y.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    match (x, y) {
        (Some(Ok(x)), Some(Ok(y))) => Ok((x, y)),
        (Some(Err(error)), _) | (_, Some(Err(error))) => Err(error),
        _ => unreachable!("both are done, or one has failed"),
    }
}
