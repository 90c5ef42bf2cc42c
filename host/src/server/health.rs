//! What a server is up to, for those who ask whether to send it anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a server is up to. Clones are of the same server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<AtomicU8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It loads its apps.
    Starting,
    Ready,
    /// It serves, and another process is about to take over: deploys have to wait.
    HandingOver,
    /// Another process serves in its place; it finishes what it has.
    HandedOver,
    /// It ends, and finishes what it has.
    Draining,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::HandingOver, Self::HandedOver, Self::Draining];

    /// As a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::HandingOver => "handing-over",
            Self::HandedOver => "handed-over",
            Self::Draining => "draining",
        }
    }
}

impl Health {
    pub(crate) fn phase(&self) -> Phase {
        Phase::ALL.get(usize::from(self.0.load(Ordering::Acquire))).copied().unwrap_or(Phase::Starting)
    }

    pub(super) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// Goes from one phase to another, if it is in that one.
    pub(super) fn advance(&self, from: Phase, to: Phase) {
        let _ = self.0.compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    /// True if requests are welcome.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.phase(), Phase::Ready | Phase::HandingOver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_what_was_set() {
        let health = Health::default();
        assert_eq!(health.phase(), Phase::Starting);
        for phase in Phase::ALL {
            health.set(phase);
            assert_eq!(health.clone().phase(), phase);
            assert_eq!(health.is_ready(), ["ready", "handing-over"].contains(&phase.word()));
        }
        health.advance(Phase::Ready, Phase::HandingOver);
        assert_eq!(health.phase(), Phase::Draining);
        health.advance(Phase::Draining, Phase::Starting);
        assert_eq!(health.phase(), Phase::Starting);
    }
}
