//! What operators ask the workers for, from threads of their own: what they are at, and to end one of it.
//!
//! Whoever asks puts a command into each worker's box and wakes it; a worker looks at its box once a turn if a flag says
//! that there is something, and otherwise pays for a look at that flag alone. It answers a piece a turn, so that ten
//! thousand requests hold up none of them. Whoever asks waits for a bounded time, and is told which workers had not
//! answered by then.

use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::exchange::RequestId;
use crate::observe::requests::RequestView;
use crate::tenants::registry::App;

/// Says of an app whether who asks may know of it. Not of its name: what is left of an app that is gone is not for who has
/// another one of that name.
pub(crate) type Allowed = Arc<dyn Fn(&App) -> bool + Send + Sync>;

/// What a worker is asked for.
#[derive(Clone)]
pub(crate) enum What {
    /// A row for everything that it is at for such apps.
    List(Allowed),
    /// To end what has this id, of such an app.
    Cancel(Arc<str>, Allowed),
}

/// A worker's answer: rows, or how many were ended.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<RequestView>,
    pub(crate) ended: usize,
}

/// A command on its way.
pub(crate) struct Command {
    pub(crate) what: What,
    reply: Sender<(u16, Answer)>,
    worker: u16,
}

impl Command {
    /// The worker is done with it.
    pub(crate) fn answer(self, answer: Answer) {
        // Whoever asked may have lost patience.
        let _ = self.reply.send((self.worker, answer));
    }
}

/// What all workers had to say together.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) rows: Vec<RequestView>,
    pub(crate) ended: usize,
    /// Workers that did not answer in time.
    pub(crate) silent: Vec<u16>,
}

struct Mail {
    waker: Arc<mio::Waker>,
    posted: AtomicBool,
    /// None: the worker is gone.
    commands: Mutex<Option<Vec<Command>>>,
}

impl Mail {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The boxes of all workers.
pub(crate) struct Commands {
    mail: Vec<Mail>,
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}

impl Commands {
    /// One box for each waker.
    pub(crate) fn new(wakers: &[Arc<mio::Waker>]) -> Self {
        let mail = |waker: &Arc<mio::Waker>| Mail {
            waker: Arc::clone(waker),
            posted: AtomicBool::new(false),
            commands: Mutex::new(Some(Vec::new())),
        };
        Self { mail: wakers.iter().map(mail).collect() }
    }

    /// What the workers are at, the oldest first. Not for a worker to call.
    pub(crate) fn list(&self, allowed: Allowed, patience: Duration) -> Answers {
        let mut answers = self.ask(&What::List(allowed), patience);
        answers.rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.age_ms));
        answers
    }

    /// Ends what has this id: the request, the raw connection, or the resident. There may be several where ids are taken
    /// from peers. Not for a worker to call.
    pub(crate) fn cancel(&self, id: &str, allowed: Allowed, patience: Duration) -> Answers {
        self.ask(&What::Cancel(id.into(), allowed), patience)
    }

    fn ask(&self, what: &What, patience: Duration) -> Answers {
        let until = Instant::now() + patience;
        let (reply, answered) = channel();
        let mut silent = Vec::new();
        for (worker, mail) in (0u16..).zip(&self.mail) {
            let mut commands = mail.lock();
            let Some(commands) = &mut *commands else { continue };
            commands.push(Command { what: what.clone(), reply: reply.clone(), worker });
            mail.posted.store(true, Release);
            silent.push(worker);
            // It fails only if the worker is gone, and then its box is about to be.
            let _ = mail.waker.wake();
        }
        drop(reply);
        gather(&answered, until, silent)
    }

    /// True if there is something for that worker.
    pub(crate) fn has_mail(&self, worker: u16) -> bool {
        self.mail.get(usize::from(worker)).is_some_and(|mail| mail.posted.load(Acquire))
    }

    /// What there is for that worker.
    pub(crate) fn take(&self, worker: u16) -> Vec<Command> {
        let Some(mail) = self.mail.get(usize::from(worker)) else { return Vec::new() };
        let mut commands = mail.lock();
        mail.posted.store(false, Release);
        commands.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A worker has ended: nobody waits for it any more.
    pub(crate) fn leave(&self, worker: u16) {
        if let Some(mail) = self.mail.get(usize::from(worker)) {
            let left = mail.lock().take();
            left.into_iter().flatten().for_each(|command| command.answer(Answer::default()));
        }
    }
}

fn gather(answered: &Receiver<(u16, Answer)>, until: Instant, mut silent: Vec<u16>) -> Answers {
    let mut answers = Answers::default();
    while !silent.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        // Gone without an answer, or too late: it is silent either way.
        let Ok((worker, Answer { rows, ended })) = answered.recv_timeout(left) else { break };
        silent.retain(|other| *other != worker);
        answers.rows.extend(rows);
        answers.ended += ended;
    }
    Answers { silent, ..answers }
}

/// True if `id` is what people call it.
pub(crate) fn is_called(id: &RequestId, text: &str) -> bool {
    match id {
        RequestId::Nothing => false,
        RequestId::Given(given) => **given == *text,
        RequestId::Made { .. } => id.to_string() == text,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn commands(workers: usize) -> (Arc<Commands>, mio::Poll) {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let wakers: Vec<_> = (0..workers).map(|_| Arc::clone(&waker)).collect();
        (Arc::new(Commands::new(&wakers)), poll)
    }

    #[test]
    fn workers_that_do_not_answer_are_named_and_those_that_are_gone_are_not() {
        let (commands, _poll) = commands(4);
        commands.leave(3);
        let asking = Arc::clone(&commands);
        let asked = thread::spawn(move || asking.list(Arc::new(|_| true), Duration::from_secs(30)));
        while !(0..3).all(|worker| commands.has_mail(worker)) {
            thread::yield_now();
        }
        for command in commands.take(0) {
            command.answer(Answer { ended: 2, ..Answer::default() });
        }
        assert!(!commands.has_mail(0));
        // One that ends with its box full, and one that loses the command.
        commands.leave(2);
        drop(commands.take(1));
        let answers = asked.join().unwrap();
        assert_eq!((answers.silent, answers.ended), (vec![1], 2));
        assert_eq!(commands.list(Arc::new(|_| true), Duration::ZERO).silent, [0, 1]);
    }

    #[test]
    fn ids_are_called_as_they_are_shown() {
        let made = RequestId::Made { run: 0xabc, worker: 1, count: 255 };
        assert!(is_called(&made, "00000abc-1-ff") && !is_called(&made, "abc-1-ff"));
        assert!(is_called(&RequestId::Given("x".into()), "x") && !is_called(&RequestId::Nothing, "-"));
    }
}
