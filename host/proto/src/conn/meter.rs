//! The clocks of a connection: a deadline for each direction, and the slowest rate a peer may keep.

use crate::limits::Limits;

/// Milliseconds on the caller's monotonic clock.
pub type Millis = u64;

/// No deadline.
pub const NEVER: Millis = u64::MAX;

/// A deadline that moves on with every byte: `grace` from the start, then `rate` bytes a second.
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

    /// When the peer is too slow if nothing more comes until then. A rate of 0 never ends.
    pub(crate) const fn deadline(&self, grace_ms: u64, rate_bytes_per_s: u64) -> Millis {
        match self.bytes.saturating_mul(1000).checked_div(rate_bytes_per_s) {
            Some(earned_ms) => self.since_ms.saturating_add(grace_ms).saturating_add(earned_ms),
            None => NEVER,
        }
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
    /// The lingering close is over.
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

    #[test]
    fn a_rate_earns_time_for_every_byte() {
        let mut meter = Meter::start(1_000);
        assert_eq!(meter.deadline(5_000, 240), 6_000);
        meter.add(240);
        assert_eq!(meter.deadline(5_000, 240), 7_000);
        assert_eq!(meter.deadline(5_000, 0), NEVER);
        meter.add(u64::MAX);
        assert!(meter.deadline(5_000, 240) > 1 << 40);
    }
}
