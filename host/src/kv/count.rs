//! What is counted of operations, and what apps hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use tidegate_store::kv::{Answer, Error, Operation, Quota, Request, Space, Usage};

use super::Access;
use crate::observe::metrics::{KvCounts, KvKind, KvOutcome};

pub(super) fn kind(operation: &Operation) -> KvKind {
    match operation {
        Operation::Get(_) | Operation::Exists(_) | Operation::GetMany(_) | Operation::Usage => KvKind::Get,
        Operation::List { .. } => KvKind::List,
        Operation::Set(..) | Operation::SetMany(_) => KvKind::Set,
        Operation::Delete(_) | Operation::DeleteMany(_) | Operation::RemoveSpace => KvKind::Delete,
        Operation::Increment(..) => KvKind::Increment,
        Operation::Swap { .. } => KvKind::Swap,
    }
}

pub(super) fn outcome<T>(answer: &Result<T, Error>) -> KvOutcome {
    match answer {
        Ok(_) => KvOutcome::Ok,
        Err(Error::Busy) => KvOutcome::Busy,
        Err(Error::QuotaKeys | Error::QuotaBytes) => KvOutcome::Quota,
        Err(Error::AccessDenied) => KvOutcome::Denied,
        Err(Error::DiskFull | Error::Unavailable(_)) => KvOutcome::Failed,
        Err(Error::TooLarge | Error::EmptyKey | Error::NotANumber | Error::Overflow | Error::NoSuchStore) => {
            KvOutcome::Invalid
        }
    }
}

impl Access {
    /// Where the app's operations are counted.
    pub(crate) fn counted(&self) -> &Arc<KvCounts> {
        &self.tally.counts
    }

    /// Operations that are under way.
    pub(crate) fn under_way(&self) -> u32 {
        self.tally.load.operations.load(Relaxed)
    }
}

/// Looks at an app that may wait for the store: of one that is stuck, more would only pile up.
pub(super) const LOOKS_MAX: u32 = 8;

/// A look that the store has not answered.
struct Look(Arc<AtomicU32>);

impl Look {
    /// None: there are too many.
    fn begin(access: &Access) -> Option<Self> {
        let looks = Self(Arc::clone(&access.tally.looks));
        (looks.0.fetch_add(1, Relaxed) < LOOKS_MAX).then_some(looks)
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What apps hold, in their order. None: the store does not say so in time. It waits: not for a loop.
pub(crate) fn usages(apps: &[Arc<Access>], patience: Duration) -> Vec<Option<Usage>> {
    let until = Instant::now() + patience;
    let (told, heard) = sync_channel(apps.len());
    for (at, access) in apps.iter().enumerate() {
        let Some(look) = Look::begin(access) else { continue };
        let quota = Quota { keys: 0, bytes: 0 };
        let space = Arc::new(Space { name: Arc::clone(&access.space.name), owner: "".into(), quota });
        let told = told.clone();
        // There is room for all of them, and if nobody waits any more nobody is to be told.
        let reply = Box::new(move |answer| {
            drop(look);
            drop(told.try_send((at, answer)));
        });
        access.service.backend.submit(Request { space, pool: None, operation: Operation::Usage, reply });
    }
    drop(told);
    let mut usages = vec![None; apps.len()];
    while let Ok((at, answer)) = heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if let (Some(usage), Ok(Answer::Usage(is))) = (usages.get_mut(at), answer) {
            *usage = Some(is);
        }
    }
    usages
}
