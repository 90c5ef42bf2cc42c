//! The server behind the admin side, as it is.

use std::io::Read;
use std::time::Duration;

use serde_json::{Map, Value};

use super::control::{Control, LogNext, LogSource};
use crate::hosting::Operator;
use crate::hosting::types::{
    Actor, AppView, CanaryChange, Deploy, Deployed, Progress, Refusal, RefusalKind, RequestView, VersionView,
};
use crate::observe::app_logs::{LogReader, Logged};

impl Control for Operator {
    fn receive_module(
        &self,
        actor: &Actor,
        read: &mut dyn Read,
        declared: Option<u64>,
    ) -> Result<(String, u64), Refusal> {
        self.receive_module(actor, read, declared)
    }

    fn has_module(&self, actor: &Actor, hash: &str) -> bool {
        self.has_module(actor, hash)
    }

    fn deploy(
        &self,
        actor: &Actor,
        app: &str,
        deploy: Deploy,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Deployed, Refusal> {
        self.deploy(actor, app, deploy, progress)
    }

    fn rollback(&self, actor: &Actor, app: &str, to: Option<u64>) -> Result<Deployed, Refusal> {
        self.rollback(actor, app, to)
    }

    fn remove(&self, actor: &Actor, app: &str) -> Result<(), Refusal> {
        self.remove(actor, app)
    }

    fn canary(&self, actor: &Actor, app: &str, change: CanaryChange) -> Result<Deployed, Refusal> {
        self.canary(actor, app, change)
    }

    fn apps(&self, actor: &Actor) -> Result<Vec<AppView>, Refusal> {
        self.apps(actor)
    }

    fn app(&self, actor: &Actor, app: &str) -> Result<AppView, Refusal> {
        self.app(actor, app)
    }

    fn versions(&self, actor: &Actor, app: &str) -> Result<Vec<VersionView>, Refusal> {
        self.versions(actor, app)
    }

    fn limits(&self, actor: &Actor, app: &str) -> Result<Map<String, Value>, Refusal> {
        self.limits(actor, app)
    }

    fn set_limits(&self, actor: &Actor, app: &str, changes: Map<String, Value>) -> Result<Deployed, Refusal> {
        self.set_limits(actor, app, changes)
    }

    fn requests(&self, actor: &Actor) -> Result<Vec<RequestView>, Refusal> {
        self.requests(actor)
    }

    fn cancel(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        self.cancel(actor, id)
    }

    fn follow_logs(&self, actor: &Actor, app: &str, lines: usize) -> Result<Box<dyn LogSource>, Refusal> {
        Ok(Box::new(self.follow_logs(actor, app, lines)?))
    }

    fn reload(&self, actor: &Actor) -> Result<Vec<Deployed>, Refusal> {
        self.reload(actor)
    }

    fn export(&self, actor: &Actor) -> Result<String, Refusal> {
        self.export(actor)
    }

    fn audit(&self, actor: &Actor, lines: usize) -> Result<Vec<Value>, Refusal> {
        self.audit(actor, lines)
    }

    fn server(&self, actor: &Actor) -> Result<Map<String, Value>, Refusal> {
        match serde_json::to_value(self.server(actor)?) {
            Ok(Value::Object(facts)) => Ok(facts),
            _ => Err(Refusal::new(RefusalKind::Internal, "the facts about the server are no object")),
        }
    }

    fn metrics(&self) -> String {
        self.metrics()
    }

    fn is_ready(&self) -> Result<(), String> {
        self.is_ready()
    }

    fn note_refused(&self, peer: &str, why: &str, times: u64) {
        self.note_refused(peer, why, times);
    }
}

impl LogSource for LogReader {
    fn next(&mut self, within: Duration) -> LogNext {
        match self.next(within) {
            Logged::Line(line) => LogNext::Line(line),
            Logged::Quiet => LogNext::Quiet,
            Logged::Ended => LogNext::Ended,
        }
    }
}
