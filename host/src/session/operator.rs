//! What operators see of a request, and that they can end it.

use std::sync::Arc;

use tidegate_proto::conn::state::Send;

use super::answer::Ending;
use super::{Fate, Session};
use crate::exchange::{Fault, RequestId};
use crate::guest::outcome::CANCELLED;
use crate::local::views::CPU_SHARE;
use crate::local::{Local, Progress};
use crate::observe::guest_log::Level;
use crate::observe::requests::RequestView;
use crate::tenants::registry::App;

const DETAIL: &str = "an operator cancelled the request";

/// It ends although its answer had begun.
const CUT: Ending = Ending { word: CANCELLED.code, level: Level::Info, detail: DETAIL };

impl Session {
    /// A row for the request in progress, if it is an app's.
    pub(crate) fn view(&self, local: &mut Local) -> Option<RequestView> {
        let active = self.active.as_ref().filter(|active| active.arrived != 0)?;
        let (app, exchange) = (active.app.as_ref()?, active.exchange()?);
        let waits_for = match active.progress {
            Progress::Waiting(_) if app.program.code().is_none() => "load".to_owned(),
            Progress::Waiting(_) if app.seat.quota.throttled_until(local.now).is_some() => {
                CPU_SHARE.to_owned()
            }
            Progress::Waiting(_) => "admission".to_owned(),
            Progress::Running(task) => local.task_waits_for(task)?,
            // What is left is the client's to take.
            Progress::Returned | Progress::Nothing => "response".to_owned(),
        };
        Some(local.view(app, exchange, "request", active.arrived, waits_for))
    }

    /// Whether the request in progress is one that `which` says yes to, asked with its app and its id.
    pub(crate) fn is_about(&self, which: impl FnOnce(&App, &RequestId) -> bool) -> bool {
        let Some(active) = self.active.as_ref().filter(|active| active.arrived != 0) else { return false };
        let (Some(app), Some(exchange)) = (&active.app, active.exchange()) else { return false };
        which(app, &exchange.lock().facts.id)
    }

    /// An operator ends the request: its client is told so if nothing of an answer has left, else its connection is cut.
    pub(crate) fn cancel(&mut self, local: &mut Local) -> Fate {
        self.stop_guest(local);
        let exchange = self.active.as_ref().and_then(|active| active.exchange()).map(Arc::clone);
        let Some(exchange) = exchange.filter(|_| self.conn.send() == Send::Await) else {
            self.cut_short(&CUT);
            self.transport.abort();
            return Fate::Close;
        };
        let mut inner = exchange.lock();
        inner.fail(Fault::Gone);
        if self.conn.answer() {
            self.queue_problem(local, &inner, CANCELLED, CANCELLED.title, None);
        }
        self.end_badly(Level::Info, &inner, CANCELLED.code, DETAIL);
        drop(inner);
        self.drive(local)
    }
}
