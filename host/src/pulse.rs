//! Whether the workers' loops still turn, for whoever has to know: a service manager's watchdog, the admin side.
//!
//! Nobody looks unless somebody asks: a beat is asked for, the workers are woken, and each notes it in its next turn. It
//! costs a turn two loads, and a request nothing.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a worker that is gone has noted: everything.
const GONE: u64 = u64::MAX;

/// The beats that were asked for, and those that were noted.
#[derive(Debug)]
pub(crate) struct Pulse {
    asked: AtomicU64,
    noted: Box<[AtomicU64]>,
}

impl Pulse {
    pub(crate) fn new(workers: usize) -> Self {
        Self { asked: AtomicU64::new(0), noted: (0..workers).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Asks for another beat. The workers are to be woken then.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker turns.
    pub(crate) fn note(&self, worker: u16) {
        let asked = self.asked.load(Ordering::Relaxed);
        if let Some(noted) = self.noted.get(usize::from(worker))
            && noted.load(Ordering::Relaxed) < asked
        {
            noted.store(asked, Ordering::Relaxed);
        }
    }

    /// A worker has ended: nobody waits for it any more.
    pub(crate) fn leave(&self, worker: u16) {
        if let Some(noted) = self.noted.get(usize::from(worker)) {
            noted.store(GONE, Ordering::Relaxed);
        }
    }

    /// The workers that have not turned since the last beat was asked for.
    pub(crate) fn missing(&self) -> Vec<usize> {
        let asked = self.asked.load(Ordering::Relaxed);
        let noted = self.noted.iter().enumerate();
        noted.filter(|(_, noted)| noted.load(Ordering::Relaxed) < asked).map(|(worker, _)| worker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_turn_is_missed_until_it_does() {
        let pulse = Pulse::new(3);
        assert!(pulse.missing().is_empty());
        pulse.ask();
        pulse.note(0);
        pulse.leave(2);
        assert_eq!(pulse.missing(), [1]);
        pulse.ask();
        assert_eq!(pulse.missing(), [0, 1]);
        pulse.note(0);
        pulse.note(1);
        pulse.note(2);
        pulse.note(7);
        assert!(pulse.missing().is_empty());
        pulse.ask();
        assert_eq!(pulse.missing(), [0, 1]);
    }
}
