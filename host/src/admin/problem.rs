//! Refusals as problem documents (RFC 9457).

use serde::Serialize;

use crate::hosting::types::{Refusal, RefusalKind};

/// A refusal on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: u16,
    /// What it is, for programs: the kind of a [`Refusal`], or one of the door's own.
    pub(super) kind: &'static str,
    /// What is wrong, for people.
    pub(super) detail: String,
    /// What to do about it.
    pub(super) help: Option<String>,
    /// A field that belongs to it.
    pub(super) field: Option<(&'static str, String)>,
}

/// As it is sent.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    kind: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

impl Problem {
    pub(super) fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), help: None, field: None }
    }

    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(super) fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.field = Some((name, value.into()));
        self
    }

    /// The document.
    pub(super) fn json(&self) -> Vec<u8> {
        let document = Document {
            r#type: format!("urn:tidegate:admin:{}", self.kind),
            title: tidegate_proto::http1::encode::reason_phrase(self.status),
            status: self.status,
            kind: self.kind,
            detail: &self.detail,
            help: self.help.as_deref(),
        };
        // Strings and numbers: there is nothing that JSON could not say.
        let mut body = serde_json::to_vec(&document).unwrap_or_default();
        body.push(b'\n');
        body
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let Refusal { kind, message, help } = refusal;
        Self { status: status(kind), kind: word(kind), detail: message, help, field: None }
    }
}

/// The status of a kind.
pub(super) const fn status(kind: RefusalKind) -> u16 {
    match kind {
        RefusalKind::Invalid => 400,
        RefusalKind::Forbidden => 403,
        RefusalKind::NotFound => 404,
        RefusalKind::Conflict => 409,
        RefusalKind::TooLarge => 413,
        RefusalKind::Module => 422,
        RefusalKind::Internal => 500,
        RefusalKind::Unavailable => 503,
        RefusalKind::DiskFull => 507,
    }
}

/// The kind as its JSON has it.
pub(super) const fn word(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::Invalid => "invalid",
        RefusalKind::Forbidden => "forbidden",
        RefusalKind::NotFound => "not-found",
        RefusalKind::Conflict => "conflict",
        RefusalKind::TooLarge => "too-large",
        RefusalKind::Module => "module",
        RefusalKind::Internal => "internal",
        RefusalKind::Unavailable => "unavailable",
        RefusalKind::DiskFull => "disk-full",
    }
}

/// A refusal of our own, for what cannot be meant.
pub(super) fn invalid(message: impl Into<String>, help: Option<&str>) -> Refusal {
    Refusal { kind: RefusalKind::Invalid, message: message.into(), help: help.map(str::to_owned) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::admin) const KINDS: [RefusalKind; 9] = [
        RefusalKind::Invalid,
        RefusalKind::Forbidden,
        RefusalKind::NotFound,
        RefusalKind::Conflict,
        RefusalKind::TooLarge,
        RefusalKind::Module,
        RefusalKind::Internal,
        RefusalKind::Unavailable,
        RefusalKind::DiskFull,
    ];

    #[test]
    fn the_words_of_kinds_are_those_of_their_json() {
        for kind in KINDS {
            assert_eq!(serde_json::to_value(kind).unwrap(), word(kind));
            assert!(matches!(status(kind), 400..=599));
        }
    }

    #[test]
    fn a_document_says_what_and_what_to_do() {
        let problem = Problem::from(invalid("a \"b\"\n", Some("do c")));
        let json: serde_json::Value = serde_json::from_slice(&problem.json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:tidegate:admin:invalid",
                "title": "Bad Request",
                "status": 400,
                "kind": "invalid",
                "detail": "a \"b\"\n",
                "help": "do c",
            })
        );
        let json = Problem::new(503, "busy", "x").json();
        assert!(!String::from_utf8(json).unwrap().contains("help"));
    }
}
