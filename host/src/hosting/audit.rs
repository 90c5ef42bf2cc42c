//! Who did what: each action of an operator, done or refused, is a line of the log and a record of the store.
//!
//! It must never keep an action from happening, nor learn what was sent with it beyond what a refusal says.

use serde_json::Value;
use tidegate_store::AuditRecord;

use super::operator::{Operator, operator_only};
use super::types::{Actor, Refusal, RefusalKind};

/// Bytes of a reason in the audit and the log.
const REASON_BYTES_MAX: usize = 2048;

impl Operator {
    /// Notes who did what. A disk that is full hides nothing: then the log has it alone.
    pub(super) fn note<T>(
        &self,
        actor: &Actor,
        action: &str,
        app: Option<&str>,
        version: Option<u64>,
        done: &Result<T, Refusal>,
    ) {
        self.note_about(actor, action, app, version, None, done);
    }

    /// The same with what it was about, where that is neither an app nor a version.
    pub(super) fn note_about<T>(
        &self,
        actor: &Actor,
        action: &str,
        app: Option<&str>,
        version: Option<u64>,
        about: Option<&str>,
        done: &Result<T, Refusal>,
    ) {
        self.note_of((&actor.name, 1), actor, action, app, version, about, done);
    }

    /// The same where the first stands for all who may call themselves anything, and for so many refusals.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the record")]
    fn note_of<T>(
        &self,
        (whose, times): (&str, u64),
        actor: &Actor,
        action: &str,
        app: Option<&str>,
        version: Option<u64>,
        about: Option<&str>,
        done: &Result<T, Refusal>,
    ) {
        let refused = done.as_ref().err().map(|refusal| shortened(&refusal.message));
        let detail = refused.or_else(|| about.map(shortened));
        let by = &*actor.name;
        match done {
            Ok(_) => tracing::info!(by, app, version, detail, "{action}"),
            Err(_) => tracing::warn!(by, app, version, reason = detail, "{action}: refused"),
        }
        let record = AuditRecord {
            at_ms: now_ms(),
            by: by.to_owned(),
            action: action.to_owned(),
            app: app.map(str::to_owned),
            version,
            ok: done.is_ok(),
            detail,
        };
        if let Ok(store) = self.store()
            && let Err(error) = store.audit_of(whose, times, &record)
        {
            tracing::error!(%error, "the audit record can not be written");
        }
    }

    /// Somebody was turned away at the door of the admin side.
    pub(crate) fn note_refused(&self, peer: &str, why: &str, times: u64) {
        let who = Actor { name: peer.to_owned(), tenant: None };
        let refused = Err::<(), _>(Refusal::new(RefusalKind::Forbidden, why));
        // Addresses are many: all who are strangers count as one.
        self.note_of(("", times), &who, "authenticate", None, None, None, &refused);
    }

    /// The last audit records, the newest last.
    ///
    /// # Errors
    /// The actor is a tenant's, or they can not be read.
    pub(crate) fn audit(&self, actor: &Actor, lines: usize) -> Result<Vec<Value>, Refusal> {
        operator_only(actor)?;
        Ok(self.store()?.audit_tail(lines)?)
    }
}

/// What is kept of a reason: it may repeat what a client sent.
fn shortened(text: &str) -> String {
    match text.get(..text.floor_char_boundary(REASON_BYTES_MAX)) {
        Some(front) if front.len() < text.len() => format!("{front} ..."),
        _ => text.to_owned(),
    }
}

pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
