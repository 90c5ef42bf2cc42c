//! Limits on what a Store may hold: memory over all its memories together, elements over all its tables, instances.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use wasmtime::{Result, bail};

use super::engine::{MEMORIES_PER_MODULE_MAX, TABLES_PER_MODULE_MAX};
use crate::config::Given;

/// Core instances of one Store: a component has several.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;

/// What the memories of several apps' instances may hold together: those that idle, too.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    /// Whose it is.
    tenant: Arc<str>,
    held: AtomicU64,
    most: AtomicU64,
    /// An instance was not begun because of it.
    wanted: AtomicBool,
}

impl MemoryBudget {
    /// Without a bound.
    pub(crate) fn new(tenant: Arc<str>) -> Arc<Self> {
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Arc::new(Self { tenant, held, most, wanted: AtomicBool::new(false) })
    }

    /// Another bound from now on. What is held stays.
    pub(crate) fn set(&self, most: Option<u64>) {
        self.most.store(most.unwrap_or(u64::MAX), Relaxed);
    }

    /// True if an instance that begins with so much has to wait until others let go. What would never fit is not to wait:
    /// it is begun, and fails with a name.
    pub(super) fn lacks(&self, bytes: u64) -> bool {
        let held = self.held.load(Acquire);
        let used_up = held > 0 && held.saturating_add(bytes.max(1)) > self.most.load(Relaxed);
        if used_up {
            self.wanted.store(true, Release);
        }
        used_up
    }

    /// True if an instance was not begun, and nothing has been given back since.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Acquire)
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let most = self.most.load(Relaxed);
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= most);
        if self.held.fetch_update(AcqRel, Relaxed, more).is_err() {
            let (tenant, limit) = (&self.tenant, Given::size_told(most));
            bail!("the memory limit of {limit} of all apps of the tenant `{tenant}` together is reached");
        }
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, AcqRel);
        if self.wanted.load(Acquire) {
            self.wanted.store(false, Release);
        }
    }
}

/// Counts what one Store holds. A growth beyond the limit traps rather than failing, so that it has a name.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    table_elements_max: usize,
    exceeded: bool,
    /// What it shares with others. What it took of that is `memory_bytes`, and goes back when this is dropped.
    budget: Option<Arc<MemoryBudget>>,
}

impl Limiter {
    pub(crate) fn new(memory_bytes_max: u64, table_elements_max: usize) -> Self {
        let memory_bytes_max = usize::try_from(memory_bytes_max).unwrap_or(usize::MAX);
        Self {
            memory_bytes: 0,
            memory_bytes_max,
            table_elements: 0,
            table_elements_max,
            exceeded: false,
            budget: None,
        }
    }

    /// The same, within what others use too.
    pub(crate) fn within(mut self, budget: Option<Arc<MemoryBudget>>) -> Self {
        self.budget = budget;
        self
    }

    /// Linear memory in use, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    pub(crate) fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max
    }

    /// True if a limit was met.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.give_back(self.memory_bytes as u64);
        }
    }
}

impl wasmtime::ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            // The module's own maximum: growing fails, as it says it does.
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let total = self.memory_bytes.saturating_add(more);
        if total > self.memory_bytes_max {
            self.exceeded = true;
            let limit = Given::size_told(self.memory_bytes_max as u64);
            bail!("the memory limit of {limit} is reached (`memory`)");
        }
        if let Some(budget) = &self.budget {
            budget.take(more as u64).inspect_err(|_| self.exceeded = true)?;
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.exceeded = true;
        Err(error.context("the host could not provide the memory"))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let total = self.table_elements.saturating_add(more);
        if total > self.table_elements_max {
            self.exceeded = true;
            let limit = self.table_elements_max;
            bail!("the limit of {limit} elements in tables is reached (`table_elements`)");
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_PER_MODULE_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_PER_MODULE_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::ResourceLimiter;

    #[test]
    fn memories_are_counted_together() {
        let mut limiter = Limiter::new(100, 10);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(!limiter.exceeded());
        let error = limiter.memory_growing(40, 41, None).unwrap_err();
        assert_eq!(error.to_string(), "the memory limit of 100 B is reached (`memory`)");
        assert!(limiter.exceeded());
        assert_eq!(limiter.memory_bytes(), 100);
    }

    #[test]
    fn what_several_share_is_counted_in_and_out() {
        let budget = MemoryBudget::new("acme".into());
        budget.set(Some(100));
        let [mut one, mut other] = [(); 2].map(|()| Limiter::new(90, 10).within(Some(Arc::clone(&budget))));
        assert!(one.memory_growing(0, 60, None).unwrap());
        let error = other.memory_growing(0, 41, None).unwrap_err().to_string();
        assert!(error.contains("of 100 B of all apps of the tenant `acme`"), "{error}");
        assert!(other.exceeded() && other.memory_bytes() == 0);
        assert!(other.memory_growing(0, 40, None).unwrap());
        assert!(one.memory_growing(60, 91, None).is_err(), "its own limit");
        assert!(budget.lacks(0) && budget.is_wanted());
        drop(one);
        assert!(!budget.lacks(60) && !budget.is_wanted());
        assert!(budget.lacks(61) && budget.is_wanted());
        // Held beyond a bound that was lowered: nothing more until it has gone.
        budget.set(Some(10));
        assert!(budget.lacks(0) && other.memory_growing(40, 41, None).is_err());
        drop(other);
        assert!(!budget.lacks(1_000), "what never fits does not wait");
        assert_eq!(budget.held.load(Relaxed), 0);
    }

    #[test]
    fn tables_are_counted_together() {
        let mut limiter = Limiter::new(100, 10);
        assert!(limiter.table_growing(0, 6, None).unwrap());
        assert!(limiter.table_growing(0, 3, None).unwrap());
        assert!(limiter.table_growing(3, 4, None).unwrap());
        assert!(!limiter.exceeded());
        let error = limiter.table_growing(6, 7, None).unwrap_err();
        assert_eq!(error.to_string(), "the limit of 10 elements in tables is reached (`table_elements`)");
        assert!(limiter.exceeded());
    }

    #[test]
    fn a_modules_own_maximum_is_no_failure() {
        let mut limiter = Limiter::new(100, 10);
        assert!(!limiter.memory_growing(0, 60, Some(50)).unwrap());
        assert!(!limiter.table_growing(0, 6, Some(5)).unwrap());
        assert!(!limiter.exceeded());
        assert!(limiter.table_growing(0, 11, None).is_err());
        assert!(limiter.exceeded());
    }
}
