//! The workers' threads: what each begins with, and what is to be undone when one ends.
//!
//! What a worker does is its own business. Invariant: nobody waits for a worker that has ended.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use mio::{Poll, Waker};
use wasmtime::Engine;

use crate::local::RawDoor;
use crate::reactor::bound::Bound;
use crate::reactor::listener::Listener;
use crate::reactor::token::Source;
use crate::shared::Shared;
use crate::worker::Worker;

/// A worker's listeners, and what connections are that do not speak HTTP.
pub(super) type Listeners = Vec<(Listener, Option<RawDoor>)>;

/// Every worker's own listeners.
pub(super) fn open(bound: &mut [Bound], doors: &[Option<RawDoor>], workers: usize) -> Result<Vec<Listeners>> {
    let mut all = Vec::new();
    for worker in 0..workers {
        let mut listeners = Listeners::new();
        for (bound, door) in bound.iter_mut().zip(doors) {
            let opened = bound.open(worker, workers);
            let url = || bound.url(door.as_ref().map(|door| &*door.app));
            let opened = opened.with_context(|| format!("cannot listen on {}", url()))?;
            listeners.extend(opened.into_iter().map(|listener| (listener, door.clone())));
        }
        all.push(listeners);
    }
    Ok(all)
}

/// The threads of the workers.
pub(super) type Workers = Vec<JoinHandle<std::io::Result<()>>>;

/// An event queue for every worker, and what wakes it.
pub(super) fn event_queues(workers: usize) -> Result<(Vec<Poll>, Vec<Arc<Waker>>)> {
    let mut polls = Vec::new();
    let mut wakers = Vec::new();
    for _ in 0..workers {
        let poll = Poll::new().context("cannot make an event queue")?;
        wakers.push(Arc::new(Waker::new(poll.registry(), Source::Waker.token())?));
        polls.push(poll);
    }
    Ok((polls, wakers))
}

/// Starts them all: each with its event queue and listeners.
pub(super) fn start(shared: &Arc<Shared>, polls: Vec<Poll>, listeners: Vec<Listeners>) -> Result<Workers> {
    let mut workers = Vec::new();
    for (number, (poll, listeners)) in polls.into_iter().zip(listeners).enumerate() {
        let number = u16::try_from(number)?;
        let worker = Worker::new(poll, listeners, Arc::clone(shared), number)?;
        let leaving = Leaving { shared: Arc::clone(shared), number };
        let name = format!("worker-{number}");
        workers.push(thread::Builder::new().name(name).spawn(move || {
            let _leaving = leaving;
            Engine::tls_eager_initialize();
            worker.run()
        })?);
    }
    Ok(workers)
}

/// A worker that ends, however it does, is not waited for any more.
struct Leaving {
    shared: Arc<Shared>,
    number: u16,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.shared.current.leave(self.number);
        self.shared.pulse.leave(self.number);
        self.shared.commands.leave(self.number);
    }
}

/// Waits until the last of them has ended.
///
/// # Errors
/// One failed.
pub(super) fn join(workers: Workers) -> Result<()> {
    for worker in workers {
        match worker.join() {
            Ok(result) => result.context("a worker failed")?,
            Err(_) => bail!("a worker panicked: this is a bug"),
        }
    }
    Ok(())
}
