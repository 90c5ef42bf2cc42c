//! One query that is under way, and who waits for it.
//!
//! It knows neither names nor threads. Invariants: it lands once; a waker is called after the lock is given back, and
//! only the wakers of those who still wait.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::Answer;
use crate::exchange::waits::{Wait, note_for};

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    wakers: Slab<Waker>,
}

#[derive(Default)]
pub(super) struct Flight {
    state: Mutex<State>,
}

impl Flight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, or a place among those who wait: `place` is where this one stands already.
    pub(super) fn poll(&self, place: &mut Option<usize>, cx: &Context<'_>) -> Poll<Answer> {
        let mut state = self.lock();
        if let Some(answer) = &state.answer {
            return Poll::Ready(answer.clone());
        }
        note_for(Wait::Name, cx);
        match place.and_then(|at| state.wakers.get_mut(at)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *place = Some(state.wakers.insert(cx.waker().clone())),
        }
        Poll::Pending
    }

    /// Who stands at `place` waits no more.
    pub(super) fn leave(&self, place: usize) {
        let mut state = self.lock();
        // After the landing the places are gone.
        let waker = state.wakers.try_remove(place);
        drop(state);
        drop(waker);
    }

    /// Tells everybody who waits.
    pub(super) fn land(&self, answer: Answer) {
        let mut state = self.lock();
        state.answer.get_or_insert(answer);
        let wakers = mem::take(&mut state.wakers);
        drop(state);
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().wakers.len()
    }
}
