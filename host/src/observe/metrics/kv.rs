//! What is counted of an app's key-value data.
//!
//! Whoever does the work counts here: with one atomic addition, as operations of an app are answered by a few threads.

use std::sync::{Arc, Mutex, PoisonError};

use super::count::SharedCount;

/// What is asked for. Operations on many keys count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KvKind {
    Get,
    List,
    Set,
    Delete,
    Increment,
    Swap,
}

pub(super) const KINDS: [&str; 6] = ["get", "list", "set", "delete", "increment", "swap"];

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KvOutcome {
    Ok,
    /// Too much was under way.
    Busy,
    /// The app or its tenant would have had more than it may.
    Quota,
    /// What was asked for can not be done: it is too large, or no number.
    Invalid,
    /// The data is another's, or the app is gone.
    Denied,
    /// The store does not work, or its disk is full.
    Failed,
}

pub(super) const KV_OUTCOMES: [&str; 6] = ["ok", "busy", "quota", "invalid", "denied", "failed"];

/// By kind, and then by outcome.
pub(super) type KvSums = [[u64; KV_OUTCOMES.len()]; KINDS.len()];

/// Operations of one app.
#[derive(Debug, Default)]
pub(crate) struct KvCounts([[SharedCount; KV_OUTCOMES.len()]; KINDS.len()]);

impl KvCounts {
    /// An operation is over.
    pub(crate) fn add(&self, kind: KvKind, outcome: KvOutcome) {
        self.0[kind as usize][outcome as usize].add(1);
    }

    /// Operations that are over; those that ended so, if that is said.
    #[cfg(test)]
    pub(crate) fn total(&self, outcome: Option<KvOutcome>) -> u64 {
        let of_kind = |counts: &[SharedCount; KV_OUTCOMES.len()]| match outcome {
            Some(outcome) => counts[outcome as usize].get(),
            None => counts.iter().map(SharedCount::get).sum(),
        };
        self.0.iter().map(of_kind).sum()
    }

    fn add_to(&self, sums: &mut KvSums) {
        for (sums, counts) in sums.iter_mut().zip(&self.0) {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.get());
        }
    }
}

/// What an app has counted over all its versions. Where none of them had data for a while, what came before is kept.
#[derive(Debug, Default)]
pub(super) struct KvSeen(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    before: KvSums,
    now: Option<Arc<KvCounts>>,
}

impl KvSeen {
    /// It is counted there from now on.
    pub(super) fn follow(&self, counts: &Arc<KvCounts>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.now.as_ref().is_some_and(|now| Arc::ptr_eq(now, counts)) {
            return;
        }
        if let Some(last) = seen.now.replace(Arc::clone(counts)) {
            last.add_to(&mut seen.before);
        }
    }

    pub(super) fn add_to(&self, sums: &mut KvSums) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (sums, counts) in sums.iter_mut().zip(&seen.before) {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        if let Some(now) = &seen.now {
            now.add_to(sums);
        }
    }
}
