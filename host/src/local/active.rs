//! What a connection holds while a request is in progress, and gives back when it is idle.

use std::sync::Arc;

use tidegate_proto::conn::OutBuf;

use crate::clock::Nanos;
use crate::exchange::Exchange;
use crate::reactor::token::Slot;
use crate::tenants::quota::Busy;
use crate::tenants::registry::App;

/// Storage for output that is kept from one request to the next.
const KEEP_OUT_BYTES_MAX: usize = 8 * 1024;

/// Where the request in progress is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Its head has not come, or it was answered without a guest.
    Nothing,
    /// It waits for admission; the ticket tells it from earlier ones of the same connection.
    Waiting(u64),
    /// A guest has it.
    Running(Slot),
    /// Its guest is done.
    Returned,
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct Active {
    exchange: Option<Arc<Exchange>>,
    /// Bytes that were read and not taken yet.
    pub(crate) input: Vec<u8>,
    pub(crate) out: OutBuf,
    pub(crate) app: Option<Arc<App>>,
    pub(crate) progress: Progress,
    /// The connection's place among those that are busy with the app, where that is limited.
    pub(crate) busy: Option<Busy>,
    /// When the head was complete, and how long it then waited for admission.
    pub(crate) arrived: Nanos,
    pub(crate) queued: Nanos,
    /// What the access log says. No outcome so far: all is well.
    pub(crate) status: u16,
    pub(crate) outcome: Option<&'static str>,
    /// Bytes given to the socket, and how many of them the peer had when that was looked at last.
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    /// The body's pipe is full: nothing is read until it drains.
    pub(crate) paused: bool,
    /// The answer is to be cut off once what is queued has left.
    pub(crate) cut: bool,
}

impl Active {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        Self {
            exchange: Some(exchange),
            input: Vec::new(),
            out: OutBuf::default(),
            app: None,
            progress: Progress::Nothing,
            busy: None,
            arrived: 0,
            queued: 0,
            status: 0,
            outcome: None,
            sent: 0,
            acknowledged: 0,
            paused: false,
            cut: false,
        }
    }

    pub(super) fn begin(&mut self, exchange: Arc<Exchange>) {
        self.exchange = Some(exchange);
    }

    /// The exchange of the request in progress. There is one from the first byte on.
    pub(crate) fn exchange(&self) -> Option<&Arc<Exchange>> {
        self.exchange.as_ref()
    }

    /// Another request follows on the same connection; unread input stays.
    pub(crate) fn renew(&mut self, exchange: Option<Arc<Exchange>>) -> Option<Arc<Exchange>> {
        self.app = None;
        self.progress = Progress::Nothing;
        self.busy = None;
        self.arrived = 0;
        self.queued = 0;
        self.status = 0;
        self.outcome = None;
        self.sent = 0;
        self.acknowledged = 0;
        self.paused = false;
        self.cut = false;
        self.out.clear();
        self.out.shrink(KEEP_OUT_BYTES_MAX);
        std::mem::replace(&mut self.exchange, exchange)
    }

    pub(super) fn end(&mut self) -> Option<Arc<Exchange>> {
        self.renew(None)
    }
}
