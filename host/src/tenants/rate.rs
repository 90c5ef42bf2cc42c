//! Rates that are kept with one word each: requests a second, and CPU time a second.
//!
//! Both are the generic cell rate algorithm: the word is the time by which all that was taken is paid for. Nothing waits
//! here, and nobody holds a lock; how much may be taken at once is what may be paid for in advance.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::clock::{MS, Nanos};

const SECOND: Nanos = 1_000 * MS;

/// CPU time that may be used at once by whoever used none for a while.
const CPU_BURST: Nanos = 100 * MS;

/// So many a second, and as many at once.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// What one costs, in whole nanoseconds: a rate of a million is kept to a thousandth. 0: there is no limit.
    each: AtomicU64,
    paid_at: AtomicU64,
}

impl Rate {
    /// Another rate from now on. What was taken until now counts as it did.
    pub(crate) fn set(&self, per_s: Option<u32>) {
        self.each.store(per_s.map_or(0, |per_s| SECOND / u64::from(per_s.max(1))), Relaxed);
    }

    /// Takes one.
    ///
    /// # Errors
    /// There is none. It says after how long there will be, if nobody else takes it.
    pub(crate) fn take(&self, now: Nanos) -> Result<(), Nanos> {
        let each = self.each.load(Relaxed);
        if each == 0 {
            return Ok(());
        }
        let paid = |at: Nanos| at.max(now).saturating_add(each);
        let latest = now.saturating_add(SECOND);
        self.paid_at
            .fetch_update(Relaxed, Relaxed, |at| Some(paid(at)).filter(|at| *at <= latest))
            .map(drop)
            .map_err(|at| paid(at).saturating_sub(latest))
    }

    /// One that was taken was not used.
    pub(crate) fn give_back(&self) {
        let each = self.each.load(Relaxed);
        // Never more than was taken: whoever gives back has taken.
        let _ = self.paid_at.fetch_update(Relaxed, Relaxed, |at| Some(at.saturating_sub(each)));
    }
}

/// A share of the machine's CPU time, counted after it was used: who is in debt waits until it is paid.
#[derive(Debug, Default)]
pub(crate) struct CpuShare {
    /// Hundredths of one core. 0: there is no limit.
    percent: AtomicU32,
    paid_at: AtomicU64,
}

impl CpuShare {
    /// Another share from now on. A debt stays.
    pub(crate) fn set(&self, percent: Option<u32>) {
        self.percent.store(percent.unwrap_or(0), Relaxed);
    }

    pub(crate) fn has_limit(&self) -> bool {
        self.percent.load(Relaxed) != 0
    }

    /// CPU time was used.
    pub(crate) fn charge(&self, now: Nanos, used: Nanos) {
        let percent = self.percent.load(Relaxed);
        if percent == 0 {
            return;
        }
        let whole = |part: Nanos| part.saturating_mul(100) / u64::from(percent);
        let earliest = now.saturating_sub(whole(CPU_BURST));
        let cost = whole(used);
        let _ = self.paid_at.fetch_update(Relaxed, Relaxed, |at| Some(at.max(earliest).saturating_add(cost)));
    }

    /// When all that was used is paid for. None: it is.
    pub(crate) fn in_debt_until(&self, now: Nanos) -> Option<Nanos> {
        if self.percent.load(Relaxed) == 0 {
            return None;
        }
        Some(self.paid_at.load(Relaxed)).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Nanos = 5_000 * SECOND;

    #[test]
    fn a_rate_has_a_burst_of_one_second_and_then_its_pace() {
        for per_s in [1, 2, 3, 7, 100, 999_983] {
            let rate = Rate::default();
            rate.set(Some(per_s));
            let burst = (0..per_s + 5).filter(|_| rate.take(START).is_ok()).count();
            assert!((0..=per_s as usize / 10_000).contains(&(burst - per_s as usize)), "{burst} of {per_s}");
            // Over ten seconds in small steps: ten seconds' worth, and none of the burst again.
            let taken = (1..=10_000).map(|ms| START + ms * MS).fold(0, |taken, now| {
                let now_taken = std::iter::from_fn(|| rate.take(now).ok()).count();
                taken + now_taken
            });
            let expected = 10 * per_s as usize;
            assert!(taken.abs_diff(expected) <= 1 + expected / 10_000, "{taken} of {expected}");
        }
    }

    #[test]
    fn whoever_waits_as_long_as_was_said_finds_one_and_no_sooner() {
        let rate = Rate::default();
        rate.set(Some(3));
        let mut now = START;
        for _ in 0..100 {
            match rate.take(now) {
                Ok(()) => {}
                Err(wait) => {
                    assert!(wait > 0 && wait <= SECOND);
                    assert!(rate.take(now + wait - 1).is_err());
                    now += wait;
                    assert_eq!(rate.take(now), Ok(()));
                }
            }
        }
    }

    #[test]
    fn what_was_not_used_is_given_back() {
        let rate = Rate::default();
        rate.set(Some(1));
        for _ in 0..10 {
            assert_eq!(rate.take(START), Ok(()));
            rate.give_back();
        }
        assert_eq!(rate.take(START), Ok(()));
        assert!(rate.take(START).is_err());
        rate.set(None);
        assert_eq!(rate.take(START), Ok(()));
    }

    #[test]
    fn idling_earns_a_burst_and_no_more() {
        let share = CpuShare::default();
        share.charge(START, SECOND);
        assert_eq!(share.in_debt_until(START), None, "there is no limit");
        share.set(Some(50));
        share.charge(START, 100 * MS);
        assert_eq!(share.in_debt_until(START), None);
        share.charge(START, MS);
        assert_eq!(share.in_debt_until(START), Some(START + 2 * MS));
        let later = START + 1_000 * SECOND;
        share.charge(later, 101 * MS);
        assert_eq!(share.in_debt_until(later), Some(later + 2 * MS));
    }

    #[test]
    fn in_the_long_run_the_share_is_kept_whoever_asks() {
        for percent in [1, 10, 50, 200] {
            let share = CpuShare::default();
            share.set(Some(percent));
            // As many workers as that, each of which runs slices of a millisecond for as long as it may.
            let (workers, mut used, mut now) = (4, 0, START);
            while now < START + 100 * SECOND {
                for _ in 0..workers {
                    if share.in_debt_until(now).is_none() {
                        share.charge(now, MS);
                        used += MS;
                    }
                }
                now += MS;
            }
            let allowed = SECOND * u64::from(percent);
            assert!(used >= allowed - allowed / 50, "{percent}: {used} of {allowed}");
            assert!(used <= allowed + CPU_BURST + workers * MS, "{percent}: {used} of {allowed}");
        }
    }
}
