//! What a guest waits for that its worker does not know from its exchange: noted, while the guest is polled, by whoever
//! has nothing for it yet, and looked at by the worker once it is suspended. For people alone: nothing depends on it.
//!
//! A guest is polled on its worker's thread from beginning to end, so the note is that thread's.

use std::cell::Cell;
use std::task::{Context, Poll, Waker};

/// Something that other threads, or other machines, do for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wait {
    Socket = 1,
    Name = 2,
    File = 4,
    Store = 8,
}

/// What is waited for at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waits(u8);

thread_local! {
    static NOTED: Cell<u8> = const { Cell::new(0) };
}

/// The guest that is polled now waits for this.
fn note(wait: Wait) {
    NOTED.set(NOTED.get() | wait as u8);
}

/// The same, unless whoever polls only has a look and waits for nothing.
pub(crate) fn note_for(wait: Wait, cx: &Context<'_>) {
    if !cx.waker().will_wake(Waker::noop()) {
        note(wait);
    }
}

/// Notes it unless it is there.
fn noted<T>(wait: Wait, poll: Poll<T>) -> Poll<T> {
    if poll.is_pending() {
        note(wait);
    }
    poll
}

/// Notes it for as long as `future` is not done.
pub(crate) async fn waiting<T>(wait: Wait, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |cx| noted(wait, future.as_mut().poll(cx))).await
}

/// What was noted since this was asked last.
pub(crate) fn take() -> Waits {
    Waits(NOTED.replace(0))
}

impl Waits {
    /// The words for it.
    pub(crate) fn words(self) -> impl Iterator<Item = &'static str> {
        let all =
            [(Wait::Socket, "socket"), (Wait::Name, "name"), (Wait::File, "file"), (Wait::Store, "store")];
        all.into_iter().filter(move |(wait, _)| self.0 & *wait as u8 != 0).map(|(_, word)| word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_noted_until_somebody_asks() {
        take();
        let mut asked = 0;
        let mut future = Box::pin(waiting(
            Wait::File,
            std::future::poll_fn(|_| {
                asked += 1;
                if asked == 2 { Poll::Ready(7) } else { Poll::Pending }
            }),
        ));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_pending());
        note(Wait::Socket);
        note_for(Wait::Store, &cx);
        assert_eq!(take().words().collect::<Vec<_>>(), ["socket", "file"]);
        assert_eq!(future.as_mut().poll(&mut cx), Poll::Ready(7));
        assert_eq!(take(), Waits::default());
    }
}
