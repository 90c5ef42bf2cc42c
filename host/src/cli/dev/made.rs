//! Files that builds write beside the sources: generated code, a stamp with the time.
//!
//! Nobody tells whether a file that changed during a build was written by it, or saved by the author meanwhile. A build
//! that writes a file writes it each time, and no author saves the same file in each of many builds, begun later and
//! later: that tells them apart. To take an edit for the build's would leave it out of what is served.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// What changes in so many builds in a row that were begun for nothing else, and in one more, is theirs.
const STREAK_MAX: u32 = 4;
/// By so much later each of them begins. An edit meanwhile is no build's.
const STEP: Duration = Duration::from_millis(300);

/// What changed during the last build, and in how many before it.
#[derive(Debug, Default)]
pub(super) struct Made(BTreeMap<PathBuf, u32>);

impl Made {
    /// A build is over during which these changed; `again` if it was begun only for such changes. Returns those that are
    /// worth another one.
    pub(super) fn sort(&mut self, changed: &BTreeSet<PathBuf>, again: bool) -> BTreeSet<PathBuf> {
        let streak = |path: &PathBuf| match self.0.get(path) {
            Some(streak) if again || *streak > STREAK_MAX => (streak + 1).min(STREAK_MAX + 1),
            _ => 1,
        };
        self.0 = changed.iter().map(|path| (path.clone(), streak(path))).collect();
        let edited = self.0.iter().filter(|(_, streak)| **streak <= STREAK_MAX);
        edited.map(|(path, _)| path.clone()).collect()
    }

    /// How long to wait before these are built again: not at all, if any of them is new.
    pub(super) fn patience(&self, changed: &BTreeSet<PathBuf>) -> Duration {
        let streaks = changed.iter().map(|path| self.0.get(path).copied().unwrap_or(1));
        STEP * streaks.min().unwrap_or(1).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> BTreeSet<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_every_build_changes_is_its_own_until_one_does_not() {
        let (mut made, stamp) = (Made::default(), paths(&["stamp"]));
        let mut waited = Duration::ZERO;
        for build in 0..STREAK_MAX {
            assert_eq!(made.sort(&stamp, build > 0), stamp, "{build}");
            assert!(build == 0 || made.patience(&stamp) > waited);
            waited = made.patience(&stamp);
        }
        assert_eq!(made.sort(&stamp, true), paths(&[]));
        // Also of builds that were begun for an edit, and beside others.
        assert_eq!(made.sort(&stamp, false), paths(&[]));
        assert_eq!(made.sort(&paths(&["lib.rs", "stamp"]), false), paths(&["lib.rs"]));
        assert_eq!(made.patience(&paths(&["lib.rs"])), Duration::ZERO);
        assert_eq!(made.sort(&paths(&[]), true), paths(&[]));
        assert_eq!(made.sort(&stamp, false), stamp);
    }

    #[test]
    fn what_is_edited_in_between_begins_anew() {
        let (mut made, lib) = (Made::default(), paths(&["lib.rs"]));
        for _ in 0..10 {
            assert_eq!(made.sort(&lib, false), lib);
            assert_eq!(made.sort(&lib, true), lib);
            assert_eq!(made.sort(&lib, true), lib);
        }
    }
}
