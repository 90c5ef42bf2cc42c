//! What a canary is judged by: the requests it has had, and how many of them failed.
//!
//! It knows no operator and no store. Invariant: what the version did before it became this canary does not count.

use std::sync::Arc;

use tidegate_store::records::CanaryRecord;

use super::types::{CanaryRule, Refusal, RefusalKind};
use crate::tenants::canary::Chosen;
use crate::tenants::registry::App;

/// A version that serves some of the requests.
#[derive(Clone)]
pub(super) struct Canary {
    pub(super) app: Arc<App>,
    pub(super) rule: CanaryRule,
    pub(super) chosen: Chosen,
    /// Requests and failures of this version before it became this canary.
    since: (u64, u64),
}

impl Canary {
    /// # Errors
    /// The rule is not one.
    pub(super) fn new(app: Arc<App>, rule: CanaryRule) -> Result<Self, Refusal> {
        let chosen = Chosen::parse(rule.percent, rule.header.as_deref(), rule.cookie.as_deref());
        let chosen = chosen.map_err(|error| Refusal {
            kind: RefusalKind::Invalid,
            message: error.message,
            help: error.help,
        })?;
        if rule.failure_percent > 100 {
            let message = format!("{} hundredths of the requests are more than all", rule.failure_percent);
            return Err(Refusal::new(RefusalKind::Invalid, message));
        }
        let since = app.tally.as_ref().map(|tally| tally.get()).unwrap_or_default();
        Ok(Self { app, rule, chosen, since })
    }

    pub(super) fn record(&self) -> Result<CanaryRecord, Refusal> {
        let rule = serde_json::to_value(&self.rule)
            .map_err(|error| Refusal::new(RefusalKind::Internal, error.to_string()))?;
        Ok(CanaryRecord { version: self.app.number, rule })
    }

    /// Requests that ended since it began, and how many of them failed.
    pub(super) fn tally(&self) -> (u64, u64) {
        let (requests, failures) = self.app.tally.as_ref().map(|tally| tally.get()).unwrap_or_default();
        (requests.saturating_sub(self.since.0), failures.saturating_sub(self.since.1))
    }

    /// Why it has to end, if it has to.
    pub(super) fn verdict(&self) -> Option<String> {
        let (requests, failures) = self.tally();
        is_failing(&self.rule, requests, failures).then(|| {
            format!("{failures} of {requests} requests failed, and {} % may", self.rule.failure_percent)
        })
    }
}

/// Whether too many requests have failed. Before it has had its least number of requests it is judged as if the ones
/// that are still to come would go well: one that can not recover is not waited for.
fn is_failing(rule: &CanaryRule, requests: u64, failures: u64) -> bool {
    let of = requests.max(u64::from(rule.requests_min)).max(1);
    failures > 0 && failures.saturating_mul(100) > of.saturating_mul(u64::from(rule.failure_percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_fails_when_it_can_not_recover() {
        let rule = CanaryRule { failure_percent: 10, requests_min: 20, ..CanaryRule::default() };
        for (requests, failures, failing) in [
            (0, 0, false),
            (1, 1, false),
            (2, 2, false),
            (3, 3, true),
            (20, 2, false),
            (20, 3, true),
            (1000, 100, false),
            (1000, 101, true),
        ] {
            assert_eq!(is_failing(&rule, requests, failures), failing, "{failures} of {requests}");
        }
        let strict = CanaryRule { failure_percent: 0, requests_min: 0, ..CanaryRule::default() };
        assert!(!is_failing(&strict, 100, 0) && is_failing(&strict, 100, 1));
        let never = CanaryRule { failure_percent: 100, requests_min: 0, ..CanaryRule::default() };
        assert!(!is_failing(&never, 5, 5));
    }
}
