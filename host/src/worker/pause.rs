//! Whether accepting is paused, and what the log hears of it.
//!
//! At a limit, every connection that closes ends one pause, lets somebody in, and so begins the next. The log is told of
//! the whole row: when it begins, and when nobody waits any more; of one row a second at most.
//!
//! Whoever begins a pause sees to it that it is lifted: by a timer, and by each connection that closes.

use crate::clock::{MS, Nanos};

/// The log hears of a row no sooner than this after the one before.
const TELL_INTERVAL: Nanos = 1_000 * MS;

/// A worker's pauses.
#[derive(Debug, Default)]
pub(super) struct Pause {
    on: bool,
    /// When the row began. None: nobody was kept waiting lately.
    since: Option<Nanos>,
    /// The log has heard that this row began.
    told: bool,
    told_at: Option<Nanos>,
    timer: bool,
}

impl Pause {
    /// True while nothing is to be accepted.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// True from the first pause of a row until [`Self::over`].
    pub(super) fn is_in_a_row(&self) -> bool {
        self.since.is_some()
    }

    /// Somebody waits and can not be let in. True: the log is to be told now.
    pub(super) fn begin(&mut self, now: Nanos) -> bool {
        self.on = true;
        self.since.get_or_insert(now);
        let soon = self.told_at.is_some_and(|at| now.saturating_sub(at) < TELL_INTERVAL);
        let tell = !self.told && !soon;
        if tell {
            self.told = true;
            self.told_at = Some(now);
        }
        tell
    }

    /// True if a timer is to be set that calls [`Self::time_out`].
    pub(super) fn needs_timer(&mut self) -> bool {
        !std::mem::replace(&mut self.timer, true)
    }

    /// The timer has fired.
    pub(super) fn time_out(&mut self) {
        self.timer = false;
        self.lift();
    }

    /// Another try.
    pub(super) fn lift(&mut self) {
        self.on = false;
    }

    /// Nobody waits any more. How long the row took, if the log knows of it.
    pub(super) fn over(&mut self, now: Nanos) -> Option<Nanos> {
        let since = self.since.take()?;
        std::mem::take(&mut self.told).then(|| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_pauses_is_told_once_however_often_one_is_let_in() {
        let mut pause = Pause::default();
        assert!(!pause.is_on() && !pause.is_in_a_row());
        let told = (0..10_000).filter(|turn| {
            let told = pause.begin(turn * MS);
            assert!(pause.is_on());
            pause.lift();
            assert!(!pause.is_on() && pause.is_in_a_row());
            told
        });
        assert_eq!(told.count(), 1);
        assert_eq!(pause.over(20_000 * MS), Some(20_000 * MS));
        assert_eq!(pause.over(20_000 * MS), None);
    }

    #[test]
    fn rows_are_told_once_a_second() {
        let mut pause = Pause::default();
        let mut pairs = (0, 0);
        for turn in 0..3_000 {
            pairs.0 += u32::from(pause.begin(turn * MS));
            pause.lift();
            pairs.1 += u32::from(pause.over(turn * MS).is_some());
        }
        assert_eq!(pairs, (3, 3));
    }

    #[test]
    fn a_row_that_began_too_soon_is_told_when_it_lasts() {
        let mut pause = Pause::default();
        assert!(pause.begin(0));
        assert!(pause.over(MS).is_some());
        assert!(!pause.begin(2 * MS) && !pause.begin(900 * MS));
        assert!(pause.begin(1_000 * MS));
        assert_eq!(pause.over(1_500 * MS), Some(1_498 * MS));
    }

    #[test]
    fn there_is_one_timer_at_a_time() {
        let mut pause = Pause::default();
        pause.begin(0);
        assert!(pause.needs_timer() && !pause.needs_timer());
        pause.time_out();
        assert!(!pause.is_on() && pause.needs_timer());
    }
}
