//! Health requests: a version that is not served yet is asked once, by nobody's connection, and its answer's status is
//! told.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tidegate_proto::http1::head;

use super::Local;
use crate::clock::Nanos;
use crate::exchange::{Exchange, Stage};
use crate::guest::outcome::Outcome;
use crate::reactor::token::Slot;
use crate::tenants::probes::{Health, Probe, WALL_MAX};

/// A health request that runs.
#[derive(Debug)]
pub(super) struct Asked {
    task: Slot,
    exchange: Arc<Exchange>,
    tell: Sender<Health>,
}

impl Local {
    /// Begins the health requests that are wanted. What finds no room is wanted again in the next turn.
    pub(crate) fn take_probes(&mut self) {
        for probe in self.shared.probes.take() {
            if probe.asker.strong_count() == 0 {
                continue;
            }
            if !probe.app.seat.gate.enter() {
                self.shared.probes.ask(probe);
                self.retry_places();
                continue;
            }
            match self.probe(&probe) {
                Ok(asked) => self.asked.push(asked),
                Err(Some(reason)) => {
                    let _ = probe.app.seat.gate.leave();
                    let _ = probe.tell.send(Err(reason));
                }
                Err(None) => {
                    let _ = probe.app.seat.gate.leave();
                    self.shared.probes.ask(probe);
                    self.retry_places();
                }
            }
        }
    }

    /// None: there is no room for it now.
    fn probe(&mut self, probe: &Probe) -> Result<Asked, Option<String>> {
        let exchange = self.lend_exchange();
        let text = format!(
            "GET {} HTTP/1.1\r\nhost: localhost\r\nuser-agent: tidegate-health\r\naccept: */*\r\n\r\n",
            probe.target
        );
        let id = self.make_id();
        let wall = probe.app.program.limits.wall.min(WALL_MAX);
        let wall = u64::try_from(wall.as_nanos()).unwrap_or(Nanos::MAX);
        {
            let inner = &mut *exchange.lock();
            if head::parse(text.as_bytes(), &self.shared.settings.http, &mut inner.head).is_err() {
                return Err(Some(format!("`{}` is not the path of a request", probe.target)));
            }
            inner.facts.id = id;
            inner.facts.deadline = self.now.saturating_add(wall);
            inner.begin(false, probe.app.program.limits.watermarks().unwrap_or_default());
            inner.request.pipe.end();
        }
        let task = self.start_probe(&probe.app, &exchange)?;
        Ok(Asked { task, exchange, tell: probe.tell.clone() })
    }

    /// Tells what came of a health request, if that is known.
    pub(super) fn look_at_probes(&mut self, task: Slot, outcome: Option<&Outcome>) {
        let Some(at) = self.asked.iter().position(|asked| asked.task == task) else { return };
        let health = {
            let Some(asked) = self.asked.get(at) else { return };
            let inner = asked.exchange.lock();
            match (inner.response.stage(), outcome) {
                (Stage::Unset, None) => return,
                (Stage::Unset, Some(outcome)) => {
                    Err(outcome.detail().map_or_else(|| outcome.word().to_owned(), str::to_owned))
                }
                _ => Ok(inner.response.head.status()),
            }
        };
        let asked = self.asked.swap_remove(at);
        let _ = asked.tell.send(health);
        if outcome.is_none() {
            // Its body is of no interest.
            self.cancel(task);
        }
    }
}
