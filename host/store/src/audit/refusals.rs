//! How many refusals have a record of their own: whoever is refused without end would else push all other records out of
//! the file. Those beyond that are counted, and told in one record.
//!
//! It must never know of files. Invariants: what was done is never counted away, only what was refused; the number of actors
//! who are told apart is bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::AuditRecord;

/// Refusals of one actor that have a record each, however fast they come.
const BURST: u32 = 20;
/// After this long there is one more. With the longest reasons it is weeks until one actor has filled a file.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// Actors who are told apart: as many as have a user or a token. Beyond that they are all one.
const ACTORS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<Box<str>, Actor>);

#[derive(Debug)]
struct Actor {
    /// Records that there may be now.
    left: u32,
    since: Instant,
    /// When a sum was last told because of something that it did.
    summed: Option<Instant>,
    /// Refusals without a record, and the last of them.
    untold: Option<(u64, AuditRecord)>,
}

impl Refusals {
    /// Whether a refusal of this actor, which stands for so many, has a record. If not, they are counted.
    pub(super) fn may_tell(&mut self, whose: &str, times: u64, record: &AuditRecord, now: Instant) -> bool {
        let whose = if self.0.contains_key(whose) || self.0.len() < ACTORS_MAX { whose } else { "" };
        let new = || Actor { left: BURST, since: now, summed: None, untold: None };
        let actor = self.0.entry(whose.into()).or_insert_with(new);
        let passed = now.saturating_duration_since(actor.since);
        let more = u32::try_from(passed.as_secs() / EVERY.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            actor.left = actor.left.saturating_add(more).min(BURST);
            actor.since = now;
        }
        if actor.left > 0 {
            actor.left -= 1;
            return true;
        }
        let untold = actor.untold.as_ref().map_or(0, |(untold, _)| *untold);
        actor.untold = Some((untold.saturating_add(times), record.clone()));
        false
    }

    /// What is to be told of those who were counted: of one actor, or of all. It is counted no more.
    pub(super) fn take(&mut self, of: Option<&str>) -> Vec<AuditRecord> {
        let taken = self.0.iter_mut().filter(|(whose, _)| of.is_none_or(|of| of == &***whose));
        taken.filter_map(|(_, actor)| actor.untold.take()).map(|(times, last)| sum(times, last)).collect()
    }

    /// Likewise for one actor who does something now, unless that was so a moment ago: what is done and refused by turns
    /// would else have a sum each time.
    pub(super) fn take_due(&mut self, whose: &str, now: Instant) -> Option<AuditRecord> {
        let actor = self.0.get_mut(whose)?;
        if actor.summed.is_some_and(|summed| now.saturating_duration_since(summed) < EVERY) {
            return None;
        }
        let (times, last) = actor.untold.take()?;
        actor.summed = Some(now);
        Some(sum(times, last))
    }

    /// Likewise for what has waited for long.
    pub(super) fn take_old(&mut self, now: Instant) -> Vec<AuditRecord> {
        let is_old = |actor: &&mut Actor| now.saturating_duration_since(actor.since) >= EVERY;
        let untold = self.0.values_mut().filter(is_old).filter_map(|actor| actor.untold.take());
        untold.map(|(times, last)| sum(times, last)).collect()
    }
}

/// The record of a refusal that stands for several.
pub(super) fn repeated(times: u64, mut record: AuditRecord) -> AuditRecord {
    let reason = record.detail.unwrap_or_default();
    record.detail = Some(format!("{reason} ({times} times)"));
    record
}

/// One record of several refusals.
fn sum(times: u64, mut last: AuditRecord) -> AuditRecord {
    if times > 1 {
        let reason = last.detail.unwrap_or_default();
        last.detail = Some(format!("{times} more times; the last time: {reason}"));
    }
    last
}
