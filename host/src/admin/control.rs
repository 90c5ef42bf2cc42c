//! What the admin side asks of the server behind it.
//!
//! A trait, so that everything in front of it can be tried against a server that is none. Whoever implements it decides
//! what an actor may see and change, and keeps the audit of what was done; who that actor is has been settled before.

use std::io::Read;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::hosting::types::{
    Actor, AppView, CanaryChange, Deploy, Deployed, Progress, Refusal, RequestView, VersionView,
};

/// The server, as its operators and tenants command it.
pub(crate) trait Control: Send + Sync {
    /// Takes a module in, of `declared` bytes if that is known. Gives its hash and its size in bytes.
    fn receive_module(
        &self,
        actor: &Actor,
        read: &mut dyn Read,
        declared: Option<u64>,
    ) -> Result<(String, u64), Refusal>;

    /// Whether a module need not be sent again.
    fn has_module(&self, actor: &Actor, hash: &str) -> bool;

    /// Makes a version of what was uploaded and, unless it says otherwise, serves it. `progress` is told of each step.
    fn deploy(
        &self,
        actor: &Actor,
        app: &str,
        deploy: Deploy,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Deployed, Refusal>;

    /// Goes back to a version; without one, to the one that served before.
    fn rollback(&self, actor: &Actor, app: &str, to: Option<u64>) -> Result<Deployed, Refusal>;

    /// Takes an app and its versions away.
    fn remove(&self, actor: &Actor, app: &str) -> Result<(), Refusal>;

    /// Begins, changes or ends a canary.
    fn canary(&self, actor: &Actor, app: &str, change: CanaryChange) -> Result<Deployed, Refusal>;

    /// All apps that the actor may see.
    fn apps(&self, actor: &Actor) -> Result<Vec<AppView>, Refusal>;

    /// One of them.
    fn app(&self, actor: &Actor, app: &str) -> Result<AppView, Refusal>;

    /// Its versions, the newest first.
    fn versions(&self, actor: &Actor, app: &str) -> Result<Vec<VersionView>, Refusal>;

    /// Its limits, as a manifest writes them.
    fn limits(&self, actor: &Actor, app: &str) -> Result<Map<String, Value>, Refusal>;

    /// Changes some of them; null takes one back to its default.
    fn set_limits(&self, actor: &Actor, app: &str, changes: Map<String, Value>) -> Result<Deployed, Refusal>;

    /// What the apps are doing now.
    fn requests(&self, actor: &Actor) -> Result<Vec<RequestView>, Refusal>;

    /// Ends one of them.
    fn cancel(&self, actor: &Actor, id: &str) -> Result<(), Refusal>;

    /// The last lines of an app's log, and then what comes.
    fn follow_logs(&self, actor: &Actor, app: &str, lines: usize) -> Result<Box<dyn LogSource>, Refusal>;

    /// Reads the manifest again and applies it.
    fn reload(&self, actor: &Actor) -> Result<Vec<Deployed>, Refusal>;

    /// A manifest of what is there.
    fn export(&self, actor: &Actor) -> Result<String, Refusal>;

    /// The last records of the audit.
    fn audit(&self, actor: &Actor, lines: usize) -> Result<Vec<Value>, Refusal>;

    /// Facts about the server as a whole: an object, with `version` at least.
    fn server(&self, actor: &Actor) -> Result<Map<String, Value>, Refusal>;

    /// The metrics of the whole server, in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Whether requests are served, else why not.
    fn is_ready(&self) -> Result<(), String>;

    /// Somebody was turned away at the door. It is asked at a bounded rate: `times` says how often that was since.
    fn note_refused(&self, peer: &str, why: &str, times: u64);
}

/// What a log has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogNext {
    /// A line, without its end.
    Line(String),
    /// Nothing for now.
    Quiet,
    /// Nothing any more.
    Ended,
}

/// A log that is being followed.
pub(crate) trait LogSource: Send {
    /// What comes next; waits for it at most `within`. The lines that are there come first, so that the first
    /// [`LogNext::Quiet`] of one that is asked without waiting is their end.
    fn next(&mut self, within: Duration) -> LogNext;
}
