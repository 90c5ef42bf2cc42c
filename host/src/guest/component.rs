//! What a component keeps in its Store, and the two resources that its handler is called with.

use std::ops::RangeInclusive;
use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::{Resource, ResourceTable};

use super::crash::Crash;
use super::desk::{Desk, Turn};
use super::engine::Mode;
use super::mounts::OpenFiles;
use super::program::Program;
use super::state::{GuestState, Side};
use crate::config::AppLimits;
use crate::exchange::{Exchange, RequestId};

/// A component may hold one handle for each so many bytes of the memory that it may have: an engine that frees what it no
/// longer uses when it collects garbage, as JavaScript's does, holds many at a time.
const BYTES_PER_HANDLE: u64 = 4096;
/// How few and how many that may be.
const HANDLES: RangeInclusive<usize> = 1_000..=100_000;
/// Entries of the table that a handle may need: a timer has two.
const ENTRIES_PER_HANDLE: usize = 4;

/// Handles that the instances in a Store hold at most.
pub(super) fn handles_max(limits: &AppLimits) -> usize {
    let share = usize::try_from(limits.memory_bytes / BYTES_PER_HANDLE).unwrap_or(usize::MAX);
    share.clamp(*HANDLES.start(), *HANDLES.end())
}

/// Bytes that one host call may take over from the guest.
pub(super) const HOSTCALL_BYTES_MAX: usize = 2 << 20;

/// The Store's data of a component.
pub(crate) type ComponentState = GuestState<ComponentSide>;

/// `wasi:http/types.incoming-request`.
#[derive(Debug)]
pub(crate) struct IncomingRequest {
    pub(crate) turn: Turn,
    /// The body was taken out.
    pub(crate) consumed: bool,
}

/// `wasi:http/types.response-outparam`: the right to answer.
#[derive(Debug)]
pub(crate) struct ResponseOutparam {
    pub(crate) turn: Turn,
}

/// What a component keeps in its Store.
#[derive(Debug)]
pub(crate) struct ComponentSide {
    pub(crate) table: ResourceTable,
    pub(crate) desk: Arc<Desk>,
    pub(crate) open_files: OpenFiles,
    /// The error that the handler answered with, as text for the log.
    pub(crate) reported: Option<String>,
}

impl ComponentSide {
    pub(crate) fn new(program: &Arc<Program>, exchange: &Arc<Exchange>, mode: Mode) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(ENTRIES_PER_HANDLE * handles_max(&program.limits));
        let desk = Desk::new(Arc::clone(program), Arc::clone(exchange), mode);
        Self { table, desk, open_files: OpenFiles::default(), reported: None }
    }

    /// What the handler is called with.
    ///
    /// # Errors
    /// The table is full: a reused component has kept too much.
    pub(super) fn call(&mut self) -> Result<(Resource<IncomingRequest>, Resource<ResponseOutparam>)> {
        let turn = self.desk.turn();
        let request = self.table.push(IncomingRequest { turn, consumed: false })?;
        let answer = self.table.push(ResponseOutparam { turn })?;
        Ok((request, answer))
    }
}

impl Side for ComponentSide {
    fn renew(&mut self, exchange: &Arc<Exchange>) {
        self.desk.renew(exchange);
        self.reported = None;
    }

    fn end(&mut self, _: &Program, id: &RequestId) {
        self.open_files.look();
        self.desk.end(id);
    }

    fn crash(&mut self, error: &wasmtime::Error) -> Option<Box<Crash>> {
        self.desk.crash(error)
    }
}
