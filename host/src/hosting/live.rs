//! What goes on: requests, logs, numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hosted::{Hosted, find};
use super::operator::{Operator, operator_only};
use super::types::{Actor, Refusal, RefusalKind, RequestView};
use crate::observe::app_logs::LogReader;
use crate::observe::guest_log::Level;
use crate::observe::metrics::{CanaryFacts, Facts, ServerFacts};
use crate::server::snapshot;
use crate::tenants::commands::Allowed;

/// How long a worker may take to say what it is at.
const PATIENCE: Duration = Duration::from_secs(2);

/// The apps that an actor may know of.
fn whose(actor: &Actor) -> Allowed {
    let tenant = actor.tenant.clone();
    Arc::new(move |app| tenant.is_none() || app.tenant() == tenant.as_deref())
}

impl Operator {
    /// The live requests of the apps that an actor may see, the oldest first.
    ///
    /// # Errors
    /// No worker answers.
    pub(crate) fn requests(&self, actor: &Actor) -> Result<Vec<RequestView>, Refusal> {
        let answers = self.deployer().shared().commands.list(whose(actor), PATIENCE);
        if !answers.silent.is_empty() {
            tracing::warn!(workers = ?answers.silent, "workers did not say in time what they are at");
        }
        Ok(answers.rows)
    }

    /// Ends a request, a raw connection or a resident.
    ///
    /// # Errors
    /// There is none of that id, of an app that the actor may see.
    pub(crate) fn cancel(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        let may = self.0.bounds.check_change(actor, Instant::now());
        let done = may.and_then(|()| self.try_cancel(actor, id));
        self.note_about(actor, "cancel", None, None, Some(id), &done);
        done
    }

    fn try_cancel(&self, actor: &Actor, id: &str) -> Result<(), Refusal> {
        let answers = self.deployer().shared().commands.cancel(id, whose(actor), PATIENCE);
        match (answers.ended, answers.silent.is_empty()) {
            (0, true) => {
                let message = format!("there is no live request `{}`", id.escape_default());
                Err(Refusal::new(RefusalKind::NotFound, message).help("`tidegate ps` lists them"))
            }
            (0, false) => {
                let message = format!("workers did not answer in time: {:?}", answers.silent);
                Err(Refusal::new(RefusalKind::Unavailable, message))
            }
            _ => Ok(()),
        }
    }

    /// An app's log: the last lines, and then what comes.
    ///
    /// # Errors
    /// There is no such app, or no logs are kept.
    pub(crate) fn follow_logs(&self, actor: &Actor, app: &str, lines: usize) -> Result<LogReader, Refusal> {
        find(&self.apps_lock(), actor, app)?;
        let logs = self.deployer().shared().app_logs.as_ref().ok_or_else(|| {
            Refusal::new(RefusalKind::Unavailable, "this server keeps no logs of its apps")
                .help("`app_logs` in `[server]` names a folder for them")
        })?;
        logs.follow(app, lines).map_err(|error| Refusal::new(RefusalKind::Internal, error.to_string()))
    }

    /// Says in an app's own log what has become of it.
    pub(super) fn tell(&self, app: &str, number: u64, text: &str) {
        let registry = self.deployer().shared().current.registry();
        if let Some(log) = registry.named(app).and_then(|app| app.seat.log.as_ref()) {
            log.tell(Level::Info, number, text);
        }
    }

    /// A canary is over that nobody has judged: another version took its place.
    pub(super) fn tell_ended(&self, app: &str, ended: Option<u64>) {
        if let Some(number) = ended {
            self.tell(app, number, &format!("version {number} is a canary no more: another version serves"));
        }
    }

    /// An app is about to be: what one of its name may have left in the log is not its own.
    pub(super) fn begin_logs(&self, app: &str) {
        if let Some(logs) = &self.deployer().shared().app_logs {
            logs.begin(app);
        }
    }

    /// Forgets the log of an app that is gone: its name may be another's.
    pub(super) fn forget_logs(&self, app: &str) {
        if let Some(logs) = &self.deployer().shared().app_logs {
            logs.forget(app);
        }
    }

    /// Forgets what an app that is gone has left behind.
    pub(super) fn forget(&self, app: &str) {
        self.forget_logs(app);
        self.deployer().stock().forget(app);
    }

    /// All numbers, as OpenMetrics text.
    pub(crate) fn metrics(&self) -> String {
        let apps = self.apps_lock();
        let canary = |hosted: &Hosted| {
            let canary = hosted.canary.as_ref()?;
            let (requests, failures) = canary.tally();
            let (app, version) = (hosted.record.name.clone(), canary.app.number);
            Some(CanaryFacts { app, version, requests, failures })
        };
        let canaries = apps.values().filter_map(canary).collect();
        let unserved = apps.values().filter(|hosted| hosted.is_lacking()).count();
        drop(apps);
        snapshot::metrics(
            self.deployer().shared(),
            Facts { ready: self.is_ready().is_ok(), unserved, canaries },
        )
    }

    /// Whether requests that begin now are served.
    ///
    /// # Errors
    /// Why they are not.
    pub(crate) fn is_ready(&self) -> Result<(), String> {
        let health = &self.0.health;
        if health.is_ready() { Ok(()) } else { Err(format!("the server is {}", health.phase().word())) }
    }

    /// Facts about the server.
    ///
    /// # Errors
    /// The actor is a tenant's.
    pub(crate) fn server(&self, actor: &Actor) -> Result<ServerFacts, Refusal> {
        operator_only(actor)?;
        Ok(snapshot::server_facts(self.deployer().shared()))
    }
}
