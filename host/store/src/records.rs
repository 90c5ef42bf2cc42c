//! What is kept of an app, as JSON in the registry. Fields are added with a default, and never change their meaning.

use serde::{Deserialize, Serialize};

/// An app and the versions of it that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    /// Unique.
    pub name: String,
    /// Whose it is. None: the operator's.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The version that serves. None: none does.
    pub active: Option<u64>,
    /// The one that served before it: where a rollback leads by itself.
    #[serde(default)]
    pub before: Option<u64>,
    /// A version that serves some of the requests.
    #[serde(default)]
    pub canary: Option<CanaryRecord>,
    /// The number of the next version; no number is given twice.
    pub next: u64,
    /// Versions, by rising number.
    pub versions: Vec<VersionRecord>,
    /// What the manifest's entry was when it was applied last, hashed. None: it did not come from a manifest.
    #[serde(default)]
    pub manifest: Option<String>,
}

/// A version of an app. It never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Its number, from 1.
    pub number: u64,
    /// BLAKE3 of the module, 64 hexadecimal digits.
    pub module: String,
    /// Bytes of the module.
    pub module_bytes: u64,
    /// Its settings: TOML, the keys of a manifest's `[[app]]` without `name` and `source`, paths absolute.
    pub settings: String,
    /// What is known of the module without loading it: JSON, as the server wrote it.
    pub facts: serde_json::Value,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Who made it.
    pub by: String,
    /// A word for people.
    #[serde(default)]
    pub note: Option<String>,
    /// It was a canary and was rolled back: why.
    #[serde(default)]
    pub failed: Option<String>,
}

/// A version that serves some of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryRecord {
    /// Its number.
    pub version: u64,
    /// Which requests: JSON, as the admin API takes it.
    pub rule: serde_json::Value,
}
