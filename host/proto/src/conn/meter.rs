//! The clocks of a connection: a deadline for each direction, and the slowest rate a peer may keep.
//!
//! They know no clock of their own: time comes in as an argument, and nothing here wakes anybody.

use crate::limits::Limits;

/// Milliseconds on the caller's monotonic clock.
pub type Millis = u64;

/// No deadline.
pub const NEVER: Millis = u64::MAX;

/// A deadline that every byte moves on: at first `grace` away, then `1 / rate` seconds later a byte, but never more
/// than `grace` away again. So no burst, however large, buys the right to stand still for longer.
///
/// Bytes are only counted as they come; [`Meter::settle`] turns them into time once the deadline is there. That way
/// a fast peer costs one look a grace period, and counting needs no clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    since_ms: Millis,
    bytes: u64,
}

impl Meter {
    pub(crate) const fn start(now: Millis) -> Self {
        Self { since_ms: now, bytes: 0 }
    }

    pub(crate) const fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// When to settle next: the peer is too slow if nothing has been earned by then. A rate of 0 never ends.
    const fn deadline(&self, grace_ms: u64, rate_bytes_per_s: u64) -> Millis {
        if rate_bytes_per_s == 0 { NEVER } else { self.since_ms.saturating_add(grace_ms) }
    }

    /// Moves the deadline on by what the bytes have earned.
    fn settle(&mut self, now: Millis, rate_bytes_per_s: u64) {
        let earned_ms = self.bytes.saturating_mul(1000).checked_div(rate_bytes_per_s).unwrap_or(0);
        self.since_ms = self.since_ms.saturating_add(earned_ms).min(now);
        self.bytes = 0;
    }
}

/// Why a direction has a deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Nothing is waited for.
    Nothing,
    /// Until a point in time.
    Until(Millis, Timeout),
    /// For as long as the rate holds.
    Rate(Meter, Timeout),
}

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// No further request came.
    Idle,
    /// The head did not come in time (408).
    Head,
    /// The body came too slowly (408).
    Body,
    /// The answer was read too slowly.
    Reader,
    /// The peer has ended its side and the answer does not move.
    HalfClose,
    /// The lingering close is over, or the discarding of what was left of a request: close.
    Linger,
}

impl Wait {
    pub(crate) const fn deadline(&self, limits: &Limits) -> Millis {
        match self {
            Self::Nothing => NEVER,
            Self::Until(at, _) => *at,
            Self::Rate(meter, Timeout::Body) => {
                meter.deadline(limits.body_grace_ms, limits.rate_bytes_per_s_min)
            }
            Self::Rate(meter, _) => meter.deadline(limits.write_grace_ms, limits.rate_bytes_per_s_min),
        }
    }

    /// What has run out at `now`, if it has.
    pub(crate) fn expire(&mut self, now: Millis, limits: &Limits) -> Option<Timeout> {
        if self.deadline(limits) > now {
            return None;
        }
        if let Self::Rate(meter, _) = self {
            meter.settle(now, limits.rate_bytes_per_s_min);
        }
        self.kind().filter(|_| self.deadline(limits) <= now)
    }

    pub(crate) const fn kind(&self) -> Option<Timeout> {
        match self {
            Self::Nothing => None,
            Self::Until(_, kind) | Self::Rate(_, kind) => Some(*kind),
        }
    }

    pub(crate) const fn add(&mut self, bytes: u64) {
        if let Self::Rate(meter, _) = self {
            meter.add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 240 B/s after 5 s.
    fn body(start: Millis) -> (Wait, Limits) {
        (Wait::Rate(Meter::start(start), Timeout::Body), Limits::default())
    }

    #[test]
    fn nothing_ends_with_the_grace() {
        let (mut wait, limits) = body(1_000);
        assert_eq!(wait.deadline(&limits), 6_000);
        assert_eq!(wait.expire(5_999, &limits), None);
        assert_eq!(wait.expire(6_000, &limits), Some(Timeout::Body));
        assert_eq!(wait.expire(6_000, &limits), Some(Timeout::Body), "and stays so");
    }

    #[test]
    fn bytes_earn_time() {
        let (mut wait, limits) = body(0);
        wait.add(240);
        assert_eq!(wait.deadline(&limits), 5_000, "settled only then");
        assert_eq!(wait.expire(5_000, &limits), None);
        assert_eq!(wait.deadline(&limits), 6_000);
        assert_eq!(wait.expire(6_000, &limits), Some(Timeout::Body));
    }

    #[test]
    fn the_slowest_rate_lasts_and_one_below_it_does_not() {
        for (rate, lasts) in [(240, true), (239, false)] {
            let (mut wait, limits) = body(0);
            let end = (0..4_000_u64).find_map(|second| {
                wait.add(rate);
                wait.expire((second + 1) * 1_000, &limits)
            });
            assert_eq!(end.is_none(), lasts, "{rate}");
        }
    }

    #[test]
    fn no_burst_buys_more_than_a_grace() {
        let (mut wait, limits) = body(0);
        wait.add(u64::MAX);
        assert_eq!(wait.expire(5_000, &limits), None);
        assert_eq!(wait.deadline(&limits), 10_000);
        assert_eq!(wait.expire(10_000, &limits), Some(Timeout::Body));
    }

    #[test]
    fn bytes_that_come_late_still_count_before_the_verdict() {
        let (mut wait, limits) = body(0);
        wait.add(2_400);
        assert_eq!(wait.expire(9_000, &limits), None, "looked at late: until 15 s at most, 14 s as of now");
        assert_eq!(wait.deadline(&limits), 14_000);
    }

    #[test]
    fn a_rate_of_0_never_ends() {
        let (mut wait, limits) = body(0);
        let limits = Limits { rate_bytes_per_s_min: 0, ..limits };
        assert_eq!((wait.deadline(&limits), wait.expire(u64::MAX - 1, &limits)), (NEVER, None));
    }

    #[test]
    fn a_point_in_time_is_not_moved_by_bytes() {
        let mut wait = Wait::Until(7, Timeout::Linger);
        wait.add(1_000_000);
        assert_eq!(wait.expire(6, &Limits::default()), None);
        assert_eq!(wait.expire(7, &Limits::default()), Some(Timeout::Linger));
        assert_eq!(Wait::Nothing.expire(u64::MAX - 1, &Limits::default()), None);
    }
}
