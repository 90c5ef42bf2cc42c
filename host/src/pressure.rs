//! What is short of memory or descriptors, as workers look at it.
//!
//! It must never know how that is found out.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Short {
    Memory = 1,
    Descriptors = 2,
}

impl Short {
    /// Why nobody is let in.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Memory => "memory is short (`memory_budget`)",
            Self::Descriptors => "descriptors are short (`ulimit -n`)",
        }
    }
}

/// What the last look found, for workers.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// 0: nothing is short.
    short: AtomicU8,
    /// Moves when idle instances are to be given up.
    calls: AtomicU64,
}

impl Pressure {
    /// What is short now.
    pub(crate) fn short(&self) -> Option<Short> {
        match self.short.load(Ordering::Relaxed) {
            1 => Some(Short::Memory),
            2 => Some(Short::Descriptors),
            _ => None,
        }
    }

    /// What is short from now on.
    pub(crate) fn set(&self, short: Option<Short>) {
        self.short.store(short.map_or(0, |short| short as u8), Ordering::Relaxed);
    }

    /// Idle instances are to be given up.
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Release);
    }

    /// Workers that have seen another number give up their idle instances.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }
}
