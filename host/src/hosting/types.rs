//! What an operator asks for and is told, as data: the admin API sends and takes these as JSON, the command line shows
//! them.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use crate::observe::requests::RequestView;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    /// `uid 1000`, `token ci`, or `server` for what happens by itself.
    pub(crate) name: String,
    /// Whose apps it may see and change. None: everybody's.
    pub(crate) tenant: Option<String>,
}

/// What happens by itself.
pub(crate) static SERVER: LazyLock<Actor> =
    LazyLock::new(|| Actor { name: "server".to_owned(), tenant: None });

/// Why something was not done. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    /// What is wrong, as a clause in lower case.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
}

/// Kinds of refusals. Each is a status of the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RefusalKind {
    /// 400: it cannot be meant.
    Invalid,
    /// 403: not this actor's business.
    Forbidden,
    /// 404: no such app, version, module or request.
    NotFound,
    /// 409: it contradicts what is there: a route of somebody else's, a canary that is under way.
    Conflict,
    /// 413: an upload is larger than it may be.
    TooLarge,
    /// 422: the module is not taken: not valid, does not compile within its limits, does not link, fails its health request.
    Module,
    /// 503: not now: the server ends, or hands over to another.
    Unavailable,
    /// 507: the disk is full.
    DiskFull,
    /// 500: the server's fault.
    Internal,
}

/// What to deploy. The module was uploaded before.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deploy {
    /// BLAKE3 of the module, 64 hexadecimal digits.
    pub(crate) module: String,
    /// What an `[[app]]` of a manifest says, without `name` and `source`: the same keys and values. What is left out is as in
    /// the version that serves now; a first version has the defaults.
    #[serde(default)]
    pub(crate) settings: Map<String, Value>,
    /// A word for people: a commit, a ticket.
    #[serde(default)]
    pub(crate) note: Option<String>,
    /// Serve it to some requests only.
    #[serde(default)]
    pub(crate) canary: Option<CanaryRule>,
    /// Keep it, and go on with the version that serves.
    #[serde(default)]
    pub(crate) inactive: bool,
}

/// Which requests a canary gets. Several: those that fit any of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CanaryRule {
    /// Hundredths of all requests, chosen by chance. 0 to 100.
    pub(crate) percent: u8,
    /// `name` or `name: value`: requests with this header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<String>,
    /// `name` or `name=value`: requests with this cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cookie: Option<String>,
    /// It is rolled back when more than this many hundredths of its requests fail. Default 5.
    pub(crate) failure_percent: u8,
    /// But not before it has had this many. Default 20.
    pub(crate) requests_min: u32,
}

impl Default for CanaryRule {
    fn default() -> Self {
        Self { percent: 0, header: None, cookie: None, failure_percent: 5, requests_min: 20 }
    }
}

/// A step of a deploy, as it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    Validate,
    Compile,
    WarmUp,
    Store,
    Switch,
}

/// How far a deploy is: a step that begins, or goes on for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    pub(crate) step: Step,
    /// Whole seconds since it began, told once a second at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<u64>,
}

impl From<Step> for Progress {
    fn from(step: Step) -> Self {
        Self { step, seconds: None }
    }
}

/// What came of a deploy, a rollback or a change of limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deployed {
    pub(crate) app: String,
    /// The version that it is about.
    pub(crate) version: u64,
    /// The version that serves what no canary takes. None: none does.
    pub(crate) active: Option<u64>,
    /// The one before.
    pub(crate) before: Option<u64>,
    /// True if all of it was so already.
    pub(crate) unchanged: bool,
    /// The canary that is none any more because of it, and does not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<u64>,
}

/// An app, as `apps` lists it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AppView {
    pub(crate) name: String,
    pub(crate) tenant: Option<String>,
    pub(crate) routes: Vec<String>,
    /// The version that serves. None: none does.
    pub(crate) active: Option<u64>,
    pub(crate) canary: Option<CanaryView>,
    /// Number of versions that are kept.
    pub(crate) versions: usize,
    /// Whether the code is in memory.
    pub(crate) loaded: bool,
    /// Requests that run, and that wait.
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    /// `deploy` or `manifest`.
    pub(crate) origin: String,
    /// The settings, as [`Deploy::settings`] takes them. Secrets are there by their sources and never by their values.
    pub(crate) settings: Map<String, Value>,
    /// What it keeps, where that was asked for: of one app, and if it may keep anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kv: Option<KvView>,
    /// What keeps it, or its canary, from being served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

/// What an app keeps in the key-value store.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct KvView {
    pub(crate) keys: u64,
    /// Of keys and values.
    pub(crate) bytes: u64,
}

/// A canary that is under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CanaryView {
    pub(crate) version: u64,
    pub(crate) rule: CanaryRule,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

/// A version, as `versions` lists it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VersionView {
    pub(crate) version: u64,
    pub(crate) module: String,
    pub(crate) module_bytes: u64,
    pub(crate) kind: String,
    /// Milliseconds since 1970.
    pub(crate) created_ms: u64,
    pub(crate) by: String,
    pub(crate) note: Option<String>,
    /// `active`, `canary`, `kept`, or `failed` for a canary that was rolled back.
    pub(crate) state: String,
    /// Why it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// What to do about a canary.
#[derive(Clone, Debug)]
pub(crate) enum CanaryChange {
    /// Start one with a version that is kept, or change the rule of the one that is under way.
    Set { version: u64, rule: CanaryRule },
    /// It becomes what everybody gets.
    Promote,
    /// It ends, and everybody gets what most get now.
    Abort,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}
