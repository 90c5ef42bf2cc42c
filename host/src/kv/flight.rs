//! One operation that is under way, and who waits for it.
//!
//! Invariants: it lands once; its waker is called after the lock is given back.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tidegate_store::kv::{Answer, Error};

use super::{Tally, outcome};
use crate::exchange::waits::{Wait, note_for};
use crate::observe::metrics::{KvKind, KvOutcome};

#[derive(Debug, Default)]
enum State {
    #[default]
    Waiting,
    WaitedFor(Waker),
    Landed(Result<Given, Error>),
    /// Whoever waited has it, or is gone.
    Over,
}

#[derive(Debug, Default)]
pub(super) struct Flight(Mutex<State>);

impl Flight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn land(&self, given: Result<Given, Error>) {
        let mut state = self.lock();
        let before = match &*state {
            State::Over => return drop_outside(state, given),
            _ => mem::replace(&mut *state, State::Landed(given)),
        };
        drop(state);
        if let State::WaitedFor(waker) = before {
            waker.wake();
        }
    }
}

/// What nobody waits for any more is dropped when the lock is given back.
fn drop_outside(state: MutexGuard<'_, State>, given: Result<Given, Error>) {
    drop(state);
    drop(given);
}

/// An answer. For as long as this is there, its bytes count as held by the app.
#[derive(Debug)]
pub(crate) struct Given {
    answer: Answer,
    held: Held,
}

impl Given {
    pub(crate) fn answer(&self) -> &Answer {
        &self.answer
    }

    /// The answer, counted no more: for who hands it over to the guest at once.
    pub(crate) fn into_answer(self) -> Answer {
        self.answer
    }

    /// The answer, for who keeps it or something as large: it counts until the second is dropped.
    pub(crate) fn split(self) -> (Answer, Held) {
        (self.answer, self.held)
    }
}

/// Bytes that are counted as held by an app.
#[derive(Debug)]
pub(crate) struct Held {
    tally: Arc<Tally>,
    bytes: usize,
}

impl Held {
    /// None: there are too many.
    fn new(tally: &Arc<Tally>, bytes: usize) -> Option<Self> {
        tally.hold(bytes).then(|| Self { tally: Arc::clone(tally), bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tally.drop_bytes(self.bytes);
    }
}

/// An operation on its way through the backend. It is answered in any case: when this is dropped, as a failure.
pub(super) struct Ticket {
    tally: Arc<Tally>,
    kind: KvKind,
    flight: Arc<Flight>,
    /// Of the operation itself.
    held: Option<Held>,
    answered: bool,
}

impl Ticket {
    /// For an operation that was counted in.
    pub(super) fn new(tally: Arc<Tally>, kind: KvKind, flight: Arc<Flight>) -> Self {
        Self { tally, kind, flight, held: None, answered: false }
    }

    /// Counts the bytes of the operation. None: there are too many, and it never began.
    pub(super) fn hold(mut self, bytes: usize) -> Option<Self> {
        self.held = Held::new(&self.tally, bytes);
        self.answered = self.held.is_none();
        self.held.is_some().then_some(self)
    }

    pub(super) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    pub(super) fn answer(mut self, answer: Result<Answer, Error>) {
        self.answered = true;
        self.held = None;
        let given = answer.and_then(|answer| {
            let held = Held::new(&self.tally, answer.bytes()).ok_or(Error::Busy)?;
            Ok(Given { answer, held })
        });
        self.tally.counts.add(self.kind, outcome(&given));
        let flight = Arc::clone(&self.flight);
        // Whoever is woken finds it counted out.
        drop(self);
        flight.land(given);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tally.load.end();
        self.tally.all.end();
        if !self.answered {
            self.held = None;
            self.tally.counts.add(self.kind, KvOutcome::Failed);
            self.flight.land(Err(Error::Unavailable("it gave no answer".into())));
        }
    }
}

/// Something that was asked for. To drop it is to give up interest; it may happen all the same.
#[derive(Debug)]
pub(crate) struct Pending {
    flight: Arc<Flight>,
}

impl Pending {
    pub(super) fn new(flight: Arc<Flight>) -> Self {
        Self { flight }
    }

    /// The answer, once; until it is there the last waker is called when it comes.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Given, Error>> {
        let mut state = self.flight.lock();
        if matches!(*state, State::Waiting | State::WaitedFor(_)) {
            note_for(Wait::Store, cx);
        }
        match &mut *state {
            State::Landed(_) => match mem::replace(&mut *state, State::Over) {
                State::Landed(given) => Poll::Ready(given),
                _ => Poll::Pending,
            },
            State::WaitedFor(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            State::Waiting => {
                *state = State::WaitedFor(cx.waker().clone());
                Poll::Pending
            }
            State::Over => Poll::Pending,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let before = mem::replace(&mut *self.flight.lock(), State::Over);
        drop(before);
    }
}
