//! Whether the process comes near to what it may have of memory or descriptors, and what is given up then.
//!
//! A thread of its own looks ten times a second while guests run, and once a second otherwise. Above the high mark
//! nobody else is let in, idle instances are given up, and then the code of programs that nobody uses; below the low mark
//! all goes on. What runs is left alone: its own limits bound it. While nobody is connected one is let in whatever the
//! numbers say, as memory that the allocator keeps would otherwise close the door for good.

use std::fs;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};

use crate::config::about_bytes;
use crate::pressure::Short;
use crate::shared::Shared;

/// How often is looked while guests run, or something is short.
const BUSY: Duration = Duration::from_millis(100);
/// How often is looked otherwise.
const QUIET: Duration = Duration::from_secs(1);
/// Below so many hundredths of the high mark all goes on.
const LOW_PERCENT: u64 = 90;
/// Of the descriptors that a process may have, one in so many is kept free.
const DESCRIPTORS_RESERVE: u64 = 32;
/// With fewer than that accepting alone sees to it, as it meets the limit itself.
const DESCRIPTORS_MIN: u64 = 1024;
/// Of the programs that are in memory, one in so many is evicted at a time, and so many at least.
const SHED_PART: usize = 8;
const SHED_MIN: usize = 16;

/// A use and the most that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gauge {
    used: u64,
    high: u64,
}

impl Gauge {
    /// Whether it is short, if it was before.
    fn is_short(self, before: bool) -> bool {
        let mark = if before { self.high / 100 * LOW_PERCENT } else { self.high };
        self.used > mark
    }
}

/// Looks until the server is gone.
///
/// # Errors
/// No thread could be started.
pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<()> {
    let shared = Arc::downgrade(shared);
    thread::Builder::new().name("pressure".into()).spawn(move || watch(&shared))?;
    Ok(())
}

fn watch(shared: &Weak<Shared>) {
    let mut interval = BUSY;
    loop {
        thread::sleep(interval);
        let Some(shared) = shared.upgrade() else { return };
        look(&shared);
        let busy = shared.pressure.short().is_some() || shared.ticker.is_awake();
        interval = if busy { BUSY } else { QUIET };
    }
}

fn look(shared: &Shared) {
    let pressure = &shared.pressure;
    let before = pressure.short();
    let memory = Gauge {
        used: resident_bytes().unwrap_or(0),
        high: shared.settings.memory_budget_bytes.unwrap_or(u64::MAX),
    };
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let high = if most < DESCRIPTORS_MIN { u64::MAX } else { most - most / DESCRIPTORS_RESERVE };
    let descriptors = Gauge { used: open_descriptors(shared), high };
    shared.loading.tidy();
    let short = if memory.is_short(before == Some(Short::Memory)) {
        Some(Short::Memory)
    } else if descriptors.is_short(before == Some(Short::Descriptors)) {
        Some(Short::Descriptors)
    } else {
        None
    };
    pressure.set(short);
    if short != before {
        tell(short, memory, descriptors);
    }
    if short.is_some() {
        give_up(shared);
    }
}

fn tell(short: Option<Short>, memory: Gauge, descriptors: Gauge) {
    let Gauge { used, high } = descriptors;
    match short {
        Some(Short::Memory) => {
            let (used, budget) = (about_bytes(memory.used), about_bytes(memory.high));
            tracing::warn!(used, budget, "memory is short: what is idle is given up, nobody else is let in");
        }
        Some(Short::Descriptors) => {
            tracing::warn!(
                used,
                high,
                "descriptors are short: what is idle is given up, nobody else is let in"
            );
        }
        None => {
            let memory = about_bytes(memory.used);
            tracing::info!(memory, descriptors = used, "nothing is short any more");
        }
    }
}

/// Idle instances, and some of the code that nobody uses.
fn give_up(shared: &Shared) {
    shared.pressure.call();
    shared.wake_all();
    let count = shared.loading.residency().count();
    shared.loading.shed(count.saturating_sub((count / SHED_PART).max(SHED_MIN)));
}

/// Resident memory of this process.
pub(super) fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_size() as u64))
}

/// Descriptors that are open. The kernel says so since 6.2; before that, those that we know of.
fn open_descriptors(shared: &Shared) -> u64 {
    match fs::metadata("/proc/self/fd").map(|folder| folder.len()) {
        Ok(count) if count > 0 => count,
        _ => (shared.connections() + shared.loading.residency().count()) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_stays_so_until_it_is_well_below() {
        let short = |used, before| Gauge { used, high: 1_000 }.is_short(before);
        assert!(!short(1_000, false) && short(1_001, false));
        assert!(short(901, true) && !short(900, true));
        assert!(!Gauge { used: u64::MAX - 1, high: u64::MAX }.is_short(false));
    }

    #[test]
    fn this_process_is_measured() {
        let block = vec![1_u8; 64 << 20];
        let resident = resident_bytes().unwrap();
        assert!(resident >= block.len() as u64, "{resident}");
        drop(block);
    }
}
