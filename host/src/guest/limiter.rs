//! Limits on what a Store may hold: memory over all its memories together, elements over all its tables, instances.

use wasmtime::{Result, bail};

use super::engine::{MEMORIES_PER_MODULE_MAX, TABLES_PER_MODULE_MAX};
use crate::config::Given;

/// Core instances of one Store: a component has several.
pub(crate) const CORE_INSTANCES_MAX: u32 = 64;

/// Counts what one Store holds. A growth beyond the limit traps rather than failing, so that it has a name.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    table_elements_max: usize,
    exceeded: bool,
}

impl Limiter {
    pub(crate) fn new(memory_bytes_max: u64, table_elements_max: usize) -> Self {
        let memory_bytes_max = usize::try_from(memory_bytes_max).unwrap_or(usize::MAX);
        Self { memory_bytes: 0, memory_bytes_max, table_elements: 0, table_elements_max, exceeded: false }
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
