//! A new version has to answer its health request before it serves.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::operator::Operator;
use super::types::{Refusal, RefusalKind};
use crate::tenants::probes::{Probe, WALL_MAX};
use crate::tenants::registry::App;

/// How long a place for it is waited for, beyond what the app's own clock allows it.
const PATIENCE: Duration = Duration::from_secs(5);

impl Operator {
    /// Asks a version that serves nobody yet.
    ///
    /// # Errors
    /// Its answer is neither 2xx nor 3xx, or there is none in time.
    pub(super) fn try_out(&self, app: &Arc<App>, target: &str) -> Result<(), Refusal> {
        let (tell, told) = mpsc::channel();
        let shared = self.deployer().shared();
        let here = Arc::new(());
        let asker = Arc::downgrade(&here);
        shared.probes.ask(Probe { app: Arc::clone(app), target: target.to_owned(), tell, asker });
        shared.wake_all();
        let failed = |why: String| {
            Refusal::new(RefusalKind::Module, format!("the health request `{target}` {why}"))
                .help("the version that serves goes on; the app's log may say more")
        };
        let wall = app.program.limits.wall.min(WALL_MAX);
        match told.recv_timeout(wall.saturating_add(PATIENCE)) {
            Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
            Ok(Ok(status)) => Err(failed(format!("was answered with {status}"))),
            Ok(Err(reason)) => Err(failed(format!("failed: {reason}"))),
            Err(RecvTimeoutError::Timeout) => Err(failed("was not answered in time".to_owned())),
            Err(RecvTimeoutError::Disconnected) => Err(failed("was given up: the server ends".to_owned())),
        }
    }
}
