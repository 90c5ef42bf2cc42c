//! Answers that are still good, by name.
//!
//! Time comes in as an argument. It never asks anybody. Invariants: it holds no more names than it was told to, and
//! `by_end` has exactly one entry for each name; what does not fit takes the place of what would have ended first.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Answer, LookupError};
use crate::clock::{MS, Nanos};

const SECOND: Nanos = 1_000 * MS;
/// How long an answer is good: for its TTL, within these seconds. A TTL of 0 would have every request ask.
const ADDRESSES_SECONDS: (u32, u32) = (1, 3_600);
/// The same for the news that there is nothing (RFC 2308 allows hours; who has just made the name would wait for them).
const NOTHING_SECONDS: (u32, u32) = (1, 60);
/// How long a failure is good: enough for a guest that tries again at once to meet it here.
const FAILURE_SECONDS: u32 = 1;

/// How long `answer`, which came with `ttl_seconds`, is good.
pub(super) fn lifetime(answer: &Answer, ttl_seconds: u32) -> Nanos {
    let seconds = match answer {
        Ok(_) => ttl_seconds.clamp(ADDRESSES_SECONDS.0, ADDRESSES_SECONDS.1),
        Err(LookupError::NotFound | LookupError::NoAddress) => {
            ttl_seconds.clamp(NOTHING_SECONDS.0, NOTHING_SECONDS.1)
        }
        Err(_) => FAILURE_SECONDS,
    };
    u64::from(seconds) * SECOND
}

struct Entry {
    answer: Answer,
    until: Nanos,
}

pub(super) struct Cache {
    entries: HashMap<Arc<str>, Entry>,
    by_end: BTreeSet<(Nanos, Arc<str>)>,
    names_max: usize,
}

impl Cache {
    pub(super) fn new(names_max: usize) -> Self {
        Self { entries: HashMap::new(), by_end: BTreeSet::new(), names_max }
    }

    pub(super) fn get(&self, name: &str, now: Nanos) -> Option<Answer> {
        self.entries.get(name).filter(|entry| now < entry.until).map(|entry| entry.answer.clone())
    }

    /// Keeps `answer` until `until`, in place of what there was for `name`.
    pub(super) fn put(&mut self, name: Arc<str>, answer: Answer, until: Nanos, now: Nanos) {
        if let Some(old) = self.entries.remove(&name) {
            self.by_end.remove(&(old.until, Arc::clone(&name)));
        }
        while self.by_end.first().is_some_and(|(end, _)| *end <= now || self.entries.len() >= self.names_max)
        {
            if let Some((_, gone)) = self.by_end.pop_first() {
                self.entries.remove(&gone);
            }
        }
        self.by_end.insert((until, Arc::clone(&name)));
        self.entries.insert(name, Entry { answer, until });
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn address(last: u8) -> Answer {
        Ok(Arc::from([IpAddr::from([192, 0, 2, last])]))
    }

    #[test]
    fn an_answer_ends_with_its_time() {
        let mut cache = Cache::new(8);
        cache.put("a".into(), address(1), 100, 0);
        assert_eq!(cache.get("a", 99), Some(address(1)));
        assert_eq!(cache.get("a", 100), None);
        assert_eq!(cache.get("b", 0), None);
        // What has ended is taken out when something comes in.
        cache.put("b".into(), address(2), 200, 100);
        assert_eq!((cache.entries.len(), cache.by_end.len()), (1, 1));
    }

    #[test]
    fn a_later_answer_takes_the_place_of_an_earlier_one() {
        let mut cache = Cache::new(8);
        cache.put("a".into(), address(1), 100, 0);
        cache.put("a".into(), Err(LookupError::NotFound), 50, 0);
        assert_eq!(cache.get("a", 0), Some(Err(LookupError::NotFound)));
        assert_eq!(cache.get("a", 60), None, "the end of the earlier one is forgotten");
        assert_eq!((cache.entries.len(), cache.by_end.len()), (1, 1));
    }

    #[test]
    fn what_does_not_fit_takes_the_place_of_what_ends_first() {
        let mut cache = Cache::new(3);
        for (name, until) in [("a", 300), ("b", 100), ("c", 200), ("d", 150)] {
            cache.put(name.into(), address(1), until, 0);
        }
        let held = |name| cache.get(name, 0).is_some();
        assert_eq!(["a", "b", "c", "d"].map(held), [true, false, true, true]);
        assert_eq!((cache.entries.len(), cache.by_end.len()), (3, 3));
    }

    #[test]
    fn lifetimes_are_bounded() {
        let found = address(1);
        let seconds = |answer: &Answer, ttl| lifetime(answer, ttl) / SECOND;
        assert_eq!([0, 1, 300, u32::MAX].map(|ttl| seconds(&found, ttl)), [1, 1, 300, 3_600]);
        for nothing in [Err(LookupError::NotFound), Err(LookupError::NoAddress)] {
            assert_eq!([0, 30, u32::MAX].map(|ttl| seconds(&nothing, ttl)), [1, 30, 60]);
        }
        for failure in [Err(LookupError::Timeout), Err(LookupError::Failed("x".into()))] {
            assert_eq!(seconds(&failure, 300), 1);
        }
    }
}
