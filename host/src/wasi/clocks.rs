//! `wasi:clocks`: the server's clocks, and waiting on the worker's timer wheel.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};

use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::{self, Duration, Instant};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::{self, Datetime};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::Wasi;
use crate::clock::Nanos;
use crate::guest::desk::{Desk, Wish};

/// What both clocks tell apart, in nanoseconds.
const RESOLUTION_NS: u32 = 1;

/// A point on the monotonic clock that is waited for. The last one never comes.
#[derive(Debug)]
struct Deadline {
    desk: Arc<Desk>,
    at: Nanos,
}

#[async_trait]
impl Pollable for Deadline {
    async fn ready(&mut self) {
        poll_fn(|_| {
            if self.at <= self.desk.now() {
                return Poll::Ready(());
            }
            if self.at != Nanos::MAX {
                self.desk.wish(Wish::Until(self.at));
            }
            Poll::Pending
        })
        .await;
    }
}

impl Wasi<'_> {
    fn deadline(&mut self, at: Nanos) -> Result<Resource<DynPollable>> {
        self.enter()?;
        let side = &mut self.state.side;
        let deadline = side.table.push(Deadline { desk: Arc::clone(&side.desk), at })?;
        subscribe(&mut side.table, deadline)
    }
}

impl monotonic_clock::Host for Wasi<'_> {
    fn now(&mut self) -> Result<Instant> {
        self.enter()?;
        Ok(self.state.side.desk.now())
    }

    fn resolution(&mut self) -> Result<Duration> {
        self.enter()?;
        Ok(RESOLUTION_NS.into())
    }

    fn subscribe_instant(&mut self, at: Instant) -> Result<Resource<DynPollable>> {
        self.deadline(at)
    }

    fn subscribe_duration(&mut self, duration: Duration) -> Result<Resource<DynPollable>> {
        self.deadline(self.state.side.desk.now().saturating_add(duration))
    }
}

impl wall_clock::Host for Wasi<'_> {
    fn now(&mut self) -> Result<Datetime> {
        self.enter()?;
        // A system clock before 1970 is not one to go by.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> Result<Datetime> {
        self.enter()?;
        Ok(Datetime { seconds: 0, nanoseconds: RESOLUTION_NS })
    }
}
